//! NodeOverlays: what plans believe of machines beyond what their vendor says.

use requirements::{Requirement, RequirementTerm, Requirements, labels};
use scheduling::{Overlay, PriceChange};
use units::{ResourceList, UsdMicrosPerHour};

use super::affinity::operator;
use super::quantities_floor;
use crate::FieldError;
use crate::karpenter_v1alpha1::{NodeOverlay, OverlayRequirement};

/// What pods and machines have anyway; an overlay adds to it and replaces nothing.
const NOT_ADDED: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pods"];

/// The overlay an object describes.
///
/// # Errors
/// Everything that is wrong with it.
pub fn overlay(object: &NodeOverlay) -> Result<Overlay, Vec<FieldError>> {
    let spec = &object.spec;
    let mut errors = Vec::new();
    let mut requirements = Requirements::new();
    for (index, written) in spec.requirements.iter().enumerate() {
        let field = format!("spec.requirements[{index}]");
        match requirement(written, &field) {
            Ok(one) => requirements.add(one),
            Err(error) => errors.push(error),
        }
    }
    if let Some(empty) = requirements.first_empty() {
        let message = format!("those on {} contradict each other: no value is left", empty.key());
        errors.push(FieldError::new("spec.requirements", message));
    }
    let price = match (&spec.price, &spec.price_adjustment) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::new("spec", "cannot set both 'price' and 'priceAdjustment'"));
            None
        }
        (Some(price), None) => read("spec.price", dollars(price).map(PriceChange::To), price, &mut errors),
        (None, Some(text)) => read("spec.priceAdjustment", adjustment(text), text, &mut errors),
        (None, None) => None,
    };
    for name in spec.capacity.keys().filter(|name| NOT_ADDED.contains(&name.as_str())) {
        errors.push(FieldError::new(format!("spec.capacity.{name}"), "invalid resource restricted"));
    }
    let capacity = quantities_floor(&spec.capacity, "spec.capacity").unwrap_or_else(|wrong| {
        errors.extend(wrong);
        ResourceList::default()
    });
    let weight = match spec.weight.map(u32::try_from) {
        None => 0,
        Some(Ok(weight @ 1..=10_000)) => weight,
        Some(_) => {
            errors.push(FieldError::new("spec.weight", "must be from 1 to 10000"));
            0
        }
    };
    let name = object.metadata.name.clone().unwrap_or_default();
    if errors.is_empty() { Ok(Overlay { name, weight, requirements, price, capacity }) } else { Err(errors) }
}

fn requirement(written: &OverlayRequirement, field: &str) -> Result<Requirement, FieldError> {
    let key = labels::normalize(&written.key);
    let is_a_pool = [labels::NODEPOOL, labels::PROVISIONER_NAME].contains(&key);
    if let Some(why) = labels::restricted_v1(key).filter(|_| !is_a_pool) {
        return Err(FieldError::new(format!("{field}.key"), why));
    }
    let operator = operator(&written.operator).map_err(|why| FieldError::new(format!("{field}.operator"), why))?;
    let term = RequirementTerm::new(key, operator, written.values.clone());
    Requirement::try_from(&term).map_err(|error| FieldError::new(field, error.to_string()))
}

fn read(field: &str, found: Option<PriceChange>, text: &str, errors: &mut Vec<FieldError>) -> Option<PriceChange> {
    if found.is_none() {
        let examples = if field.ends_with("price") { "0.5" } else { "+0.5, -0.5, +10% or -10%" };
        errors.push(FieldError::new(field, format!("{text:?} is not a price such as {examples}")));
    }
    found
}

/// `0.5`
fn dollars(text: &str) -> Option<UsdMicrosPerHour> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_plain.then(|| text.parse().ok().and_then(UsdMicrosPerHour::from_usd_per_hour)).flatten()
}

/// `+0.5`, `-0.5`, `+10%`, `-10%`
fn adjustment(text: &str) -> Option<PriceChange> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    match rest.strip_suffix('%') {
        None => Some(PriceChange::By(sign * dollars(rest)?.0)),
        Some(percent) => {
            // A ten-thousandth of a per cent is what a micro-dollar is of a dollar, a hundredth.
            let millionths = sign * dollars(percent)?.0.checked_mul(10_000)? / 1_000_000;
            (millionths >= -1_000_000).then_some(PriceChange::ByMillionths(millionths))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read_spec(spec: &Value) -> Result<Overlay, Vec<String>> {
        let object = json!({ "apiVersion": "karpenter.sh/v1alpha1", "kind": "NodeOverlay",
            "metadata": { "name": "o" }, "spec": spec });
        overlay(&serde_json::from_value(object).unwrap())
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_written_is_meant() {
        let spec = json!({ "weight": 7, "price": "0.25", "capacity": { "example.com/slice": "4" },
            "requirements": [
                { "key": "karpenter.sh/nodepool", "operator": "In", "values": ["default"] },
                { "key": "beta.kubernetes.io/arch", "operator": "In", "values": ["arm64"] },
            ] });
        let overlay = read_spec(&spec).unwrap();
        assert_eq!((overlay.name.as_str(), overlay.weight), ("o", 7));
        assert_eq!(overlay.price, Some(PriceChange::To(UsdMicrosPerHour(250_000))));
        assert_eq!(overlay.requirements.get(labels::ARCH).unwrap().single(), Some("arm64"));
        assert_eq!(overlay.requirements.get(labels::NODEPOOL).unwrap().single(), Some("default"));
        assert_eq!(
            overlay.capacity.iter().map(|(name, amount)| (name.to_string(), amount.0)).collect::<Vec<_>>(),
            [("example.com/slice".to_owned(), 4)]
        );
    }

    #[test]
    fn adjustments_are_dollars_or_parts() {
        let cases = [
            ("+0.5", PriceChange::By(500_000)),
            ("-.0012", PriceChange::By(-1_200)),
            ("+10%", PriceChange::ByMillionths(100_000)),
            ("-12.5%", PriceChange::ByMillionths(-125_000)),
            ("-100%", PriceChange::ByMillionths(-1_000_000)),
            ("+250%", PriceChange::ByMillionths(2_500_000)),
        ];
        for (text, expected) in cases {
            assert_eq!(adjustment(text), Some(expected), "{text}");
        }
        for text in ["", "5", "+", "+x", "-101%", "+1e3", "+-1", "%", "10%", "+99999999999999999999", "é"] {
            assert_eq!(adjustment(text), None, "{text}");
        }
    }

    #[test]
    fn everything_wrong_is_named() {
        let spec = json!({ "weight": 0, "price": "NaN", "capacity": { "cpu": "1", "a.b/c": "-1" },
            "requirements": [
                { "key": "a", "operator": "Is", "values": ["b"] },
                { "key": "kubernetes.io/hostname", "operator": "Exists" },
                { "key": "team", "operator": "In", "values": ["b"] },
                { "key": "team", "operator": "In", "values": ["c"] },
            ] });
        let errors = read_spec(&spec).unwrap_err();
        let fields: Vec<&str> = errors.iter().map(|error| error.split(": ").next().unwrap()).collect();
        assert_eq!(
            fields,
            [
                "spec.requirements[0].operator",
                "spec.requirements[1].key",
                "spec.requirements",
                "spec.price",
                "spec.capacity.cpu",
                "spec.capacity.a.b/c",
                "spec.weight",
            ],
            "{errors:#?}"
        );
        let both = read_spec(&json!({ "requirements": [], "price": "1", "priceAdjustment": "+1" })).unwrap_err();
        assert_eq!(both, ["spec: cannot set both 'price' and 'priceAdjustment'"]);
    }
}
