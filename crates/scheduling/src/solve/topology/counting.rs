//! Which spreads count the pods of a new node, as far as that depends on what it will be.
//!
//! With `nodeAffinityPolicy: Honor` a spread counts on the nodes that its own pod may be on. A node that may still become one of
//! these or another would make its counts uncertain. So whether it does is decided before the first pod that may be counted, and
//! holds whatever is bought: by a requirement where the spread counts there, by leaving out choices where it does not.

use std::collections::BTreeMap;

use requirements::Requirements;

use super::{
    super::{bits::Bits, bundles::Seen, relations::Place, template::Template},
    Topology,
};

/// By filter of spreads: whether they count a new node's pods.
pub(in crate::solve) type Counts = BTreeMap<usize, bool>;

/// What a new node may still become, to be narrowed.
pub(in crate::solve) struct Scope<'s> {
    pub(in crate::solve) requirements: &'s mut Requirements,
    pub(in crate::solve) choices: &'s mut Bits,
    pub(in crate::solve) counts: &'s mut Counts,
}

impl Topology<'_> {
    /// Whether a pod counted in these groups may be counted by nodes' labels.
    pub(in crate::solve) fn is_counted_by_labels(&self, counted: &[(usize, Place)]) -> bool {
        counted.iter().any(|(first, place)| matches!(place, Place::Key(_)) && self.bundles.is_by_labels(*first))
    }

    /// Decides of all spreads that may count a pod counted in these groups whether they do on a new node: as they do on the
    /// cheapest of its choices, or otherwise where `enough` is not left with that. Returns whether enough is left.
    pub(in crate::solve) fn settle_counting(
        &self,
        template: &Template<'_>,
        counted: &[(usize, Place)],
        node: Scope<'_>,
        enough: &dyn Fn(&Bits) -> bool,
    ) -> bool {
        let Scope { requirements, choices, counts } = node;
        for (first, place) in counted {
            if !matches!(place, Place::Key(_)) || !self.bundles.is_by_labels(*first) {
                continue;
            }
            let seen = Seen::New { template, requirements: &*requirements, counts: &*counts };
            let groups = self.bundles.of_node(*first, &seen).into_owned();
            for index in groups.into_iter().filter_map(|group| self.groups.found[group].filter) {
                let filter = &self.groups.filters[index];
                if !filter.by_affinity || counts.contains_key(&index) {
                    continue;
                }
                let admitted = filter.admitted(template, requirements, choices);
                let is_counting = if admitted.is_empty() {
                    false
                } else if admitted.iter().any(|(joint, _)| joint == requirements) {
                    true
                } else {
                    let mut others = choices.clone();
                    others.retain(|choice| !admitted.iter().any(|(_, can)| can.contains(choice)));
                    let cheapest = choices.iter().next();
                    let has_cheapest = |can: &Bits| cheapest.is_some_and(|cheapest| can.contains(cheapest));
                    let (joint, can) = admitted.iter().find(|(_, can)| has_cheapest(can)).unwrap_or(&admitted[0]);
                    let is_left = |choices: &Bits| !choices.is_empty() && enough(choices);
                    if is_left(can) && (has_cheapest(can) || !is_left(&others)) {
                        (*requirements, *choices) = (joint.clone(), can.clone());
                        true
                    } else if is_left(&others) {
                        *choices = others;
                        false
                    } else {
                        return false;
                    }
                };
                counts.insert(index, is_counting);
            }
        }
        true
    }

    /// Drops the choices with which spreads would count a node's pods that are not to.
    pub(in crate::solve) fn keep_uncounted(
        &self,
        template: &Template<'_>,
        requirements: &Requirements,
        counts: &Counts,
        choices: &mut Bits,
    ) {
        for (index, _) in counts.iter().filter(|(_, is_counting)| !**is_counting) {
            let admitted = self.groups.filters[*index].admitted(template, requirements, choices);
            choices.retain(|choice| !admitted.iter().any(|(_, can)| can.contains(choice)));
        }
    }

    /// What two nodes' pods are counted by on one of these requirements; `None` if that is not what they are counted by now.
    pub(in crate::solve) fn counts_of_both(
        &self,
        template: &Template<'_>,
        requirements: &Requirements,
        [one, other]: [&Counts; 2],
    ) -> Option<Counts> {
        let mut both = one.clone();
        for (index, is_counting) in other {
            if *both.entry(*index).or_insert(*is_counting) != *is_counting {
                return None;
            }
        }
        let is_certain = |index: &usize| {
            let mut alternatives = self.groups.filters[*index].alternatives.iter();
            alternatives
                .any(|wanted| template.join(requirements, wanted).is_ok_and(|(joint, _)| joint == *requirements))
        };
        both.iter().all(|(index, is_counting)| !is_counting || is_certain(index)).then_some(both)
    }
}
