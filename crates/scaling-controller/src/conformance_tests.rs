//! KEDA's scenarios without a cluster: what admission says, and the HPA we want, against what real KEDA's were.
//!
//! The schema of our CRDs is asked as the API server would ask it, then the rules of the webhook. Scenarios whose HPA depends
//! on credentials are compared on the test bed only, as is everything that happens later.

mod schema;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use api::admission::{self as rules, Verdict};
use api::keda::{ScaledJob, ScaledObject, TriggerAuthentication};
use async_trait::async_trait;
use kube::ResourceExt;
use scalers::{Cluster, LivePod, ScalerError};
use scaling::hpa as plan;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testkit::corpus::{self, Difference, Scenario, Table};

use crate::admission::not_yet;
use crate::conflict::admission_conflict;
use crate::credentials::{Credentials, Owner};
use crate::hpa;
use crate::known_hpa::KnownHpa;
use crate::object::{Subject, check, pausing};
use crate::source::ObjectSource;

const FIELDS: [&str; 2] = ["admission", "hpa"];

#[test]
fn admission_and_hpa_are_those_of_keda() {
    let Some(corpus) = corpus::keda().unwrap() else { return };
    let mut found = Vec::new();
    let mut by_credentials = Vec::new();
    for (index, scenario) in corpus.scenarios.iter().enumerate() {
        let expected = &corpus.expected[&scenario.name];
        let said = said(scenario).with_context(|| scenario.name.clone()).unwrap();
        let theirs = expected["admission"]["message"].as_str().unwrap();
        found.extend(Difference::of(&scenario.name, "admission", theirs, &said.text));
        if scenario.object["kind"] != "ScaledObject" {
            continue;
        }
        let none = json!({});
        let ours = if said.allowed {
            let object: ScaledObject = read(&scenario.object).unwrap();
            if Owner::of(&object).needs_any() {
                by_credentials.push(scenario.name.as_str());
                continue;
            }
            ours(scenario, &object, is_inactive(expected)).unwrap_or(none)
        } else {
            none
        };
        let (keda, tandem) = corpus::paths(&theirs_in_short(expected), &ours);
        // The record has NS for the namespace `s0` of the first scenario, and so for the beginning of a metric's name.
        let tandem = if index == 0 { tandem.replace("s0-", "NS-") } else { tandem };
        found.extend(Difference::of(&scenario.name, "hpa", &keda, &tandem));
    }
    let table = Table::read().unwrap();
    let wrong = table.judge(&found, &FIELDS, |name| !by_credentials.contains(&name));
    assert!(wrong.is_empty(), "not as docs/differences.md has it:\n{}", wrong.join("\n"));
}

/// A cluster that building a trigger does not ask.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Cluster for Nobody {
    async fn live_pods(&self, _: &str, _: &str) -> Result<Vec<LivePod>, ScalerError> {
        Err(ScalerError::Misconfigured { what: "nobody is there".to_owned() })
    }

    async fn ready_endpoints(&self, _: &str, _: &str) -> Result<Vec<String>, ScalerError> {
        Err(ScalerError::Misconfigured { what: "nobody is there".to_owned() })
    }
}

/// What `kubectl apply` would print.
struct Said {
    allowed: bool,
    text: String,
}

fn said(scenario: &Scenario) -> Result<Said> {
    let (object, kind) = (&scenario.object, scenario.object["kind"].as_str().context("a kind")?);
    let refused = schema::refusals(object)?;
    if !refused.is_empty() {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let list = match &refused[..] {
            [one] => one.clone(),
            several => format!("\n* {}", several.join("\n* ")),
        };
        return Ok(Said { allowed: false, text: format!("The {kind} \"{name}\" is invalid: {list}") });
    }
    let verdict = match kind {
        "ScaledObject" => scaled_object(scenario)?,
        "ScaledJob" => {
            let job: ScaledJob = read(object)?;
            let mut verdict = rules::scaled_job(&job);
            not_yet(&job.spec.triggers, &mut verdict);
            verdict
        }
        _ => rules::trigger_authentication(&read::<TriggerAuthentication>(object)?),
    };
    if verdict.is_allowed() {
        let lines: Vec<String> = verdict.warnings.iter().map(|warning| format!("Warning: {warning}")).collect();
        return Ok(Said { allowed: true, text: lines.join("\n") });
    }
    let text = format!(
        "Error from server (Forbidden): error when creating \"STDIN\": admission webhook \"v{}.kb.io\" denied the request: {}",
        kind.to_lowercase(),
        verdict.message()
    );
    Ok(Said { allowed: false, text })
}

