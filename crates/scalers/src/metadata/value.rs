//! Texts become values.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use units::{Milli, Quantity};

use super::nearest::hint;
use super::{Choice, Kind, Parameter};
use crate::error::BuildError;

/// A type a parameter may have.
pub(crate) trait FromParameter: Sized {
    /// What its texts look like.
    const KIND: Kind;
    /// Whether the parameter may be left out.
    const MAY_BE_ABSENT: bool = false;
    /// Whether the text must not be repeated in messages.
    const SECRET: bool = false;

    /// Reads a text that is trimmed and not empty. The error says what is wrong without naming the parameter.
    fn from_text(text: &str, parameter: &Parameter) -> Result<Self, String>;

    /// The value when nothing was written.
    fn absent() -> Option<Self> {
        None
    }
}

/// The variant of a word.
pub(crate) fn choose<T: Choice>(word: &str) -> Result<T, String> {
    T::pick(word).ok_or_else(|| {
        format!("{word:?} is not one of {}{}", T::WORDS.join(", "), hint(word, T::WORDS.iter().copied()))
    })
}

impl FromParameter for String {
    const KIND: Kind = Kind::Text;

    fn from_text(text: &str, _: &Parameter) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

/// A password or the like: `Debug` does not show it, messages do not repeat it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl FromParameter for Secret {
    const KIND: Kind = Kind::Text;
    const SECRET: bool = true;

    fn from_text(text: &str, _: &Parameter) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
}

impl FromParameter for bool {
    const KIND: Kind = Kind::Boolean;

    fn from_text(text: &str, _: &Parameter) -> Result<Self, String> {
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            other => Err(format!("{other:?} is not true or false")),
        }
    }
}

impl FromParameter for i64 {
    const KIND: Kind = Kind::Whole;

    fn from_text(text: &str, parameter: &Parameter) -> Result<Self, String> {
        let whole: Self = text.parse().map_err(|_| format!("{text:?} is not a whole number"))?;
        limits(whole, parameter)
    }
}

/// A number both exactly and as it is compared with a source's floating point number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number {
    pub(crate) milli: Milli,
    pub(crate) float: f64,
}

impl FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let milli: Milli = text.parse().map_err(|e| format!("{e}"))?;
        // Quantities such as "500m" are not floats; their thousandths are exact enough.
        let float = text.parse::<f64>().unwrap_or_else(|_| milli.to_f64());
        Ok(Self { milli, float })
    }
}

impl Number {
    /// 0.
    pub(crate) const ZERO: Self = Self { milli: Milli::ZERO, float: 0.0 };
}

impl From<Milli> for Number {
    fn from(milli: Milli) -> Self {
        Self { milli, float: milli.to_f64() }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.float.partial_cmp(&other.float)
    }
}

impl FromParameter for Number {
    const KIND: Kind = Kind::Number;

    fn from_text(text: &str, parameter: &Parameter) -> Result<Self, String> {
        let number = limits(text.parse()?, parameter)?;
        match fineness(text, parameter) {
            Some(Fineness::TooSmall) => Err("must be at least 0.001; an HPA reckons in thousandths".into()),
            _ => Ok(number),
        }
    }
}

/// How an amount that is for the HPA misses the thousandths that it reckons in.
enum Fineness {
    TooSmall,
    Rounded(Milli),
}

/// A number that has to be above something is what one replica should have; others are never told to an HPA.
fn fineness(text: &str, parameter: &Parameter) -> Option<Fineness> {
    if parameter.kind != Kind::Number || parameter.above.is_none() {
        return None;
    }
    let (exact, milli): (Quantity, Milli) = (text.parse().ok()?, text.parse().ok()?);
    if exact < Quantity::from_milli(1) {
        return Some(Fineness::TooSmall);
    }
    (exact != Quantity::from_milli(milli.thousandths())).then_some(Fineness::Rounded(milli))
}

/// What the owner of an amount should know that is taken for another one.
pub(super) fn rounding(text: &str, parameter: &Parameter) -> Option<String> {
    match fineness(text, parameter)? {
        Fineness::TooSmall => None,
        Fineness::Rounded(milli) => Some(format!("is taken for {milli}; an HPA reckons in thousandths")),
    }
}

/// The value, if it is within the parameter's limits.
fn limits<T: PartialOrd + FromStr>(value: T, parameter: &Parameter) -> Result<T, String> {
    let limit = |text: Option<&'static str>| text.and_then(|text| text.parse::<T>().ok());
    if limit(parameter.above).is_some_and(|limit| value <= limit) {
        return Err(format!("must be above {}", parameter.above.unwrap_or_default()));
    }
    if limit(parameter.at_least).is_some_and(|limit| value < limit) {
        return Err(format!("must be at least {}", parameter.at_least.unwrap_or_default()));
    }
    if limit(parameter.at_most).is_some_and(|limit| value > limit) {
        return Err(format!("must be at most {}", parameter.at_most.unwrap_or_default()));
    }
    Ok(value)
}

/// How long a source may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeout(pub(crate) Duration);

impl FromParameter for Timeout {
    const KIND: Kind = Kind::Duration;

