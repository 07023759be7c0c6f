//! The API server's validation of our CRDs and of an HPA, as far as the scenarios meet it, with its words.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

/// Schemas by kind. Making them takes longer than asking them all.
static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let schema = |crd: &CustomResourceDefinition| {
        serde_json::to_value(crd.spec.versions[0].schema.as_ref()?.open_api_v3_schema.as_ref()?).ok()
    };
    api::crds().iter().filter_map(|crd| Some((crd.spec.names.kind.clone(), schema(crd)?))).collect()
});

/// What the schema of the object's CRD refuses, as `kubectl` prints it.
pub(super) fn refusals(object: &Value) -> Result<Vec<String>> {
    let schema = SCHEMAS.get(object["kind"].as_str().unwrap_or_default()).context("no CRD of this kind")?;
    let mut found = Found::default();
    structure("spec", &schema["properties"]["spec"], &object["spec"], &mut found);
    if found.errors.is_empty() {
        rules(&schema["properties"]["spec"], &object["spec"], &mut found);
    } else if found.stops && schema.to_string().contains("x-kubernetes-validations") {
        let more = "some validation rules were not checked because the object was invalid; correct the existing errors to \
                    complete validation";
        found.errors.push(format!("<nil>: Invalid value: null: {more}"));
    }
    Ok(found.errors)
}

/// The API server drops fields that are null.
pub(super) fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, inner| !inner.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[derive(Default)]
struct Found {
    errors: Vec<String>,
    /// Something that keeps rules from being asked.
    stops: bool,
}

fn structure(path: &str, schema: &Value, value: &Value, found: &mut Found) {
    let shown = value.to_string();
    let allowed = schema["enum"].as_array();
    if let Some(allowed) = allowed.filter(|allowed| !allowed.contains(value)) {
        let list = allowed.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
        found.errors.push(format!("{path}: Unsupported value: {shown}: supported values: {list}"));
        found.stops = true;
    }
    let bound = |name: &str| schema[name].as_f64();
    if let (Some(least), Some(number)) = (bound("minimum"), value.as_f64())
        && number < least
    {
        found
            .errors
            .push(format!("{path}: Invalid value: {shown}: {path} in body should be greater than or equal to {least}"));
    }
    if let (Some(least), Some(text)) = (schema["minLength"].as_u64(), value.as_str())
        && (text.chars().count() as u64) < least
    {
        found
            .errors
            .push(format!("{path}: Invalid value: {shown}: {path} in body should be at least {least} chars long"));
    }
    if let Some(items) = value.as_array() {
        if let Some(least) = schema["minItems"].as_u64().filter(|least| (items.len() as u64) < *least) {
            let count = items.len();
            found
                .errors
                .push(format!("{path}: Invalid value: {count}: {path} in body should have at least {least} items"));
        }
        for (index, item) in items.iter().enumerate() {
            structure(&format!("{path}[{index}]"), &schema["items"], item, found);
        }
    }
    if let Some(map) = value.as_object() {
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(required) {
                found.errors.push(format!("{path}.{required}: Required value"));
                found.stops = true;
            }
        }
        fields(path, schema, map, found);
    }
}

fn fields(path: &str, schema: &Value, map: &Map<String, Value>, found: &mut Found) {
    for (name, value) in map {
        if let Some(inner) = schema["properties"].get(name) {
            structure(&format!("{path}.{name}"), inner, value, found);
        }
    }
}

/// Our CEL rules. They are few, and said again here; the test bed asks the real API server.
fn rules(schema: &Value, spec: &Value, found: &mut Found) {
    let count = |field: &str, default: i64| spec[field].as_i64().unwrap_or(default);
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let least = if spec["minReplicaCount"] == 0 { 1 } else { count("minReplicaCount", 0) };
        let idle = count("idleReplicaCount", -1);
        let message = rule["message"].as_str().unwrap_or_default();
        let (broken, message) = match message {
            "minReplicaCount must be less than or equal to maxReplicaCount" => {
                (count("minReplicaCount", 0) > count("maxReplicaCount", 100), message.to_owned())
            }
            "scalingModifiers fallback behavior requires scalingModifiers.formula to be defined" => {
                let formula = spec["advanced"]["scalingModifiers"]["formula"].as_str().unwrap_or_default();
                (spec["fallback"]["behavior"] == "scalingModifiers" && formula.is_empty(), message.to_owned())
            }
            "IdleReplicaCount must be less than MinReplicaCount" => (idle >= least, message.to_owned()),
            other => panic!("a rule that this test does not know: {other:?}"),
        };
        if broken {
            found.errors.push(format!("spec: Invalid value: {message}"));
        }
    }
}

/// Whether the API server takes an HPA.
pub(super) fn taken_by_the_api_server(hpa: &Value) -> Result<()> {
    let name = hpa["metadata"]["name"].as_str().unwrap_or_default();
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    ensure!(name.chars().all(fine), "the name {name:?} is no RFC 1123 subdomain");
    for direction in ["scaleUp", "scaleDown"] {
        let window = hpa["spec"]["behavior"][direction]["stabilizationWindowSeconds"].as_i64().unwrap_or(0);
        ensure!((0..=3600).contains(&window), "a window of {window} s is too long");
    }
    for metric in hpa["spec"]["metrics"].as_array().into_iter().flatten() {
        let target = &metric["external"]["target"];
        for amount in ["value", "averageValue"] {
            ensure!(target[amount] != "0", "must be positive");
        }
    }
    Ok(())
}

/// The spec of an HPA as the API server stores it.
pub(super) fn with_defaults(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for metric in spec["metrics"].as_array_mut().into_iter().flatten() {
        for amount in ["value", "averageValue"] {
            let Some(target) = metric.pointer_mut(&format!("/external/target/{amount}")) else { continue };
            // Quantities are kept with the largest suffix that leaves a whole number.
            let whole = target.as_str().and_then(|text| text.parse::<u64>().ok()).filter(|n| *n > 0 && n % 1000 == 0);
            if let Some(thousands) = whole.map(|n| n / 1000).filter(|n| n % 1000 != 0) {
                *target = json!(format!("{thousands}k"));
            }
        }
    }
    if !spec["behavior"].is_null() {
        let up = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]});
        let down = json!({"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]});
        for (direction, defaults) in [("scaleUp", up), ("scaleDown", down)] {
            for (field, value) in defaults.as_object().into_iter().flatten() {
                let written = &mut spec["behavior"][direction][field];
                if written.is_null() {
                    *written = value.clone();
                }
            }
        }
    }
    spec
}
