//! How many pods of some sort are in each domain of a topology: what spreading and affinity between pods are decided by.

use std::{collections::BTreeMap, slice, sync::Arc};

use requirements::{Operator, RequirementTerm, labels};

use super::world::World;
use crate::{LabelSelector, OwnerKey, Pod, PodAffinityTerm, Snapshot, TopologySpread};

/// Which namespaces a term is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// This one.
    Own(String),
    /// These, and those whose labels are selected.
    Listed { names: Vec<String>, selector: Option<LabelSelector> },
}

/// Pods by namespace and label. Without a selector: none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Selection {
    scope: Scope,
    selector: Option<LabelSelector>,
}

impl Selection {
    /// The pods that an affinity term of this pod is about.
    pub(super) fn of_term(pod: &Pod, term: &PodAffinityTerm) -> Self {
        let scope = if term.namespaces.is_empty() && term.namespace_selector.is_none() {
            Scope::Own(pod.key.namespace.clone())
        } else {
            Scope::Listed { names: term.namespaces.clone(), selector: term.namespace_selector.clone() }
        };
        let own = [(&term.match_label_keys, Operator::In), (&term.mismatch_label_keys, Operator::NotIn)];
        Self { scope, selector: with_own_labels(term.selector.as_ref(), pod, &own) }
    }

    /// The pods that a spread of this pod counts. An empty selector counts none, though it selects every pod. (That the pod
    /// itself is selected makes no difference then: one more than none is within every skew.)
    pub(super) fn of_spread(pod: &Pod, spread: &TopologySpread) -> Self {
        let selector = with_own_labels(spread.selector.as_ref(), pod, &[(&spread.match_label_keys, Operator::In)]);
        let selector = selector.filter(|selector| *selector != LabelSelector::default());
        Self { scope: Scope::Own(pod.key.namespace.clone()), selector }
    }

    pub(super) fn selects(&self, pod: &Pod, snapshot: &Snapshot) -> bool {
        let namespace = &pod.key.namespace;
        let there = match &self.scope {
            Scope::Own(own) => own == namespace,
            Scope::Listed { names, selector } => {
                let nothing = BTreeMap::new();
                let labels = snapshot.namespace_labels.get(namespace).unwrap_or(&nothing);
                names.contains(namespace) || selector.as_ref().is_some_and(|selector| selector.matches(labels))
            }
        };
        there && self.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
    }
}

fn with_own_labels(
    selector: Option<&LabelSelector>,
    pod: &Pod,
    own: &[(&Vec<String>, Operator)],
) -> Option<LabelSelector> {
    let mut selector = selector?.clone();
    for (keys, operator) in own {
        for (key, value) in keys.iter().filter_map(|key| pod.labels.get_key_value(key)) {
            selector.match_expressions.push(RequirementTerm::new(key, *operator, [value.as_str()]));
        }
    }
    Some(selector)
}

/// Which pods a counter counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Counted {
    /// Those that are in every one of the selections.
    Selected(Vec<Selection>),
    /// Those that are selected and were not told to go.
    Staying(Selection),
    /// Those with this owner that were not told to go.
    Owned(String, OwnerKey),
    /// Those that have such a term themselves; once for each time they have it.
    Holding(Held),
}

/// A term of affinity as other pods meet it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Held {
    pub(super) attitude: Attitude,
    pub(super) selection: Selection,
    pub(super) topology_key: String,
}

/// What the holder of a term feels about the pods it selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attitude {
    MustBeNear,
    MustBeAway,
    /// With this weight; negative: would like to be away.
    Likes(i64),
}

/// A topology: each node's domain, if it is in one.
#[derive(Debug)]
pub(super) struct Topology {
    pub(super) domain: Vec<Option<usize>>,
    pub(super) domains: usize,
    /// Every node is a domain of its own.
    pub(super) is_hostname: bool,
}

impl Topology {
    fn of(key: &str, world: &World<'_>) -> Self {
        let key = labels::normalize(key);
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        let domain = world
            .sites
            .iter()
            .map(|site| {
                let next = known.len();
                site.labels.get(key).map(|value| *known.entry(value).or_insert(next))
            })
            .collect();
        Self { domain, domains: known.len(), is_hostname: key == labels::HOSTNAME }
    }
}

