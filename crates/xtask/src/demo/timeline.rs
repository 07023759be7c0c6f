//! Telling what changed, and when each stage of the story was first seen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use super::stage::{Look, Stage, wrong};
use super::world::{Scene, is_ready};

/// The example wants one replica for so many requests per second.
const THRESHOLD: f64 = 10.0;
/// Replicas that the spike calls for: the example's maximum.
const PEAK_REPLICAS: i32 = 10;
/// The metric moves all the time; it is told again when it has moved so far.
const TELLING: f64 = 25.0;

/// When each stage was first seen, counted from the start of the set-up.
pub(super) type Seen = BTreeMap<Stage, Duration>;

pub(super) struct Timeline {
    started: Instant,
    seen: Seen,
    look: Look,
    /// Which look saw each stage first.
    looks: BTreeMap<Stage, Look>,
    /// Claims, nodes and instances that were there before load rose: they are no answer to it.
    before: BTreeSet<String>,
    /// Nodes that the last look before load fell found empty.
    empty_before: BTreeSet<String>,
    /// The last value told of everything that has a value.
    told: BTreeMap<String, String>,
    metric: Option<f64>,
    claims: BTreeSet<String>,
    nodes: BTreeSet<String>,
    instances: BTreeSet<String>,
}

impl Timeline {
    pub(super) fn new(started: Instant) -> Self {
        let (seen, told) = (BTreeMap::new(), BTreeMap::new());
        let (claims, nodes, instances) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (before, empty_before) = (BTreeSet::new(), BTreeSet::new());
        Self {
            started,
            seen,
            look: 0,
            looks: BTreeMap::new(),
            before,
            empty_before,
            told,
            metric: None,
            claims,
            nodes,
            instances,
        }
    }

    pub(super) fn has(&self, stage: Stage) -> bool {
        self.seen.contains_key(&stage)
    }

    /// An error that names what was not seen, or not in its turn.
    pub(super) fn is_the_story(&self) -> Result<()> {
        let wrong = wrong(&self.looks);
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }

    /// Notes what we do ourselves, between two looks.
    pub(super) fn act(&mut self, stage: Stage) {
        self.look += 2;
        self.mark(stage);
        self.look += 2;
    }

    fn mark(&mut self, stage: Stage) {
        let now = self.started.elapsed();
        self.seen.entry(stage).or_insert(now);
        self.looks.entry(stage).or_insert(self.look);
    }

    /// Whether this came after load rose.
    fn answers(&mut self, name: &str) -> bool {
        if !self.has(Stage::LoadRises) {
            self.before.insert(name.to_owned());
        }
        !self.before.contains(name)
    }

    pub(super) fn heading(&self, text: &str) {
        println!("\n{:>6.1} s  == {text}", self.started.elapsed().as_secs_f64());
    }

    fn say(&self, subject: &str, text: &str) {
        println!("{:>6.1} s  {subject:<12} {text}", self.started.elapsed().as_secs_f64());
    }

    /// Says a value when it differs from the one said last.
    fn value(&mut self, subject: &str, key: &str, text: String) {
        if self.told.get(key) != Some(&text) {
            self.say(subject, &text);
            self.told.insert(key.to_owned(), text);
        }
    }

    pub(super) fn see(&mut self, scene: &Scene) {
        self.look += 1;
        self.see_pods(scene);
        self.see_claims(scene);
        self.see_machines(scene);
    }

    fn see_pods(&mut self, scene: &Scene) {
        let rising = self.has(Stage::LoadRises);
        let falling = self.has(Stage::LoadFalls);
        if let Some(value) = scene.metric.as_deref().and_then(number).filter(|_| rising) {
            if self.metric.is_none_or(|told| (told - value).abs() >= TELLING) {
                self.say("metric", &format!("s0-prometheus is {value:.0}; one replica for every {THRESHOLD}"));
                self.metric = Some(value);
            }
            if value > THRESHOLD {
                self.mark(Stage::Metric);
            }
        }
        let wanted = scene.hpa.as_ref().and_then(|hpa| hpa.status.as_ref()).map_or(0, |status| status.desired_replicas);
        if wanted > 0 {
            self.value("HPA", "hpa", format!("keda-hpa-nginx: replicas wanted: {wanted}"));
        }
        if scene.wanted > 1 && rising {
            self.mark(Stage::Replicas);
        }
        let (running, waiting) = (scene.running().len(), scene.unschedulable().len());
        if !scene.pods.is_empty() {
            self.value("pods", "pods", format!("{running} of {} run, {waiting} fit on no node", scene.wanted));
        }
        if running >= 1 {
            self.mark(Stage::FirstReplica);
        }
        if waiting > 0 && rising {
            self.mark(Stage::Unschedulable);
        }
        let wanted = usize::try_from(scene.wanted).unwrap_or_default();
        if self.has(Stage::Initialized) && waiting == 0 && running >= wanted && scene.wanted >= PEAK_REPLICAS {
            self.mark(Stage::AllRun);
        }
        if falling && scene.wanted == 1 {
            self.mark(Stage::OneReplica);
        }
    }

