//! What is seen of a scenario, in the corpus's form, and how it differs.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use testkit::corpus::{Difference, NOTHING, Scenario, paths};

use crate::world::*;

/// What is compared.
pub(super) const FIELDS: [&str; 19] = [
    "admission",
    "spec",
    "meta",
    "status",
    "Ready",
    "Ready message",
    "Active",
    "Active message",
    "Fallback",
    "Fallback message",
    "Paused",
    "Paused message",
    "HPAActive",
    "HPAActive message",
    "hpa",
    "replicas",
    "jobs",
    "metric",
    "events",
];
/// Conditions, each with two fields of its own: its status and reason, and its message.
const CONDITIONS: [(&str, &str); 5] = [
    ("Ready", "Ready message"),
    ("Active", "Active message"),
    ("Fallback", "Fallback message"),
    ("Paused", "Paused message"),
    ("HPAActive", "HPAActive message"),
];
/// From 3 replicas the HPA controller goes to 6, and on to 7 only if it looks before the workload's status has followed: 6 are
/// within its tolerance of what 65 at 10 each need.
const BY_CHANCE: [&str; 2] = ["formula-pipe", "formula-type-AverageValue"];
/// An idle count below the minimum: KEDA and the HPA controller take back what the other has done, and what is seen of that is chance.
const FOUGHT_OVER: (&str, [&str; 3]) = ("idle1-min3-inactive", ["HPAActive", "HPAActive message", "events"]);
/// A source of the scenarios answers at once; if the machine is busy it may not, and the event of that stays.
const TOO_BUSY: &str = "the source did not answer within";
/// KEDA's recorder drops some events where many come at once; of these one or another is missing in most scenarios.
const SEEN_BY_CHANCE: [&str; 2] = ["KEDAScalerInfo", "KEDAScalersStarted"];
/// Kinds a scenario may have, with their plural names.
const PLURALS: [(&str, &str); 3] = [
    ("ScaledObject", "scaledobjects"),
    ("ScaledJob", "scaledjobs"),
    ("TriggerAuthentication", "triggerauthentications"),
];

/// Where a scenario is played.
pub(super) struct Place<'a> {
    pub(super) world: &'a World,
    pub(super) namespace: &'a str,
    pub(super) sources: SocketAddr,
}

impl Place<'_> {
    /// An object of the scenario with this place's addresses, in its namespace.
    pub(super) fn own(&self, object: &Value) -> Result<Value> {
        let text = object
            .to_string()
            .replace("http://PROM", self.world.prometheus())
            .replace("http://APIURL", &format!("http://{}", self.sources));
        let mut object: Value = serde_json::from_str(&text)?;
        object["metadata"]["namespace"] = json!(self.namespace);
        Ok(object)
    }

    /// The reverse, in any text.
    fn neutral(&self, text: &str) -> String {
        let neutral = text
            .replace(self.world.prometheus(), "http://PROM")
            .replace(self.world.prometheus().trim_start_matches("http://"), "PROM")
            .replace(&self.sources.to_string(), "APIURL");
        // A namespace is a word of its own.
        let neutral: String = neutral
            .split_inclusive(|c: char| !c.is_ascii_alphanumeric())
            .map(|word| match word.strip_prefix(self.namespace) {
                Some(rest) if rest.chars().all(|c| !c.is_ascii_alphanumeric()) => format!("NS{rest}"),
                _ => word.to_owned(),
            })
            .collect();
        // The HPA controller names those that share pods in any order.
        let Some((before, rest)) = neutral.split_once("multiple HPAs: [") else { return neutral };
        let Some((names, after)) = rest.split_once(']') else { return neutral };
        let mut names: Vec<&str> = names.split(' ').collect();
        names.sort_unstable();
        format!("{before}multiple HPAs: [{}]{after}", names.join(" "))
    }

    /// Creates the object; returns what `kubectl apply` would have printed.
    pub(super) async fn create(&self, object: &Value) -> Result<String> {
        let (kind, plural) = PLURALS.into_iter().find(|(kind, _)| object["kind"] == *kind).context("a known kind")?;
        let path = format!("/apis/keda.sh/v1alpha1/namespaces/{}/{plural}", self.namespace);
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(self.own(object)?.to_string().into_bytes().into())?;
        let response = self.world.bed.client().send(request).await?;
        let warnings = response.headers().get_all("warning").iter().filter_map(|value| value.to_str().ok());
        // `299 - "text"`
        let mut lines: Vec<String> = warnings
            .filter_map(|value| Some(value.split_once('"')?.1.trim_end_matches('"').replace("\\\"", "\"")))
            .map(|warning| format!("Warning: {warning}"))
            .collect();
        let refused = !response.status().is_success();
        let body = response.into_body().collect_bytes().await?;
        if refused {
            let status: Value = serde_json::from_slice(&body)?;
            lines.push(printed(kind, &object["metadata"]["name"], &status));
        }
        Ok(self.neutral(&lines.join("\n")))
    }
}

