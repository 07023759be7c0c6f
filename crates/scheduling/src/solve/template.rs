use std::collections::{BTreeMap, BTreeSet};

use requirements::{Requirement, Requirements, labels};
use units::{Amount, ResourceName, UsdMicrosPerHour};

use super::{
    axis::{self, Axis},
    kind::{Daemon, Kind},
};
use crate::{CapacityType, HostPort, InstanceType, OfferingKey, Pool, Snapshot, Unfit};

/// A pool and everything its nodes can be.
pub(super) struct Template<'a> {
    pub(super) pool: &'a Pool,
    pub(super) axis: &'a Axis,
    /// The pool's requirements with its labels and its name.
    pub(super) base: Requirements,
    pub(super) choices: Vec<Choice<'a>>,
    pub(super) shapes: Vec<Shape>,
    pub(super) limits: Vec<Limit>,
    /// How many different values of which labels must stay possible.
    pub(super) min_values: Vec<(String, u32)>,
    /// Labels that the choice of a machine decides; all others are the pool's to set.
    machine_keys: BTreeSet<&'a str>,
}

/// An offering that the pool's own requirements allow.
pub(super) struct Choice<'a> {
    pub(super) machine: &'a InstanceType,
    pub(super) zone: &'a str,
    pub(super) capacity_type: CapacityType,
    pub(super) price: UsdMicrosPerHour,
    pub(super) available: bool,
    pub(super) shape: usize,
    /// What it has of each limited resource.
    pub(super) limited: Vec<i64>,
}

/// Choices with the same room and the same daemons.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
pub(super) struct Shape {
    /// What is left for pods.
    pub(super) free: Vec<i64>,
    /// What daemons take.
    pub(super) daemons: Vec<i64>,
    pub(super) ports: Vec<HostPort>,
}

/// A limit of the pool.
pub(super) struct Limit {
    pub(super) resource: ResourceName,
    pub(super) most: i64,
    /// What is left of it before this solve; less than nothing if it is passed already.
    pub(super) left: i64,
}

/// An empty node of the pool as one kind of pod needs it.
pub(super) struct Fresh {
    pub(super) alternative: usize,
    pub(super) requirements: Requirements,
    pub(super) choices: Bits,
}

/// What a pod wants of a label that a node cannot have.
pub(super) struct Conflict {
    key: String,
    wanted: Requirement,
    has: Option<Requirement>,
}

impl Conflict {
    fn of(wanted: &Requirement, has: Option<&Requirement>) -> Self {
        Self { key: wanted.key().to_owned(), wanted: wanted.clone(), has: has.cloned() }
    }
}

