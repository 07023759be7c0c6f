//! Pods that the scheduler does not tell apart, and what each node says to them.

use std::collections::BTreeMap;

use requirements::RequirementTerm;

use super::{
    score,
    world::{Labels, Resources, Site, World, affine, all_hold, suits},
};
use crate::{HostPort, Pod, Taint, TaintEffect, Toleration, untolerated};

/// What pods ask of a node's labels and taints. Nodes do not change these while pods are placed, so each is asked once.
#[derive(Debug)]
pub(super) struct Demand {
    /// Whether a node would do if it were empty.
    pub(super) suits: Vec<bool>,
    /// Whether a node's labels are within the pod's node affinity, whatever else it says.
    pub(super) affine: Vec<bool>,
    /// Whether the pod can live with a node's taints.
    pub(super) tolerates: Vec<bool>,
    /// The weights of the node affinities it would like and finds on each node; empty if it has no such wish.
    pub(super) wishes: Vec<i64>,
    /// How many `PreferNoSchedule` taints of each node it does not tolerate; empty if no node has any.
    pub(super) soft_taints: Vec<i64>,
}

impl Demand {
    fn of(pod: &Pod, world: &World<'_>) -> Self {
        let ask = |question: &dyn Fn(&Site<'_>) -> bool| world.sites.iter().map(question).collect::<Vec<_>>();
        // A node that is leaving is cordoned: it carries a taint that hardly any pod tolerates.
        let tolerates = ask(&|site| !site.closed && untolerated(&pod.tolerations, &site.taints).is_none());
        let fits_labels = ask(&|site| suits(pod, &site.labels));
        let counted = |question: &dyn Fn(&Site<'_>) -> i64| {
            let counts: Vec<i64> = world.sites.iter().map(question).collect();
            if counts.iter().all(|count| *count == 0) { Vec::new() } else { counts }
        };
        Self {
            suits: fits_labels.iter().zip(&tolerates).map(|(a, b)| *a && *b).collect(),
            affine: ask(&|site| affine(pod, &site.labels)),
            tolerates,
            wishes: counted(&|site| wishes(pod, &site.labels)),
            soft_taints: counted(&|site| soft_taints(pod, &site.taints)),
        }
    }
}

fn wishes(pod: &Pod, labels: &Labels) -> i64 {
    let granted = pod.preferred_node_affinity.iter().filter(|(_, terms)| all_hold(terms, labels));
    granted.map(|(weight, _)| i64::from(*weight)).sum()
}

fn soft_taints(pod: &Pod, taints: &[Taint]) -> i64 {
    let lived_with = |taint: &Taint| pod.tolerations.iter().any(|toleration| toleration.tolerates(taint));
    let minded = |taint: &&Taint| taint.effect == TaintEffect::PreferNoSchedule && !lived_with(taint);
    i64::try_from(taints.iter().filter(minded).count()).unwrap_or(i64::MAX)
}

/// What pods ask of a node's room, and at which priority.
#[derive(Debug)]
pub(super) struct Shape<'a> {
    pub(super) demand: usize,
    pub(super) request: Vec<i64>,
    pub(super) presumed: [i64; 2],
    pub(super) ports: &'a [HostPort],
    pub(super) priority: i32,
    /// What each node last said, and in which of its states.
    said: Vec<Said>,
}

#[derive(Clone, Copy, Debug)]
struct Said {
    state: u32,
    room: Option<i64>,
}

impl Shape<'_> {
    /// Whether the node, in this state, has room, and if so how many points for how much and how even it is.
    ///
    /// `ask` is called only if the node has not been asked in this state.
    pub(super) fn room(&mut self, node: usize, state: u32, ask: impl FnOnce(&Self) -> Option<i64>) -> Option<i64> {
        if self.said[node].state != state {
            let room = ask(self);
            self.said[node] = Said { state, room };
        }
        self.said[node].room
    }

    /// Whether there is room beside what is there and what is kept for others.
    pub(super) fn fits<'p>(
        &self,
        site: &Site<'_>,
        kept: Option<&[i64]>,
        kept_ports: impl IntoIterator<Item = &'p HostPort>,
    ) -> bool {
        let fits = |(index, asked): (usize, &i64)| {
            let kept = kept.map_or(0, |kept| kept[index]);
            let free = site.allocatable[index].saturating_sub(site.requested[index]).saturating_sub(kept);
            *asked <= 0 || *asked <= free
        };
        let clash = |taken: &HostPort| self.ports.iter().any(|port| port.clashes_with(taken));
        self.request.iter().enumerate().all(fits)
            && (self.ports.is_empty()
                || !(site.ports.iter().any(|taken| clash(taken)) || kept_ports.into_iter().any(clash)))
    }

    /// The points for how much room is left and how evenly.
    pub(super) fn points(&self, site: &Site<'_>) -> i64 {
        let there = [site.allocatable[0], site.allocatable[1]];
        let presumed = [0, 1].map(|index| site.presumed[index].saturating_add(self.presumed[index]));
        let before = [site.requested[0], site.requested[1]];
        let after = [0, 1].map(|index| before[index].saturating_add(self.request[index]));
        let balanced = if before == after { 0 } else { score::balanced(before, after, there) };
        score::least_allocated(presumed, there) + balanced
    }
}

/// All demands and shapes of the pods to place.
#[derive(Debug, Default)]
pub(super) struct Kinds<'a> {
    pub(super) demands: Vec<Demand>,
    pub(super) shapes: Vec<Shape<'a>>,
    known_demands: BTreeMap<DemandKey<'a>, usize>,
    known_shapes: BTreeMap<ShapeKey<'a>, usize>,
}

type Terms = [RequirementTerm];

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DemandKey<'a> {
    selector: &'a BTreeMap<String, String>,
    required: &'a [Vec<RequirementTerm>],
    preferred: &'a [(i32, Vec<RequirementTerm>)],
    tolerations: &'a [Toleration],
    volumes: &'a Terms,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ShapeKey<'a> {
    demand: usize,
    request: Vec<i64>,
    ports: &'a [HostPort],
    priority: i32,
}

impl<'a> Kinds<'a> {
    /// The shape of a pod, new or known.
    pub(super) fn shape(&mut self, pod: &'a Pod, world: &World<'_>) -> usize {
        let key = DemandKey {
            selector: &pod.node_selector,
            required: &pod.required_node_affinity,
            preferred: &pod.preferred_node_affinity,
            tolerations: &pod.tolerations,
            volumes: &pod.volume_zones,
        };
        let demands = &mut self.demands;
        let demand = *self.known_demands.entry(key).or_insert_with(|| {
            demands.push(Demand::of(pod, world));
            demands.len() - 1
        });
        let request = world.resources.amounts(&pod.requests);
        let key = ShapeKey { demand, request: request.clone(), ports: &pod.host_ports, priority: pod.priority };
        let shapes = &mut self.shapes;
        *self.known_shapes.entry(key).or_insert_with(|| {
            shapes.push(Shape {
                demand,
                presumed: Resources::presumed(&request),
                request,
                ports: &pod.host_ports,
                priority: pod.priority,
                said: vec![Said { state: 0, room: None }; world.sites.len()],
            });
            shapes.len() - 1
        })
    }
}
