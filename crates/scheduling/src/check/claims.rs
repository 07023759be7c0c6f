//! Volume claims that one pod alone may use.

use std::collections::{BTreeMap, BTreeSet};

use super::{Violation, ground::Ground};
use crate::{Pod, PodKey};

/// Nobody has a place whose claim another pod has, be it one that runs or one that gets a place now.
pub(super) fn unshared(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let placed = ground.pods.values().filter(|pod| ground.solution.placed.contains_key(&pod.key));
    let mine: BTreeSet<(&str, &str)> = placed.clone().flat_map(|pod| names(pod)).collect();
    if mine.is_empty() {
        return;
    }
    let bound = ground.snapshot.nodes.iter().flat_map(|node| &node.pods);
    let bound = bound.map(AsRef::as_ref).filter(|pod: &&Pod| !ground.pods.contains_key(&pod.key));
    let mut users: BTreeMap<(&str, &str), Vec<&PodKey>> = BTreeMap::new();
    for pod in bound.chain(placed.copied()) {
        for name in names(pod).filter(|name| mine.contains(name)) {
            users.entry(name).or_default().push(&pod.key);
        }
    }
    for ((_, claim), users) in users {
        // The last one is placed, for those that run come first.
        if let [other, .., pod] = users.as_slice() {
            let (pod, other) = ((*pod).clone(), (*other).clone());
            violations.push(Violation::SharedClaim { pod, other, claim: claim.to_owned() });
        }
    }
}

fn names(pod: &Pod) -> impl Iterator<Item = (&str, &str)> {
    pod.exclusive_claims.iter().map(|name| (pod.key.namespace.as_str(), name.as_str()))
}
