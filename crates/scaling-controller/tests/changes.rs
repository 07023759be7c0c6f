//! What changes around objects that were well, on a real API server and under the real HPA controller: a target goes, an HPA
//! of somebody else comes; and what the API server alone knows of a manifest.

mod running;

use anyhow::{Context as _, Result, ensure};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource};
use serde_json::{Value, json};
use testkit::apply::apply;
use testkit::bed::{Bed, Options};
use testkit::eventually::{eventually, when};

use running::{Running, SOON, install, start};

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_around_an_object_is_told_and_forgotten() -> Result<()> {
    let bed = Bed::start(Options::default()).await?;
    install(&bed).await?;
    let running = start(&bed).await?;
    let ends: [Result<()>; 11] = tokio::join!(
        a_lost_target(&bed, "lost", 1),
        a_lost_target(&bed, "asleep", 0),
        a_rival(&bed),
        an_edit(&bed),
        an_exchange(&bed),
        a_broken_pause(&bed),
        an_idle_count(&bed),
        a_daemon_set(&bed),
        a_job(&bed),
        a_pause_amid_a_batch(&bed),
        a_first_look(&bed)
    )
    .into();
    let failed: Vec<String> = ends.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    what_changes_while_nobody_looks(&bed, running).await?;
    bed.check().context("a server of the test bed ended")
}

/// The target goes, at its minimum or at zero, and comes back.
async fn a_lost_target(bed: &Bed, name: &str, minimum: i32) -> Result<()> {
    let deployments: Api<Deployment> = Api::default_namespaced(bed.client());
    apply(&bed.client(), &deployment(name)).await?;
    apply(&bed.client(), &scaled_object(name, minimum)).await?;
    condition(bed, "ScaledObject", name, "Ready", "True", "").await?;
    eventually(format!("{name} is at its minimum, and its HPA has seen that"), SOON, async || {
        let replicas = deployments.get(name).await?.spec.and_then(|spec| spec.replicas);
        let able = hpa(bed, &format!("keda-hpa-{name}")).await?.is_some_and(|hpa| able(&hpa));
        Ok(when(able && replicas == Some(minimum), (able, replicas)))
    })
    .await?;

    deployments.delete(name, &DeleteParams::default()).await?;
    let said = format!("spec.scaleTargetRef: target resource apps/v1.Deployment {name} doesn't exist");
    condition(bed, "ScaledObject", name, "Ready", "False", &said).await?;
    condition(bed, "ScaledObject", name, "Active", "Unknown", "").await?;
    condition(bed, "ScaledObject", name, "HPAActive", "False", "not found").await?;
    warning(bed, name, &said).await?;

    apply(&bed.client(), &deployment(name)).await?;
    condition(bed, "ScaledObject", name, "Ready", "True", "").await
}

/// Somebody makes an HPA for a workload that has one already, and takes it away again.
async fn a_rival(bed: &Bed) -> Result<()> {
    const NAME: &str = "shared";
    apply(&bed.client(), &deployment(NAME)).await?;
    apply(&bed.client(), &scaled_object(NAME, 1)).await?;
    condition(bed, "ScaledObject", NAME, "Ready", "True", "").await?;
    let rival = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "by-hand", "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
            "minReplicas": 3, "maxReplicas": 3,
        },
    });
    apply(&bed.client(), &rival).await?;
    let said = "spec.scaleTargetRef: the workload 'shared' of type 'apps/v1.Deployment' is already managed by the hpa 'by-hand'";
    condition(bed, "ScaledObject", NAME, "Ready", "False", said).await?;
    warning(bed, NAME, said).await?;
    ensure!(hpa(bed, "keda-hpa-shared").await?.is_some(), "the object's own HPA was taken away");

    let hpas: Api<HorizontalPodAutoscaler> = Api::default_namespaced(bed.client());
    hpas.delete("by-hand", &DeleteParams::default()).await?;
    condition(bed, "ScaledObject", NAME, "Ready", "True", "").await
}

