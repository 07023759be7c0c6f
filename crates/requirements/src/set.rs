use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Requirement, RequirementTerm, TermError, labels};

/// Everything wanted of a node's labels: at most one [`Requirement`] per key, all of which must hold.
///
/// A key that is not named may be anything. As JSON: the list of its requirements. Cheap to clone: every planned node has some,
/// and most are those of its pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<Requirement>", into = "Vec<Requirement>")]
#[expect(
    clippy::rc_buffer,
    reason = "they are added one by one, where nobody else has them without copying the others"
)]
pub struct Requirements(
    /// In the order of the keys.
    Arc<Vec<Requirement>>,
);

/// A key on which what is wanted and what there is have nothing in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incompatible {
    /// The label.
    pub key: String,
    /// What is wanted of it.
    pub wanted: Requirement,
    /// What it can be; `None` when nothing defines it.
    pub has: Option<Requirement>,
}

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.has {
            Some(has) => write!(f, "wants {}, has {has}", self.wanted),
            None => write!(f, "wants {}, which nothing defines", self.wanted),
        }
    }
}

impl Requirements {
    /// No requirement at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Exactly these labels, their keys by their present names.
    pub fn from_labels(labels: &BTreeMap<String, String>) -> Self {
        let one = |(key, value): (&String, &String)| Requirement::one_of(labels::normalize(key), [value.as_str()]);
        labels.iter().map(one).collect()
    }

    /// Requires this too.
    pub fn add(&mut self, requirement: Requirement) {
        match self.position(requirement.key()) {
            Ok(position) => {
                let both = self.0[position].intersect(&requirement);
                if both != self.0[position] {
                    Arc::make_mut(&mut self.0)[position] = both;
                }
            }
            Err(position) => self.insert(position, requirement),
        }
    }

    fn insert(&mut self, position: usize, requirement: Requirement) {
        let all = Arc::make_mut(&mut self.0);
        all.reserve_exact(1);
        all.insert(position, requirement);
    }

    /// Where a key is, or where it would be.
    fn position(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|requirement| requirement.key().cmp(key))
    }

    /// Requires all of these too.
    pub fn add_all(&mut self, other: &Self) {
        for requirement in other.iter() {
            self.add(requirement.clone());
        }
    }

    /// Requires this of its key, whatever was required before.
    pub fn replace(&mut self, requirement: Requirement) {
        match self.position(requirement.key()) {
            Ok(position) => Arc::make_mut(&mut self.0)[position] = requirement,
            Err(position) => self.insert(position, requirement),
        }
    }

    /// No longer requires anything of the key.
    pub fn remove(&mut self, key: &str) -> Option<Requirement> {
        let position = self.position(key).ok()?;
        Some(Arc::make_mut(&mut self.0).remove(position))
    }

    /// What satisfies both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.add_all(other);
        both
    }

    /// Whether a *new* node described by these requirements can have all that is wanted.
    ///
    /// A key that is not described: a well-known one may still become anything, any other will be absent.
    pub fn compatible(&self, wanted: &Self) -> Result<(), Vec<Incompatible>> {
        self.check(wanted, labels::is_well_known)
    }

    /// Whether an *existing* node of these labels has all that is wanted: a key that is not described is absent.
    pub fn strictly_compatible(&self, wanted: &Self) -> Result<(), Vec<Incompatible>> {
        self.check(wanted, |_| false)
    }

    fn check(&self, wanted: &Self, may_become_anything: impl Fn(&str) -> bool) -> Result<(), Vec<Incompatible>> {
        let conflict = |wanted: &Requirement| {
            let has = self.get(wanted.key());
            let fine = match has {
                Some(has) => has.overlaps(wanted),
                None => wanted.may_be_absent() || (may_become_anything(wanted.key()) && !wanted.is_empty()),
            };
            (!fine).then(|| Incompatible { key: wanted.key().to_owned(), wanted: wanted.clone(), has: has.cloned() })
        };
        let conflicts: Vec<_> = wanted.iter().filter_map(conflict).collect();
        if conflicts.is_empty() { Ok(()) } else { Err(conflicts) }
    }

    /// Whether a node with these labels satisfies all.
    pub fn allow(&self, labels: &BTreeMap<String, String>) -> bool {
        self.iter().all(|requirement| requirement.allows(labels.get(requirement.key()).map(String::as_str)))
    }

    /// The requirement on a key, by its present name.
    pub fn get(&self, key: &str) -> Option<&Requirement> {
        self.position(key).ok().map(|position| &self.0[position])
    }

    /// The labels that are already decided: those with a single possible value.
    pub fn single_values(&self) -> BTreeMap<String, String> {
        self.iter().filter_map(|one| one.single().map(|value| (one.key().to_owned(), value.to_owned()))).collect()
    }

    /// The first requirement that nothing satisfies.
    pub fn first_empty(&self) -> Option<&Requirement> {
        self.iter().find(|requirement| requirement.is_empty())
    }

    /// The requirements, by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Requirement> {
        self.0.iter()
    }

    /// Whether nothing is required.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Terms for a manifest that together mean these.
    pub fn to_terms(&self) -> Vec<RequirementTerm> {
        self.iter().flat_map(Requirement::to_terms).collect()
    }
}

