//! Pods that a disruption budget keeps where they are. Pure.
//!
//! A budget that is used up lets the next pod go when another one is ready again; one that all its pods must be there for lets
//! none go, however long one asks. A replacement for such a pod's node would cost money and stay empty.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::Pod,
    policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
};
use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};

use crate::{pods, world::Objects};

/// By UID of a bound pod that a drain would wait for, what never lets it go as things are, as a part of a sentence.
pub(crate) fn held(objects: &Objects) -> BTreeMap<String, String> {
    let mut by_namespace: HashMap<&str, Vec<(Selector, &PodDisruptionBudget)>> = HashMap::new();
    for budget in &objects.budgets {
        // Without a selector it is about no pod.
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone()).map(Selector::try_from);
        if let (Some(namespace), Some(Ok(selector))) = (budget.metadata.namespace.as_deref(), selector) {
            by_namespace.entry(namespace).or_default().push((selector, budget));
        }
    }
    let is_strict = |budget: &PodDisruptionBudget| budget.status.as_ref().is_some_and(lets_none_go);
    by_namespace.retain(|_, budgets| budgets.len() > 1 || budgets.iter().any(|(_, budget)| is_strict(budget)));
    if by_namespace.is_empty() {
        return BTreeMap::new();
    }
    let holding = |pod: &Pod| {
        let budgets = by_namespace.get(pod.metadata.namespace.as_deref()?)?;
        let mut about =
            budgets.iter().filter(|(selector, _)| selector.matches(pod.labels())).map(|(_, budget)| *budget);
        let name =
            |budget: &PodDisruptionBudget| format!("{}/{}", budget.namespace().unwrap_or_default(), budget.name_any());
        let first = about.next()?;
        if let Some(second) = about.next() {
            let (first, second) = (name(first), name(second));
            return Some(format!(
                "the disruption budgets {first} and {second}: a pod with more than one cannot be evicted"
            ));
        }
        let held = is_strict(first) && !is_evictable(pod, first);
        held.then(|| format!("the disruption budget {}, which lets none of its pods go", name(first)))
    };
    // Daemons stay with their node, and what has ended or is ending needs nobody's leave.
    let evicted = |pod: &&Arc<Pod>| pods::node_name(pod).is_some() && pods::occupies(pod) && !pods::is_leaving(pod);
    let bound = objects.pods.iter().filter(evicted);
    bound.filter_map(|pod| Some((pods::uid(pod).to_owned(), holding(pod)?))).collect()
}

/// Whether as many pods must be healthy as there are.
fn lets_none_go(status: &PodDisruptionBudgetStatus) -> bool {
    let expected = status.expected_pods.unwrap_or(0);
    let needed = status.desired_healthy.unwrap_or(0);
    expected > 0 && needed >= expected && status.disruptions_allowed.unwrap_or(0) == 0
}

/// Whether a budget says that pods that are not ready may go whatever it allows, and the pod is not.
fn is_evictable(pod: &Pod, budget: &PodDisruptionBudget) -> bool {
    let policy = budget.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let is_ready = conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    policy == Some("AlwaysAllow") && !is_ready
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, app: &str, ready: bool) -> Arc<Pod> {
        let condition = json!({ "type": "Ready", "status": if ready { "True" } else { "False" } });
        Arc::new(
            serde_json::from_value(json!({
                "metadata": { "name": name, "namespace": "d", "uid": name, "labels": { "app": app } },
                "spec": { "nodeName": "n", "containers": [] }, "status": { "conditions": [condition] },
            }))
            .unwrap(),
        )
    }

    fn held_by(specs: &[Value], status: &Value) -> Vec<String> {
        let budget = |(index, spec): (usize, &Value)| {
            let budget = json!({ "metadata": { "name": format!("b{index}"), "namespace": "d" }, "spec": spec, "status": status });
            Arc::new(serde_json::from_value(budget).unwrap())
        };
        let objects = Objects {
            pods: vec![pod("a", "web", true), pod("b", "web", false), pod("c", "db", true)],
            budgets: specs.iter().enumerate().map(budget).collect(),
            ..Objects::default()
        };
        held(&objects).into_iter().map(|(pod, why)| format!("{pod} {why}")).collect()
    }

    fn status(expected: i32, desired: i32, allowed: i32) -> Value {
        json!({ "expectedPods": expected, "desiredHealthy": desired, "currentHealthy": 1, "disruptionsAllowed": allowed })
    }

    fn of(app: &str) -> Value {
        json!({ "selector": { "matchLabels": { "app": app } } })
    }

    #[test]
    fn a_budget_that_needs_all_its_pods_holds_them_and_one_that_is_used_up_does_not() {
        let why = "the disruption budget d/b0, which lets none of its pods go";
        assert_eq!(held_by(&[of("web")], &status(2, 2, 0)), [format!("a {why}"), format!("b {why}")]);
        let nobody = Vec::<String>::new();
        assert_eq!(held_by(&[of("web")], &status(2, 1, 0)), nobody, "used up for now");
        assert_eq!(held_by(&[of("web")], &status(2, 2, 1)), nobody, "not looked at since it was changed");
        assert_eq!(held_by(&[of("web")], &status(0, 0, 0)), nobody);
        assert_eq!(held_by(&[json!({ "selector": {} })], &status(3, 3, 0)).len(), 3);
        assert_eq!(held_by(&[json!({})], &status(3, 3, 0)), nobody);
    }

    #[test]
    fn a_pod_that_is_not_ready_may_go_where_the_budget_says_so() {
        let mut spec = of("web");
        spec["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
        let held = held_by(&[spec], &status(2, 2, 0));
        assert!(held.len() == 1 && held[0].starts_with("a "), "{held:?}");
    }

    #[test]
    fn nobody_is_held_whom_no_drain_waits_for() {
        let budget = json!({ "metadata": { "name": "b", "namespace": "d" }, "spec": { "selector": {} }, "status": status(3, 3, 0) });
        let held_among = |change: &Value| {
            let mut object = serde_json::to_value(&*pod("a", "web", true)).unwrap();
            for (part, fields) in change.as_object().into_iter().flatten() {
                for (field, value) in fields.as_object().into_iter().flatten() {
                    object[part][field] = value.clone();
                }
            }
            let objects = Objects {
                pods: vec![Arc::new(serde_json::from_value(object).unwrap())],
                budgets: vec![Arc::new(serde_json::from_value(budget.clone()).unwrap())],
                ..Objects::default()
            };
            held(&objects).len()
        };
        assert_eq!(held_among(&json!({})), 1);
        let daemon =
            json!([{ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "d", "controller": true }]);
        assert_eq!(held_among(&json!({ "metadata": { "ownerReferences": daemon } })), 0);
        assert_eq!(held_among(&json!({ "status": { "phase": "Succeeded" } })), 0);
        assert_eq!(held_among(&json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } })), 0);
    }

    #[test]
    fn a_pod_with_two_budgets_goes_nowhere_whatever_they_allow() {
        let held = held_by(
            &[of("web"), of("db"), json!({ "selector": { "matchLabels": { "app": "db" } } })],
            &status(2, 1, 1),
        );
        assert_eq!(held, ["c the disruption budgets d/b1 and d/b2: a pod with more than one cannot be evicted"]);
    }
}