/// An older object is given the workload of a younger one, whose HPA scales it, and then its own again.
async fn an_edit(bed: &Bed) -> Result<()> {
    for name in ["elder", "younger"] {
        apply(&bed.client(), &deployment(name)).await?;
        apply(&bed.client(), &scaled_object(name, 1)).await?;
        condition(bed, "ScaledObject", name, "Ready", "True", "").await?;
        // Creation counts in whole seconds; of two at once the first name is the elder.
    }
    let mut elder = scaled_object("elder", 1);
    elder["spec"]["scaleTargetRef"]["name"] = json!("younger");
    apply(&bed.client(), &elder).await?;
    let said = "the workload 'younger' of type 'apps/v1.Deployment' is already managed by the ScaledObject 'younger'";
    condition(bed, "ScaledObject", "elder", "Ready", "False", said).await?;
    condition(bed, "ScaledObject", "younger", "Ready", "True", "").await?;
    apply(&bed.client(), &scaled_object("elder", 1)).await?;
    condition(bed, "ScaledObject", "elder", "Ready", "True", "").await
}

/// An object is not paused any more when its annotation is gone, though it cannot go on.
async fn a_broken_pause(bed: &Bed) -> Result<()> {
    const NAME: &str = "resting";
    apply(&bed.client(), &deployment(NAME)).await?;
    let mut object = scaled_object(NAME, 1);
    object["metadata"]["annotations"] = json!({"autoscaling.keda.sh/paused": "true"});
    apply(&bed.client(), &object).await?;
    condition(bed, "ScaledObject", NAME, "Paused", "True", "").await?;
    object["metadata"]["annotations"] = json!({"autoscaling.keda.sh/paused": "false"});
    object["spec"]["triggers"][0]["metadata"]["value"] = json!("many");
    apply(&bed.client(), &object).await?;
    condition(bed, "ScaledObject", NAME, "Ready", "False", "spec.triggers[0].metadata.value").await?;
    condition(bed, "ScaledObject", NAME, "Paused", "False", "").await
}

/// One replica while nothing is wanted, three at least while something is: the HPA holds what the controller has decided, and
/// neither takes back what the other has done.
async fn an_idle_count(bed: &Bed) -> Result<()> {
    const NAME: &str = "dozing";
    let deployments: Api<Deployment> = Api::default_namespaced(bed.client());
    let at = async |what: &str, replicas: i32, bounds: (i32, i32)| {
        eventually(format!("{NAME} is {what}, and the HPA has seen that"), SOON, async || {
            let scale = deployments.get(NAME).await?.spec.and_then(|spec| spec.replicas);
            let hpa = hpa(bed, &format!("keda-hpa-{NAME}")).await?.context("the HPA")?;
            let may = (hpa.spec.min_replicas.unwrap_or(1), hpa.spec.max_replicas);
            let seen = hpa.status.and_then(|status| status.current_replicas);
            let so = scale == Some(replicas) && may == bounds && seen == Some(replicas);
            Ok(when(so, (scale, may, seen)))
        })
        .await
    };
    apply(&bed.client(), &deployment(NAME)).await?;
    let mut object = scaled_object(NAME, 3);
    object["spec"]["idleReplicaCount"] = json!(1);
    object["spec"]["maxReplicaCount"] = json!(9);
    object["spec"]["triggers"][0]["metadata"]["podSelector"] = json!("app=guest");
    apply(&bed.client(), &object).await?;
    at("at rest", 1, (1, 1)).await?;
    let guest = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "guest", "namespace": "default", "labels": {"app": "guest"}},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    });
    apply(&bed.client(), &guest).await?;
    at("awake", 3, (3, 9)).await?;
    Api::<Pod>::default_namespaced(bed.client()).delete("guest", &DeleteParams::default()).await?;
    at("at rest again", 1, (1, 1)).await?;
    let events: Api<Event> = Api::default_namespaced(bed.client());
    let events = events.list(&ListParams::default()).await?.items.into_iter();
    let told = events.filter(|event| event.regarding.as_ref().is_some_and(|about| about.name.as_deref() == Some(NAME)));
    let scaled: Vec<_> = told
        .filter(|event| event.reason.as_deref().is_some_and(|reason| reason.starts_with("KEDAScaleTarget")))
        .filter_map(|event| event.note)
        .collect();
    let (up, down) = (format!("{NAME} from 1 to 3"), format!("{NAME} from 3 to 1"));
    let only = |note: &String| note.contains(&up) || note.ends_with(&down);
    ensure!(scaled.len() == 2 && scaled.iter().all(only), "it was not left in peace: {scaled:?}");
    Ok(())
}

