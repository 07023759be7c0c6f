//! What may be written; `tests/it/kafka.rs` asks a real broker.

use std::sync::Arc;

use super::*;
use crate::http::{HTTP_TIMEOUT, Http};
use crate::testing::{Trigger, metric_name, refusal};

const PLACE: [(&str, &str); 2] = [("bootstrapServers", "a:9092,b:9092"), ("consumerGroup", "my.group")];
const TOPIC: (&str, &str) = ("topic", "orders");

fn wrong(more: &[(&str, &str)]) -> Vec<String> {
    refusal::<Kafka>(&[&PLACE[..], more].concat())
}

#[test]
fn the_metric_is_named_after_the_topic_or_the_group() {
    assert_eq!(metric_name::<Kafka>(&[&PLACE[..], &[TOPIC]].concat()), "s0-kafka-orders");
    assert_eq!(metric_name::<Kafka>(&PLACE), "s0-kafka-my-group-topics");
    let target = Trigger::new(&PLACE).connect::<Kafka>().unwrap().target.milli.thousandths();
    assert_eq!(target, 10_000);
}

#[test]
fn what_does_not_go_together_is_named() {
    assert_eq!(refusal::<Kafka>(&[]), ["bootstrapServers", "consumerGroup"]);
    assert_eq!(refusal::<Kafka>(&[("bootstrapServers", "a"), PLACE[1]]), ["bootstrapServers"]);
    assert_eq!(wrong(&[("lagThreshold", "0")]), ["lagThreshold"]);
    assert_eq!(wrong(&[("activationLagThreshold", "-1")]), ["activationLagThreshold"]);
    assert_eq!(wrong(&[("offsetResetPolicy", "newest")]), ["offsetResetPolicy"]);
    assert_eq!(wrong(&[("limitToPartitionsWithLag", "true")]), ["limitToPartitionsWithLag"]);
    assert_eq!(wrong(&[("ensureEvenDistributionOfPartitions", "true")]), ["ensureEvenDistributionOfPartitions"]);
    assert_eq!(wrong(&[("partitionLimitation", "1-3")]), ["partitionLimitation"]);
    let limited = ("limitToPartitionsWithLag", "true");
    assert_eq!(wrong(&[TOPIC, limited, ("allowIdleConsumers", "true")]), ["limitToPartitionsWithLag"]);
    let even = ("ensureEvenDistributionOfPartitions", "true");
    assert_eq!(wrong(&[TOPIC, limited, even]), ["ensureEvenDistributionOfPartitions"]);
}

#[test]
fn a_login_needs_its_parameters() {
    assert_eq!(wrong(&[("sasl", "plaintext")]), ["authenticationRef username", "authenticationRef password"]);
    let bearer = Trigger::new(&PLACE).auth(&[("sasl", "oauthbearer"), ("username", "u"), ("password", "p")]);
    assert_eq!(bearer.build::<Kafka>().expect_err("no address").field, "authenticationRef oauthTokenEndpointUri");
    let scram = Trigger::new(&PLACE).auth(&[("sasl", "scram_sha512"), ("username", "u"), ("password", "hunter2")]);
    let connected = scram.connect::<Kafka>().unwrap();
    assert!(!format!("{connected:?}").contains("hunter2"));
}

#[test]
fn kerberos_needs_a_name_a_secret_and_its_configuration() {
    let refused = |auth: &[(&str, &str)]| -> Vec<String> {
        let trigger = Trigger::new(&PLACE).auth(&[&[("sasl", "gssapi")], auth].concat());
        trigger.build::<Kafka>().expect_err("incomplete").each().map(|(field, _)| field.to_owned()).collect()
    };
    let [keytab, config] = ["authenticationRef keytab", "authenticationRef kerberosConfig"];
    assert_eq!(refused(&[]), [keytab, config, "authenticationRef username"]);
    let [user, password] = [("username", "keda"), ("password", "hunter2")];
    let conf = ("kerberosConfig", "[libdefaults]\ndefault_realm = R\n[realms]\nR = {\nkdc = kdc.example.com\n}");
    assert_eq!(refused(&[user, password, ("keytab", "BQI="), conf]), [keytab]);
    assert_eq!(refused(&[user, ("keytab", "BQI="), conf]), [keytab]);
    assert_eq!(refused(&[user, password, ("kerberosConfig", "[realms]")]), [config]);
    assert_eq!(refused(&[user, password, conf, ("realm", "OTHER")]), [config]);
    let fast = |text| ("kerberosDisableFAST", text);
    assert_eq!(refused(&[user, password, conf, fast("maybe")]), ["authenticationRef kerberosDisableFAST"]);
    let whole = [("sasl", "gssapi"), user, password, conf, fast("true"), ("realm", "R")];
    let connected = Trigger::new(&PLACE).auth(&whole).connect::<Kafka>().unwrap();
    assert!(!format!("{connected:?}").contains("hunter2"));
}

#[test]
fn triggers_that_log_in_as_the_same_share_tickets() {
    let http = Arc::new(Http::new(HTTP_TIMEOUT));
    let conf = ("kerberosConfig", "[libdefaults]\ndefault_realm = R\n[realms]\nR = {\nkdc = kdc.example.com\n}");
    let trigger = |servers, password| {
        let auth = [("sasl", "gssapi"), ("username", "keda"), ("password", password), conf];
        Trigger::new(&[("bootstrapServers", servers), PLACE[1]]).auth(&auth).sharing(&http).connect::<Kafka>().unwrap()
    };
    let mut all = Vec::new();
    // Connections and tickets; the tickets are good for another cluster, too.
    for (servers, password, shared) in
        [("a:9092", "hunter2", 2), ("a:9092", "hunter2", 2), ("b:9092", "hunter2", 3), ("a:9092", "hunter3", 5)]
    {
        all.push(trigger(servers, password));
        assert_eq!(http.shared.count().0, shared, "{servers} {password}");
    }
}

#[test]
fn msk_needs_a_region_encryption_and_credentials_of_aws() {
    let msk = [("sasl", "oauthbearer"), ("saslTokenProvider", "aws_msk_iam"), ("awsRegion", "eu-west-1")];
    assert_eq!(wrong(&msk[..2]), ["awsRegion", "tls"]);
    assert_eq!(wrong(&[&msk[..], &[("tls", "enable")]].concat()), ["authenticationRef"]);
    let whole = [&PLACE[..], &msk, &[("tls", "enable")]].concat();
    let keys = [("awsAccessKeyID", "AKID"), ("awsSecretAccessKey", "hunter2")];
    let connected = Trigger::new(&whole).auth(&keys).connect::<Kafka>().unwrap();
    assert!(!format!("{connected:?}").contains("hunter2"));
}
