//! Volume claims that one pod alone may use (`ReadWriteOncePod`).
//!
//! Who runs with such a claim keeps it. Of the pods to place that name it the first gets it, by priority, then by age, then by
//! name. The others wait until it is free, whatever room there is: so does the kube-scheduler (plugin `VolumeRestrictions`), and
//! a node that is bought for them would stay empty.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::kind::Alike;
use crate::{Pod, PodKey, Snapshot, Solution, Unfit};

/// How often a plan is made anew because who should have had a claim has no place.
const ROUNDS: usize = 4;

/// The plan for the pods whose claims are free, with a reason for each that has to wait. `plan` makes one for some of the pods.
/// Who has no place in it leaves its claims to the next.
pub(super) fn apart(snapshot: &Snapshot, plan: impl Fn(&Snapshot) -> Solution) -> Solution {
    if !snapshot.pods.iter().any(|pod| !pod.exclusive_claims.is_empty()) {
        return plan(snapshot);
    }
    let mut passed: BTreeMap<PodKey, Vec<Unfit>> = BTreeMap::new();
    let mut round = 0;
    loop {
        let waiting = waiting(snapshot, &passed);
        let mut rest = snapshot.clone();
        rest.pods.retain(|pod| !(waiting.contains_key(&pod.key) || passed.contains_key(&pod.key)));
        let mut solution = plan(&rest);
        let first = waiting.values().flatten().filter_map(|reason| match reason {
            Unfit::ClaimInUse { by, runs: false, .. } => Some(by),
            _ => None,
        });
        let lost: BTreeSet<PodKey> =
            first.clone().filter(|key| solution.unplaced.contains_key(*key)).cloned().collect();
        if lost.is_empty() || round == ROUNDS {
            // Had another pod got the claim, it might have cost less.
            if first.count() > 0 || !passed.is_empty() {
                solution.lower_bound = None;
            }
            solution.unplaced.extend(waiting);
            solution.unplaced.extend(passed);
            return solution;
        }
        for pod in snapshot.pods.iter().filter(|pod| lost.contains(&pod.key)) {
            let reasons = solution.unplaced.remove(&pod.key).unwrap_or_default();
            // Who is written alike would have none either.
            let alike = |other: &&Arc<Pod>| waiting.contains_key(&other.key) && Alike(other) == Alike(pod);
            passed.extend(snapshot.pods.iter().filter(alike).map(|other| (other.key.clone(), reasons.clone())));
            passed.insert(pod.key.clone(), reasons);
        }
        round += 1;
    }
}

/// The pods whose claims others have, and why they wait.
fn waiting(snapshot: &Snapshot, passed: &BTreeMap<PodKey, Vec<Unfit>>) -> BTreeMap<PodKey, Vec<Unfit>> {
    let pending: BTreeSet<&PodKey> = snapshot.pods.iter().map(|pod| &pod.key).collect();
    let bound = snapshot.nodes.iter().flat_map(|node| &node.pods).filter(|pod| !pending.contains(&pod.key));
    // Of several that run with it the first is named.
    let mut holders: BTreeMap<(&str, &str), (&PodKey, bool)> = BTreeMap::new();
    for pod in bound {
        for claim in claims(pod) {
            let (holder, _) = holders.entry(claim).or_insert((&pod.key, true));
            *holder = (*holder).min(&pod.key);
        }
    }
    let mut pods: Vec<&Pod> = snapshot.pods.iter().map(Arc::as_ref).filter(|pod| pod.invalid.is_empty()).collect();
    pods.retain(|pod| !(pod.exclusive_claims.is_empty() || passed.contains_key(&pod.key)));
    pods.sort_by_key(|pod| (Reverse(pod.priority), pod.created_at_unix_seconds, &pod.key));
    let mut waiting = BTreeMap::new();
    for pod in pods {
        let taken = claims(pod).find_map(|claim| {
            let (holder, runs) = *holders.get(&claim).filter(|(holder, _)| **holder != pod.key)?;
            Some(Unfit::ClaimInUse { claim: claim.1.to_owned(), by: holder.clone(), runs })
        });
        match taken {
            Some(reason) => {
                waiting.insert(pod.key.clone(), vec![reason]);
            }
            None => holders.extend(claims(pod).map(|claim| (claim, (&pod.key, false)))),
        }
    }
    waiting
}

/// By namespace and name.
fn claims(pod: &Pod) -> impl Iterator<Item = (&str, &str)> {
    pod.exclusive_claims.iter().map(|claim| (pod.key.namespace.as_str(), claim.as_str()))
}
