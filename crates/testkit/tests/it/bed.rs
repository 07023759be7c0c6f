//! The test bed itself: what every other end-to-end test leans on.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use testkit::apply::apply;
use testkit::bed::{ALIVE_LABEL, Bed, Options};
use testkit::eventually::{eventually, when};

const SOON: Duration = Duration::from_mins(1);

fn node(name: &str) -> serde_json::Value {
    let resources = json!({"cpu": "2", "memory": "4Gi", "pods": "10"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {ALIVE_LABEL: "true"}},
        "status": {"capacity": resources, "allocatable": resources},
    })
}

fn pod(name: &str, cpu: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "none", "resources": {"requests": {"cpu": cpu}}}]},
    })
}

fn ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_control_planes_run_side_by_side_and_know_nothing_of_each_other() -> Result<()> {
    let (one, two) = tokio::try_join!(Bed::start(Options::default()), Bed::start(Options::default()))?;
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "namespace": "default"}});
    apply(&one.client(), &object).await?;
    let there: Api<ConfigMap> = Api::namespaced(two.client(), "default");
    assert!(there.get_opt("mine").await?.is_none());
    let hpas: Api<HorizontalPodAutoscaler> = Api::all(two.client());
    assert!(hpas.list(&ListParams::default()).await?.items.is_empty(), "the HPA API answers");
    one.check()?;
    two.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_once_a_node_has_room_for_it() -> Result<()> {
    let bed = Bed::start(Options::default()).await?;
    let (nodes, pods): (Api<Node>, Api<Pod>) = (Api::all(bed.client()), Api::namespaced(bed.client(), "default"));
    apply(&bed.client(), &pod("small", "1")).await?;
    eventually("the scheduler to say Unschedulable", SOON, || async {
        let pod = pods.get("small").await?;
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        let said = conditions.iter().any(|c| c.reason.as_deref() == Some("Unschedulable"));
        Ok(when(said, conditions))
    })
    .await?;

    apply(&bed.client(), &node("first")).await?;
    eventually("the node to be ready", SOON, || async {
        let node = nodes.get("first").await?;
        Ok(when(ready(&node), node.status))
    })
    .await?;
    eventually("the pod to run", SOON, || async {
        let status = pods.get("small").await?.status.unwrap_or_default();
        Ok(when(status.phase.as_deref() == Some("Running"), status))
    })
    .await?;

    // Without its label KWOK lets go of the node: its Lease is not renewed, and the node controller notices.
    let off = json!({"metadata": {"labels": {ALIVE_LABEL: null}}});
    nodes.patch("first", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(&off)).await?;
    eventually("the silent node to be not ready", Duration::from_mins(2), || async {
        let node = nodes.get("first").await?;
        Ok(when(!ready(&node), node.metadata.name))
    })
    .await?;
    Ok(())
}
