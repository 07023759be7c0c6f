use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{Operator, RequirementTerm, TermError, TermProblem, labels};

/// What one label may be: a set over all strings and *absent*.
///
/// Kept canonical, so that equal sets written with the same operators compare equal: no bounds beside a finite set, no
/// excluded value that the bounds exclude anyway, nothing but the empty set when the bounds cross.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    key: String,
    values: Values,
    may_be_absent: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_values: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Values {
    /// These and no others.
    OneOf(BTreeSet<String>),
    /// All but these; with a bound, only integers within the bounds, which are inclusive.
    NoneOf {
        excluded: BTreeSet<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        least: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        most: Option<i64>,
    },
}

impl Requirement {
    /// No requirement: anything, or nothing. The identity of [`Requirement::intersect`].
    pub fn any(key: impl Into<String>) -> Self {
        Self::canonical(key.into(), all_but(BTreeSet::new(), None, None), true, None)
    }

    /// The label is there, with any value.
    pub fn exists(key: impl Into<String>) -> Self {
        Self::canonical(key.into(), all_but(BTreeSet::new(), None, None), false, None)
    }

    /// The label is not there.
    pub fn absent(key: impl Into<String>) -> Self {
        Self::canonical(key.into(), Values::OneOf(BTreeSet::new()), true, None)
    }

