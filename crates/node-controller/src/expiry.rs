//! Which expired nodes may be tried now. Pure.
//!
//! Expiry replaces one node at a time. Two things must not stop it for ever: a node whose pods find no other place, and a
//! drain that somebody's disruption budget holds up.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use disruption::Candidate;
use jiff::Timestamp;
use kube::ResourceExt as _;
use scheduling::NodeKey;

use crate::{
    lifecycle::next::{DETACH_TIMEOUT_SECONDS, deadline},
    removal,
    world::Member,
};

/// First and longest pause after a node could not be replaced. The first is six looks of the loop; the longest keeps a
/// hopeless node to a handful of simulations in a working day.
const PAUSES: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(2));
/// Share of the nodes whose drains may be stuck while others are still replaced, rounded up. Unit: percent. Karpenter's
/// default budget.
const STUCK_PERCENT: usize = 10;

/// Nodes whose last try failed, by UID.
///
/// Kept in memory: what is lost with it is a pause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pauses(BTreeMap<String, Pause>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    failures: u32,
    until: Timestamp,
}

impl Pauses {
    /// Notes that the node could not be replaced; the pause doubles every time, and is not counted twice while it lasts.
    /// When it may be tried again.
    pub fn failed(&mut self, node_uid: &str, now: Timestamp) -> Timestamp {
        if let Some(until) = self.until(node_uid, now) {
            return until;
        }
        let failures = self.0.get(node_uid).map_or(0, |pause| pause.failures);
        let until = now + PAUSES.0.saturating_mul(1 << failures.min(10)).min(PAUSES.1);
        self.0.insert(node_uid.to_owned(), Pause { failures: failures.saturating_add(1), until });
        until
    }

    /// When the node may be tried again, if that is not now.
    pub fn until(&self, node_uid: &str, now: Timestamp) -> Option<Timestamp> {
        self.0.get(node_uid).map(|pause| pause.until).filter(|until| *until > now)
    }

    /// Forgets nodes that are gone.
    pub fn keep(&mut self, exists: impl Fn(&str) -> bool) {
        self.0.retain(|uid, _| exists(uid));
    }
}

/// The candidates, with those set aside that must not hold back the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// What to choose from.
    pub candidates: Vec<Candidate>,
    /// Nodes that have been leaving for too long. They no longer count as being on their way, unless they are too many.
    pub stuck: Vec<NodeKey>,
    /// Whether there are so many of them that nothing more is begun.
    pub too_many_stuck: bool,
    /// When the first pause ends.
    pub next_look: Option<Timestamp>,
}

/// How long a removal may take before it counts as stuck: its replacements, and the volumes after the last pod.
pub fn patience(replacement_timeout: Duration) -> Duration {
    replacement_timeout + Duration::from_secs(DETACH_TIMEOUT_SECONDS.unsigned_abs())
}

/// Sets aside what pauses and what is stuck.
pub fn tries(
    candidates: &[(Candidate, &Member)],
    pauses: &Pauses,
    replacement_timeout: Duration,
    now: Timestamp,
) -> Tries {
    let mut tries = Tries::default();
    let patience = patience(replacement_timeout);
    // One whose drain ends by itself (`terminationGracePeriod`) is not stuck before that.
    let ends = |member: &Member| deadline(member).is_some_and(|end| end > now);
    let is_slow = |member: &Member| leaving_since(member).is_some_and(|since| since + patience <= now);
    for (candidate, member) in candidates {
        let uid = member.node.as_ref().and_then(|node| node.uid()).unwrap_or_default();
        if candidate.deleting {
            match (is_slow(member), ends(member)) {
                (true, true) => continue,
                (true, false) => tries.stuck.push(candidate.node.clone()),
                (false, _) => {}
            }
        } else if let Some(until) = pauses.until(&uid, now) {
            tries.next_look = Some(tries.next_look.map_or(until, |earlier| earlier.min(until)));
            continue;
        }
        tries.candidates.push(candidate.clone());
    }
    tries.too_many_stuck = tries.stuck.len() > (candidates.len() * STUCK_PERCENT).div_ceil(100);
    if !tries.too_many_stuck {
        let stuck: BTreeSet<&NodeKey> = tries.stuck.iter().collect();
        tries.candidates.retain(|candidate| !stuck.contains(&candidate.node));
    }
    tries
}

