//! The answers of servers, in all formats and with all credentials.

use super::*;
use crate::cluster::LivePod;
use crate::testing::{Trigger, metric_name, ok, refusal, serve};

fn check(format: Format, location: &str, body: &str, wanted: &str) {
    let said = decode::decode(format, location, body.as_bytes())
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
            let read = decode::decode(format, location, body.as_bytes());
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

#[test]
fn numbers_of_several_endpoints_become_one() {
    for (how, wanted) in
        [(Aggregation::Average, 3.0_f64), (Aggregation::Sum, 9.0), (Aggregation::Max, 5.0), (Aggregation::Min, 1.0)]
    {
        assert_eq!(aggregate(how, &[5.0, 1.0, 3.0]).unwrap().float.to_bits(), wanted.to_bits(), "{how:?}");
        assert!(aggregate(how, &[]).is_err(), "{how:?} of nothing");
    }
}

const PLAIN: [(&str, &str); 3] = [("url", "http://api/v1"), ("valueLocation", "a.b"), ("targetValue", "5")];

#[test]
fn settings_are_checked_before_anything_is_asked() {
    assert_eq!(metric_name::<MetricsApi>(&PLAIN), "s0-metric-api-a-b");
    for (key, text) in [
        ("url", "api/v1"),
        ("valueLocation", "a.#.b"),
        ("targetValue", "0"),
        ("format", "toml"),
        ("aggregationType", "median"),
        ("aggregateFromKubeServiceEndpoints", "true"),
        ("authMode", "apikey"),
    ] {
        let mut metadata: Vec<_> = PLAIN.into_iter().filter(|(name, _)| *name != key).collect();
        metadata.push((key, text));
        let wanted = if key == "authMode" { "authMode" } else { key };
        assert_eq!(refusal::<MetricsApi>(&metadata), [wanted], "{key}={text}");
    }
    let mode = |mode| Trigger::new(&[PLAIN[0], PLAIN[1], PLAIN[2], ("authModes", mode)]);
    for (name, parameter) in [
        ("basic", "username"),
        ("bearer", "bearerToken"),
        ("apiKey", "apiKey"),
        ("custom", "customAuthHeader"),
        ("tls", "cert"),
        ("oauth", "oauthTokenURI"),
    ] {
        let error = mode(name).build::<MetricsApi>().expect_err("a credential is missing");
        assert_eq!(error.field, format!("authenticationRef {parameter}"), "{name}");
    }
}

#[tokio::test]
async fn every_way_to_show_who_one_is_reaches_the_server() {
    let token = ok(r#"{"access_token": "t0", "expires_in": 3600}"#);
    for (metadata, auth, wanted) in [
        (vec![("authMode", "basic")], vec![("username", "u"), ("password", "p")], "authorization: basic dtpw"),
        (vec![("authModes", "bearer")], vec![("token", "t1")], "authorization: bearer t1"),
        (vec![("authMode", "apiKey")], vec![("apiKey", "k")], "x-api-key: k"),
        (vec![("authMode", "apiKey"), ("method", "query"), ("keyParamName", "q")], vec![("apiKey", "k")], "?q=k"),
        (vec![("authModes", "custom")], vec![("customAuthHeader", "X-A"), ("customAuthValue", "v")], "x-a: v"),
        (
            vec![("authModes", "oauth")],
            vec![("clientID", "c"), ("clientSecret", "s"), ("scopes", "one,two")],
            "authorization: bearer t0",
        ),
    ] {
        let (address, served) = serve(vec![ok(r#"{"a": {"b": 4}}"#)]).await;
        let (tokens, _asked) = serve(vec![token.clone()]).await;
        let mut metadata = metadata.clone();
        metadata.extend([("url", address.as_str()), PLAIN[1], PLAIN[2]]);
        let mut auth = auth.clone();
        auth.push(("oauthTokenURI", &tokens));
        let sampled = Trigger::new(&metadata).auth(&auth).sample::<MetricsApi>().await.unwrap();
        assert_eq!(sampled.value.thousandths(), 4_000);
        let asked = served.await.unwrap().remove(0).to_lowercase();
        assert!(asked.contains(wanted), "{wanted}\n{asked}");
    }
}

/// A Service with two endpoints on one address, or none.
#[derive(Debug)]
struct Endpoints(Vec<String>);

#[async_trait]
impl Cluster for Endpoints {
    async fn live_pods(&self, _: &str, _: &str) -> Result<Vec<LivePod>, ScalerError> {
        Err(ScalerError::Unavailable("not asked here".into()))
    }

    async fn ready_endpoints(&self, namespace: &str, service: &str) -> Result<Vec<String>, ScalerError> {
        assert_eq!((namespace, service), ("shop", "api"));
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn each_endpoint_is_asked_and_one_that_is_silent_fails_the_reading() {
    let answers = vec![ok(r#"{"a": {"b": 4}}"#), ok(r#"{"a": {"b": 6}}"#), ok("{}"), ok(r#"{"a": {"b": 6}}"#)];
    let (address, _served) = serve(answers).await;
    let url = format!("http://api.shop.svc:{}/v1", address.rsplit(':').next().unwrap());
    let trigger = |addresses: &[&str]| {
        let metadata = [("url", url.as_str()), PLAIN[1], PLAIN[2], ("aggregateFromKubeServiceEndpoints", "true")];
        let endpoints = Endpoints(addresses.iter().map(|address| (*address).to_owned()).collect());
        Trigger::new(&metadata).cluster(Arc::new(endpoints))
    };
    let both = trigger(&["127.0.0.1", "127.0.0.1"]);
    assert_eq!(both.sample::<MetricsApi>().await.unwrap().value.thousandths(), 5_000);
    assert!(both.sample::<MetricsApi>().await.is_err());
    assert!(trigger(&[]).sample::<MetricsApi>().await.is_err());
}

#[tokio::test]
async fn a_refusal_says_what_to_do_next() {
    for (status, wanted) in
        [("401 Unauthorized", "Unauthorized"), ("404 Not Found", "Misconfigured"), ("503 Busy", "Unavailable")]
    {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n42");
        let (address, _served) = serve(vec![answer]).await;
        let metadata = [("url", address.as_str()), PLAIN[1], PLAIN[2]];
        let error = Trigger::new(&metadata).sample::<MetricsApi>().await.unwrap_err();
        assert!(format!("{error:?}").starts_with(wanted), "{status}: {error:?}");
    }
}
