//! What a part of a formula may be worth, and the arithmetic of Go.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::tree::{Binary, Comparison};

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    List(Arc<Held<Vec<Value>>>),
    Map(Arc<Held<BTreeMap<Arc<str>, Value>>>),
}

/// Values in a list or a map.
#[derive(Debug)]
pub(super) struct Held<T> {
    values: T,
    /// How many lists and maps are inside each other, this one included.
    depth: usize,
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.values
    }
}

impl Value {
    /// The name of its type in expr-lang.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "string",
            Self::List(_) => "array",
            Self::Map(_) => "map",
        }
    }

    pub(super) fn list(values: Vec<Self>) -> Self {
        let depth = 1 + values.iter().map(Self::depth).max().unwrap_or_default();
        Self::List(Arc::new(Held { values, depth }))
    }

    pub(super) fn map(values: BTreeMap<Arc<str>, Self>) -> Self {
        let depth = 1 + values.values().map(Self::depth).max().unwrap_or_default();
        Self::Map(Arc::new(Held { values, depth }))
    }

    /// How many lists and maps are inside each other.
    pub(super) fn depth(&self) -> usize {
        match self {
            Self::List(held) => held.depth,
            Self::Map(held) => held.depth,
            _ => 0,
        }
    }

    /// The number it is, in floating point.
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "as in Go")]
            Self::Int(whole) => Some(*whole as f64),
            Self::Float(float) => Some(*float),
            _ => None,
        }
    }

    /// The whole number it is or, cut towards zero, comes near to.
    pub(super) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(whole) => Some(*whole),
            #[expect(clippy::cast_possible_truncation, reason = "the range was looked at")]
            Self::Float(float) if float.abs() < 9.2e18 => Some(*float as i64),
            _ => None,
        }
    }

    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nil, Self::Nil) => true,
            (Self::Bool(one), Self::Bool(two)) => one == two,
            (Self::Int(one), Self::Int(two)) => one == two,
            (Self::Text(one), Self::Text(two)) => one == two,
            (Self::List(one), Self::List(two)) => {
                one.len() == two.len() && one.iter().zip(two.iter()).all(|(one, two)| one.equals(two))
            }
            (Self::Map(one), Self::Map(two)) => {
                one.len() == two.len()
                    && one.iter().all(|(key, value)| two.get(key).is_some_and(|other| value.equals(other)))
            }
            #[expect(clippy::float_cmp, reason = "as in Go")]
            (one, two) => match (one.as_float(), two.as_float()) {
                (Some(one), Some(two)) => one == two,
                _ => false,
            },
        }
    }

    /// Which of two numbers or texts is less; `None` of an undefined number.
    pub(super) fn order(&self, other: &Self) -> Result<Option<Ordering>, String> {
        match (self, other) {
            (Self::Int(one), Self::Int(two)) => Ok(Some(one.cmp(two))),
            (Self::Text(one), Self::Text(two)) => Ok(Some(one.cmp(two))),
            (one, two) => match (one.as_float(), two.as_float()) {
                (Some(one), Some(two)) => Ok(one.partial_cmp(&two)),
                _ => Err(format!("{} and {} cannot be compared", one.type_name(), two.type_name())),
            },
        }
    }

    pub(super) fn compare(&self, order: Comparison, other: &Self) -> Result<bool, String> {
        let found = self.order(other)?;
        Ok(match order {
            Comparison::Less => found == Some(Ordering::Less),
            Comparison::More => found == Some(Ordering::Greater),
            Comparison::LessOrEqual => matches!(found, Some(Ordering::Less | Ordering::Equal)),
            Comparison::MoreOrEqual => matches!(found, Some(Ordering::Greater | Ordering::Equal)),
        })
    }

    /// Arithmetic: whole numbers stay whole but for `/` and `**`, and wrap around.
    pub(super) fn calculate(&self, operator: Binary, other: &Self) -> Result<Self, String> {
        let wrong =
            || Err(format!("invalid operation: {} {} {}", self.type_name(), operator.symbol(), other.type_name()));
        if let (Binary::Add, Self::Text(one), Self::Text(two)) = (operator, self, other) {
            return Ok(Self::Text(format!("{one}{two}").into()));
        }
        if let (Self::Int(one), Self::Int(two)) = (self, other) {
            let whole = match operator {
                Binary::Add => Some(one.wrapping_add(*two)),
                Binary::Subtract => Some(one.wrapping_sub(*two)),
                Binary::Multiply => Some(one.wrapping_mul(*two)),
                Binary::Modulo if *two == 0 => return Err("integer divide by zero".to_owned()),
                Binary::Modulo => Some(one.wrapping_rem(*two)),
                _ => None,
            };
            if let Some(whole) = whole {
                return Ok(Self::Int(whole));
            }
        }
        let (Some(one), Some(two)) = (self.as_float(), other.as_float()) else { return wrong() };
        Ok(Self::Float(match operator {
            Binary::Add => one + two,
            Binary::Subtract => one - two,
            Binary::Multiply => one * two,
            Binary::Divide => one / two,
            Binary::Power => one.powf(two),
            _ => return wrong(),
        }))
    }

    pub(super) fn negative(&self) -> Result<Self, String> {
        match self {
            Self::Int(whole) => Ok(Self::Int(whole.wrapping_neg())),
            Self::Float(float) => Ok(Self::Float(-float)),
            other => Err(format!("invalid operation: - {}", other.type_name())),
        }
    }

    /// Whether a list has it among its elements, or a map among its keys.
    pub(super) fn is_in(&self, collection: &Self) -> Result<bool, String> {
        match collection {
            Self::Nil => Ok(false),
            Self::List(values) => Ok(values.iter().any(|value| value.equals(self))),
            Self::Map(values) => match self {
                Self::Text(key) => Ok(values.contains_key(key)),
                other => Err(format!("a map has no key of type {}", other.type_name())),
            },
            other => Err(format!("operator \"in\" not defined on {}", other.type_name())),
        }
    }

    /// The element at a place (from the end if it is negative) or of a key; a map has nil for keys that it lacks.
    pub(super) fn fetch(&self, key: &Self) -> Result<Self, String> {
        match (self, key) {
            (Self::List(values), key) => {
                let index = key.as_int().ok_or_else(|| format!("{} is no place in a list", key.type_name()))?;
                place(index, values.len())
                    .and_then(|place| values.get(place).cloned())
                    .ok_or_else(|| format!("index out of range: {index} (array length is {})", values.len()))
            }
            (Self::Map(values), Self::Text(key)) => Ok(values.get(key).cloned().unwrap_or(Self::Nil)),
            (of, key) => Err(format!("cannot fetch {key} from {}", of.type_name())),
        }
    }

    /// The elements between two places, as far as there are any.
    pub(super) fn slice(&self, from: Option<i64>, to: Option<i64>) -> Result<Self, String> {
        let Self::List(values) = self else { return Err(format!("cannot slice {}", self.type_name())) };
        let length = values.len();
        let within = |index: i64| match usize::try_from(index) {
            Ok(index) => index.min(length),
            Err(_) => place(index, length).unwrap_or_default(),
        };
        let to = to.map_or(length, within);
        let from = from.map_or(0, within).min(to);
        Ok(Self::list(values[from..to].to_vec()))
    }
}

/// A place in a list, counted from its end if it is negative.
pub(super) fn place(index: i64, length: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => (index < length).then_some(index),
        Err(_) => length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

/// As expr-lang's `string` writes it, but for numbers of more than twenty digits.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("<nil>"),
            Self::Bool(value) => value.fmt(f),
            Self::Int(whole) => whole.fmt(f),
            Self::Float(float) => float.fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::List(values) => {
                f.write_str("[")?;
                for (index, value) in values.iter().enumerate() {
                    let space = if index > 0 { " " } else { "" };
                    write!(f, "{space}{value}")?;
                }
                f.write_str("]")
            }
            Self::Map(values) => {
                f.write_str("map[")?;
                for (index, (key, value)) in values.iter().enumerate() {
                    let space = if index > 0 { " " } else { "" };
                    write!(f, "{space}{key}:{value}")?;
                }
                f.write_str("]")
            }
        }
    }
}
