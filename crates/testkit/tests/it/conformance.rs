//! The scheduling scenarios that real Karpenter was watched with, played on KWOK with node-provisioner in its place.
//!
//! They run side by side in one cluster: the nodes of a scenario carry its name, and its pods select it. What has to be the
//! same is how many pods of each group find a node; the nodes may cost as much or less. The kube-scheduler, which binds the
//! pods, sees to it that every other demand is kept. Differences are listed in `docs/differences.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::stream::{StreamExt as _, TryStreamExt as _, iter};
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::bed::ALIVE_LABEL;
use testkit::binaries::workspace;
use testkit::eventually::{always, eventually, when};
use testkit::programs::Provisioner;

use crate::world::*;

/// For all scenarios together: more than a hundred nodes come up on two busy cores.
const ALL: Duration = Duration::from_mins(8);
/// Where `docs/differences.md` lists scenarios that end in another way.
const SECTION: &str = "Karpenter's scenarios";
/// How many nodes there may be for pods whose place another pod took, of more than a hundred.
const SQUEEZED_OUT: usize = 10;
/// Objects that are created at once.
const AT_ONCE: usize = 16;

#[derive(Deserialize)]
struct Scenario {
    name: String,
    pools: Vec<Part>,
    pods: Vec<Group>,
    extra: Vec<Value>,
}

#[derive(Deserialize)]
struct Part {
    name: String,
    spec: Value,
}

#[derive(Deserialize)]
struct Group {
    count: usize,
    labels: Value,
    spec: Value,
}

/// What Karpenter did.
#[derive(Deserialize)]
struct Expected {
    groups: BTreeMap<String, Placed>,
    usd_per_hour: f64,
}

#[derive(Deserialize)]
struct Placed {
    placed: usize,
}

/// What was seen of one scenario.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    /// Pods with a node, by group.
    placed: BTreeMap<String, usize>,
    micros_per_hour: i64,
}

impl Scenario {
    /// Its objects, the pods last.
    fn objects(&self, expected: &Expected) -> Result<Vec<Value>> {
        let mut objects = self.extra.clone();
        for pool in &self.pools {
            let mut spec = pool.spec.clone();
            // KWOK keeps the nodes alive that carry it.
            spec["template"]["metadata"]["labels"][ALIVE_LABEL] = json!("true");
            objects.push(json!({
                "apiVersion": "karpenter.sh/v1", "kind": "NodePool",
                "metadata": {"name": format!("POOL-{}", pool.name)}, "spec": spec,
            }));
        }
        // A group that nothing is known of is one that the API server refused.
        let taken = |(index, _): &(usize, &Group)| expected.groups.contains_key(&format!("g{index}"));
        for (index, group) in self.pods.iter().enumerate().filter(taken) {
            for number in 0..group.count {
                objects.push(json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": format!("g{index}-{number}"), "labels": group.labels}, "spec": group.spec,
                }));
            }
        }
        objects.iter().map(|object| self.own(object)).collect()
    }

    /// With this scenario's names, in its namespace.
    fn own(&self, object: &Value) -> Result<Value> {
        let text = object.to_string().replace("POOL-", &format!("{}-", self.name)).replace("CASE", &self.name);
        let mut object: Value = serde_json::from_str(&text)?;
        if !["NodePool", "StorageClass"].iter().any(|kind| object["kind"] == *kind) {
            object["metadata"]["namespace"] = json!(self.name);
        }
        Ok(object)
    }
}

/// The corpus, where it is beside the repository or where `TANDEM_SHARED` says.
fn corpus() -> Option<PathBuf> {
    let shared = std::env::var_os("TANDEM_SHARED").map_or_else(|| workspace().join("../shared"), PathBuf::from);
    Some(shared.join("conformance/karpenter")).filter(|folder| folder.is_dir())
}

