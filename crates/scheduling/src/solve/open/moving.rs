//! Pods that leave a new node for another one, when all have a place.

use std::collections::BTreeSet;

use requirements::Requirements;
use units::UsdMicrosPerHour;

use super::{
    super::{
        axis,
        kind::Kind,
        template::Template,
        topology::{Seat, Topology},
    },
    Open, Put,
};
use crate::HostPort;

/// Pods of a new node that go to another one together. They keep their turns and stay where they are in terms of every label,
/// so that only what is counted node by node has to be looked at anew.
pub(in crate::solve) struct Moving<'m, 'a> {
    from: &'m Open<'a>,
    pods: Vec<Put<'a>>,
    /// What they want of a node, and where they have to be.
    requirements: Requirements,
    seats: Vec<Seat>,
    used: Vec<i64>,
    ports: Vec<HostPort>,
    kinds: BTreeSet<usize>,
}

impl<'a> Open<'a> {
    /// All its pods.
    pub(in crate::solve) fn all(&self) -> Moving<'_, 'a> {
        Moving {
            from: self,
            pods: self.pods.clone(),
            requirements: self.requirements.clone(),
            seats: self.seats.clone(),
            used: self.used.clone(),
            ports: self.ports.clone(),
            kinds: self.kinds.clone(),
        }
    }

    /// One of its pods; `None` if it could have taken a node in several ways.
    pub(in crate::solve) fn one(
        &self,
        put: Put<'a>,
        template: &Template<'_>,
        kind: &Kind<'_>,
    ) -> Option<Moving<'_, 'a>> {
        let [wanted] = kind.shape.alternatives.as_slice() else { return None };
        let (requirements, _) = template.join(&template.base, wanted).ok()?;
        let mut seats = vec![Seat::Undecided; self.seats.len()];
        for key in &kind.shape.relations.keys {
            seats[*key] = self.seats[*key];
        }
        Some(Moving {
            from: self,
            pods: vec![put],
            requirements,
            seats,
            used: kind.shape.request.clone(),
            ports: kind.shape.ports.to_vec(),
            kinds: BTreeSet::from([put.kind]),
        })
    }

    /// What it costs at least with other pods, if there is a machine for all and they may be in one place.
    pub(in crate::solve) fn least_with(
        &self,
        others: &Moving<'_, 'a>,
        template: &Template<'_>,
    ) -> Option<UsdMicrosPerHour> {
        self.seats.iter().zip(&others.seats).all(|(one, other)| joint(*one, *other).is_some()).then_some(())?;
        let mut used = self.used.clone();
        axis::add(&mut used, &others.used);
        let mut choices = template.available.clone();
        template.keep_roomy(&mut choices, &used);
        choices.iter().next().map(|index| template.choices[index].price)
    }

    /// What it is with other pods, each at its turn, if there is a machine for all that takes no more of the pool's limits than
    /// the node does now, and so much. Whoever counts pods by labels of nodes sees no difference.
    pub(in crate::solve) fn with(
        &self,
        others: &Moving<'_, 'a>,
        template: &Template<'a>,
        kinds: &[Kind<'_>],
        topology: &Topology<'a>,
        more: &[i64],
    ) -> Option<Self> {
        if self.ports.iter().any(|port| others.ports.iter().any(|taken| taken.clashes_with(port))) {
            return None;
        }
        let seats = self.seats.iter().zip(&others.seats).map(|(one, other)| joint(*one, *other));
        let seats: Vec<Seat> = seats.collect::<Option<_>>()?;
        let (mut requirements, _) = template.join(&self.requirements, &others.requirements).ok()?;
        for (key, (before, seat)) in self.seats.iter().zip(&seats).enumerate() {
            if let (Seat::Undecided, Seat::In(domain)) = (before, seat) {
                requirements.add(topology.pin(key, *domain));
            }
        }
        let counts = topology.counts_of_both(template, &requirements, [&self.counts, &others.from.counts])?;
        let counts_as_before = |before: &Self, pods: &[Put<'_>]| {
            let counted = pods.iter().flat_map(|put| &kinds[put.kind].shape.relations.counted).copied();
            let (before, after) = ((&before.requirements, &before.counts), (&requirements, &counts));
            before == after || topology.is_counted_alike(template, &counted.collect(), [before, after])
        };
        if !counts_as_before(self, &self.pods) || !counts_as_before(others.from, &others.pods) {
            return None;
        }
        let mut pods = [self.pods.as_slice(), &others.pods].concat();
        pods.sort_unstable_by_key(|put| put.turn);
        let here = topology.here_of(pods.iter().map(|put| &kinds[put.kind].shape.relations))?;
        let mut both = Self { requirements, seats, here, pods, counts, ..self.clone() };
        if !(0..both.seats.len()).all(|key| both.is_told(template, key, &both.requirements, topology)) {
            return None;
        }
        axis::add(&mut both.used, &others.used);
        axis::add(&mut both.charge, more);
        both.ports.extend(others.ports.iter().cloned());
        both.kinds.extend(&others.kinds);
        both.choices.clear();
        both.widen(template, topology);
        let cheapest = &template.choices[both.choices.iter().next()?].limited;
        // It is charged with what it needs, so that others may be, too.
        both.charge.clone_from(&self.charge);
        axis::max(&mut both.charge, cheapest);
        let charge = std::mem::take(&mut both.charge);
        template.keep_within(&mut both.choices, &charge);
        both.measure(template);
        Some(both)
    }
}

/// Where something is that is in both places.
fn joint(one: Seat, other: Seat) -> Option<Seat> {
    match (one, other) {
        (Seat::Undecided, seat) | (seat, Seat::Undecided) => Some(seat),
        _ => (one == other).then_some(one),
    }
}
