//! A member's pods as the drain sees them. Pure.

use std::time::Duration;

use disruption::drain::{self, DrainKind, DrainPod, Plan, Rules};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use scheduling::{PodKey, PoolKind};

use crate::{lifecycle::next::deadline, pods, world::Member};

/// What a pod has to stop when it does not say.
const GRACE_SECONDS: i64 = 30;

/// What to do about the pods of a member that is leaving.
pub(crate) fn plan(member: &Member, now: Timestamp) -> Plan {
    plan_pods(member.pods.iter().map(AsRef::as_ref), rules(member), deadline(member), now)
}

/// The same for pods read some other way.
pub(crate) fn plan_pods<'a>(
    pods: impl Iterator<Item = &'a Pod>,
    rules: Rules,
    deadline: Option<Timestamp>,
    now: Timestamp,
) -> Plan {
    let pods: Vec<DrainPod> = pods.map(drain_pod).collect();
    drain::plan(&pods, rules, deadline, now)
}

/// Whose rules apply: a Provisioner's nodes are drained as in v0.16, all others as in v1.
pub(crate) fn rules(member: &Member) -> Rules {
    match member.pool().map(|pool| pool.kind) {
        Some(PoolKind::Provisioner) => Rules::V1Alpha5,
        Some(PoolKind::NodePool) | None => Rules::V1,
    }
}

fn drain_pod(pod: &Pod) -> DrainPod {
    let owned = pod.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
    let kind = if pods::is_static(pod) {
        DrainKind::Static
    } else if pods::is_daemon(pod) {
        DrainKind::Daemon
    } else if owned {
        DrainKind::Owned
    } else {
        DrainKind::Ownerless
    };
    let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    DrainPod {
        key: PodKey::new(
            pod.metadata.namespace.clone().unwrap_or_default(),
            pod.metadata.name.clone().unwrap_or_default(),
        ),
        priority: pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0),
        kind,
        terminal: pods::is_terminal(pod),
        deleted_at: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        protected: pods::is_protected(pod),
        tolerates_removal: pods::tolerates_removal(pod),
        grace: Duration::from_secs(u64::try_from(grace.unwrap_or(GRACE_SECONDS)).unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::core::v1::PodStatus, apimachinery::pkg::apis::meta::v1::Time};
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, metadata: &Value, spec: &Value) -> Pod {
        let mut value = json!({ "metadata": metadata, "spec": spec });
        value["metadata"]["name"] = json!(name);
        value["metadata"]["namespace"] = json!("d");
        value["spec"]["containers"] = json!([]);
        serde_json::from_value(value).unwrap()
    }

    fn owned(name: &str) -> Pod {
        pod(name, &owner("ReplicaSet"), &json!({}))
    }

    fn owner(kind: &str) -> Value {
        json!({ "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "o", "controller": true } ] })
    }

    fn evicted(pods: &[Pod], rules: Rules) -> Vec<String> {
        plan_pods(pods.iter(), rules, None, Timestamp::UNIX_EPOCH).evict.into_iter().map(|key| key.name).collect()
    }

    #[test]
    fn daemons_static_pods_and_those_that_tolerate_it_are_not_evicted() {
        let tolerant = json!({ "tolerations": [{ "operator": "Exists" }] });
        let mirror = json!({ "annotations": { "kubernetes.io/config.mirror": "x" } });
        let pods = [
            owned("plain"),
            pod("daemon", &owner("DaemonSet"), &json!({})),
            pod("mirror", &mirror, &json!({})),
            pod("tolerant", &owner("ReplicaSet"), &tolerant),
        ];
        assert_eq!(evicted(&pods, Rules::V1Alpha5), ["plain"]);
    }

    #[test]
    fn a_protected_pod_stops_the_drain_of_a_provisioner_and_only_itself_under_a_node_pool() {
        let mut protected = owned("protected");
        protected.metadata.annotations = Some([("karpenter.sh/do-not-evict".to_owned(), "true".to_owned())].into());
        let pods = [owned("plain"), protected];
        assert!(evicted(&pods, Rules::V1Alpha5).is_empty());
        assert_eq!(evicted(&pods, Rules::V1), ["plain"]);
    }

    /// Plans count on pods that stay; drains wait for them. Both ask in their own words.
    #[test]
    fn a_drain_is_blocked_by_the_pods_that_plans_take_to_stay() {
        let owners = [json!({}), owner("ReplicaSet"), owner("DaemonSet"), owner("Node")];
        for (owner, flags) in owners.iter().flat_map(|owner| (0..32).map(move |flags| (owner, flags))) {
            let is = |flag: u32| flags & (1 << flag) != 0;
            let tolerant = json!({ "tolerations": [{ "operator": "Exists" }] });
            let mut pod = pod("p", owner, if is(0) { &tolerant } else { &Value::Null });
            let annotations = [("karpenter.sh/do-not-disrupt", is(1)), ("kubernetes.io/config.mirror", is(2))];
            let kept = annotations.into_iter().filter(|(_, is)| *is);
            pod.metadata.annotations = Some(kept.map(|(key, _)| (key.to_owned(), "true".to_owned())).collect());
            pod.metadata.deletion_timestamp = is(3).then_some(Time(Timestamp::UNIX_EPOCH));
            pod.status = Some(PodStatus { phase: is(4).then(|| "Failed".to_owned()), ..PodStatus::default() });

            for rules in [Rules::V1, Rules::V1Alpha5] {
                let drain = plan_pods([&pod].into_iter(), rules, None, Timestamp::UNIX_EPOCH);
                let blocks = pods::blocks_drain(&pod, rules == Rules::V1Alpha5);
                assert_eq!(drain.blockers().count(), usize::from(blocks), "{rules:?}: {pod:?}");
            }
        }
    }
}