#[tokio::test(flavor = "multi_thread")]
async fn karpenters_scenarios_place_the_same_pods_on_kwok() -> Result<()> {
    let Some(corpus) = corpus() else {
        println!("skipped: there is no ../shared/conformance/karpenter");
        return Ok(());
    };
    let read = |file: &str| std::fs::read_to_string(corpus.join(file)).with_context(|| file.to_owned());
    let scenarios: Vec<Scenario> = serde_json::from_str(&read("scenarios.json")?)?;
    let expected: BTreeMap<String, Expected> = serde_json::from_str(&read("expected.json")?)?;
    let prices = prices(&serde_json::from_str(&read("types.json")?)?)?;

    let world = World::start().await?;
    prepare(&world, &scenarios, &expected).await?;
    // Only now: what comes in several batches may cost more than what is planned at once, as Karpenter's was.
    let mut options = Provisioner::of(CLUSTER);
    options.arguments.push(format!("--kwok-catalogue={}", corpus.join("types.json").display()));
    options.arguments.push("--kwok-boot-delay=1s".to_owned());
    // Nobody would start it again if a hundred nodes kept the cores from renewing a Lease.
    options.arguments.push("--leader-elect=false".to_owned());
    let program = world.bed.spawn_node_provisioner_on_kwok(&options).await?;
    let result = play(&world, &scenarios, &expected, &prices).await;
    world.end(result.map_err(|error| {
        let error = format!("{error:#}");
        let log = program.log();
        let said =
            what_was_said(&log, scenarios.iter().map(|one| one.name.as_str()).filter(|name| error.contains(name)));
        anyhow::anyhow!("{error}\n--- node-provisioner\n{said}")
    }))
}

/// The lines that name one of the scenarios, without the long reasons of pods that have no place.
fn what_was_said<'a>(log: &str, names: impl Iterator<Item = &'a str>) -> String {
    const LONGEST: usize = 400;
    let names: Vec<&str> = names.collect();
    let lines = log.lines().filter(|line| names.iter().any(|name| line.contains(name)));
    lines.map(|line| line.chars().take(LONGEST).collect::<String>()).collect::<Vec<_>>().join("\n")
}

/// Applies all objects, and waits until the scheduler has found no node for any pod.
async fn prepare(world: &World, scenarios: &[Scenario], expected: &BTreeMap<String, Expected>) -> Result<()> {
    let class =
        json!({"apiVersion": "karpenter.kwok.sh/v1alpha1", "kind": "KWOKNodeClass", "metadata": {"name": "default"}});
    world.apply(&class).await?;
    for scenario in scenarios {
        world.bed.namespace(&scenario.name).await?;
    }
    let mut objects = Vec::new();
    for scenario in scenarios {
        objects.extend(scenario.objects(&expected[&scenario.name])?);
    }
    // Pools come first: a pod that no pool takes yet would wait for the next look.
    objects.sort_by_key(|object| object["kind"] == "Pod");
    let (others, pods): (Vec<_>, Vec<_>) = objects.iter().partition(|object| object["kind"] != "Pod");
    for some in [others, pods] {
        iter(some).map(|object| world.apply(object)).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    }
    eventually("every pod to have been looked at by the scheduler", ALL, || async {
        let pods = world.list(POD, None).await?;
        let looked = |pod: &Value| {
            let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
            conditions.into_iter().flatten().any(|condition| condition["type"] == "PodScheduled")
        };
        let waiting = pods.iter().filter(|pod| !looked(pod)).map(name).collect::<Vec<_>>();
        Ok(when(waiting.is_empty(), waiting))
    })
    .await
    .map(drop)
}

async fn play(
    world: &World,
    scenarios: &[Scenario],
    expected: &BTreeMap<String, Expected>,
    prices: &Prices,
) -> Result<()> {
    let differences = differences()?;
    let wanted = |scenario: &Scenario, seen: &Seen| {
        let of_karpenter = &expected[&scenario.name];
        let same = of_karpenter
            .groups
            .iter()
            .all(|(group, karpenters)| seen.placed.get(group).copied().unwrap_or_default() == karpenters.placed);
        same && seen.micros_per_hour <= micros(of_karpenter.usd_per_hour)
    };
    let look = || async {
        let seen = see(world, prices).await?;
        let other: BTreeMap<&str, Seen> = scenarios
            .iter()
            .map(|scenario| (scenario, seen.get(&scenario.name).cloned().unwrap_or_default()))
            .filter(|(scenario, seen)| !differences.contains(&scenario.name) && !wanted(scenario, seen))
            .map(|(scenario, seen)| (scenario.name.as_str(), seen))
            .collect();
        Ok(when(other.is_empty(), other).found(Some(())))
    };
    eventually("every scenario to end as with Karpenter", ALL, look).await?;
    always("it stays so", Duration::from_secs(20), look).await?;
    let seen = see(world, prices).await?;
    let none = Seen::default();
    let alike: Vec<_> = scenarios
        .iter()
        .filter(|one| differences.contains(&one.name) && wanted(one, seen.get(&one.name).unwrap_or(&none)))
        .map(|one| &one.name)
        .collect();
    ensure!(alike.is_empty(), "listed as differences on KWOK in docs/differences.md, but they are none: {alike:?}");
    Ok(())
}

