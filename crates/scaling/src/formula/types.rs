//! What can be known of a formula before it is worked out, by the rules of expr-lang (`checker/checker.go`): which names it
//! needs, and parts that can never fit together.

use std::collections::BTreeSet;
use std::fmt;

use super::Fault;
use super::functions::Function;
use super::tree::{Binary, Comparison, Item, Kind, Node};
use super::value::Value;

/// What a part will be worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    /// Not known beforehand.
    Any,
    Nil,
    Bool,
    Int,
    Float,
    Text,
    List(Box<Type>),
    Map,
}

impl Type {
    fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Float)
    }

    fn may_be(&self, test: impl Fn(&Self) -> bool) -> bool {
        *self == Self::Any || test(self)
    }

    fn is_list(&self) -> bool {
        matches!(self, Self::List(_))
    }

    /// Whether both may be of a type that passes the test; two that are known must be alike.
    fn both(&self, other: &Self, test: impl Fn(&Self) -> bool) -> bool {
        self.may_be(&test) && other.may_be(&test)
    }

    fn is_like(&self, other: &Self) -> bool {
        self == other || (self.is_list() && other.is_list())
    }
}

/// As expr-lang names it.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::Nil => "nil",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float64",
            Self::Text => "string",
            Self::List(_) => "array",
            Self::Map => "map",
        })
    }
}

/// What is wrong, and whether it is a name that stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mismatch {
    UnknownName { name: String, byte: usize },
    Fault(Fault),
}

/// The type of a formula, and the names it depends on.
pub(super) fn check(node: &Node, known: &BTreeSet<&str>) -> Result<(Type, BTreeSet<String>), Mismatch> {
    let mut check = Check { known, used: BTreeSet::new(), locals: Vec::new(), items: Vec::new() };
    let found = check.of(node)?;
    Ok((found, check.used))
}

struct Check<'a> {
    known: &'a BTreeSet<&'a str>,
    used: BTreeSet<String>,
    locals: Vec<(&'a str, Type)>,
    /// What `#` is, and the function that asks, the innermost last.
    items: Vec<(Type, Function)>,
}

type Found = Result<Type, Mismatch>;

fn wrong<T>(byte: usize, what: String) -> Result<T, Mismatch> {
    Err(Mismatch::Fault(Fault { what, byte }))
}

