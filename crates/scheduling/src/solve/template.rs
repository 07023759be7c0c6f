use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use requirements::{Requirement, Requirements, labels};
use units::UsdMicrosPerHour;

use super::{
    ask::Ask,
    axis::{self, Axis},
    bits::{AtLeast, Bits},
    kind::{Daemon, Kind},
    limits::{Limit, limits},
    map::Map,
};
use crate::{
    CapacityType, HostPort, InstanceType, Offering, OfferingKey, Pod, PodKey, Pool, Snapshot, Taint, TaintEffect,
    Unfit, untolerated,
};

/// A pool and everything its nodes can be.
#[derive(Clone)]
pub(super) struct Template<'a> {
    pub(super) pool: &'a Pool,
    pub(super) axis: &'a Axis,
    /// The pool's requirements with its labels and its name.
    pub(super) base: Requirements,
    /// The cheapest first.
    pub(super) choices: Vec<Choice<'a>>,
    pub(super) shapes: Vec<Shape>,
    pub(super) limits: Vec<Limit>,
    /// How many different values of which labels must stay possible.
    pub(super) min_values: Vec<(String, u32)>,
    /// For each of these: by choice, its values, numbered.
    pub(super) values_of: Vec<Vec<Vec<u32>>>,
    /// For each label by whose values pods are related: the domains, by number, and the choices that can be in each.
    pub(super) domains: Vec<Vec<(u32, Bits)>>,
    pub(super) available: Bits,
    /// Those of them that the limits let it buy before this solve.
    pub(super) affordable: Bits,
    /// Choices that can be bought only so often, and which counter says how often.
    pub(super) counted: Vec<(usize, usize)>,
    /// By resource: which choices leave how much to pods.
    room: Vec<AtLeast>,
    /// By limit: which choices have how much of it.
    charges: Vec<AtLeast>,
    /// The choices by how much of the limits they take, the least first.
    pub(super) by_share_of_limits: Vec<usize>,
    has_daemon_ports: bool,
    /// Daemons for which room is kept although other labels of a node could keep them away.
    pub(super) unsure_daemons: BTreeSet<&'a PodKey>,
    /// Labels that the choice of a machine decides; all others are the pool's to set.
    machine_keys: BTreeSet<&'a str>,
    /// What has been found out about which choices can have which labels.
    holding: RefCell<Map<Requirement, Bits>>,
}

/// An offering that the pool's own requirements allow.
#[derive(Clone)]
pub(super) struct Choice<'a> {
    pub(super) machine: &'a InstanceType,
    pub(super) zone: &'a str,
    pub(super) capacity_type: CapacityType,
    pub(super) price: UsdMicrosPerHour,
    pub(super) available: bool,
    /// How many more can be bought this way, if that is limited.
    pub(super) remaining: Option<u32>,
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

/// What an empty node of the pool offers to one kind of pod.
#[derive(Clone)]
pub(super) struct Fresh {
    /// The first of the kind's alternatives that the pool can meet.
    pub(super) alternative: usize,
    pub(super) choices: Bits,
}

/// What a pod wants of a label that a node cannot have.
pub(super) struct Conflict {
    pub(super) key: String,
    pub(super) wanted: Requirement,
    pub(super) has: Option<Requirement>,
}

impl Conflict {
    fn of(wanted: &Requirement, has: Option<&Requirement>) -> Self {
        Self { key: wanted.key().to_owned(), wanted: wanted.clone(), has: has.cloned() }
    }
}

impl<'a> Template<'a> {
    pub(super) fn new(pool: &'a Pool, snapshot: &Snapshot, axis: &'a Axis, daemons: &[Daemon<'a>]) -> Self {
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
            values_of: Vec::new(),
            domains: Vec::new(),
            available: Bits::none(0),
            affordable: Bits::none(0),
            counted: Vec::new(),
            room: Vec::new(),
            charges: Vec::new(),
            by_share_of_limits: Vec::new(),
            has_daemon_ports: false,
            unsure_daemons: BTreeSet::new(),
            machine_keys,
            holding: RefCell::default(),
        };
        template.fill(daemons);
        template.index();
        template
    }

