//! What a trigger's settings are: a struct with `#[derive(TriggerMetadata)]` says it once, and reading, documentation
//! and JSON schema follow from it.
//!
//! A settings struct has a [`Shape`]: a tree of [`Parameter`]s with rules about several of them. [`parse`] reads it from
//! a [`TriggerContext`], finding all faults in one go; [`page`] and [`schema`] describe it. The attributes are listed in
//! the crate `scalers-derive`.

mod nearest;
pub(crate) mod page;
mod reader;
pub(crate) mod schema;
mod value;

#[cfg(test)]
mod tests;

pub(crate) use nearest::nearest;
pub(crate) use reader::{Reader, parse};
pub(crate) use scalers_derive::{Choice, TriggerMetadata};
pub(crate) use value::{FromParameter, Number, Pairs, QueryPairs, Secret, Timeout, choose};

/// Where the value of a parameter may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The trigger's `metadata`.
    Metadata,
    /// An environment variable of the scale target's container, named by the metadata key `<parameter>FromEnv`.
    Environment,
    /// A parameter of the TriggerAuthentication.
    Authentication,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A whole number.
    Whole,
    /// A number or a Kubernetes quantity: `5`, `0.25`, `500m`.
    Number,
    /// `true` or `false`, as Go reads them.
    Boolean,
    /// A Go duration, or milliseconds.
    Duration,
    /// A URL with `http` or `https`.
    Url,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Several values between separators.
    List(&'static Kind),
    /// `name=value` between separators.
    Pairs,
    /// `name=value` between `&`, encoded as in a URL.
    QueryPairs,
}

/// One parameter of a trigger.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// The key.
    pub name: &'static str,
    /// Other names that are as good.
    pub aliases: &'static [&'static str],
    /// Old names that still work, each with what its user should know.
    pub deprecated: &'static [(&'static str, &'static str)],
    /// Where a value is looked for, in this order.
    pub sources: &'static [Origin],
    /// What is read when nothing is written.
    pub default: Option<&'static str>,
    /// Whether something must be written.
    pub required: bool,
    /// What the value looks like.
    pub kind: Kind,
    /// The value is never repeated in a message.
    pub secret: bool,
    /// Exclusive lower limit of a number.
    pub above: Option<&'static str>,
    /// Inclusive lower limit of a number.
    pub at_least: Option<&'static str>,
    /// Inclusive upper limit of a number.
    pub at_most: Option<&'static str>,
    /// Between the elements of a list, or pairs.
    pub separator: &'static str,
    /// Whether an element of a list of whole numbers may be a range, `3-7`.
    pub ranges: bool,
    /// At most one of these may be in the list.
    pub at_most_one: &'static [&'static str],
    /// Whether the value is decoded as in a query string.
    pub unescaped: bool,
    /// Meaning, for the reader of the page.
    pub doc: &'static str,
}

/// A parameter, or a struct of parameters that several types share.
#[derive(Debug, Clone, Copy)]
pub enum Entry {
    /// One parameter.
    One(&'static Parameter),
    /// The parameters of a nested struct.
    Group(&'static Shape),
}

/// All that is known about the settings of a type.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// What the type reads, for its page.
    pub intro: &'static str,
    /// The parameters.
    pub entries: &'static [Entry],
    /// Of each set, at most one may be given.
    pub exclusive: &'static [&'static [&'static str]],
    /// Of each set, at least one must be given.
    pub some_of: &'static [&'static [&'static str]],
    /// Of each pair, both must be given or none.
    pub together: &'static [(&'static str, &'static str)],
    /// Keys that are refused, and what to write instead.
    pub removed: &'static [(&'static str, &'static str)],
    /// Keys without effect, and why.
    pub ignored: &'static [(&'static str, &'static str)],
    /// Keys that are not listed belong to the trigger, too.
    pub open: bool,
}

impl Shape {
    /// This shape and those in it, outermost first.
    pub fn all(&'static self) -> Vec<&'static Shape> {
        let nested = self.entries.iter().filter_map(|entry| match entry {
            Entry::Group(shape) => Some(*shape),
            Entry::One(_) => None,
        });
        std::iter::once(self).chain(nested.flat_map(Shape::all)).collect()
    }

    /// All parameters, those of nested structs in their place.
    pub fn parameters(&'static self) -> Vec<&'static Parameter> {
        let each = self.entries.iter().flat_map(|entry| match entry {
            Entry::One(parameter) => vec![*parameter],
            Entry::Group(shape) => shape.parameters(),
        });
        each.collect()
    }
}

impl Parameter {
    /// Every name the parameter answers to, the usual one first.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let old = self.deprecated.iter().map(|(name, _)| *name);
        std::iter::once(self.name).chain(self.aliases.iter().copied()).chain(old)
    }

    /// Whether a value may come from there.
    pub fn may_come_from(&self, origin: Origin) -> bool {
        self.sources.contains(&origin)
    }
}

/// Settings that read themselves from a trigger. Derived.
pub(crate) trait TriggerMetadata: Sized {
    /// What may be written.
    const SHAPE: &'static Shape;

    /// Reads the settings; `None` when the reader has noted a problem.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
}

/// An enum whose variants are the words a user may write. Derived.
pub(crate) trait Choice: Sized {
    /// The words, in the order of the variants.
    const WORDS: &'static [&'static str];

    /// The variant of that word. Capital letters matter, as in KEDA.
    fn pick(word: &str) -> Option<Self>;
}