/// What has no replicas is said to have none: the right to look at it, which nobody has given, would not help.
async fn a_daemon_set(bed: &Bed) -> Result<()> {
    let mut everywhere = deployment("everywhere");
    everywhere["kind"] = json!("DaemonSet");
    everywhere["spec"].as_object_mut().context("a spec")?.remove("replicas");
    apply(&bed.client(), &everywhere).await?;
    let mut object = scaled_object("everywhere", 1);
    object["spec"]["scaleTargetRef"]["kind"] = json!("DaemonSet");
    apply(&bed.client(), &object).await?;
    let said = "spec.scaleTargetRef: target resource apps/v1.DaemonSet everywhere doesn't expose /scale subresource";
    condition(bed, "ScaledObject", "everywhere", "Ready", "False", said).await
}

/// Two objects change places, as at the end of a blue-green deployment: neither waits for the other, and each remembers the size
/// of the workload that it has now.
async fn an_exchange(bed: &Bed) -> Result<()> {
    let deployments: Api<Deployment> = Api::default_namespaced(bed.client());
    for (name, minimum) in [("blue", 1), ("green", 3)] {
        apply(&bed.client(), &deployment(name)).await?;
        apply(&bed.client(), &scaled_object(name, minimum)).await?;
        eventually(format!("{name} is at its minimum"), SOON, async || {
            let replicas = deployments.get(name).await?.spec.and_then(|spec| spec.replicas);
            Ok(when(replicas == Some(minimum), replicas))
        })
        .await?;
    }
    for (name, target) in [("blue", "green"), ("green", "blue")] {
        let mut object = scaled_object(name, 3);
        object["spec"]["scaleTargetRef"]["name"] = json!(target);
        apply(&bed.client(), &object).await?;
    }
    for (name, target, size) in [("blue", "green", 3), ("green", "blue", 1)] {
        eventually(format!("the HPA of {name} scales {target}"), SOON, async || {
            let scaled = hpa(bed, &format!("keda-hpa-{name}")).await?.map(|hpa| hpa.spec.scale_target_ref.name);
            Ok(when(scaled.as_deref() == Some(target), scaled))
        })
        .await?;
        condition(bed, "ScaledObject", name, "Ready", "True", "").await?;
        let original = status(bed, name).await?["originalReplicaCount"].clone();
        ensure!(original == size, "{name} remembers {original} of {target}, which had {size}");
    }
    Ok(())
}

/// Only the API server knows what a Job may look like.
async fn a_job(bed: &Bed) -> Result<()> {
    let object = |name: &str, policy: Option<&str>| {
        json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "pollingInterval": 1, "triggers": [never()],
                "jobTargetRef": {"template": {"spec": {
                    "restartPolicy": policy, "containers": [{"name": "main", "image": "none"}],
                }}},
            },
        })
    };
    apply(&bed.client(), &object("plain", None)).await?;
    apply(&bed.client(), &object("restless", Some("Always"))).await?;
    let said = "spec.jobTargetRef.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"";
    condition(bed, "ScaledJob", "restless", "Ready", "False", said).await?;
    warning(bed, "restless", said).await?;
    condition(bed, "ScaledJob", "plain", "Ready", "True", "").await?;
    let mut mistyped = object("mistyped", None);
    mistyped["spec"]["jobTargetRef"]["backofLimit"] = json!(1);
    apply(&bed.client(), &mistyped).await?;
    warning(bed, "mistyped", "spec.jobTargetRef.backofLimit: unknown field").await?;
    condition(bed, "ScaledJob", "mistyped", "Ready", "True", "").await?;
    let jobs: Api<Job> = Api::default_namespaced(bed.client());
    let own = ListParams::default().labels("scaledjob.keda.sh/name in (plain, restless, mistyped)");
    let made = jobs.list(&own).await?.items.len();
    ensure!(made == 0, "{made} Jobs were made by asking");

    apply(&bed.client(), &object("restless", Some("Never"))).await?;
    condition(bed, "ScaledJob", "restless", "Ready", "True", "").await
}

