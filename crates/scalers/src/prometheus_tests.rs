//! Settings, and the wire as a server sees it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use scaling::Target;
use tokio::net::TcpListener;
use units::Milli;

use super::*;
use crate::context::{Authentication, MetricType};
use crate::http::Http;
use crate::metadata::parse;
use crate::testing::{ok, serve};
use crate::{MetricSpec, Sampled, Scaler, source};

fn map(texts: &[(&str, &str)]) -> BTreeMap<String, String> {
    texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// Hands a context with this metadata and authentication to `with`.
fn context<T>(
    metric_type: Option<MetricType>,
    auth: &[(&str, &str)],
    metadata: &[(&str, &str)],
    with: impl FnOnce(&TriggerContext<'_>) -> T,
) -> T {
    let (metadata, parameters) = (map(metadata), map(auth));
    let http = Arc::new(Http::new(Duration::from_secs(3)));
    let authentication = Authentication::Resolved { parameters: &parameters, identity: &Identity::None };
    with(&TriggerContext { metric_type, authentication, ..TriggerContext::new(2, &metadata, &http) })
}

fn connect(metadata: &[(&str, &str)]) -> Result<Arc<dyn Scaler>, BuildError> {
    context(None, &[], metadata, source::build::<Prometheus>)
}

fn built(metadata: &[(&str, &str)]) -> Prometheus {
    context(None, &[], metadata, |context| {
        Prometheus::connect(parse::<Settings>(context).unwrap().0, context).unwrap().source
    })
}

const PLAIN: [(&str, &str); 3] = [("serverAddress", "http://prometheus:9090"), ("query", "up"), ("threshold", "2.5")];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    PLAIN.iter().copied().chain(more.iter().copied()).collect()
}

#[test]
fn a_plain_trigger_has_one_average_metric() {
    let scaler = connect(&PLAIN).unwrap();
    assert_eq!(
        scaler.metrics(),
        [MetricSpec { name: "s2-prometheus".into(), target: Target::AverageValue(Milli::from_thousandths(2_500)) }]
    );
    assert_eq!(scaler.notices(), []);
    assert_eq!(built(&PLAIN).url.as_str(), "http://prometheus:9090/api/v1/query");
}

#[test]
fn paths_and_parameters_are_added_to_the_address() {
    let metadata = [
        ("serverAddress", "https://gateway/prom/"),
        ("query", "up"),
        ("threshold", "1"),
        ("namespace", "shop"),
        ("queryParameters", "dedup=true, max_source_resolution=0s"),
        ("customHeaders", "X-Scope-OrgID=7,X-Note=a=b"),
    ];
    let scaler = built(&metadata);
    assert_eq!(
        scaler.url.as_str(),
        "https://gateway/prom/api/v1/query?namespace=shop&dedup=true&max_source_resolution=0s"
    );
    assert_eq!(scaler.headers.get("x-scope-orgid").unwrap(), "7");
    assert_eq!(scaler.headers.get("x-note").unwrap(), "a=b");
}

#[test]
fn settings_without_effect_earn_a_notice() {
    let scaler = connect(&with(&[("metricName", "old"), ("tresholdd", "5")])).unwrap();
    let fields: Vec<&str> = scaler.notices().iter().map(|n| n.field.as_str()).collect();
    assert_eq!(fields, ["metricName", "tresholdd"]);
}

#[test]
fn a_wrong_setting_is_refused_by_name() {
    let field = |metadata: &[(&str, &str)]| connect(metadata).expect_err("wrong").field;
    assert_eq!(field(&PLAIN[1..]), "serverAddress");
    assert_eq!(field(&[PLAIN[0], PLAIN[2]]), "query");
    assert_eq!(field(&PLAIN[..2]), "threshold");
    for (key, value) in [
        ("serverAddress", "prometheus:9090"),
        ("serverAddress", "file:///etc/passwd"),
        ("threshold", "many"),
        ("threshold", "0"),
        ("threshold", "NaN"),
        ("activationThreshold", "x"),
        ("ignoreNullValues", "maybe"),
        ("unsafeSsl", "maybe"),
        ("timeout", "soon"),
        ("customHeaders", "no-value"),
        ("customHeaders", "bad name=1"),
        ("queryParameters", "=1"),
        ("authModes", "magic"),
        ("authModes", "basic, bearer"),
        ("cortexOrgID", "7"),
    ] {
        let mut metadata: BTreeMap<&str, &str> = PLAIN.into_iter().collect();
        metadata.insert(key, value);
        let metadata: Vec<_> = metadata.into_iter().collect();
        assert_eq!(field(&metadata), key, "{key}={value}");
    }
}

#[test]
fn a_threshold_finer_than_a_thousandth_is_refused_or_told() {
    let with_threshold = |text: &'static str| connect(&[PLAIN[0], PLAIN[1], ("threshold", text)]);
    for text in ["0.0001", "0.00099", "1u", "999999n"] {
        let error = with_threshold(text).expect_err(text);
        assert_eq!(error.to_string(), "threshold: must be at least 0.001; an HPA reckons in thousandths", "{text}");
    }
    for (text, wanted) in [("0.001", None), ("1m", None), ("2.5", None), ("1e3", None), ("0.0015", Some("0.002"))] {
        let scaler = with_threshold(text).expect(text);
        let notices: Vec<_> = scaler.notices().iter().map(|n| format!("{}: {}", n.field, n.message)).collect();
        let wanted = wanted.map(|rounded| format!("threshold: is taken for {rounded}; an HPA reckons in thousandths"));
        assert_eq!(notices, wanted.into_iter().collect::<Vec<_>>(), "{text}");
    }
    // What is only compared keeps every digit.
    let activation = connect(&with(&[("activationThreshold", "0.0001")])).unwrap();
    assert_eq!(activation.notices(), []);
}

#[test]
fn utilization_is_refused_for_an_external_metric() {
    let as_type = |metric_type| context(Some(metric_type), &[], &PLAIN, source::build::<Prometheus>);
    assert_eq!(as_type(MetricType::Utilization).expect_err("wrong").field, "metricType");
    let value = as_type(MetricType::Value).unwrap();
    assert_eq!(value.metrics()[0].target, Target::Value(Milli::from_thousandths(2_500)));
}

#[test]
fn amazons_requests_need_a_region_and_keys_and_no_other_credentials() {
    let keys = [("awsAccessKeyID", "AKID"), ("awsSecretAccessKey", "s"), ("username", "u")];
    let refused = |auth: &[(&str, &str)], more: &[(&str, &str)]| {
        context(None, auth, &with(more), source::build::<Prometheus>).expect_err("wrong").field
    };
    let region = [("awsRegion", "eu-west-1"), ("authModes", "basic")];
    assert_eq!(refused(&[], &region[..1]), "authenticationRef");
    assert_eq!(refused(&keys[..1], &region[..1]), "authenticationRef");
    assert_eq!(refused(&keys, &region), "authModes");
}

#[tokio::test]
async fn amazons_requests_are_signed() {
    let body = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}"#;
    let (address, served) = serve(vec![ok(body)]).await;
    let metadata = [("serverAddress", address.as_str()), PLAIN[1], PLAIN[2], ("awsRegion", "eu-west-1")];
    let keys = [("awsAccessKeyID", "AKID"), ("awsSecretAccessKey", "hunter2"), ("awsSessionToken", "t")];
    let scaler = context(None, &keys, &metadata, source::build::<Prometheus>).unwrap();
    scaler.sample("s2-prometheus").await.unwrap();
    let asked = served.await.unwrap().remove(0);
    assert!(asked.contains("authorization: AWS4-HMAC-SHA256 Credential=AKID/"), "{asked}");
    assert!(
        asked.contains("/eu-west-1/aps/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token"),
        "{asked}"
    );
    assert!(!asked.contains("hunter2"), "{asked}");
}

