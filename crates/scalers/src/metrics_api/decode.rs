//! Finds the number in an answer.

use roxmltree::{Document, Node};
use serde_json::Value;

use super::{Format, exposition, path};
use crate::error::ScalerError;
use crate::http::shorten;
use crate::source::Reading;

/// Whether a location can be one, before there is an answer.
pub(super) fn check(format: Format, location: &str) -> Result<(), String> {
    match format {
        Format::Prometheus => exposition::Selector::parse(location).map(drop),
        Format::Json => path::check(location),
        Format::Yaml | Format::Xml => Ok(()),
    }
}

pub(super) fn decode(format: Format, location: &str, body: &[u8]) -> Result<Reading, ScalerError> {
    let text = std::str::from_utf8(body).map_err(|_| no_number("the answer is not text".into()))?;
    match format {
        Format::Json => {
            let answer: Value =
                serde_json::from_str(text).map_err(|e| no_number(format!("the answer is no JSON: {e}")))?;
            let found = path::find(&answer, location).map_err(no_number)?;
            value(location, found.as_deref())
        }
        Format::Yaml => {
            let answer: Value = serde_saphyr::from_str(text)
                .map_err(|e| no_number(format!("the answer is no YAML: {}", shorten(&e.to_string()))))?;
            value(location, step_by_step(&answer, location))
        }
        Format::Xml => {
            let document = Document::parse(text).map_err(|e| no_number(format!("the answer is no XML: {e}")))?;
            let found = element(document.root_element(), location).ok_or_else(|| missing(location))?;
            Reading::text(found.text().unwrap_or_default())
        }
        Format::Prometheus => {
            let selector = exposition::Selector::parse(location).map_err(no_number)?;
            Reading::number(selector.find(text).map_err(no_number)?)
        }
    }
}

fn no_number(what: String) -> ScalerError {
    ScalerError::NoNumber { what }
}

fn missing(location: &str) -> ScalerError {
    no_number(format!("the answer has nothing at {location:?}"))
}

fn value(location: &str, found: Option<&Value>) -> Result<Reading, ScalerError> {
    match found {
        Some(Value::Number(number)) => Reading::number(number.as_f64().unwrap_or(f64::NAN)),
        Some(Value::String(text)) => Reading::text(text),
        Some(_) => Err(no_number(format!("there is neither a number nor a text at {location:?}"))),
        None => Err(missing(location)),
    }
}

/// `a.0.b`.
fn step_by_step<'a>(answer: &'a Value, location: &str) -> Option<&'a Value> {
    location.split('.').try_fold(answer, |value, step| match value {
        Value::Object(fields) => fields.get(step),
        Value::Array(list) => list.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

/// `a.b.1`: a position chooses among elements of the same name. The name of the root may be left out.
fn element<'a, 'input>(root: Node<'a, 'input>, location: &str) -> Option<Node<'a, 'input>> {
    let mut steps = location.split('.').peekable();
    if steps.peek() == Some(&root.tag_name().name()) {
        steps.next();
    }
    let mut candidates = vec![root];
    for step in steps {
        candidates = match step.parse::<usize>() {
            Ok(position) => vec![*candidates.get(position)?],
            Err(_) => candidates.iter().flat_map(Node::children).filter(|node| node.has_tag_name(step)).collect(),
        };
    }
    // One of several would be any of them.
    <[_; 1]>::try_from(candidates).ok().map(|[one]| one)
}