impl<'a> Check<'a> {
    fn of(&mut self, node: &'a Node) -> Found {
        Ok(match &node.kind {
            Kind::Value(value) => match value {
                Value::Nil => Type::Nil,
                Value::Bool(_) => Type::Bool,
                Value::Int(_) => Type::Int,
                Value::Float(_) => Type::Float,
                Value::Text(_) => Type::Text,
                Value::List(_) => Type::List(Box::new(Type::Any)),
                Value::Map(_) => Type::Map,
            },
            Kind::Name(name) => self.named(name, node.byte)?,
            Kind::Item(item) => self.item(*item, node.byte)?,
            Kind::Not(of) => match self.of(of)? {
                Type::Bool | Type::Any => Type::Bool,
                other => return wrong(node.byte, format!("invalid operation: not (mismatched type {other})")),
            },
            Kind::Minus(of) | Kind::Plus(of) => match self.of(of)? {
                found @ (Type::Int | Type::Float | Type::Any) => found,
                other => {
                    let sign = if matches!(node.kind, Kind::Minus(_)) { "-" } else { "+" };
                    return wrong(node.byte, format!("invalid operation: {sign} (mismatched type {other})"));
                }
            },
            Kind::Binary(operator, left, right) => {
                let (left, right) = (self.of(left)?, self.of(right)?);
                match between(*operator, &left, &right) {
                    Some(found) => found,
                    None => return mismatched(operator.symbol(), &left, &right, node.byte),
                }
            }
            Kind::Comparison(first, others) => {
                let mut left = self.of(first)?;
                for (order, other) in others {
                    let right = self.of(other)?;
                    ordered(*order, &left, &right, node.byte)?;
                    left = right;
                }
                Type::Bool
            }
            Kind::Conditional(condition, yes, no) => {
                let found = self.condition(condition)?;
                let yes = match yes {
                    Some(yes) => self.of(yes)?,
                    None => found,
                };
                either(yes, self.of(no)?)
            }
            Kind::Let(name, value, body) => {
                if self.known.contains(name.as_str()) {
                    return wrong(node.byte, format!("cannot redeclare {name}"));
                }
                if Function::of(name).is_ok() {
                    return wrong(node.byte, format!("cannot redeclare builtin {name}"));
                }
                if self.locals.iter().any(|(local, _)| local == name) {
                    return wrong(node.byte, format!("cannot redeclare variable {name}"));
                }
                let value = self.of(value)?;
                self.locals.push((name, value));
                let body = self.of(body);
                self.locals.pop();
                body?
            }
            Kind::Sequence(nodes) => {
                let mut last = Type::Nil;
                for node in nodes {
                    last = self.of(node)?;
                }
                last
            }
            Kind::List(nodes) => {
                let found = nodes.iter().map(|node| self.of(node)).collect::<Result<Vec<_>, _>>()?;
                let alike = found.windows(2).all(|pair| pair[0].is_like(&pair[1]));
                Type::List(Box::new(if alike { found.last().cloned().unwrap_or(Type::Any) } else { Type::Any }))
            }
            Kind::Map(pairs) => {
                for (key, value) in pairs {
                    self.of(key)?;
                    self.of(value)?;
                }
                Type::Map
            }
            Kind::Member { of, key, .. } => self.member(of, key, node.byte)?,
            Kind::Chain(of) => self.of(of)?,
            Kind::Slice { of, from, to } => {
                let found = self.of(of)?;
                if !found.may_be(Type::is_list) {
                    return wrong(node.byte, format!("cannot slice {found}"));
                }
                for end in [from, to].into_iter().flatten() {
                    let found = self.of(end)?;
                    if !found.may_be(|found| *found == Type::Int) {
                        return wrong(end.byte, format!("non-integer slice index {found}"));
                    }
                }
                found
            }
            Kind::Call(function, arguments) if function.predicate_shape().is_some() => {
                self.predicate(*function, arguments, node.byte)?
            }
            Kind::Call(function, arguments) => {
                let found = arguments.iter().map(|argument| self.of(argument)).collect::<Result<Vec<_>, _>>()?;
                match called(*function, &found) {
                    Ok(found) => found,
                    Err(what) => return wrong(node.byte, what),
                }
            }
        })
    }

    fn named(&mut self, name: &str, byte: usize) -> Found {
        if let Some((_, found)) = self.locals.iter().rev().find(|(local, _)| *local == name) {
            return Ok(found.clone());
        }
        if !self.known.contains(name) {
            return Err(Mismatch::UnknownName { name: name.to_owned(), byte });
        }
        self.used.insert(name.to_owned());
        Ok(Type::Float)
    }

    fn item(&self, item: Item, byte: usize) -> Found {
        match (item, self.items.last()) {
            (Item::Itself, Some((found, _))) => Ok(found.clone()),
            (Item::Index, Some((_, Function::Map | Function::Reduce))) => Ok(Type::Int),
            (Item::Accumulated, Some((_, Function::Reduce))) => Ok(Type::Any),
            (Item::Index, _) => wrong(byte, "unknown pointer #index".to_owned()),
            (Item::Accumulated, _) => wrong(byte, "unknown pointer #acc".to_owned()),
            (Item::Itself, None) => wrong(byte, "cannot use pointer accessor outside predicate".to_owned()),
        }
    }

    fn condition(&mut self, node: &'a Node) -> Found {
        match self.of(node)? {
            found @ (Type::Bool | Type::Any) => Ok(found),
            other => wrong(node.byte, format!("non-bool expression (type {other}) used as condition")),
        }
    }