    /// The label is one of these. None of them: nothing satisfies it.
    pub fn one_of<V: Into<String>>(key: impl Into<String>, values: impl IntoIterator<Item = V>) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        Self::canonical(key.into(), Values::OneOf(values), false, None)
    }

    /// The label is absent or none of these.
    pub fn none_of<V: Into<String>>(key: impl Into<String>, values: impl IntoIterator<Item = V>) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        Self::canonical(key.into(), all_but(values, None, None), true, None)
    }

    /// The normalised key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How many different values must stay possible for a new node.
    pub fn min_values(&self) -> Option<u32> {
        self.min_values
    }

    /// Whether the label may be missing.
    pub fn may_be_absent(&self) -> bool {
        self.may_be_absent
    }

    /// Whether a label of this value, or a missing one, satisfies the requirement.
    pub fn allows(&self, value: Option<&str>) -> bool {
        let Some(value) = value else { return self.may_be_absent };
        match &self.values {
            Values::OneOf(values) => values.contains(value),
            Values::NoneOf { excluded, least, most } => within(value, *least, *most) && !excluded.contains(value),
        }
    }

    /// What satisfies both. The keys must be equal: another key is another label.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        debug_assert_eq!(self.key, other.key, "requirements on different labels have no intersection");
        let values = match (&self.values, &other.values) {
            (Values::OneOf(values), _) => keep_allowed(values, other),
            (_, Values::OneOf(values)) => keep_allowed(values, self),
            (
                Values::NoneOf { excluded: a, least: least_a, most: most_a },
                Values::NoneOf { excluded: b, least: least_b, most: most_b },
            ) => {
                let most = most_a.iter().chain(most_b).min().copied();
                all_but(a.union(b).cloned().collect(), (*least_a).max(*least_b), most)
            }
        };
        let min_values = self.min_values.max(other.min_values);
        Self::canonical(self.key.clone(), values, self.may_be_absent && other.may_be_absent, min_values)
    }

    /// Whether nothing satisfies it, not even absence.
    pub fn is_empty(&self) -> bool {
        !self.may_be_absent && matches!(&self.values, Values::OneOf(values) if values.is_empty())
    }

    /// Whether everything satisfies it.
    pub fn is_any(&self) -> bool {
        self.may_be_absent
            && matches!(&self.values, Values::NoneOf { excluded, least: None, most: None } if excluded.is_empty())
    }

    /// Whether something satisfies both.
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.may_be_absent && other.may_be_absent {
            return true;
        }
        match (&self.values, &other.values) {
            (Values::OneOf(values), _) => values.iter().any(|value| other.allows(Some(value))),
            (_, Values::OneOf(values)) => values.iter().any(|value| self.allows(Some(value))),
            _ => !self.intersect(other).is_empty(),
        }
    }

    /// The values, when they are finitely many.
    pub fn finite(&self) -> Option<&BTreeSet<String>> {
        match &self.values {
            Values::OneOf(values) => Some(values),
            Values::NoneOf { .. } => None,
        }
    }

    /// The one value it leaves, if it leaves one and the label must be there.
    pub fn single(&self) -> Option<&str> {
        match &self.values {
            Values::OneOf(values) if values.len() == 1 && !self.may_be_absent => values.first().map(String::as_str),
            _ => None,
        }
    }

    /// Some value that satisfies it, always the same: the least of a finite set, else the least integer from zero or the
    /// bound. `None` when only absence does.
    pub fn example(&self) -> Option<String> {
        match &self.values {
            Values::OneOf(values) => values.first().cloned(),
            Values::NoneOf { excluded, least, most } => {
                let from = least.unwrap_or_else(|| most.map_or(0, |most| most.min(0)));
                // One more candidate than there are exclusions: one of them is free, if the bounds leave it.
                (from..=most.unwrap_or(i64::MAX))
                    .take(excluded.len() + 1)
                    .map(|number| number.to_string())
                    .find(|value| !excluded.contains(value))
            }
        }
    }

    /// The same requirement asking for at least so many possible values.
    #[must_use]
    pub fn with_min_values(mut self, min_values: Option<u32>) -> Self {
        self.min_values = min_values;
        self
    }

    /// Terms for a manifest that together mean this; none when it means anything.
    pub fn to_terms(&self) -> Vec<RequirementTerm> {
        let term = |operator, values: Vec<String>| RequirementTerm {
            key: self.key.clone(),
            operator,
            values,
            min_values: None,
        };
        let mut terms = match &self.values {
            Values::OneOf(values) if !values.is_empty() => vec![term(Operator::In, values.iter().cloned().collect())],
            Values::OneOf(_) if self.may_be_absent => vec![term(Operator::DoesNotExist, Vec::new())],
            Values::OneOf(_) => vec![term(Operator::Exists, Vec::new()), term(Operator::DoesNotExist, Vec::new())],
            Values::NoneOf { excluded, least, most } => {
                let mut terms = Vec::new();
                // The operators every version knows, where the bound can be written with them.
                if let Some(least) = *least {
                    let above = (least > 0).then(|| term(Operator::Gt, vec![(least - 1).to_string()]));
                    terms.push(above.unwrap_or_else(|| term(Operator::Gte, vec![least.to_string()])));
                }
                if let Some(most) = *most {
                    let below = most.checked_add(1).map(|above| term(Operator::Lt, vec![above.to_string()]));
                    terms.push(below.unwrap_or_else(|| term(Operator::Lte, vec![most.to_string()])));
                }
                if !excluded.is_empty() {
                    terms.push(term(Operator::NotIn, excluded.iter().cloned().collect()));
                }
                if !self.may_be_absent && terms.iter().all(|term| term.operator == Operator::NotIn) {
                    terms.push(term(Operator::Exists, Vec::new()));
                }
                terms
            }
        };
        if let Some(first) = terms.first_mut() {
            first.min_values = self.min_values;
        }
        terms
    }

    // INVARIANT: every requirement is made here, so that `PartialEq` on the fields is equality of sets.
    fn canonical(key: String, values: Values, may_be_absent: bool, min_values: Option<u32>) -> Self {
        let values = match values {
            Values::NoneOf { least: Some(least), most: Some(most), .. } if least > most => {
                Values::OneOf(BTreeSet::new())
            }
            Values::NoneOf { mut excluded, least, most } => {
                excluded.retain(|value| within(value, least, most));
                Values::NoneOf { excluded, least, most }
            }
            finite @ Values::OneOf(_) => finite,
        };
        Self { key, values, may_be_absent, min_values }
    }
}

fn all_but(excluded: BTreeSet<String>, least: Option<i64>, most: Option<i64>) -> Values {
    Values::NoneOf { excluded, least, most }
}

fn keep_allowed(values: &BTreeSet<String>, by: &Requirement) -> Values {
    Values::OneOf(values.iter().filter(|value| by.allows(Some(value))).cloned().collect())
}

fn within(value: &str, least: Option<i64>, most: Option<i64>) -> bool {
    if least.is_none() && most.is_none() {
        return true;
    }
    value
        .parse()
        .is_ok_and(|number: i64| least.is_none_or(|least| least <= number) && most.is_none_or(|most| number <= most))
}

/// Checks a term once; what comes out has a meaning.
impl TryFrom<&RequirementTerm> for Requirement {
    type Error = TermError;

