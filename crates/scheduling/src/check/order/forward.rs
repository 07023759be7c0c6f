//! Places a group of pods one by one as long as any may come.

use std::collections::{BTreeMap, VecDeque};

use super::counters::{Behaviour, State};
use crate::PodKey;

/// Pods of one behaviour on one node.
#[derive(Debug)]
pub(super) struct Class<'c, 'a> {
    pub(super) site: usize,
    pub(super) pods: &'c [&'a PodKey],
    /// How many of them are still to come.
    pub(super) left: usize,
}

/// Pods of one behaviour, wherever they go.
#[derive(Debug)]
pub(super) struct Queue<'c, 'a> {
    pub(super) behaviour: usize,
    pub(super) classes: Vec<Class<'c, 'a>>,
    buckets: Vec<Bucket>,
}

/// The classes on nodes that are in the same places, hosts aside.
#[derive(Debug)]
struct Bucket {
    waiting: VecDeque<usize>,
    /// When nothing in it could come last.
    blocked: Option<u64>,
}

/// Whose turn it is when several may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// The smallest skew first, affinity last.
    Tightest,
    /// Affinity first, then the smallest skew.
    Company,
    /// The largest skew first.
    Loosest,
}

impl Priority {
    pub(super) const ALL: [Self; 3] = [Self::Tightest, Self::Company, Self::Loosest];

    fn rank(self, behaviour: &Behaviour) -> (bool, u32) {
        let skew = behaviour.rules.iter().map(|rule| rule.max_skew).min().unwrap_or(u32::MAX);
        let company = !behaviour.near.is_empty();
        let rank = match self {
            Self::Company if company => 0,
            Self::Tightest | Self::Company => skew,
            Self::Loosest => u32::MAX - skew,
        };
        (!behaviour.demands(), rank)
    }
}

impl<'c, 'a> Queue<'c, 'a> {
    pub(super) fn new(behaviour: usize, classes: Vec<Class<'c, 'a>>) -> Self {
        Self { behaviour, classes, buckets: Vec::new() }
    }

    /// How many pods are still to come.
    pub(super) fn left(&self) -> usize {
        self.classes.iter().map(|class| class.left).sum()
    }

    /// Fills the buckets anew.
    fn line_up(&mut self, behaviour: &Behaviour, state: &State<'_>) {
        let topologies = state.tallies_of(behaviour).map(|tally| state.topology_of_tally(tally));
        let companies = behaviour.near.iter().chain(&behaviour.supports);
        let topologies = topologies.chain(companies.map(|company| state.topology_of_company(*company)));
        let shared: Vec<_> = topologies.filter(|topology| !topology.is_hostname).collect();
        let mut by_places: BTreeMap<Vec<usize>, VecDeque<usize>> = BTreeMap::new();
        for (index, class) in self.classes.iter().enumerate().filter(|(_, class)| class.left > 0) {
            let places = shared.iter().map(|topology| topology.place_index(class.site)).collect();
            by_places.entry(places).or_default().push_back(index);
        }
        self.buckets = by_places.into_values().map(|waiting| Bucket { waiting, blocked: None }).collect();
        for bucket in &mut self.buckets {
            let classes = &self.classes;
            bucket.waiting.make_contiguous().sort_by_key(|index| hosts_fill(behaviour, state, classes[*index].site));
        }
    }

    /// Places one pod, if one may come; the emptiest places first.
    fn step(&mut self, behaviour: &Behaviour, state: &mut State<'_>, others: &Others) -> bool {
        let stamp = state.stamp(behaviour);
        loop {
            let open = self.buckets.iter().enumerate().filter(|(_, bucket)| bucket.blocked != Some(stamp));
            let emptiest = open
                .filter_map(|(index, bucket)| {
                    let site = self.classes[*bucket.waiting.front()?].site;
                    Some((others.fill(behaviour, state, site), index))
                })
                .min();
            let Some((_, index)) = emptiest else { return false };
            if self.step_in(index, behaviour, state) {
                return true;
            }
            self.buckets[index].blocked = Some(stamp);
        }
    }

    fn step_in(&mut self, bucket: usize, behaviour: &Behaviour, state: &mut State<'_>) -> bool {
        let waiting = &mut self.buckets[bucket].waiting;
        let Some(first) = waiting.front().copied() else { return false };
        if state.refusal_of_places(behaviour, self.classes[first].site).is_some() {
            return false;
        }
        if !behaviour.demands() {
            // It could come anywhere: where it lifts the emptiest host.
            let fill = |position: &usize| hosts_fill(behaviour, state, self.classes[waiting[*position]].site);
            let position = (0..waiting.len()).min_by_key(fill).unwrap_or(0);
            waiting.rotate_left(position);
        }
        for _ in 0..waiting.len() {
            let Some(class) = waiting.pop_front() else { return false };
            let one = &mut self.classes[class];
            if state.refusal(behaviour, one.site).is_none() {
                state.add(behaviour, one.site);
                one.left -= 1;
                if one.left > 0 {
                    waiting.push_back(class);
                }
                return true;
            }
            waiting.push_back(class);
        }
        false
    }
}

