//! The JSON schema of a trigger's `metadata`. All values are strings there, so kinds become patterns.

use serde_json::{Map, Value, json};

use super::{Kind, Origin, Parameter, Shape};

/// The schema of `triggers[].metadata` of a type.
pub(crate) fn schema(trigger_type: &str, shape: &'static Shape) -> Value {
    let mut properties = Map::new();
    let mut needed = Vec::new();
    for parameter in shape.parameters() {
        if parameter.may_come_from(Origin::Metadata) {
            for name in std::iter::once(parameter.name).chain(parameter.aliases.iter().copied()) {
                properties.insert(name.into(), property(parameter, None));
            }
            for (old, notice) in parameter.deprecated {
                properties.insert((*old).into(), property(parameter, Some(notice)));
            }
        }
        if parameter.may_come_from(Origin::Environment) {
            let doc = format!("Environment variable of the scale target's container that holds {}.", parameter.name);
            properties.insert(format!("{}FromEnv", parameter.name), json!({"type": "string", "description": doc}));
        }
        if parameter.required && !parameter.may_come_from(Origin::Authentication) {
            let keys = properties
                .keys()
                .filter(|key| parameter.names().any(|name| *key == name || key.strip_suffix("FromEnv") == Some(name)));
            let ways: Vec<Value> = keys.map(|key| json!({"required": [key]})).collect();
            needed.push(if let [way] = ways.as_slice() { way.clone() } else { json!({"anyOf": ways}) });
        }
    }
    for (name, reason) in shape.all().iter().flat_map(|shape| shape.ignored) {
        properties.insert((*name).into(), json!({"type": "string", "description": reason, "deprecated": true}));
    }
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("metadata of a {trigger_type} trigger"),
        "type": "object",
        "properties": properties,
        "additionalProperties": if shape.open { json!({"type": "string"}) } else { json!(false) },
    });
    if !needed.is_empty() {
        schema["allOf"] = Value::Array(needed);
    }
    schema
}

fn property(parameter: &Parameter, deprecated: Option<&str>) -> Value {
    let mut property = json!({"type": "string", "description": parameter.doc});
    match parameter.kind {
        Kind::Whole => property["pattern"] = json!(r"^\s*[+-]?[0-9]+\s*$"),
        Kind::Boolean => property["pattern"] = json!(r"^\s*(1|t|T|true|TRUE|True|0|f|F|false|FALSE|False)\s*$"),
        Kind::OneOf(words) => property["enum"] = json!(words),
        Kind::Url => property["pattern"] = json!(r"^\s*https?://"),
        Kind::Text | Kind::Number | Kind::Duration | Kind::List(_) | Kind::Pairs | Kind::QueryPairs => {}
    }
    if let Some(default) = parameter.default {
        property["default"] = json!(default);
    }
    if let Some(notice) = deprecated {
        property["deprecated"] = json!(true);
        property["description"] = json!(format!("{} {notice}.", parameter.doc));
    }
    property
}
