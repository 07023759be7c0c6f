//! Nodes by the values of their labels: of ten thousand pods that each want a value of their own nobody need look at all nodes.

use std::collections::{BTreeMap, BTreeSet};

use requirements::{Operator, labels};

use super::{
    ground::Ground,
    labels::{Demand, Label, Labels, Present},
};

/// Nodes that may suit a pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    /// Nodes of the snapshot, in order.
    pub(super) present: BTreeSet<usize>,
    /// New nodes, by what they look like.
    pub(super) looks: BTreeSet<usize>,
}

impl Candidates {
    fn len(&self) -> usize {
        self.present.len() + self.looks.len()
    }

    fn add(&mut self, others: &Self) {
        self.present.extend(&others.present);
        self.looks.extend(&others.looks);
    }
}

/// All nodes by the labels that were asked for.
#[derive(Default)]
pub(super) struct Listed(BTreeMap<String, ByValue>);

/// All nodes that may have a label.
#[derive(Default)]
struct ByValue {
    named: BTreeMap<String, Candidates>,
    /// Those whose values are not known.
    open: Candidates,
}

impl Listed {
    /// The nodes outside which none suits the demand, and maybe more; `None` for all nodes.
    pub(super) fn candidates(
        &mut self,
        ground: &Ground<'_>,
        present: &[Present<'_>],
        demand: &Demand<'_>,
    ) -> Option<Candidates> {
        let mut fewest: Option<Candidates> = None;
        for marks in marks(demand) {
            let mut all = Candidates::default();
            for (key, value) in marks {
                let by_value = self
                    .0
                    .entry(labels::normalize(key).to_owned())
                    .or_insert_with_key(|key| list(ground, present, key));
                by_value.named.get(value).into_iter().for_each(|named| all.add(named));
                all.add(&by_value.open);
            }
            if fewest.as_ref().is_none_or(|fewest| all.len() < fewest.len()) {
                fewest = Some(all);
            }
        }
        fewest
    }
}

/// Sets of labels, of each of which every node that suits has one.
fn marks<'d>(demand: &Demand<'d>) -> Vec<Vec<(&'d str, &'d str)>> {
    let selected = demand.selector.iter().map(|(key, value)| vec![(key.as_str(), value.as_str())]);
    let mut marks: Vec<_> = selected.collect();
    let listed = |terms: &'d Vec<requirements::RequirementTerm>| {
        let term = terms.iter().find(|term| term.operator == Operator::In)?;
        Some(term.values.iter().map(|value| (term.key.as_str(), value.as_str())))
    };
    // Without terms an alternative suits nothing.
    let alternatives = demand.affinity.iter().filter(|terms| !terms.is_empty()).map(listed);
    let alternatives: Option<Vec<_>> = alternatives.collect();
    marks.extend(alternatives.filter(|_| !demand.affinity.is_empty()).map(|one| one.into_iter().flatten().collect()));
    marks
}

fn list(ground: &Ground<'_>, present: &[Present<'_>], key: &str) -> ByValue {
    let mut all = ByValue::default();
    for (site, node) in present.iter().enumerate() {
        if let Label::Is(value) = node.label(key) {
            all.named.entry(value.to_owned()).or_default().present.insert(site);
        }
    }
    for (index, look) in ground.looks.iter().enumerate() {
        for form in &look.forms {
            match form.labels.label(key).values() {
                Some(values) => values.into_iter().for_each(|value| {
                    all.named.entry(value).or_default().looks.insert(index);
                }),
                None => drop(all.open.looks.insert(index)),
            }
        }
    }
    all
}
