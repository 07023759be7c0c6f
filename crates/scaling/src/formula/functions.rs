//! The functions of expr-lang that a formula may use (`builtin/builtin.go`): all that reckon with numbers and lists.

use super::value::{Value, place};

/// A function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    All,
    None,
    Any,
    One,
    Filter,
    Map,
    Count,
    Sum,
    Find,
    FindIndex,
    FindLast,
    FindLastIndex,
    SortBy,
    Reduce,
    Len,
    Type,
    Abs,
    Ceil,
    Floor,
    Round,
    Int,
    Float,
    String,
    Max,
    Min,
    Mean,
    Median,
    First,
    Last,
    Get,
    Take,
    Keys,
    Values,
    Reverse,
    Uniq,
    Concat,
    Flatten,
    Sort,
    BitAnd,
    BitOr,
    BitXor,
    BitNand,
    BitShl,
    BitShr,
    BitUshr,
    BitNot,
}

use Function as F;

const NAMES: [(&str, Function); 46] = [
    ("all", F::All),
    ("none", F::None),
    ("any", F::Any),
    ("one", F::One),
    ("filter", F::Filter),
    ("map", F::Map),
    ("count", F::Count),
    ("sum", F::Sum),
    ("find", F::Find),
    ("findIndex", F::FindIndex),
    ("findLast", F::FindLast),
    ("findLastIndex", F::FindLastIndex),
    ("sortBy", F::SortBy),
    ("reduce", F::Reduce),
    ("len", F::Len),
    ("type", F::Type),
    ("abs", F::Abs),
    ("ceil", F::Ceil),
    ("floor", F::Floor),
    ("round", F::Round),
    ("int", F::Int),
    ("float", F::Float),
    ("string", F::String),
    ("max", F::Max),
    ("min", F::Min),
    ("mean", F::Mean),
    ("median", F::Median),
    ("first", F::First),
    ("last", F::Last),
    ("get", F::Get),
    ("take", F::Take),
    ("keys", F::Keys),
    ("values", F::Values),
    ("reverse", F::Reverse),
    ("uniq", F::Uniq),
    ("concat", F::Concat),
    ("flatten", F::Flatten),
    ("sort", F::Sort),
    ("bitand", F::BitAnd),
    ("bitor", F::BitOr),
    ("bitxor", F::BitXor),
    ("bitnand", F::BitNand),
    ("bitshl", F::BitShl),
    ("bitshr", F::BitShr),
    ("bitushr", F::BitUshr),
    ("bitnot", F::BitNot),
];
/// Functions of expr-lang that a formula may not use, and why.
const REFUSED: [(&[&str], &str); 3] = [
    (
        &["now", "date", "duration", "timezone"],
        "a formula does not depend on the time: use a cron trigger, and its name",
    ),
    (
        &[
            "trim",
            "trimPrefix",
            "trimSuffix",
            "upper",
            "lower",
            "split",
            "splitAfter",
            "replace",
            "repeat",
            "join",
            "indexOf",
            "lastIndexOf",
            "hasPrefix",
            "hasSuffix",
            "toJSON",
            "fromJSON",
            "toBase64",
            "fromBase64",
        ],
        "a formula reckons with numbers, not with texts",
    ),
    (&["groupBy", "toPairs", "fromPairs"], "a formula reckons with numbers and lists of them"),
];

/// What a function with a predicate takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    Value,
    Predicate,
    OptionalValue,
    OptionalPredicate,
}

impl Argument {
    pub(super) fn is_optional(self) -> bool {
        matches!(self, Self::OptionalValue | Self::OptionalPredicate)
    }
}

