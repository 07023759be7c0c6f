//! What may be written; `tests/it/redis.rs` asks real servers.

use super::place::{One, Sentinels, Several};
use super::*;
use crate::testing::{Trigger, metric_name, refusal};

#[test]
fn a_server_is_named_in_one_of_two_ways() {
    let list = ("listName", "jobs");
    let lists = |place: &[(&str, &str)]| refusal::<Redis<One, List>>(&[&[list], place].concat());
    assert_eq!(metric_name::<Redis<One, List>>(&[list, ("address", "r:6379")]), "s0-redis-jobs");
    assert_eq!(metric_name::<Redis<One, List>>(&[list, ("host", "::1"), ("port", "6379")]), "s0-redis-jobs");
    assert_eq!(lists(&[]), ["address"]);
    assert_eq!(lists(&[("address", "r")]), ["address"]);
    assert_eq!(lists(&[("host", "r")]), ["port"]);
    assert_eq!(lists(&[("host", "r"), ("port", "70000")]), ["port"]);
    assert_eq!(lists(&[("address", "r:1"), ("host", "r"), ("port", "1")]), ["host"]);
    assert_eq!(lists(&[("address", "r:1"), ("listLength", "0")]), ["listLength"]);
    let cluster = |place: &[(&str, &str)]| refusal::<Redis<Several, List>>(&[&[list], place].concat());
    assert_eq!(cluster(&[("hosts", "a,b"), ("ports", "1")]), ["ports"]);
    assert_eq!(cluster(&[("addresses", "a:1,b:2"), ("databaseIndex", "1")]), ["databaseIndex"]);
    let sentinels = refusal::<Redis<Sentinels, List>>(&[list, ("addresses", "a:1")]);
    assert_eq!(sentinels, ["sentinelMaster"]);
}

#[test]
fn tls_is_asked_for_in_one_of_two_ways() {
    let metadata = [("listName", "jobs"), ("address", "r:6379"), ("enableTLS", "true")];
    let both = Trigger::new(&metadata).auth(&[("tls", "enable")]);
    assert_eq!(both.build::<Redis<One, List>>().expect_err("both").field, "tls");
    let key = Trigger::new(&metadata).auth(&[("keyPassword", "x")]);
    assert_eq!(key.build::<Redis<One, List>>().expect_err("encrypted").field, "authenticationRef keyPassword");
}

#[test]
fn a_stream_is_measured_in_one_of_three_ways() {
    let target = |more: &[(&str, &str)]| {
        let metadata =
            [&[("stream", "s"), ("address", "r:1"), ("streamLength", "3"), ("activationLagCount", "9")], more];
        let connected = Trigger::new(&metadata.concat()).connect::<Redis<One, Stream>>().unwrap();
        (connected.name, connected.target.milli.thousandths(), connected.activation)
    };
    assert_eq!(target(&[]), ("redis-streams-s".into(), 3_000, 0.0));
    assert_eq!(target(&[("consumerGroup", "g")]), ("redis-streams-s".into(), 5_000, 0.0));
    assert_eq!(target(&[("consumerGroup", "g"), ("lagCount", "7")]), ("redis-streams-s".into(), 7_000, 9.0));
}
