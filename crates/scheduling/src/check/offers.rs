//! The domains in which pools could make nodes for pods, as if each such node were the first.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use requirements::Requirement;
use units::{Amount, ResourceList, ResourceName};

use super::{
    ground::{Ground, Suit},
    labels::{Demand, Labels, Possible},
    ledger,
};
use crate::{HostPort, Offering, Pod, PodKey, Pool, PoolKey, Snapshot, untolerated};

/// What a pod takes of a node: what it asks for more than nothing of, and its ports.
pub(super) type Ask<'a> = (Vec<(&'a ResourceName, Amount)>, &'a [HostPort]);

/// What a pod takes of a node.
pub(super) fn ask(pod: &Pod) -> Ask<'_> {
    (pod.requests.iter().filter(|(_, amount)| *amount > Amount::ZERO).collect(), &pod.host_ports)
}

/// Those of them that take no more than another takes: where one of all has room, one of these has.
pub(super) fn least(asked: BTreeSet<Ask<'_>>) -> BTreeSet<Ask<'_>> {
    let together = |(requests, _): &Ask<'_>| requests.iter().map(|(_, amount)| i128::from(amount.0)).sum::<i128>();
    let is_within = |(few, some): &Ask<'_>, (more, all): &Ask<'_>| {
        let of = |name: &ResourceName| more.iter().find(|(other, _)| *other == name).map(|(_, amount)| *amount);
        few.iter().all(|(name, amount)| of(name).is_some_and(|other| *amount <= other))
            && some.iter().all(|port| all.contains(port))
    };
    let mut all: Vec<Ask<'_>> = asked.into_iter().collect();
    all.sort_by_key(together);
    let mut least: Vec<Ask<'_>> = Vec::new();
    for ask in all {
        if !least.iter().any(|other| is_within(other, &ask)) {
            least.push(ask);
        }
    }
    least.into_iter().collect()
}

/// Everything that pools could buy now.
pub(super) struct Offers<'a> {
    ways: Vec<Way<'a>>,
    rooms: Vec<Room<'a>>,
    /// How many values of a label there are.
    all: BTreeMap<String, usize>,
    /// How many of them suit some pods.
    suiting: BTreeMap<(Suit<'a>, String, Vec<String>), usize>,
}

struct Way<'a> {
    possible: Possible<'a>,
    /// What is there for pods, by index.
    room: usize,
}

struct Room<'a> {
    allocatable: Rc<ResourceList>,
    /// What the daemons that may run there ask for.
    daemons: ResourceList,
    ports: Vec<&'a HostPort>,
}

impl Room<'_> {
    fn has(&self, (requests, ports): &Ask<'_>) -> bool {
        let is_free = |port: &HostPort| !self.ports.iter().any(|taken| taken.clashes_with(port));
        let is_there = |(name, amount): &(&ResourceName, Amount)| {
            self.daemons.get(name).saturating_add(*amount) <= self.allocatable.get(name)
        };
        requests.iter().all(is_there) && ports.iter().all(is_free)
    }
}

impl<'a> Offers<'a> {
    pub(super) fn new(ground: &Ground<'a>) -> Self {
        let mut offers = Self { ways: Vec::new(), rooms: Vec::new(), all: BTreeMap::new(), suiting: BTreeMap::new() };
        let mut rooms: BTreeMap<(&PoolKey, &str, Vec<&PodKey>), usize> = BTreeMap::new();
        for market in ground.pools.values() {
            let pool = market.pool;
            let taking: Vec<&Pod> = tolerating(ground.snapshot, pool).collect();
            for machine in market.machines.values() {
                if !ledger::has_room_for_one(ground.snapshot, pool, &machine.capacity) {
                    continue;
                }
                let allocatable = Rc::new(machine.allocatable());
                let there = |offering: &&Offering| offering.available && offering.remaining != Some(0);
                for offering in machine.offerings.iter().filter(there) {
                    let capacity_type = offering.capacity_type.as_str();
                    let possible = Possible { pool, machine, zone: &offering.zone, capacity_type };
                    let is_wanted = |wanted: &Requirement| possible.label(wanted.key()).may_be_within(wanted);
                    if !possible.is_as_labelled() || !pool.requirements.iter().all(is_wanted) {
                        continue;
                    }
                    let daemons: Vec<&Pod> =
                        taking.iter().copied().filter(|daemon| Demand::of(daemon).may_suit(&possible)).collect();
                    let names = daemons.iter().map(|daemon| &daemon.key).collect();
                    let next = offers.rooms.len();
                    let room = *rooms.entry((&pool.key, &machine.name, names)).or_insert(next);
                    if room == next {
                        offers.rooms.push(Room::beside(&daemons, Rc::clone(&allocatable)));
                    }
                    offers.ways.push(Way { possible, room });
                }
            }
        }
        offers
    }

    /// The values of the label on nodes that pools could make for pods of this kind, each of which takes one of these of its
    /// node, where the node has all labels of these names. What the policies say of nodes there are does not matter.
    pub(super) fn domains(
        &mut self,
        suit: &Suit<'a>,
        key: &str,
        names: &[String],
        asked: &BTreeSet<Ask<'_>>,
    ) -> BTreeSet<String> {
        let Self { ways, rooms, all, suiting } = self;
        let values = |way: &Way<'a>| way.possible.label(key).values().unwrap_or_default();
        let all =
            *all.entry(key.to_owned()).or_insert_with(|| ways.iter().flat_map(values).collect::<BTreeSet<_>>().len());
        let suiting = suiting.entry((*suit, key.to_owned(), names.to_vec()));
        let suiting = *suiting.or_insert_with(|| found(ways.iter(), suit, key, names, all).len());
        let mut known: Vec<Option<bool>> = vec![None; rooms.len()];
        let mut has_room =
            |way: &&Way<'a>| *known[way.room].get_or_insert_with(|| asked.iter().any(|ask| rooms[way.room].has(ask)));
        found(ways.iter().filter(&mut has_room), suit, key, names, suiting)
    }
}

impl<'a> Room<'a> {
    fn beside(daemons: &[&'a Pod], allocatable: Rc<ResourceList>) -> Self {
        let mut sum = ResourceList::new();
        for daemon in daemons {
            sum.add(&ask(daemon).0.into_iter().map(|(name, amount)| (name.clone(), amount)).collect());
        }
        Self { allocatable, daemons: sum, ports: daemons.iter().flat_map(|daemon| &daemon.host_ports).collect() }
    }
}

/// The daemons that taints of the pool do not keep away.
pub(super) fn tolerating<'a>(snapshot: &'a Snapshot, pool: &Pool) -> impl Iterator<Item = &'a Pod> {
    let daemons = snapshot.daemons.iter().map(AsRef::as_ref);
    daemons.filter(|daemon: &&Pod| untolerated(&daemon.tolerations, &pool.taints).is_none())
}

/// The values of a label that nodes for such pods can have which bear all of these labels; of so many at most.
fn found<'w, 'a: 'w>(
    ways: impl Iterator<Item = &'w Way<'a>>,
    suit: &Suit<'_>,
    key: &str,
    names: &[String],
    most: usize,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for Way { possible: one, .. } in ways {
        if found.len() == most {
            break;
        }
        let values = one.label(key).values().unwrap_or_default();
        if values.iter().all(|value| found.contains(value))
            || untolerated(suit.tolerations, &one.pool.taints).is_some()
            || !names.iter().all(|name| one.label(name).is_certain())
        {
            continue;
        }
        if suit.labels.is_nothing() {
            found.extend(values);
        } else {
            found.extend(suit.labels.values_that_suit(one, key));
        }
    }
    found
}
