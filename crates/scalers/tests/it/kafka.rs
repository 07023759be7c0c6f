//! `kafka` against a real broker, in the clear and with TLS and SASL.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use scalers::{Http, Scaler};
use testkit::binaries;
use testkit::eventually::{eventually, when};
use testkit::pki::Authority;
use testkit::ports;

use crate::support::{Server, build_in, prepare, program, read};

struct Kafka {
    server: Server,
    /// Port for SASL in the clear.
    sasl: u16,
    /// Port for SASL with TLS.
    tls: u16,
    authority: String,
    programs: Programs,
    /// All triggers with the same login share connections.
    http: Arc<Http>,
}

/// What a broker is run with.
pub(crate) struct Programs {
    pub(crate) java: PathBuf,
    /// The broker's jars.
    libraries: PathBuf,
    python: PathBuf,
}

/// `None`: there is no Java or no broker here, which has been said.
pub(crate) async fn programs() -> Option<Programs> {
    let fetched = tokio::task::spawn_blocking(|| (binaries::kafka(), binaries::python_for_scalers())).await.unwrap();
    let libraries = match fetched.0 {
        Ok(libraries) => libraries,
        Err(error) => {
            eprintln!("skipped: no Kafka broker can be had from Maven Central: {error:#}");
            return None;
        }
    };
    let python = fetched.1.unwrap();
    let java = ["/usr/bin/java", "/usr/local/bin/java"].map(PathBuf::from).into_iter().find(|path| path.is_file());
    let (Some(libraries), Some(java)) = (libraries, java) else {
        eprintln!("skipped: there is no java with mvn; apt-get install maven makes this test run");
        return None;
    };
    Some(Programs { java, libraries, python })
}

impl Programs {
    /// Prepares the folder of a broker with this configuration, and says what to run Java with.
    pub(crate) fn broker(&self, config: &Path, format: &[&str], more: &[&str]) -> Vec<String> {
        let classes = format!("{}/*", self.libraries.display());
        let path = config.display().to_string();
        let mut storage = Command::new(&self.java);
        storage.args([
            "-Xmx128m",
            "-cp",
            &classes,
            "kafka.tools.StorageTool",
            "format",
            "-t",
            "dGFuZGVtLXRlc3QtMDAwMQ",
        ]);
        prepare(storage.args(["-c", &path]).args(format));
        let run = ["-Xmx320m", "-XX:TieredStopAtLevel=1", "-cp", &classes, "kafka.Kafka", &path];
        more.iter().chain(&run).map(|text| (*text).to_owned()).collect()
    }

    /// One action of `tests/scalers/kafka_client.py`.
    pub(crate) async fn act(&self, address: &str, action: &str) {
        let mut command = Command::new(&self.python);
        command.arg(binaries::workspace().join("tests/scalers/kafka_client.py")).arg(address);
        command.args(action.split(' ')).env("PYTHONDONTWRITEBYTECODE", "1");
        tokio::task::spawn_blocking(move || prepare(&mut command)).await.unwrap();
    }
}

/// `None`: there is no Java or no broker here, which has been said.
async fn start() -> Option<Kafka> {
    let programs = programs().await?;
    let [controller, sasl, tls] = [(); 3].map(|()| ports::free().unwrap());
    let mut authority = String::new();
    let server = Server::start(&programs.java, |folder: &Path, port| {
        let issuer = Authority::new("test", folder).unwrap();
        issuer.pem().clone_into(&mut authority);
        let issued = issuer.server("localhost", &["127.0.0.1"]).unwrap();
        let store = folder.join("keystore.pem");
        std::fs::write(&store, format!("{}{}", issued.key, issued.certificate)).unwrap();
        let config = folder.join("server.properties");
        std::fs::write(&config, properties(folder, [port, controller, sasl, tls], &store)).unwrap();
        let scram = ["256", "512"].map(|hash| format!("--add-scram=SCRAM-SHA-{hash}=[name=keda,password=hunter2]"));
        programs.broker(&config, &[&scram[0], &scram[1]], &[])
    })
    .await
    .unwrap();
    Some(Kafka { server, sasl, tls, authority, programs, http: program() })
}

fn properties(folder: &Path, [plain, controller, sasl, tls]: [u16; 4], store: &Path) -> String {
    let mut text = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAIN://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},LOGIN://127.0.0.1:{sasl},SAFE://127.0.0.1:{tls}\n\
         listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT,SAFE:SASL_SSL\n\
         inter.broker.listener.name=PLAIN\ncontroller.listener.names=CONTROLLER\nlog.dirs={}\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\ngroup.initial.rebalance.delay.ms=0\n\
         auto.create.topics.enable=true\nsasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
         ssl.keystore.type=PEM\nssl.keystore.location={}\n",
        folder.join("data").display(),
        store.display()
    );
    let module = "org.apache.kafka.common.security";
    for listener in ["login", "safe"] {
        for (mechanism, class) in [
            ("plain", "plain.PlainLoginModule required user_keda=\"hunter2\""),
            ("scram-sha-256", "scram.ScramLoginModule required"),
            ("scram-sha-512", "scram.ScramLoginModule required"),
        ] {
            let _ = writeln!(text, "listener.name.{listener}.{mechanism}.sasl.jaas.config={module}.{class};");
        }
    }
    text
}

impl Kafka {
    async fn act(&self, action: &str) {
        self.programs.act(&self.server.address(), action).await;
    }