/// Which pods, over which topology, on which nodes.
type CounterKey = (Counted, usize, Option<Arc<[bool]>>);

/// One count per domain.
#[derive(Debug)]
struct Counter {
    topology: usize,
    /// The nodes whose pods count; `None`: all nodes.
    nodes: Option<Arc<[bool]>>,
    count: Vec<i64>,
    total: i64,
}

/// All counters and who is counted by which.
#[derive(Debug, Default)]
pub(super) struct Counters<'a> {
    pub(super) topologies: Vec<Topology>,
    all: Vec<Counter>,
    /// For each group of pods the counters that count them.
    counted_by: Vec<Vec<usize>>,
    groups: Vec<Group<'a>>,
    in_namespace: BTreeMap<&'a str, Vec<usize>>,
    holders: BTreeMap<Held, Vec<usize>>,
    owned: BTreeMap<(&'a str, &'a OwnerKey), Vec<usize>>,
    known_topologies: BTreeMap<String, usize>,
    known_groups: BTreeMap<GroupKey<'a>, usize>,
    known: BTreeMap<CounterKey, usize>,
}

/// Pods that no selector and no term tells apart.
#[derive(Debug)]
struct Group<'a> {
    /// One of them.
    pod: &'a Pod,
    /// Whether they run and were told to go.
    terminating: bool,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey<'a> {
    namespace: &'a str,
    labels: &'a BTreeMap<String, String>,
    owner: Option<&'a OwnerKey>,
    spread: &'a [TopologySpread],
    near: &'a [PodAffinityTerm],
    away: &'a [PodAffinityTerm],
    terminating: bool,
}

impl<'a> Counters<'a> {
    /// The group of a pod that was told to go or was not, new or known. All groups must be known before the first counter is made.
    pub(super) fn group(&mut self, pod: &'a Pod, terminating: bool) -> usize {
        let key = GroupKey {
            namespace: &pod.key.namespace,
            labels: &pod.labels,
            owner: pod.owner.as_ref(),
            spread: &pod.topology_spread,
            near: &pod.pod_affinity,
            away: &pod.pod_anti_affinity,
            terminating,
        };
        if let Some(group) = self.known_groups.get(&key) {
            return *group;
        }
        let group = self.groups.len();
        self.known_groups.insert(key, group);
        self.groups.push(Group { pod, terminating });
        self.counted_by.push(Vec::new());
        self.in_namespace.entry(&pod.key.namespace).or_default().push(group);
        if let Some(owner) = &pod.owner {
            self.owned.entry((&pod.key.namespace, owner)).or_default().push(group);
        }
        for held in held_terms(pod) {
            self.holders.entry(held).or_default().push(group);
        }
        group
    }

    /// Every term that some pod has, and so may bear on others.
    pub(super) fn held(&self) -> impl Iterator<Item = &Held> {
        self.holders.keys()
    }

    pub(super) fn topology(&mut self, key: &str, world: &World<'_>) -> usize {
        if let Some(topology) = self.known_topologies.get(key) {
            return *topology;
        }
        self.topologies.push(Topology::of(key, world));
        self.known_topologies.insert(key.to_owned(), self.topologies.len() - 1);
        self.topologies.len() - 1
    }

    /// The counter of these pods over this topology, on these nodes only if any are named; new or known.
    pub(super) fn counter(
        &mut self,
        counted: Counted,
        topology: usize,
        nodes: Option<Arc<[bool]>>,
        snapshot: &Snapshot,
    ) -> usize {
        let key = (counted, topology, nodes);
        if let Some(counter) = self.known.get(&key) {
            return *counter;
        }
        let counter = self.all.len();
        for group in self.members(&key.0, snapshot) {
            self.counted_by[group].push(counter);
        }
        let count = vec![0; self.topologies[topology].domains];
        self.all.push(Counter { topology, nodes: key.2.clone(), count, total: 0 });
        self.known.insert(key, counter);
        counter
    }