impl<'a> Template<'a> {
    pub(super) fn new(pool: &'a Pool, snapshot: &Snapshot, axis: &'a Axis, daemons: &[Daemon<'_>]) -> Self {
        let mut base = pool.requirements.clone();
        base.add_all(&Requirements::from_labels(&pool.labels));
        base.add(Requirement::one_of(pool.key.kind.label(), [pool.key.name.as_str()]));
        let min_values = base.iter().filter_map(|one| one.min_values().map(|n| (one.key().to_owned(), n))).collect();
        let named = pool.instance_types.iter().flat_map(|machine| machine.requirements.iter().map(Requirement::key));
        let mut machine_keys: BTreeSet<&str> = named.collect();
        machine_keys.extend([labels::ZONE, labels::CAPACITY_TYPE, labels::INSTANCE_TYPE, labels::ARCH, labels::OS]);
        let mut template = Self {
            pool,
            axis,
            base,
            choices: Vec::new(),
            shapes: Vec::new(),
            limits: limits(pool, snapshot),
            min_values,
            machine_keys,
        };
        template.fill(daemons);
        template
    }

    fn fill(&mut self, daemons: &[Daemon<'_>]) {
        let mut machines: Vec<&InstanceType> = self.pool.instance_types.iter().collect();
        machines.sort_by_key(|machine| &machine.name);
        let base: Vec<Requirement> =
            self.base.iter().filter(|one| self.is_of_the_machine(one.key())).cloned().collect();
        let daemons: Vec<_> = daemons.iter().filter_map(|daemon| DaemonHere::new(daemon, self)).collect();
        let mut shapes: BTreeMap<Shape, usize> = BTreeMap::new();
        for machine in machines {
            let mut offerings: Vec<_> = machine.offerings.iter().collect();
            offerings.sort();
            let limited = self.limits.iter().map(|limit| limit.of(machine)).collect::<Vec<_>>();
            let allocatable = self.axis.allocatable(machine);
            for offering in offerings {
                let mut choice = Choice {
                    machine,
                    zone: &offering.zone,
                    capacity_type: offering.capacity_type,
                    price: offering.price,
                    available: offering.available,
                    shape: 0,
                    limited: limited.clone(),
                };
                if !base.iter().all(|wanted| choice.can_have(wanted)) {
                    continue;
                }
                let len = self.axis.len();
                let mut shape = Shape { free: allocatable.clone(), daemons: vec![0; len], ports: Vec::new() };
                for daemon in daemons.iter().filter(|daemon| daemon.runs_on(&choice)) {
                    axis::subtract(&mut shape.free, &daemon.daemon.request);
                    axis::add(&mut shape.daemons, &daemon.daemon.request);
                    shape.ports.extend(daemon.daemon.pod.host_ports.iter().cloned());
                }
                let next = shapes.len();
                choice.shape = *shapes.entry(shape).or_insert(next);
                self.choices.push(choice);
            }
        }
        let mut ordered: Vec<_> = shapes.into_iter().map(|(shape, index)| (index, shape)).collect();
        ordered.sort_by_key(|(index, _)| *index);
        self.shapes = ordered.into_iter().map(|(_, shape)| shape).collect();
    }

    /// Whether the choice of a machine decides the label.
    pub(super) fn is_of_the_machine(&self, key: &str) -> bool {
        self.machine_keys.contains(key) || (labels::is_of_the_machine(key) && !self.pool.labels.contains_key(key))
    }

    /// A node's requirements with a pod's joined, and which of them the machine must be looked at for.
    pub(super) fn join(
        &self,
        node: &Requirements,
        wanted: &Requirements,
    ) -> Result<(Requirements, Vec<Requirement>), Conflict> {
        let mut joint = node.clone();
        let mut changed = Vec::new();
        for want in wanted.iter() {
            match (want.key(), node.get(want.key())) {
                // A new node's name is none that anybody could know.
                (labels::HOSTNAME, _) if want.finite().is_some() => return Err(Conflict::of(want, None)),
                (labels::HOSTNAME, _) => {}
                // It will have these before any pod runs on it.
                (labels::INITIALIZED | labels::REGISTERED, None) if want.allows(Some("true")) => {}
                (key, Some(has)) => {
                    let both = has.intersect(want);
                    if both.is_empty() {
                        return Err(Conflict::of(want, Some(has)));
                    }
                    if both != *has {
                        if self.is_of_the_machine(key) {
                            changed.push(both.clone());
                        }
                        joint.replace(both);
                    }
                }
                (key, None) if self.is_of_the_machine(key) && !want.is_empty() => {
                    changed.push(want.clone());
                    joint.replace(want.clone());
                }
                // Nobody sets it, so it will be absent.
                (_, None) if want.may_be_absent() => {}
                (_, None) => return Err(Conflict::of(want, None)),
            }
        }
        Ok((joint, changed))
    }

    /// What an empty node says to a pod of this kind; limits aside.
    pub(super) fn fresh(&self, kind: &Kind<'_>) -> Result<Fresh, Unfit> {
        let mut nearest: Option<Unfit> = None;
        for (alternative, wanted) in kind.alternatives.iter().enumerate() {
            match self.fresh_for(kind, wanted) {
                Ok((requirements, choices)) => return Ok(Fresh { alternative, requirements, choices }),
                Err(unfit) if nearest.as_ref().is_none_or(|other| unfit.distance() < other.distance()) => {
                    nearest = Some(unfit);
                }
                Err(_) => {}
            }
        }
        Err(nearest.expect("a kind has at least one alternative"))
    }

    fn fresh_for(&self, kind: &Kind<'_>, wanted: &Requirements) -> Result<(Requirements, Bits), Unfit> {
        let pool = self.pool.key.clone();
        if let Some(nothing) = self.base.first_empty() {
            return Err(Unfit::Contradiction { pool, key: nothing.key().to_owned() });
        }
        if let Some(taint) = kind.untolerated(&self.pool.taints) {
            return Err(Unfit::Taint { pool, taint: taint.clone() });
        }
        let (joint, changed) = self.join(&self.base, wanted).map_err(|conflict| self.unfit(conflict))?;
        let mut left: Vec<usize> = (0..self.choices.len()).collect();
        if left.is_empty() {
            return Err(Unfit::NoOffering { pool, unavailable: 0 });
        }
        for want in &changed {
            let before = left.clone();
            left.retain(|index| self.choices[*index].can_have(want));
            if left.is_empty() {
                let has = self.values(&before, want.key());
                return Err(Unfit::Requirement { pool, key: want.key().to_owned(), wanted: want.clone(), has });
            }
        }
        for (position, asked) in kind.request.iter().enumerate().filter(|(_, asked)| **asked > 0) {
            let free = |index: &usize| self.shapes[self.choices[*index].shape].free[position];
            let largest = left.iter().map(free).max().unwrap_or(0);
            left.retain(|index| free(index) >= *asked);
            if left.is_empty() {
                let name = self.axis.name(position).clone();
                let (asked, largest_free) = (Amount(*asked), Amount(largest.max(0)));
                return Err(Unfit::Resource { pool, name, asked, largest_free });
            }
        }
        let mut clash = None;
        left.retain(|index| {
            let found = kind.clash(&self.shapes[self.choices[*index].shape].ports);
            clash = clash.or(found);
            found.is_none()
        });
        if left.is_empty() {
            let port = clash.expect("only a clash took the last choice away").clone();
            return Err(Unfit::HostPort { pool, port });
        }
        let would_do = left.len();
        left.retain(|index| self.choices[*index].available);
        if left.is_empty() {
            return Err(Unfit::NoOffering { pool, unavailable: would_do });
        }
        let choices = Bits::of(self.choices.len(), left);
        self.enough_values(&choices)?;
        Ok((joint, choices))
    }

    fn unfit(&self, conflict: Conflict) -> Unfit {
        let Conflict { key, wanted, has } = conflict;
        Unfit::Requirement { pool: self.pool.key.clone(), key, wanted, has }
    }

    /// What some choices have of a label, together; `None` if none of them has it.
    fn values(&self, choices: &[usize], key: &str) -> Option<Requirement> {
        let mut values = BTreeSet::new();
        for index in choices {
            self.choices[*index].add_values(key, &mut values);
        }
        (!values.is_empty()).then(|| Requirement::one_of(key, values))
    }

    /// Whether so many values as the pool demands remain possible of every label.
    pub(super) fn enough_values(&self, choices: &Bits) -> Result<(), Unfit> {
        for (key, needed) in &self.min_values {
            let mut values = BTreeSet::new();
            choices.iter().for_each(|index| self.choices[index].add_values(key, &mut values));
            if values.len() < *needed as usize {
                let (pool, key) = (self.pool.key.clone(), key.clone());
                return Err(Unfit::MinValues { pool, key, needed: *needed, found: values.len() });
            }
        }
        Ok(())
    }

    /// The resource-wise largest of the choices, in limited resources.
    pub(super) fn charge(&self, choices: &Bits) -> Vec<i64> {
        let mut charge = vec![0; self.limits.len()];
        if !charge.is_empty() {
            choices.iter().for_each(|index| axis::max(&mut charge, &self.choices[index].limited));
        }
        charge
    }

    /// The resource-wise largest room that any of the choices leaves to pods.
    pub(super) fn largest_room(&self, choices: &Bits) -> Vec<i64> {
        let mut room = vec![i64::MIN; self.axis.len()];
        let mut last = usize::MAX;
        for index in choices.iter() {
            let shape = self.choices[index].shape;
            if shape != last {
                axis::max(&mut room, &self.shapes[shape].free);
                last = shape;
            }
        }
        room
    }

    /// The choice that takes the least of the limits.
    pub(super) fn least_limited(&self, choices: &Bits) -> Option<usize> {
        choices.iter().min_by_key(|index| {
            let choice = &self.choices[*index];
            let share =
                |(limit, amount): (&Limit, &i64)| i128::from(*amount) * 1_000_000 / i128::from(limit.most.max(1));
            (self.limits.iter().zip(&choice.limited).map(share).sum::<i128>(), choice.price, *index)
        })
    }
}

fn limits(pool: &Pool, snapshot: &Snapshot) -> Vec<Limit> {
    let nodes = || snapshot.nodes.iter().filter(|node| node.pool.as_ref() == Some(&pool.key)).count();
    let limit = |(resource, limit): (&ResourceName, Amount)| {
        let counted = pool.used.named(resource);
        let used = match counted {
            None if resource.as_str() == NODES => i64::try_from(nodes()).unwrap_or(i64::MAX),
            _ => counted.unwrap_or_default().0,
        };
        Limit { resource: resource.clone(), most: limit.0, left: limit.0.saturating_sub(used) }
    };
    pool.limits.iter().flat_map(units::ResourceList::iter).map(limit).collect()
}

/// The resource of which every node has one.
const NODES: &str = "nodes";

impl Limit {
    fn of(&self, machine: &InstanceType) -> i64 {
        if self.resource.as_str() == NODES { 1 } else { machine.capacity.get(&self.resource).0 }
    }
}

impl Choice<'_> {
    pub(super) fn key(&self) -> OfferingKey {
        OfferingKey {
            instance_type: self.machine.name.clone(),
            zone: self.zone.to_owned(),
            capacity_type: self.capacity_type,
        }
    }

    /// Whether a machine bought this way can have the label so.
    pub(super) fn can_have(&self, wanted: &Requirement) -> bool {
        match wanted.key() {
            labels::ZONE => wanted.allows(Some(self.zone)),
            labels::CAPACITY_TYPE => wanted.allows(Some(self.capacity_type.as_str())),
            labels::INSTANCE_TYPE => wanted.allows(Some(&self.machine.name)),
            key => match self.machine.requirements.get(key) {
                Some(has) => has.overlaps(wanted),
                None => wanted.may_be_absent(),
            },
        }
    }

    fn add_values(&self, key: &str, values: &mut BTreeSet<String>) {
        match key {
            labels::ZONE => values.insert(self.zone.to_owned()),
            labels::CAPACITY_TYPE => values.insert(self.capacity_type.to_string()),
            labels::INSTANCE_TYPE => values.insert(self.machine.name.clone()),
            key => {
                let has = self.machine.requirements.get(key).and_then(Requirement::finite);
                values.extend(has.into_iter().flatten().cloned());
                true
            }
        };
    }

    /// Whether the value is new among these.
    pub(super) fn adds_to(&self, key: &str, values: &mut BTreeSet<String>) -> bool {
        let before = values.len();
        self.add_values(key, values);
        values.len() > before
    }

    /// Whether the rest of every limit suffices for it. What it has nothing of does not count.
    pub(super) fn within(&self, left: &[i64]) -> bool {
        axis::fits(&self.limited, left)
    }
}

/// A daemon that may run on nodes of the pool, and what it wants of the machine, by alternative.
struct DaemonHere<'d> {
    daemon: &'d Daemon<'d>,
    wanted: Vec<Vec<Requirement>>,
}

