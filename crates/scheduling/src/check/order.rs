//! Spread and required affinity: whether the kube-scheduler could bind the placed pods one after another so that every
//! demand holds at the moment of each binding.
//!
//! Who is away from whom needs no order ([`super::apart`]); who is near whom needs the other to be there first; a spread
//! looks at the counts as they are when the pod comes. Counts only grow while pods are placed, so:
//!
//! - among pods that demand the same and are counted by nothing else, any order that goes on while it can finds the end: what
//!   the next pod of a domain needs is that the emptiest domain has so many, and that number never falls again;
//! - among pods with different skews that count each other, the emptiest domain first and the tightest skew first does;
//! - pods that are counted but demand nothing can wait until they are needed to lift the emptiest domain.
//!
//! One group of pods that bear on each other after the other, the order that the plan was made in is tried first: a claim that
//! is checked here turn by turn like any other order. Where it does not hold, [`forward`] plays the rules above. Where that is
//! stuck, other priorities are tried, and at last orders are searched for, one pod after the other ([`backtrack`]).
//!
//! # Caveats
//! The search has a bound. Where pods of different demands count each other in several ways, it may end before the one order
//! there is, or the proof that there is none; the plan is then refused though it could be carried out. Never the other way: an
//! accepted plan has the order found. What depends on the purchase is taken at its worst, and one order must do for whatever
//! is bought.

mod backtrack;
mod counters;
mod forward;

use std::collections::{BTreeMap, BTreeSet};

use self::{
    counters::{Behaviour, Refusal, Rule, State, Tally},
    forward::{Class, Priority, Queue},
};
use super::{
    Violation,
    crowd::{Crowd, Selection},
    ground::Suit,
    topology::{Map, Scope},
};
use crate::{NodeInclusion, PodKey, Snapshot, Solution, Target};

/// Reports the pods for which no order is found, and those whose node may lack the label that a demand of theirs is about.
pub(super) fn check<'a>(
    crowd: &Crowd<'a>,
    solution: &Solution,
    map: &mut Map<'_, 'a>,
    violations: &mut Vec<Violation>,
) {
    let mut plot = Plot { of_kind: vec![Behaviour::default(); crowd.kinds.len()], ..Plot::default() };
    let placed: BTreeSet<usize> = crowd.placed.iter().map(|cluster| cluster.kind).collect();
    for kind in placed {
        plot.ask(kind, crowd, map);
    }
    if plot.tallies.is_empty() && plot.companies.is_empty() {
        return;
    }
    plot.count(crowd);
    let tally = |((_, topology), counters)| Tally { topology, counters };
    let tallies = plot.tallies.into_iter().map(tally).collect();
    let companies = by_index(plot.companies.iter().map(|((_, topology), index)| (*index, *topology)));
    let mut state = State::new(&map.all, map.sites(), plot.scopes, tallies, &companies);
    let mut known = BTreeMap::new();
    let mut behaviours = Vec::new();
    let of_kind: Vec<usize> = plot
        .of_kind
        .into_iter()
        .map(|behaviour| {
            *known.entry(behaviour.clone()).or_insert_with(|| {
                behaviours.push(behaviour);
                behaviours.len() - 1
            })
        })
        .collect();
    for cluster in &crowd.bound {
        state.settle(&behaviours[of_kind[cluster.kind]], cluster);
    }
    let queues = queues(crowd, &of_kind, &behaviours, &state, violations);
    let mut work = backtrack::WORK;
    for mut group in groups(queues, &behaviours, &state) {
        for (pod, site, refusal) in stuck(&mut group, solution, &behaviours, &mut state, &mut work) {
            violations.push(violation(pod, target(crowd.snapshot, site), refusal));
        }
    }
}

/// What the placed pods ask about the others.
#[derive(Default)]
struct Plot<'a> {
    /// By kind of pods.
    of_kind: Vec<Behaviour>,
    scopes: Vec<Scope>,
    known_scopes: BTreeMap<ScopeKey<'a>, usize>,
    /// Which pods are counted, over which topology; by scope, the counter.
    tallies: BTreeMap<(Selection, usize), BTreeMap<usize, usize>>,
    counters: usize,
    /// Which pods are wanted near, over which topology: those that every one of the pod's terms is about.
    companies: BTreeMap<(Vec<Selection>, usize), usize>,
}

