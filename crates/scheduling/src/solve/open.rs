mod moving;

use std::collections::{BTreeMap, BTreeSet};

use requirements::{Requirement, Requirements, labels};
use units::{Amount, ResourceList};

use super::{
    axis,
    bits::Bits,
    existing::Refusal,
    kind::Kind,
    settle::{Decided, Settling},
    template::{Choice, Template},
    topology::{Counts, Here, Scope, Seat, Topology, Verdict},
};
use crate::{HostPort, NewNode, NewNodeReason, Pod, PricedOffering};

pub(super) use self::moving::Moving;

/// A new node of this solve: everything it may still become.
#[derive(Clone)]
pub(super) struct Open<'a> {
    pub(super) template: usize,
    pub(super) requirements: Requirements,
    pub(super) seats: Vec<Seat>,
    pub(super) here: Here,
    /// What its pods ask for, without daemons.
    used: Vec<i64>,
    ports: Vec<HostPort>,
    pub(super) choices: Bits,
    /// At least what any choice leaves to pods; refuses most pods without a look at the choices.
    largest_room: Vec<i64>,
    /// What the pool's limits are charged with: at least the most of each that any choice has.
    pub(super) charge: Vec<i64>,
    /// Whether the charge may be less since the choices became fewer.
    stale: bool,
    /// What [`Open::smallest`] found, until the choices change.
    spare: Spare,
    /// The kinds of its pods that demand labels; more of these change nothing but what is used.
    kinds: BTreeSet<usize>,
    /// Whether it was opened with fewer values than the pool demands.
    relaxed: bool,
    pub(super) pods: Vec<Put<'a>>,
    why: Vec<NewNodeReason>,
    /// What the pool's limit took away from it, if anything.
    narrowed: Option<NewNodeReason>,
    /// Which spreads count its pods, as far as that was to be decided.
    pub(super) counts: Counts,
    /// Opened on the choices of a plan; what else its pods fit on is found in the end.
    pub(super) planned: bool,
}

/// A pod on a new node.
#[derive(Clone, Copy)]
pub(super) struct Put<'a> {
    pub(super) pod: &'a Pod,
    /// What it was put there as.
    pub(super) kind: usize,
    /// How many pods had been put anywhere before it.
    pub(super) turn: usize,
}

/// What a node could give up for the sake of its pool's limits.
#[derive(Clone)]
enum Spare {
    Unknown,
    Nothing,
    /// All but these choices, which are charged with so much.
    AllBut(Bits, Vec<i64>),
}

/// How a pod fits on a new node: what the node would be with it.
pub(super) struct Fit {
    /// Its requirements, if the pod changes them.
    pub(super) requirements: Option<Requirements>,
    pub(super) choices: Bits,
    pub(super) decided: Decided,
    /// Whether only because the pool's demand for different values is given up.
    pub(super) relaxed: bool,
    /// What it would be charged with if the pool's limits had not taken choices away; `None` if they did not.
    pub(super) unlimited: Option<Vec<i64>>,
}

impl<'a> Open<'a> {
    /// An empty node of the pool, about to take the pod that it fits.
    pub(super) fn new(
        index: usize,
        template: &Template<'_>,
        topology: &Topology<'_>,
        fit: &Fit,
        why: Vec<NewNodeReason>,
    ) -> Self {
        let mut requirements = fit.requirements.clone().unwrap_or_else(|| template.base.clone());
        let seats = 0..topology.groups.keys.len();
        let seats: Vec<Seat> = seats.map(|key| topology.new_seat(template, key, &fit.choices, &requirements)).collect();
        for (key, seat) in seats.iter().enumerate() {
            // What the pool leaves open is that from now on.
            if let Seat::In(domain) = seat
                && !template.is_of_the_machine(topology.groups.keys[key])
            {
                requirements.add(topology.pin(key, *domain));
            }
        }
        Self {
            template: index,
            seats,
            requirements,
            here: Here::default(),
            used: vec![0; template.axis.len()],
            ports: Vec::new(),
            largest_room: template.largest_room(&fit.choices),
            charge: template.charge(&fit.choices),
            choices: fit.choices.clone(),
            stale: false,
            spare: Spare::Unknown,
            kinds: BTreeSet::new(),
            relaxed: fit.relaxed,
            pods: Vec::new(),
            why,
            narrowed: None,
            counts: Counts::new(),
            planned: false,
        }
    }

    /// The most of each resource that any of its choices leaves to more pods.
    pub(super) fn largest_free(&self) -> Vec<i64> {
        let mut free = self.largest_room.clone();
        axis::subtract(&mut free, &self.used);
        free
    }