async fn see(world: &World, prices: &Prices) -> Result<BTreeMap<String, Seen>> {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let pods = world.list(POD, None).await?;
    let again = planned_again(&world.list(NODE_CLAIM, None).await?, &pods);
    ensure!(again.len() <= SQUEEZED_OUT, "{} nodes, because pods went where others were planned", again.len());
    for pod in pods {
        let group = name(&pod).split('-').next().unwrap_or_default().to_owned();
        if pod["spec"]["nodeName"].is_string() {
            let scenario = seen.entry(text(&pod["metadata"]["namespace"]).to_owned()).or_default();
            *scenario.placed.entry(group).or_default() += 1;
        }
    }
    for node in world.list(NODE, None).await? {
        if again.contains(&name(&node)) {
            continue;
        }
        let label = |key: &str| text(&node["metadata"]["labels"][key]).to_owned();
        let offering = (
            label("node.kubernetes.io/instance-type"),
            label("topology.kubernetes.io/zone"),
            label("karpenter.sh/capacity-type"),
        );
        let price = prices.get(&offering).with_context(|| format!("no price for {offering:?}"))?;
        seen.entry(label("case")).or_default().micros_per_hour += price;
    }
    Ok(seen)
}

/// Nodes for pods that had one: another pod had taken their place there. Where pods go is the kube-scheduler's word, and on busy
/// cores it may miss a nomination; what is compared is what was planned.
fn planned_again(claims: &[Value], pods: &[Value]) -> BTreeSet<String> {
    let key = |pod: &Value| format!("{}/{}", text(&pod["metadata"]["namespace"]), name(pod));
    let of_daemon_set = |pod: &&Value| pod["metadata"]["ownerReferences"][0]["kind"] == "DaemonSet";
    let mut bound: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !of_daemon_set(pod)) {
        bound.entry(text(&pod["spec"]["nodeName"])).or_default().insert(key(pod));
    }
    let planned = |claim: &Value| -> BTreeSet<String> {
        let pods = text(&claim["metadata"]["annotations"]["tandem.dev/pods"]);
        pods.split(',').filter(|pod| !pod.is_empty()).map(str::to_owned).collect()
    };
    let squeezed_out = |earlier: &Value| {
        let there = bound.get(text(&earlier["status"]["nodeName"]));
        there.is_some_and(|there| !there.is_subset(&planned(earlier)))
    };
    let mut again = BTreeSet::new();
    for claim in claims {
        let created = text(&claim["metadata"]["creationTimestamp"]);
        let earlier = || claims.iter().filter(|c| text(&c["metadata"]["creationTimestamp"]) < created);
        let had_one = |pod: &String| earlier().any(|c| planned(c).contains(pod) && squeezed_out(c));
        let planned = planned(claim);
        if !planned.is_empty() && planned.iter().all(had_one) {
            again.insert(text(&claim["status"]["nodeName"]).to_owned());
        }
    }
    again
}

/// Micro-USD per hour by type, zone and capacity type.
type Prices = BTreeMap<(String, String, String), i64>;

fn prices(types: &Value) -> Result<Prices> {
    let mut prices = Prices::new();
    for one in types.as_array().context("a list of types")? {
        for offering in one["offerings"].as_array().context("offerings")? {
            let requirements = offering["Requirements"].as_array().context("Requirements")?;
            let value = |key: &str| {
                let found = requirements.iter().find(|requirement| requirement["key"] == key);
                found.map(|found| text(&found["values"][0]).to_owned()).unwrap_or_default()
            };
            let key = (
                text(&one["name"]).to_owned(),
                value("topology.kubernetes.io/zone"),
                value("karpenter.sh/capacity-type"),
            );
            prices.insert(key, micros(offering["Price"].as_f64().context("Price")?));
        }
    }
    Ok(prices)
}

#[allow(clippy::cast_possible_truncation, reason = "prices of machines are far below 2^63 micro-USD")]
fn micros(usd: f64) -> i64 {
    (usd * 1e6).round() as i64
}

/// The scenarios that `docs/differences.md` lists: rows that begin with a scenario's name and say `KWOK` or `both`.
fn differences() -> Result<BTreeSet<String>> {
    let page = std::fs::read_to_string(workspace().join("docs/differences.md"))?;
    let section = page.split("\n## ").find(|section| section.starts_with(SECTION)).context("no such section")?;
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|row| row.split_once("` | "));
    let here = rows.filter(|(_, rest)| ["KWOK |", "both |"].iter().any(|place| rest.starts_with(place)));
    Ok(here.map(|(scenario, _)| scenario.to_owned()).collect())
}