    fn scaler(&self, more: &[(&str, &str)]) -> Arc<dyn Scaler> {
        let address = self.server.address();
        let metadata = [&[("bootstrapServers", address.as_str()), ("consumerGroup", "g")], more].concat();
        build_in(&self.http, "kafka", &metadata, &[])
    }

    /// Until the broker has a coordinator and leaders for what was made just now.
    async fn until(&self, more: &[(&str, &str)], wanted: (i64, bool)) {
        let scaler = self.scaler(more);
        let _ = eventually(format!("{more:?} to be {wanted:?}"), Duration::from_mins(2), || async {
            let read = read(&scaler).await;
            Ok(when(read == Ok(wanted), read))
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_groups_lag_is_what_the_broker_has_and_it_has_not_committed() {
    let Some(kafka) = start().await else { return };
    kafka.act("topic orders 4").await;
    kafka.act("send orders 0 30").await;
    kafka.act("send orders 1 7").await;
    let topic = ("topic", "orders");
    // Nothing is committed: one message for each partition, or the whole log.
    kafka.until(&[topic], (4_000, true)).await;
    kafka.until(&[topic, ("offsetResetPolicy", "earliest")], (37_000, true)).await;
    kafka.until(&[topic, ("scaleToZeroOnInvalidOffset", "true")], (0, false)).await;
    assert!(read(&kafka.scaler(&[])).await.unwrap_err().contains("has committed no offset"));
    kafka.act("commit g orders 0 10").await;
    kafka.act("commit g orders 1 7").await;
    kafka.until(&[topic], (22_000, true)).await;
    kafka.until(&[topic, ("partitionLimitation", "0-1")], (20_000, true)).await;
    kafka.until(&[topic, ("partitionLimitation", "1")], (0, false)).await;
    kafka.until(&[topic, ("partitionLimitation", "0,1"), ("activationLagThreshold", "20")], (20_000, false)).await;
    // Four partitions, of which one lags beyond what a replica should have.
    kafka.until(&[topic, ("lagThreshold", "1")], (4_000, true)).await;
    kafka.until(&[topic, ("lagThreshold", "1"), ("allowIdleConsumers", "true")], (22_000, true)).await;
    kafka.until(&[topic, ("lagThreshold", "1"), ("limitToPartitionsWithLag", "true")], (3_000, true)).await;
    kafka.until(&[topic, ("lagThreshold", "8"), ("ensureEvenDistributionOfPartitions", "true")], (32_000, true)).await;
    // The topics in which the group has committed something, with all their partitions.
    kafka.until(&[], (22_000, true)).await;
    let stuck = kafka.scaler(&[
        topic,
        ("partitionLimitation", "0"),
        ("excludePersistentLag", "true"),
        ("allowIdleConsumers", "true"),
    ]);
    assert_eq!(read(&stuck).await, Ok((20_000, true)));
    assert_eq!(read(&stuck).await, Ok((0, true)));
    // Asking for a topic does not make it.
    for _ in 0..2 {
        let missing = read(&kafka.scaler(&[("topic", "nothing")])).await.unwrap_err();
        assert!(missing.contains("\"nothing\": does not exist"), "{missing}");
    }
    let own = kafka.scaler(&[topic]);
    assert!(read(&own).await.is_ok());
    drop(kafka);
    assert!(read(&own).await.unwrap_err().contains("not available"));
}

#[tokio::test]
async fn a_broker_that_asks_for_a_login_and_tls_gets_both() {
    let Some(kafka) = start().await else { return };
    kafka.act("topic orders 1").await;
    kafka.act("send orders 0 3").await;
    kafka.act("commit g orders 0 1").await;
    kafka.until(&[("topic", "orders")], (2_000, true)).await;
    let scaler = |port: u16, auth: &[(&str, &str)], more: &[(&str, &str)]| {
        let address = format!("127.0.0.1:{port}");
        let metadata = [("bootstrapServers", address.as_str()), ("consumerGroup", "g"), ("topic", "orders")];
        build_in(&kafka.http, "kafka", &[&metadata[..], more].concat(), auth)
    };
    let login = |mechanism, password| [("sasl", mechanism), ("username", "keda"), ("password", password)];
    for mechanism in ["plaintext", "scram_sha256", "scram_sha512"] {
        let own = scaler(kafka.sasl, &login(mechanism, "hunter2"), &[]);
        assert_eq!(read(&own).await, Ok((2_000, true)), "{mechanism}");
        let refused = read(&scaler(kafka.sasl, &login(mechanism, "secret"), &[])).await.unwrap_err();
        assert!(refused.contains("refuses us") && !refused.contains("secret"), "{mechanism}: {refused}");
    }
    let nobody = read(&scaler(kafka.sasl, &[], &[])).await.unwrap_err();
    assert!(nobody.contains("not available"), "{nobody}");
    let [sasl, username, password] = login("scram_sha512", "hunter2");
    let known = [sasl, username, password, ("tls", "enable"), ("ca", kafka.authority.as_str())];
    assert_eq!(read(&scaler(kafka.tls, &known, &[])).await, Ok((2_000, true)));
    let unknown = read(&scaler(kafka.tls, &known[..4], &[])).await.unwrap_err();
    assert!(unknown.contains("not available") && !unknown.contains("hunter2"), "{unknown}");
    assert_eq!(read(&scaler(kafka.tls, &known[..4], &[("unsafeSsl", "true")])).await, Ok((2_000, true)));
}
