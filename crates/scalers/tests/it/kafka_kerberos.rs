//! `kafka` with `gssapi`: a real broker that asks for Kerberos, and MIT's KDC.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use scalers::{Http, Scaler, ScalerError};

use crate::kafka::{Programs, programs};
use crate::support::{Server, build_in, installed_in, prepare, program, read, sample, until};
use testkit::ports;

const REALM: &str = "TANDEM.TEST";

/// A KDC that knows the broker on `localhost`, the user `keda` with a password, and some with keytabs.
struct Kdc {
    _server: Server,
    folder: PathBuf,
    conf: String,
}

/// `None`: there is no KDC here, which has been said.
async fn kdc() -> Option<Kdc> {
    let found = |program, package| installed_in(program, package, &["/usr/sbin"]);
    let kdc = found("krb5kdc", "krb5-kdc")?;
    let database = found("kdb5_util", "krb5-kdc")?;
    let admin = found("kadmin.local", "krb5-admin-server")?;
    let (mut path, mut conf) = (PathBuf::new(), String::new());
    // `env` becomes the KDC, which reads where its files are from its environment.
    let server = Server::start(Path::new("/usr/bin/env"), |folder: &Path, port| {
        let here = folder.display();
        conf = format!(
            "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n \
             udp_preference_limit = 1\n[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
        );
        let settings = format!(
            "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n \
             {REALM} = {{\n  database_name = {here}/principal\n  key_stash_file = {here}/stash\n  \
             acl_file = {here}/acl\n  default_principal_flags = +preauth\n }}\n[logging]\n kdc = FILE:{here}/kdc.log\n"
        );
        std::fs::write(folder.join("krb5.conf"), &conf).unwrap();
        std::fs::write(folder.join("kdc.conf"), settings).unwrap();
        let environment = ["CONFIG=krb5.conf", "KDC_PROFILE=kdc.conf"].map(|pair| format!("KRB5_{pair}"));
        let run = |program: &Path, arguments: &str| {
            let mut command = Command::new("/usr/bin/env");
            command.args(&environment).arg(program).args(arguments.split(' ')).current_dir(folder);
            prepare(&mut command);
        };
        run(&database, &format!("create -r {REALM} -s -P master"));
        for line in [
            // For it, nobody need have shown the KDC that they know a key.
            "addprinc -randkey -requires_preauth kafka/localhost",
            "ktadd -k broker.keytab kafka/localhost",
            "addprinc -pw hunter2 keda",
            "addprinc -pw hunter2 -requires_preauth trusted",
            "addprinc -pw hunter2 -e aes256-cts-hmac-sha384-192:normal modern",
            "addprinc -randkey -e aes128-cts-hmac-sha1-96:normal,aes128-cts-hmac-sha256-128:normal robot",
            "ktadd -k robot.keytab robot",
            "addprinc -pw hunter2 locked",
            "modprinc -allow_tix locked",
        ] {
            run(&admin, line);
        }
        path = folder.to_path_buf();
        let program = kdc.display().to_string();
        [&environment[..], &[program, "-n".into(), "-P".into(), "pid".into()]].concat()
    })
    .await
    .unwrap();
    Some(Kdc { _server: server, folder: path, conf })
}

/// A broker that lets in who has a ticket for it.
struct Broker {
    server: Server,
    /// Port for Kerberos.
    port: u16,
    programs: Programs,
    /// All triggers are in one program, so those with the same login share connections and tickets.
    http: Arc<Http>,
}

async fn broker(programs: Programs, kdc: &Kdc) -> Broker {
    let [controller, port] = [(); 2].map(|()| ports::free().unwrap());
    let server = Server::start(&programs.java, |folder: &Path, plain| {
        let module = "com.sun.security.auth.module.Krb5LoginModule";
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAIN://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},TICKET://127.0.0.1:{port}\n\
             advertised.listeners=PLAIN://127.0.0.1:{plain},TICKET://localhost:{port}\n\
             listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT,TICKET:SASL_PLAINTEXT\n\
             inter.broker.listener.name=PLAIN\ncontroller.listener.names=CONTROLLER\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\ngroup.initial.rebalance.delay.ms=0\n\
             sasl.enabled.mechanisms=GSSAPI\nlistener.name.ticket.sasl.kerberos.service.name=kafka\n\
             listener.name.ticket.gssapi.sasl.jaas.config={module} required useKeyTab=true storeKey=true \
             keyTab=\"{}\" principal=\"kafka/localhost@{REALM}\";\n",
            folder.join("data").display(),
            kdc.folder.join("broker.keytab").display(),
        );
        let config = folder.join("server.properties");
        std::fs::write(&config, text).unwrap();
        let kerberos = format!("-Djava.security.krb5.conf={}", kdc.folder.join("krb5.conf").display());
        // Java notes there which tickets it has seen.
        let notes = format!("-Djava.io.tmpdir={}", folder.display());
        programs.broker(&config, &[], &[&kerberos, &notes])
    })
    .await
    .unwrap();
    Broker { server, port, programs, http: program() }
}

