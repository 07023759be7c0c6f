//! The settings of the kubelet: `kubeletConfiguration` of a Provisioner, `spec.kubelet` of an EC2NodeClass.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use units::{Quantity, ResourceName};

use super::check;
use crate::FieldError;

/// What a kubelet can reserve.
const RESERVED: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pid"];
/// What a kubelet evicts pods for.
const SIGNALS: [&str; 7] = [
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "containerfs.available",
    "pid.available",
];

/// Everything that is wrong with the settings of the kubelet that change how much fits on a node, or that contradict each other,
/// as Karpenter has it; null is none. What else a kubelet knows is not looked at.
pub fn kubelet_errors(kubelet: &Value, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let settings = match kubelet {
        Value::Null => return errors,
        Value::Object(settings) => settings,
        other => return vec![FieldError::new(field, format!("{other} is not a map of settings"))],
    };
    for name in ["maxPods", "podsPerCore"] {
        count(settings, name, field, &mut errors);
    }
    for name in ["systemReserved", "kubeReserved"] {
        for (key, text) in texts(settings, name, field, &mut errors) {
            let field = format!("{field}.{name}.{key}");
            let known = RESERVED.contains(&key.as_str());
            check(&mut errors, known, &field, format!("is not one of {}", RESERVED.join(", ")));
            errors.extend(amount(&text, &ResourceName::new(key)).err().map(|message| FieldError::new(field, message)));
        }
    }
    for name in ["evictionHard", "evictionSoft"] {
        for (signal, text) in texts(settings, name, field, &mut errors) {
            let field = format!("{field}.{name}.{signal}");
            let known = SIGNALS.contains(&signal.as_str());
            check(&mut errors, known, &field, format!("is not one of {}", SIGNALS.join(", ")));
            errors.extend(threshold(&text).err().map(|message| FieldError::new(field, message)));
        }
    }
    let [high, low] = ["imageGCHighThresholdPercent", "imageGCLowThresholdPercent"].map(|name| settings.get(name));
    if let (Some(high), Some(low)) = (high.and_then(Value::as_i64), low.and_then(Value::as_i64)) {
        let field = format!("{field}.imageGCHighThresholdPercent");
        check(&mut errors, low < high, &field, "must be greater than imageGCLowThresholdPercent");
    }
    let keys = |name: &str| settings.get(name).and_then(Value::as_object).into_iter().flat_map(Map::keys);
    for signal in keys("evictionSoft") {
        let has = keys("evictionSoftGracePeriod").any(|other| other == signal);
        check(&mut errors, has, &format!("{field}.evictionSoft.{signal}"), "needs an evictionSoftGracePeriod");
    }
    for signal in keys("evictionSoftGracePeriod") {
        let has = keys("evictionSoft").any(|other| other == signal);
        check(&mut errors, has, &format!("{field}.evictionSoftGracePeriod.{signal}"), "has no evictionSoft threshold");
    }
    errors
}

fn count(settings: &Map<String, Value>, name: &str, field: &str, errors: &mut Vec<FieldError>) {
    let field = format!("{field}.{name}");
    match settings.get(name) {
        None | Some(Value::Null) => {}
        Some(Value::Number(number)) if number.as_i64().is_some_and(|count| i32::try_from(count).is_ok()) => {
            check(errors, number.as_i64() >= Some(0), &field, "must not be negative");
        }
        Some(other) => errors.push(FieldError::new(field, format!("{other} is not a count"))),
    }
}

/// A map of quantities, which may be written without quotes.
fn texts(
    settings: &Map<String, Value>,
    name: &str,
    field: &str,
    errors: &mut Vec<FieldError>,
) -> BTreeMap<String, String> {
    let field = format!("{field}.{name}");
    let mut texts = BTreeMap::new();
    match settings.get(name) {
        None | Some(Value::Null) => {}
        Some(Value::Object(map)) => {
            for (key, value) in map {
                match value {
                    Value::String(text) => drop(texts.insert(key.clone(), text.clone())),
                    Value::Number(number) => drop(texts.insert(key.clone(), number.to_string())),
                    other => {
                        errors.push(FieldError::new(format!("{field}.{key}"), format!("{other} is not a quantity")));
                    }
                }
            }
        }
        Some(other) => errors.push(FieldError::new(field, format!("{other} is not a map of quantities"))),
    }
    texts
}

fn amount(text: &str, resource: &ResourceName) -> Result<(), String> {
    let quantity: Quantity = text.parse().map_err(|error: units::QuantityError| error.to_string())?;
    if quantity.is_negative() {
        return Err(format!("quantity {text:?} is negative"));
    }
    quantity.to_amount_ceil(resource).map(drop).map_err(|error| error.to_string())
}

fn threshold(text: &str) -> Result<(), String> {
    let Some(share) = text.strip_suffix('%') else { return amount(text, &ResourceName::memory()) };
    let share: Option<f64> = share.parse().ok();
    let is_share = share.is_some_and(|share| (0.0..=100.0).contains(&share));
    if is_share { Ok(()) } else { Err(format!("{text:?} is not a percentage from 0% to 100%")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_kubelet_can_be_told_is_taken() {
        for kubelet in [
            json!(null),
            json!({}),
            json!({ "maxPods": 0, "podsPerCore": 2, "somethingNew": [1] }),
            json!({ "systemReserved": { "cpu": 1, "memory": "100Mi", "pid": "1000" }, "kubeReserved": null }),
            json!({ "evictionHard": { "memory.available": "7.5%", "nodefs.available": "1Gi", "imagefs.available": "100%" } }),
            json!({ "evictionSoft": { "pid.available": "5%" }, "evictionSoftGracePeriod": { "pid.available": "1m" } }),
        ] {
            assert_eq!(kubelet_errors(&kubelet, "spec.kubelet"), [], "{kubelet}");
        }
    }

    #[test]
    fn a_setting_that_is_wrong_is_named() {
        for (kubelet, field, said) in [
            (json!(17), "", "17 is not a map of settings"),
            (json!({ "maxPods": "ten" }), ".maxPods", "\"ten\" is not a count"),
            (json!({ "maxPods": 1.5 }), ".maxPods", "1.5 is not a count"),
            (json!({ "podsPerCore": -1 }), ".podsPerCore", "must not be negative"),
            (json!({ "systemReserved": "1" }), ".systemReserved", "\"1\" is not a map of quantities"),
            (json!({ "systemReserved": { "cpu": "-6" } }), ".systemReserved.cpu", "quantity \"-6\" is negative"),
            (json!({ "kubeReserved": { "cpu": [] } }), ".kubeReserved.cpu", "[] is not a quantity"),
            (
                json!({ "kubeReserved": { "gpu": "1" } }),
                ".kubeReserved.gpu",
                "is not one of cpu, memory, ephemeral-storage, pid",
            ),
            (
                json!({ "evictionHard": { "memory.available": "120%" } }),
                ".evictionHard.memory.available",
                "\"120%\" is not a percentage from 0% to 100%",
            ),
            (
                json!({ "evictionHard": { "memory.available": "-20Gi" } }),
                ".evictionHard.memory.available",
                "quantity \"-20Gi\" is negative",
            ),
        ] {
            let expected = FieldError::new(format!("spec.kubelet{field}"), said);
            assert_eq!(kubelet_errors(&kubelet, "spec.kubelet"), [expected], "{kubelet}");
        }
        let unknown = kubelet_errors(&json!({ "evictionHard": { "mem.avail": "1Gi" } }), "spec.kubelet");
        assert!(unknown[0].message.starts_with("is not one of memory.available, "), "{unknown:?}");
    }
}