/// Since when a member has been on its way out, as its objects say.
pub fn leaving_since(member: &Member) -> Option<Timestamp> {
    let claim = member.claim.as_ref().and_then(|claim| claim.metadata.deletion_timestamp.as_ref()).map(|time| time.0);
    let node = member.node.as_ref().and_then(|node| node.metadata.deletion_timestamp.as_ref()).map(|time| time.0);
    let begun = removal::begun(member).map(|begun| begun.since);
    [claim, node, begun].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use scheduling::{PoolKey, PoolKind};
    use serde_json::json;

    use super::*;

    const TIMEOUT: Duration = Duration::from_mins(10);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    /// A node; leaving since that second, if any.
    fn node(name: &str, leaving: Option<i64>) -> (Candidate, Member) {
        let candidate = Candidate {
            node: NodeKey(name.to_owned()),
            pool: PoolKey { kind: PoolKind::Provisioner, name: "p".to_owned() },
            created_at: at(0),
            empty_since: None,
            initialized: true,
            deleting: leaving.is_some(),
            nominated: false,
            do_not_disrupt: false,
            non_daemon_pods: 1,
            ttl_after_empty: None,
            ttl_until_expired: Some(Duration::from_secs(1)),
        };
        let deleted = leaving.map(|since| at(since).to_string());
        let node = json!({ "metadata": { "name": name, "uid": name, "deletionTimestamp": deleted } });
        let node = Arc::new(serde_json::from_value(node).unwrap());
        let member =
            Member { claim: None, node: Some(node), pods: Vec::new(), attachments: Vec::new(), rivals: Vec::new() };
        (candidate, member)
    }

    /// Names to choose from, and those that are stuck.
    fn check(nodes: &[(Candidate, Member)], pauses: &Pauses, now: i64) -> (Vec<String>, Vec<String>, bool) {
        let nodes: Vec<(Candidate, &Member)> = nodes.iter().map(|(one, member)| (one.clone(), member)).collect();
        let tries = tries(&nodes, pauses, TIMEOUT, at(now));
        let choice = tries.candidates.into_iter().map(|one| one.node.0).collect();
        (choice, tries.stuck.into_iter().map(|key| key.0).collect(), tries.too_many_stuck)
    }

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_node_that_could_not_be_replaced_lets_the_next_ones_go_first() {
        let nodes = [node("a", None), node("b", None)];
        let mut pauses = Pauses::default();
        assert_eq!(pauses.failed("a", at(0)), at(60));
        assert_eq!(check(&nodes, &pauses, 59).0, names(&["b"]));
        assert_eq!(check(&nodes, &pauses, 60).0, names(&["a", "b"]));
        assert_eq!(pauses.failed("a", at(60)), at(180), "twice as long");
        assert_eq!(pauses.failed("a", at(61)), at(180), "the same failure, seen again");
        for try_at in 1..100 {
            pauses.failed("a", at(try_at * 10_000));
        }
        assert_eq!(pauses.failed("a", at(1_000_000)), at(1_007_200), "and no longer than this");
        pauses.keep(|uid| uid != "a");
        assert_eq!(pauses, Pauses::default());
    }

    #[test]
    fn the_end_of_a_pause_is_the_time_of_the_next_look() {
        let (a, b) = (node("a", None), node("b", None));
        let mut pauses = Pauses::default();
        pauses.failed("a", at(10));
        pauses.failed("b", at(0));
        let nodes = [(a.0.clone(), &a.1), (b.0.clone(), &b.1)];
        assert_eq!(tries(&nodes, &pauses, TIMEOUT, at(20)).next_look, Some(at(60)));
    }

    #[test]
    fn a_stuck_drain_holds_back_the_others_for_a_bounded_time() {
        let nodes = [node("stuck", Some(0)), node("old", None)];
        let all = names(&["stuck", "old"]);
        assert_eq!(check(&nodes, &Pauses::default(), 959), (all, vec![], false));
        assert_eq!(check(&nodes, &Pauses::default(), 960), (names(&["old"]), names(&["stuck"]), false));
    }

    #[test]
    fn more_stuck_drains_than_a_tenth_of_the_nodes_stop_expiry() {
        let mut nodes = vec![node("s1", Some(0)), node("s2", Some(0))];
        nodes.extend((0..8).map(|i| node(&format!("n{i}"), None)));
        let (choice, stuck, too_many) = check(&nodes, &Pauses::default(), 5000);
        assert_eq!((choice.len(), stuck.len(), too_many), (10, 2, true), "they count as leaving, so none is chosen");
        nodes.push(node("n8", None));
        let (choice, stuck, too_many) = check(&nodes, &Pauses::default(), 5000);
        assert_eq!((choice.len(), stuck.len(), too_many), (9, 2, false));
    }
}
