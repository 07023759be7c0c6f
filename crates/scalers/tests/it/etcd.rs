//! `etcd` against the real etcd.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use testkit::{binaries, ports};

use crate::support::{Server, build, read};

async fn start() -> Server {
    let programs = tokio::task::spawn_blocking(binaries::control_plane).await.unwrap().unwrap();
    let peers = format!("http://127.0.0.1:{}", ports::free().unwrap());
    Server::start(&programs.etcd, |folder: &Path, port| {
        let clients = format!("http://127.0.0.1:{port}");
        vec![
            format!("--data-dir={}", folder.join("data").display()),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
            "--unsafe-no-fsync".into(),
            "--log-level=error".into(),
        ]
    })
    .await
    .unwrap()
}

async fn call(server: &Server, path: &str, question: Value) {
    let url = format!("http://{}/v3/{path}", server.address());
    let answer = reqwest::Client::new().post(url).json(&question).send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
}

async fn put(server: &Server, text: &str) {
    call(server, "kv/put", json!({"key": BASE64.encode("jobs"), "value": BASE64.encode(text)})).await;
}

#[tokio::test]
async fn the_number_under_a_key_is_read() {
    let server = start().await;
    let dead = format!("127.0.0.1:{}", ports::free().unwrap());
    let endpoints = format!("{dead},{}", server.address());
    let scaler = build("etcd", &[("endpoints", &endpoints), ("watchKey", "jobs"), ("value", "5")], &[]);
    assert_eq!(read(&scaler).await, Err("there is no key \"jobs\"".into()));
    put(&server, "12.5").await;
    assert_eq!(read(&scaler).await, Ok((12_500, true)));
    put(&server, "0").await;
    assert_eq!(read(&scaler).await, Ok((0, false)));
    put(&server, "many").await;
    assert!(read(&scaler).await.unwrap_err().contains("no usable number"));
}

#[tokio::test]
async fn a_cluster_that_asks_for_a_password_gets_it() {
    let server = start().await;
    put(&server, "7").await;
    call(&server, "auth/role/add", json!({"name": "root"})).await;
    call(&server, "auth/user/add", json!({"name": "root", "password": "hunter2"})).await;
    call(&server, "auth/user/grant", json!({"user": "root", "role": "root"})).await;
    call(&server, "auth/enable", json!({})).await;
    let address = server.address();
    let metadata = [("endpoints", address.as_str()), ("watchKey", "jobs"), ("value", "5")];
    let known = build("etcd", &metadata, &[("username", "root"), ("password", "hunter2")]);
    assert_eq!(read(&known).await, Ok((7_000, true)));
    for auth in [vec![], vec![("username", "root"), ("password", "wrong")]] {
        let text = read(&build("etcd", &metadata, &auth)).await.unwrap_err();
        assert!(!text.contains("hunter2") && !text.contains("no key"), "{text}");
    }
}
