//! The grammar of expr-lang 1.17 (`parser/parser.go`).

use super::functions::{Argument, Function};
use super::operators::{NOT, SIGN, binary, comparison, literal, precedence};
use super::token::{Kind as T, Token, tokens};
use super::tree::{Binary, Item, Kind, Node};
use super::value::Value;
use super::{DEPTH_MAX, Fault};

/// Reads a formula.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, predicates: 0, nesting: 0 };
    let node = parser.sequence()?;
    if *parser.kind() != T::End {
        return Err(parser.unexpected());
    }
    Ok(node)
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    next: usize,
    /// Predicates that are open: `#` has a meaning only in one.
    predicates: usize,
    /// Expressions that are open.
    nesting: usize,
}

type Parsed = Result<Node, Fault>;

impl<'a> Parser<'a> {
    fn kind(&self) -> &T<'a> {
        &self.tokens[self.next].kind
    }

    fn byte(&self) -> usize {
        self.tokens[self.next].byte
    }

    /// Goes on to the next token, but never past the end.
    fn advance(&mut self) {
        self.next = (self.next + 1).min(self.tokens.len() - 1);
    }

    fn operator(&self) -> Option<&'a str> {
        match self.kind() {
            T::Operator(operator) => Some(operator),
            _ => None,
        }
    }

    /// Takes the token, if it is this one.
    fn take(&mut self, wanted: &T<'_>) -> bool {
        let found = self.kind() == wanted;
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, wanted: &T<'_>) -> Result<(), Fault> {
        if self.take(wanted) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn name(&mut self) -> Result<&'a str, Fault> {
        let T::Name(name) = *self.kind() else { return Err(self.unexpected()) };
        self.advance();
        Ok(name)
    }

    fn fault(&self, what: impl Into<String>) -> Fault {
        Fault { what: what.into(), byte: self.byte() }
    }

    fn unexpected(&self) -> Fault {
        self.fault(match self.kind() {
            T::Name(name) => format!("unexpected token Identifier({name:?})"),
            T::Number(number) => format!("unexpected token Number({number:?})"),
            T::Text(text) => format!("unexpected token String({text:?})"),
            T::Bracket(bracket) => format!("unexpected token Bracket({:?})", bracket.to_string()),
            T::Operator(operator) => format!("unexpected token Operator({operator:?})"),
            T::End => "unexpected token EOF".to_owned(),
        })
    }

    fn sequence(&mut self) -> Parsed {
        let byte = self.byte();
        let mut nodes = vec![self.expression(0)?];
        while self.take(&T::Operator(";")) && *self.kind() != T::End {
            nodes.push(self.expression(0)?);
        }
        if nodes.len() > 1 { part(Kind::Sequence(nodes), byte) } else { Ok(nodes.remove(0)) }
    }

    /// An expression of operators that bind at least as tight as this.
    fn expression(&mut self, least: u16) -> Parsed {
        if self.nesting >= DEPTH_MAX {
            return Err(too_deep(self.byte()));
        }
        self.nesting += 1;
        let node = match self.operator() {
            Some("let") if least == 0 => self.declaration(),
            Some("if") if least == 0 => self.branches(),
            _ => self.operators(least),
        };
        self.nesting -= 1;
        node
    }

    fn operators(&mut self, least: u16) -> Parsed {
        let mut left = self.primary()?;
        let mut before = "";
        while let Some(mut operator) = self.operator() {
            let negated = operator == "not";
            if negated {
                let after = self.tokens.get(self.next + 1).map(|token| &token.kind);
                let Some(T::Operator(word @ ("contains" | "matches" | "startsWith" | "endsWith" | "in"))) = after
                else {
                    self.advance();
                    return Err(self.unexpected());
                };
                operator = word;
            }
            let Some(tight) = precedence(operator).filter(|tight| *tight >= least) else { break };
            if negated {
                self.advance();
            }
            let byte = self.byte();
            self.advance();
            left = match operator {
                "|" => {
                    let byte = self.byte();
                    let name = self.name()?;
                    self.call(name, byte, vec![left])?
                }
                _ if before == "??" && operator != "??" => {
                    let what = format!(
                        "Operator ({operator}) and coalesce expressions (??) cannot be mixed. Wrap either by parentheses."
                    );
                    return Err(Fault { what, byte });
                }
                "matches" => {
                    let what = "matches cannot be used in a formula: it reckons with numbers, not with texts";
                    return Err(Fault { what: what.to_owned(), byte });
                }
                _ if comparison(operator).is_some() => self.comparisons(left, operator, byte, tight)?,
                _ => {
                    let right = self.expression(if matches!(operator, "**" | "^") { tight } else { tight + 1 })?;
                    let Some(kind) = binary(operator) else { return Err(self.unexpected()) };
                    combined(kind, negated, left, right, byte)?
                }
            };
            before = operator;
        }
        if least == 0 { self.conditional(left) } else { Ok(left) }
    }

    fn comparisons(&mut self, left: Node, operator: &str, byte: usize, tight: u16) -> Parsed {
        let mut others = Vec::new();
        let mut next = comparison(operator);
        while let Some(order) = next {
            others.push((order, self.expression(tight + 1)?));
            next = self.operator().and_then(comparison);
            if next.is_some() {
                self.advance();
            }
        }
        part(Kind::Comparison(Box::new(left), others), byte)
    }

    /// `let x = value; body`
    fn declaration(&mut self) -> Parsed {
        self.advance();
        let byte = self.byte();
        let name = self.name()?.to_owned();
        self.expect(&T::Operator("="))?;
        let value = Box::new(self.expression(0)?);
        self.expect(&T::Operator(";"))?;
        let body = Box::new(self.sequence()?);
        part(Kind::Let(name, value, body), byte)
    }

    /// `if condition { yes } else { no }`
    fn branches(&mut self) -> Parsed {
        let byte = self.byte();
        self.advance();
        let condition = Box::new(self.expression(0)?);
        let yes = Some(Box::new(self.block()?));
        self.expect(&T::Operator("else"))?;
        let no = Box::new(if self.operator() == Some("if") { self.expression(0)? } else { self.block()? });
        part(Kind::Conditional(condition, yes, no), byte)
    }

    fn block(&mut self) -> Parsed {
        self.expect(&T::Bracket('{'))?;
        let node = self.sequence()?;
        self.expect(&T::Bracket('}'))?;
        Ok(node)
    }

    /// `condition ? yes : no`, and `condition ?: no`
    fn conditional(&mut self, mut node: Node) -> Parsed {
        while self.take(&T::Operator("?")) {
            let byte = node.byte;
            let yes = if self.operator() == Some(":") { None } else { Some(Box::new(self.expression(0)?)) };
            self.expect(&T::Operator(":"))?;
            let no = Box::new(self.expression(0)?);
            node = part(Kind::Conditional(Box::new(node), yes, no), byte)?;
        }
        Ok(node)
    }

    fn primary(&mut self) -> Parsed {
        let byte = self.byte();
        if let Some(operator @ ("not" | "!" | "-" | "+")) = self.operator() {
            self.advance();
            let (tight, kind): (u16, fn(Box<Node>) -> Kind) = match operator {
                "-" => (SIGN, Kind::Minus),
                "+" => (SIGN, Kind::Plus),
                _ => (NOT, Kind::Not),
            };
            let of = Box::new(self.expression(tight)?);
            let node = part(kind(of), byte)?;
            return self.postfix(node);
        }
        if self.take(&T::Bracket('(')) {
            let node = self.sequence()?;
            self.expect(&T::Bracket(')'))?;
            return self.postfix(node);
        }
        if self.predicates > 0 && matches!(self.operator(), Some("#" | ".")) {
            let item = self.item()?;
            let node = part(Kind::Item(item), byte)?;
            return self.postfix(node);
        }
        self.secondary()
    }

    /// `#`, `#index`, `#acc`, or the `.` of `.x`, which is short for `#.x`.
    fn item(&mut self) -> Result<Item, Fault> {
        if !self.take(&T::Operator("#")) {
            return Ok(Item::Itself);
        }
        let item = match *self.kind() {
            T::Name("index") => Item::Index,
            T::Name("acc") => Item::Accumulated,
            T::Name(name) => return Err(self.fault(format!("unknown pointer #{name}"))),
            _ => return Ok(Item::Itself),
        };
        self.advance();
        Ok(item)
    }

    fn secondary(&mut self) -> Parsed {
        let byte = self.byte();
        let node = match self.kind().clone() {
            T::Name(name) => {
                self.advance();
                let value = match name {
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    "nil" => Value::Nil,
                    _ if *self.kind() == T::Bracket('(') => {
                        let call = self.call(name, byte, Vec::new())?;
                        return self.postfix(call);
                    }
                    _ => {
                        let node = part(Kind::Name(name.to_owned()), byte)?;
                        return self.postfix(node);
                    }
                };
                return part(Kind::Value(value), byte);
            }
            T::Number(number) => {
                let value = literal(number).map_err(|what| self.fault(what))?;
                self.advance();
                return part(Kind::Value(value), byte);
            }
            T::Text(text) => {
                self.advance();
                part(Kind::Value(Value::Text(text.into())), byte)?
            }
            T::Bracket('[') => {
                self.advance();
                let nodes = self.list(']')?;
                part(Kind::List(nodes), byte)?
            }
            T::Bracket('{') => {
                self.advance();
                let pairs = self.pairs()?;
                part(Kind::Map(pairs), byte)?
            }
            _ => return Err(self.unexpected()),
        };
        self.postfix(node)
    }

    /// Expressions with commas between, up to a bracket; a comma may follow the last.
    fn list(&mut self, end: char) -> Result<Vec<Node>, Fault> {
        let mut nodes = Vec::new();
        while !self.take(&T::Bracket(end)) {
            if !nodes.is_empty() {
                self.expect(&T::Operator(","))?;
                if self.take(&T::Bracket(end)) {
                    break;
                }
            }
            nodes.push(self.expression(0)?);
        }
        Ok(nodes)
    }

    fn pairs(&mut self) -> Result<Vec<(Node, Node)>, Fault> {
        let mut pairs = Vec::new();
        while !self.take(&T::Bracket('}')) {
            if !pairs.is_empty() {
                self.expect(&T::Operator(","))?;
                if self.take(&T::Bracket('}')) {
                    break;
                }
            }
            let byte = self.byte();
            let key = match self.kind().clone() {
                T::Name(key) | T::Number(key) => Some(Value::Text(key.into())),
                T::Text(key) => Some(Value::Text(key.into())),
                T::Bracket('(') => None,
                _ => {
                    let what = "a map key must be a quoted string, a number, a identifier, or an expression enclosed in \
                                parentheses";
                    return Err(self.fault(what));
                }
            };
            let key = match key {
                Some(key) => {
                    self.advance();
                    part(Kind::Value(key), byte)?
                }
                None => self.expression(0)?,
            };
            self.expect(&T::Operator(":"))?;
            pairs.push((key, self.expression(0)?));
        }
        Ok(pairs)
    }

    /// The call of a function, from its bracket on; what stands before a `|` is its first argument already.
    fn call(&mut self, name: &str, byte: usize, mut arguments: Vec<Node>) -> Parsed {
        let function = Function::of(name).map_err(|what| Fault { what, byte })?;
        self.expect(&T::Bracket('('))?;
        let Some(shape) = function.predicate_shape() else {
            arguments.extend(self.list(')')?);
            return part(Kind::Call(function, arguments), byte);
        };
        let wanted = &shape[arguments.len().min(shape.len())..];
        for (index, argument) in wanted.iter().enumerate() {
            if *self.kind() == T::Bracket(')') {
                if argument.is_optional() {
                    break;
                }
                return Err(self.fault(format!("expected at least {} arguments", wanted.len())));
            }
            if index > 0 {
                self.expect(&T::Operator(","))?;
            }
            arguments.push(match argument {
                Argument::Predicate | Argument::OptionalPredicate => self.predicate()?,
                Argument::Value | Argument::OptionalValue => self.expression(0)?,
            });
        }
        self.take(&T::Operator(","));
        self.expect(&T::Bracket(')'))?;
        part(Kind::Call(function, arguments), byte)
    }

    fn predicate(&mut self) -> Parsed {
        self.predicates += 1;
        let node = if *self.kind() == T::Bracket('{') {
            self.block()?
        } else {
            let node = self.expression(0)?;
            if self.operator() == Some(";") {
                return Err(self.fault("wrap predicate with brackets { and }"));
            }
            node
        };
        self.predicates -= 1;
        Ok(node)
    }

    fn postfix(&mut self, mut node: Node) -> Parsed {
        loop {
            let byte = self.byte();
            let optional = self.operator() == Some("?.");
            if optional || self.operator() == Some(".") {
                self.advance();
                if optional && self.take(&T::Bracket('[')) {
                    node = self.index(node, true, byte)?;
                    continue;
                }
                let key = match *self.kind() {
                    T::Name(name) => name,
                    T::Operator(word) if word.starts_with(|c: char| c.is_alphabetic()) => word,
                    _ => return Err(self.fault("expected name")),
                };
                let at = self.byte();
                self.advance();
                if *self.kind() == T::Bracket('(') {
                    return Err(Fault { what: format!("the method {key} cannot be used in a formula"), byte: at });
                }
                let (inner, chained) = match node {
                    Node { kind: Kind::Chain(inner), .. } => (*inner, true),
                    other => (other, optional),
                };
                let key = part(Kind::Value(Value::Text(key.into())), at)?;
                node = part(Kind::Member { of: Box::new(inner), key: Box::new(key), optional }, at)?;
                if chained {
                    node = part(Kind::Chain(Box::new(node)), at)?;
                }
            } else if self.take(&T::Bracket('[')) {
                node = self.index(node, false, byte)?;
            } else {
                return Ok(node);
            }
        }
    }

    /// `[i]` or `[from:to]`, after its bracket.
    fn index(&mut self, of: Node, optional: bool, byte: usize) -> Parsed {
        let of = Box::new(of);
        let from = if self.operator() == Some(":") { None } else { Some(Box::new(self.expression(0)?)) };
        let node = if self.take(&T::Operator(":")) {
            let open = *self.kind() == T::Bracket(']');
            let to = if open { None } else { Some(Box::new(self.expression(0)?)) };
            part(Kind::Slice { of, from, to }, byte)?
        } else if let Some(key) = from {
            let member = part(Kind::Member { of, key, optional }, byte)?;
            if optional { part(Kind::Chain(Box::new(member)), byte)? } else { member }
        } else {
            return Err(self.unexpected());
        };
        self.expect(&T::Bracket(']'))?;
        Ok(node)
    }
}

fn combined(kind: Binary, negated: bool, left: Node, right: Node, byte: usize) -> Parsed {
    let (left, right) = (Box::new(left), Box::new(right));
    match (kind, negated) {
        (Binary::In, true) => part(Kind::Binary(Binary::NotIn, left, right), byte),
        (_, true) => {
            let inner = part(Kind::Binary(kind, left, right), byte)?;
            part(Kind::Not(Box::new(inner)), byte)
        }
        (_, false) => part(Kind::Binary(kind, left, right), byte),
    }
}

/// The part, if it is not too deep.
fn part(kind: Kind, byte: usize) -> Parsed {
    let node = Node::new(kind, byte);
    if node.depth > DEPTH_MAX { Err(too_deep(byte)) } else { Ok(node) }
}

fn too_deep(byte: usize) -> Fault {
    Fault { what: format!("the formula nests deeper than {DEPTH_MAX} levels"), byte }
}