    fn try_from(term: &RequirementTerm) -> Result<Self, Self::Error> {
        let error = |problem| TermError { key: term.key.clone(), problem };
        let key = labels::normalize(&term.key).to_owned();
        // A node's name follows other rules than labels and their values, and may be longer.
        let is_label = key != labels::NODE_NAME;
        if let Some(why) = labels::problem_with_key(&key).filter(|_| is_label) {
            return Err(error(TermProblem::Key(why)));
        }
        if matches!(term.operator, Operator::In | Operator::NotIn)
            && let Some(why) =
                term.values.iter().find_map(|value| labels::problem_with_value(value)).filter(|_| is_label)
        {
            return Err(error(TermProblem::Value(why)));
        }
        let named: BTreeSet<String> = term.values.iter().cloned().collect();
        let integer = || match term.values.as_slice() {
            [value] => value.parse().ok().filter(|number: &i64| *number >= 0),
            _ => None,
        };
        let bound = || integer().ok_or_else(|| error(TermProblem::NotOneInteger(term.operator)));
        let range = |least, most| all_but(BTreeSet::new(), least, most);
        // Nothing is above the largest integer.
        let never = || Values::OneOf(BTreeSet::new());
        let (values, may_be_absent) = match term.operator {
            Operator::In | Operator::NotIn if named.is_empty() => {
                return Err(error(TermProblem::NoValues(term.operator)));
            }
            Operator::Exists | Operator::DoesNotExist if !named.is_empty() => {
                return Err(error(TermProblem::Values(term.operator)));
            }
            Operator::In => (Values::OneOf(named), false),
            Operator::NotIn => (all_but(named, None, None), true),
            Operator::Exists => (range(None, None), false),
            Operator::DoesNotExist => (Values::OneOf(named), true),
            Operator::Gt => (bound()?.checked_add(1).map_or_else(never, |least| range(Some(least), None)), false),
            Operator::Lt => (range(None, Some(bound()? - 1)), false),
            Operator::Gte => (range(Some(bound()?), None), false),
            Operator::Lte => (range(None, Some(bound()?)), false),
        };
        match term.min_values {
            Some(least) if !(1..=50).contains(&least) => return Err(error(TermProblem::MinValuesRange)),
            Some(least) if term.operator == Operator::In && (least as usize) > term.values.len() => {
                return Err(error(TermProblem::TooFewValues { min_values: least, values: term.values.len() }));
            }
            _ => {}
        }
        Ok(Self::canonical(key, values, may_be_absent, term.min_values))
    }
}

/// Most values that are listed in full, and how many are listed of more: all types of a region fit in no event.
const LISTED_MAX: usize = 20;
const LISTED: usize = 10;

/// `zone in [a, b]`, `cpu from 4 to 16 and not [7]`, `team absent or not [x]`.
impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &BTreeSet<String>| {
            let all = values.len() <= LISTED_MAX;
            let shown = if all { LISTED_MAX } else { LISTED };
            let more = if all { String::new() } else { format!(", and {} more", values.len() - LISTED) };
            values.iter().take(shown).map(String::as_str).collect::<Vec<_>>().join(", ") + &more
        };
        f.write_str(&self.key)?;
        match &self.values {
            Values::OneOf(values) if values.is_empty() => {
                f.write_str(if self.may_be_absent { " absent" } else { " impossible" })?;
            }
            Values::OneOf(values) => write!(f, " in [{}]", list(values))?,
            Values::NoneOf { excluded, least, most } => {
                match (least, most) {
                    (Some(least), Some(most)) => write!(f, " from {least} to {most}")?,
                    (Some(least), None) => write!(f, " at least {least}")?,
                    (None, Some(most)) => write!(f, " at most {most}")?,
                    (None, None) if self.may_be_absent && excluded.is_empty() => f.write_str(" anything")?,
                    (None, None) if self.may_be_absent => write!(f, " not in [{}]", list(excluded))?,
                    (None, None) => f.write_str(" present")?,
                }
                let said = self.may_be_absent && least.is_none() && most.is_none();
                if !said && !excluded.is_empty() {
                    write!(f, " and not in [{}]", list(excluded))?;
                }
            }
        }
        self.min_values.map_or(Ok(()), |least| write!(f, " (at least {least} values)"))
    }
}

#[cfg(test)]
pub(crate) mod tests;