    fn member(&mut self, of: &'a Node, key: &'a Node, byte: usize) -> Found {
        let (of, found) = (self.of(of)?, self.of(key)?);
        match &of {
            Type::Any => Ok(Type::Any),
            Type::List(inner) if found.may_be(|found| *found == Type::Int) => Ok((**inner).clone()),
            Type::List(_) => {
                wrong(key.byte, format!("array elements can only be selected using an integer (got {found})"))
            }
            Type::Map if found.may_be(|found| *found == Type::Text) => Ok(Type::Any),
            Type::Map => wrong(key.byte, format!("cannot use {found} to get an element from a map")),
            _ => match &key.kind {
                Kind::Value(Value::Text(name)) => wrong(byte, format!("type {of} has no field {name}")),
                _ => wrong(byte, format!("type {of}[{found}] is undefined")),
            },
        }
    }

    fn predicate(&mut self, function: Function, arguments: &'a [Node], byte: usize) -> Found {
        let [collection, rest @ ..] = arguments else { return wrong(byte, "not enough arguments".to_owned()) };
        let found = self.of(collection)?;
        let inner = match &found {
            Type::Any => Type::Any,
            Type::List(inner) => (**inner).clone(),
            other => {
                let what = format!("builtin {} takes only array (got {other})", function.name());
                return wrong(collection.byte, what);
            }
        };
        let said = match rest {
            [predicate, ..] => {
                self.items.push((inner.clone(), function));
                let said = self.of(predicate);
                self.items.pop();
                Some((said?, predicate.byte))
            }
            [] => None,
        };
        let third = match rest {
            [_, third, ..] => Some((self.of(third)?, third.byte)),
            _ => None,
        };
        Ok(match (function, said) {
            (Function::Map, Some((said, _))) => Type::List(Box::new(said)),
            (Function::Sum | Function::Reduce, Some((said, _))) => said,
            (Function::SortBy, _) => match third {
                Some((order, byte)) if !order.may_be(|order| *order == Type::Text) => {
                    return wrong(byte, format!("sortBy order argument must be a string (got {order})"));
                }
                _ => found,
            },
            (_, Some((said, byte))) if !said.may_be(|said| *said == Type::Bool) => {
                return wrong(byte, format!("predicate should return boolean (got {said})"));
            }
            (Function::Filter, _) => Type::List(Box::new(inner)),
            (Function::Sum | Function::Find | Function::FindLast, _) => inner,
            (Function::Count | Function::FindIndex | Function::FindLastIndex, _) => Type::Int,
            _ => Type::Bool,
        })
    }
}

fn ordered(order: Comparison, left: &Type, right: &Type, byte: usize) -> Result<(), Mismatch> {
    if left.both(right, Type::is_number) || left.both(right, |found| *found == Type::Text) {
        return Ok(());
    }
    mismatched(order.symbol(), left, right, byte)
}

fn mismatched<T>(operator: &str, left: &Type, right: &Type, byte: usize) -> Result<T, Mismatch> {
    wrong(byte, format!("invalid operation: {operator} (mismatched types {left} and {right})"))
}

/// The type of an operation, if it can be one.
fn between(operator: Binary, left: &Type, right: &Type) -> Option<Type> {
    let unknown = *left == Type::Any || *right == Type::Any;
    let numbers = left.both(right, Type::is_number);
    let of = |holds: bool, found: Type| holds.then_some(found);
    match operator {
        Binary::Or | Binary::And => of(left.both(right, |found| *found == Type::Bool), Type::Bool),
        Binary::Equal | Binary::Unequal => of(comparable(left, right), Type::Bool),
        Binary::In | Binary::NotIn => match right {
            Type::Any => Some(Type::Bool),
            Type::Map => of(left.may_be(|left| *left == Type::Text), Type::Bool),
            Type::List(inner) => of(comparable(left, inner), Type::Bool),
            _ => None,
        },
        Binary::Contains | Binary::StartsWith | Binary::EndsWith => {
            of(left.both(right, |found| *found == Type::Text), Type::Bool)
        }
        Binary::Range => of(left.both(right, |found| *found == Type::Int), Type::List(Box::new(Type::Int))),
        Binary::Modulo => of(left.both(right, |found| *found == Type::Int), Type::Int),
        Binary::Divide | Binary::Power => of(numbers, Type::Float),
        Binary::Add if left.both(right, |found| *found == Type::Text) && !numbers => {
            Some(if unknown { Type::Any } else { Type::Text })
        }
        Binary::Add | Binary::Subtract | Binary::Multiply if numbers => Some(if unknown {
            Type::Any
        } else if *left == Type::Float || *right == Type::Float {
            Type::Float
        } else {
            Type::Int
        }),
        Binary::Add | Binary::Subtract | Binary::Multiply => None,
        Binary::Coalesce => Some(either(left.clone(), right.clone())),
    }
}

