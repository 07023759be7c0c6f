//! A formula over the values of triggers, in the language of KEDA's `scalingModifiers.formula`: expr-lang 1.17.
//!
//! It is read and worked out here, because each rule counts: `??` binds tighter than anything else and does not mix with
//! other operators, names may begin like words of the language, and what does not fit together is refused beforehand.
//! `formula/expr-lang.tsv` holds what expr-lang itself makes of some hundred formulas; `tests/expr-lang` asked it.
//!
//! Anybody who may write a ScaledObject may write one, so what it can cost is bounded: its length, how deep it nests, and
//! how many steps it takes. What a name may stand for is known beforehand, and a name that no trigger has is refused, also
//! in a branch that is never taken.

mod functions;
mod operators;
mod parse;
mod run;
mod token;
mod tree;
mod types;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use thiserror::Error;
use units::Milli;

use run::Stop;
use tree::Node;
use types::{Mismatch, Type};
use value::Value;

/// Longest formula, in bytes. Those that people show each other have one or two hundred.
pub const LENGTH_MAX: usize = 4096;
/// How many parts may be inside each other: brackets, and operators in a row. Bounds the stack.
pub const DEPTH_MAX: usize = 128;
/// Steps that a formula may take: each part that is worked out is one, and each element of each list.
pub const STEPS_MAX: u64 = 50_000;

/// A formula that was understood.
#[derive(Clone)]
pub struct Formula {
    text: String,
    root: Node,
    names: BTreeSet<String>,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    what: String,
    byte: usize,
}

impl fmt::Debug for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Formula").field(&self.text).finish()
    }
}

impl PartialEq for Formula {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Why a formula cannot be used, or gives no number.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FormulaError {
    /// It names something that is no trigger with a name.
    #[error("unknown name {name} {at}")]
    UnknownName {
        /// The name.
        name: String,
        /// Where it stands.
        at: Place,
    },
    /// It is not written in the language, or in a part of it that formulas cannot have, or does not fit together.
    #[error("{what} {at}")]
    Wrong {
        /// What is wrong: mostly in the words of expr-lang.
        what: String,
        /// Where.
        at: Place,
    },
    /// It would cost too much.
    #[error("{0}")]
    TooLarge(String),
    /// It gives something that is no number.
    #[error("the formula gives {0}, which is not a number")]
    NotANumber(String),
    /// It could not be worked out.
    #[error("{0}")]
    Failed(String),
}

/// A place in a formula, which shows it when it is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    line: usize,
    column: usize,
    text: String,
}

/// `(1:5)`, the line of the formula, and an arrow below it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dots = ".".repeat(self.column.saturating_sub(1));
        write!(f, "({}:{})\n | {}\n | {dots}^", self.line, self.column, self.text)
    }
}

impl Place {
    /// The place of a byte.
    fn of(text: &str, byte: usize) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self::at(text, line, column)
    }

    fn at(text: &str, line: usize, column: usize) -> Self {
        Self { line, column, text: text.lines().nth(line.saturating_sub(1)).unwrap_or_default().to_owned() }
    }
}

impl Formula {
    /// Reads a formula in which these names may stand for numbers.
    ///
    /// # Errors
    /// All of [`FormulaError`]: whether it gives a number is tried with numbers of both signs. One that fails with all of
    /// them is refused.
    pub fn read(text: &str, known: &BTreeSet<&str>) -> Result<Self, FormulaError> {
        if text.len() > LENGTH_MAX {
            return Err(FormulaError::TooLarge(format!("the formula is longer than {LENGTH_MAX} bytes")));
        }
        let wrong = |Fault { what, byte }| FormulaError::Wrong { what, at: Place::of(text, byte) };
        let root = parse::parse(text).map_err(wrong)?;
        let (found, names) = types::check(&root, known).map_err(|mismatch| match mismatch {
            Mismatch::UnknownName { name, byte } => FormulaError::UnknownName { name, at: Place::of(text, byte) },
            Mismatch::Fault(fault) => wrong(fault),
        })?;
        match found {
            Type::Bool => return Err(FormulaError::NotANumber(TRUTH.to_owned())),
            Type::List(_) | Type::Map => return Err(FormulaError::NotANumber(LIST.to_owned())),
            Type::Nil => return Err(FormulaError::NotANumber(NIL.to_owned())),
            Type::Any | Type::Int | Type::Float | Type::Text => {}
        }
        let formula = Self { text: text.to_owned(), root, names };
        formula.gives_numbers()?;
        Ok(formula)
    }

