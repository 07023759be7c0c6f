//! What is accepted, but has no effect yet. The list is [`NOT_YET`]; when behaviour arrives, its line goes.

use serde::Serialize;
use serde_json::Value;

use crate::FieldNotice;
use crate::karpenter_aws::{AWSNodeTemplate, EC2NodeClass};
use crate::karpenter_kwok::KWOKNodeClass;
use crate::karpenter_v1::NodePool;
use crate::karpenter_v1alpha5::Provisioner;
use crate::keda::{ClusterTriggerAuthentication, ScaledJob, ScaledObject, TriggerAuthentication};

/// One field without behaviour.
#[derive(Clone, Copy, Debug)]
pub struct NotYet {
    /// The kind that has the field.
    pub kind: &'static str,
    /// Where it is; `[]` stands for every item of a list, `.*` for every field of an object.
    pub path: &'static str,
    /// Values that do have their behaviour, or mean what happens anyway.
    pub fine: &'static [&'static str],
    /// What does not happen.
    pub message: &'static str,
}

const fn not_yet(
    kind: &'static str,
    path: &'static str,
    fine: &'static [&'static str],
    message: &'static str,
) -> NotYet {
    NotYet { kind, path, fine, message }
}

/// Trigger types that can be used. The scalers are not visible from here; a test of the controller, which sees both, holds
/// this list to theirs.
const TRIGGERS: &[&str] = &[
    "aws-cloudwatch",
    "aws-sqs-queue",
    "cpu",
    "cron",
    "etcd",
    "external",
    "external-push",
    "kafka",
    "kubernetes-workload",
    "memory",
    "metrics-api",
    "mysql",
    "nats-jetstream",
    "postgresql",
    "prometheus",
    "rabbitmq",
    "redis",
    "redis-cluster",
    "redis-cluster-streams",
    "redis-sentinel",
    "redis-sentinel-streams",
    "redis-streams",
];

const BUDGETS: &str = "budgets have no effect yet: expired nodes are replaced one at a time";
const NO_MACHINE: &str = "not supported yet: no machine is made with this";

/// Every field that is accepted without behaviour.
pub const NOT_YET: &[NotYet] = &[
    not_yet("ScaledObject", "spec.triggers[].type", TRIGGERS, "this trigger type is not supported yet"),
    not_yet("ScaledJob", "spec.triggers[].type", TRIGGERS, "this trigger type is not supported yet"),
    not_yet("Provisioner", "spec.consolidation.enabled", &["false"], "consolidation is not supported yet"),
    not_yet(
        "NodePool",
        "spec.disruption.consolidateAfter",
        &["Never"],
        "nodes of a NodePool are not consolidated yet, empty ones included",
    ),
    not_yet(
        "NodePool",
        "spec.disruption.budgets[].nodes",
        // The CRD's default, which nobody has asked for.
        &["10%"],
        BUDGETS,
    ),
    not_yet("NodePool", "spec.disruption.budgets[].reasons", &[], BUDGETS),
    not_yet("NodePool", "spec.disruption.budgets[].schedule", &[], BUDGETS),
    not_yet("NodePool", "spec.disruption.budgets[].duration", &[], BUDGETS),
    not_yet("EC2NodeClass", "spec.role", &[], "not supported yet, give instanceProfile: no machine is made with this"),
    not_yet("EC2NodeClass", "spec.capacityReservationSelectorTerms", &[], NO_MACHINE),
    not_yet("EC2NodeClass", "spec.placementGroupSelector", &[], NO_MACHINE),
    not_yet("EC2NodeClass", "spec.ipPrefixCount", &[], NO_MACHINE),
    not_yet("EC2NodeClass", "spec.networkInterfaces", &[], NO_MACHINE),
    not_yet("EC2NodeClass", "spec.connectionTracking", &[], NO_MACHINE),
    not_yet("EC2NodeClass", "spec.cpuOptions", &[], NO_MACHINE),
    not_yet("EC2NodeClass", "spec.enclaveOptions", &[], NO_MACHINE),
    not_yet(
        "NodePool",
        "spec.replicas",
        &[],
        "static NodePools are not supported yet: no node is made for this pool, not even for pending pods",
    ),
];

/// An object that may have fields without behaviour.
pub trait Unsupported {
    /// The fields given in this object that have no effect yet.
    fn notices(&self) -> Vec<FieldNotice>;
}

/// The fields given in an object that have no effect yet.
pub fn unsupported<T: Unsupported>(object: &T) -> Vec<FieldNotice> {
    object.notices()
}

macro_rules! looked_up {
    ($($kind:ident),*) => {
        $(impl Unsupported for $kind {
            fn notices(&self) -> Vec<FieldNotice> {
                look_up(stringify!($kind), &self.spec)
            }
        })*
    };
}
looked_up!(
    ScaledObject,
    ScaledJob,
    TriggerAuthentication,
    ClusterTriggerAuthentication,
    Provisioner,
    NodePool,
    AWSNodeTemplate,
    EC2NodeClass,
    KWOKNodeClass
);

fn look_up(kind: &str, spec: &impl Serialize) -> Vec<FieldNotice> {
    let spec = serde_json::to_value(spec).expect("a spec that was decoded from JSON goes back to JSON");
    let mut notices = Vec::new();
    for entry in NOT_YET.iter().filter(|entry| entry.kind == kind) {
        let steps: Vec<&str> = entry.path.split('.').skip(1).collect();
        walk(&spec, &steps, "spec", entry, &mut notices);
    }
    notices
}

