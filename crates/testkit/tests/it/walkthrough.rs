//! The life of a traffic spike, and what a Provisioner promises beside it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::apply::documents;
use testkit::aws::Instance;
use testkit::binaries::workspace;
use testkit::eventually::{Seen, always, eventually, when};
use testkit::userdata;

use crate::world::*;

/// Seconds a node of the walkthrough may stand empty; the manifest's half minute, shortened.
const EMPTY_SECONDS: i64 = 10;
const METRIC: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/web/s0-prometheus\
                      ?labelSelector=scaledobject.keda.sh%2Fname%3Dnginx";

/// A manifest of `examples/walkthrough`, with replacements: pairs of what is written and what a test needs.
fn manifest(file: &str, replacements: &[(&str, &str)]) -> Result<Vec<Value>> {
    let path = workspace().join("examples/walkthrough").join(file);
    let mut yaml = std::fs::read_to_string(&path)?;
    for (written, instead) in replacements {
        ensure!(yaml.contains(written), "{file} does not contain {written}");
        yaml = yaml.replace(written, instead);
    }
    documents(&yaml)
}

async fn apply_walkthrough(world: &World) -> Result<()> {
    let ttl = format!("ttlSecondsAfterEmpty: {EMPTY_SECONDS}");
    let address = world.prometheus().to_owned();
    // In the order in which `kubectl apply -f examples/walkthrough` takes them.
    let mut objects = manifest("namespace.yaml", &[])?;
    objects.extend(manifest("provisioner.yaml", &[("ttlSecondsAfterEmpty: 30", &ttl)])?);
    objects.extend(manifest(
        "scaledobject.yaml",
        &[("http://prometheus.istio-system.svc.cluster.local:9090", &address), ("[1m]", "[10s]")],
    )?);
    objects.extend(manifest("workload.yaml", &[])?);
    for object in objects {
        world.apply(&object).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traffic_spike_rents_machines_and_its_end_returns_them() -> Result<()> {
    let world = World::start().await?.with_machines().await?.with_metrics().await?;
    let story = async {
        world.traffic("nginx", 0.0);
        apply_walkthrough(&world).await?;
        rise(&world).await?;
        what_was_rented(&world).await?;
        fall(&world).await
    };
    let result = story.await;
    world.end(result)
}

/// From load at the mesh to ten pods that run.
async fn rise(world: &World) -> Result<()> {
    world.condition((SCALED_OBJECT, Some("web"), "nginx"), "Ready", "True", &[]).await?;
    the_hpa_is_kedas(world).await?;
    // The first replica has no node yet.
    world.wait_for_pods("web", "nginx", 1).await?;
    ensure!(world.replicas("web", "nginx").await? == 1, "without load one replica is enough");

    // Well above the most replicas: an HPA lets a tenth more or less pass.
    world.traffic("nginx", 150.0);
    the_metric_is_served(world).await?;
    world.wait_for_replicas("web", "nginx", 10).await?;
    // The scheduler's own words, and then ours.
    world.told(POD, "nginx-*", &["FailedScheduling", "nodes", "available"]).await?;
    world.wait_for_pods("web", "nginx", 10).await?;
    world.told(POD, "nginx-*", &["Nominated", "Pod should schedule on"]).await?;
    let hpa = world.get(HPA, Some("web"), "keda-hpa-nginx").await?.context("the HPA")?;
    ensure!(has_condition(&hpa, "ScalingActive"), "{}", hpa["status"]);
    Ok(())
}

async fn the_hpa_is_kedas(world: &World) -> Result<()> {
    let object = world.get(SCALED_OBJECT, Some("web"), "nginx").await?.context("the ScaledObject")?;
    let hpa = eventually("the HPA", SOON, || async {
        let found = world.get(HPA, Some("web"), "keda-hpa-nginx").await?;
        Ok(found.map_or_else(|| Seen::NotYet("none".into()), Seen::Done))
    })
    .await?;
    assert_eq!(
        hpa["metadata"]["ownerReferences"],
        json!([{
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "nginx",
            "uid": object["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
        }])
    );
    let labels = &hpa["metadata"]["labels"];
    for (key, value) in [
        ("app.kubernetes.io/name", "keda-hpa-nginx"),
        ("app.kubernetes.io/part-of", "nginx"),
        ("app.kubernetes.io/managed-by", "keda-operator"),
        ("scaledobject.keda.sh/name", "nginx"),
    ] {
        assert_eq!(labels[key], value, "label {key}");
    }
    assert!(labels["app.kubernetes.io/version"].is_string());
    assert_eq!(
        hpa["spec"],
        json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "nginx"},
            "minReplicas": 1,
            "maxReplicas": 10,
            "metrics": [{"type": "External", "external": {
                "metric": {"name": "s0-prometheus", "selector": {"matchLabels": {"scaledobject.keda.sh/name": "nginx"}}},
                "target": {"type": "AverageValue", "averageValue": "10"},
            }}],
        })
    );
    let status = &object["status"];
    assert_eq!(status["hpaName"], "keda-hpa-nginx");
    assert_eq!(status["externalMetricNames"], json!(["s0-prometheus"]));
    assert_eq!(status["scaleTargetKind"], "apps/v1.Deployment");
    Ok(())
}

