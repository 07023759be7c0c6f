//! ScaledJobs on a real control plane: as many Jobs as there is work for, each once, whatever the program misses.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::eventually::{always, eventually, when};

use crate::door::{Door, Guest};
use crate::world::*;

const JOB: Kind = Kind("batch", "v1", "Job");
const SCALED_JOB: Kind = Kind("keda.sh", "v1alpha1", "ScaledJob");
const GUEST: Guest = Guest::User("worker", "letmein");
/// Some polls, each of which could make too many.
const SOME_POLLS: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn every_piece_of_work_gets_one_job() -> Result<()> {
    let mut world = World::start().await?.with_metrics().await?;
    let door = Door::start().await?;
    let result = Box::pin(all(&mut world, &door)).await;
    world.end(result)
}

async fn all(world: &mut World, door: &Door) -> Result<()> {
    world.bed.namespace("web").await?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "queue", "namespace": "web"},
        "stringData": {"user": "worker", "password": "letmein"},
    });
    world.apply(&secret).await?;
    let authentication = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
        "metadata": {"name": "queue", "namespace": "web"},
        // A ScaledJob has its own template, whose environment counts.
        "spec": {
            "env": [{"parameter": "username", "name": "WORKER"}],
            "secretTargetRef": [{"parameter": "password", "name": "queue", "key": "password"}],
        },
    });
    world.apply(&authentication).await?;
    let ends: [Result<()>; 5] = tokio::join!(
        a_queue(world, door),
        a_minimum_and_a_pause(world, door),
        roll_outs(world, door),
        an_accurate_count(world, door),
        mistakes(world, door)
    )
    .into();
    let failed: Vec<String> = ends.into_iter().filter_map(|end| end.err().map(|error| format!("{error:#}"))).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    a_program_that_misses_everything(world, door).await
}

