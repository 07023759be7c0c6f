//! `nats-jetstream` against real servers: one, and a cluster of three.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scalers::Scaler;
use serde_json::{Value, json};
use testkit::children::{Child, Folder};
use testkit::eventually::{eventually, when};
use testkit::ports;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Server, build, installed, read, until};

const SERVER: &str = "nats-server";

/// Longest wait for an answer. In a cluster without a leader nobody answers at all.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait for a leader.
const READY: Duration = Duration::from_mins(2);

/// A client, as far as the tests need one.
struct Client {
    address: String,
    stream: BufReader<TcpStream>,
}

impl Client {
    async fn connect(address: &str) -> Self {
        let stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        let mut client = Self { address: address.to_owned(), stream };
        client.line().await;
        client.send("CONNECT {\"verbose\":false}\r\nSUB reply 1\r\n").await;
        client
    }

    async fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        line
    }

    /// Publishes, and returns what is answered.
    async fn ask(&mut self, subject: &str, body: &str) -> Option<Value> {
        self.send(&format!("PUB {subject} reply {}\r\n{body}\r\n", body.len())).await;
        let answer = timeout(PATIENCE, self.answer()).await.ok();
        if answer.is_none() {
            // A late answer must not be taken for that of the next question.
            *self = Self::connect(&self.address).await;
        }
        answer
    }

    async fn answer(&mut self) -> Value {
        loop {
            let line = self.line().await;
            if line.starts_with("PING") {
                self.send("PONG\r\n").await;
            } else if line.starts_with("MSG") {
                let size: usize = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
                let mut bytes = vec![0; size + 2];
                self.stream.read_exact(&mut bytes).await.unwrap();
                return serde_json::from_slice(&bytes[..size]).unwrap_or_default();
            } else {
                assert!(!line.starts_with("-ERR") && !line.is_empty(), "{line}");
            }
        }
    }

    /// A call of JetStream's API, repeated until the cluster has a leader.
    async fn call(&mut self, action: &str, question: &Value) {
        let (subject, question) = (format!("$JS.API.{action}"), question.to_string());
        let started = Instant::now();
        loop {
            let answer = self.ask(&subject, &question).await;
            if let Some(answer) = &answer {
                if answer["error"].is_null() {
                    return;
                }
                let code = answer["error"]["code"].as_u64();
                assert!(matches!(code, Some(503 | 500)), "{action}: {answer}");
            }
            assert!(started.elapsed() < READY, "{action} is not done: {answer:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn orders(&mut self, replicas: u32, messages: u32) {
        let stream = json!({"name": "orders", "subjects": ["orders.>"], "num_replicas": replicas, "storage": "memory"});
        self.call("STREAM.CREATE.orders", &stream).await;
        let consumer = json!({"stream_name": "orders", "config": {"durable_name": "work", "ack_policy": "explicit"}});
        self.call("CONSUMER.DURABLE.CREATE.orders.work", &consumer).await;
        for _ in 0..messages {
            let stored = self.ask("orders.new", "x").await.expect("the stream has a leader");
            assert!(stored["seq"].is_u64(), "{stored}");
        }
    }
}

fn scaler(endpoint: &str, consumer: &str) -> Arc<dyn Scaler> {
    let metadata = [
        ("natsServerMonitoringEndpoint", endpoint),
        ("account", "$G"),
        ("stream", "orders"),
        ("consumer", consumer),
        ("activationLagThreshold", "2"),
    ];
    build("nats-jetstream", &metadata, &[])
}

#[tokio::test]
async fn what_waits_and_what_is_not_acknowledged_counts() {
    let Some(program) = installed(SERVER, SERVER) else { return };
    let monitoring = ports::free().unwrap();
    let server = Server::start(&program, |folder: &Path, port| {
        let text = |text: &dyn std::fmt::Display| text.to_string();
        let store = text(&folder.join("store").display());
        ["-a", "127.0.0.1", "-js", "-sd", &store, "-p", &text(&port), "-m", &text(&monitoring)]
            .map(str::to_owned)
            .into()
    })
    .await
    .unwrap();
    let mut client = Client::connect(&server.address()).await;
    client.orders(1, 3).await;
    let endpoint = format!("127.0.0.1:{monitoring}");
    let own = scaler(&format!("127.0.0.1:{},{endpoint}", ports::free().unwrap()), "work");
    assert_eq!(read(&own).await, Ok((3_000, true)));
    // One is given out and not acknowledged; it still counts.
    client.ask("$JS.API.CONSUMER.MSG.NEXT.orders.work", "1").await;
    assert_eq!(read(&own).await, Ok((3_000, true)));
    assert!(read(&scaler(&endpoint, "nobody")).await.unwrap_err().contains("no server leads a consumer \"nobody\""));
    drop(server);
    assert!(read(&own).await.unwrap_err().contains("not available"));
}

#[tokio::test]
async fn in_a_cluster_the_consumers_leader_is_asked() {
    let Some(program) = installed(SERVER, SERVER) else { return };
    let folder = Folder::new().unwrap();
    let [clients, monitoring, routes] = [(); 3].map(|()| ports::free().unwrap());
    // Loopback has room for a cluster whose servers listen on the same ports, as pods do.
    let host = |n: usize| format!("127.0.0.{}", n + 1);
    let all: Vec<String> = (0..3).map(|n| format!("nats-route://{}:{routes}", host(n))).collect();
    let start = |n: usize| {
        let config = folder.path().join(format!("{n}.conf"));
        let text = format!(
            "server_name: n{n}\nlisten: {0}:{clients}\nhttp: {0}:{monitoring}\njetstream {{ store_dir: \"{1}\" }}\n\
             cluster {{ name: test, listen: {0}:{routes}, routes: [{2}] }}\n",
            host(n),
            folder.path().join(format!("store{n}")).display(),
            all.join(", ")
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(&program);
        command.arg("-c").arg(config);
        Child::start(SERVER, command, &folder.path().join(format!("{n}.log"))).unwrap()
    };
    let _servers: Vec<Child> = (0..3).map(start).collect();
    for n in 0..3 {
        wait(&format!("{}:{clients}", host(n))).await;
    }
    let mut client = Client::connect(&format!("{}:{clients}", host(0))).await;
    client.orders(3, 5).await;
    for n in 0..3 {
        let endpoint = format!("{}:{monitoring}", host(n));
        let own = scaler(&endpoint, "work");
        until(&own, (5_000, true)).await;
        assert_eq!(read(&own).await, Ok((5_000, true)), "the leader is remembered");
    }
}

async fn wait(address: &str) {
    eventually(format!("{address} to listen"), Duration::from_mins(1), || async {
        Ok(when(TcpStream::connect(address).await.is_ok(), ()))
    })
    .await
    .unwrap();
}
