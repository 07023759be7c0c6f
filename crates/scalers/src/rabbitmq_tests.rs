//! What may be written; `tests/it/rabbitmq.rs` asks a real server.

use super::*;
use crate::testing::{Trigger, metric_name, ok, refusal, serve};

const QUEUE: (&str, &str) = ("queueName", "jobs/new a");
const AMQP: (&str, &str) = ("host", "amqp://u:hunter2@mq:5673/shop");
const HTTP: (&str, &str) = ("host", "http://u:hunter2@mq:15672/sub/sh%2Fop");

fn place(host: &str, more: &[(&str, &str)]) -> (String, u16, String, String, String) {
    let metadata = [&[QUEUE, ("host", host)], more].concat();
    match Trigger::new(&metadata).connect::<RabbitMq>().unwrap().source {
        RabbitMq::Amqp { broker, .. } => {
            let text = format!("{broker:?}");
            assert!(!text.contains("hunter2"), "{text}");
            let part = |name: &str| {
                let rest = text.split(&format!("{name}: ")).nth(1).unwrap();
                rest.split([',', ' ']).next().unwrap().trim_matches('"').to_owned()
            };
            (part("host"), part("port").parse().unwrap(), part("vhost"), part("user"), String::new())
        }
        RabbitMq::Http(_) => panic!("{host} is AMQP"),
    }
}

#[test]
fn the_metric_is_named_after_the_queue() {
    assert_eq!(metric_name::<RabbitMq>(&[QUEUE, AMQP]), "s0-rabbitmq-jobs-2Fnew+a");
    assert_eq!(metric_name::<RabbitMq>(&[QUEUE, HTTP]), "s0-rabbitmq-jobs-2Fnew+a");
}

#[test]
fn an_address_says_where_and_who() {
    let at = |host: &str| {
        let (host, port, vhost, user, _) = place(host, &[]);
        format!("{user} {host} {port} {vhost}")
    };
    assert_eq!(at("amqp://u:hunter2@mq:5673/shop"), "u mq 5673 shop");
    assert_eq!(at("amqp://mq"), "guest mq 5672 /");
    assert_eq!(at("amqps://u%40x:p@mq/%2F"), "u@x mq 5671 /");
    assert_eq!(place("amqp://mq/a", &[("vhostName", "b")]).2, "b");
}

#[test]
fn a_target_is_a_mode_with_a_value_or_a_length() {
    let target = |more: &[(&str, &str)]| {
        let metadata = [&[QUEUE, HTTP], more].concat();
        Trigger::new(&metadata).connect::<RabbitMq>().unwrap().target.milli.to_string()
    };
    assert_eq!(target(&[]), "20");
    assert_eq!(target(&[("queueLength", "7")]), "7");
    assert_eq!(target(&[("mode", "MessageRate"), ("value", "2.5")]), "2.5");
    let wrong = |more: &[(&str, &str)]| refusal::<RabbitMq>(&[&[QUEUE, HTTP], more].concat());
    assert_eq!(wrong(&[("mode", "MessageRate")]), ["value"]);
    assert_eq!(wrong(&[("value", "3")]), ["mode"]);
    assert_eq!(wrong(&[("mode", "QueueLength"), ("value", "3"), ("queueLength", "3")]), ["queueLength", "queueLength"]);
    assert_eq!(wrong(&[("mode", "Length"), ("value", "3")]), ["mode"]);
}

#[test]
fn what_needs_the_management_api_says_so() {
    let wrong = |more: &[(&str, &str)]| refusal::<RabbitMq>(&[&[QUEUE, AMQP], more].concat());
    assert_eq!(wrong(&[("mode", "MessageRate"), ("value", "1")]), ["mode"]);
    assert_eq!(wrong(&[("useRegex", "true")]), ["useRegex"]);
    assert_eq!(wrong(&[("excludeUnacknowledged", "true")]), ["excludeUnacknowledged"]);
    assert_eq!(wrong(&[("timeout", "1s")]), ["timeout"]);
    assert_eq!(wrong(&[("protocol", "http")]), ["host"]);
    assert_eq!(refusal::<RabbitMq>(&[QUEUE, HTTP, ("protocol", "amqp")]), ["host"]);
    assert_eq!(refusal::<RabbitMq>(&[QUEUE, ("host", "mq:5672")]), ["host"]);
    assert_eq!(refusal::<RabbitMq>(&[]), ["host", "queueName"]);
}

#[tokio::test]
async fn all_pages_of_queues_count() {
    let page = |messages: u32| ok(&format!(r#"{{"page_count": 2, "items": [{{"messages": {messages}}}]}}"#));
    let (address, served) = serve(vec![page(3), page(4)]).await;
    let host = address.replace("http://", "http://u:hunter2@") + "/sub/sh%2Fop";
    let metadata = [QUEUE, ("host", host.as_str()), ("useRegex", "true"), ("pageSize", "1")];
    let sampled = Trigger::new(&metadata).sample::<RabbitMq>().await.unwrap();
    assert_eq!(sampled.value.thousandths(), 7_000);
    let asked = served.await.unwrap();
    assert!(asked[0].starts_with("GET /sub/api/queues/sh%2Fop?use_regex=true&"), "{}", asked[0]);
    assert!(asked[0].contains("name=jobs%2Fnew+a") && asked[1].contains("page=2"), "{asked:?}");
}