impl Broker {
    fn scaler(&self, host: &str, auth: &[(&str, &str)]) -> Arc<dyn Scaler> {
        self.scaler_in(&self.http, host, auth)
    }

    fn scaler_in(&self, http: &Arc<Http>, host: &str, auth: &[(&str, &str)]) -> Arc<dyn Scaler> {
        let address = format!("{host}:{}", self.port);
        let metadata = [("bootstrapServers", address.as_str()), ("consumerGroup", "g"), ("topic", "orders")];
        build_in(http, "kafka", &metadata, &[&[("sasl", "gssapi")], auth].concat())
    }
}

#[tokio::test]
async fn a_broker_that_asks_for_kerberos_gets_a_ticket() {
    let Some(kdc) = kdc().await else { return };
    let Some(programs) = programs().await else { return };
    let broker = broker(programs, &kdc).await;
    for action in ["topic orders 1", "send orders 0 3", "commit g orders 0 1"] {
        broker.programs.act(&broker.server.address(), action).await;
    }
    let conf = ("kerberosConfig", kdc.conf.as_str());
    let user = |name, secret| [("username", name), secret, conf];
    let by_password = |name| user(name, ("password", "hunter2"));
    let own = broker.scaler("localhost", &by_password("keda"));
    until(&own, (2_000, true)).await;

    // With the newer keys, without pre-authentication, and with keys instead of a password.
    let keytab = BASE64.encode(std::fs::read(kdc.folder.join("robot.keytab")).unwrap());
    for auth in [by_password("modern"), by_password("trusted"), user("robot", ("keytab", &keytab))] {
        let name = auth[0].1;
        assert_eq!(read(&broker.scaler("localhost", &auth)).await, Ok((2_000, true)), "{name}");
    }

    // What the KDC refuses.
    let wrong = user("keda", ("password", "secret"));
    for (auth, wanted) in [
        (wrong, "the password of keda@TANDEM.TEST is not the one that the KDC has"),
        (by_password("nobody"), "the KDC knows no nobody@TANDEM.TEST"),
        (by_password("locked"), "locked@TANDEM.TEST is locked or revoked"),
    ] {
        let error = sample(&broker.scaler("localhost", &auth)).await.unwrap_err();
        let text = error.text();
        assert!(matches!(error, ScalerError::Unauthorized { .. }) && text.contains(wanted), "{text}");
        assert!(!text.contains("secret") && !text.contains("hunter2"), "{text}");
    }
    // The broker is `localhost` to the KDC.
    let error = sample(&broker.scaler("127.0.0.1", &by_password("keda"))).await.unwrap_err();
    assert!(matches!(error, ScalerError::Misconfigured { .. }), "{error}");
    assert!(error.text().contains("the KDC knows no kafka/127.0.0.1@TANDEM.TEST"), "{}", error.text());
    let other = [&by_password("keda")[..], &[("kerberosServiceName", "broker")]].concat();
    let error = read(&broker.scaler("localhost", &other)).await.unwrap_err();
    assert!(error.contains("the KDC knows no broker/localhost@TANDEM.TEST"), "{error}");

    // Without a KDC nothing is known to who has no ticket; who has one needs no KDC.
    let conf = kdc.conf.clone();
    drop(kdc);
    let auth = [("username", "keda"), ("password", "hunter2"), ("kerberosConfig", conf.as_str())];
    let gone = broker.scaler_in(&program(), "localhost", &auth);
    let error = sample(&gone).await.unwrap_err();
    assert!(matches!(error, ScalerError::Unavailable(_)), "{error}");
    assert!(error.text().contains("kdc 127.0.0.1:"), "{}", error.text());
    assert_eq!(read(&own).await, Ok((2_000, true)));
}
