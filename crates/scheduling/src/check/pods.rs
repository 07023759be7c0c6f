//! Pods among each other: who must be near whom, and away from whom.
//!
//! A new node may still become several things, so a pod can have several possible domains. Being away must hold in all of
//! them, being near too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use requirements::{Operator, RequirementTerm, labels};

use super::{
    Violation,
    labels::{of_existing, of_new},
    pool_of,
};
use crate::{
    LabelSelector, NodeStage, Pod, PodAffinityTerm, PodKey, Snapshot, Solution, Strength, Target, WhenUnsatisfiable,
};

/// A pod and where it is.
struct Located<'a> {
    pod: &'a Pod,
    node: Target,
    /// Whether this solve has put it there.
    placed: bool,
    leaving: bool,
}

/// Checks every placed pod's demands, and the bound pods' demands on it.
pub(super) fn relations(
    snapshot: &Snapshot,
    solution: &Solution,
    pods: &BTreeMap<&PodKey, &Pod>,
    violations: &mut Vec<Violation>,
) {
    let demanding = |pod: &Pod| {
        let hard = |term: &PodAffinityTerm| term.strength == Strength::Required;
        pod.pod_affinity.iter().chain(&pod.pod_anti_affinity).any(hard) || !pod.topology_spread.is_empty()
    };
    let mut bound = snapshot.nodes.iter().flat_map(|node| &node.pods);
    if !bound.any(|pod| demanding(pod)) && !pods.values().any(|pod| demanding(pod)) {
        return;
    }
    let all = located(snapshot, solution, pods);
    let domains = Domains { snapshot, solution };
    for one in &all {
        for other in all.iter().filter(|other| other.pod.key != one.pod.key && (one.placed || other.placed)) {
            let near = |term: &&PodAffinityTerm| {
                selects(snapshot, one.pod, term, other.pod) && domains.may_meet(one, other, &term.topology_key)
            };
            if hard(&one.pod.pod_anti_affinity).any(|term| near(&term)) {
                violations.push(Violation::TooNear { pod: one.pod.key.clone(), other: other.pod.key.clone() });
            }
        }
        if one.placed {
            affine(&domains, one, &all, violations);
            spread(&domains, one, &all, violations);
        }
    }
}

fn located<'a>(snapshot: &'a Snapshot, solution: &'a Solution, pods: &BTreeMap<&PodKey, &'a Pod>) -> Vec<Located<'a>> {
    let bound = snapshot.nodes.iter().flat_map(|node| {
        let leaving = node.stage == NodeStage::Leaving;
        let at =
            move |pod: &'a Arc<Pod>| Located { pod, node: Target::Existing(node.key.clone()), placed: false, leaving };
        node.pods.iter().map(at)
    });
    let placed = solution.placed.iter().filter_map(|(key, placement)| {
        pods.get(key).map(|pod| Located { pod, node: placement.node.clone(), placed: true, leaving: false })
    });
    bound.chain(placed).collect()
}

