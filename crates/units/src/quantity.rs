use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Amount, ResourceName};

/// An exact Kubernetes quantity: `100m`, `1.5Gi`, `2e3`, `-5`.
///
/// Holds billionths in an `i128`, so every quantity Kubernetes can hold is exact. As in Kubernetes, what is finer than a
/// billionth rounds away from zero and what is larger than 2^63-1 is held there. The family of the suffix (decimal,
/// binary, exponent) is kept for writing; it takes no part in comparing.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    family: Family,
}

/// Which suffixes a quantity is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// `n u m k M G T P E`
    Decimal,
    /// `Ki Mi Gi Ti Pi Ei`
    Binary,
    /// `e3`
    Exponent,
}

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Nothing there.
    #[error("a quantity must not be empty")]
    Empty,
    /// A blank inside or around the number.
    #[error("quantity {text:?} has a space: write {} instead", .text.split_whitespace().collect::<String>())]
    Space {
        /// What was written.
        text: String,
    },
    /// The part before the suffix is no number.
    #[error("quantity {text:?} does not begin with a number")]
    Number {
        /// What was written.
        text: String,
    },
    /// More points than one.
    #[error("quantity {text:?} has more than one point")]
    Points {
        /// What was written.
        text: String,
    },
    /// The part after the number is no suffix.
    #[error("quantity {text:?} has the unknown suffix {suffix:?}{}", hint(.suffix))]
    Suffix {
        /// What was written.
        text: String,
        /// The part after the number.
        suffix: String,
    },
    /// Valid, but more than the asked unit can count.
    #[error("quantity {text} is out of range for {unit}")]
    OutOfRange {
        /// The quantity in its canonical form.
        text: String,
        /// What it was to be counted in.
        unit: String,
    },
}

const NANOS: i128 = 1_000_000_000;
const NANOS_PER_MILLI: i128 = 1_000_000;
/// The largest magnitude, as in Kubernetes.
const LARGEST: i128 = i64::MAX as i128 * NANOS;

impl Quantity {
    /// So many whole units.
    pub fn from_units(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANOS, family: Family::Decimal }
    }

    /// So many bytes, written with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Self {
        Self { nanos: i128::from(bytes) * NANOS, family: Family::Binary }
    }

    /// So many thousandths.
    pub fn from_milli(milli: i64) -> Self {
        Self { nanos: i128::from(milli) * NANOS_PER_MILLI, family: Family::Decimal }
    }

    /// The amount of a resource in the unit it is counted in, as people write it: `1500m` of cpu, `2Gi` of memory, and `10G` where
    /// that is much shorter than what has binary suffixes.
    pub fn of(name: &ResourceName, amount: Amount) -> Self {
        if name.is_cpu() {
            return Self::from_milli(amount.0);
        }
        let (decimal, binary) = (Self::from_units(amount.0), Self::from_bytes(amount.0));
        let is_shorter = || decimal.to_string().len() + 1 < binary.to_string().len();
        if !name.is_bytes() || is_shorter() { decimal } else { binary }
    }

    /// The same rounded up to two to five digits, for what is told in passing: `948Gi` instead of `969932Mi`.
    pub fn about(name: &ResourceName, amount: Amount) -> Self {
        let (step, mut unit) = if name.is_bytes() { (1024, 1) } else { (1000, 1) };
        while amount.0 / unit >= 10 * step {
            unit *= step;
        }
        let whole = amount.0 / unit + i64::from(amount.0 % unit > 0);
        Self::of(name, Amount(whole.saturating_mul(unit)))
    }

    /// The amount of this resource, rounded up: for what is asked.
    pub fn to_amount_ceil(&self, name: &ResourceName) -> Result<Amount, QuantityError> {
        self.count(name.nanos_per_unit(), Rounding::Up, name.as_str()).map(Amount)
    }

    /// The amount of this resource, rounded down: for what is there.
    pub fn to_amount_floor(&self, name: &ResourceName) -> Result<Amount, QuantityError> {
        self.count(name.nanos_per_unit(), Rounding::Down, name.as_str()).map(Amount)
    }

    /// Thousandths, rounded up.
    pub fn to_milli_ceil(&self) -> Result<i64, QuantityError> {
        self.count(NANOS_PER_MILLI, Rounding::Up, "thousandths")
    }

    /// Whole units, rounded up.
    pub fn to_units_ceil(&self) -> Result<i64, QuantityError> {
        self.count(NANOS, Rounding::Up, "whole units")
    }

    /// Whether it is less than nothing.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Thousandths, rounded away from zero.
    pub(crate) fn to_milli_away(self) -> Option<i64> {
        let rounding = if self.nanos < 0 { Rounding::Down } else { Rounding::Up };
        self.count(NANOS_PER_MILLI, rounding, "").ok()
    }

    fn count(&self, unit: i128, rounding: Rounding, name: &str) -> Result<i64, QuantityError> {
        let floor = self.nanos.div_euclid(unit);
        let whole = match rounding {
            Rounding::Up if self.nanos.rem_euclid(unit) != 0 => floor + 1,
            Rounding::Up | Rounding::Down => floor,
        };
        i64::try_from(whole).map_err(|_| QuantityError::OutOfRange { text: self.to_string(), unit: name.to_owned() })
    }
}