impl Function {
    /// The function of this name, or why there is none.
    pub(super) fn of(name: &str) -> Result<Self, String> {
        if let Some((_, function)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(*function);
        }
        match REFUSED.iter().find(|(names, _)| names.contains(&name)) {
            Some((_, why)) => Err(format!("the function {name} cannot be used: {why}")),
            None => Err(format!("unknown function {name}")),
        }
    }

    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, function)| *function == self).map_or("function", |(name, _)| name)
    }

    /// The arguments, if one of them is asked of every element.
    pub(super) fn predicate_shape(self) -> Option<&'static [Argument]> {
        use Argument::{OptionalPredicate, OptionalValue, Predicate, Value};
        match self {
            F::All
            | F::None
            | F::Any
            | F::One
            | F::Filter
            | F::Map
            | F::Find
            | F::FindIndex
            | F::FindLast
            | F::FindLastIndex => Some(&[Value, Predicate]),
            F::Count | F::Sum => Some(&[Value, OptionalPredicate]),
            F::SortBy | F::Reduce => Some(&[Value, Predicate, OptionalValue]),
            _ => None,
        }
    }

    /// The result for these values; only of functions without a predicate.
    pub(super) fn call(self, arguments: &[Value]) -> Result<Value, String> {
        match (self, arguments) {
            (F::Max | F::Min, [only @ (Value::Nil | Value::Bool(_) | Value::Text(_) | Value::Map(_))]) => {
                Ok(only.clone())
            }
            (F::Max | F::Min, _) => self.extreme(arguments),
            (F::Mean, _) => {
                let numbers = self.numbers(arguments)?;
                #[expect(clippy::cast_precision_loss, reason = "lists are short")]
                let count = numbers.len().max(1) as f64;
                Ok(Value::Float(numbers.iter().sum::<f64>() / count))
            }
            (F::Median, _) => Ok(Value::Float(median(self.numbers(arguments)?))),
            (F::Concat, _) => {
                let lists = arguments.iter().map(|argument| self.elements(argument)).collect::<Result<Vec<_>, _>>()?;
                Ok(Value::list(lists.concat()))
            }
            (F::Sort, [list]) => sorted(self.elements(list)?.to_vec(), false),
            (F::Sort, [list, order]) => sorted(self.elements(list)?.to_vec(), descending(order)?),
            (F::Get, [of, key]) => Ok(match (of, key) {
                (Value::List(values), key) => {
                    let found = key.as_int().and_then(|index| place(index, values.len()));
                    found.and_then(|place| values.get(place).cloned()).unwrap_or(Value::Nil)
                }
                (of, key) => of.fetch(key).unwrap_or(Value::Nil),
            }),
            (F::Take, [list, Value::Int(count)]) => {
                let elements = self.elements(list)?;
                let count = usize::try_from(*count).map_err(|_| format!("cannot take {count} elements"))?;
                Ok(Value::list(elements[..count.min(elements.len())].to_vec()))
            }
            (F::BitNot, [Value::Int(bits)]) => Ok(Value::Int(!bits)),
            (_, [Value::Int(one), Value::Int(two)]) => self.bits(*one, *two),
            (_, [only]) => self.call_one(only),
            _ => Err(format!("invalid arguments for {}", self.name())),
        }
    }

    fn call_one(self, argument: &Value) -> Result<Value, String> {
        let wrong = || format!("invalid argument for {} (type {})", self.name(), argument.type_name());
        Ok(match (self, argument) {
            (F::Len, Value::Text(text)) => count(text.chars().count()),
            (F::Len, Value::List(values)) => count(values.len()),
            (F::Len, Value::Map(values)) => count(values.len()),
            (F::Type, value) => Value::Text(value.type_name().into()),
            (F::String, value) => Value::Text(value.to_string().into()),
            (F::Abs, Value::Int(whole)) => Value::Int(whole.wrapping_abs()),
            (F::Abs, Value::Float(float)) => Value::Float(float.abs()),
            (F::Int, Value::Text(text)) => {
                Value::Int(text.parse().map_err(|_| format!("invalid operation: int({text})"))?)
            }
            (F::Int, value) => Value::Int(value.as_int().ok_or_else(wrong)?),
            (F::Float, Value::Text(text)) => {
                Value::Float(text.parse().map_err(|_| format!("invalid operation: float({text})"))?)
            }
            (F::Float | F::Ceil | F::Floor | F::Round, value) => {
                let float = value.as_float().ok_or_else(wrong)?;
                Value::Float(match self {
                    F::Ceil => float.ceil(),
                    F::Floor => float.floor(),
                    F::Round => float.round(),
                    _ => float,
                })
            }
            (F::First, Value::List(values)) => values.first().cloned().unwrap_or(Value::Nil),
            (F::Last, Value::List(values)) => values.last().cloned().unwrap_or(Value::Nil),
            (F::First | F::Last, _) => Value::Nil,
            (F::Keys, Value::Map(values)) => Value::list(values.keys().cloned().map(Value::Text).collect()),
            (F::Values, Value::Map(values)) => Value::list(values.values().cloned().collect()),
            (F::Reverse, Value::List(values)) => Value::list(values.iter().rev().cloned().collect()),
            (F::Uniq, Value::List(values)) => {
                let mut seen: Vec<Value> = Vec::new();
                for value in values.iter() {
                    if !seen.iter().any(|other| other.equals(value)) {
                        seen.push(value.clone());
                    }
                }
                Value::list(seen)
            }
            (F::Flatten, Value::List(values)) => Value::list(flat(values)),
            _ => return Err(wrong()),
        })
    }

    fn bits(self, one: i64, two: i64) -> Result<Value, String> {
        let shift = u32::try_from(two).ok();
        let negative = || format!("invalid operation: negative shift count {two} (type int)");
        if matches!(self, F::BitShl | F::BitShr | F::BitUshr) && two < 0 {
            return Err(negative());
        }
        Ok(Value::Int(match self {
            F::BitAnd => one & two,
            F::BitOr => one | two,
            F::BitXor => one ^ two,
            F::BitNand => one & !two,
            F::BitShl => shift.and_then(|shift| one.checked_shl(shift)).unwrap_or_default(),
            F::BitShr => shift.and_then(|shift| one.checked_shr(shift)).unwrap_or(if one < 0 { -1 } else { 0 }),
            F::BitUshr => {
                let shifted = shift.and_then(|shift| one.cast_unsigned().checked_shr(shift));
                shifted.unwrap_or_default().cast_signed()
            }
            _ => return Err(format!("invalid arguments for {}", self.name())),
        }))
    }

    /// The elements of a list.
    pub(super) fn elements(self, list: &Value) -> Result<&[Value], String> {
        match list {
            Value::List(values) => Ok(values),
            other => Err(format!("builtin {} takes only array (got {})", self.name(), other.type_name())),
        }
    }

    /// The greatest or the least of all numbers in all lists; nil of none.
    fn extreme(self, arguments: &[Value]) -> Result<Value, String> {
        let mut found = Value::Nil;
        for value in flat(arguments) {
            if value.as_float().is_none() {
                return Err(format!("invalid argument for {} (type {})", self.name(), value.type_name()));
            }
            let order = if matches!(found, Value::Nil) { None } else { Some(found.order(&value)?) };
            let better = match order {
                None => true,
                Some(order) if self == F::Max => order == Some(std::cmp::Ordering::Less),
                Some(order) => order == Some(std::cmp::Ordering::Greater),
            };
            if better {
                found = value;
            }
        }
        Ok(found)
    }

    fn numbers(self, arguments: &[Value]) -> Result<Vec<f64>, String> {
        let wrong = |value: &Value| format!("invalid argument for {} (type {})", self.name(), value.type_name());
        flat(arguments).iter().map(|value| value.as_float().ok_or_else(|| wrong(value))).collect()
    }
}