    fn members(&self, counted: &Counted, snapshot: &Snapshot) -> Vec<usize> {
        match counted {
            Counted::Holding(held) => self.holders.get(held).cloned().unwrap_or_default(),
            Counted::Owned(namespace, owner) => {
                let owned = self.owned.get(&(namespace.as_str(), owner)).map_or(&[][..], Vec::as_slice);
                self.staying(owned.iter().copied())
            }
            Counted::Selected(selections) => self.selected(selections, snapshot),
            Counted::Staying(selection) => self.staying(self.selected(slice::from_ref(selection), snapshot)),
        }
    }

    fn staying(&self, groups: impl IntoIterator<Item = usize>) -> Vec<usize> {
        groups.into_iter().filter(|group| !self.groups[*group].terminating).collect()
    }

    fn selected(&self, selections: &[Selection], snapshot: &Snapshot) -> Vec<usize> {
        let own = selections.first().and_then(|selection| match &selection.scope {
            Scope::Own(namespace) => Some(namespace.as_str()),
            Scope::Listed { .. } => None,
        });
        let selected = |group: &usize| selections.iter().all(|one| one.selects(self.groups[*group].pod, snapshot));
        match own {
            Some(namespace) => {
                let there = self.in_namespace.get(namespace).map_or(&[][..], Vec::as_slice);
                there.iter().copied().filter(selected).collect()
            }
            None => (0..self.groups.len()).filter(selected).collect(),
        }
    }

    /// Counts one pod of the group on a node.
    pub(super) fn add(&mut self, group: usize, node: usize) {
        for counter in &self.counted_by[group] {
            let counter = &mut self.all[*counter];
            let domain = self.topologies[counter.topology].domain[node];
            let counts = counter.nodes.as_ref().is_none_or(|nodes| nodes[node]);
            if let Some(domain) = domain.filter(|_| counts) {
                counter.count[domain] += 1;
                counter.total += 1;
            }
        }
    }

    /// How many pods of some groups, one entry per pod, the counter would count more if they were on this node.
    pub(super) fn would_add(&self, counter: usize, groups: &[usize], node: usize) -> i64 {
        let this = &self.all[counter];
        let counts = this.nodes.as_ref().is_none_or(|nodes| nodes[node]);
        if !counts || self.topologies[this.topology].domain[node].is_none() {
            return 0;
        }
        let times = |group: &usize| self.counted_by[*group].iter().filter(|by| **by == counter).count();
        i64::try_from(groups.iter().map(times).sum::<usize>()).unwrap_or(i64::MAX)
    }

    pub(super) fn topology_of(&self, counter: usize) -> &Topology {
        &self.topologies[self.all[counter].topology]
    }

    pub(super) fn domain(&self, counter: usize, node: usize) -> Option<usize> {
        self.topologies[self.all[counter].topology].domain[node]
    }

    pub(super) fn in_domain(&self, counter: usize, domain: usize) -> i64 {
        self.all[counter].count[domain]
    }

    /// How many there are in the node's domain; none where it is in none.
    pub(super) fn near(&self, counter: usize, node: usize) -> i64 {
        self.domain(counter, node).map_or(0, |domain| self.in_domain(counter, domain))
    }

    pub(super) fn total(&self, counter: usize) -> i64 {
        self.all[counter].total
    }
}

/// Every affinity term of a pod as others meet it.
fn held_terms(pod: &Pod) -> impl Iterator<Item = Held> {
    let of = move |term: &PodAffinityTerm, away: bool| Held {
        attitude: match (term.strength, away) {
            (crate::Strength::Required, false) => Attitude::MustBeNear,
            (crate::Strength::Required, true) => Attitude::MustBeAway,
            (crate::Strength::Preferred { weight }, false) => Attitude::Likes(i64::from(weight)),
            (crate::Strength::Preferred { weight }, true) => Attitude::Likes(-i64::from(weight)),
        },
        selection: Selection::of_term(pod, term),
        topology_key: term.topology_key.clone(),
    };
    let near = pod.pod_affinity.iter().map(move |term| of(term, false));
    near.chain(pod.pod_anti_affinity.iter().map(move |term| of(term, true)))
}
