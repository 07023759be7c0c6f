//! `prometheus` against the real Prometheus.

use std::time::Duration;

use testkit::children::Folder;
use testkit::eventually::{Seen, eventually, when};
use testkit::pki::Authority;
use testkit::prometheus::Prometheus;

use crate::support::{Server, build, read};

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

#[tokio::test]
async fn certificates_open_a_server_that_asks_for_them() {
    let program = tokio::task::spawn_blocking(testkit::binaries::prometheus).await.unwrap().unwrap();
    let mut pem = [const { String::new() }; 3];
    let server = Server::start(&program, |folder, port| {
        let authority = Authority::new("test", folder).unwrap();
        let ours = authority.client("tandem", &[]).unwrap();
        let (certificate, key) =
            authority.server("127.0.0.1", &["127.0.0.1"]).unwrap().write(folder, "server").unwrap();
        let web = folder.join("web.yml");
        let text = format!(
            "tls_server_config:\n  cert_file: {}\n  key_file: {}\n  client_auth_type: RequireAndVerifyClientCert\n  \
             client_ca_file: {}\n",
            certificate.display(),
            key.display(),
            authority.certificate.display()
        );
        std::fs::write(web.clone(), text).unwrap();
        std::fs::write(folder.join("prometheus.yml"), "global: {}\n").unwrap();
        pem = [authority.pem().to_owned(), ours.certificate, ours.key];
        vec![
            format!("--config.file={}", folder.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            format!("--web.config.file={}", web.display()),
        ]
    })
    .await
    .unwrap();
    let url = format!("https://{}", server.address());
    let metadata = [("serverAddress", url.as_str()), ("query", "vector(7)"), ("threshold", "1"), ("authModes", "tls")];
    let [ca, cert, key] = pem.each_ref().map(String::as_str);
    let known = build("prometheus", &metadata, &[("ca", ca), ("cert", cert), ("key", key)]);
    let _ = eventually("Prometheus to be ready", Duration::from_mins(1), || {
        let read = read(&known);
        async {
            let read = read.await;
            Ok(when(read == Ok((7_000, true)), read))
        }
    })
    .await
    .unwrap();
    let no_pair = build("prometheus", &metadata[..3], &[("ca", ca)]);
    assert!(read(&no_pair).await.unwrap_err().contains("not available"));
    let no_ca = build("prometheus", &metadata, &[("cert", cert), ("key", key)]);
    assert!(read(&no_ca).await.unwrap_err().contains("not available"));
}
