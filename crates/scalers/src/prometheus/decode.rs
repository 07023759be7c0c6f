//! What an answer of Prometheus means.

use prometheus_http_query::error::PrometheusError;
use prometheus_http_query::response::{Data, PromqlResult};
use serde::Deserialize;

use crate::error::ScalerError;
use crate::http::{refusal, shorten};
use crate::source::Reading;

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Answer {
    Success { data: PromqlResult },
    Error(PrometheusError),
}

/// Reads an HTTP answer.
pub(super) fn decode(status: u16, body: &[u8], ignore_null_values: bool) -> Result<Reading, ScalerError> {
    let answer = serde_json::from_slice::<Answer>(body);
    match (status, answer) {
        (200..=299, Ok(Answer::Success { data })) => number(data.data(), ignore_null_values),
        (200..=299 | 400 | 404..=599, Ok(Answer::Error(error))) => Err(refused(status, &error)),
        (200..=299, Err(_)) if is_text(body) => {
            Err(ScalerError::NoNumber { what: "the query gives a text; it must give a number".to_owned() })
        }
        (_, answer) => Err(refusal(status, body, "serverAddress").unwrap_or_else(|| {
            let why = answer.err().map(|error| format!(": {error}")).unwrap_or_default();
            ScalerError::NoNumber { what: format!("the answer is not that of a Prometheus instant query{why}") }
        })),
    }
}

/// Whether the answer is one text, which our client does not know.
fn is_text(body: &[u8]) -> bool {
    let answer = serde_json::from_slice::<serde_json::Value>(body);
    answer.is_ok_and(|answer| answer.pointer("/data/resultType").is_some_and(|kind| kind == "string"))
}

/// The server understood us and says no, in its own words.
fn refused(status: u16, error: &PrometheusError) -> ScalerError {
    let text = shorten(&error.to_string());
    if error.is_bad_data() || error.is_execution() || error.is_not_found() {
        ScalerError::Misconfigured { what: format!("query: {text}") }
    } else {
        ScalerError::Unavailable(format!("HTTP {status}: {text}").into())
    }
}

fn number(data: &Data, ignore_null_values: bool) -> Result<Reading, ScalerError> {
    let no_number = |what: String| Err(ScalerError::NoNumber { what });
    let value = match data {
        Data::Scalar(sample) => sample.value(),
        Data::Vector(series) => match series.as_slice() {
            [] if ignore_null_values => return Ok(Reading::empty()),
            [] => return no_number("the query gives no series, and ignoreNullValues is false".into()),
            [one] => one.sample().value(),
            many => {
                return no_number(format!(
                    "the query gives {} series; it must give one, so aggregate them",
                    many.len()
                ));
            }
        },
        Data::Matrix(_) => {
            return no_number(
                "the query gives a range of samples; it must give one number, so aggregate over time".into(),
            );
        }
    };
    Reading::number(value).map_err(|error| match error {
        ScalerError::NoNumber { what } => ScalerError::NoNumber { what: format!("query: {what}") },
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, ignore_null_values: bool, wanted: &str) {
        let said = match decode(status, body.as_bytes(), ignore_null_values) {
            Ok(reading) if reading.empty => format!("empty {}", reading.milli),
            Ok(reading) => reading.milli.to_quantity_string(),
            Err(error) => {
                let variant = format!("{error:?}");
                let name: String = variant.chars().take_while(char::is_ascii_alphanumeric).collect();
                format!("{name}: {}", error.text())
            }
        };
        assert!(said.starts_with(wanted), "{body}\n said   {said}\n wanted {wanted}");
    }

    fn vector(series: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
    }

    fn value(text: &str) -> String {
        vector(&format!(r#"{{"metric":{{"pod":"a"}},"value":[1700000000.5,"{text}"]}}"#))
    }

    #[test]
    fn one_series_or_a_scalar_is_a_number() {
        check(200, &value("12.3456"), true, "12346m");
        check(200, &value("-2"), true, "-2");
        check(200, &value("1e3"), true, "1000");
        check(200, r#"{"status":"success","data":{"resultType":"scalar","result":[1700000000,"7"]}}"#, true, "7");
        check(
            200,
            r#"{"status":"success","warnings":["w"],"data":{"resultType":"scalar","result":[1,"7"]}}"#,
            true,
            "7",
        );
    }

    #[test]
    fn an_empty_answer_is_zero_only_when_the_trigger_says_so() {
        check(200, &vector(""), true, "empty 0");
        check(200, &vector(""), false, "NoNumber: the query gives no series");
    }

    #[test]
    fn what_is_not_one_finite_number_is_never_zero() {
        for text in ["NaN", "+Inf", "-Inf", "1e300"] {
            check(200, &value(text), true, "NoNumber: query: the source gives no usable number");
        }
        let two = r#"{"metric":{},"value":[1,"1"]},{"metric":{"a":"b"},"value":[1,"2"]}"#;
        check(200, &vector(two), true, "NoNumber: the query gives 2 series");
        let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        check(200, matrix, true, "NoNumber: the query gives a range");
        let text = r#"{"status":"success","data":{"resultType":"string","result":[1,"7"]}}"#;
        check(200, text, true, "NoNumber: the query gives a text");
        for broken in [
            "",
            "<html>",
            "{}",
            r#"{"status":"success"}"#,
            r#"{"status":"success","data":{"resultType":"text","result":[1,"x"]}}"#,
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1]}]}}"#,
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,null]}]}}"#,
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{}]}]}}"#,
        ] {
            check(200, broken, true, "NoNumber: the answer is not that of a Prometheus instant query");
        }
    }

    #[test]
    fn an_error_says_what_to_do_next() {
        let error = |kind: &str| format!(r#"{{"status":"error","errorType":"{kind}","error":"parse error: oops"}}"#);
        check(400, &error("bad_data"), true, "Misconfigured: the source refuses the question: query: ");
        check(422, &error("execution"), true, "Misconfigured: ");
        check(503, &error("timeout"), true, "Unavailable: the source is not available: HTTP 503: ");
        check(401, "no", true, "Unauthorized: the source refuses us: HTTP 401: no");
        check(302, "", true, "Misconfigured: the source refuses the question: HTTP 302 redirects");
        check(404, "page not found", true, "Misconfigured: the source refuses the question: HTTP 404: page not found");
        check(429, "", true, "Unavailable: ");
        check(500, "boom", true, "Unavailable: the source is not available: HTTP 500: boom");
    }

    #[test]
    fn the_servers_own_words_reach_the_user() {
        let body = r#"{"status":"error","errorType":"bad_data","error":"1:5: parse error: unclosed left parenthesis"}"#;
        let text = decode(400, body.as_bytes(), true).unwrap_err().text();
        assert!(text.contains("1:5: parse error: unclosed left parenthesis"), "{text}");
    }
}
