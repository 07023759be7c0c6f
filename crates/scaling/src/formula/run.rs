//! A formula worked out for the values of the triggers.

use std::collections::BTreeMap;

use super::STEPS_MAX;
use super::functions::{Function, descending, sorted_by};
use super::tree::{Binary, Item, Kind, Node};
use super::value::Value;

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// `?.` met nil: the chain around it is nil.
    Chain,
    /// It cannot be worked out.
    Failed(String),
    /// It takes more than [`STEPS_MAX`].
    TooLong,
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

type Worth = Result<Value, Stop>;

/// How many lists may be inside each other.
const LISTS_DEPTH_MAX: usize = 32;

/// What a formula is worth.
pub(super) fn run(node: &Node, names: &BTreeMap<&str, Value>) -> Worth {
    Run { names, locals: Vec::new(), items: Vec::new(), steps: 0 }.value(node)
}

struct Run<'a> {
    names: &'a BTreeMap<&'a str, Value>,
    /// What `let` has named, the innermost last.
    locals: Vec<(&'a str, Value)>,
    /// The elements that predicates are being asked about, the innermost last.
    items: Vec<Element>,
    steps: u64,
}

/// An element, for a predicate.
struct Element {
    itself: Value,
    index: i64,
    accumulated: Value,
}

impl<'a> Run<'a> {
    /// Counts what is done; a list or a text counts with its length.
    fn spend(&mut self, steps: usize) -> Result<(), Stop> {
        self.steps = self.steps.saturating_add(steps as u64);
        if self.steps > STEPS_MAX { Err(Stop::TooLong) } else { Ok(()) }
    }

    /// Counts all that a value holds, which may be much more than was made: its parts may be the same.
    fn weigh(&mut self, value: &Value) -> Result<(), Stop> {
        self.spend(1)?;
        match value {
            Value::Text(text) => self.spend(text.len()),
            Value::List(values) => values.iter().try_for_each(|value| self.weigh(value)),
            Value::Map(values) => values.values().try_for_each(|value| self.weigh(value)),
            _ => Ok(()),
        }
    }

    fn list(&mut self, values: Vec<Value>) -> Worth {
        self.spend(values.len())?;
        shallow(Value::list(values))
    }