    fn from_text(text: &str, _: &Parameter) -> Result<Self, String> {
        let duration = crate::duration::timeout(text);
        duration.map(Self).ok_or_else(|| format!("{text:?} is not a duration such as 500ms or 10s, or milliseconds"))
    }
}

impl FromParameter for Url {
    const KIND: Kind = Kind::Url;
    // It may hold a password.
    const SECRET: bool = true;

    fn from_text(text: &str, _: &Parameter) -> Result<Self, String> {
        let url = Self::parse(text).map_err(|e| format!("is not a URL: {e}"))?;
        if matches!(url.scheme(), "http" | "https") && url.has_host() {
            Ok(url)
        } else {
            Err("must begin with http:// or https://".into())
        }
    }
}

impl<T: FromParameter> FromParameter for Option<T> {
    const KIND: Kind = T::KIND;
    const MAY_BE_ABSENT: bool = true;
    const SECRET: bool = T::SECRET;

    fn from_text(text: &str, parameter: &Parameter) -> Result<Self, String> {
        T::from_text(text, parameter).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Element> FromParameter for Vec<T> {
    const KIND: Kind = Kind::List(&T::KIND);
    const MAY_BE_ABSENT: bool = true;
    const SECRET: bool = T::SECRET;

    fn from_text(text: &str, parameter: &Parameter) -> Result<Self, String> {
        let parts = || text.split(parameter.separator).map(str::trim).filter(|part| !part.is_empty());
        let rivals: Vec<&str> = parts().filter(|part| parameter.at_most_one.contains(part)).collect();
        if rivals.len() > 1 {
            return Err(format!("{} exclude each other", rivals.join(" and ")));
        }
        let mut list = Self::new();
        for part in parts() {
            T::push(part, parameter, &mut list)?;
        }
        if list.is_empty() { Err("holds nothing between its separators".into()) } else { Ok(list) }
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

/// A type a list may be of.
pub(crate) trait Element: FromParameter {
    /// Adds what one part of the list stands for.
    fn push(part: &str, parameter: &Parameter, list: &mut Vec<Self>) -> Result<(), String> {
        list.push(Self::from_text(part, parameter)?);
        Ok(())
    }
}

impl Element for String {}
impl<T: Choice + FromParameter> Element for T {}

/// Most numbers a list with ranges may stand for. No topic has more partitions.
const LONGEST_LIST: usize = 100_000;

impl Element for i64 {
    fn push(part: &str, parameter: &Parameter, list: &mut Vec<Self>) -> Result<(), String> {
        let whole = |text: &str| Self::from_text(text.trim(), parameter);
        // A leading minus is a sign, not a range.
        match part.get(1..).and_then(|rest| rest.find('-')).filter(|_| parameter.ranges) {
            None => list.push(whole(part)?),
            Some(at) => {
                let (first, last) = (whole(&part[..=at])?, whole(&part[at + 2..])?);
                if first > last {
                    return Err(format!("{part:?} is a range that ends before it begins"));
                }
                list.extend((first..=last).take(LONGEST_LIST));
            }
        }
        if list.len() >= LONGEST_LIST { Err(format!("stands for {LONGEST_LIST} numbers or more")) } else { Ok(()) }
    }
}

/// `name=value,name=value`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Pairs(pub(crate) Vec<(String, String)>);

impl Pairs {
    /// The pairs as headers of a request.
    ///
    /// # Errors
    /// A name or a value cannot be sent; `field` is the name of the parameter.
    pub(crate) fn headers(&self, field: &str) -> Result<HeaderMap, BuildError> {
        let wrong = |what: String| BuildError::new(field, what);
        let mut headers = HeaderMap::new();
        for (name, value) in &self.0 {
            let header: HeaderName =
                name.parse().map_err(|_| wrong(format!("{name:?} is not the name of a header")))?;
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| wrong(format!("the value of {name:?} cannot be sent in a header")))?;
            value.set_sensitive(true);
            headers.append(header, value);
        }
        Ok(headers)
    }
}

impl FromParameter for Pairs {
    const KIND: Kind = Kind::Pairs;
    const MAY_BE_ABSENT: bool = true;
    // Headers are credentials as often as not.
    const SECRET: bool = true;

    fn from_text(text: &str, parameter: &Parameter) -> Result<Self, String> {
        let pair = |part: &str| match part.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
            _ => Err("is not a list of NAME=VALUE".to_owned()),
        };
        text.split(parameter.separator)
            .filter(|part| !part.trim().is_empty())
            .map(pair)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

/// `name=value&name=value`, encoded as in a URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct QueryPairs(pub(crate) Vec<(String, String)>);

impl FromParameter for QueryPairs {
    const KIND: Kind = Kind::QueryPairs;
    const MAY_BE_ABSENT: bool = true;
    const SECRET: bool = true;

    fn from_text(text: &str, _: &Parameter) -> Result<Self, String> {
        // Any URL will do to read a query string with.
        let mut url = Url::parse("http://x").map_err(|e| e.to_string())?;
        url.set_query(Some(text));
        Ok(Self(url.query_pairs().into_owned().collect()))
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}
