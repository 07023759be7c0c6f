//! What may be written and what is answered; `tests/it/external.rs` asks a server in another language.

use std::collections::BTreeMap;

use super::*;
use crate::context::Authentication;
use crate::http::{HTTP_TIMEOUT, Http};

fn value(whole: i64, float: f64) -> Value {
    Value { metric_name: "m".into(), metric_value: whole, metric_value_float: float }
}

#[test]
fn the_newer_field_counts_if_it_is_above_zero() {
    let said = |values: &[Value]| decode(values).map_or_else(|_| "none".into(), |reading| reading.milli.to_string());
    assert_eq!(said(&[value(3, 0.0)]), "3");
    assert_eq!(said(&[value(3, 2.5)]), "2.5");
    assert_eq!(said(&[value(-3, 0.0)]), "-3");
    assert_eq!(said(&[value(3, 0.0), value(0, 0.5)]), "3.5");
    for nothing in [vec![], vec![value(3, f64::NAN)], vec![value(3, f64::INFINITY)]] {
        assert_eq!(said(&nothing), "none");
    }
    let spec = |whole, float| Spec { metric_name: "m".into(), target_size: whole, target_size_float: float };
    assert_eq!(target(&spec(5, 0.0)).unwrap().to_string(), "5");
    assert_eq!(target(&spec(5, 0.5)).unwrap().to_string(), "0.5");
    for wrong in [spec(0, 0.0), spec(-1, 0.0), spec(1, f64::INFINITY)] {
        assert!(target(&wrong).is_err(), "{wrong:?}");
    }
}

fn check(metadata: &[(&str, &str)], auth: &[(&str, &str)], wanted: &str) {
    let map = |texts: &[(&str, &str)]| -> BTreeMap<String, String> {
        texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    };
    let (metadata, parameters, http) = (map(metadata), map(auth), Arc::new(Http::new(HTTP_TIMEOUT)));
    let identity = crate::context::Identity::None;
    let authentication = Authentication::Resolved { parameters: &parameters, identity: &identity };
    let environment = map(&[("TOKEN", "t"), ("EMPTY", "")]);
    let context =
        TriggerContext { authentication, environment: Some(&environment), ..TriggerContext::new(2, &metadata, &http) };
    let built = build::<Polled>(&context);
    assert_eq!(built.map_or_else(|error| error.field, |_| "fine".into()), wanted, "{metadata:?}");
    let told = forwarded(&context);
    assert_eq!(told.get("tokenFromEnv").map(String::as_str), metadata.get("tokenFromEnv").map(|_| "t"));
    assert_eq!(told.get("emptyFromEnv"), None);
    assert_eq!(told.get("scalerAddress"), metadata.get("scalerAddress"));
}

#[test]
fn what_is_wrong_is_named_and_what_is_unknown_is_the_servers() {
    let address = ("scalerAddress", "plugin:6000");
    check(&[], &[], "scalerAddress");
    check(&[("scalerAddress", "plugin")], &[], "scalerAddress");
    check(&[address, ("anything", "x"), ("tokenFromEnv", "TOKEN"), ("emptyFromEnv", "EMPTY")], &[], "fine");
    check(&[address, ("enableTLS", "perhaps")], &[], "enableTLS");
    check(&[address, ("enableTLS", "true")], &[], "fine");
    check(&[address], &[("caCert", "hunter2")], "authenticationRef caCert");
    check(&[address], &[("tlsClientCert", "hunter2")], "authenticationRef tlsClientKey");
    check(&[address], &[("tlsClientCert", "hunter2"), ("tlsClientKey", "x")], "authenticationRef tlsClientCert");
}