/// How many are on the node of those by which hosts are compared.
fn hosts_fill(behaviour: &Behaviour, state: &State<'_>, site: usize) -> u32 {
    let counting = state.counting(behaviour, site).into_iter().map(|(counter, _)| counter);
    let on_hosts = counting.filter(|counter| state.topology_of(*counter).is_hostname);
    on_hosts.map(|counter| state.fill(counter, site)).fold(0, u32::saturating_add)
}

/// How many of each company will come by themselves, by domain: where some will, nobody need be the first.
struct Others(BTreeMap<(usize, usize), usize>);

impl Others {
    fn of(queues: &[Queue<'_, '_>], behaviours: &[Behaviour], state: &State<'_>) -> Self {
        let mut coming = BTreeMap::new();
        for queue in queues {
            let behaviour = &behaviours[queue.behaviour];
            let supported = behaviour.supports.iter().filter(|company| !behaviour.near.contains(company));
            for company in supported {
                let topology = state.topology_of_company(*company);
                for class in &queue.classes {
                    if let Some(domain) = topology.place(class.site).single() {
                        *coming.entry((*company, domain)).or_default() += class.left;
                    }
                }
            }
        }
        Self(coming)
    }

    /// By what places are compared: first, whether the pod would found its company where others would have come anyway.
    fn fill(&self, behaviour: &Behaviour, state: &State<'_>, site: usize) -> (usize, u32) {
        let found = if behaviour.near.is_empty() || !state.may_found(behaviour, site) {
            0
        } else {
            let coming = |company: &usize| {
                let domain = state.topology_of_company(*company).place(site).single()?;
                self.0.get(&(*company, domain)).copied()
            };
            behaviour.near.iter().filter_map(coming).sum()
        };
        let counting = state.counting(behaviour, site).into_iter().map(|(counter, _)| counter);
        let counters = behaviour.rules.iter().map(|rule| rule.counter).chain(counting);
        let shared = counters.filter(|counter| !state.topology_of(*counter).is_hostname);
        (found, shared.map(|counter| state.fill(counter, site)).fold(0, u32::saturating_add))
    }
}

/// Places what may come, in the order of the priority; whether every pod with a demand came.
pub(super) fn place(
    queues: &mut [Queue<'_, '_>],
    behaviours: &[Behaviour],
    state: &mut State<'_>,
    priority: Priority,
) -> bool {
    for queue in queues.iter_mut() {
        queue.line_up(&behaviours[queue.behaviour], state);
    }
    let others = Others::of(queues, behaviours, state);
    let founders: Vec<&Behaviour> =
        queues.iter().map(|queue| &behaviours[queue.behaviour]).filter(|one| one.is_first).collect();
    for queue in queues.iter_mut() {
        let behaviour = &behaviours[queue.behaviour];
        let awaited =
            |company: &usize| state.is_empty(*company) && founders.iter().any(|one| one.near.contains(company));
        if !behaviour.demands() && behaviour.counted.is_empty() && !behaviour.supports.iter().any(awaited) {
            // It stands in nobody's way.
            while queue.step(behaviour, state, &others) {}
        }
    }
    let mut turns: Vec<usize> = (0..queues.len()).collect();
    turns.sort_by_key(|index| (priority.rank(&behaviours[queues[*index].behaviour]), *index));
    let mut demanding: usize =
        queues.iter().filter(|queue| behaviours[queue.behaviour].demands()).map(Queue::left).sum();
    while demanding > 0 {
        let came = turns.iter().find(|index| {
            let queue = &mut queues[**index];
            queue.step(&behaviours[queue.behaviour], state, &others)
        });
        let Some(came) = came else { return false };
        demanding -= usize::from(behaviours[queues[*came].behaviour].demands());
    }
    true
}

/// Places everybody in the order of these turns, as long as each may come; whether all did.
pub(super) fn follow<T: Ord>(
    queues: &mut [Queue<'_, '_>],
    behaviours: &[Behaviour],
    state: &mut State<'_>,
    turn: impl Fn(&PodKey) -> T,
) -> bool {
    let mut turns = Vec::new();
    for (queue, one) in queues.iter().enumerate() {
        for (class, there) in one.classes.iter().enumerate() {
            turns.extend(there.pods.iter().map(|pod| (turn(pod), queue, class)));
        }
    }
    turns.sort_unstable();
    turns.into_iter().all(|(_, queue, class)| {
        let behaviour = &behaviours[queues[queue].behaviour];
        let one = &mut queues[queue].classes[class];
        let may_come = state.refusal(behaviour, one.site).is_none();
        if may_come {
            state.add(behaviour, one.site);
            one.left -= 1;
        }
        may_come
    })
}

/// Takes everything off again.
pub(super) fn take_off(queues: &mut [Queue<'_, '_>], behaviours: &[Behaviour], state: &mut State<'_>) {
    for queue in queues {
        for class in &mut queue.classes {
            for _ in class.left..class.pods.len() {
                state.remove(&behaviours[queue.behaviour], class.site);
            }
            class.left = class.pods.len();
        }
    }
}