fn comparable(left: &Type, right: &Type) -> bool {
    [left, right].into_iter().any(|found| matches!(found, Type::Any | Type::Nil))
        || (left.is_number() && right.is_number())
        || left.is_like(right)
}

/// The type of what is one or the other.
fn either(one: Type, other: Type) -> Type {
    match (&one, &other) {
        (Type::Nil, _) => other,
        (_, Type::Nil) => one,
        _ if one == other => one,
        (Type::List(_), Type::List(_)) => Type::List(Box::new(Type::Any)),
        _ => Type::Any,
    }
}

/// The type of a call of a function without a predicate.
fn called(function: Function, arguments: &[Type]) -> Result<Type, String> {
    use Function as F;
    let name = function.name();
    let count = arguments.len();
    let invalid = |found: &Type| format!("invalid argument for {name} (type {found})");
    let accepts = |found: &Type, test: fn(&Type) -> bool| {
        if found.may_be(test) { Ok(()) } else { Err(invalid(found)) }
    };
    let wanted = match function {
        F::Max | F::Min | F::Mean | F::Median | F::Concat => 1..=usize::MAX,
        F::Sort => 1..=2,
        F::Get | F::Take | F::BitAnd | F::BitOr | F::BitXor | F::BitNand | F::BitShl | F::BitShr | F::BitUshr => 2..=2,
        _ => 1..=1,
    };
    if !wanted.contains(&count) {
        return Err(if count < *wanted.start() {
            format!("not enough arguments to call {name}")
        } else {
            format!("too many arguments to call {name}")
        });
    }
    let Some(first) = arguments.first() else { return Ok(Type::Any) };
    let list_of_any = || Type::List(Box::new(Type::Any));
    Ok(match function {
        F::Max | F::Min | F::Mean | F::Median => {
            for found in arguments {
                match found {
                    Type::Any | Type::List(_) => return Ok(Type::Any),
                    found => accepts(found, Type::is_number)?,
                }
            }
            first.clone()
        }
        F::Len => {
            accepts(first, |found| matches!(found, Type::Text | Type::List(_) | Type::Map))?;
            Type::Int
        }
        F::Type | F::String => Type::Text,
        F::Abs => {
            accepts(first, Type::is_number)?;
            first.clone()
        }
        F::Ceil | F::Floor | F::Round => {
            accepts(first, Type::is_number)?;
            Type::Float
        }
        F::Int | F::Float => {
            accepts(first, |found| found.is_number() || *found == Type::Text)?;
            if function == F::Int { Type::Int } else { Type::Float }
        }
        F::First | F::Last => {
            accepts(first, Type::is_list)?;
            match first {
                Type::List(inner) => (**inner).clone(),
                _ => Type::Any,
            }
        }
        F::Get => match (first, &arguments[1]) {
            (Type::Any, _) | (Type::Map, Type::Text | Type::Any) => Type::Any,
            (Type::List(inner), Type::Int | Type::Any) => (**inner).clone(),
            (of, key) => return Err(format!("cannot use {key} to get an element from {of}")),
        },
        F::Take => {
            accepts(first, Type::is_list)?;
            accepts(&arguments[1], |found| *found == Type::Int)?;
            first.clone()
        }
        F::Keys | F::Values => {
            accepts(first, |found| *found == Type::Map)?;
            list_of_any()
        }
        F::Concat | F::Reverse | F::Uniq | F::Flatten => {
            arguments.iter().try_for_each(|found| accepts(found, Type::is_list))?;
            list_of_any()
        }
        F::Sort => {
            accepts(first, Type::is_list)?;
            arguments[1..].iter().try_for_each(|found| accepts(found, |found| *found == Type::Text))?;
            list_of_any()
        }
        _ => {
            arguments.iter().try_for_each(|found| accepts(found, |found| *found == Type::Int))?;
            Type::Int
        }
    })
}
