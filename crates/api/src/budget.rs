//! Pods that a disruption budget keeps where they are. Pure.
//!
//! A budget that is used up lets the next pod go when another one is ready again; one that all its pods must be there for lets
//! none go, however long one asks. A replacement for such a pod's node would cost money and stay empty.

use std::collections::HashMap;

use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};

use crate::pods;

/// What keeps a pod where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// As a part of a sentence.
    pub why: String,
    /// Whether it never lets the pod go as things are. If not, it will when other pods are ready: in a moment, or when somebody
    /// has mended them.
    pub lasting: bool,
}

/// The budgets that may keep a pod somewhere, by namespace.
#[derive(Debug)]
pub struct Budgets<'a>(HashMap<&'a str, Vec<(Selector, &'a PodDisruptionBudget)>>);

impl<'a> Budgets<'a> {
    /// Those of all namespaces. One without a selector is about no pod.
    pub fn new(budgets: impl IntoIterator<Item = &'a PodDisruptionBudget>) -> Self {
        let mut by_namespace: HashMap<&str, Vec<(Selector, &PodDisruptionBudget)>> = HashMap::new();
        for budget in budgets {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone()).map(Selector::try_from);
            if let (Some(namespace), Some(Ok(selector))) = (budget.metadata.namespace.as_deref(), selector) {
                by_namespace.entry(namespace).or_default().push((selector, budget));
            }
        }
        by_namespace
            .retain(|_, budgets| budgets.len() > 1 || budgets.iter().any(|(_, budget)| lets_none_go_now(budget)));
        Self(by_namespace)
    }

    /// What does not let this pod go now, if it is one that a drain would evict.
    ///
    /// Daemons, and pods that tolerate a drain, stay with their node. What has not begun, has ended or is ending needs nobody's
    /// leave: the API server lets it go whatever a budget says.
    pub fn hold(&self, pod: &Pod) -> Option<Hold> {
        let budgets = self.0.get(pod.metadata.namespace.as_deref()?)?;
        let evicted = pods::node_name(pod).is_some()
            && pods::occupies(pod)
            && !pods::is_leaving(pod)
            && !pods::has_not_begun(pod)
            && !pods::tolerates_removal(pod);
        if !evicted {
            return None;
        }
        let mut about =
            budgets.iter().filter(|(selector, _)| selector.matches(pod.labels())).map(|(_, budget)| *budget);
        let name =
            |budget: &PodDisruptionBudget| format!("{}/{}", budget.namespace().unwrap_or_default(), budget.name_any());
        let first = about.next()?;
        if let Some(second) = about.next() {
            let (first, second) = (name(first), name(second));
            let why =
                format!("the disruption budgets {first} and {second}: a pod with more than one cannot be evicted");
            return Some(Hold { why, lasting: true });
        }
        if !lets_none_go_now(first) || is_evictable(pod, first) {
            return None;
        }
        let lasting = lets_none_go(first);
        let now = if lasting { "" } else { " now" };
        Some(Hold {
            why: format!("the disruption budget {}, which lets none of its pods go{now}", name(first)),
            lasting,
        })
    }
}

/// Whether the API server would refuse the eviction of a pod that is ready. Who has not been counted yet allows none.
fn lets_none_go_now(budget: &PodDisruptionBudget) -> bool {
    budget.status.as_ref().is_none_or(|status| status.disruptions_allowed.unwrap_or(0) == 0)
}

/// Whether it allows no disruption as things are, and none that another pod's becoming ready would bring: as many pods must be
/// healthy as there are, none may be missing by its words, or nobody can count its pods (those of a Job, for example) and the
/// API server refuses every eviction. Of one that nobody has looked at only its words are known.
fn lets_none_go(budget: &PodDisruptionBudget) -> bool {
    let status = budget.status.clone().unwrap_or_default();
    let (expected, needed) = (status.expected_pods.unwrap_or(0), status.desired_healthy.unwrap_or(0));
    let is = |value: Option<&IntOrString>, number: Option<i32>, share: &str| match value {
        Some(IntOrString::Int(value)) => Some(*value) == number,
        Some(IntOrString::String(value)) => value == share,
        None => false,
    };
    let by_its_words = budget.spec.as_ref().is_some_and(|spec| {
        is(spec.max_unavailable.as_ref(), Some(0), "0%") || is(spec.min_available.as_ref(), None, "100%")
    });
    let nobody_counts =
        status.conditions.iter().flatten().any(|c| c.type_ == "DisruptionAllowed" && c.reason == "SyncFailed");
    let needs_all = expected > 0 && needed >= expected;
    lets_none_go_now(budget) && (needs_all || by_its_words || nobody_counts)
}

