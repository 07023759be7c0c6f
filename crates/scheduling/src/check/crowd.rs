//! All pods, bound and placed, by what others can see of them and by where they are; and who is selected by whom.

use std::collections::{BTreeMap, BTreeSet};

use requirements::{Operator, RequirementTerm};

use super::{
    ground::{Ground, Suit},
    labels::Demand,
    offers::{self, Ask},
};
use crate::{
    LabelSelector, NodeStage, Pod, PodAffinityTerm, PodKey, Snapshot, Strength, TopologySpread, WhenUnsatisfiable,
};

/// Pods of one kind on one node.
#[derive(Debug)]
pub(super) struct Cluster<'a> {
    pub(super) kind: usize,
    /// The node, by its index among those of the snapshot and, behind them, the new ones.
    pub(super) site: usize,
    pub(super) pods: Vec<&'a PodKey>,
    /// Whether the pods run and were told to go.
    pub(super) terminating: bool,
    /// Whether the node takes no more pods.
    pub(super) leaving: bool,
}

/// What spreads and affinities can tell pods apart by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind<'a> {
    pub(super) namespace: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
    spread: &'a [TopologySpread],
    affinity: &'a [PodAffinityTerm],
    anti_affinity: &'a [PodAffinityTerm],
    /// What decides which nodes count, if it spreads.
    pub(super) suit: Option<Suit<'a>>,
}

impl<'a> Kind<'a> {
    fn of(pod: &'a Pod) -> Self {
        let suit = Suit { labels: Demand::of(pod), tolerations: &pod.tolerations };
        let spreads = pod.topology_spread.iter().any(is_hard);
        Self {
            namespace: &pod.key.namespace,
            labels: &pod.labels,
            spread: &pod.topology_spread,
            affinity: &pod.pod_affinity,
            anti_affinity: &pod.pod_anti_affinity,
            suit: spreads.then_some(suit),
        }
    }

    /// The spreads that are demands.
    pub(super) fn spreads(&self) -> impl Iterator<Item = &'a TopologySpread> + use<'a> {
        self.spread.iter().filter(|spread| is_hard(spread))
    }

    /// The affinities that are demands.
    pub(super) fn near(&self) -> impl Iterator<Item = &'a PodAffinityTerm> + use<'a> {
        self.affinity.iter().filter(|term| term.strength == Strength::Required)
    }

    /// The anti-affinities that are demands.
    pub(super) fn away(&self) -> impl Iterator<Item = &'a PodAffinityTerm> + use<'a> {
        self.anti_affinity.iter().filter(|term| term.strength == Strength::Required)
    }
}

fn is_hard(spread: &TopologySpread) -> bool {
    spread.when_unsatisfiable == WhenUnsatisfiable::DoNotSchedule
}

/// Which pods a term of some pod means: by namespace and label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Selection {
    names: Vec<String>,
    namespaces: Option<LabelSelector>,
    /// None: no pod.
    selector: Option<LabelSelector>,
}

impl Selection {
    /// The pods that a spread counts. An empty selector selects every pod and yet counts none: so does the kube-scheduler.
    pub(super) fn of_spread(kind: &Kind<'_>, spread: &TopologySpread) -> Self {
        let selector = with_own(spread.selector.as_ref(), kind, &spread.match_label_keys, &[]);
        let selector = selector.filter(|selector| *selector != LabelSelector::default());
        Self { names: vec![kind.namespace.to_owned()], namespaces: None, selector }
    }

    /// The pods that a term of affinity is about.
    pub(super) fn of_term(kind: &Kind<'_>, term: &PodAffinityTerm) -> Self {
        let mut names = term.namespaces.clone();
        if names.is_empty() && term.namespace_selector.is_none() {
            names.push(kind.namespace.to_owned());
        }
        names.sort();
        let selector = with_own(term.selector.as_ref(), kind, &term.match_label_keys, &term.mismatch_label_keys);
        Self { names, namespaces: term.namespace_selector.clone(), selector }
    }

    pub(super) fn selects(&self, kind: &Kind<'_>, snapshot: &Snapshot) -> bool {
        let Some(selector) = &self.selector else { return false };
        let everywhere = BTreeMap::new();
        let there = self.names.iter().any(|name| name == kind.namespace)
            || self.namespaces.as_ref().is_some_and(|namespaces| {
                namespaces.matches(snapshot.namespace_labels.get(kind.namespace).unwrap_or(&everywhere))
            });
        there && selector.matches(kind.labels)
    }

    /// Labels, one of which every selected pod has; none if there are no such.
    fn marks(&self) -> Vec<Vec<(&str, &str)>> {
        let Some(selector) = &self.selector else { return Vec::new() };
        let exact = selector.match_labels.iter().map(|(key, value)| vec![(key.as_str(), value.as_str())]);
        let listed = selector.match_expressions.iter().filter(|term| term.operator == Operator::In);
        let listed = listed.map(|term| term.values.iter().map(|value| (term.key.as_str(), value.as_str())).collect());
        exact.chain(listed).collect()
    }
}

fn with_own(
    selector: Option<&LabelSelector>,
    kind: &Kind<'_>,
    same: &[String],
    other: &[String],
) -> Option<LabelSelector> {
    let mut selector = selector?.clone();
    for (keys, operator) in [(same, Operator::In), (other, Operator::NotIn)] {
        for (key, value) in keys.iter().filter_map(|key| kind.labels.get_key_value(key)) {
            selector.match_expressions.push(RequirementTerm::new(key, operator, [value.as_str()]));
        }
    }
    Some(selector)
}

