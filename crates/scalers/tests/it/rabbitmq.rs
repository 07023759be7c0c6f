//! `rabbitmq` against the real server, over AMQP and HTTP.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use testkit::children::Child;
use testkit::eventually::{eventually, when};
use testkit::pki::Authority;
use testkit::ports;

use crate::support::{Server, build, build_in, installed_in, program, read, read_all, until};

struct Rabbit {
    server: Server,
    /// Erlang's name server, which would otherwise be started as a daemon and stay.
    _names: Child,
    management: u16,
    tls: u16,
    /// In PEM.
    authority: String,
}

/// `None`: there is no RabbitMQ here, which has been said.
async fn start() -> Option<Rabbit> {
    // The one in `PATH` insists on being root, to become another user.
    let program = installed_in("rabbitmq-server", "rabbitmq-server", &[])
        .map(|_| PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server"))?;
    let epmd = installed_in("epmd", "rabbitmq-server", &["/usr/bin"])?;
    let [names_port, distribution, management, tls] = [(); 4].map(|()| ports::free().unwrap());
    let (mut names, mut authority) = (None, String::new());
    let server = Server::start(Path::new("/usr/bin/env"), |folder: &Path, port| {
        let mut command = Command::new(epmd);
        command.args(["-address", "127.0.0.1", "-port", &names_port.to_string()]);
        names = Some(Child::start("epmd", command, &folder.join("epmd.log")).unwrap());
        let issuer = Authority::new("test", folder).unwrap();
        let issued = issuer.server("localhost", &["127.0.0.1", "localhost"]).unwrap();
        let (certificate, key) = issued.write(folder, "server").unwrap();
        issuer.pem().clone_into(&mut authority);
        let config = folder.join("rabbitmq.conf");
        let text = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nlisteners.ssl.1 = 127.0.0.1:{tls}\nmanagement.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {management}\ndefault_user = keda\ndefault_pass = hunter2\n\
             ssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n\
             collect_statistics_interval = 1000\n",
            issuer.certificate.display(),
            certificate.display(),
            key.display()
        );
        std::fs::write(&config, text).unwrap();
        let plugins = folder.join("enabled_plugins");
        std::fs::write(&plugins, "[rabbitmq_management].\n").unwrap();
        let at = |name: &str, value: &dyn std::fmt::Display| format!("{name}={value}");
        vec![
            at("HOME", &folder.display()),
            at("ERL_EPMD_PORT", &names_port),
            at("RABBITMQ_NODENAME", &format!("tandem{port}@localhost")),
            at("RABBITMQ_DIST_PORT", &distribution),
            at("RABBITMQ_CONFIG_FILE", &config.display()),
            at("RABBITMQ_CONF_ENV_FILE", &folder.join("none").display()),
            at("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins.display()),
            at("RABBITMQ_MNESIA_BASE", &folder.join("data").display()),
            at("RABBITMQ_LOG_BASE", &folder.join("logs").display()),
            program.display().to_string(),
        ]
    })
    .await
    .unwrap();
    let rabbit = Rabbit { server, _names: names.unwrap(), management, tls, authority };
    let _ = eventually("the management API to answer", Duration::from_mins(2), || async {
        let answer = rabbit.call(reqwest::Method::GET, "overview", None).await;
        Ok(when(answer.as_ref().is_ok_and(|status| *status == 200), answer.map_err(|error| error.to_string())))
    })
    .await
    .unwrap();
    Some(rabbit)
}

impl Rabbit {
    /// Connections of its clients.
    async fn connections(&self) -> anyhow::Result<usize> {
        let url = format!("http://127.0.0.1:{}/api/connections", self.management);
        let answer = reqwest::Client::new().get(url).basic_auth("keda", Some("hunter2")).send().await?;
        Ok(answer.json::<Vec<serde_json::Value>>().await?.len())
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<serde_json::Value>) -> reqwest::Result<u16> {
        let url = format!("http://127.0.0.1:{}/api/{path}", self.management);
        let request = reqwest::Client::new().request(method, url).basic_auth("keda", Some("hunter2"));
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        Ok(request.send().await?.status().as_u16())
    }

    async fn queue(&self, vhost: &str, name: &str, messages: u32) {
        use reqwest::Method;
        assert!(self.call(Method::PUT, &format!("queues/{vhost}/{name}"), Some(json!({}))).await.unwrap() < 300);
        for _ in 0..messages {
            let message = json!({"properties": {}, "routing_key": name, "payload": "x", "payload_encoding": "string"});
            let path = format!("exchanges/{vhost}/amq.default/publish");
            assert_eq!(self.call(Method::POST, &path, Some(message)).await.unwrap(), 200);
        }
    }

    fn amqp(&self, password: &str, vhost: &str) -> String {
        format!("amqp://keda:{password}@{}{vhost}", self.server.address())
    }

    fn http(&self, vhost: &str) -> String {
        format!("http://keda:hunter2@127.0.0.1:{}{vhost}", self.management)
    }
}

#[tokio::test]
async fn a_queue_is_measured_over_amqp_and_http() {
    let Some(rabbit) = start().await else { return };
    rabbit.call(reqwest::Method::PUT, "vhosts/shop", None).await.unwrap();
    let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
    rabbit.call(reqwest::Method::PUT, "permissions/shop/keda", Some(everything)).await.unwrap();
    rabbit.queue("%2F", "jobs", 3).await;
    rabbit.queue("%2F", "job-more", 2).await;
    rabbit.queue("shop", "jobs", 1).await;

    let amqp = |host: &str, more: &[(&str, &str)]| {
        build("rabbitmq", &[&[("host", host), ("queueName", "jobs")], more].concat(), &[])
    };
    let own = amqp(&rabbit.amqp("hunter2", ""), &[]);
    for _ in 0..3 {
        assert_eq!(read(&own).await, Ok((3_000, true)));
    }
    assert_eq!(read(&amqp(&rabbit.amqp("hunter2", "/%2F"), &[("activationValue", "3")])).await, Ok((3_000, false)));
    assert_eq!(read(&amqp(&rabbit.amqp("hunter2", "/shop"), &[])).await, Ok((1_000, true)));
    assert_eq!(read(&amqp(&rabbit.amqp("hunter2", ""), &[("vhostName", "shop")])).await, Ok((1_000, true)));
    let missing = build("rabbitmq", &[("host", &rabbit.amqp("hunter2", "")), ("queueName", "nothing")], &[]);
    assert!(read(&missing).await.unwrap_err().contains("no queue 'nothing'"));
    let refused = read(&amqp(&rabbit.amqp("secret", ""), &[])).await.unwrap_err();
    assert!(refused.contains("refuses us") && !refused.contains("secret"), "{refused}");
    let nowhere = read(&amqp(&rabbit.amqp("hunter2", "/nowhere"), &[])).await.unwrap_err();
    assert!(nowhere.contains("refuses the question"), "{nowhere}");

    let http = |more: &[(&str, &str)]| build("rabbitmq", &[&[("host", rabbit.http("/").as_str())], more].concat(), &[]);
    until(&http(&[("queueName", "jobs")]), (3_000, true)).await;
    until(&http(&[("queueName", "jobs"), ("vhostName", "shop")]), (1_000, true)).await;
    until(&http(&[("queueName", "jobs"), ("excludeUnacknowledged", "true")]), (3_000, true)).await;
    for (operation, wanted) in [("sum", 5_000), ("max", 3_000), ("avg", 2_500)] {
        let more = [("queueName", "^job"), ("useRegex", "true"), ("pageSize", "1"), ("operation", operation)];
        until(&http(&more), (wanted, true)).await;
    }
    assert_eq!(read(&http(&[("queueName", "^none$"), ("useRegex", "true")])).await, Ok((0, false)));
    // No consumer: nothing is delivered, and the messages that are there make it active.
    let ratio = [("queueName", "jobs"), ("mode", "ExpectedQueueConsumptionTime"), ("value", "2")];
    until(&http(&ratio), (0, true)).await;
    assert!(read(&http(&[("queueName", "nothing")])).await.unwrap_err().contains("HTTP 404"));
    let host = rabbit.http("/").replace("hunter2", "secret");
    let refused = read(&build("rabbitmq", &[("host", &host), ("queueName", "jobs")], &[])).await.unwrap_err();
    assert!(refused.contains("HTTP 401") && !refused.contains("secret"), "{refused}");
}

#[tokio::test]
async fn the_servers_certificate_is_verified() {
    let Some(rabbit) = start().await else { return };
    rabbit.queue("%2F", "jobs", 1).await;
    fifty_triggers_share_few_connections(&rabbit).await;
    let host = format!("amqps://keda:hunter2@127.0.0.1:{}", rabbit.tls);
    let metadata = [("host", host.as_str()), ("queueName", "jobs")];
    let known = build("rabbitmq", &metadata, &[("tls", "enable"), ("ca", &rabbit.authority)]);
    assert_eq!(read(&known).await, Ok((1_000, true)));
    let unknown = read(&build("rabbitmq", &metadata, &[])).await.unwrap_err();
    assert!(unknown.contains("not available") && !unknown.contains("hunter2"), "{unknown}");
    let unsafe_ssl = [&metadata[..], &[("unsafeSsl", "true")]].concat();
    assert_eq!(read(&build("rabbitmq", &unsafe_ssl, &[])).await, Ok((1_000, true)));
    drop(rabbit);
    assert!(read(&known).await.unwrap_err().contains("not available"));
}

async fn fifty_triggers_share_few_connections(rabbit: &Rabbit) {
    let (http, host) = (program(), rabbit.amqp("hunter2", ""));
    let metadata = [("host", host.as_str()), ("queueName", "jobs")];
    let scalers: Vec<_> = (0..50).map(|_| build_in(&http, "rabbitmq", &metadata, &[])).collect();
    for _ in 0..2 {
        assert!(read_all(&scalers).await.iter().all(|answer| *answer == Ok((1_000, true))));
    }
    let _ = eventually("four connections to be left", Duration::from_mins(2), || async {
        let connections = rabbit.connections().await?;
        Ok(when(connections == 4, connections))
    })
    .await
    .unwrap();
    for log in std::fs::read_dir(rabbit.server.folder().join("logs")).unwrap() {
        let log = std::fs::read_to_string(log.unwrap().path()).unwrap();
        assert!(!log.contains("unexpectedly closed"), "the others said goodbye: {log}");
    }
}