/// Whether the pod is not ready and may go for that: always where the budget says so, else as long as enough others are healthy
/// (Kubernetes' `unhealthyPodEvictionPolicy`, whose default is `IfHealthyBudget`).
fn is_evictable(pod: &Pod, budget: &PodDisruptionBudget) -> bool {
    let policy = budget.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    // The kubelet says it of every pod that runs; whoever writes one by hand means that it does.
    let mut said = conditions.into_iter().flatten().filter(|c| c.type_ == "Ready");
    let is_ready = said.next().is_none_or(|c| c.status == "True");
    let enough = budget.status.as_ref().is_some_and(|status| {
        let needed = status.desired_healthy.unwrap_or(0);
        needed > 0 && status.current_healthy.unwrap_or(0) >= needed
    });
    !is_ready && (policy == Some("AlwaysAllow") || enough)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, app: &str, ready: bool) -> Pod {
        let condition = json!({ "type": "Ready", "status": if ready { "True" } else { "False" } });
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "d", "uid": name, "labels": { "app": app } },
            "spec": { "nodeName": "n", "containers": [] }, "status": { "conditions": [condition] },
        }))
        .unwrap()
    }

    /// What of these holds two pods of the app `web`, of which one is not ready, and one of the app `db`; by pod.
    fn held(specs: &[Value], status: &Value) -> Vec<(String, Hold)> {
        let budget = |(index, spec): (usize, &Value)| {
            let budget = json!({ "metadata": { "name": format!("b{index}"), "namespace": "d" }, "spec": spec, "status": status });
            serde_json::from_value(budget).unwrap()
        };
        let budgets: Vec<PodDisruptionBudget> = specs.iter().enumerate().map(budget).collect();
        let budgets = Budgets::new(&budgets);
        let pods = [pod("a", "web", true), pod("b", "web", false), pod("c", "db", true)];
        pods.iter().filter_map(|pod| Some((pod.name_any(), budgets.hold(pod)?))).collect()
    }

    /// What never lets them go.
    fn held_by(specs: &[Value], status: &Value) -> Vec<String> {
        let lasting = held(specs, status).into_iter().filter(|(_, hold)| hold.lasting);
        lasting.map(|(pod, hold)| format!("{pod} {}", hold.why)).collect()
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
        // As the disruption controller leaves a budget whose pods belong to a Job.
        let mut uncounted = status(0, 0, 0);
        uncounted["conditions"] = json!([{ "type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed",
            "message": "jobs.batch does not implement the scale subresource", "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
        assert_eq!(held_by(&[of("web")], &uncounted).len(), 2);
        let with = |field: &str, value: Value| {
            let mut spec = of("web");
            spec[field] = value;
            held_by(&[spec], &status(0, 0, 0)).len()
        };
        assert_eq!([with("maxUnavailable", json!(0)), with("maxUnavailable", json!("0%"))], [2, 2]);
        assert_eq!([with("minAvailable", json!("100%")), with("minAvailable", json!("50%"))], [2, 0]);
        assert_eq!([with("maxUnavailable", json!(1)), with("minAvailable", json!(0))], [0, 0]);
        assert_eq!(held_by(&[json!({})], &status(3, 3, 0)), nobody);
    }

    #[test]
    fn a_budget_that_is_used_up_holds_its_pods_for_now() {
        let hold =
            Hold { why: "the disruption budget d/b0, which lets none of its pods go now".to_owned(), lasting: false };
        let [a, b] = ["a", "b"].map(|pod| (pod.to_owned(), hold.clone()));
        // What does not become ready while enough others are may go.
        assert_eq!(held(&[of("web")], &status(2, 1, 0)), std::slice::from_ref(&a), "a roll-out is stuck");
        assert_eq!(held(&[of("web")], &Value::Null), [a, b], "nobody has counted");
        assert_eq!(held(&[of("web")], &status(2, 1, 1)), []);
        let mut words = of("web");
        words["maxUnavailable"] = json!(0);
        assert_eq!(held_by(&[words], &Value::Null).len(), 2, "nobody need count for that");
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
            let mut object = serde_json::to_value(pod("a", "web", true)).unwrap();
            for (part, fields) in change.as_object().into_iter().flatten() {
                for (field, value) in fields.as_object().into_iter().flatten() {
                    object[part][field] = value.clone();
                }
            }
            let budget: PodDisruptionBudget = serde_json::from_value(budget.clone()).unwrap();
            Budgets::new([&budget]).hold(&serde_json::from_value(object).unwrap()).is_some()
        };
        assert!(held_among(&json!({})));
        let daemon =
            json!([{ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "d", "controller": true }]);
        assert!(!held_among(&json!({ "metadata": { "ownerReferences": daemon } })));
        assert!(!held_among(&json!({ "status": { "phase": "Succeeded" } })));
        assert!(!held_among(&json!({ "status": { "phase": "Pending" } })));
        assert!(!held_among(&json!({ "spec": { "tolerations": [{ "operator": "Exists" }] } })));
        assert!(!held_among(&json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } })));
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