/// As `kubectl get --raw` shows it: through the API server and its aggregation layer.
async fn the_metric_is_served(world: &World) -> Result<()> {
    world.condition((API_SERVICE, None, "v1beta1.external.metrics.k8s.io"), "Available", "True", &[]).await?;
    let discovered = world.raw("/apis/external.metrics.k8s.io/v1beta1").await?;
    assert_eq!(discovered["kind"], "APIResourceList");
    assert_eq!(discovered["groupVersion"], "external.metrics.k8s.io/v1beta1");
    eventually("the rate of 150 per second as the metric's value", SOON, || async {
        let answer = world.raw(METRIC).await?;
        let item = &answer["items"][0];
        let value: f64 = match text(&item["value"]) {
            milli if milli.ends_with('m') => milli.trim_end_matches('m').parse::<f64>()? / 1000.0,
            whole => whole.parse()?,
        };
        let right = answer["kind"] == "ExternalMetricValueList" && item["metricName"] == "s0-prometheus";
        Ok(when(right && (140.0..160.0).contains(&value), answer))
    })
    .await?;
    let unknown = world.raw(&METRIC.replace("s0-prometheus", "s1-prometheus")).await;
    ensure!(unknown.is_err(), "a metric that nobody has: {unknown:?}");
    Ok(())
}

/// Claims, instances, launch templates and user data agree with the Provisioner.
async fn what_was_rented(world: &World) -> Result<()> {
    world.wait_for_one_machine_per_claim().await?;
    // A pod may run on a node that its claim has not heard of yet.
    let claims = eventually("every claim to be ready", SOON, || async {
        let claims = world.list(NODE_CLAIM, None).await?;
        let waiting: Vec<&Value> =
            claims.iter().filter(|claim| !is_ready(claim)).map(|claim| &claim["status"]).collect();
        Ok(when(waiting.is_empty(), json!(waiting)).found(Some(claims.clone())))
    })
    .await?;
    ensure!(!claims.is_empty(), "ten pods run without a claim");
    for claim in &claims {
        assert_eq!(claim["metadata"]["labels"]["karpenter.sh/provisioner-name"], "default");
    }
    let uids: BTreeMap<String, String> =
        claims.iter().map(|claim| (text(&claim["metadata"]["uid"]).to_owned(), name(claim))).collect();
    let machines = world.machines.as_ref().context("machines")?;
    let log = machines.aws.control().log().await?;
    assert_eq!(log.fleets.iter().map(|fleet| fleet.instances.len()).sum::<usize>(), claims.len());
    assert!(log.fleets.iter().all(|fleet| !fleet.token.is_empty()), "a launch without a client token");
    let templates = machines.aws.control().launch_templates().await?;
    assert!(!templates.is_empty(), "a fleet is launched from a template");
    for (uid, instance) in world.launched().await? {
        let claim = uids.get(&uid).with_context(|| format!("instance {} of nobody", instance.id))?;
        rented_as_asked(world, claim, &instance)?;
        let (subnet, groups) = (machines.account.subnets.get(&instance.zone), &machines.account.security_groups);
        assert_eq!(Some(&instance.subnet), subnet, "subnet of {} in {}", instance.id, instance.zone);
        assert_eq!(&instance.security_groups, groups, "security groups of {}", instance.id);
    }
    for node in world.list(NODE, None).await? {
        let labels = &node["metadata"]["labels"];
        for (key, value) in [
            ("karpenter.sh/provisioner-name", "default"),
            ("karpenter.sh/capacity-type", "on-demand"),
            ("karpenter.sh/initialized", "true"),
        ] {
            assert_eq!(labels[key], value, "label {key} of {}", name(&node));
        }
    }
    assert_eq!(machines.joiner.refused(), BTreeMap::new(), "instances that could not join");
    Ok(())
}

