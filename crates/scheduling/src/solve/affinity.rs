use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use requirements::{Operator, Requirement, RequirementTerm, Requirements, labels};

use crate::{
    LabelSelector, Node, NodeStage, Pod, PodAffinityTerm, Snapshot, Strength, TopologySpread, Unfit, WhenUnsatisfiable,
};

/// What pods demand of their place relative to other pods, as far as the pods bound already decide it.
pub(super) struct Affinity<'a> {
    snapshot: &'a Snapshot,
    /// How many pods to place have these labels in this namespace.
    pending: BTreeMap<(&'a str, &'a BTreeMap<String, String>), usize>,
    /// Demands of bound pods to be away from others.
    repelling: Vec<(&'a Pod, &'a Node, &'a PodAffinityTerm)>,
}

impl<'a> Affinity<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let mut pending = BTreeMap::new();
        for pod in &snapshot.pods {
            *pending.entry((pod.key.namespace.as_str(), &pod.labels)).or_insert(0) += 1;
        }
        let bound = snapshot.nodes.iter().flat_map(|node| node.pods.iter().map(move |pod| (node, pod)));
        let repelling = bound
            .flat_map(|(node, pod)| required(&pod.pod_anti_affinity).map(move |term| (Arc::as_ref(pod), node, term)))
            .collect();
        Self { snapshot, pending, repelling }
    }

    /// What the bound pods imply for a pod's node, or what cannot be reckoned with.
    pub(super) fn implied_by_bound_pods(&self, pod: &Pod) -> Result<Requirements, Vec<Unfit>> {
        let mut implied = Requirements::new();
        let mut unsupported = Vec::new();
        for spread in &pod.topology_spread {
            if spread.when_unsatisfiable == WhenUnsatisfiable::DoNotSchedule {
                match self.spread(pod, spread) {
                    Some(requirement) => implied.add(requirement),
                    None => unsupported.push(format!("topology spread over {} (DoNotSchedule)", spread.topology_key)),
                }
            }
        }
        for term in required(&pod.pod_affinity) {
            match self.near(pod, term) {
                Some(requirement) => implied.add(requirement),
                None => unsupported.push(format!("required pod affinity over {}", term.topology_key)),
            }
        }
        for term in required(&pod.pod_anti_affinity) {
            match self.away(pod, term) {
                Some(requirement) => implied.add(requirement),
                None => unsupported.push(format!("required pod anti-affinity over {}", term.topology_key)),
            }
        }
        for (other, node, term) in &self.repelling {
            let key = labels::normalize(&term.topology_key);
            if let Some(domain) = domain(node, key)
                && self.selects(other, term, &pod.key.namespace, &pod.labels)
            {
                implied.add(Requirement::none_of(key, [domain]));
            }
        }
        if unsupported.is_empty() {
            return Ok(implied);
        }
        Err(unsupported.into_iter().map(|what| Unfit::NotSupportedYet { what }).collect())
    }

    /// A pod that counts none but itself is evenly spread wherever the topology exists.
    fn spread(&self, pod: &Pod, spread: &TopologySpread) -> Option<Requirement> {
        let selector = extended(spread.selector.as_ref(), pod, &spread.match_label_keys, &[]);
        let matches = |namespace: &str, of: &BTreeMap<String, String>| {
            namespace == pod.key.namespace && selector.as_ref().is_some_and(|selector| selector.matches(of))
        };
        let alone = self.pending_others(pod, &matches) == 0 && self.bound(&matches).next().is_none();
        alone.then(|| Requirement::exists(labels::normalize(&spread.topology_key)))
    }

    /// Where pods to be near to are bound already, the demand is met there; where there are none but the pod itself, it may
    /// be the first anywhere.
    fn near(&self, pod: &Pod, term: &PodAffinityTerm) -> Option<Requirement> {
        let key = labels::normalize(&term.topology_key);
        let matches = |namespace: &str, of: &BTreeMap<String, String>| self.selects(pod, term, namespace, of);
        let staying = self.bound(&matches).filter(|node| node.stage != NodeStage::Leaving);
        let domains: BTreeSet<String> = staying.filter_map(|node| domain(node, key)).collect();
        if !domains.is_empty() {
            return Some(Requirement::one_of(key, domains));
        }
        let first = matches(&pod.key.namespace, &pod.labels)
            && self.pending_others(pod, &matches) == 0
            && self.bound(&matches).next().is_none();
        first.then(|| Requirement::exists(key))
    }

    /// Where only bound pods are to be kept away from, their domains are known.
    fn away(&self, pod: &Pod, term: &PodAffinityTerm) -> Option<Requirement> {
        let key = labels::normalize(&term.topology_key);
        let matches = |namespace: &str, of: &BTreeMap<String, String>| self.selects(pod, term, namespace, of);
        if self.pending_others(pod, &matches) > 0 {
            return None;
        }
        Some(Requirement::none_of(key, self.bound(&matches).filter_map(|node| domain(node, key))))
    }

    fn bound<'s>(
        &'s self,
        matches: &'s dyn Fn(&str, &BTreeMap<String, String>) -> bool,
    ) -> impl Iterator<Item = &'a Node> + 's {
        self.snapshot
            .nodes
            .iter()
            .filter(move |node| node.pods.iter().any(|pod| matches(&pod.key.namespace, &pod.labels)))
    }

    fn pending_others(&self, pod: &Pod, matches: &dyn Fn(&str, &BTreeMap<String, String>) -> bool) -> usize {
        let all: usize = self.pending.iter().filter(|((ns, of), _)| matches(ns, of)).map(|(_, count)| count).sum();
        all - usize::from(matches(&pod.key.namespace, &pod.labels))
    }

    /// Whether a pod's term speaks of pods with these labels in this namespace.
    fn selects(&self, pod: &Pod, term: &PodAffinityTerm, namespace: &str, of: &BTreeMap<String, String>) -> bool {
        let none = BTreeMap::new();
        let by_label =
            |selector: &LabelSelector| selector.matches(self.snapshot.namespace_labels.get(namespace).unwrap_or(&none));
        let own = term.namespaces.is_empty() && term.namespace_selector.is_none();
        let there = (own && namespace == pod.key.namespace)
            || term.namespaces.iter().any(|name| name == namespace)
            || term.namespace_selector.as_ref().is_some_and(by_label);
        let selector = extended(term.selector.as_ref(), pod, &term.match_label_keys, &term.mismatch_label_keys);
        there && selector.is_some_and(|selector| selector.matches(of))
    }
}

fn required(terms: &[PodAffinityTerm]) -> impl Iterator<Item = &PodAffinityTerm> {
    terms.iter().filter(|term| term.strength == Strength::Required)
}

fn domain(node: &Node, key: &str) -> Option<String> {
    let of_the_node = || (key == labels::HOSTNAME).then(|| node.key.0.clone());
    let named = node.labels.iter().find(|(name, _)| labels::normalize(name) == key).map(|(_, value)| value.clone());
    named.or_else(of_the_node)
}

/// The selector with the values that the pod's own labels add.
fn extended(
    selector: Option<&LabelSelector>,
    pod: &Pod,
    equal: &[String],
    different: &[String],
) -> Option<LabelSelector> {
    let mut extended = selector?.clone();
    let terms = |keys: &[String], operator| {
        let term =
            |key: &String| pod.labels.get(key).map(|value| RequirementTerm::new(key, operator, [value.as_str()]));
        keys.iter().filter_map(term).collect::<Vec<_>>()
    };
    extended.match_expressions.extend(terms(equal, Operator::In));
    extended.match_expressions.extend(terms(different, Operator::NotIn));
    Some(extended)
}