/// A thousand Jobs are wanted at once, and somebody who sees the first of them pauses it.
async fn a_pause_amid_a_batch(bed: &Bed) -> Result<()> {
    const NAME: &str = "flood";
    let labels = json!({"batch": NAME});
    let wanted = 1000;
    let mut object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob", "metadata": {"name": NAME, "namespace": "default"},
        "spec": {
            "pollingInterval": 1, "maxReplicaCount": wanted,
            "triggers": [{"type": "cron", "metadata": {
                "timezone": "UTC", "start": "0 0 1 1 *", "end": "59 23 31 12 *", "desiredReplicas": wanted.to_string(),
            }}],
            // Nobody makes pods of them.
            "jobTargetRef": {"parallelism": 0, "template": {
                "metadata": {"labels": labels},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]},
            }},
        },
    });
    apply(&bed.client(), &object).await?;
    let jobs: Api<Job> = Api::default_namespaced(bed.client());
    let of_it = ListParams::default().labels(&format!("scaledjob.keda.sh/name={NAME}"));
    let count = async || anyhow::Ok(jobs.list_metadata(&of_it).await?.items.len());
    eventually("the first Job", SOON, async || {
        let made = count().await?;
        Ok(when(made > 0, made))
    })
    .await?;
    object["metadata"]["annotations"] = json!({"autoscaling.keda.sh/paused": "true"});
    apply(&bed.client(), &object).await?;
    condition(bed, "ScaledJob", NAME, "Paused", "True", "").await?;
    let made = count().await?;
    ensure!(made < wanted, "all {made} Jobs were made");
    Ok(())
}

/// What nobody could find out again is in the status before anything is done that hides it: how large the workload was before its
/// HPA came, and that it was active before it was scaled. Whoever ends in between leaves this to its successor.
async fn a_first_look(bed: &Bed) -> Result<()> {
    const NAME: &str = "remembering";
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject"));
    let only = |name: &str| WatchParams::default().fields(&format!("metadata.name={name}"));
    let objects: Api<DynamicObject> = Api::default_namespaced_with(bed.client(), &resource);
    let mut objects = objects.watch(&only(NAME), "0").await?.boxed();
    let hpas: Api<HorizontalPodAutoscaler> = Api::default_namespaced(bed.client());
    let mut hpas = hpas.watch(&only(&format!("keda-hpa-{NAME}")), "0").await?.boxed();
    let deployments: Api<Deployment> = Api::default_namespaced(bed.client());
    let mut deployments = deployments.watch(&only(NAME), "0").await?.boxed();

    let mut workload = deployment(NAME);
    workload["spec"]["replicas"] = json!(0);
    apply(&bed.client(), &workload).await?;
    let mut object = scaled_object(NAME, 0);
    object["metadata"]["annotations"] = json!({"autoscaling.keda.sh/force-activation": "true"});
    apply(&bed.client(), &object).await?;

    // Of all that is stored the API server says in which order it was.
    let made = first(&mut hpas, |_| true);
    let scaled = first(&mut deployments, |found| found.spec.as_ref().is_some_and(|spec| spec.replicas == Some(1)));
    let known = async {
        let original = first(&mut objects, |found| found.data["status"]["originalReplicaCount"] == 0).await?;
        // The same write, or a later one.
        let last = |found: &DynamicObject| !found.data["status"]["lastActiveTime"].is_null();
        anyhow::Ok((original, first(&mut objects, last).await?))
    };
    let all = async { tokio::try_join!(made, scaled, known) };
    let (made, scaled, (original, active)) = tokio::time::timeout(SOON, all).await.context("a first look")??;
    ensure!(original < made, "the HPA is of {made}, the original count of {original}");
    ensure!(active < scaled, "the scale is of {scaled}, the activity of {active}");
    Ok(())
}

/// The version in which something first was so.
async fn first<K: Resource + Clone + std::fmt::Debug>(
    seen: &mut (impl Stream<Item = kube::Result<WatchEvent<K>>> + Unpin),
    so: impl Fn(&K) -> bool,
) -> Result<u64> {
    while let Some(event) = seen.next().await {
        if let WatchEvent::Added(found) | WatchEvent::Modified(found) = event?
            && so(&found)
        {
            return Ok(found.meta().resource_version.as_deref().context("an object without a version")?.parse()?);
        }
    }
    anyhow::bail!("the API server ended the watch")
}