fn rented_as_asked(world: &World, claim: &str, instance: &Instance) -> Result<()> {
    for (key, value) in [
        ("karpenter.sh/provisioner-name", "default"),
        (CLUSTER_TAG, "owned"),
        ("Name", "karpenter.sh/provisioner-name/default"),
        ("karpenter.sh/nodeclaim", claim),
    ] {
        assert_eq!(instance.tags.get(key).map(String::as_str), Some(value), "tag {key} of {}", instance.id);
    }
    assert_eq!(instance.lifecycle, "on-demand");
    let boot = userdata::parse(&instance.user_data)?;
    assert_eq!(boot.cluster, CLUSTER);
    assert_eq!(boot.endpoint.as_deref(), Some(world.bed.endpoint()));
    for (key, value) in [("karpenter.sh/provisioner-name", "default"), ("karpenter.sh/capacity-type", "on-demand")] {
        assert_eq!(boot.labels.get(key).map(String::as_str), Some(value), "user data: label {key}");
    }
    Ok(())
}

/// From no load to no machines.
async fn fall(world: &World) -> Result<()> {
    world.traffic("nginx", 0.0);
    world.wait_for_replicas("web", "nginx", 1).await?;
    let going = world.watch_nodes_go();
    let removals = Mutex::new(BTreeMap::new());
    eventually("the nodes without pods to go", LATER, || async {
        let left = note_removals(world, &removals).await?;
        Ok(when(left == 1, format!("{left} claims")))
    })
    .await?;
    let removals = removals.into_inner().expect("looks come one after the other");
    ensure!(!removals.is_empty(), "ten pods of a core each were on one claim: nothing was returned");
    eventually("every node of a claim that is gone to have been cordoned until it was gone", SOON, || async {
        let gone = going.so_far()?;
        Ok(when(gone.len() >= removals.len() && gone.values().all(|closed| *closed), gone))
    })
    .await?;
    for (node, (empty, deleted)) in removals {
        let waited = deleted.duration_since(empty).as_secs();
        ensure!(waited >= EMPTY_SECONDS, "{node} was empty at {empty} and removed at {deleted}");
    }
    ensure!(world.replicas("web", "nginx").await? == 1, "the last replica stays");
    world.wait_for_pods("web", "nginx", 1).await?;

    // Without the workload the last machine is empty, too.
    world.delete(SCALED_OBJECT, Some("web"), "nginx").await?;
    world.delete(DEPLOYMENT, Some("web"), "nginx").await?;
    world.wait_for_nothing_rented().await?;
    eventually("the HPA to go with its ScaledObject", SOON, || async {
        let found = world.get(HPA, Some("web"), "keda-hpa-nginx").await?;
        Ok(when(found.is_none(), found))
    })
    .await?;
    // Templates are kept for the next launch as long as the Provisioner is there.
    world.delete(PROVISIONER, None, "default").await?;
    eventually("the launch templates to go with their Provisioner", LATER, || async {
        let machines = world.machines.as_ref().context("machines")?;
        let left = machines.aws.control().launch_templates().await?;
        Ok(when(left.is_empty(), left))
    })
    .await?;
    Ok(())
}