    /// Whether one of its choices has room for one more pod of the kind, and what the node would be then.
    pub(super) fn fits(
        &self,
        template: &Template<'a>,
        kind: &Kind<'_>,
        kind_index: usize,
        topology: &Topology<'a>,
    ) -> Result<Fit, Refusal> {
        let shape = &kind.shape;
        let total = |(used, more): (&i64, &i64)| used.saturating_add(*more);
        let mut totals = self.used.iter().zip(&shape.request).map(total).zip(&self.largest_room);
        if totals.any(|(total, room)| total > 0 && total > *room) {
            return Err(Refusal::Resource);
        }
        // What an empty node cannot take, no node of the pool can.
        let Some(fresh) = &kind.fresh[self.template] else { return Err(Refusal::Requirement) };
        let relations = &shape.relations;
        let decided = relations.keys.iter().filter(|key| self.seats[**key] != Seat::Undecided);
        let verdicts = decided.map(|key| topology.verdict(relations, *key, self.seats[*key]));
        for verdict in verdicts.chain([topology.verdict_here(relations, &self.here)]) {
            if verdict != Verdict::Fine {
                return Err(Refusal::Topology(verdict));
            }
        }
        if kind.clash(&self.ports).is_some() {
            return Err(Refusal::HostPort);
        }
        if let [wanted] = shape.alternatives.as_slice()
            && !self.kinds.contains(&kind_index)
            && wanted.iter().any(|want| self.contradicts(want))
        {
            return Err(Refusal::Requirement);
        }
        let mut used = self.used.clone();
        axis::add(&mut used, &shape.request);
        let undecided: Vec<usize> =
            relations.keys.iter().copied().filter(|key| self.seats[*key] == Seat::Undecided).collect();
        let known = kind.goes_anywhere() || self.kinds.contains(&kind_index);
        let mut refusal = Refusal::Requirement;
        for alternative in fresh.alternative..shape.alternatives.len() {
            let mut choices = self.choices.clone();
            if shape.alternatives.len() == 1 {
                choices.keep_common(&fresh.choices);
            }
            let joint = if known {
                None
            } else {
                let Ok((joint, changed)) = template.join(&self.requirements, &shape.alternatives[alternative]) else {
                    continue;
                };
                if !(0..self.seats.len()).all(|key| self.is_told(template, key, &joint, topology)) {
                    continue;
                }
                template.keep_holding(&mut choices, &changed);
                Some(joint)
            };
            template.keep_roomy(&mut choices, &used);
            template.keep_portly(&mut choices, kind.shape.ports);
            let enough = |choices: &Bits| self.relaxed || template.too_few_values(choices).is_none();
            let has = joint.as_ref().unwrap_or(&self.requirements);
            let settling = Settling { topology, template, relations, has, counts: &self.counts, enough: &enough };
            let had = !choices.is_empty();
            if let Some((choices, decided)) = settling.settle(&undecided, choices) {
                return Ok(Fit { requirements: joint, choices, decided, relaxed: self.relaxed, unlimited: None });
            }
            if had && !undecided.is_empty() {
                refusal = Refusal::Topology(Verdict::NotNow);
            }
            if known {
                break;
            }
        }
        Err(refusal)
    }

    /// Whether what its pods want of a label leaves nothing that is wanted so: most nodes are refused for that where many pods
    /// want different values, and it is soon seen.
    fn contradicts(&self, want: &Requirement) -> bool {
        want.key() != labels::HOSTNAME && self.requirements.get(want.key()).is_some_and(|has| !has.overlaps(want))
    }

    /// Whether it would still be where it is in terms of a label, or in some domain, with these requirements.
    fn is_told(&self, template: &Template<'_>, key: usize, has: &Requirements, topology: &Topology<'_>) -> bool {
        let name = topology.groups.keys[key];
        let set = || has.get(name).is_some_and(|wanted| !wanted.may_be_absent());
        let appears = self.seats[key] == Seat::Nowhere && !template.is_of_the_machine(name) && set();
        !appears && topology.is_told(template, key, has)
    }

