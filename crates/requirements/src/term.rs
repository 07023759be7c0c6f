use std::fmt;

use serde::{Deserialize, Serialize};

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operator {
    /// One of the values.
    In,
    /// None of the values; absent is fine.
    NotIn,
    /// There, whatever the value.
    Exists,
    /// Not there.
    DoesNotExist,
    /// An integer above the value.
    Gt,
    /// An integer below the value.
    Lt,
    /// An integer of at least the value.
    Gte,
    /// An integer of at most the value.
    Lte,
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A requirement as a manifest writes it; not checked yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequirementTerm {
    /// The label's key, possibly by an older name.
    pub key: String,
    /// How to compare.
    pub operator: Operator,
    /// What to compare with: at least one for `In` and `NotIn`, none for `Exists` and `DoesNotExist`, one integer else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// How many different values must stay possible for a new node; NodePools only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_values: Option<u32>,
}

impl RequirementTerm {
    /// A term without `minValues`.
    pub fn new<V: Into<String>>(
        key: impl Into<String>,
        operator: Operator,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        Self { key: key.into(), operator, values: values.into_iter().map(Into::into).collect(), min_values: None }
    }
}

/// `zone In [a, b]`
impl fmt::Display for RequirementTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.operator)?;
        if !self.values.is_empty() {
            write!(f, " [{}]", self.values.join(", "))?;
        }
        self.min_values.map_or(Ok(()), |least| write!(f, " (at least {least} values)"))
    }
}

/// A term that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("requirement on {key:?}: {problem}")]
pub struct TermError {
    /// The key as written.
    pub key: String,
    /// What is wrong.
    pub problem: TermProblem,
}

/// What can be wrong with a term.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermProblem {
    /// The key cannot be a label's.
    #[error("the key is not a label key: {0}")]
    Key(String),
    /// A value cannot be a label's.
    #[error("the value {0}")]
    Value(String),
    /// `In` or `NotIn` without values.
    #[error("{0} needs at least one value")]
    NoValues(Operator),
    /// `Exists` or `DoesNotExist` with values.
    #[error("{0} takes no values")]
    Values(Operator),
    /// A comparison without exactly one integer that is not negative.
    #[error("{0} needs exactly one integer of at least 0")]
    NotOneInteger(Operator),
    /// `minValues` of zero or above fifty, Karpenter's bound.
    #[error("minValues must be from 1 to 50")]
    MinValuesRange,
    /// `In` names fewer values than must stay possible.
    #[error("minValues is {min_values} but only {values} values are named")]
    TooFewValues {
        /// What must stay possible.
        min_values: u32,
        /// What is named.
        values: usize,
    },
}