/// An object gets another workload and another name for its HPA while no controller runs: the size that it remembers is that of the
/// new workload, which it would give back when it goes.
async fn what_changes_while_nobody_looks(bed: &Bed, running: Running) -> Result<()> {
    let mut object = scaled_object("mover", 1);
    for (name, replicas) in [("mover", 1), ("moved-to", 4)] {
        let mut deployment = deployment(name);
        deployment["spec"]["replicas"] = json!(replicas);
        apply(&bed.client(), &deployment).await?;
    }
    apply(&bed.client(), &object).await?;
    condition(bed, "ScaledObject", "mover", "Ready", "True", "").await?;
    running.end().await?;
    object["spec"]["scaleTargetRef"]["name"] = json!("moved-to");
    object["spec"]["advanced"] = json!({"horizontalPodAutoscalerConfig": {"name": "another"}});
    apply(&bed.client(), &object).await?;
    let running = start(bed).await?;
    eventually("the HPA of the new name scales the new workload, and the old one is gone", SOON, async || {
        let scaled = hpa(bed, "another").await?.map(|hpa| hpa.spec.scale_target_ref.name);
        let old = hpa(bed, "keda-hpa-mover").await?.is_some();
        let original = status(bed, "mover").await?["originalReplicaCount"].clone();
        Ok(when(scaled.as_deref() == Some("moved-to") && !old && original == 4, (scaled, old, original)))
    })
    .await?;
    running.end().await
}

fn deployment(name: &str) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "none"}]},
        }},
    })
}

/// A trigger that always answers that nothing is wanted.
fn never() -> Value {
    json!({"type": "kubernetes-workload", "metadata": {"podSelector": "app=nobody", "value": "1"}})
}

fn scaled_object(name: &str, minimum: i32) -> Value {
    json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"name": name}, "minReplicaCount": minimum, "cooldownPeriod": 1, "pollingInterval": 1,
            "triggers": [never()],
        },
    })
}

async fn hpa(bed: &Bed, name: &str) -> Result<Option<HorizontalPodAutoscaler>> {
    Ok(Api::default_namespaced(bed.client()).get_opt(name).await?)
}

async fn status(bed: &Bed, name: &str) -> Result<Value> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject"));
    let api: Api<DynamicObject> = Api::default_namespaced_with(bed.client(), &resource);
    Ok(api.get(name).await?.data["status"].clone())
}

fn able(hpa: &HorizontalPodAutoscaler) -> bool {
    let conditions = hpa.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "AbleToScale" && condition.status == "True")
}

/// Waits for a condition with these words in its message.
async fn condition(bed: &Bed, kind: &str, name: &str, which: &str, status: &str, words: &str) -> Result<()> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("keda.sh", "v1alpha1", kind));
    let api: Api<DynamicObject> = Api::default_namespaced_with(bed.client(), &resource);
    eventually(format!("{which} of {kind} {name} is {status} with {words:?}"), SOON, async || {
        let found = api.get(name).await?.data["status"]["conditions"].clone();
        let so = |c: &Value| {
            c["type"] == which && c["status"] == status && c["message"].as_str().is_some_and(|m| m.contains(words))
        };
        Ok(when(found.as_array().is_some_and(|all| all.iter().any(so)), found))
    })
    .await
    .map(drop)
}

/// Waits for a Warning about an object with these words.
async fn warning(bed: &Bed, name: &str, words: &str) -> Result<()> {
    let api: Api<Event> = Api::default_namespaced(bed.client());
    eventually(format!("a warning about {name} says {words:?}"), SOON, async || {
        let about = |event: &Event| event.regarding.as_ref().is_some_and(|r| r.name.as_deref() == Some(name));
        let events: Vec<Event> = api.list(&ListParams::default()).await?.items.into_iter().filter(about).collect();
        let said: Vec<_> = events.into_iter().map(|event| (event.type_, event.note)).collect();
        let so = |(kind, note): &(Option<String>, Option<String>)| {
            kind.as_deref() == Some("Warning") && note.as_deref().is_some_and(|note| note.contains(words))
        };
        Ok(when(said.iter().any(so), said))
    })
    .await
    .map(drop)
}