    /// Takes a pod that fits so. Returns whether its requirements are others now.
    pub(super) fn put(
        &mut self,
        template: &Template<'_>,
        kind: &Kind<'_>,
        topology: &Topology<'_>,
        fit: Fit,
        put: Put<'a>,
    ) -> bool {
        axis::add(&mut self.used, &kind.shape.request);
        self.ports.extend(kind.shape.ports.iter().cloned());
        self.pods.push(put);
        let mut narrowed = fit.requirements.is_some() || !fit.decided.is_empty();
        if let Some(requirements) = fit.requirements {
            self.requirements = requirements;
            self.kinds.insert(put.kind);
        }
        for (key, domain) in fit.decided {
            self.seats[key] = match domain {
                Some(domain) => {
                    self.requirements.add(topology.pin(key, domain));
                    Seat::In(domain)
                }
                None => Seat::Nowhere,
            };
        }
        let (mut choices, counted) = (fit.choices, &kind.shape.relations.counted);
        if topology.is_counted_by_labels(counted) {
            let decided = self.counts.len();
            let enough = |choices: &Bits| self.relaxed || template.too_few_values(choices).is_none();
            let (requirements, counts) = (&mut self.requirements, &mut self.counts);
            let node = Scope { requirements, choices: &mut choices, counts };
            let is_settled = topology.settle_counting(template, counted, node, &enough);
            debug_assert!(is_settled, "nothing fits for which this cannot be decided");
            narrowed |= self.counts.len() > decided;
        }
        if choices != self.choices {
            self.choices = choices;
            self.spare = Spare::Unknown;
            self.stale = true;
            // What only the room takes away are the smallest: that leaves the largest as they are.
            if narrowed {
                self.measure(template);
            }
        }
        narrowed
    }

    /// Works out anew what the largest of the choices is.
    pub(super) fn measure(&mut self, template: &Template<'_>) {
        self.largest_room = template.largest_room(&self.choices);
        self.charge = template.charge(&self.choices);
        self.stale = false;
    }

    /// Gives up all but these choices.
    pub(super) fn keep(&mut self, template: &Template<'_>, choices: Bits) {
        self.choices = choices;
        self.spare = Spare::Unknown;
        self.measure(template);
    }

    /// Whether it may have fewer values than its pool demands.
    pub(super) fn is_relaxed(&self) -> bool {
        self.relaxed
    }

    /// Whether measuring may find a smaller charge.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// The choices no larger than the smallest in what is limited, and what these are charged with, if these are fewer.
    pub(super) fn smallest(&mut self, template: &Template<'_>) -> Option<(&Bits, &[i64])> {
        if matches!(self.spare, Spare::Unknown) {
            self.spare =
                self.find_smallest(template).map_or(Spare::Nothing, |(kept, charge)| Spare::AllBut(kept, charge));
        }
        match &self.spare {
            Spare::AllBut(kept, charge) => Some((kept, charge)),
            Spare::Unknown | Spare::Nothing => None,
        }
    }

    fn find_smallest(&self, template: &Template<'_>) -> Option<(Bits, Vec<i64>)> {
        let enough = |choices: &Bits| self.relaxed || template.too_few_values(choices).is_none();
        let smaller = template.smallest(&self.choices, enough).filter(|smaller| *smaller != self.choices)?;
        let charge = template.charge(&smaller);
        Some((smaller, charge))
    }

    /// Gives up all but these choices, for the sake of the pool's limits: so much was needed of them, and so much was left.
    pub(super) fn narrow(&mut self, template: &Template<'_>, choices: Bits, needed: &[i64], left: &[i64]) {
        let before = std::mem::take(&mut self.charge);
        self.choices = choices;
        self.spare = Spare::Nothing;
        self.measure(template);
        self.note_narrowed(template, &before, needed, left);
    }

    /// Says which limit took larger choices away: among those of which the largest choice had more before, the one that left the
    /// least of what was needed.
    pub(super) fn note_narrowed(&mut self, template: &Template<'_>, before: &[i64], needed: &[i64], left: &[i64]) {
        let fell = (0..template.limits.len()).filter(|limit| self.charge[*limit] < before[*limit]);
        let share = |limit: &usize| i128::from(left[*limit]) * 1_000_000 / i128::from(needed[*limit].max(1));
        if let Some(limit) = fell.min_by_key(share) {
            let (resource, left) = (template.limits[limit].resource.clone(), Amount(self.charge[limit]));
            self.narrowed = Some(NewNodeReason::NarrowedByLimit { resource, left });
        }
    }

    /// Adds to what was planned everything else that all its pods fit on where they are, and that takes no more of the
    /// pool's limits.
    pub(super) fn widen(&mut self, template: &Template<'_>, topology: &Topology<'_>) {
        let machine = |wanted: &&Requirement| template.is_of_the_machine(wanted.key());
        let wanted: Vec<Requirement> = self.requirements.iter().filter(machine).cloned().collect();
        let mut choices = template.available.clone();
        template.keep_holding(&mut choices, &wanted);
        template.keep_roomy(&mut choices, &self.used);
        topology.keep_inside(self.template, &self.seats, &mut choices);
        topology.keep_uncounted(template, &self.requirements, &self.counts, &mut choices);
        for (key, seat) in self.seats.iter().enumerate() {
            for (domain, can) in &template.domains[key] {
                match seat {
                    Seat::In(here) if here == domain => choices.keep_common(can),
                    Seat::Nowhere => choices.retain(|index| !can.contains(index)),
                    _ => {}
                }
            }
        }
        let taken = |port: &HostPort| self.ports.iter().any(|other| other.clashes_with(port));
        choices.retain(|index| {
            let choice = &template.choices[index];
            choice.remaining.is_none()
                && axis::fits(&choice.limited, &self.charge)
                && !template.shapes[choice.shape].ports.iter().any(taken)
        });
        choices.add_all(&self.choices);
        self.choices = choices;
    }