/// What decides which nodes count: the pod's labels and tolerations, how far the policies look at them, the labels that the
/// nodes must have, and the one of them whose values are the domains, and the domains in which pools could make nodes.
type ScopeKey<'a> = (Suit<'a>, [NodeInclusion; 2], Vec<usize>, usize, BTreeSet<String>);

impl<'a> Plot<'a> {
    /// Notes what pods of this kind demand.
    fn ask(&mut self, index: usize, crowd: &Crowd<'a>, map: &mut Map<'_, 'a>) {
        let kind = &crowd.kinds[index];
        let asked = crowd.asked.get(&index).cloned().unwrap_or_default();
        let mut keys: Vec<usize> = kind.spreads().map(|spread| map.topology(&spread.topology_key)).collect();
        keys.sort_unstable();
        keys.dedup();
        for spread in kind.spreads() {
            let Some(suit) = kind.suit else { continue };
            let selection = Selection::of_spread(kind, spread);
            let itself = u32::from(selection.selects(kind, map.snapshot()));
            let topology = map.topology(&spread.topology_key);
            let offered = map.offered(&suit, spread, &keys, &asked);
            let mut min_domains = spread.min_domains.unwrap_or(1) as usize;
            if let Some(all) = crowd.asked_of_all.get(kind.namespace).filter(|_| min_domains > 1) {
                // Domains in which only pods without a place could be are some of these, too.
                let more = map.offered(&suit, spread, &keys, all).difference(&offered).count();
                min_domains = min_domains.saturating_sub(more);
            }
            let policies = [spread.node_affinity_policy, spread.node_taints_policy];
            let known = self.known_scopes.entry((suit, policies, keys.clone(), topology, offered));
            let offered = known.key().4.clone();
            let scope = *known.or_insert_with(|| {
                self.scopes.push(map.scope(&suit, spread, &keys, &offered));
                self.scopes.len() - 1
            });
            let counter = *self.tallies.entry((selection, topology)).or_default().entry(scope).or_insert(self.counters);
            self.counters = self.counters.max(counter + 1);
            self.of_kind[index].rules.push(Rule { counter, max_skew: spread.max_skew, min_domains, itself });
        }
        let selections: Vec<Selection> = kind.near().map(|term| Selection::of_term(kind, term)).collect();
        self.of_kind[index].is_first = selections.iter().all(|selection| selection.selects(kind, map.snapshot()));
        for term in kind.near() {
            let topology = map.topology(&term.topology_key);
            let next = self.companies.len();
            let company = *self.companies.entry((selections.clone(), topology)).or_insert(next);
            self.of_kind[index].near.push(company);
        }
        self.of_kind[index].is_first &= !selections.is_empty();
    }

    /// Notes who is counted by what was asked about.
    fn count(&mut self, crowd: &Crowd<'a>) {
        for (tally, (selection, _)) in self.tallies.keys().enumerate() {
            for kind in crowd.selected(std::slice::from_ref(selection)) {
                self.of_kind[kind].counted.push(tally);
            }
        }
        for ((selections, _), company) in &self.companies {
            for kind in crowd.selected(selections) {
                self.of_kind[kind].supports.push(*company);
            }
        }
    }
}

fn by_index<T>(numbered: impl Iterator<Item = (usize, T)>) -> Vec<T> {
    let mut all: Vec<_> = numbered.collect();
    all.sort_unstable_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, one)| one).collect()
}

/// The placed pods by behaviour, without those that cannot come in any order.
fn queues<'c, 'a>(
    crowd: &'c Crowd<'a>,
    of_kind: &[usize],
    behaviours: &[Behaviour],
    state: &State<'_>,
    violations: &mut Vec<Violation>,
) -> Vec<Queue<'c, 'a>> {
    let mut classes: BTreeMap<usize, Vec<Class<'c, 'a>>> = BTreeMap::new();
    for cluster in &crowd.placed {
        let behaviour = of_kind[cluster.kind];
        if let Some(key) = state.missing_label(&behaviours[behaviour], cluster.site) {
            let node = target(crowd.snapshot, cluster.site);
            let missing =
                |pod: &&PodKey| Violation::NoDomain { pod: (*pod).clone(), node: node.clone(), key: key.to_owned() };
            violations.extend(cluster.pods.iter().map(missing));
            continue;
        }
        let class = Class { site: cluster.site, pods: &cluster.pods, left: cluster.pods.len() };
        classes.entry(behaviour).or_default().push(class);
    }
    classes.into_iter().map(|(behaviour, classes)| Queue::new(behaviour, classes)).collect()
}

