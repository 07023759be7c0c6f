//! Two clusters of one name in one AWS account.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testkit::eventually::{eventually, when};

use crate::world::*;

const CLUSTER_UID_TAG: &str = "tandem.dev/cluster-uid";
const NAMESPACE: Kind = Kind("", "v1", "Namespace");

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_provably_this_clusters_is_ended_as_nobodys() -> Result<()> {
    let world = World::start().await?.with_machines().await?;
    let result = neighbours(&world).await;
    world.end(result)
}

async fn neighbours(world: &World) -> Result<()> {
    let system = world.get(NAMESPACE, None, "kube-system").await?.context("kube-system")?;
    let uid = text(&system["metadata"]["uid"]);
    world.bed.namespace("web").await?;
    world.apply(&provisioner("ours", &json!({}))).await?;
    world.apply(&deployment("web", "ours", 1, "1", &json!({"team": "ours"}))).await?;
    world.wait_for_pods("web", "ours", 1).await?;
    let rented = world.launched().await?;
    ensure!(rented.len() == 1, "one pod, {} machines", rented.len());
    ensure!(rented[0].1.tags.get(CLUSTER_UID_TAG).is_some_and(|tag| tag == uid), "{:?}", rented[0].1.tags);

    // No claim of this cluster names any of these. The last one says that it is this cluster's.
    let theirs = rent(world, Some("6f1d3c1e-0000-4000-8000-000000000000")).await?;
    let whose = rent(world, None).await?;
    let orphan = rent(world, Some(uid)).await?;
    eventually("the orphan of this cluster to be ended", LATER, || async {
        let alive: Vec<String> = world.alive().await?.into_iter().map(|instance| instance.id).collect();
        Ok(when(!alive.contains(&orphan), alive))
    })
    .await?;
    let alive: Vec<String> = world.alive().await?.into_iter().map(|instance| instance.id).collect();
    ensure!(alive.contains(&theirs), "a machine of another cluster of this name was ended");
    ensure!(alive.contains(&whose), "a machine was ended, and nobody knows whose it is");
    ensure!(alive.contains(&rented[0].1.id), "the machine of a pod that runs was ended");
    Ok(())
}

/// Launches an instance as some cluster of this name would have tagged it; returns its id.
async fn rent(world: &World, cluster_uid: Option<&str>) -> Result<String> {
    let mut tags = vec![
        (CLUSTER_TAG, "owned"),
        ("tandem.dev/nodeclaim-uid", "0b6d4f0a-0000-4000-8000-000000000000"),
        ("karpenter.sh/provisioner-name", "ours"),
    ];
    tags.extend(cluster_uid.map(|uid| (CLUSTER_UID_TAG, uid)));
    let control = world.machines.as_ref().context("machines")?.aws.control();
    let template = control.launch_templates().await?.pop().context("the template of the machine that was rented")?;
    let mut form = format!(
        "Action=RunInstances&Version=2016-11-15&InstanceType=m5.large&MinCount=1&MaxCount=1\
         &LaunchTemplate.LaunchTemplateName={template}&TagSpecification.1.ResourceType=instance"
    );
    for (number, (key, value)) in (1..).zip(&tags) {
        let key = key.replace('/', "%2F");
        let _ =
            write!(form, "&TagSpecification.1.Tag.{number}.Key={key}&TagSpecification.1.Tag.{number}.Value={value}");
    }
    let scope = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0";
    let request = reqwest::Client::new()
        .post(control.url())
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Authorization", scope);
    let answer = request.body(form).send().await?.text().await?;
    let id = answer.split("<instanceId>").nth(1).and_then(|rest| rest.split('<').next());
    id.map(str::to_owned).with_context(|| answer.clone())
}