    fn see_claims(&mut self, scene: &Scene) {
        for claim in &scene.claims {
            let name = claim.name_any();
            if self.claims.insert(name.clone()) {
                if self.answers(&name) {
                    self.mark(Stage::Planned);
                }
                let note = |key: &str| claim.annotations().get(key).cloned().unwrap_or_default();
                let pods = note("tandem.dev/pods").replace(',', ", ");
                self.say("plan", &format!("{name} at {}, for {pods}", note("tandem.dev/price")));
                for reason in note("tandem.dev/reason").split("; ") {
                    println!("{:>23}because: {reason}", "");
                }
            }
            let state = claim_state(claim);
            self.value("claim", &format!("claim {name}"), format!("{name}: {state}"));
        }
        for name in self.claims.clone() {
            if !scene.claims.iter().any(|claim| claim.name_any() == name) {
                self.value("claim", &format!("claim {name}"), format!("{name}: gone"));
            }
        }
    }

    fn see_machines(&mut self, scene: &Scene) {
        for instance in &scene.instances {
            self.instances.insert(instance.id.clone());
            if self.answers(&instance.id) {
                self.mark(Stage::Launched);
            }
            let text = format!("{} {} in {}: {}", instance.id, instance.instance_type, instance.zone, instance.state);
            self.value("EC2", &instance.id, text);
        }
        for id in self.instances.clone() {
            if !scene.instances.iter().any(|instance| instance.id == id) {
                self.value("EC2", &id, format!("{id}: terminated"));
            }
        }
        for node in scene.machines() {
            let name = node.name_any();
            self.nodes.insert(name.clone());
            let state = node_state(node);
            self.see_node(&name, &state);
            self.value("node", &name, format!("{name}: {state}"));
        }
        for name in self.nodes.clone() {
            if !scene.nodes.iter().any(|node| node.name_any() == name) {
                self.value("node", &name, format!("{name}: gone"));
            }
        }
        if self.has(Stage::LoadFalls) && self.has(Stage::Launched) && scene.is_clean() {
            self.mark(Stage::Gone);
        }
    }

    /// What a machine's node tells of the story.
    fn see_node(&mut self, name: &str, state: &str) {
        if self.answers(name) {
            self.mark(Stage::Joined);
            if state.contains("initialized") {
                self.mark(Stage::Initialized);
            }
        }
        let empty = state.contains("empty");
        if !empty {
            self.empty_before.remove(name);
        } else if !self.has(Stage::LoadFalls) {
            self.empty_before.insert(name.to_owned());
        }
        if !self.has(Stage::LoadFalls) || self.empty_before.contains(name) {
            return;
        }
        if empty {
            self.mark(Stage::Empty);
        }
        if state.contains("leaving") {
            self.mark(Stage::Leaving);
        }
    }

    pub(super) fn into_seen(self) -> Seen {
        self.seen
    }

    /// When each stage was first seen, in that order, and how long after the one before.
    pub(super) fn table(&self) {
        println!("\n{:<50} {:>9} {:>9}", "stage", "at", "after");
        for (stage, at, after) in steps(&self.seen) {
            println!("{:<50} {:>7.1} s {:>7.1} s", stage.words(), at.as_secs_f64(), after.as_secs_f64());
        }
        for stage in Stage::ALL.iter().filter(|stage| !self.has(**stage)) {
            println!("{:<50} not seen", stage.words());
        }
    }
}

/// The stages in the order in which they were seen: when, and how long after the one before.
fn steps(seen: &Seen) -> Vec<(Stage, Duration, Duration)> {
    let mut rows: Vec<(Stage, Duration)> = seen.iter().map(|(stage, at)| (*stage, *at)).collect();
    rows.sort_by_key(|(stage, at)| (*at, *stage));
    let mut before = rows.first().map_or(Duration::ZERO, |(_, at)| *at);
    let step = |(stage, at): (Stage, Duration)| {
        let after = at.saturating_sub(before);
        before = at;
        (stage, at, after)
    };
    rows.into_iter().map(step).collect()
}

