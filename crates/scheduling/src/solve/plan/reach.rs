//! Where pods could go, each kind by itself.

use super::super::{
    bits::Bits,
    kind::Kind,
    search::Search,
    template::Template,
    topology::{Seat, Topology, Verdict},
};

/// For every kind of pods: the choices of each pool that an empty node may be, whatever alternative of the pod's it meets, and
/// whatever the pods that run keep away from; and the nodes there are that may take one.
pub(super) struct Reach {
    choices: Vec<Vec<Bits>>,
    existing: Vec<Vec<usize>>,
}

impl Reach {
    pub(super) fn of(search: &Search<'_>) -> Self {
        let on_new = |kind: &Kind<'_>| {
            search.templates.iter().map(|template| choices(template, kind, &search.topology)).collect()
        };
        let on_existing = |kind: usize| {
            let there = search.may_fit_existing(kind).then(|| search.existing_to_try(kind));
            there
                .into_iter()
                .flatten()
                .filter(|index| search.fits_existing(kind, *index).map_or_else(|no| !no.is_final(), |()| true))
                .collect()
        };
        Self {
            choices: search.kinds.iter().map(on_new).collect(),
            existing: (0..search.kinds.len()).map(on_existing).collect(),
        }
    }

    pub(super) fn choices(&self, kind: usize, template: usize) -> &Bits {
        &self.choices[kind][template]
    }

    /// The nodes there are that may take a pod of the kind, now or when others have come.
    pub(super) fn existing(&self, kind: usize) -> &[usize] {
        &self.existing[kind]
    }

    /// The pools that can have a node for the kind, in the order they are tried.
    pub(super) fn templates(&self, kind: usize) -> impl Iterator<Item = usize> {
        let can = |(index, choices): (usize, &Bits)| (!choices.is_empty()).then_some(index);
        self.choices[kind].iter().enumerate().filter_map(can)
    }

    /// Whether there is no place for the kind, not even an empty node.
    pub(super) fn is_nowhere(&self, kind: usize) -> bool {
        self.existing[kind].is_empty() && self.templates(kind).next().is_none()
    }
}

fn choices(template: &Template<'_>, kind: &Kind<'_>, topology: &Topology<'_>) -> Bits {
    let mut all = Bits::none(template.choices.len());
    let blocked = template.base.first_empty().is_some() || kind.untolerated(&template.pool.taints).next().is_some();
    for wanted in kind.shape.alternatives.iter().filter(|_| !blocked) {
        if let Ok((_, changed)) = template.join(&template.base, wanted) {
            let mut choices = template.available.clone();
            template.keep_holding(&mut choices, &changed);
            template.keep_roomy(&mut choices, &kind.shape.request);
            template.keep_portly(&mut choices, kind.shape.ports);
            all.add_all(&choices);
        }
    }
    // What is there already stays, so what it forbids for good no plan can have.
    let relations = &kind.shape.relations;
    for &key in &relations.keys {
        let is_barred = |seat: Seat| topology.verdict(relations, key, seat) == Verdict::Never;
        let domains = &template.domains[key];
        if domains.iter().any(|(domain, _)| is_barred(Seat::In(*domain))) {
            let mut open = Bits::none(template.choices.len());
            domains.iter().filter(|(domain, _)| !is_barred(Seat::In(*domain))).for_each(|(_, can)| open.add_all(can));
            all.retain(|choice| open.contains(choice) || !domains.iter().any(|(_, can)| can.contains(choice)));
        }
    }
    all
}
