//! Deciding labels of a new node that may still be several things.

use std::cell::Cell;

use requirements::Requirements;

use super::{
    bits::Bits,
    relations::Relations,
    template::Template,
    topology::{Counts, Domain, Scope, Seat, Topology, Verdict},
};

/// How many combinations of domains are tried for one pod and node. More labels than two are rare, and what is tried first
/// is what is best.
const TRIES: u32 = 2000;

/// A new node, or one that could be made, that has to decide labels for a pod.
pub(super) struct Settling<'s, 'a> {
    pub(super) topology: &'s Topology<'a>,
    pub(super) template: &'s Template<'a>,
    pub(super) relations: &'s Relations,
    pub(super) has: &'s Requirements,
    /// Of which spreads it is decided whether they count its pods.
    pub(super) counts: &'s Counts,
    /// Whether enough is left to choose from.
    pub(super) enough: &'s dyn Fn(&Bits) -> bool,
}

/// What is decided: the domain by label, `None` where the node will not have the label.
pub(super) type Decided = Vec<(usize, Option<Domain>)>;

impl Settling<'_, '_> {
    /// Picks a domain for each of the labels: the emptiest that the pod may be in, then the cheapest, then the first by
    /// name. Returns the choices that remain; `None` if no combination that was tried leaves enough.
    pub(super) fn settle(&self, keys: &[usize], choices: Bits) -> Option<(Bits, Decided)> {
        let mut decided = Vec::new();
        let left = self.next(keys, choices, &mut decided, &Cell::new(TRIES))?;
        Some((left, decided))
    }

    fn next(&self, keys: &[usize], choices: Bits, decided: &mut Decided, tries: &Cell<u32>) -> Option<Bits> {
        let Some((key, rest)) = keys.split_first() else {
            return (!choices.is_empty() && (self.enough)(&choices) && self.can_settle_counting(&choices, decided))
                .then_some(choices);
        };
        let possible = self.possible(*key, &choices);
        if possible.is_empty() {
            if self.topology.verdict(self.relations, *key, Seat::Nowhere) != Verdict::Fine {
                return None;
            }
            decided.push((*key, None));
            let left = self.next(rest, choices, decided, tries);
            if left.is_none() {
                decided.pop();
            }
            return left;
        }
        let allowed = |domain: Domain| self.topology.verdict(self.relations, *key, Seat::In(domain)) == Verdict::Fine;
        let mut candidates: Vec<_> = possible
            .into_iter()
            .filter(|(domain, ..)| allowed(*domain))
            .map(|(domain, first, can)| {
                let fullness = self.topology.fullness(self.relations, *key, domain);
                (fullness, self.template.choices[first].price, domain, can)
            })
            .collect();
        candidates.sort_by_key(|(fullness, price, domain, _)| (*fullness, *price, *domain));
        for (.., domain, can) in candidates {
            tries.set(tries.get().checked_sub(1)?);
            let mut narrowed = choices.clone();
            narrowed.keep_common(can);
            decided.push((*key, Some(domain)));
            if let Some(left) = self.next(rest, narrowed, decided, tries) {
                return Some(left);
            }
            decided.pop();
        }
        None
    }

    /// Whether enough is left when it is decided which spreads count the node's pods. Where any choice is enough, it is.
    fn can_settle_counting(&self, choices: &Bits, decided: &Decided) -> bool {
        let counted = &self.relations.counted;
        if self.template.min_values.is_empty() || !self.topology.is_counted_by_labels(counted) {
            return true;
        }
        let (mut requirements, mut choices, mut counts) = (self.has.clone(), choices.clone(), self.counts.clone());
        for (key, domain) in decided.iter().filter_map(|(key, domain)| Some((*key, (*domain)?))) {
            requirements.add(self.topology.pin(key, domain));
        }
        let node = Scope { requirements: &mut requirements, choices: &mut choices, counts: &mut counts };
        self.topology.settle_counting(self.template, counted, node, self.enough)
    }

    /// The domains that some of the choices can be in, and the cheapest choice for each.
    fn possible(&self, key: usize, choices: &Bits) -> Vec<(Domain, usize, &Bits)> {
        let wanted = self.has.get(self.topology.groups.keys[key]);
        let domains = self.template.domains[key].iter();
        let allowed = domains
            .filter(|(domain, _)| wanted.is_none_or(|wanted| wanted.allows(Some(self.topology.name(key, *domain)))));
        allowed.filter_map(|(domain, can)| choices.first_common(can).map(|first| (*domain, first, can))).collect()
    }
}