    /// The names it depends on.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The result for these values, towards zero to a thousandth; `None` stands for nil, on both sides.
    ///
    /// # Errors
    /// It gives no number, or one that is not finite: nothing is known then.
    pub fn evaluate(&self, values: &BTreeMap<&str, Option<Milli>>) -> Result<Option<Milli>, FormulaError> {
        self.run(values.iter().map(|(name, value)| (*name, value.map_or(Value::Nil, |v| Value::Float(v.to_f64())))))
    }

    fn run<'a>(&self, values: impl Iterator<Item = (&'a str, Value)>) -> Result<Option<Milli>, FormulaError> {
        let values = values.collect();
        let value = run::run(&self.root, &values).map_err(|stop| match stop {
            Stop::TooLong => FormulaError::TooLarge(format!("the formula takes more than {STEPS_MAX} steps")),
            Stop::Failed(why) => FormulaError::Failed(format!("the formula could not be worked out: {why}")),
            Stop::Chain => FormulaError::Failed("the formula could not be worked out".to_owned()),
        })?;
        number(&value)
    }

    /// Whether there is a number for at least one of some simple inputs, and never a value of another type.
    fn gives_numbers(&self) -> Result<(), FormulaError> {
        // All alike, and each its own: there may be numbers only for inputs that differ.
        let alike = [-1.0, 1.0, 10.0, 0.0].map(|input| vec![input; self.names.len()]);
        let different = [(3.0, 7.0), (9.0, -1.0)].map(|(first, step)| {
            (0_u32..).take(self.names.len()).map(|index| first + step * f64::from(index)).collect()
        });
        let with = |inputs: Vec<f64>| self.run(self.names().zip(inputs.into_iter().map(Value::Float)));
        let tried: Vec<_> = alike.into_iter().chain(different).map(with).collect();
        let always = tried.iter().find(|result| match result {
            Err(FormulaError::NotANumber(what)) => !odd(what),
            other => matches!(other, Err(FormulaError::TooLarge(_))),
        });
        if let Some(Err(error)) = always {
            return Err(error.clone());
        }
        let mut failures = tried.into_iter().map(|result| match result {
            Ok(Some(_)) => None,
            Ok(None) => Some(FormulaError::NotANumber(NIL.to_owned())),
            Err(error) => Some(error),
        });
        match failures.next().flatten() {
            Some(first) if failures.all(|failure| failure.is_some()) => Err(first),
            _ => Ok(()),
        }
    }
}

const NIL: &str = "nil";
const TRUTH: &str = "true or false";
const LIST: &str = "a list or a map";
const INFINITE: &str = "infinity";
const UNDEFINED: &str = "an undefined value";

/// Whether this is a matter of the values rather than of the formula.
fn odd(what: &str) -> bool {
    what == INFINITE || what == UNDEFINED
}

fn number(value: &Value) -> Result<Option<Milli>, FormulaError> {
    let not = |what: &str| Err(FormulaError::NotANumber(what.to_owned()));
    #[expect(clippy::cast_precision_loss, reason = "formulas count in floating point, as in KEDA")]
    let float = match value {
        Value::Nil => return Ok(None),
        Value::Int(whole) => *whole as f64,
        Value::Float(float) => *float,
        // KEDA reads a text as a number, too.
        Value::Text(text) => match text.parse() {
            Ok(float) => float,
            Err(_) => return not("a text"),
        },
        Value::Bool(_) => return not(TRUTH),
        Value::List(_) | Value::Map(_) => return not(LIST),
    };
    if float.is_nan() {
        return not(UNDEFINED);
    }
    if float.is_infinite() {
        return not(INFINITE);
    }
    // Towards zero, as KEDA does.
    let cut = (float * 1000.0).trunc() / 1000.0;
    Milli::try_from_f64(cut).map(Some).map_err(|error| FormulaError::Failed(error.to_string()))
}

#[cfg(test)]
mod tests;
