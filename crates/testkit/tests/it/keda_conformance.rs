//! The scenarios that real KEDA was watched with, played with pod-autoscaler in its place.
//!
//! Each has a namespace of its own, and many run side by side. What admission said, what became of the object's metadata, spec, status
//! and conditions, its HPA, its workload's replicas, its Jobs, its metrics and its events is compared with what KEDA did. A
//! difference passes only if `docs/differences.md` lists it.

mod compare;
mod sources;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::stream::{StreamExt as _, iter};
use serde_json::{Value, json};
use testkit::bed::ALIVE_LABEL;
use testkit::corpus::{self, Corpus, Difference, Scenario, Table};
use testkit::eventually::{Seen, eventually};

use crate::world::*;
use compare::{FIELDS, Place, differences};
use sources::Sources;

/// Scenarios that run at the same time: as many HPAs as the HPA controller's five workers get through in its 2 s.
const AT_ONCE: usize = 48;
/// One scenario, while all the others run.
const ONE: Duration = Duration::from_secs(90);
/// The corpus shows what was so about 25 s after the object was made. What is equal earlier may not stay so.
const NOT_BEFORE: Duration = Duration::from_secs(22);

#[tokio::test(flavor = "multi_thread")]
async fn kedas_scenarios_end_as_with_keda() -> Result<()> {
    let Some(corpus) = corpus::keda()? else { return Ok(()) };
    // Nobody would start the program again if the scenarios kept the cores from renewing a Lease.
    let alone = ["--leader-elect=false"];
    let world = World::start().await?.with_metrics_and_flags(&[("admission.failurePolicy", "Fail")], &alone).await?;
    let result = play(&world, corpus).await;
    world.end(result)
}

async fn play(world: &World, corpus: Corpus) -> Result<()> {
    let resources = json!({"cpu": "4000", "memory": "16Ti", "pods": "20000"});
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "huge", "labels": {ALIVE_LABEL: "true"}},
        "status": {"capacity": resources, "allocatable": resources},
    });
    world.apply(&node).await?;
    let sources = Sources::start().await?;
    let table = Table::read()?;
    webhooks_are_asked(world).await?;

    // For a look at some of them: a part of their names.
    let only = std::env::var("TANDEM_SCENARIOS").unwrap_or_default();
    let scenarios: Vec<(usize, &Scenario)> =
        corpus.scenarios.iter().enumerate().filter(|(_, scenario)| scenario.name.contains(&only)).collect();
    let (table, corpus, sources) = (Arc::new(table), &corpus, &sources);
    let played = iter(scenarios.iter().copied()).map(|(index, scenario)| {
        let table = Arc::clone(&table);
        async move {
            let namespace = format!("s{index}");
            let place = Place { world, namespace: &namespace, sources: sources.address() };
            let expected = &corpus.expected[&scenario.name];
            let found = one(&place, scenario, expected, &table).await;
            // What has been seen need not be scaled any longer.
            let gone = world.delete(Kind("", "v1", "Namespace"), None, &namespace).await;
            found.and_then(|found| gone.map(|()| found)).with_context(|| scenario.name.clone())
        }
    });
    let played: Vec<Result<Vec<Difference>>> = played.buffer_unordered(AT_ONCE).collect().await;
    let (found, failed): (Vec<_>, Vec<_>) = played.into_iter().partition(Result::is_ok);
    let failed: Vec<String> = failed.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    ensure!(failed.is_empty(), "{} scenarios could not be played:\n{}", failed.len(), failed.join("\n"));
    let found: Vec<Difference> = found.into_iter().flatten().flatten().collect();
    let names: Vec<&str> = scenarios.iter().map(|(_, scenario)| scenario.name.as_str()).collect();
    let wrong = table.judge(&found, &FIELDS, |name| names.contains(&name));
    let wrong: Vec<_> = wrong.into_iter().filter(|line| only.is_empty() || !line.starts_with("line ")).collect();
    ensure!(
        wrong.is_empty(),
        "{} differences are not as docs/differences.md has them:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

/// Waits until the API server and the program trust each other: what cannot be right is refused by the webhook.
async fn webhooks_are_asked(world: &World) -> Result<()> {
    world.bed.namespace("first").await?;
    let object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "first", "namespace": "first"},
        "spec": {
            "scaleTargetRef": {"name": "x"},
            "triggers": [{"type": "cron", "metadata": {}, "useCachedMetrics": true}],
        },
    });
    eventually("the webhook to be asked", SOON, || async {
        let said = world.refusal(&object).await?;
        Ok(if said.contains("is not supported for \"cron\" scaler") { Seen::Done(()) } else { Seen::NotYet(said) })
    })
    .await
}

/// Plays a scenario until it differs from what KEDA did in nothing but what is listed, or for long enough.
async fn one(place: &Place<'_>, scenario: &Scenario, expected: &Value, table: &Table) -> Result<Vec<Difference>> {
    place.world.bed.namespace(place.namespace).await?;
    for object in &scenario.objects {
        place.world.apply(&place.own(object)?).await?;
    }
    // An HPA that sees its workload grow would remember a smaller one.
    eventually("the workloads to have their pods", SOON, || async {
        let all = place.world.list(DEPLOYMENT, Some(place.namespace)).await?;
        let grown = all
            .iter()
            .all(|one| one["spec"]["replicas"] == 0 || one["status"]["readyReplicas"] == one["spec"]["replicas"]);
        Ok(if grown { Seen::Done(()) } else { Seen::NotYet(format!("{} Deployments", all.len())) })
    })
    .await?;
    let said = place.create(&scenario.object).await?;
    let admission = expected["admission"]["message"].as_str().unwrap_or_default();
    let of_admission = Difference::of(&scenario.name, "admission", admission, &said);
    let made = Instant::now();
    let look = || async {
        if made.elapsed() < NOT_BEFORE {
            return Ok(Seen::NotYet("too early".to_owned()));
        }
        let mut found = differences(place, scenario, expected).await?;
        found.extend(of_admission.clone());
        let unlisted = table.judge(&found, &[], |_| true);
        Ok(if unlisted.is_empty() { Seen::Done(found) } else { Seen::NotYet(unlisted.join("\n")) })
    };
    if let Ok(found) = eventually(&scenario.name, ONE, look).await {
        return Ok(found);
    }
    // The test as a whole tells of every difference.
    let mut found = differences(place, scenario, expected).await?;
    found.extend(of_admission);
    Ok(found)
}