/// A refusal as `kubectl` prints it.
fn printed(kind: &str, name: &Value, status: &Value) -> String {
    let message = text(&status["message"]);
    match text(&status["reason"]) {
        "Invalid" => {
            let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
            let causes: Vec<String> =
                causes.iter().map(|cause| format!("{}: {}", text(&cause["field"]), text(&cause["message"]))).collect();
            let list = if causes.len() == 1 { causes[0].clone() } else { format!("\n* {}", causes.join("\n* ")) };
            format!("The {kind} \"{}\" is invalid: {list}", text(name))
        }
        "" => format!("Error from server: error when creating \"STDIN\": {message}"),
        reason => format!("Error from server ({reason}): error when creating \"STDIN\": {message}"),
    }
}

/// Everything but what admission said.
pub(super) async fn differences(place: &Place<'_>, scenario: &Scenario, expected: &Value) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    let unstable: Vec<&str> = expected["unstable"].as_array().into_iter().flatten().map(text).collect();
    let mut add = |field: &str, keda: &str, tandem: &str| {
        if scenario.name == FOUGHT_OVER.0 && FOUGHT_OVER.1.contains(&field) {
            return;
        }
        found.extend(Difference::of(&scenario.name, field, &place.neutral(keda), &place.neutral(tandem)));
    };
    let (world, namespace) = (place.world, Some(place.namespace));

    let kind = Kind("keda.sh", "v1alpha1", kind_of(scenario)?);
    let objects = sorted(world.list(kind, namespace).await?);
    let theirs = expected["objects"].as_array().cloned().unwrap_or_default();
    for (theirs, ours) in theirs.iter().zip(&objects) {
        object(&mut add, theirs, ours);
    }
    let (keda, tandem) = paths(&told(&expected["events"], &unstable), &told(&events(place).await?, &unstable));
    add("events", &keda, &tandem);

    let hpas: Vec<Value> = sorted(world.list(HPA, namespace).await?).iter().map(hpa).collect();
    let mut theirs = expected["hpas"].as_array().cloned().unwrap_or_default();
    // What the HPA controller makes of it follows from the metrics.
    for map in theirs.iter_mut().filter_map(Value::as_object_mut) {
        map.remove("currentMetrics");
        map.remove("conditions");
    }
    let (keda, tandem) = paths(&by_name(&theirs), &by_name(&hpas));
    add("hpa", &keda, &tandem);

    if !BY_CHANCE.contains(&scenario.name.as_str()) {
        let (keda, tandem) = paths(&expected["replicas"], &replicas(world, place.namespace).await?);
        add("replicas", &keda, &tandem);
    }

    let jobs = world.list(Kind("batch", "v1", "Job"), namespace).await?;
    let one = jobs.first().map(job).unwrap_or_default();
    let ours = json!({"count": jobs.len(), "job": without(&one, "job", &unstable)});
    let theirs = json!({"count": expected["jobs"], "job": without(&expected["job"], "job", &unstable)});
    let (keda, tandem) = paths(&theirs, &ours);
    add("jobs", &keda, &tandem);

    let object = if kind.2 == "ScaledObject" { text(&scenario.object["metadata"]["name"]) } else { "" };
    for (name, theirs) in expected["metrics"].as_object().into_iter().flatten() {
        let ours = metric(place, object, name).await;
        add("metric", &format!("{name}: {}", answer(theirs)), &format!("{name}: {ours}"));
    }
    Ok(found)
}