/// Notes since when nodes whose claim is being deleted were empty, and when it was deleted. Returns how many claims are left.
async fn note_removals(world: &World, seen: &Mutex<BTreeMap<String, (Timestamp, Timestamp)>>) -> Result<usize> {
    let (claims, nodes) = (world.list(NODE_CLAIM, None).await?, world.list(NODE, None).await?);
    for claim in &claims {
        let node = nodes.iter().find(|node| node["metadata"]["name"] == claim["status"]["nodeName"]);
        let empty = node.map(|node| text(&node["metadata"]["annotations"]["karpenter.sh/emptiness-timestamp"]));
        if let (Ok(empty), Ok(deleted)) =
            (empty.unwrap_or_default().parse(), text(&claim["metadata"]["deletionTimestamp"]).parse())
        {
            seen.lock().expect("looks come one after the other").insert(name(claim), (empty, deleted));
        }
    }
    Ok(claims.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_goes_to_zero_after_its_cooldown_and_comes_back() -> Result<()> {
    let world = World::start().await?.with_metrics().await?;
    let stories = async {
        world.bed.namespace("web").await?;
        tokio::try_join!(zero_and_back(&world), a_total(&world)).map(drop)
    };
    let result = stories.await;
    world.end(result)
}

/// The second example: a counter that only rises. Its load ends, and its replicas stay.
async fn a_total(world: &World) -> Result<()> {
    let address = [("http://prometheus.istio-system.svc.cluster.local:9090", world.prometheus())];
    world.traffic("nginx", 5.0);
    world.apply(&deployment("web", "nginx", 1, "1", &json!({}))).await?;
    for object in manifest("total/scaledobject.yaml", &address)? {
        world.apply(&object).await?;
    }
    world.condition((SCALED_OBJECT, Some("web"), "nginx"), "Ready", "True", &[]).await?;
    the_hpa_is_kedas(world).await?;
    world.wait_for_replicas("web", "nginx", 10).await?;
    world.traffic("nginx", 0.0);
    always("a total that was reached keeps its replicas", Duration::from_secs(15), || async {
        let replicas = world.replicas("web", "nginx").await?;
        Ok(when(replicas == 10, replicas).found(Some(())))
    })
    .await
}

async fn zero_and_back(world: &World) -> Result<()> {
    const COOLDOWN: i64 = 20;
    world.traffic("shop", 25.0);
    world.apply(&deployment("web", "shop", 1, "1", &json!({}))).await?;
    let more = json!({"minReplicaCount": 0, "cooldownPeriod": COOLDOWN});
    world.apply(&scaled_object("shop", world.prometheus(), &rate_of("shop"), &more)).await?;
    world.wait_for_replicas("web", "shop", 3).await?;
    world.condition((SCALED_OBJECT, Some("web"), "shop"), "Active", "True", &["ScalerActive"]).await?;

    world.traffic("shop", 0.0);
    let loaded = Mutex::new(Timestamp::now());
    eventually("the rate to be zero", SOON, || async {
        let before = Timestamp::now();
        let rate = world.metrics.as_ref().context("metrics")?.prometheus.query(&rate_of("shop")).await?;
        if rate != Some(0.0) {
            *loaded.lock().expect("looks come one after the other") = before;
        }
        Ok(when(rate == Some(0.0), rate))
    })
    .await?;
    let loaded = loaded.into_inner().expect("looks come one after the other");
    world.condition((SCALED_OBJECT, Some("web"), "shop"), "Active", "False", &["Cooldown"]).await?;
    world.wait_for_replicas("web", "shop", 0).await?;
    let zero = Timestamp::now();
    let active: Timestamp = last_active(world, "shop").await?;
    let (since_load, since_active) = (zero.duration_since(loaded).as_secs(), zero.duration_since(active).as_secs());
    // The last poll before the rate was seen to be zero may have come a little earlier; the status rounds seconds up.
    ensure!(since_load >= COOLDOWN - 5, "zero came {since_load} s after the load ended");
    ensure!(since_active >= COOLDOWN - 1, "zero came {since_active} s after the last activity");
    world.told(SCALED_OBJECT, "shop", &["KEDAScaleTargetDeactivated"]).await?;

    always("zero stays zero without load", Duration::from_secs(8), || async {
        let replicas = world.replicas("web", "shop").await?;
        Ok(when(replicas == 0, replicas).found(Some(())))
    })
    .await?;
    world.traffic("shop", 8.0);
    world.wait_for_replicas("web", "shop", 1).await?;
    world.told(SCALED_OBJECT, "shop", &["KEDAScaleTargetActivated"]).await?;
    Ok(())
}

async fn last_active(world: &World, name: &str) -> Result<Timestamp> {
    let object = world.get(SCALED_OBJECT, Some("web"), name).await?.context("the ScaledObject")?;
    text(&object["status"]["lastActiveTime"]).parse().with_context(|| object["status"].to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_until_they_are_raised_and_old_nodes_are_replaced() -> Result<()> {
    let world = World::start().await?.with_machines().await?;
    let stories = async {
        world.bed.namespace("web").await?;
        // They share a cluster and nothing else: each Provisioner has its own pods.
        tokio::try_join!(a_limit(&world), an_expiry(&world)).map(drop)
    };
    let result = stories.await;
    world.end(result)
}

/// Cores that were ever launched for a Provisioner.
async fn cores(world: &World, provisioner: &str) -> Result<u32> {
    let launched = world.launched().await?;
    let of_it = launched.iter().map(|(_, instance)| instance);
    let of_it = of_it.filter(|i| i.tags.get("karpenter.sh/provisioner-name").is_some_and(|name| name == provisioner));
    Ok(of_it.map(|instance| instance.hardware.vcpus).sum())
}

async fn a_limit(world: &World) -> Result<()> {
    let limit = |cores: u32| json!({"limits": {"resources": {"cpu": cores}}});
    world.apply(&provisioner("limited", &limit(8))).await?;
    world.apply(&deployment("web", "limited", 12, "1", &json!({"team": "limited"}))).await?;
    world.told(POD, "limited-*", &["FailedScheduling", "Provisioner/limited: limit of 8 cpu"]).await?;
    let ran = eventually("the pods within the limit to run", LATER, || async {
        let running = world.pods("web", "limited").await?.iter().filter(|pod| is_running(pod)).count();
        let claims = world.list(NODE_CLAIM, None).await?;
        let mine = |claim: &&Value| claim["metadata"]["labels"]["karpenter.sh/provisioner-name"] == "limited";
        let settled = claims.iter().filter(mine).all(is_ready);
        Ok(when(running > 0 && settled, running))
    })
    .await?;
    ensure!(ran < 12, "twelve cores of pods run within a limit of eight");
    // Plans are made anew every ten seconds; none of them may launch more.
    always("not more than eight cores were launched", Duration::from_secs(25), || async {
        let launched = cores(world, "limited").await?;
        Ok(when(launched > 0 && launched <= 8, launched).found(Some(())))
    })
    .await?;

    world.patch(PROVISIONER, None, "limited", &json!({"spec": limit(40)})).await?;
    world.wait_for_pods("web", "limited", 12).await?;
    let launched = cores(world, "limited").await?;
    ensure!(launched <= 40, "{launched} cores were launched within a limit of 40");
    Ok(())
}

async fn an_expiry(world: &World) -> Result<()> {
    const TTL: i64 = 40;
    world.apply(&provisioner("mortal", &json!({"ttlSecondsUntilExpired": TTL}))).await?;
    world.apply(&deployment("web", "mortal", 2, "500m", &json!({"team": "mortal"}))).await?;
    world.apply(&one_stays("mortal")).await?;
    let pods = world.wait_for_pods("web", "mortal", 2).await?;
    let node = text(&pods[0]["spec"]["nodeName"]).to_owned();
    let old = world.get(NODE, None, &node).await?.context("the node of a running pod")?;
    let (id, born) = (text(&old["spec"]["providerID"]).to_owned(), created(&old)?);
    let running = world.watch_running("web", "mortal");
    eventually("the old node to be gone", LATER, || async {
        let found =
            world.get(NODE, None, &node).await?.filter(|found| found["metadata"]["uid"] == old["metadata"]["uid"]);
        Ok(when(found.is_none(), found.map(|found| found["spec"].clone())))
    })
    .await?;
    let running = running.so_far()?;
    ensure!(running.fewest.is_some_and(|fewest| fewest >= 1), "while the node was replaced: {running:?}");
    let claims = world.list(NODE_CLAIM, None).await?;
    let mine = claims.iter().filter(|claim| claim["metadata"]["labels"]["karpenter.sh/provisioner-name"] == "mortal");
    let younger = mine.map(created).collect::<Result<Vec<_>>>()?.into_iter().filter(|since| *since > born).min();
    let age = younger.context("the node went without a replacement")?.duration_since(born).as_secs();
    ensure!(age >= TTL, "{node} was {age} s old when its replacement was asked for");
    world.told(NODE, &node, &["DisruptionTerminating", "Expired"]).await?;
    eventually("its instance to be gone", SOON, || async {
        let alive: Vec<String> = world.alive().await?.into_iter().map(|instance| instance.id).collect();
        Ok(when(!alive.iter().any(|alive| id.ends_with(alive.as_str())), alive))
    })
    .await?;
    // Without a mortal Provisioner the pods stay where they are now.
    world.patch(PROVISIONER, None, "mortal", &json!({"spec": {"ttlSecondsUntilExpired": null}})).await?;
    let pods = world.wait_for_pods("web", "mortal", 2).await?;
    ensure!(pods.iter().all(|pod| pod["spec"]["nodeName"] != node.as_str()), "pods run on a node that is gone");
    Ok(())
}

/// Of the pods of a Deployment one must run at any time.
fn one_stays(name: &str) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "web"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": name}}},
    })
}

fn created(object: &Value) -> Result<Timestamp> {
    text(&object["metadata"]["creationTimestamp"]).parse().context("creationTimestamp")
}
