//! A formula over the values of triggers, in the language of KEDA's `scalingModifiers.formula` (expr-lang).
//!
//! Anybody who may write a ScaledObject may write one, so what it can cost is bounded before it is ever run: its length, how
//! deep it nests, and how many steps its ranges stand for. What a name may stand for is known beforehand, and a name that
//! no trigger has is refused, also in a branch that is never taken.

mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use expr::{Context, Program, Value};
use thiserror::Error;
use units::Milli;

/// Longest formula, in bytes. Those that people show each other have one or two hundred.
pub const LENGTH_MAX: usize = 4096;
/// How deep brackets may nest. The parser tries alternatives at each level, so its time grows with the depth.
pub const DEPTH_MAX: usize = 12;
/// Steps that all ranges (`1..5`) may stand for together, when each is walked inside every other.
pub const STEPS_MAX: u64 = 10_000;

/// A formula that was understood.
#[derive(Clone)]
pub struct Formula {
    text: String,
    program: Program,
    names: BTreeSet<String>,
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
    /// It is not written in the language.
    #[error("unexpected token {at}")]
    Syntax {
        /// Where it goes wrong.
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
        let scan = names::scan(text);
        if scan.depth > DEPTH_MAX {
            return Err(FormulaError::TooLarge(format!("the formula nests deeper than {DEPTH_MAX} brackets")));
        }
        if scan.steps.is_none_or(|steps| steps > STEPS_MAX) {
            return Err(FormulaError::TooLarge(format!(
                "ranges need whole numbers at both ends, and may stand for {STEPS_MAX} steps together"
            )));
        }
        if let Some(function) = scan.refused {
            return Err(FormulaError::TooLarge(format!("the function {function} cannot be used")));
        }
        let program = guarded(|| expr::compile(text))?.map_err(|error| syntax(text, &error.to_string()))?;
        let mut names = BTreeSet::new();
        for (name, byte) in scan.names {
            if !known.contains(name.as_str()) {
                return Err(FormulaError::UnknownName { name, at: Place::of(text, byte) });
            }
            names.insert(name);
        }
        let formula = Self { text: text.to_owned(), program, names };
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
        let mut context = Context::default();
        for (name, value) in values {
            context.insert(name, value);
        }
        let value = guarded(|| expr::run(&self.program, &context))?
            .map_err(|error| FormulaError::Failed(format!("the formula could not be worked out: {error}")))?;
        number(&value)
    }

    /// Whether there is a number for at least one of some simple inputs, and never a value of another type.
    fn gives_numbers(&self) -> Result<(), FormulaError> {
        let tried = [-1.0, 1.0, 10.0, 0.0].map(|input| self.run(self.names().map(|name| (name, Value::Float(input)))));
        let wrong_type =
            tried.iter().find(|result| matches!(result, Err(FormulaError::NotANumber(what)) if !odd(what)));
        if let Some(Err(error)) = wrong_type {
            return Err(error.clone());
        }
        let mut errors = tried.into_iter().filter_map(Result::err);
        match errors.next() {
            Some(first) if errors.count() == 3 => Err(first),
            _ => Ok(()),
        }
    }
}

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
        Value::Integer(whole) => *whole as f64,
        Value::Float(float) => *float,
        // KEDA reads a text as a number, too.
        Value::String(text) => match text.parse() {
            Ok(float) => float,
            Err(_) => return not("a text"),
        },
        Value::Bool(_) => return not("true or false"),
        _ => return not("a list or a map"),
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

/// Runs the library, which may panic: on a whole number that overflows, and on parts of the language that it lacks.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, FormulaError> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| FormulaError::Failed("the formula cannot be worked out".to_owned()))
}

/// The parser's error, as far as people can use it: where it is.
fn syntax(text: &str, error: &str) -> FormulaError {
    let place = error.split_once("--> ").and_then(|(_, rest)| {
        let (line, column) = rest.lines().next()?.split_once(':')?;
        Some((line.trim().parse().ok()?, column.trim().parse().ok()?))
    });
    let (line, column) = place.unwrap_or((1, 1));
    FormulaError::Syntax { at: Place::at(text, line, column) }
}

#[cfg(test)]
mod tests;