/// All pods that may matter to one another.
pub(super) struct Crowd<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) kinds: Vec<Kind<'a>>,
    pub(super) bound: Vec<Cluster<'a>>,
    pub(super) placed: Vec<Cluster<'a>>,
    /// By kind that spreads: what its placed pods take of their nodes.
    pub(super) asked: BTreeMap<usize, BTreeSet<Ask<'a>>>,
    /// By namespace: what all pods that spread take, those without a place, too; if any demands several domains.
    pub(super) asked_of_all: BTreeMap<&'a str, BTreeSet<Ask<'a>>>,
    with_label: BTreeMap<&'a str, BTreeMap<&'a str, Vec<usize>>>,
}

impl<'a> Crowd<'a> {
    /// `None` if no pod demands anything of another.
    pub(super) fn gather(ground: &Ground<'a>) -> Option<Self> {
        let placed = || ground.on_existing.iter().chain(&ground.on_new).flatten().map(|placed| placed.pod);
        let bound = || ground.snapshot.nodes.iter().flat_map(|node| &node.pods);
        let repels = |pod: &Pod| Kind::of(pod).away().next().is_some();
        let demands = |pod: &Pod| {
            let kind = Kind::of(pod);
            kind.suit.is_some() || kind.near().next().is_some() || kind.away().next().is_some()
        };
        if !placed().any(demands) && !bound().any(|pod| repels(pod)) {
            return None;
        }
        let mut crowd = Self {
            snapshot: ground.snapshot,
            kinds: Vec::new(),
            bound: Vec::new(),
            placed: Vec::new(),
            asked: BTreeMap::new(),
            asked_of_all: BTreeMap::new(),
            with_label: BTreeMap::new(),
        };
        let mut known = BTreeMap::new();
        for (site, node) in ground.snapshot.nodes.iter().enumerate() {
            let leaving = node.stage == NodeStage::Leaving;
            for terminating in [false, true] {
                let pods = node.pods.iter().map(AsRef::as_ref).filter(|pod: &&Pod| pod.terminating == terminating);
                let there = crowd.clusters(&mut known, site, pods);
                crowd.bound.extend(there.into_iter().map(|cluster| Cluster { terminating, leaving, ..cluster }));
            }
        }
        for (site, there) in ground.on_existing.iter().chain(&ground.on_new).enumerate() {
            let there = crowd.clusters(&mut known, site, there.iter().map(|placed| placed.pod));
            crowd.placed.extend(there);
        }
        for pod in placed().filter(|pod| pod.topology_spread.iter().any(is_hard)) {
            crowd.asked.entry(known[&Kind::of(pod)]).or_default().insert(offers::ask(pod));
        }
        let demands_several = |pod: &Pod| pod.topology_spread.iter().any(|spread| spread.min_domains > Some(1));
        if placed().any(demands_several) {
            for pod in ground.pods.values().filter(|pod| !pod.topology_spread.is_empty()) {
                crowd.asked_of_all.entry(&pod.key.namespace).or_default().insert(offers::ask(pod));
            }
        }
        for asked in crowd.asked.values_mut().chain(crowd.asked_of_all.values_mut()) {
            *asked = offers::least(std::mem::take(asked));
        }
        for (index, kind) in crowd.kinds.iter().enumerate() {
            for (key, value) in kind.labels {
                crowd.with_label.entry(key).or_default().entry(value).or_default().push(index);
            }
        }
        Some(crowd)
    }

    fn clusters(
        &mut self,
        known: &mut BTreeMap<Kind<'a>, usize>,
        site: usize,
        pods: impl Iterator<Item = &'a Pod>,
    ) -> Vec<Cluster<'a>> {
        let mut here: BTreeMap<usize, Vec<&PodKey>> = BTreeMap::new();
        for pod in pods {
            let kind = Kind::of(pod);
            let index = *known.entry(kind).or_insert_with(|| {
                self.kinds.push(kind);
                self.kinds.len() - 1
            });
            here.entry(index).or_default().push(&pod.key);
        }
        here.into_iter().map(|(kind, pods)| Cluster { kind, site, pods, terminating: false, leaving: false }).collect()
    }

    fn with_label(&self, (key, value): (&str, &str)) -> &[usize] {
        self.with_label.get(key).and_then(|values| values.get(value)).map_or(&[], Vec::as_slice)
    }

    /// The kinds that every one of the selections selects.
    pub(super) fn selected(&self, selections: &[Selection]) -> Vec<usize> {
        let with = |mark: &(&str, &str)| self.with_label(*mark);
        let marks = selections.iter().flat_map(Selection::marks);
        // The rarest label first: with it the others need only be looked at on few.
        let rarest = marks.min_by_key(|marks| marks.iter().map(|mark| with(mark).len()).sum::<usize>());
        let all = |kind: &usize| selections.iter().all(|one| one.selects(&self.kinds[*kind], self.snapshot));
        match rarest {
            Some(marks) => {
                let marked: BTreeSet<usize> = marks.iter().flat_map(with).copied().collect();
                marked.into_iter().filter(all).collect()
            }
            None => (0..self.kinds.len()).filter(all).collect(),
        }
    }
}