fn scaled_object(scenario: &Scenario) -> Result<Verdict> {
    let object: ScaledObject = read(&scenario.object)?;
    let mut verdict = rules::scaled_object(&object);
    not_yet(&object.spec.triggers, &mut verdict);
    let objects: Vec<ScaledObject> = all(scenario, "ScaledObject")?;
    let hpas: Vec<KnownHpa> = all(scenario, "HorizontalPodAutoscaler")?;
    if let Some(conflict) = admission_conflict(&object, objects.iter(), hpas.iter()) {
        verdict.refuse(conflict.reason, conflict.to_string());
    }
    // The kinds of a cluster without any CRD but ours.
    let target = &object.spec.scale_target_ref;
    if !target.effective_api_version().starts_with("apps/") {
        let (kind, version) = (target.effective_kind(), target.effective_api_version());
        let what = format!("spec.scaleTargetRef: no matches for kind \"{kind}\" in version \"{version}\"");
        verdict.refuse("unknown-kind", what);
    }
    Ok(verdict)
}

/// Whether nothing wanted the target in the end.
fn is_inactive(expected: &Value) -> bool {
    let mut conditions = expected["objects"][0]["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Active" && condition["status"] == "False")
}

/// The HPA as it should be, in short; an error if there should be none.
fn ours(scenario: &Scenario, object: &ScaledObject, at_rest: bool) -> Result<Value> {
    let target = &object.spec.scale_target_ref;
    let is_target =
        |other: &&Value| other["kind"] == target.effective_kind() && other["metadata"]["name"] == target.name.as_str();
    scenario.objects.iter().find(is_target).context("the target is not there")?;
    let pausing = pausing(object)?;
    anyhow::ensure!(pausing.full.is_none(), "paused");
    let settings = check(object).map_err(|wrong| anyhow::anyhow!(wrong.join("; ")))?;
    let none: Vec<_> = object.spec.triggers.iter().map(|_| Ok(Credentials::default())).collect();
    let http = Arc::new(scalers::Http::new(scalers::HTTP_TIMEOUT));
    let cluster: Arc<dyn Cluster> = Arc::new(Nobody);
    let source = ObjectSource::build(&Subject::object(object), &none, None, &http, Some(&cluster))
        .map_err(|wrong| anyhow::anyhow!(wrong.join("; ")))?;
    let name = object.spec.hpa_name(&object.name_any());
    // The label that the selector names is the controller's first act.
    let mut labels = object.labels().clone();
    labels.insert(api::keda::SCALED_OBJECT_LABEL.to_owned(), object.name_any());
    let from = plan::Source {
        name: &object.name_any(),
        labels: &labels,
        annotations: object.annotations(),
        hpa_name: Some(&name),
    };
    let wanted = plan::plan(from, settings.replicas.of_hpa(at_rest), &pausing, source.metrics, "")?;
    let hpa = serde_json::to_value(hpa::object(object, &wanted))?;
    schema::taken_by_the_api_server(&hpa)?;
    Ok(in_short(&hpa))
}

/// What KEDA's HPA was, of the object that is looked at.
fn theirs_in_short(expected: &Value) -> Value {
    let mut hpas = expected["hpas"].as_array().into_iter().flatten();
    let own = hpas.find(|hpa| hpa["owners"][0][1] == "so");
    own.map_or_else(
        || json!({}),
        |hpa| {
            named(
                &hpa["name"],
                json!({"labels": hpa["labels"], "annotations": hpa["annotations"], "spec": hpa["spec"]}),
            )
        },
    )
}

fn in_short(hpa: &Value) -> Value {
    let mut labels = hpa["metadata"]["labels"].clone();
    if let Some(labels) = labels.as_object_mut() {
        labels.remove("app.kubernetes.io/version");
    }
    let annotations = &hpa["metadata"]["annotations"];
    let spec = schema::with_defaults(&hpa["spec"]);
    named(&hpa["metadata"]["name"], json!({"labels": labels, "annotations": annotations, "spec": spec}))
}

/// An HPA under its name, as the test bed lists them.
fn named(name: &Value, hpa: Value) -> Value {
    let mut by_name = serde_json::Map::new();
    by_name.insert(name.as_str().unwrap_or_default().to_owned(), hpa);
    by_name.into()
}

fn read<K: DeserializeOwned>(object: &Value) -> Result<K> {
    let mut object = object.clone();
    schema::without_nulls(&mut object);
    object["metadata"]["namespace"] = json!("NS");
    object["metadata"]["uid"] = json!("u");
    Ok(serde_json::from_value(object)?)
}

fn all<K: DeserializeOwned>(scenario: &Scenario, kind: &str) -> Result<Vec<K>> {
    scenario.objects.iter().filter(|object| object["kind"] == kind).map(read).collect()
}

#[test]
fn every_kind_of_the_corpus_has_a_schema() {
    let kinds: BTreeMap<String, String> =
        api::crds().into_iter().map(|crd| (crd.spec.names.kind, crd.spec.group)).collect();
    for kind in ["ScaledObject", "ScaledJob", "TriggerAuthentication"] {
        assert_eq!(kinds.get(kind).map(String::as_str), Some("keda.sh"));
    }
}
