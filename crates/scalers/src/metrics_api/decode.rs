//! Finds the number in an answer.

use roxmltree::{Document, Node};
use serde_json::Value;

use super::{exposition, path};
use crate::error::ScalerError;
use crate::http::shorten;
use crate::metadata::Choice;
use crate::source::Reading;

/// What an answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Choice)]
pub(super) enum Format {
    #[value("json")]
    Json,
    #[value("xml")]
    Xml,
    #[value("yaml")]
    Yaml,
    #[value("prometheus")]
    Prometheus,
}

/// Whether a location can be one, before there is an answer.
pub(super) fn check(format: Format, location: &str) -> Result<(), String> {
    match format {
        Format::Prometheus => exposition::Selector::parse(location).map(drop),
        Format::Json => path::check(location),
        Format::Yaml | Format::Xml => Ok(()),
    }
}

pub(super) fn decode(format: Format, location: &str, body: &[u8]) -> Result<Reading, ScalerError> {
    let text = std::str::from_utf8(body).map_err(|_| ScalerError::no_number("the answer is not text"))?;
    match format {
        Format::Json => {
            let answer: Value = serde_json::from_str(text)
                .map_err(|e| ScalerError::no_number(format!("the answer is no JSON: {e}")))?;
            let found = path::find(&answer, location).map_err(ScalerError::no_number)?;
            value(location, found.as_deref())
        }
        Format::Yaml => {
            let answer: Value = serde_saphyr::from_str(text)
                .map_err(|e| ScalerError::no_number(format!("the answer is no YAML: {}", shorten(&e.to_string()))))?;
            value(location, step_by_step(&answer, location))
        }
        Format::Xml => {
            let document =
                Document::parse(text).map_err(|e| ScalerError::no_number(format!("the answer is no XML: {e}")))?;
            let found = element(document.root_element(), location).ok_or_else(|| missing(location))?;
            Reading::text(found.text().unwrap_or_default())
        }
        Format::Prometheus => {
            let selector = exposition::Selector::parse(location).map_err(ScalerError::no_number)?;
            Reading::number(selector.find(text).map_err(ScalerError::no_number)?)
        }
    }
}

fn missing(location: &str) -> ScalerError {
    ScalerError::no_number(format!("the answer has nothing at {location:?}"))
}

fn value(location: &str, found: Option<&Value>) -> Result<Reading, ScalerError> {
    match found {
        Some(Value::Number(number)) => Reading::number(number.as_f64().unwrap_or(f64::NAN)),
        Some(Value::String(text)) => Reading::text(text),
        Some(_) => Err(ScalerError::no_number(format!("there is neither a number nor a text at {location:?}"))),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: Format, location: &str, body: &str, wanted: &str) {
        let said = decode(format, location, body.as_bytes())
            .map_or_else(|error| error.text(), |reading| reading.milli.to_string());
        assert!(said.starts_with(wanted), "{location} in {body}\n said   {said}\n wanted {wanted}");
    }

    #[test]
    fn a_number_or_a_quantity_is_found_in_every_format() {
        check(Format::Json, "a.b", r#"{"a": {"b": 2.5}}"#, "2.5");
        check(Format::Json, "a.0.b", r#"{"a": [{"b": "1500m"}]}"#, "1.5");
        check(Format::Yaml, "a.1.b", "a:\n- b: 1\n- b: 7\n", "7");
        check(Format::Yaml, "a", "a: '2k'", "2000");
        check(Format::Xml, "root.a.b", "<root><a><b>12</b></a></root>", "12");
        check(Format::Xml, "a.1", "<root><a>1</a><a> 2 </a></root>", "2");
        check(Format::Prometheus, "q{n=\"a\"}", "q{n=\"a\"} 4\nq{n=\"b\"} 5", "4");
    }

    #[test]
    fn anything_else_is_never_a_number() {
        for (format, location) in
            [(Format::Json, "a"), (Format::Yaml, "a"), (Format::Xml, "root.a"), (Format::Prometheus, "a")]
        {
            for body in ["<html><body>502 Bad Gateway</body></html>", "", "\u{0}", "a b c", "[1, 2]"] {
                let read = decode(format, location, body.as_bytes());
                assert!(matches!(read, Err(ScalerError::NoNumber { .. })), "{format:?} {body:?}: {read:?}");
            }
        }
        check(Format::Json, "a", r#"{"a": "NaN"}"#, "the source gives no usable number");
        check(Format::Json, "a", r#"{"a": null}"#, "there is neither a number nor a text at \"a\"");
        check(Format::Json, "a", r#"{"a": true}"#, "there is neither");
        check(Format::Json, "a", r#"{"a": 1e400}"#, "the answer is no JSON");
        check(Format::Yaml, "a", "a: .nan", "the answer is no YAML");
        check(Format::Yaml, "a.b", "a: 1", "the answer has nothing at \"a.b\"");
        check(Format::Xml, "root.a", "<root><a>1</a><a>2</a></root>", "the answer has nothing at");
        check(Format::Xml, "root.a", "<root><a>inf</a></root>", "the source gives no usable number");
        check(Format::Prometheus, "a", "a NaN", "the source gives no usable number");
        check(Format::Prometheus, "a", "a +Inf", "the source gives no usable number");
    }

    #[test]
    fn an_entity_bomb_is_refused() {
        let bomb = "<!DOCTYPE r [<!ENTITY a \"1\"><!ENTITY b \"&a;&a;\">]><r><a>&b;</a></r>";
        check(Format::Xml, "a", bomb, "the answer is no XML");
    }
}