    fn fill(&mut self, daemons: &[Daemon<'a>]) {
        let base: Vec<Requirement> =
            self.base.iter().filter(|one| self.is_of_the_machine(one.key())).cloned().collect();
        let daemons: Vec<_> = daemons.iter().filter_map(|daemon| DaemonHere::new(daemon, self)).collect();
        let offered = self.pool.instance_types.iter();
        let mut offered: Vec<_> =
            offered.flat_map(|machine| machine.offerings.iter().map(move |offering| (machine, offering))).collect();
        // The cheapest first, so that the first of a set of choices is the one to buy.
        offered.sort_by_key(|(machine, offering)| (offering.price, &machine.name, *offering));
        let mut shapes: BTreeMap<Shape, usize> = BTreeMap::new();
        let mut allocatable: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for (machine, offering) in offered {
            let mut choice = Choice::of(machine, offering);
            choice.limited = self.limits.iter().map(|limit| limit.of(machine)).collect();
            if !base.iter().all(|wanted| choice.can_have(wanted)) {
                continue;
            }
            let free = allocatable.entry(&machine.name).or_insert_with(|| self.axis.allocatable(machine)).clone();
            let mut shape = Shape { free, daemons: vec![0; self.axis.len()], ports: Vec::new() };
            for daemon in daemons.iter().filter(|daemon| daemon.runs_on(&choice)) {
                axis::subtract(&mut shape.free, &daemon.daemon.request);
                axis::add(&mut shape.daemons, &daemon.daemon.request);
                shape.ports.extend(daemon.daemon.pod.host_ports.iter().cloned());
                if !daemon.is_sure_on(&choice) {
                    self.unsure_daemons.insert(&daemon.daemon.pod.key);
                }
            }
            let next = shapes.len();
            choice.shape = *shapes.entry(shape).or_insert(next);
            self.choices.push(choice);
        }
        let mut ordered: Vec<_> = shapes.into_iter().map(|(shape, index)| (index, shape)).collect();
        ordered.sort_by_key(|(index, _)| *index);
        self.shapes = ordered.into_iter().map(|(_, shape)| shape).collect();
        self.number_values();
    }

    fn index(&mut self) {
        let column = |position: usize| {
            self.choices.iter().map(|choice| self.shapes[choice.shape].free[position]).collect::<Vec<_>>()
        };
        self.room = (0..self.axis.len()).map(|position| AtLeast::new(&column(position))).collect();
        let charge = |position: usize| self.choices.iter().map(|choice| choice.limited[position]).collect::<Vec<_>>();
        self.charges = (0..self.limits.len()).map(|position| AtLeast::new(&charge(position))).collect();
        self.by_share_of_limits = self.sorted_by_share_of_limits();
        self.has_daemon_ports = self.shapes.iter().any(|shape| !shape.ports.is_empty());
        self.available = self.choices_where(|choice| choice.available && choice.remaining != Some(0));
        let left: Vec<i64> = self.limits.iter().map(|limit| limit.left).collect();
        let mut affordable = self.available.clone();
        self.keep_within(&mut affordable, &left);
        self.affordable = affordable;
    }

    pub(super) fn choices_where(&self, wanted: impl Fn(&Choice<'a>) -> bool) -> Bits {
        Bits::of(self.choices.len(), (0..self.choices.len()).filter(|index| wanted(&self.choices[*index])))
    }

    /// Whether the choice of a machine decides the label.
    pub(super) fn is_of_the_machine(&self, key: &str) -> bool {
        self.machine_keys.contains(key) || (labels::is_of_the_machine(key) && !self.pool.labels.contains_key(key))
    }

    pub(super) fn has_preferred_taint(&self) -> bool {
        self.pool.taints.iter().any(|taint: &Taint| taint.effect == TaintEffect::PreferNoSchedule)
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
            if let Some(both) = self.meet(node, want)? {
                if self.is_of_the_machine(want.key()) {
                    changed.push(both.clone());
                }
                joint.replace(both);
            }
        }
        Ok((joint, changed))
    }

    /// What a node's requirement becomes when a pod wants this of it; `None` if it stays what it is.
    fn meet(&self, node: &Requirements, want: &Requirement) -> Result<Option<Requirement>, Conflict> {
        match (want.key(), node.get(want.key())) {
            // A new node's name is none that anybody could know, and no number.
            (labels::HOSTNAME | labels::NODE_NAME, _) if !want.allows(Some(NAMELESS)) => Err(Conflict::of(want, None)),
            (labels::HOSTNAME | labels::NODE_NAME, _) => Ok(None),
            // It will have these before any pod runs on it.
            (labels::INITIALIZED | labels::REGISTERED, None) if want.allows(Some("true")) => Ok(None),
            (_, Some(has)) => {
                let both = has.intersect(want);
                if both.is_empty() { Err(Conflict::of(want, Some(has))) } else { Ok((both != *has).then_some(both)) }
            }
            (key, None) if self.is_of_the_machine(key) && !want.is_empty() => Ok(Some(want.clone())),
            // Nobody sets it, so it will be absent.
            (_, None) if want.may_be_absent() => Ok(None),
            (_, None) => Err(Conflict::of(want, None)),
        }
    }

    /// All that keeps a node's requirements and a pod's from being joined, if anything does.
    pub(super) fn conflicts(&self, node: &Requirements, wanted: &Requirements) -> Vec<Conflict> {
        wanted.iter().filter_map(|want| self.meet(node, want).err()).collect()
    }

    /// What a pod wants of the machine, as far as the node's requirements leave it anything.
    pub(super) fn of_the_machine(&self, node: &Requirements, wanted: &Requirements) -> Vec<Requirement> {
        let met = wanted.iter().filter(|want| self.is_of_the_machine(want.key()));
        met.filter_map(|want| self.meet(node, want).ok().flatten()).collect()
    }

    /// Why the pool can buy nothing at all: the requirement of its own that none of its types meets, if there is one.
    pub(super) fn nothing_offered(&self) -> Unfit {
        let pool = || self.pool.key.clone();
        let machines = &self.pool.instance_types;
        let offered = || machines.iter().flat_map(|machine| machine.offerings.iter().map(move |one| (machine, one)));
        let own = self.base.iter().filter(|one| self.is_of_the_machine(one.key()));
        let unmet = own
            .filter(|_| offered().next().is_some())
            .find(|wanted| offered().all(|(machine, offering)| !Choice::of(machine, offering).can_have(wanted)));
        let Some(wanted) = unmet else { return Unfit::NoOffering { pool: pool(), unavailable: 0, used_up: 0 } };
        let mut values = BTreeSet::new();
        for (machine, offering) in offered() {
            Choice::of(machine, offering).add_values(wanted.key(), &mut values);
        }
        let offered = (!values.is_empty()).then(|| Requirement::one_of(wanted.key(), values));
        Unfit::NothingOffered { pool: pool(), wanted: wanted.clone(), offered }
    }

    /// What an empty node offers to a pod of this kind, limits and other pods aside.
    pub(super) fn fresh(&self, kind: &Kind<'_>) -> Option<Fresh> {
        if self.base.first_empty().is_some() || kind.untolerated(&self.pool.taints).next().is_some() {
            return None;
        }
        (0..kind.shape.alternatives.len()).find_map(|alternative| {
            let (_, changed) = self.join(&self.base, &kind.shape.alternatives[alternative]).ok()?;
            let mut choices = self.available.clone();
            self.keep_holding(&mut choices, &changed);
            self.keep_roomy(&mut choices, &kind.shape.request);
            self.keep_portly(&mut choices, kind.shape.ports);
            (!choices.is_empty()).then_some(Fresh { alternative, choices })
        })
    }

    /// Whether the pool could make a node for a pod before this solve; `strict`: one that keeps as many values possible as it demands.
    pub(super) fn may_take(&self, pod: &Pod, alternatives: &[Requirements], ask: &Ask<'_>, strict: bool) -> bool {
        let can_be_any = |wanted: &Requirements| {
            let Ok((_, changed)) = self.join(&self.base, wanted) else { return false };
            let mut choices = self.affordable.clone();
            self.keep_holding(&mut choices, &changed);
            self.keep_roomy(&mut choices, &ask.request);
            self.keep_portly(&mut choices, ask.ports);
            !choices.is_empty() && (!strict || self.too_few_values(&choices).is_none())
        };
        self.base.first_empty().is_none()
            && untolerated(&pod.tolerations, &self.pool.taints).is_none()
            && alternatives.iter().any(can_be_any)
    }

    /// Drops the choices that cannot have these labels.
    pub(super) fn keep_holding(&self, choices: &mut Bits, wanted: &[Requirement]) {
        for want in wanted {
            let mut known = self.holding.borrow_mut();
            if !known.contains_key(want) {
                known.insert(want.clone(), self.choices_where(|choice| choice.can_have(want)));
            }
            choices.keep_common(&known[want]);
        }
    }

    /// Drops the choices that leave less than so much to pods.
    pub(super) fn keep_roomy(&self, choices: &mut Bits, used: &[i64]) {
        for (table, used) in self.room.iter().zip(used) {
            if *used > 0 {
                table.keep(choices, *used);
            }
        }
    }

    /// Drops the choices on which a daemon has one of these ports.
    pub(super) fn keep_portly(&self, choices: &mut Bits, ports: &[HostPort]) {
        if self.has_daemon_ports && !ports.is_empty() {
            choices.retain(|index| {
                let taken = &self.shapes[self.choices[index].shape].ports;
                !taken.iter().any(|taken| ports.iter().any(|port| port.clashes_with(taken)))
            });
        }
    }

    /// What the pool could buy for any of such pods before this solve.
    pub(super) fn choices_for(&self, asked: &BTreeSet<Ask<'_>>) -> Bits {
        let mut all = Bits::none(self.choices.len());
        for ask in asked {
            let mut choices = self.affordable.clone();
            self.keep_roomy(&mut choices, &ask.request);
            self.keep_portly(&mut choices, ask.ports);
            all.add_all(&choices);
            if all == self.affordable {
                break;
            }
        }
        all
    }

    /// Drops the choices that have more than what is left of a limit. What they have nothing of does not count.
    pub(super) fn keep_within(&self, choices: &mut Bits, left: &[i64]) {
        for (table, left) in self.charges.iter().zip(left) {
            table.keep_at_most(choices, (*left).max(0));
        }
    }

    /// The choices that can be in one of these domains of a label.
    pub(super) fn choices_in(&self, key: usize, domains: &[u32]) -> Bits {
        let mut inside = Bits::none(self.choices.len());
        let there = self.domains[key].iter().filter(|(domain, _)| domains.contains(domain));
        there.for_each(|(_, can)| inside.add_all(can));
        inside
    }

    /// What some choices have of a label, together; `None` if none of them has it.
    pub(super) fn values(&self, choices: &Bits, key: &str) -> Option<Requirement> {
        let mut values = BTreeSet::new();
        choices.iter().for_each(|index| {
            self.choices[index].adds_to(key, &mut values);
        });
        (!values.is_empty()).then(|| Requirement::one_of(key, values))
    }

    /// The resource-wise largest of the choices, in limited resources.
    pub(super) fn charge(&self, choices: &Bits) -> Vec<i64> {
        self.charges.iter().map(|table| table.most(choices).unwrap_or(0).max(0)).collect()
    }

    /// The resource-wise largest room that any of the choices leaves to pods.
    pub(super) fn largest_room(&self, choices: &Bits) -> Vec<i64> {
        self.room.iter().map(|table| table.most(choices).unwrap_or(i64::MIN)).collect()
    }
}

/// A name that no node has.
const NAMELESS: &str = "\u{0}";

impl<'a> Choice<'a> {
    /// One whose room and limits are not known yet.
    fn of(machine: &'a InstanceType, offering: &'a Offering) -> Self {
        Self {
            machine,
            zone: &offering.zone,
            capacity_type: offering.capacity_type,
            price: offering.price,
            available: offering.available,
            remaining: offering.remaining,
            shape: 0,
            limited: Vec::new(),
        }
    }

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