/// The median over several plays of when each stage was seen, and of how long it came after the one before.
pub(super) fn medians(played: &[Seen]) {
    println!("\nmedian of {:<40} {:>9} {:>9}", played.len(), "at", "after");
    let steps: Vec<_> = played.iter().flat_map(steps).collect();
    let of = |stage, pick: fn(&(Stage, Duration, Duration)) -> Duration| {
        median(steps.iter().filter(|(one, ..)| *one == stage).map(pick).collect())
    };
    let mut rows = Stage::ALL.map(|stage| (of(stage, |(_, at, _)| *at), of(stage, |(.., after)| *after), stage));
    rows.sort_by_key(|(at, ..)| *at);
    for (at, after, stage) in rows {
        println!("{:<50} {:>7.1} s {:>7.1} s", stage.words(), at.as_secs_f64(), after.as_secs_f64());
    }
}

/// The middle one; of an even number the earlier of the two. Nothing's median is zero.
fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all.get(all.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

fn claim_state(claim: &DynamicObject) -> String {
    if claim.metadata.deletion_timestamp.is_some() {
        return "being deleted".to_owned();
    }
    let conditions = claim.data.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let holds = |kind: &str| conditions.iter().any(|c| c["type"] == kind && c["status"] == "True");
    let reached = ["Initialized", "Registered", "Launched"].into_iter().find(|kind| holds(kind));
    let kind =
        claim.labels().get("node.kubernetes.io/instance-type").map(|kind| format!(" as {kind}")).unwrap_or_default();
    reached.map_or_else(
        || "recorded, before EC2 is asked".to_owned(),
        |reached| format!("{}{kind}", reached.to_lowercase()),
    )
}

fn node_state(node: &Node) -> String {
    let mut words = vec![if is_ready(node) { "ready" } else { "not ready" }];
    if node.labels().get("karpenter.sh/initialized").is_some_and(|value| value == "true") {
        words.push("initialized");
    }
    if node.annotations().contains_key("karpenter.sh/emptiness-timestamp") {
        words.push("empty");
    }
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default();
    let tainted = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten())
        .any(|taint| taint.key == "karpenter.sh/disrupted");
    if cordoned || tainted || node.metadata.deletion_timestamp.is_some() {
        words.push("leaving");
    }
    words.join(", ")
}

/// A Kubernetes quantity of a metric: a number, perhaps of thousandths.
fn number(text: &str) -> Option<f64> {
    match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse::<f64>().ok().map(|value| value / 1000.0),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        let seconds = |all: &[u64]| all.iter().map(|one| Duration::from_secs(*one)).collect();
        assert_eq!(median(seconds(&[9, 1, 5])), Duration::from_secs(5));
        assert_eq!(median(seconds(&[4, 2])), Duration::from_secs(2));
        assert_eq!(median(Vec::new()), Duration::ZERO);
    }

    #[test]
    fn a_node_that_is_empty_before_load_falls_or_goes_without_leaving_is_no_stage() {
        let mut timeline = Timeline::new(Instant::now());
        timeline.act(Stage::LoadRises);
        timeline.see_node("a", "ready, initialized, empty, leaving");
        timeline.act(Stage::LoadFalls);
        timeline.see_node("a", "ready, initialized, empty, leaving");
        assert!(!timeline.has(Stage::Empty) && !timeline.has(Stage::Leaving));
        timeline.see_node("a", "ready, initialized");
        timeline.see_node("a", "ready, initialized, empty");
        assert!(timeline.has(Stage::Empty) && !timeline.has(Stage::Leaving));
        timeline.see_node("a", "ready, initialized, empty, leaving");
        assert!(timeline.has(Stage::Leaving));
    }

    #[test]
    fn a_machine_from_before_is_no_answer_to_the_load() {
        let mut timeline = Timeline::new(Instant::now());
        timeline.see_node("early", "ready, initialized");
        timeline.act(Stage::LoadRises);
        timeline.see_node("early", "ready, initialized");
        assert!(!timeline.has(Stage::Joined) && !timeline.has(Stage::Initialized));
        timeline.see_node("late", "ready, initialized");
        assert!(timeline.has(Stage::Initialized));
    }

    #[test]
    fn steps_follow_the_clock_not_the_plot() {
        let at = |stage, seconds| (stage, Duration::from_secs(seconds));
        let seen = Seen::from([at(Stage::Replicas, 9), at(Stage::Metric, 10), at(Stage::LoadRises, 4)]);
        let expected = [(Stage::LoadRises, 4, 0), (Stage::Replicas, 9, 5), (Stage::Metric, 10, 1)];
        let expected = expected.map(|(stage, at, after)| (stage, Duration::from_secs(at), Duration::from_secs(after)));
        assert_eq!(steps(&seen), expected);
    }
}
