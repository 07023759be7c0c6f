//! What CloudWatch answers.

use roxmltree::Document;

use crate::error::ScalerError;
use crate::metadata::Number;
use crate::source::Reading;

/// The latest value; `otherwise` counts when there is none.
///
/// # Errors
/// See [`ScalerError::NoNumber`].
pub(super) fn decode(body: &[u8], otherwise: Option<Number>) -> Result<Reading, ScalerError> {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let document = Document::parse(text).ok();
    let results = document.iter().flat_map(Document::descendants).find(|node| node.has_tag_name("MetricDataResults"));
    let results = results.ok_or_else(|| ScalerError::no_number("the answer is not that of CloudWatch"))?;
    let result = results.children().find(roxmltree::Node::is_element);
    let part = |name: &str| result.and_then(|result| result.children().find(|node| node.has_tag_name(name)));
    if let Some(status @ ("InternalError" | "Forbidden")) = part("StatusCode").and_then(|node| node.text()) {
        return Err(ScalerError::no_number(format!("CloudWatch has no value: {status}")));
    }
    let first = part("Values").and_then(|values| values.children().find(roxmltree::Node::is_element));
    match (first.and_then(|value| value.text()), otherwise) {
        (Some(text), _) => {
            let float: f64 =
                text.trim().parse().map_err(|_| ScalerError::no_number(format!("{text:?} is not a number")))?;
            Reading::number(float)
        }
        (None, Some(Number { milli, float })) => Ok(Reading { milli, float, empty: true, active: None }),
        (None, None) => {
            Err(ScalerError::no_number("the metric has no value in that time, and ignoreNullValues is false"))
        }
    }
}

/// The code of a refusal.
pub(super) fn code(body: &[u8]) -> Option<String> {
    let document = Document::parse(std::str::from_utf8(body).ok()?).ok()?;
    document.descendants().find(|node| node.has_tag_name("Code"))?.text().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: &str, otherwise: Option<&str>) -> String {
        let reading = decode(body.as_bytes(), otherwise.map(|text| text.parse().unwrap()));
        reading.map_or_else(|error| error.text(), |reading| format!("{} {}", reading.milli, reading.empty))
    }

    fn answer(result: &str) -> String {
        format!(
            "<GetMetricDataResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\"><GetMetricDataResult>\
             <MetricDataResults>{result}</MetricDataResults></GetMetricDataResult></GetMetricDataResponse>"
        )
    }

    #[test]
    fn the_first_value_is_the_latest() {
        let two = "<member><Id>c1</Id><StatusCode>Complete</StatusCode><Values><member>7.5</member><member>9</member>\
                   </Values></member>";
        assert_eq!(said(&answer(two), Some("1")), "7.5 false");
        for none in ["", "<member><Values/></member>", "<member><Id>c1</Id></member>"] {
            assert_eq!(said(&answer(none), Some("1")), "1 true", "{none}");
            assert!(said(&answer(none), None).starts_with("the metric has no value"), "{none}");
        }
        let broken = "<member><StatusCode>InternalError</StatusCode><Values/></member>";
        assert!(said(&answer(broken), Some("1")).contains("InternalError"));
        for value in ["NaN", "many", "Infinity"] {
            let body = answer(&format!("<member><Values><member>{value}</member></Values></member>"));
            assert!(!said(&body, Some("1")).ends_with("false"), "{value}");
        }
        for body in ["", "<html>", "{}", "<Other/>"] {
            assert_eq!(said(body, Some("1")), "the answer is not that of CloudWatch", "{body}");
        }
    }

    #[test]
    fn a_refusal_has_a_code() {
        let body = b"<ErrorResponse><Error><Code>Throttling</Code><Message>slow down</Message></Error></ErrorResponse>";
        assert_eq!(code(body).as_deref(), Some("Throttling"));
        assert_eq!(code(b"<html>"), None);
    }
}
