//! A number that changes when pods without a place should be planned again.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use kube::{Resource, ResourceExt as _};

use crate::world::World;

/// Hashes what a plan depends on besides the pods: pools, classes, machines, daemons, namespaces, volumes – not the
/// heartbeats of nodes, not the statuses of pools.
pub(crate) fn fingerprint(world: &World) -> u64 {
    let mut hash = DefaultHasher::new();
    let objects = &world.objects;
    all(&objects.provisioners, &mut hash);
    all(&objects.node_pools, &mut hash);
    all(&objects.node_overlays, &mut hash);
    all(&objects.node_templates, &mut hash);
    all(&objects.node_classes, &mut hash);
    all(&objects.kwok_classes, &mut hash);
    all(&objects.daemon_sets, &mut hash);
    all(&objects.storage_classes, &mut hash);
    all(&objects.volume_claims, &mut hash);
    for claim in &objects.claims {
        identity(&**claim, &mut hash);
    }
    for node in &objects.nodes {
        identity(&**node, &mut hash);
        node.labels().hash(&mut hash);
        if let Some(spec) = &node.spec {
            spec.unschedulable.hash(&mut hash);
            for taint in spec.taints.iter().flatten() {
                (&taint.key, &taint.value, &taint.effect).hash(&mut hash);
            }
        }
        if let Some(allocatable) = node.status.as_ref().and_then(|status| status.allocatable.as_ref()) {
            for (name, quantity) in allocatable {
                (name, &quantity.0).hash(&mut hash);
            }
        }
    }
    for namespace in &objects.namespaces {
        namespace.labels().hash(&mut hash);
    }
    hash.finish()
}

fn all<K: Resource>(objects: &[std::sync::Arc<K>], hash: &mut DefaultHasher) {
    objects.len().hash(hash);
    for object in objects {
        identity(&**object, hash);
        object.meta().generation.hash(hash);
    }
}

fn identity<K: Resource>(object: &K, hash: &mut DefaultHasher) {
    object.meta().uid.hash(hash);
    object.meta().deletion_timestamp.is_some().hash(hash);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Node;
    use serde_json::{Value, json};

    use super::*;
    use crate::world::Objects;

    fn of(node: &Value, provisioner: &Value) -> u64 {
        let node: Node = serde_json::from_value(node.clone()).unwrap();
        let provisioner = serde_json::from_value(provisioner.clone()).unwrap();
        fingerprint(&World::new(Objects {
            nodes: vec![Arc::new(node)],
            provisioners: vec![Arc::new(provisioner)],
            ..Objects::default()
        }))
    }

    #[test]
    fn a_heartbeat_changes_nothing_and_a_raised_limit_does() {
        let node = json!({ "metadata": { "name": "n", "uid": "1" }, "status": { "allocatable": { "cpu": "1" } } });
        let pool = json!({ "apiVersion": "karpenter.sh/v1alpha5", "kind": "Provisioner",
            "metadata": { "name": "p", "uid": "2", "generation": 1 }, "spec": {} });
        let before = of(&node, &pool);
        let mut heartbeat = node.clone();
        heartbeat["metadata"]["resourceVersion"] = json!("9");
        heartbeat["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
        let mut status = pool.clone();
        status["status"] = json!({ "resources": { "cpu": "4" } });
        assert_eq!(before, of(&heartbeat, &status));
        let mut raised = pool.clone();
        raised["metadata"]["generation"] = json!(2);
        assert_ne!(before, of(&node, &raised));
        let mut tainted = node;
        tainted["spec"] = json!({ "taints": [{ "key": "a", "effect": "NoSchedule" }] });
        assert_ne!(before, of(&tainted, &pool));
    }
}