/// Near to one of the pods it wants, wherever both may come to be; or the first of them, if it is one itself.
fn affine(domains: &Domains<'_>, one: &Located<'_>, all: &[Located<'_>], violations: &mut Vec<Violation>) {
    for term in hard(&one.pod.pod_affinity) {
        let wanted = |other: &&Located<'_>| selects(domains.snapshot, one.pod, term, other.pod);
        let others = || all.iter().filter(|other| other.pod.key != one.pod.key).filter(wanted);
        let mine = domains.of(&one.node, &term.topology_key);
        let populated: BTreeSet<String> = others()
            .filter(|other| !other.leaving)
            .map(|other| domains.of(&other.node, &term.topology_key))
            .filter(|theirs| theirs.len() == 1)
            .flatten()
            .collect();
        let first = others().next().is_none() && selects(domains.snapshot, one.pod, term, one.pod);
        if mine.is_empty() || !(first || mine.is_subset(&populated)) {
            let what = format!("required pod affinity over {}", term.topology_key);
            violations.push(Violation::NotNear { pod: one.pod.key.clone(), what });
        }
    }
}

/// Only what is certain at a glance: a pod that counts none but itself, where the topology exists.
fn spread(domains: &Domains<'_>, one: &Located<'_>, all: &[Located<'_>], violations: &mut Vec<Violation>) {
    let hard = |spread: &&crate::TopologySpread| spread.when_unsatisfiable == WhenUnsatisfiable::DoNotSchedule;
    for spread in one.pod.topology_spread.iter().filter(hard) {
        let selector = with_own(spread.selector.as_ref(), one.pod, &spread.match_label_keys, &[]);
        let counted = |other: &&Located<'_>| {
            other.pod.key != one.pod.key
                && other.pod.key.namespace == one.pod.key.namespace
                && selector.as_ref().is_some_and(|selector| selector.matches(&other.pod.labels))
        };
        if all.iter().any(|other| counted(&other)) || domains.of(&one.node, &spread.topology_key).is_empty() {
            let what = format!("topology spread over {}", spread.topology_key);
            violations.push(Violation::NotNear { pod: one.pod.key.clone(), what });
        }
    }
}

struct Domains<'a> {
    snapshot: &'a Snapshot,
    solution: &'a Solution,
}

impl Domains<'_> {
    /// The domains that a node is or may come to be in; none where it lacks the label or may lack it.
    fn of(&self, node: &Target, key: &str) -> BTreeSet<String> {
        let key = labels::normalize(key);
        match node {
            Target::Existing(name) => {
                let nodes = self.snapshot.nodes.iter().filter(|node| node.key == *name);
                nodes.filter_map(|node| of_existing(node).remove(key)).collect()
            }
            Target::New(index) if key == labels::HOSTNAME => BTreeSet::from([format!("\u{0}{index}")]),
            Target::New(index) => {
                let Some(node) = self.solution.new_nodes.get(*index) else { return BTreeSet::new() };
                let Some(pool) = pool_of(self.snapshot, &node.pool) else { return BTreeSet::new() };
                let domain = |offering: &crate::PricedOffering| of_new(pool, node, &offering.key).remove(key);
                node.offerings.iter().map(domain).collect::<Option<_>>().unwrap_or_default()
            }
        }
    }

    fn may_meet(&self, one: &Located<'_>, other: &Located<'_>, key: &str) -> bool {
        one.node == other.node && !self.of(&one.node, key).is_empty()
            || !self.of(&one.node, key).is_disjoint(&self.of(&other.node, key))
    }
}

fn hard(terms: &[PodAffinityTerm]) -> impl Iterator<Item = &PodAffinityTerm> {
    terms.iter().filter(|term| term.strength == Strength::Required)
}

fn selects(snapshot: &Snapshot, pod: &Pod, term: &PodAffinityTerm, other: &Pod) -> bool {
    let namespace = &other.key.namespace;
    let everywhere = BTreeMap::new();
    let labels = snapshot.namespace_labels.get(namespace).unwrap_or(&everywhere);
    let there = match (&term.namespaces[..], &term.namespace_selector) {
        ([], None) => *namespace == pod.key.namespace,
        (names, selector) => {
            names.contains(namespace) || selector.as_ref().is_some_and(|selector| selector.matches(labels))
        }
    };
    let selector = with_own(term.selector.as_ref(), pod, &term.match_label_keys, &term.mismatch_label_keys);
    there && selector.is_some_and(|selector| selector.matches(&other.labels))
}

fn with_own(selector: Option<&LabelSelector>, pod: &Pod, same: &[String], other: &[String]) -> Option<LabelSelector> {
    let mut selector = selector?.clone();
    for (keys, operator) in [(same, Operator::In), (other, Operator::NotIn)] {
        for (key, value) in keys.iter().filter_map(|key| pod.labels.get_key_value(key)) {
            selector.match_expressions.push(RequirementTerm::new(key, operator, [value.as_str()]));
        }
    }
    Some(selector)
}