    fn value(&mut self, node: &'a Node) -> Worth {
        self.spend(1)?;
        match &node.kind {
            Kind::Value(value) => Ok(value.clone()),
            Kind::Name(name) => Ok(self.named(name)),
            Kind::Item(item) => self.item(*item),
            Kind::Not(of) => Ok(Value::Bool(!self.truth(of)?)),
            Kind::Minus(of) => Ok(self.value(of)?.negative()?),
            Kind::Plus(of) => self.value(of),
            Kind::Binary(operator, left, right) => self.binary(*operator, left, right),
            Kind::Comparison(first, others) => {
                let mut left = self.value(first)?;
                for (order, node) in others {
                    let right = self.value(node)?;
                    if !left.compare(*order, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Kind::Conditional(condition, Some(yes), no) => {
                if self.truth(condition)? {
                    self.value(yes)
                } else {
                    self.value(no)
                }
            }
            Kind::Conditional(condition, None, no) => {
                if self.truth(condition)? {
                    Ok(Value::Bool(true))
                } else {
                    self.value(no)
                }
            }
            Kind::Let(name, value, body) => {
                let value = self.value(value)?;
                self.locals.push((name, value));
                let worth = self.value(body);
                self.locals.pop();
                worth
            }
            Kind::Sequence(nodes) => {
                let mut last = Value::Nil;
                for node in nodes {
                    last = self.value(node)?;
                }
                Ok(last)
            }
            Kind::List(nodes) => {
                let values = self.values(nodes)?;
                self.list(values)
            }
            Kind::Map(pairs) => {
                let mut map = BTreeMap::new();
                for (key, value) in pairs {
                    let Value::Text(key) = self.value(key)? else {
                        return Err(Stop::Failed("a map key must be a text".to_owned()));
                    };
                    let value = self.value(value)?;
                    map.insert(key, value);
                }
                shallow(Value::map(map))
            }
            Kind::Member { of, key, optional } => {
                let of = self.value(of)?;
                if *optional && matches!(of, Value::Nil) {
                    return Err(Stop::Chain);
                }
                let key = self.value(key)?;
                Ok(of.fetch(&key)?)
            }
            Kind::Chain(of) => match self.value(of) {
                Err(Stop::Chain) => Ok(Value::Nil),
                worth => worth,
            },
            Kind::Slice { of, from, to } => {
                let of = self.value(of)?;
                let (from, to) = (self.bound(from.as_deref())?, self.bound(to.as_deref())?);
                self.weigh(&of)?;
                Ok(of.slice(from, to)?)
            }
            Kind::Call(function, arguments) => self.call(*function, arguments),
        }
    }

    fn values(&mut self, nodes: &'a [Node]) -> Result<Vec<Value>, Stop> {
        nodes.iter().map(|node| self.value(node)).collect()
    }

    fn named(&self, name: &str) -> Value {
        let local = self.locals.iter().rev().find(|(local, _)| *local == name).map(|(_, value)| value);
        local.or_else(|| self.names.get(name)).cloned().unwrap_or(Value::Nil)
    }

    fn item(&self, item: Item) -> Worth {
        let element = self.items.last().ok_or_else(|| Stop::Failed("# is used outside a predicate".to_owned()))?;
        Ok(match item {
            Item::Itself => element.itself.clone(),
            Item::Index => Value::Int(element.index),
            Item::Accumulated => element.accumulated.clone(),
        })
    }

    fn truth(&mut self, node: &'a Node) -> Result<bool, Stop> {
        match self.value(node)? {
            Value::Bool(truth) => Ok(truth),
            other => Err(Stop::Failed(format!("{} is neither true nor false", other.type_name()))),
        }
    }

    fn bound(&mut self, node: Option<&'a Node>) -> Result<Option<i64>, Stop> {
        let Some(node) = node else { return Ok(None) };
        let value = self.value(node)?;
        let index = value.as_int().ok_or_else(|| format!("{} is no place in a list", value.type_name()))?;
        Ok(Some(index))
    }

    fn binary(&mut self, operator: Binary, left: &'a Node, right: &'a Node) -> Worth {
        let left = match operator {
            Binary::Or => return Ok(Value::Bool(self.truth(left)? || self.truth(right)?)),
            Binary::And => return Ok(Value::Bool(self.truth(left)? && self.truth(right)?)),
            _ => self.value(left)?,
        };
        if operator == Binary::Coalesce {
            return if matches!(left, Value::Nil) { self.value(right) } else { Ok(left) };
        }
        let right = self.value(right)?;
        let about = |test: fn(&str, &str) -> bool| match (&left, &right) {
            (Value::Text(text), Value::Text(part)) => Ok(test(text, part)),
            (Value::Nil, _) | (_, Value::Nil) => Ok(false),
            _ => Err(format!("{} is about texts", operator.symbol())),
        };
        let found = match operator {
            Binary::Equal | Binary::Unequal => {
                self.weigh(&left)?;
                left.equals(&right) == (operator == Binary::Equal)
            }
            Binary::In | Binary::NotIn => {
                self.weigh(&right)?;
                left.is_in(&right)? == (operator == Binary::In)
            }
            Binary::Contains => about(|text, part| text.contains(part))?,
            Binary::StartsWith => about(|text, part| text.starts_with(part))?,
            Binary::EndsWith => about(|text, part| text.ends_with(part))?,
            Binary::Range => return self.range(&left, &right),
            _ => {
                let result = left.calculate(operator, &right)?;
                self.weigh(&result)?;
                return Ok(result);
            }
        };
        Ok(Value::Bool(found))
    }

    fn range(&mut self, from: &Value, to: &Value) -> Worth {
        let (Some(from), Some(to)) = (from.as_int(), to.as_int()) else {
            return Err(Stop::Failed("a range goes from one whole number to another".to_owned()));
        };
        let size = i128::from(to) - i128::from(from) + 1;
        self.spend(usize::try_from(size.max(0)).unwrap_or(usize::MAX))?;
        Ok(Value::list((from..=to).map(Value::Int).collect()))
    }

    fn call(&mut self, function: Function, arguments: &'a [Node]) -> Worth {
        let [first, rest @ ..] = arguments else { return Ok(function.call(&[])?) };
        if function.predicate_shape().is_none() {
            let values = self.values(arguments)?;
            values.iter().try_for_each(|value| self.weigh(value))?;
            if let (Function::Uniq, [Value::List(list)]) = (function, values.as_slice()) {
                self.spend(list.len().saturating_mul(list.len()))?;
            }
            let result = function.call(&values)?;
            if let Value::Text(text) = &result {
                self.spend(text.len())?;
            }
            return Ok(result);
        }
        let list = self.value(first)?;
        let elements = function.elements(&list)?;
        match (function, rest) {
            (Function::Reduce, [predicate, initial @ ..]) => {
                let initial = match initial {
                    [initial, ..] => Some(self.value(initial)?),
                    [] => None,
                };
                self.reduce(elements, predicate, initial)
            }
            (Function::SortBy, [predicate, order @ ..]) => {
                let order = match order {
                    [order, ..] => descending(&self.value(order)?)?,
                    [] => false,
                };
                let keys = self.asked(elements, predicate)?;
                self.spend(keys.len())?;
                Ok(sorted_by(keys.into_iter().zip(elements.iter().cloned()).collect(), order)?)
            }
            (Function::Map, [predicate, ..]) => {
                let values = self.asked(elements, predicate)?;
                self.list(values)
            }
            (Function::Sum, predicate) => {
                let values = match predicate {
                    [predicate, ..] => self.asked(elements, predicate)?,
                    [] => elements.to_vec(),
                };
                self.spend(values.len())?;
                let mut sum = Value::Int(0);
                for value in values {
                    sum = sum.calculate(Binary::Add, &value)?;
                }
                Ok(sum)
            }
            (_, predicate) => self.search(function, elements, predicate.first()),
        }
    }

    /// The functions that ask of the elements whether something holds.
    fn search(&mut self, function: Function, elements: &[Value], predicate: Option<&'a Node>) -> Worth {
        let last = matches!(function, Function::FindLast | Function::FindLastIndex);
        let mut hits = Vec::new();
        for step in 0..elements.len() {
            let index = if last { elements.len() - 1 - step } else { step };
            let holds = match predicate {
                Some(predicate) => self.ask(&elements[index], index, Value::Nil, predicate)?,
                None => elements[index].clone(),
            };
            let Value::Bool(holds) = holds else {
                return Err(Stop::Failed(format!("predicate should return boolean (got {})", holds.type_name())));
            };
            if holds {
                hits.push(index);
            }
            let enough = match function {
                Function::All => !holds,
                Function::One | Function::Count | Function::Filter => false,
                _ => holds,
            };
            if enough {
                break;
            }
        }
        let whole = |number: usize| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        Ok(match function {
            Function::All => Value::Bool(hits.len() == elements.len()),
            Function::Any => Value::Bool(!hits.is_empty()),
            Function::None => Value::Bool(hits.is_empty()),
            Function::One => Value::Bool(hits.len() == 1),
            Function::Count => whole(hits.len()),
            Function::Filter => return self.list(hits.into_iter().map(|index| elements[index].clone()).collect()),
            Function::FindIndex | Function::FindLastIndex => hits.first().map_or(Value::Nil, |index| whole(*index)),
            _ => hits.first().map_or(Value::Nil, |index| elements[*index].clone()),
        })
    }

    fn reduce(&mut self, elements: &[Value], predicate: &'a Node, initial: Option<Value>) -> Worth {
        let skipped = usize::from(initial.is_none());
        let Some(mut accumulated) = initial.or_else(|| elements.first().cloned()) else {
            return Err(Stop::Failed("reduce of empty array with no initial value".to_owned()));
        };
        for (index, element) in elements.iter().enumerate().skip(skipped) {
            accumulated = self.ask(element, index, accumulated, predicate)?;
        }
        Ok(accumulated)
    }

    /// What a predicate says of each element.
    fn asked(&mut self, elements: &[Value], predicate: &'a Node) -> Result<Vec<Value>, Stop> {
        elements.iter().enumerate().map(|(index, element)| self.ask(element, index, Value::Nil, predicate)).collect()
    }

    fn ask(&mut self, element: &Value, index: usize, accumulated: Value, predicate: &'a Node) -> Worth {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        self.items.push(Element { itself: element.clone(), index, accumulated });
        let worth = self.value(predicate);
        self.items.pop();
        worth
    }
}

/// The value, if its lists do not nest too deep to be walked through.
fn shallow(value: Value) -> Worth {
    if value.depth() > LISTS_DEPTH_MAX {
        return Err(Stop::Failed(format!("lists nest deeper than {LISTS_DEPTH_MAX} levels")));
    }
    Ok(value)
}