impl<'d> DaemonHere<'d> {
    fn new(daemon: &'d Daemon<'_>, template: &Template<'_>) -> Option<Self> {
        if !daemon.tolerates(&template.pool.taints) {
            return None;
        }
        let here = |wanted| template.join(&template.base, wanted).ok().map(|(_, changed)| changed);
        let wanted: Vec<_> = daemon.alternatives.iter().filter_map(here).collect();
        (!wanted.is_empty()).then_some(Self { daemon, wanted })
    }

    /// Pods that narrow the node later can only keep the daemon away, so this never reckons with too little.
    fn runs_on(&self, choice: &Choice<'_>) -> bool {
        self.wanted.iter().any(|wanted| wanted.iter().all(|want| choice.can_have(want)))
    }
}

/// A set of small numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn of(len: usize, members: impl IntoIterator<Item = usize>) -> Self {
        let mut bits = Self(vec![0; len.div_ceil(64)]);
        members.into_iter().for_each(|member| bits.0[member / 64] |= 1 << (member % 64));
        bits
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(word_index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest.checked_sub(1)?;
                Some(word_index * 64 + bit)
            })
        })
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        for (word_index, word) in self.0.iter_mut().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                if !keep(word_index * 64 + bit) {
                    *word &= !(1 << bit);
                }
            }
        }
    }

    pub(super) fn keep_common(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}