fn against<'a>(address: &'a str, more: &[(&'a str, &'a str)]) -> Arc<dyn Scaler> {
    let mut metadata = vec![("serverAddress", address), ("query", "sum(rate(x[1m]))"), ("threshold", "1")];
    metadata.extend_from_slice(more);
    connect(&metadata).unwrap()
}

#[tokio::test]
async fn a_query_reaches_the_server_and_its_number_comes_back() {
    let body = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.0004"]}]}}"#;
    let (address, served) = serve(vec![ok(body)]).await;
    let scaler = against(&address, &[("customHeaders", "X-Scope-OrgID=7")]);
    let sampled = scaler.sample("s2-prometheus").await.unwrap();
    assert_eq!(sampled, Sampled { value: Milli::ZERO, active: true, empty: false }, "active is judged before rounding");
    let asked = served.await.unwrap().remove(0).to_lowercase();
    assert!(asked.starts_with("get /api/v1/query?query=sum%28rate%28x%5b1m%5d%29%29 http/1.1"), "{asked}");
    assert!(asked.contains("x-scope-orgid: 7"), "{asked}");
}

#[tokio::test]
async fn a_silent_server_is_given_up_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let error = against(&address, &[("timeout", "20ms")]).sample("s2-prometheus").await.unwrap_err();
    assert!(matches!(error, ScalerError::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = format!("http://{}/steal", elsewhere.local_addr().unwrap());
    let redirect =
        format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let (address, _served) = serve(vec![redirect]).await;
    let error = against(&address, &[]).sample("s2-prometheus").await.unwrap_err();
    assert!(matches!(&error, ScalerError::Misconfigured { what } if what.contains("redirects")), "{error:?}");
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let (address, _served) = serve(vec![ok(&"x".repeat(ANSWER_BYTES + 10))]).await;
    let error = against(&address, &[]).sample("s2-prometheus").await.unwrap_err();
    assert!(matches!(&error, ScalerError::NoNumber { what } if what.contains("larger than")), "{error:?}");
}

#[tokio::test]
async fn nobody_listening_is_unavailable_and_does_not_show_the_password() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://user:hunter2@{}", listener.local_addr().unwrap());
    drop(listener);
    let error = against(&address, &[]).sample("s2-prometheus").await.unwrap_err();
    assert!(matches!(error, ScalerError::Unavailable(_)), "{error:?}");
    assert!(!error.text().contains("hunter2"), "{}", error.text());
}
