//! What a pod without a place is told: first of the pools it asks for, by count of those it does not. Pure.
//!
//! An event is cut at a length, so what its reader can act on comes first, and it is told apart from others by its text, so no
//! number is in it that changes with every node.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod as CorePod};
use requirements::{Operator, labels};
use scheduling::{NodeRefusals, Pod, PoolKey, Unfit};

use crate::pools::Pools;

/// Every reason, as one line. `unreadable` are the pools that took no part in the plan.
pub(super) fn unplaced(pod: &Pod, reasons: &[Unfit], unreadable: &BTreeMap<PoolKey, String>, pools: &Pools) -> String {
    let unwanted = unwanted(pod, pools);
    let mut said = Vec::new();
    // The solver's order: the nearest first.
    for reason in reasons {
        match reason {
            Unfit::NoPools if !unreadable.is_empty() => {}
            Unfit::Nodes(_) => {}
            reason if reason.pool().is_some_and(|pool| unwanted.contains_key(pool)) => {}
            reason => said.push(reason.to_string()),
        }
    }
    let wanted = unreadable.iter().filter(|(pool, _)| !unwanted.contains_key(*pool));
    said.extend(wanted.map(|(pool, why)| format!("{pool}: {why}")));
    let other = if said.is_empty() { "" } else { "other " };
    let refused = reasons.iter().find_map(|reason| if let Unfit::Nodes(nodes) = reason { Some(nodes) } else { None });
    said.extend(refused.map(no_node));
    let spoken_of: BTreeSet<&PoolKey> = reasons.iter().filter_map(Unfit::pool).chain(unreadable.keys()).collect();
    let mut folded: BTreeMap<&String, Vec<&PoolKey>> = BTreeMap::new();
    for (pool, demand) in unwanted.iter().filter(|(pool, _)| spoken_of.contains(*pool)) {
        folded.entry(demand).or_default().push(pool);
    }
    said.extend(folded.into_iter().map(|(demand, pools)| match &pools[..] {
        [pool] => format!("{pool} does not have {demand}"),
        pools => format!("{} {other}pools do not have {demand}", pools.len()),
    }));
    said.join("; ")
}

/// How long the scheduler may leave a pod aside that a ready node has room for: it tries such a pod again after five minutes at
/// the latest, and much earlier when something changes.
const SCHEDULER_IS_SLOW: Duration = Duration::from_mins(6);

/// What the scheduler says of a pod that should have gone to this node long ago; `placed` is when it was first meant to. Something keeps it away that no plan knows of:
/// its owner has to hear it, because nothing is rented for a pod that has a place.
pub(super) fn refused_there(pod: &CorePod, node: &Node, placed: Timestamp, now: Timestamp) -> Option<String> {
    let status = pod.status.as_ref()?;
    let refusal = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    let ready = node.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_ == "Ready" && c.status == "True")?;
    let since = refusal.last_transition_time.as_ref()?.0.max(ready.last_transition_time.as_ref()?.0).max(placed);
    (since + SCHEDULER_IS_SLOW <= now).then(|| refusal.message.clone().unwrap_or_default())
}

/// `no node fits: too full, taint not tolerated`
fn no_node(refused: &NodeRefusals) -> String {
    let kinds = refused.kinds().into_iter().filter(|(count, _)| *count > 0).map(|(_, what)| what);
    format!("no node fits: {}", kinds.collect::<Vec<_>>().join(", "))
}