fn kind_of(scenario: &Scenario) -> Result<&'static str> {
    PLURALS.into_iter().map(|(kind, _)| kind).find(|kind| scenario.object["kind"] == *kind).context("a known kind")
}

fn sorted(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(name);
    objects
}

fn object(add: &mut impl FnMut(&str, &str, &str), theirs: &Value, ours: &Value) {
    let (keda, tandem) = paths(&theirs["spec"], &ours["spec"]);
    add("spec", &keda, &tandem);
    let meta = |metadata: &Value| json!({"labels": metadata["labels"], "finalizers": metadata["finalizers"]});
    let (keda, tandem) = paths(&meta(theirs), &meta(&ours["metadata"]));
    add("meta", &keda, &tandem);
    let (keda, tandem) = paths(&status(theirs), &status(ours));
    add("status", &keda, &tandem);
    for (kind, said) in CONDITIONS {
        let (theirs, ours) = (condition(theirs, kind), condition(ours, kind));
        add(kind, &theirs.0, &ours.0);
        add(said, &theirs.1, &ours.1);
    }
}

/// What the status says beside its conditions; how often a source has failed depends on the moment.
fn status(object: &Value) -> Value {
    let mut status = object["status"].clone();
    let Some(map) = status.as_object_mut() else { return Value::Null };
    map.remove("conditions");
    map.remove("lastActiveTime");
    for health in map.get_mut("health").and_then(Value::as_object_mut).into_iter().flat_map(|all| all.values_mut()) {
        if let Some(health) = health.as_object_mut() {
            health.remove("numberOfFailures");
        }
    }
    status
}

/// Events on KEDA's objects: type, reason and note.
async fn events(place: &Place<'_>) -> Result<Value> {
    let all = place.world.list(Kind("events.k8s.io", "v1", "Event"), Some(place.namespace)).await?;
    let of_kind = all.iter().filter(|event| PLURALS.iter().any(|(kind, _)| event["regarding"]["kind"] == *kind));
    let one = |event: &Value| json!([event["type"], event["reason"], place.neutral(text(&event["note"]))]);
    Ok(of_kind.map(one).collect())
}

/// Events by type and reason, without those that differed between two runs of KEDA itself.
fn told(events: &Value, unstable: &[&str]) -> Value {
    let mut by_reason: BTreeMap<String, std::collections::BTreeSet<String>> = BTreeMap::new();
    for event in events.as_array().into_iter().flatten() {
        let (kind, reason, note) = (text(&event[0]), text(&event[1]), text(&event[2]));
        if !SEEN_BY_CHANCE.contains(&reason)
            && !note.contains(TOO_BUSY)
            && !unstable.contains(&format!("events/{reason}").as_str())
        {
            by_reason.entry(format!("{kind} {reason}")).or_default().insert(note.to_owned());
        }
    }
    json!(
        by_reason
            .into_iter()
            .map(|(reason, notes)| (reason, notes.into_iter().collect::<Vec<_>>().join(" / ")))
            .collect::<BTreeMap<_, _>>()
    )
}

/// `True ScaledObjectReady`, and the message.
fn condition(object: &Value, kind: &str) -> (String, String) {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
    let texts = |c: &Value| (format!("{} {}", text(&c["status"]), text(&c["reason"])), text(&c["message"]).to_owned());
    found.map_or_else(Default::default, texts)
}

/// A value without the paths that differed between two runs of KEDA itself.
fn without(value: &Value, root: &str, unstable: &[&str]) -> Value {
    let mut value = value.clone();
    for path in unstable.iter().filter_map(|path| path.strip_prefix(root)?.strip_prefix('/')) {
        // A label's name may have a slash, so the longest that fits a field is taken at each step.
        remove(&mut value, path);
    }
    value
}