#[derive(Clone, Copy)]
enum Rounding {
    Up,
    Down,
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl std::hash::Hash for Quantity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Err(QuantityError::Empty);
        }
        if text.contains(char::is_whitespace) {
            return Err(QuantityError::Space { text: text.to_owned() });
        }
        let no_number = || QuantityError::Number { text: text.to_owned() };
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 {
            return Err(no_number());
        }
        if fraction.contains('.') {
            return Err(QuantityError::Points { text: text.to_owned() });
        }
        let (family, scale) = parse_suffix(suffix)
            .ok_or_else(|| QuantityError::Suffix { text: text.to_owned(), suffix: suffix.to_owned() })?;

        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
        let mut ten_power = 9 - i64::try_from(fraction.len()).map_err(|_| no_number())?;
        match scale {
            Scale::Ten(power) => ten_power = ten_power.saturating_add(power),
            Scale::Two(power) => multiply(&mut digits, 1 << power),
        }
        let magnitude = scaled(&digits, ten_power);
        Ok(Self { nanos: if text.starts_with('-') { -magnitude } else { magnitude }, family })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Ten(i64),
    Two(u32),
}

const DECIMAL: [(&str, i64); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

fn parse_suffix(suffix: &str) -> Option<(Family, Scale)> {
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((Family::Decimal, Scale::Ten(*power)));
    }
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((Family::Binary, Scale::Two(*power)));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // An exponent that does not fit is as good as an endless one.
    let power = exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
    Some((Family::Exponent, Scale::Ten(power)))
}

/// Multiplies a number given by its decimal digits, most significant first.
fn multiply(digits: &mut Vec<u8>, factor: u128) {
    let mut carry = 0u128;
    for digit in digits.iter_mut().rev() {
        carry += u128::from(*digit) * factor;
        *digit = last_digit(carry);
        carry /= 10;
    }
    let mut front = Vec::new();
    while carry > 0 {
        front.push(last_digit(carry));
        carry /= 10;
    }
    front.reverse();
    digits.splice(0..0, front);
}

fn last_digit(number: u128) -> u8 {
    u8::try_from(number % 10).expect("a remainder of ten is below ten")
}

/// `digits × 10^power`, rounded up to a whole number and held at [`LARGEST`].
fn scaled(digits: &[u8], power: i64) -> i128 {
    let significant = &digits[digits.iter().position(|d| *d != 0).unwrap_or(digits.len())..];
    if significant.is_empty() {
        return 0;
    }
    let length = i64::try_from(significant.len()).unwrap_or(i64::MAX);
    let whole_digits = length.saturating_add(power);
    // 2^63-1 whole units are 28 digits of billionths.
    if whole_digits > 28 {
        return LARGEST;
    }
    let kept = usize::try_from(whole_digits.clamp(0, length)).expect("between zero and a length");
    let mut value = significant[..kept].iter().fold(0i128, |sum, digit| sum * 10 + i128::from(*digit));
    for _ in length..whole_digits {
        value *= 10;
    }
    if significant[kept..].iter().any(|d| *d != 0) {
        value += 1;
    }
    value.min(LARGEST)
}

fn hint(suffix: &str) -> &'static str {
    match suffix {
        "K" => " (thousands are a small k, 1024 is Ki)",
        "KB" | "kB" | "kb" => " (write k or Ki)",
        "MB" | "mb" | "Mb" => " (write M or Mi)",
        "GB" | "gb" | "Gb" => " (write G or Gi)",
        "TB" | "tb" | "Tb" => " (write T or Ti)",
        "ki" | "KiB" => " (write Ki)",
        "mi" | "MI" | "MiB" => " (write Mi)",
        "g" | "gi" | "GI" | "GiB" => " (write Gi)",
        _ => "",
    }
}

/// The canonical form: no fraction, the largest suffix of its family that leaves a whole number.
///
/// Binary quantities below 1024 and those with a fraction are written decimally, as Kubernetes writes them.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos / NANOS;
        let binary = self.family == Family::Binary && self.nanos % NANOS == 0 && whole.abs() >= 1024;
        if binary {
            let (mut mantissa, mut suffix) = (whole, "");
            for (name, _) in BINARY {
                if mantissa % 1024 != 0 {
                    break;
                }
                (mantissa, suffix) = (mantissa / 1024, name);
            }
            return write!(f, "{mantissa}{suffix}");
        }
        let (mut mantissa, mut power) = (self.nanos, -9i64);
        while mantissa % 1000 == 0 && power < 18 {
            (mantissa, power) = (mantissa / 1000, power + 3);
        }
        match self.family {
            Family::Exponent if power != 0 => write!(f, "{mantissa}e{power}"),
            _ => {
                let (suffix, _) =
                    DECIMAL.iter().find(|(_, p)| *p == power).expect("every third power from -9 to 18 has a suffix");
                write!(f, "{mantissa}{suffix}")
            }
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Strings, and as Kubernetes allows, bare numbers; blanks around a string are forgiven as Kubernetes does.
impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 500m or 2Gi")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.trim().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity::from_units(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests;
