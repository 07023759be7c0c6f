//! From a plan in numbers to pods on nodes, by the engine's own rules.

use std::{collections::VecDeque, rc::Rc};

use packing::Packing;
use requirements::Requirements;

use super::{
    super::{
        Greedy, Queue, Rest,
        bits::Bits,
        existing::Refusal,
        make::Preset,
        relations::{Demand, Place, Relations},
        template::Template,
        topology::Domain,
        wishes::Turn,
    },
    MANY,
    model::{Model, Nodes},
};
use crate::{Placement, PlacementReason, Pod, Target};

/// How often the pods that were refused are tried again before the greedy rule gets them: spreads may let in later what
/// they refuse now; and as long as they are so few.
const ROUNDS: usize = 3;
const TRIES: usize = 100_000;

/// The last of the phases in which pods are put where a plan has them.
const LAST: usize = 11;

/// The last of those before pods that wait for others come.
const FIRST: usize = Turn::First as usize * 3 + 2;

/// When such pods come: by their turn, and then those to be spread over a label, those to be spread over hosts, all others.
fn phase(turn: Turn, relations: &Relations) -> usize {
    let spreads = || relations.rules.iter().filter(|rule| matches!(rule.demand, Demand::Spread { .. }));
    let then = if spreads().any(|rule| rule.place != Place::Host) {
        0
    } else if spreads().next().is_some() {
        1
    } else {
        2
    };
    turn as usize * 3 + then
}

/// As what pods of one number are put on the nodes of a plan.
pub(super) struct Way {
    /// The kind as which they are in the plan.
    pub(super) planned: usize,
    /// Kinds to try on each node, and how many wishes these have given up.
    pub(super) stages: Vec<(usize, usize)>,
}

/// What is to become of the pods: nodes, and how many pods of each kind are to go on each.
pub(super) struct Plan {
    nodes: Vec<Planned>,
    /// For each kind, its places: those in one domain together.
    lanes: Vec<Vec<Lane>>,
}

/// A node of the plan.
#[derive(Clone)]
pub(super) enum Planned {
    Existing(usize),
    New {
        template: usize,
        choices: Bits,
        /// What its labels must be, if that is known: it is one of an earlier plan.
        labels: Option<Requirements>,
    },
    /// Opened in the meantime.
    Open(usize),
}

impl Planned {
    /// A new node whose pods decide its labels.
    fn of(template: usize, choices: Bits) -> Self {
        Self::New { template, choices, labels: None }
    }
}

struct Lane {
    /// By label: the domain that all its nodes are in, where that matters.
    domains: Vec<(usize, Domain)>,
    /// Nodes, and for how many pods each has a place.
    places: VecDeque<(usize, u64)>,
}

impl Plan {
    /// A plan without nodes.
    pub(super) fn new(kinds: usize) -> Self {
        Self { nodes: Vec::new(), lanes: (0..kinds).map(|_| Vec::new()).collect() }
    }

    /// Adds the nodes of a packing.
    pub(super) fn add(&mut self, model: &Model, packing: &Packing) {
        let mut lanes_of: Vec<Vec<(usize, usize)>> = Vec::new();
        for wanted in &model.groups {
            let single =
                |(key, domains): &(usize, Vec<Domain>)| Some((*key, *domains.first()?)).filter(|_| domains.len() == 1);
            let domains: Vec<(usize, Domain)> = wanted.within.iter().filter_map(single).collect();
            let lanes = wanted.kinds().map(|kind| {
                self.lanes[kind].push(Lane { domains: domains.clone(), places: VecDeque::new() });
                (kind, self.lanes[kind].len() - 1)
            });
            lanes_of.push(lanes.collect());
        }
        let mut used = vec![0; model.bins.len()];
        for node in &packing.nodes {
            for _ in 0..node.copies {
                let planned = match &model.bins[node.bin] {
                    Nodes::New { template, choices } => Planned::of(*template, choices.clone()),
                    Nodes::Existing(equal) => Planned::Existing(equal[used[node.bin]]),
                };
                used[node.bin] += 1;
                for &(group, count) in &node.pods {
                    let wanted = &model.groups[group];
                    let each = std::iter::once(wanted.pods).chain(wanted.beside.iter().map(|(_, pods)| *pods));
                    for (&(kind, lane), pods) in lanes_of[group].iter().zip(each) {
                        self.lanes[kind][lane].places.push_back((self.nodes.len(), count * pods));
                    }
                }
                self.nodes.push(planned);
            }
        }
    }

