//! Which labels nodes have, or can have: what decides whether the pods there count in a spread, and in which domains.

use std::collections::{BTreeMap, BTreeSet};

use requirements::{Requirement, Requirements, labels};

use super::{bits::Bits, relations::Filter, template::Template};
use crate::Node;

impl Filter<'_> {
    /// Whether the pods on a node, and its domain, count.
    pub(super) fn admits(&self, node: &Node, labels: &BTreeMap<&str, &str>) -> bool {
        let tolerated = || crate::untolerated(self.tolerations, node.lasting_taints()).is_none();
        let wanted = || self.alternatives.iter().any(|wanted| allowed(wanted, labels));
        self.keys.iter().all(|key| labels.contains_key(key))
            && (!self.by_taints || tolerated())
            && (!self.by_affinity || wanted())
    }

    /// The same of a new node.
    pub(super) fn admits_new(&self, template: &Template<'_>, requirements: &Requirements) -> bool {
        let tolerated = || crate::untolerated(self.tolerations, &template.pool.taints).is_none();
        let wanted = || self.alternatives.iter().any(|wanted| template.join(requirements, wanted).is_ok());
        self.has_keys(template, requirements) && (!self.by_taints || tolerated()) && (!self.by_affinity || wanted())
    }

    /// The choices of a new node with which it may count.
    pub(super) fn counted_of(&self, template: &Template<'_>, requirements: &Requirements, choices: &Bits) -> Bits {
        let mut counted = Bits::none(template.choices.len());
        if self.admits_new(template, requirements) {
            let mut keyed = choices.clone();
            self.keep_keyed(template, &mut keyed);
            if !self.by_affinity {
                return keyed;
            }
            for (_, can) in self.admitted(template, requirements, &keyed) {
                counted.add_all(&can);
            }
        }
        counted
    }

    /// Drops the choices that lack a label of the spreads.
    pub(super) fn keep_keyed(&self, template: &Template<'_>, choices: &mut Bits) {
        let of_the_machine = self.keys.iter().filter(|key| template.is_of_the_machine(key));
        let wanted: Vec<Requirement> = of_the_machine.map(|key| Requirement::exists(*key)).collect();
        template.keep_holding(choices, &wanted);
    }

    /// For each alternative by which a new node may count: what its requirements are then, and its choices.
    pub(super) fn admitted(
        &self,
        template: &Template<'_>,
        requirements: &Requirements,
        choices: &Bits,
    ) -> Vec<(Requirements, Bits)> {
        let with = |wanted: &Requirements| {
            let (joint, changed) = template.join(requirements, wanted).ok()?;
            let mut can = choices.clone();
            template.keep_holding(&mut can, &changed);
            (!can.is_empty()).then_some((joint, can))
        };
        self.alternatives.iter().filter_map(with).collect()
    }

    /// Whether a new node bears the labels of all spreads.
    pub(super) fn has_keys(&self, template: &Template<'_>, requirements: &Requirements) -> bool {
        let of_pool = |key: &str| template.pool.labels.contains_key(key) || requirements.get(key).is_some();
        self.keys.iter().all(|key| template.is_of_the_machine(key) || of_pool(key))
    }
}

/// Whether these are the labels that are wanted.
pub(super) fn allowed(wanted: &Requirements, labels: &BTreeMap<&str, &str>) -> bool {
    wanted.iter().all(|want| want.allows(labels.get(want.key()).copied()))
}

/// A node's labels by their present names, its name among them; where no label says otherwise, that is its hostname too.
pub(super) fn labels_of(node: &Node) -> BTreeMap<&str, &str> {
    let mut all: BTreeMap<&str, &str> =
        [labels::HOSTNAME, labels::NODE_NAME].map(|key| (key, node.key.0.as_str())).into();
    let (present, older): (Vec<_>, Vec<_>) =
        node.labels.iter().partition(|(key, _)| labels::normalize(key) == key.as_str());
    for (key, value) in older.into_iter().chain(present) {
        all.insert(labels::normalize(key), value);
    }
    all
}

/// A node's value of a label, by its present name.
pub(super) fn label<'n>(node: &'n Node, name: &str) -> Option<&'n str> {
    let present = node.labels.get(name);
    let older = || node.labels.iter().find(|(key, _)| labels::normalize(key) == name).map(|(_, value)| value);
    present.or_else(older).map(String::as_str)
}

/// The values of a label that nodes of the pool can have, and the choices for each: of what the pool leaves open, one, and those that
/// the pods want (`wanted`), or one that they would take.
pub(super) fn possible(
    template: &Template<'_>,
    name: &str,
    wanted: impl Fn(&str) -> Vec<Requirement>,
) -> Vec<(String, Bits)> {
    let all = || Bits::of(template.choices.len(), 0..template.choices.len());
    let base = template.base.get(name);
    if !template.is_of_the_machine(name) {
        let values = match (base, base.and_then(Requirement::finite)) {
            // Nobody sets it.
            (None, _) => BTreeSet::new(),
            (_, Some(values)) => values.iter().cloned().collect(),
            (Some(base), None) => {
                let mut values: BTreeSet<String> = base.example().into_iter().collect();
                for both in wanted(name).iter().map(|wanted| base.intersect(wanted)) {
                    match both.finite() {
                        Some(named) => values.extend(named.iter().cloned()),
                        None => values.extend(both.example()),
                    }
                }
                values
            }
        };
        return values.into_iter().map(|value| (value, all())).collect();
    }
    let mut possible: BTreeMap<String, Bits> = BTreeMap::new();
    for (index, choice) in template.choices.iter().enumerate() {
        let mut values = BTreeSet::new();
        choice.adds_to(name, &mut values);
        for value in values.into_iter().filter(|value| base.is_none_or(|base| base.allows(Some(value)))) {
            possible.entry(value).or_insert_with(|| Bits::none(template.choices.len())).insert(index);
        }
    }
    possible.into_iter().collect()
}