impl TryFrom<&[RequirementTerm]> for Requirements {
    type Error = TermError;

    fn try_from(terms: &[RequirementTerm]) -> Result<Self, Self::Error> {
        terms.iter().map(Requirement::try_from).collect()
    }
}

impl FromIterator<Requirement> for Requirements {
    fn from_iter<I: IntoIterator<Item = Requirement>>(requirements: I) -> Self {
        let mut all = Self::new();
        requirements.into_iter().for_each(|requirement| all.add(requirement));
        all
    }
}

impl From<Vec<Requirement>> for Requirements {
    fn from(requirements: Vec<Requirement>) -> Self {
        requirements.into_iter().collect()
    }
}

impl From<Requirements> for Vec<Requirement> {
    fn from(requirements: Requirements) -> Self {
        Arc::unwrap_or_clone(requirements.0)
    }
}

/// All of them, separated by commas; `anything` when empty.
impl fmt::Display for Requirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("anything");
        }
        for (index, requirement) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;
    use crate::Operator;

    fn wants(terms: &[(&str, Operator, &[&str])]) -> Requirements {
        let term = |(key, operator, values): &(&str, Operator, &[&str])| {
            RequirementTerm::new(*key, *operator, values.iter().copied())
        };
        Requirements::try_from(terms.iter().map(term).collect::<Vec<_>>().as_slice()).unwrap()
    }

    fn check(has: &Requirements, wanted: &Requirements, expected: &Expect) {
        let text = match has.compatible(wanted) {
            Ok(()) => "fine".to_owned(),
            Err(conflicts) => conflicts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn a_custom_label_must_be_defined_and_a_well_known_one_need_not() {
        let nothing = Requirements::new();
        check(
            &nothing,
            &wants(&[("team", Operator::In, &["a"])]),
            &expect!["wants team in [a], which nothing defines"],
        );
        check(
            &nothing,
            &wants(&[("team", Operator::Exists, &[])]),
            &expect!["wants team present, which nothing defines"],
        );
        check(&nothing, &wants(&[("team", Operator::NotIn, &["a"])]), &expect!["fine"]);
        check(&nothing, &wants(&[("team", Operator::DoesNotExist, &[])]), &expect!["fine"]);
        check(&nothing, &wants(&[(labels::ZONE, Operator::In, &["a"])]), &expect!["fine"]);
    }

    #[test]
    fn an_existing_node_has_no_more_labels_than_it_shows() {
        let wanted = wants(&[(labels::ZONE, Operator::In, &["a"])]);
        assert!(Requirements::new().strictly_compatible(&wanted).is_err());
        let labels = BTreeMap::from([("failure-domain.beta.kubernetes.io/zone".to_owned(), "a".to_owned())]);
        assert_eq!(Requirements::from_labels(&labels).strictly_compatible(&wanted), Ok(()));
    }

    #[test]
    fn a_conflict_names_both_sides() {
        let pool = wants(&[("kubernetes.io/arch", Operator::In, &["amd64"])]);
        let pod = wants(&[("beta.kubernetes.io/arch", Operator::In, &["arm64"])]);
        check(&pool, &pod, &expect!["wants kubernetes.io/arch in [arm64], has kubernetes.io/arch in [amd64]"]);
    }

    #[test]
    fn two_refusals_go_together() {
        let a = wants(&[("team", Operator::DoesNotExist, &[])]);
        let b = wants(&[("team", Operator::NotIn, &["x"])]);
        check(&a, &b, &expect!["fine"]);
    }

    #[test]
    fn an_impossible_wish_is_never_granted() {
        let impossible = wants(&[(labels::ZONE, Operator::In, &["a"]), (labels::ZONE, Operator::In, &["b"])]);
        check(
            &Requirements::new(),
            &impossible,
            &expect!["wants topology.kubernetes.io/zone impossible, which nothing defines"],
        );
    }

    proptest! {
        #[test]
        fn an_intersection_of_sets_allows_the_labels_that_both_allow(
            a in crate::requirement::tests::requirements(),
            b in crate::requirement::tests::requirements(),
            labels in proptest::collection::btree_map("[ab]", "[ab0-9]", 0..3),
        ) {
            prop_assert_eq!(a.intersect(&b).allow(&labels), a.allow(&labels) && b.allow(&labels));
        }

        #[test]
        fn labels_are_compatible_exactly_when_they_are_allowed(
            wanted in crate::requirement::tests::requirements(),
            labels in proptest::collection::btree_map("[ab]", "[ab0-9]", 0..3),
        ) {
            let has = Requirements::from_labels(&labels);
            prop_assert_eq!(has.strictly_compatible(&wanted).is_ok(), wanted.allow(&labels));
        }

        #[test]
        fn requirements_survive_json(a in crate::requirement::tests::requirements()) {
            let text = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(serde_json::from_str::<Requirements>(&text).unwrap(), a);
        }
    }
}