/// The pools that say themselves that they are not for the pod, each with the first of the pod's labels that it refuses.
fn unwanted(pod: &Pod, pools: &Pools) -> BTreeMap<PoolKey, String> {
    let found = pools.0.iter().filter_map(|(key, pool)| {
        let refused = |label: &str, values: &[String]| match pool.defines.get(labels::normalize(label)) {
            _ if label == key.kind.label() => !values.contains(&key.name),
            Some(has) => !has.is_empty() && !values.iter().any(|value| has.contains(value)),
            None => !labels::is_well_known(labels::normalize(label)),
        };
        let mut selected = pod.node_selector.iter();
        if let Some((label, value)) = selected.find(|(label, value)| refused(label, std::slice::from_ref(*value))) {
            return Some((key.clone(), format!("{label}={value}")));
        }
        // Alternatives: all of them have to be refused.
        let alternatives = pod.required_node_affinity.iter().map(|terms| {
            let refused = terms.iter().find(|term| term.operator == Operator::In && refused(&term.key, &term.values));
            refused.map(|term| format!("{}={}", term.key, term.values.join(" or ")))
        });
        let refused = alternatives.collect::<Option<Vec<String>>>()?;
        Some((key.clone(), refused.into_iter().next()?))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use scheduling::{PodKey, PoolKind, Taint, TaintEffect};
    use serde_json::{Value, json};

    use super::*;
    use crate::world::{Objects, World};

    fn key(name: &str) -> PoolKey {
        PoolKey { kind: PoolKind::Provisioner, name: name.to_owned() }
    }

    /// Provisioners, each with its label `team`; none if that is empty.
    fn pools(teams: &[(&str, &str)]) -> Pools {
        let provisioner = |(name, team): &(&str, &str)| {
            let labels: Value = if team.is_empty() { json!({}) } else { json!({ "team": team }) };
            let object = json!({ "apiVersion": "karpenter.sh/v1alpha5", "kind": "Provisioner", "metadata": { "name": name },
                "spec": { "labels": labels, "provider": {} } });
            Arc::new(serde_json::from_value(object).unwrap())
        };
        Pools::of(&World::new(Objects { provisioners: teams.iter().map(provisioner).collect(), ..Objects::default() }))
    }

    fn taint(pool: &str) -> Unfit {
        let taint = Taint { key: "gpu".to_owned(), value: String::new(), effect: TaintEffect::NoSchedule };
        Unfit::Taint { pool: key(pool), taint }
    }

    fn pod(team: &str) -> Pod {
        Pod { node_selector: BTreeMap::from([("team".to_owned(), team.to_owned())]), ..Pod::new(PodKey::new("d", "p")) }
    }

    #[test]
    fn a_pod_that_the_scheduler_leaves_aside_for_long_is_told_why() {
        let pod = json!({ "metadata": {}, "status": { "conditions": [
            { "type": "PodScheduled", "status": "False", "lastTransitionTime": "2026-01-01T10:00:00Z", "message": "why" }] } });
        let node = |ready: &str, since: &str| {
            let ready = json!({ "type": "Ready", "status": ready, "lastTransitionTime": since });
            serde_json::from_value::<Node>(json!({ "metadata": {}, "status": { "conditions": [ready] } })).unwrap()
        };
        let pod: CorePod = serde_json::from_value(pod).unwrap();
        let since = |placed: &str, node: &Node, now: &str| {
            refused_there(&pod, node, placed.parse().unwrap(), now.parse().unwrap())
        };
        let said = |node: &Node, now: &str| since("2026-01-01T08:00:00Z", node, now);
        let early = node("True", "2026-01-01T09:00:00Z");
        assert_eq!(said(&early, "2026-01-01T10:05:59Z"), None);
        assert_eq!(said(&early, "2026-01-01T10:06:00Z").as_deref(), Some("why"));
        assert_eq!(said(&node("True", "2026-01-01T10:01:00Z"), "2026-01-01T10:06:00Z"), None, "it has just come up");
        assert_eq!(since("2026-01-01T10:05:00Z", &early, "2026-01-01T10:06:00Z"), None, "it has waited for room");
        assert_eq!(said(&node("False", "2026-01-01T09:00:00Z"), "2026-01-01T10:06:00Z"), None);
    }

    #[test]
    fn the_pools_a_pod_asks_for_come_first_and_the_others_are_counted() {
        let pools = pools(&[("a", "x"), ("b", "x"), ("mine", "y"), ("wrong", "y"), ("wrong-too", "x")]);
        let unreadable = [("wrong", "spec.limits: no"), ("wrong-too", "spec.limits: no")];
        let unreadable = unreadable.into_iter().map(|(name, why)| (key(name), why.to_owned())).collect();
        let reasons = [taint("a"), taint("b"), taint("mine")];
        assert_eq!(
            unplaced(&pod("y"), &reasons, &unreadable, &pools),
            format!("{}; {}: spec.limits: no; 3 other pools do not have team=y", taint("mine"), key("wrong"),)
        );
    }

    #[test]
    fn a_pod_that_no_pool_is_for_is_told_what_it_asks_for() {
        let pools = pools(&[("a", "x"), ("b", "")]);
        let reasons = [taint("a"), taint("b")];
        assert_eq!(unplaced(&pod("y"), &reasons, &BTreeMap::new(), &pools), "2 pools do not have team=y");
        let affine = |values: &[&str]| Pod {
            required_node_affinity: vec![vec![requirements::RequirementTerm::new(
                "team",
                Operator::In,
                values.iter().copied(),
            )]],
            ..Pod::new(PodKey::new("d", "p"))
        };
        let said = unplaced(&affine(&["y", "x"]), &reasons, &BTreeMap::new(), &pools);
        assert_eq!(said, format!("{}; {} does not have team=y or x", taint("a"), key("b")));
    }

    #[test]
    fn the_text_does_not_change_with_the_number_of_nodes() {
        let said = |nodes: usize| {
            let refused = NodeRefusals { resource: nodes, taint: 1, ..NodeRefusals::default() };
            unplaced(&pod("x"), &[taint("a"), Unfit::Nodes(refused)], &BTreeMap::new(), &pools(&[("a", "x")]))
        };
        assert_eq!(said(3), said(4));
        assert!(said(3).ends_with("no node fits: too full, taint not tolerated"), "{}", said(3));
    }

    #[test]
    fn there_are_pools_even_if_none_can_be_used() {
        let unreadable = BTreeMap::from([(key("a"), "no subnet".to_owned())]);
        let said = unplaced(&pod("x"), &[Unfit::NoPools], &unreadable, &pools(&[("a", "x")]));
        assert_eq!(said, format!("{}: no subnet", key("a")));
    }
}