/// The queues that bear on each other, group by group, without groups in which nobody demands anything.
fn groups<'c, 'a>(queues: Vec<Queue<'c, 'a>>, behaviours: &[Behaviour], state: &State<'_>) -> Vec<Vec<Queue<'c, 'a>>> {
    let mut leader: Vec<usize> = (0..queues.len()).collect();
    let mut first_with: BTreeMap<(bool, usize), usize> = BTreeMap::new();
    for (index, queue) in queues.iter().enumerate() {
        let behaviour = &behaviours[queue.behaviour];
        let tallies = state.tallies_of(behaviour).map(|tally| (true, tally));
        let companies = behaviour.near.iter().chain(&behaviour.supports).copied();
        let links = tallies.chain(companies.map(|company| (false, company)));
        for link in links {
            let other = *first_with.entry(link).or_insert(index);
            let (one, other) = (find(&mut leader, index), find(&mut leader, other));
            leader[one.max(other)] = one.min(other);
        }
    }
    let mut groups: BTreeMap<usize, Vec<Queue<'c, 'a>>> = BTreeMap::new();
    for (index, queue) in queues.into_iter().enumerate() {
        groups.entry(find(&mut leader, index)).or_default().push(queue);
    }
    let demands = |group: &Vec<Queue<'_, '_>>| group.iter().any(|queue| behaviours[queue.behaviour].demands());
    groups.into_values().filter(demands).collect()
}

fn find(leader: &mut [usize], mut index: usize) -> usize {
    while leader[index] != index {
        leader[index] = leader[leader[index]];
        index = leader[index];
    }
    index
}

/// Looks for an order; the pods that the first attempt leaves over if there is none.
fn stuck<'a>(
    group: &mut [Queue<'_, 'a>],
    solution: &Solution,
    behaviours: &[Behaviour],
    state: &mut State<'_>,
    work: &mut u64,
) -> Vec<(&'a PodKey, usize, Refusal)> {
    let turn = |pod: &PodKey| solution.placed.get(pod).map(|placement| placement.turn);
    if forward::follow(group, behaviours, state, turn) {
        return Vec::new();
    }
    forward::take_off(group, behaviours, state);
    let mut over = Vec::new();
    for priority in Priority::ALL {
        if forward::place(group, behaviours, state, priority) {
            return Vec::new();
        }
        if priority == Priority::ALL[0] {
            over = left_over(group, behaviours, state);
        }
        forward::take_off(group, behaviours, state);
    }
    // Half of what is left, so that one group cannot leave the others without.
    let mut share = *work / 2;
    *work -= share;
    let found = backtrack::finds(group, behaviours, state, &mut share);
    *work += share;
    if found { Vec::new() } else { over }
}

fn left_over<'a>(
    group: &[Queue<'_, 'a>],
    behaviours: &[Behaviour],
    state: &State<'_>,
) -> Vec<(&'a PodKey, usize, Refusal)> {
    let mut over = Vec::new();
    for queue in group {
        for class in &queue.classes {
            let refusal = state.refusal(&behaviours[queue.behaviour], class.site);
            let pods = class.pods[..class.left].iter();
            over.extend(refusal.iter().flat_map(|why| pods.clone().map(|pod| (*pod, class.site, why.clone()))));
        }
    }
    over
}

fn violation(pod: &PodKey, node: Target, refusal: Refusal) -> Violation {
    let pod = pod.clone();
    match refusal {
        Refusal::Skew { key, there, least, max_skew } => Violation::Uneven { pod, node, key, there, least, max_skew },
        Refusal::NotNear { key } => Violation::NotNear { pod, node, key },
        Refusal::NoDomain { key } => Violation::NoDomain { pod, node, key },
    }
}

fn target(snapshot: &Snapshot, site: usize) -> Target {
    match snapshot.nodes.get(site) {
        Some(node) => Target::Existing(node.key.clone()),
        None => Target::New(site - snapshot.nodes.len()),
    }
}