/// Follows the rest of a path through a value; `path` is where it has come.
fn walk(value: &Value, steps: &[&str], path: &str, entry: &NotYet, notices: &mut Vec<FieldNotice>) {
    let Some((step, rest)) = steps.split_first() else {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !value.is_null() && !entry.fine.contains(&text.as_str()) {
            notices.push(FieldNotice::new(path, entry.message));
        }
        return;
    };
    if *step == "*" {
        for (name, inner) in value.as_object().into_iter().flatten() {
            if !entry.fine.contains(&name.as_str()) {
                walk(inner, rest, &format!("{path}.{name}"), entry, notices);
            }
        }
    } else if let Some(list) = step.strip_suffix("[]") {
        for (index, inner) in value[list].as_array().into_iter().flatten().enumerate() {
            walk(inner, rest, &format!("{path}.{list}[{index}]"), entry, notices);
        }
    } else if let Some(inner) = value.get(step) {
        walk(inner, rest, &format!("{path}.{step}"), entry, notices);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(notices: &[FieldNotice]) -> Vec<&str> {
        notices.iter().map(|n| n.field.as_str()).collect()
    }

    #[test]
    fn a_scaled_object_names_each_field_without_behaviour() {
        let object: ScaledObject = serde_json::from_value(json!({ "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject", "metadata": { "name": "a" }, "spec": {
                "scaleTargetRef": { "name": "web" },
                "triggers": [{ "type": "prometheus", "metadata": {} },
                             { "type": "temporal", "metadata": {}, "authenticationRef": { "name": "x" } }] } }))
        .unwrap();
        assert_eq!(said(&unsupported(&object)), ["spec.triggers[1].type"]);
    }

    #[test]
    fn what_has_its_behaviour_is_not_mentioned() {
        let object: Provisioner = serde_json::from_value(json!({ "apiVersion": "karpenter.sh/v1alpha5",
            "kind": "Provisioner", "metadata": { "name": "a" }, "spec": {
                "kubeletConfiguration": { "maxPods": 20 }, "consolidation": { "enabled": false },
                "ttlSecondsAfterEmpty": 30, "weight": 1 } }))
        .unwrap();
        assert_eq!(said(&unsupported(&object)), Vec::<&str>::new());
    }

    #[test]
    fn a_budget_that_somebody_wrote_is_mentioned_and_the_default_is_not() {
        let pool = |budgets: Value| {
            let disruption = json!({ "consolidateAfter": "Never", "budgets": budgets });
            let object: NodePool = serde_json::from_value(json!({ "apiVersion": "karpenter.sh/v1", "kind": "NodePool",
                "metadata": { "name": "a" }, "spec": { "disruption": disruption, "template": { "spec": {
                    "nodeClassRef": { "group": "g", "kind": "k", "name": "n" }, "requirements": [] } } } }))
            .unwrap();
            unsupported(&object)
        };
        assert_eq!(said(&pool(json!([{ "nodes": "10%" }]))), Vec::<&str>::new());
        let written = pool(json!([{ "nodes": "10%" }, { "nodes": "0", "schedule": "@daily", "duration": "8h" }]));
        let field = |name: &str| format!("spec.disruption.budgets[{name}");
        let expected = ["1].nodes", "1].schedule", "1].duration"].map(field);
        assert_eq!(said(&written), expected);
        let hidden = pool(json!([{ "nodes": "10%", "reasons": ["Empty"], "schedule": "@daily", "duration": "8h" }]));
        assert_eq!(said(&hidden), ["0].reasons", "0].schedule", "0].duration"].map(field));
    }

    #[test]
    fn a_node_class_names_every_field_without_behaviour_at_once() {
        let object: EC2NodeClass = serde_json::from_value(json!({ "apiVersion": "karpenter.k8s.aws/v1",
            "kind": "EC2NodeClass", "metadata": { "name": "a" }, "spec": {
                "subnetSelectorTerms": [], "securityGroupSelectorTerms": [], "amiSelectorTerms": [],
                "role": "nodes", "ipPrefixCount": 2, "cpuOptions": { "coreCount": 2 } } }))
        .unwrap();
        assert_eq!(said(&unsupported(&object)), ["spec.role", "spec.ipPrefixCount", "spec.cpuOptions"]);
    }

    #[test]
    fn a_star_goes_over_all_fields_but_the_fine_ones() {
        let entry = not_yet("K", "spec.kubelet.*", &["maxPods"], "no");
        let mut notices = Vec::new();
        walk(
            &json!({ "kubelet": { "maxPods": 20, "podsPerCore": 2 } }),
            &["kubelet", "*"],
            "spec",
            &entry,
            &mut notices,
        );
        assert_eq!(said(&notices), ["spec.kubelet.podsPerCore"]);
    }

    #[test]
    fn every_path_leads_to_a_field_of_its_crd() {
        let crds = crate::crds();
        for entry in NOT_YET {
            let crd = crds.iter().find(|c| c.spec.names.kind == entry.kind).unwrap();
            let root = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            let mut schema = serde_json::to_value(root).unwrap();
            for step in entry.path.split('.').take_while(|step| *step != "*") {
                schema = schema["properties"][step.trim_end_matches("[]")].clone();
                assert!(schema.is_object(), "{}: {} has no {step}", entry.kind, entry.path);
                if step.ends_with("[]") {
                    schema = schema["items"].clone();
                }
            }
        }
    }
}
