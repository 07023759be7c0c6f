//! The stand-ins together: the AWS double, the boot of its instances, the mesh and the real Prometheus.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use testkit::aws::AwsDouble;
use testkit::bed::{Bed, Options};
use testkit::children::Folder;
use testkit::eventually::{eventually, when};
use testkit::joiner::{Boot, Joiner};
use testkit::mesh::{Mesh, Traffic};
use testkit::prometheus::Prometheus;

const SOON: Duration = Duration::from_mins(1);

/// EC2 by its query protocol: what an SDK would send, written by hand.
async fn ec2(aws: &AwsDouble, parameters: &[(&str, &str)]) -> Result<String> {
    let scope = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0";
    let mut form = vec![("Version", "2016-11-15")];
    form.extend(parameters);
    let request = reqwest::Client::new().post(aws.control().url()).header("Authorization", scope);
    let encoded: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(encoded.join("&"));
    Ok(request.send().await?.text().await?)
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

async fn launch_template(aws: &AwsDouble, name: &str, image: &str, profile: &str, script: &str) -> Result<()> {
    use base64::Engine;
    let data = base64::engine::general_purpose::STANDARD.encode(script);
    let answer = ec2(
        aws,
        &[
            ("Action", "CreateLaunchTemplate"),
            ("LaunchTemplateName", name),
            ("LaunchTemplateData.ImageId", image),
            ("LaunchTemplateData.IamInstanceProfile.Name", profile),
            ("LaunchTemplateData.UserData", &data),
        ],
    )
    .await?;
    anyhow::ensure!(answer.contains("<launchTemplateId>"), "{answer}");
    Ok(())
}

async fn fleet(aws: &AwsDouble, template: &str, subnet: &str, token: &str) -> Result<String> {
    ec2(
        aws,
        &[
            ("Action", "CreateFleet"),
            ("Type", "instant"),
            ("ClientToken", token),
            ("LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateName", template),
            ("LaunchTemplateConfigs.1.LaunchTemplateSpecification.Version", "$Latest"),
            ("LaunchTemplateConfigs.1.Overrides.1.InstanceType", "m5.large"),
            ("LaunchTemplateConfigs.1.Overrides.1.SubnetId", subnet),
            ("LaunchTemplateConfigs.1.Overrides.2.InstanceType", "t3.large"),
            ("LaunchTemplateConfigs.1.Overrides.2.SubnetId", subnet),
            ("TargetCapacitySpecification.TotalTargetCapacity", "1"),
            ("TargetCapacitySpecification.DefaultTargetCapacityType", "on-demand"),
        ],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_takes_the_cheapest_pool_that_has_something_left_and_asks_once_per_token() -> Result<()> {
    let folder = Folder::new()?;
    let aws = AwsDouble::start(folder.path()).await?;
    let account = aws.control().seed("walk").await?;
    let (image, subnet) = (&account.images["amazon-linux-2/recommended/image_id"], &account.subnets["us-east-1b"]);
    launch_template(&aws, "good", image, &account.instance_profile, "#!/bin/sh").await?;
    launch_template(&aws, "no-profile", image, "nobody", "#!/bin/sh").await?;

    let answer = fleet(&aws, "good", subnet, "first").await?;
    assert!(answer.contains("<instanceType>t3.large</instanceType>"), "{answer}");
    assert_eq!(answer, fleet(&aws, "good", subnet, "first").await?, "the same token launches once");
    assert_eq!(aws.control().alive().await?.len(), 1);

    aws.control().exhaust(&[("on-demand", "t3.large", "us-east-1b")]).await?;
    let answer = fleet(&aws, "good", subnet, "second").await?;
    assert!(answer.contains("<instanceType>m5.large</instanceType>"), "{answer}");
    assert!(answer.contains("InsufficientInstanceCapacity"), "{answer}");

    aws.control().exhaust(&[("*", "*", "*")]).await?;
    let answer = fleet(&aws, "good", subnet, "third").await?;
    assert!(!answer.contains("<instanceId>") && answer.contains("InsufficientInstanceCapacity"), "{answer}");

    aws.control().exhaust(&[]).await?;
    let answer = fleet(&aws, "no-profile", subnet, "fourth").await?;
    assert!(
        answer.contains("InvalidParameterValue") && answer.contains("Invalid IAM Instance Profile name"),
        "{answer}"
    );

    aws.control().fail("CreateFleet", "RequestLimitExceeded", 503, 1).await?;
    assert!(fleet(&aws, "good", subnet, "fifth").await?.contains("RequestLimitExceeded"));
    assert_eq!(aws.control().log().await?.counts["CreateFleet"], 6);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_answer_leaves_the_instance_behind_for_whoever_asks_again() -> Result<()> {
    let folder = Folder::new()?;
    let aws = AwsDouble::start(folder.path()).await?;
    let account = aws.control().seed("walk").await?;
    let image = &account.images["amazon-linux-2/recommended/image_id"];
    launch_template(&aws, "good", image, &account.instance_profile, "#!/bin/sh").await?;
    aws.control().hold("CreateFleet", 1).await?;
    let subnet = account.subnets["us-east-1a"].clone();
    {
        let asking = fleet(&aws, "good", &subnet, "claim");
        tokio::select! {
            answer = asking => anyhow::bail!("answered although held: {answer:?}"),
            held = eventually("an answer to be held", SOON, || async {
                let held = aws.control().held().await?;
                Ok(when(held == 1, held))
            }) => { held?; }
        }
    } // The caller is gone now; its instance is not.
    let alive = aws.control().alive().await?;
    assert_eq!(alive.len(), 1);
    let again = fleet(&aws, "good", &subnet, "claim").await?;
    assert!(again.contains(&alive[0].id), "{again}");
    assert_eq!(aws.control().alive().await?.len(), 1);
    aws.control().release().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_joins_by_what_its_user_data_says_and_by_nothing_else() -> Result<()> {
    let bed = Bed::start(Options::default()).await?;
    let aws = AwsDouble::start(bed.folder()).await?;
    let account = aws.control().seed("walk").await?;
    let boot = Boot { cluster: "walk".into(), delay: Duration::from_secs(1), startup_taints_for: None };
    let joiner = Joiner::start(&bed, aws.control().clone(), boot);
    let image = &account.images["amazon-linux-2/recommended/image_id"];
    let authority = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(bed.authority_pem())
    };
    let script = |cluster: &str| {
        let endpoint = bed.endpoint();
        format!(
            "#!/bin/bash\n/etc/eks/bootstrap.sh '{cluster}' --apiserver-endpoint '{endpoint}' --b64-cluster-ca '{authority}' --kubelet-extra-args '--node-labels=team=a --register-with-taints=x=y:NoSchedule'\n"
        )
    };
    launch_template(&aws, "good", image, &account.instance_profile, &script("walk")).await?;
    launch_template(&aws, "stray", image, &account.instance_profile, &script("another")).await?;
    fleet(&aws, "good", &account.subnets["us-east-1c"], "good").await?;
    fleet(&aws, "stray", &account.subnets["us-east-1c"], "stray").await?;

    let nodes: Api<Node> = Api::all(bed.client());
    let node = eventually("the good instance to be a ready node", SOON, || async {
        let nodes = nodes.list(&kube::api::ListParams::default()).await?.items;
        let ready = nodes.iter().find(|node| {
            let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        });
        Ok(when(ready.is_some(), nodes.clone()).found(ready.cloned()))
    })
    .await?;
    let labels = node.metadata.labels.unwrap_or_default();
    assert_eq!(labels["team"], "a");
    assert_eq!(labels["topology.kubernetes.io/zone"], "us-east-1c");
    assert_eq!(labels["node.kubernetes.io/instance-type"], "t3.large");
    let spec = node.spec.unwrap_or_default();
    assert!(spec.provider_id.is_some_and(|id| id.starts_with("aws:///us-east-1c/i-")));
    assert!(spec.taints.unwrap_or_default().iter().any(|taint| taint.key == "x"));

    let refused = eventually("the stray instance to be refused", SOON, || async {
        let refused = joiner.refused();
        Ok(when(refused.len() == 1, refused))
    })
    .await?;
    assert!(refused.values().next().is_some_and(|why| why.contains("another")), "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_sees_the_rate_that_the_mesh_was_set_to() -> Result<()> {
    let folder = Folder::new()?;
    let mesh = Mesh::start().await?;
    mesh.set_rate(&Traffic::to("default", "nginx"), 50.0);
    let prometheus = Prometheus::start(folder.path(), &[mesh.address()]).await?;
    let query = "sum(rate(istio_requests_total{destination_workload=\"nginx\"}[10s]))";
    eventually("a rate near 50 per second", SOON, || async {
        let rate = prometheus.query(query).await?;
        Ok(when(rate.is_some_and(|rate| (40.0..60.0).contains(&rate)), rate))
    })
    .await?;
    Ok(())
}