fn remove(value: &mut Value, path: &str) {
    let Some(map) = value.as_object_mut() else { return };
    if map.remove(path).is_some() {
        return;
    }
    for (field, inner) in map.iter_mut() {
        if let Some(rest) = path.strip_prefix(field.as_str()).and_then(|rest| rest.strip_prefix('/')) {
            remove(inner, rest);
        }
    }
}

fn by_name(list: &[Value]) -> Value {
    list.iter().map(|one| (text(&one["name"]).to_owned(), one.clone())).collect::<serde_json::Map<_, _>>().into()
}

fn owners(metadata: &Value) -> Value {
    let owners = metadata["ownerReferences"].as_array().cloned().unwrap_or_default();
    owners.iter().map(|owner| json!([owner["kind"], owner["name"], owner["controller"]])).collect()
}

fn without_version(labels: &Value) -> Value {
    let mut labels = labels.clone();
    if let Some(map) = labels.as_object_mut() {
        map.remove("app.kubernetes.io/version");
    }
    labels
}

fn hpa(hpa: &Value) -> Value {
    let metadata = &hpa["metadata"];
    json!({
        "name": metadata["name"], "labels": without_version(&metadata["labels"]), "annotations": metadata["annotations"],
        "owners": owners(metadata), "spec": hpa["spec"],
    })
}

fn job(job: &Value) -> Value {
    let metadata = &job["metadata"];
    json!({
        "generateName": metadata["generateName"], "labels": without_version(&metadata["labels"]),
        "annotations": metadata["annotations"], "owners": owners(metadata), "spec": job["spec"],
    })
}

async fn replicas(world: &World, namespace: &str) -> Result<Value> {
    let mut found = BTreeMap::new();
    for kind in ["Deployment", "StatefulSet", "ReplicaSet"] {
        for object in world.list(Kind("apps", "v1", kind), Some(namespace)).await? {
            // Those of Deployments follow them.
            if owners(&object["metadata"]).as_array().is_some_and(Vec::is_empty) {
                found.insert(format!("{kind}/{}", name(&object)), object["spec"]["replicas"].clone());
            }
        }
    }
    Ok(json!(found))
}

/// What the external metrics API answers.
async fn metric(place: &Place<'_>, object: &str, name: &str) -> String {
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{name}?labelSelector=scaledobject.keda.sh%2Fname%3D{object}",
        place.namespace
    );
    let request = match http::Request::get(path).body(Vec::new()) {
        Ok(request) => request,
        Err(error) => return error.to_string(),
    };
    match place.world.bed.client().request::<Value>(request).await {
        Ok(list) => {
            let values = list["items"].as_array().cloned().unwrap_or_default();
            answer(&values.iter().map(|item| item["value"].clone()).collect())
        }
        Err(kube::Error::Api(status)) => place.neutral(&format!("Error from server: {}", status.message)),
        Err(error) => error.to_string(),
    }
}

/// Values as numbers, or the error.
fn answer(values: &Value) -> String {
    match values {
        Value::Array(values) => values.iter().map(|value| number(text(value))).collect::<Vec<_>>().join(", "),
        Value::Object(error) => text(error.get("error").unwrap_or(&Value::Null)).to_owned(),
        other => {
            if other.is_null() {
                NOTHING.to_owned()
            } else {
                other.to_string()
            }
        }
    }
}

/// `12500m`, `625e-3` and `2k` as plain decimals.
fn number(quantity: &str) -> String {
    let suffixes = [("m", 0.001), ("k", 1e3), ("M", 1e6), ("G", 1e9)];
    let suffixed = |(suffix, factor): &(&str, f64)| Some((quantity.strip_suffix(suffix)?, *factor));
    let (digits, factor) = suffixes.iter().find_map(suffixed).unwrap_or((quantity, 1.0));
    digits.parse::<f64>().map_or_else(
        |_| quantity.to_owned(),
        |number| {
            let rounded = (number * factor * 1000.0).round() / 1000.0;
            rounded.to_string()
        },
    )
}