    /// What is bought for it if nothing else is in the way, and for how many pods.
    pub(super) fn bought<'c>(&self, template: &'c Template<'a>, max_alternatives: usize) -> (&'c Choice<'a>, usize) {
        let first = self.choices.iter().next().map(|index| &template.choices[index]);
        // What brings a value of the first label that is demanded is kept.
        let is_kept = |first: &&Choice<'_>| match template.min_values.first() {
            Some((key, _)) => first.adds_to(key, &mut BTreeSet::new()),
            None => true,
        };
        let of_all = || cheapest(template, &self.choices, max_alternatives.max(1)).first().copied();
        let first = first.filter(is_kept).or_else(of_all);
        (first.expect("a node has a choice for the pod it was opened for"), self.pods.len())
    }

    /// The node as it is to be made.
    pub(super) fn finish(mut self, templates: &[Template<'_>], max_alternatives: usize) -> NewNode {
        let template = &templates[self.template];
        let of = self.choices.len();
        self.why.extend(self.narrowed.take());
        let kept = cheapest(template, &self.choices, max_alternatives.max(1));
        let price = kept.first().map(|choice| choice.price).unwrap_or_default();
        let next = kept.iter().find(|choice| choice.price > price);
        let next = next.map(|choice| PricedOffering { key: choice.key(), price: choice.price });
        self.why.push(NewNodeReason::Costs { price, next });
        if kept.len() < of {
            self.why.push(NewNodeReason::Truncated { kept: kept.len(), of });
        }
        let mut capacity = ResourceList::new();
        let mut daemons = vec![0; template.axis.len()];
        let mut last = "";
        for choice in &kept {
            if choice.machine.name != last {
                capacity.max_with(&choice.machine.capacity);
                last = &choice.machine.name;
            }
            axis::max(&mut daemons, &template.shapes[choice.shape].daemons);
        }
        let mut requests = self.used.clone();
        axis::add(&mut requests, &daemons);
        let mut pods: Vec<_> = self.pods.iter().map(|put| put.pod.key.clone()).collect();
        pods.sort();
        NewNode {
            pool: template.pool.key.clone(),
            labels: labels_to_set(template, &self.requirements),
            requirements: self.requirements,
            price,
            offerings: kept.iter().map(|choice| PricedOffering { key: choice.key(), price: choice.price }).collect(),
            taints: template.pool.taints.clone(),
            startup_taints: template.pool.startup_taints.clone(),
            requests: template.axis.list(&requests),
            capacity,
            pods,
            why: self.why,
        }
    }

    /// Whether fewer different values remain possible than its pool demands.
    pub(super) fn lacks_values(&self, template: &Template<'_>) -> bool {
        self.relaxed && template.too_few_values(&self.choices).is_some()
    }
}

/// The cheapest so many, and before these the cheapest that bring the values the pool demands.
fn cheapest<'c, 'a>(template: &'c Template<'a>, choices: &Bits, max: usize) -> Vec<&'c Choice<'a>> {
    let mut kept = BTreeSet::new();
    for (key, needed) in &template.min_values {
        let mut values = BTreeSet::new();
        for index in &kept {
            let choice: &Choice<'_> = &template.choices[*index];
            choice.adds_to(key, &mut values);
        }
        for index in choices.iter() {
            if values.len() >= *needed as usize {
                break;
            }
            if template.choices[index].adds_to(key, &mut values) {
                kept.insert(index);
            }
        }
    }
    for index in choices.iter() {
        if kept.len() >= max {
            break;
        }
        kept.insert(index);
    }
    kept.into_iter().map(|index| &template.choices[index]).collect()
}

/// The labels that making a node must set: the pool's, its name, and a value for every other label the pool leaves open.
fn labels_to_set(template: &Template<'_>, requirements: &Requirements) -> BTreeMap<String, String> {
    let mut set = template.pool.labels.clone();
    for requirement in requirements.iter() {
        let key = requirement.key();
        if template.is_of_the_machine(key) || requirement.may_be_absent() || key == labels::HOSTNAME {
            continue;
        }
        if !set.contains_key(key)
            && let Some(value) = requirement.example()
        {
            set.insert(key.to_owned(), value);
        }
    }
    set
}
