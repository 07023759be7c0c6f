//! What a formula is made of.

use super::functions::Function;
use super::value::Value;

/// A part of a formula.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Where it stands, for errors.
    pub(super) byte: usize,
    /// How many parts are inside each other, this one included.
    pub(super) depth: usize,
}

/// What a part is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Value(Value),
    /// A trigger, or what `let` has named.
    Name(String),
    Item(Item),
    Not(Box<Node>),
    Minus(Box<Node>),
    Plus(Box<Node>),
    Binary(Binary, Box<Node>, Box<Node>),
    /// `a < b <= c`: all of them must hold.
    Comparison(Box<Node>, Vec<(Comparison, Node)>),
    /// Without a second part the condition is the result.
    Conditional(Box<Node>, Option<Box<Node>>, Box<Node>),
    Let(String, Box<Node>, Box<Node>),
    /// All are worked out; the last is the result.
    Sequence(Vec<Node>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Member {
        of: Box<Node>,
        key: Box<Node>,
        /// With `?.`: of nil it ends the [`Kind::Chain`] around it.
        optional: bool,
    },
    /// Ends as nil where a `?.` in it meets nil.
    Chain(Box<Node>),
    Slice {
        of: Box<Node>,
        from: Option<Box<Node>>,
        to: Option<Box<Node>>,
    },
    Call(Function, Vec<Node>),
}

/// What a predicate knows of the element that it is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// `#`
    Itself,
    /// `#index`
    Index,
    /// `#acc`
    Accumulated,
}

/// An operator between two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Or,
    And,
    Equal,
    Unequal,
    In,
    NotIn,
    Contains,
    StartsWith,
    EndsWith,
    Range,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Coalesce,
}

/// An operator that puts two values in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

impl Comparison {
    /// As it is written.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::More => ">",
            Self::MoreOrEqual => ">=",
        }
    }
}

impl Binary {
    /// As it is written.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::In => "in",
            Self::NotIn => "not in",
            Self::Contains => "contains",
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
            Self::Range => "..",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Power => "**",
            Self::Coalesce => "??",
        }
    }
}

impl Node {
    /// A part with the parts in it.
    pub(super) fn new(kind: Kind, byte: usize) -> Self {
        let depth = 1 + kind.depth();
        Self { kind, byte, depth }
    }
}

impl Kind {
    /// The depth of the deepest part.
    fn depth(&self) -> usize {
        let deepest = |nodes: &[Node]| nodes.iter().map(|node| node.depth).max().unwrap_or_default();
        let maybe = |node: &Option<Box<Node>>| node.as_ref().map_or(0, |node| node.depth);
        match self {
            Self::Value(_) | Self::Name(_) | Self::Item(_) => 0,
            Self::Not(of) | Self::Minus(of) | Self::Plus(of) | Self::Chain(of) => of.depth,
            Self::Binary(_, one, two) | Self::Let(_, one, two) => one.depth.max(two.depth),
            Self::Comparison(first, others) => others.iter().map(|(_, node)| node.depth).fold(first.depth, usize::max),
            Self::Conditional(condition, yes, no) => condition.depth.max(maybe(yes)).max(no.depth),
            Self::Sequence(nodes) | Self::List(nodes) | Self::Call(_, nodes) => deepest(nodes),
            Self::Map(pairs) => pairs.iter().map(|(key, value)| key.depth.max(value.depth)).max().unwrap_or_default(),
            Self::Member { of, key, .. } => of.depth.max(key.depth),
            Self::Slice { of, from, to } => of.depth.max(maybe(from)).max(maybe(to)),
        }
    }
}