/// All elements of lists in lists.
fn flat(values: &[Value]) -> Vec<Value> {
    let mut out = Vec::new();
    for value in values {
        match value {
            Value::List(inner) => out.extend(flat(inner)),
            other => out.push(other.clone()),
        }
    }
    out
}

fn count(length: usize) -> Value {
    Value::Int(i64::try_from(length).unwrap_or(i64::MAX))
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.as_slice() {
        [] => 0.0,
        odd if odd.len() % 2 == 1 => odd[middle],
        even => f64::midpoint(even[middle - 1], even[middle]),
    }
}

/// Whether an order is `desc`.
pub(super) fn descending(order: &Value) -> Result<bool, String> {
    match order {
        Value::Text(order) if &**order == "asc" => Ok(false),
        Value::Text(order) if &**order == "desc" => Ok(true),
        other => Err(format!("invalid order {other}, expected asc or desc")),
    }
}

/// In order, if all can be compared.
pub(super) fn sorted(values: Vec<Value>, descending: bool) -> Result<Value, String> {
    let pairs = values.into_iter().map(|value| (value.clone(), value)).collect();
    sorted_by(pairs, descending)
}

/// The second of each pair, in the order of the first.
pub(super) fn sorted_by(mut pairs: Vec<(Value, Value)>, descending: bool) -> Result<Value, String> {
    let mut wrong = None;
    pairs.sort_by(|(one, _), (two, _)| {
        let order = one.order(two).unwrap_or_else(|error| {
            wrong = Some(error);
            None
        });
        let order = order.unwrap_or(std::cmp::Ordering::Equal);
        if descending { order.reverse() } else { order }
    });
    match wrong {
        Some(error) => Err(error),
        None => Ok(Value::list(pairs.into_iter().map(|(_, value)| value).collect())),
    }
}