/// A ScaledJob with one Job for each thing behind the door; `more` goes into its spec.
async fn scaled_job(world: &World, door: &Door, name: &str, annotations: &Value, more: &Value) -> Result<()> {
    let mut spec = json!({
        "pollingInterval": 1, "maxReplicaCount": 5,
        "jobTargetRef": {"template": {"spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "w", "image": "none", "env": [{"name": "WORKER", "value": "worker"}]}],
        }}},
        "triggers": [{
            "type": "metrics-api",
            "metadata": {
                "url": door.url(&format!("/{name}")), "valueLocation": "number", "targetValue": "1", "authMode": "basic",
            },
            "authenticationRef": {"name": "queue"},
        }],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let metadata = json!({"name": name, "namespace": "web", "annotations": annotations, "labels": {"team": "a"}});
    world
        .apply(&json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob", "metadata": metadata, "spec": spec}))
        .await
}

/// All Jobs of a ScaledJob, and those that have not ended.
async fn jobs(world: &World, name: &str) -> Result<(Vec<Value>, Vec<Value>)> {
    let all = world.list(JOB, Some("web")).await?;
    let all: Vec<Value> =
        all.into_iter().filter(|job| job["metadata"]["labels"]["scaledjob.keda.sh/name"] == name).collect();
    let open = all.iter().filter(|job| !has_condition(job, "Complete") && !has_condition(job, "Failed")).cloned();
    let open = open.collect();
    Ok((all, open))
}

async fn wait_for_open(world: &World, name: &str, wanted: usize) -> Result<Vec<Value>> {
    eventually(format!("{wanted} unfinished Jobs of {name}"), SOON, || async {
        let (_, open) = jobs(world, name).await?;
        let object = world.get(SCALED_JOB, Some("web"), name).await?.unwrap_or_default();
        Ok(when(open.len() == wanted, (open.len(), object["status"].clone()))
            .found((open.len() == wanted).then_some(open)))
    })
    .await
}

async fn stays_open(world: &World, name: &str, wanted: usize, why: &str) -> Result<()> {
    always(format!("{name} has {wanted} unfinished Jobs: {why}"), SOME_POLLS, || async {
        let (_, open) = jobs(world, name).await?;
        Ok(when(open.len() == wanted, open.len()).found((open.len() == wanted).then_some(())))
    })
    .await
}

/// The pods of a Job are in this phase from now on.
async fn set_phase(world: &World, job: &Value, phase: &str) -> Result<()> {
    let job = name(job);
    let pods = eventually(format!("pods of Job {job}"), SOON, || async {
        let pods = world.list(POD, Some("web")).await?;
        let pods: Vec<Value> =
            pods.into_iter().filter(|pod| pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == job).collect();
        Ok(when(!pods.is_empty(), pods.len()).found((!pods.is_empty()).then_some(pods)))
    })
    .await?;
    for pod in pods {
        world.patch_status(POD, Some("web"), &name(&pod), &json!({"status": {"phase": phase}})).await?;
    }
    Ok(())
}

/// The work of a Job is done, and the Job with it.
async fn finish(world: &World, job: &Value) -> Result<()> {
    set_phase(world, job, "Succeeded").await?;
    let job = name(job);
    eventually(format!("Job {job} to be complete"), SOON, || async {
        let found = world.get(JOB, Some("web"), &job).await?;
        // One that has ended may be cleaned up at once.
        let done = found.as_ref().is_none_or(|job| has_condition(job, "Complete"));
        Ok(when(done, found.map(|job| job["status"].clone())))
    })
    .await
    .map(drop)
}

/// A queue that grows and shrinks: running Jobs still have their message in it.
async fn a_queue(world: &World, door: &Door) -> Result<()> {
    const NAME: &str = "queue";
    let place = (SCALED_JOB, Some("web"), NAME);
    door.set(NAME, GUEST, 3);
    scaled_job(world, door, NAME, &json!({}), &json!({"successfulJobsHistoryLimit": 1})).await?;
    let open = wait_for_open(world, NAME, 3).await?;
    let job = &open[0];
    ensure!(job["metadata"]["labels"]["team"] == "a", "{}", job["metadata"]);
    ensure!(job["metadata"]["annotations"]["scaledjob.keda.sh/generation"] == "1", "{}", job["metadata"]);
    ensure!(job["metadata"]["ownerReferences"][0]["kind"] == "ScaledJob", "{}", job["metadata"]);
    world.condition(place, "Ready", "True", &["ScaledJobReady"]).await?;
    world.condition(place, "Active", "True", &["ScalerActive"]).await?;
    world.told(SCALED_JOB, NAME, &["KEDAJobsCreated", "Created 3 jobs"]).await?;
    stays_open(world, NAME, 3, "they have their work").await?;

    door.set(NAME, GUEST, 2);
    finish(world, &open[0]).await?;
    stays_open(world, NAME, 2, "the rest is being done").await?;
    door.set(NAME, GUEST, 9);
    let open = wait_for_open(world, NAME, 5).await?;
    stays_open(world, NAME, 5, "five at most").await?;
    door.set(NAME, GUEST, 0);
    for job in &open {
        finish(world, job).await?;
    }
    world.condition(place, "Active", "False", &["ScalerNotActive"]).await?;
    eventually("one ended Job to be kept", SOON, || async {
        let (all, _) = jobs(world, NAME).await?;
        Ok(when(all.len() == 1, all.len()))
    })
    .await?;
    world.delete(SCALED_JOB, Some("web"), NAME).await?;
    eventually("the ScaledJob to be gone", SOON, || async {
        let found = world.get(SCALED_JOB, Some("web"), NAME).await?;
        Ok(when(found.is_none(), found.map(|object| object["metadata"].clone())))
    })
    .await
    .map(drop)
}

/// Two Jobs that always run, and an annotation that holds everything.
async fn a_minimum_and_a_pause(world: &World, door: &Door) -> Result<()> {
    const NAME: &str = "held";
    let place = (SCALED_JOB, Some("web"), NAME);
    door.set(NAME, GUEST, 0);
    let paused = json!({"autoscaling.keda.sh/paused": "true"});
    scaled_job(world, door, NAME, &paused, &json!({"minReplicaCount": 2})).await?;
    world.condition(place, "Paused", "True", &["ScaledJobPaused"]).await?;
    stays_open(world, NAME, 0, "it is paused").await?;
    let unpause = json!({"metadata": {"annotations": {"autoscaling.keda.sh/paused": null}}});
    world.patch(SCALED_JOB, Some("web"), NAME, &unpause).await?;
    wait_for_open(world, NAME, 2).await?;
    world.condition(place, "Active", "True", &[]).await?;
    stays_open(world, NAME, 2, "there is no other work").await?;
    world.told(SCALED_JOB, NAME, &["ScaledJobUnpaused"]).await?;
    door.set(NAME, GUEST, 1);
    wait_for_open(world, NAME, 3).await.map(drop)
}

/// A change of the spec: the Jobs of the old one go, or stay until they end.
async fn roll_outs(world: &World, door: &Door) -> Result<()> {
    const NOW: &str = "immediate";
    const SLOW: &str = "gradual";
    for (object, more) in [(NOW, json!({})), (SLOW, json!({"rollout": {"strategy": "gradual"}}))] {
        door.set(object, GUEST, 1);
        scaled_job(world, door, object, &json!({}), &more).await?;
    }
    let old = (wait_for_open(world, NOW, 1).await?, wait_for_open(world, SLOW, 1).await?);
    for object in [NOW, SLOW] {
        world.patch(SCALED_JOB, Some("web"), object, &json!({"spec": {"maxReplicaCount": 4}})).await?;
    }
    world.told(SCALED_JOB, NOW, &["ScaledJobRolloutCleanupCompleted"]).await?;
    let uid = |job: &Value| job["metadata"]["uid"].clone();
    eventually("a Job of the new spec, and no other", SOON, || async {
        let (all, _) = jobs(world, NOW).await?;
        let new = |job: &Value| job["metadata"]["annotations"]["scaledjob.keda.sh/generation"] == "2";
        let done = all.len() == 1 && all.iter().all(|job| new(job) && uid(job) != uid(&old.0[0]));
        Ok(when(done, all.iter().map(|job| job["metadata"]["annotations"].clone()).collect::<Vec<_>>()))
    })
    .await?;
    let (all, _) = jobs(world, SLOW).await?;
    ensure!(all.iter().map(uid).collect::<Vec<_>>() == [uid(&old.1[0])], "the Job of the old spec did not stay");
    Ok(())
}

/// Messages that Jobs take off the queue when they start: only Jobs that wait for their pods count.
async fn an_accurate_count(world: &World, door: &Door) -> Result<()> {
    const NAME: &str = "accurate";
    door.set(NAME, GUEST, 2);
    scaled_job(world, door, NAME, &json!({}), &json!({"scalingStrategy": {"strategy": "accurate"}})).await?;
    let open = wait_for_open(world, NAME, 2).await?;
    stays_open(world, NAME, 2, "their pods have not begun, so that the messages are theirs").await?;
    door.set(NAME, GUEST, 0);
    for job in &open {
        set_phase(world, job, "Running").await?;
    }
    stays_open(world, NAME, 2, "the messages were taken").await?;
    door.set(NAME, GUEST, 2);
    wait_for_open(world, NAME, 4).await.map(drop)
}

/// What cannot be scaled by says so, and makes no Jobs.
async fn mistakes(world: &World, door: &Door) -> Result<()> {
    let typed = json!({"triggers": [{
        "type": "cron", "metricType": "Value",
        "metadata": {"timezone": "UTC", "start": "0 0 * * *", "end": "1 0 * * *", "desiredReplicas": "1"},
    }]});
    scaled_job(world, door, "typed", &json!({}), &typed).await?;
    let says = ["ScaledJobCheckFailed", "spec.triggers[0].metricType"];
    world.condition((SCALED_JOB, Some("web"), "typed"), "Ready", "False", &says).await?;
    door.set("stranger", Guest::User("somebody", "else"), 3);
    scaled_job(world, door, "stranger", &json!({}), &json!({})).await?;
    world.condition((SCALED_JOB, Some("web"), "stranger"), "Ready", "False", &["TriggerError", "HTTP 401"]).await?;
    world.told(SCALED_JOB, "stranger", &["KEDAScalerFailed", "HTTP 401"]).await?;
    stays_open(world, "stranger", 0, "nobody knows how much work there is").await
}

/// The program stands still while Jobs end, so that all its watches are late; then it is killed and forgets everything.
async fn a_program_that_misses_everything(world: &mut World, door: &Door) -> Result<()> {
    const NAME: &str = "missed";
    door.set(NAME, GUEST, 4);
    scaled_job(world, door, NAME, &json!({}), &json!({})).await?;
    let open = wait_for_open(world, NAME, 4).await?;
    let program = |world: &World, signal| -> Result<()> {
        world.metrics.as_ref().context("metrics")?.program.signal(signal);
        Ok(())
    };
    program(world, Signal::SIGSTOP)?;
    let ended = async {
        finish(world, &open[0]).await?;
        finish(world, &open[1]).await
    };
    let ended = ended.await;
    door.set(NAME, GUEST, 2);
    program(world, Signal::SIGCONT)?;
    ended?;
    stays_open(world, NAME, 2, "two of four are done").await?;
    world.metrics.as_mut().context("metrics")?.program.restart().await?;
    world.condition((SCALED_JOB, Some("web"), NAME), "Active", "True", &[]).await?;
    stays_open(world, NAME, 2, "it counts again what is there").await?;
    let (all, _) = jobs(world, NAME).await?;
    ensure!(all.len() == 4, "there were four messages, and {} Jobs", all.len());
    door.set(NAME, GUEST, 3);
    wait_for_open(world, NAME, 3).await.map(drop)
}