    /// Whether it has the label so, whichever of its values a node gets.
    fn must_have(&self, wanted: &Requirement) -> bool {
        match wanted.key() {
            labels::ZONE | labels::CAPACITY_TYPE | labels::INSTANCE_TYPE => self.can_have(wanted),
            key => match self.machine.requirements.get(key) {
                Some(has) => has.intersect(wanted) == *has,
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
struct DaemonHere<'d, 'a> {
    daemon: &'d Daemon<'a>,
    wanted: Vec<Vec<Requirement>>,
    /// Whether an alternative wants nothing of labels that the pool leaves open.
    sure: Vec<bool>,
}

impl<'d, 'a> DaemonHere<'d, 'a> {
    fn new(daemon: &'d Daemon<'a>, template: &Template<'_>) -> Option<Self> {
        if !daemon.tolerates(&template.pool.taints) {
            return None;
        }
        let here = |wanted: &Requirements| {
            let (joint, changed) = template.join(&template.base, wanted).ok()?;
            let is_open = |one: &Requirement| !template.is_of_the_machine(one.key());
            let narrowed = joint.iter().any(|one| is_open(one) && template.base.get(one.key()) != Some(one));
            Some((changed, !narrowed))
        };
        let (wanted, sure): (Vec<_>, Vec<_>) = daemon.alternatives.iter().filter_map(here).unzip();
        (!wanted.is_empty()).then_some(Self { daemon, wanted, sure })
    }

    /// Whether it runs on such a machine whatever pods make of its labels.
    fn is_sure_on(&self, choice: &Choice<'_>) -> bool {
        let all = |wanted: &Vec<Requirement>| wanted.iter().all(|want| choice.must_have(want));
        self.wanted.iter().zip(&self.sure).any(|(wanted, sure)| *sure && all(wanted))
    }

    /// Pods that narrow the node later can only keep the daemon away, so this never reckons with too little.
    fn runs_on(&self, choice: &Choice<'_>) -> bool {
        self.wanted.iter().any(|wanted| wanted.iter().all(|want| choice.can_have(want)))
    }
}