    /// Adds a node there is, with a place for one pod.
    pub(super) fn keep(&mut self, kind: usize, existing: usize) {
        self.lanes[kind].push(Lane { domains: Vec::new(), places: VecDeque::from([(self.nodes.len(), 1)]) });
        self.nodes.push(Planned::Existing(existing));
    }

    /// Adds a new node, with places for these pods: kind and count.
    pub(super) fn open(&mut self, template: usize, choices: Bits, pods: impl IntoIterator<Item = (usize, u64)>) {
        for (kind, count) in pods {
            self.lanes[kind].push(Lane { domains: Vec::new(), places: VecDeque::from([(self.nodes.len(), count)]) });
        }
        self.nodes.push(Planned::of(template, choices));
    }
}

impl<'a> Greedy<'a> {
    /// Puts the pods where the plan says, as far as the engine agrees, and the others where the greedy rule does. `ways`:
    /// by number of pods written alike.
    pub(super) fn carry_out(&mut self, queue: &Queue<'a>, ways: &[Way], mut plan: Plan) -> Rest<'a> {
        let mut left = queue.clone();
        // Those with a spread first, but not before those that count in it. Where kinds are many, they are not planned for (`wanted`).
        let are_many = self.search.kinds.len() > MANY;
        let relations = |way: &Way| &self.search.kinds[way.planned].shape.relations;
        let turns = self.search.turns.iter();
        let phases: Vec<usize> = turns.zip(ways).map(|(turn, way)| phase(*turn, relations(way))).collect();
        let is_planned: Vec<bool> = ways.iter().map(|way| !plan.lanes[way.planned].is_empty()).collect();
        let turns_of = Rc::clone(&self.search.turns);
        for now in if are_many { LAST } else { 0 }..=LAST {
            let mut tries = 0;
            for round in 0.. {
                let before = left.len();
                tries += before;
                left.retain(|(pod, asked)| {
                    phases[*asked] > now || !self.is_put_as_planned(pod, *asked, ways, &mut plan)
                });
                let goes_on = round + 1 < ROUNDS || tries < TRIES;
                if left.is_empty() || left.len() == before || !goes_on {
                    break;
                }
            }
            if now == FIRST {
                // Those who must be spread evenly with pods that have no place in the plan have to find these there.
                let is_alone = |asked: usize| turns_of[asked] == Turn::Alone && is_planned[asked];
                left.retain(|(pod, asked)| phases[*asked] > FIRST || is_alone(*asked) || !self.is_put(pod, *asked));
            }
        }
        // Where all are planned for, only what had to be opened beside the plan may be needless.
        let planned = if are_many { 0 } else { self.search.open.len() };
        let rest = self.place_all(left);
        self.widen();
        self.merge(planned);
        rest
    }

    /// Puts a pod where the plan says, if the engine agrees.
    fn is_put_as_planned(&mut self, pod: &'a Pod, asked: usize, ways: &[Way], plan: &mut Plan) -> bool {
        let Some((placement, given_up)) = self.place_as_planned(pod, &ways[asked], plan) else { return false };
        self.note_given_up(asked, given_up);
        self.has_put(pod, asked, placement);
        true
    }

    /// Adds to the nodes of a plan what else their pods fit on.
    pub(super) fn widen(&mut self) {
        let search = &mut self.search;
        for node in search.open.iter_mut().filter(|node| node.planned) {
            node.widen(&search.templates[node.template], &search.topology);
        }
    }

    /// Puts a pod on a node of the plan; says how many wishes it gave up for that.
    fn place_as_planned(&mut self, pod: &'a Pod, way: &Way, plan: &mut Plan) -> Option<(Placement, usize)> {
        let Plan { nodes, lanes } = plan;
        let lanes = &mut lanes[way.planned];
        lanes.retain(|lane| !lane.places.is_empty());
        if lanes.len() > 1 && lanes.iter().any(|lane| !lane.domains.is_empty()) {
            let relations = &self.search.kinds[way.planned].shape.relations;
            let fullness = |lane: &Lane| {
                let each =
                    lane.domains.iter().map(|(key, domain)| self.search.topology.fullness(relations, *key, *domain));
                each.fold(0, u32::saturating_add)
            };
            // Stable: what is equally full stays in the order of the plan.
            lanes.sort_by_key(fullness);
        }
        for lane in lanes {
            while let Some((node, left)) = lane.places.front_mut() {
                match self.put_some_way(pod, way, &mut nodes[*node]) {
                    Ok(placed) => {
                        *left -= 1;
                        if *left == 0 {
                            lane.places.pop_front();
                        }
                        return Some(placed);
                    }
                    Err(Refused::Now) => break,
                    Err(Refused::ForGood) => drop(lane.places.pop_front()),
                }
            }
        }
        None
    }

    fn put_some_way(&mut self, pod: &'a Pod, way: &Way, node: &mut Planned) -> Result<(Placement, usize), Refused> {
        let mut refused = Refused::ForGood;
        for (kind, given_up) in &way.stages {
            match self.put(pod, *kind, node) {
                Ok(placement) => return Ok((placement, *given_up)),
                Err(Refused::Now) => refused = Refused::Now,
                Err(Refused::ForGood) => {}
            }
        }
        Err(refused)
    }

    /// Puts a pod on this node of a plan, if the engine agrees.
    pub(super) fn put(&mut self, pod: &'a Pod, kind: usize, node: &mut Planned) -> Result<Placement, Refused> {
        let refused = |refusal: Refusal| if refusal.is_final() { Refused::ForGood } else { Refused::Now };
        let search = &mut self.search;
        search.work += 1;
        let index = match node {
            Planned::Existing(index) => {
                search.fits_existing(kind, *index).map_err(refused)?;
                return Ok(self.on_existing(kind, *index));
            }
            Planned::Open(index) => {
                let fit = search.fits_open(kind, *index).map_err(refused)?;
                search.put_on_open(kind, *index, fit, pod);
                *index
            }
            Planned::New { template, choices, labels } => {
                let may_change = search.kinds[kind].shape.relations.may_change();
                let of_pool = &search.templates[*template];
                // Where the pool demands so many different values, the one machine of the plan will not do.
                let enough = of_pool.min_values.is_empty() || labels.is_some();
                let tries = if enough { vec![choices.clone()] } else { beside(of_pool, choices).to_vec() };
                let mut tries = tries.iter().map(|choices| Preset { choices, labels: labels.as_ref() });
                let index = tries.find_map(|preset| search.open_with(*template, preset, kind, pod));
                let index = index.ok_or(if may_change { Refused::Now } else { Refused::ForGood })?;
                *node = Planned::Open(index);
                index
            }
        };
        Ok(Placement { node: Target::New(index), why: PlacementReason::CheapestPlan, turn: self.placed.len() })
    }
}

/// What a node planned on some choices may become where its pool demands more different values than these have: with what can
/// be bought as often as one likes, and if that is not enough with everything.
fn beside(template: &Template<'_>, planned: &Bits) -> [Bits; 2] {
    let mut endless = template.available.clone();
    template.counted.iter().for_each(|(choice, _)| endless.remove(*choice));
    endless.add_all(planned);
    [endless, template.available.clone()]
}

/// Why a node of a plan does not take a pod.
pub(super) enum Refused {
    /// Other pods have to come first.
    Now,
    ForGood,
}
