//! `prometheus` against the real Prometheus.

use std::time::Duration;

use testkit::children::Folder;
use testkit::eventually::{Seen, eventually};
use testkit::prometheus::Prometheus;

use crate::support::{build, read};

#[tokio::test]
async fn a_query_gives_the_number_that_prometheus_has() {
    let folder = Folder::new().unwrap();
    let server = Prometheus::start(folder.path(), &[]).await.unwrap();
    let scaler = |query: &str, more: &[(&str, &str)]| {
        let metadata = [("serverAddress", server.url()), ("query", query), ("threshold", "1")];
        build("prometheus", &[&metadata[..], more].concat(), &[])
    };
    assert_eq!(read(&scaler("vector(12.5)", &[])).await, Ok((12_500, true)));
    assert_eq!(read(&scaler("scalar(vector(3))", &[("activationThreshold", "3")])).await, Ok((3_000, false)));
    assert_eq!(read(&scaler("vector(1) > 2", &[])).await, Ok((0, false)));
    let text = |query: &'static str, more: &'static [(&str, &str)]| {
        let scaler = scaler(query, more);
        async move { read(&scaler).await.unwrap_err() }
    };
    assert!(text("vector(1) > 2", &[("ignoreNullValues", "false")]).await.contains("no series"));
    assert!(text("vector(0) / 0", &[]).await.contains("not finite"));
    assert!(text("vector(1) / 0", &[]).await.contains("not finite"));
    assert!(text("sum(", &[]).await.contains("parse error"));
    assert!(text("vector(1)[5m:1m]", &[]).await.contains("range of samples"));
    // Unknown is not zero: when the server has gone, nothing is known.
    let gone = scaler("vector(1)", &[]);
    drop(server);
    eventually("the server to be missed", Duration::from_mins(1), || {
        let read = read(&gone);
        async { Ok(read.await.map_or_else(|_| Seen::Done(()), |value| Seen::NotYet(format!("{value:?}")))) }
    })
    .await
    .unwrap();
}
