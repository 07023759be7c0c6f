//! `external` and `external-push` against a server that Google's own tools made from the .proto (Python).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use scalers::{Authentication, HTTP_TIMEOUT, Http, Identity, MetricSpec, Scaler, ScalerError, TriggerContext};
use scaling::Target;
use testkit::binaries;
use testkit::children::{Child, Folder};
use testkit::eventually::{eventually, when};
use testkit::pki::Authority;
use testkit::ports;
use tokio::net::TcpStream;

/// A plug-in that can be ended and started again on the same port.
struct Plugin {
    python: PathBuf,
    folder: Folder,
    port: u16,
    child: Option<Child>,
}

impl Plugin {
    async fn start(tls: &[String]) -> Self {
        let python = tokio::task::spawn_blocking(binaries::python_for_scalers).await.unwrap().unwrap();
        let mut plugin = Self { python, folder: Folder::new().unwrap(), port: ports::free().unwrap(), child: None };
        plugin.run(tls).await;
        plugin
    }

    async fn run(&mut self, tls: &[String]) {
        let workspace = binaries::workspace();
        let mut command = Command::new(&self.python);
        command.arg(workspace.join("tests/scalers/plugin.py")).args(["--port", &self.port.to_string()]);
        command.arg("--proto").arg(workspace.join("crates/scalers/proto/externalscaler.proto")).args(tls);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        self.child = Some(Child::start("plug-in", command, &self.folder.path().join("log")).unwrap());
        let port = self.port;
        eventually("the plug-in to listen", Duration::from_mins(2), || async {
            Ok(when(TcpStream::connect(("127.0.0.1", port)).await.is_ok(), ()))
        })
        .await
        .unwrap();
    }

    fn scaler(&self, trigger_type: &str, more: &[(&str, &str)], auth: &[(&str, &str)]) -> Arc<dyn Scaler> {
        let map = |texts: &[(&str, &str)]| -> BTreeMap<String, String> {
            texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
        };
        let address = format!("127.0.0.1:{}", self.port);
        let (metadata, parameters) = (map(&[&[("scalerAddress", address.as_str())], more].concat()), map(auth));
        let http = Arc::new(Http::new(HTTP_TIMEOUT));
        let authentication = Authentication::Resolved { parameters: &parameters, identity: &Identity::None };
        let context = TriggerContext {
            authentication,
            namespace: "shop",
            name: "web",
            ..TriggerContext::new(1, &metadata, &http)
        };
        scalers::build(trigger_type, &context).expect("a trigger that can be built")
    }
}

fn spec(target: &str) -> MetricSpec {
    MetricSpec { name: "s1-shop.web".into(), target: Target::AverageValue(target.parse().unwrap()) }
}

async fn read(scaler: &Arc<dyn Scaler>) -> Result<(i64, bool), String> {
    let sampled = scaler.sample("s1-shop.web").await;
    sampled.map(|sampled| (sampled.value.thousandths(), sampled.active)).map_err(|error| error.text())
}

#[tokio::test]
async fn a_plug_in_says_which_metrics_there_are_and_what_they_are() {
    let plugin = Plugin::start(&[]).await;
    let newer = plugin.scaler("external", &[("target", "2.5"), ("value", "7.25"), ("active", "true")], &[]);
    assert_eq!(newer.metrics(), []);
    assert_eq!(newer.discover().await.unwrap(), [spec("2.5")]);
    assert_eq!(read(&newer).await, Ok((7_250, true)));
    let older = plugin.scaler("external", &[("target", "5"), ("value", "7"), ("fields", "old")], &[]);
    assert_eq!(older.discover().await.unwrap(), [spec("5")]);
    assert_eq!(read(&older).await, Ok((7_000, false)));
    let none = plugin.scaler("external", &[], &[]).discover().await.unwrap_err();
    assert!(none.text().contains("no metric"), "{}", none.text());
    let unknown = older.sample("s1-other").await.unwrap_err();
    assert!(matches!(&unknown, ScalerError::Misconfigured { what } if what.contains("no metric other")), "{unknown:?}");
    let refused = plugin.scaler("external", &[("refuse", "true"), ("value", "1")], &[]);
    assert!(matches!(refused.sample("s1-shop.web").await, Err(ScalerError::Unauthorized { .. })));
    let slow = plugin.scaler("external", &[("value", "1"), ("sleep", "30")], &[]);
    assert!(matches!(slow.sample("s1-shop.web").await, Err(ScalerError::TimedOut { .. })));
    drop(plugin);
    assert!(read(&newer).await.unwrap_err().contains("not available"));
    assert!(newer.discover().await.is_err());
}

#[tokio::test]
async fn certificates_open_a_plug_in_that_asks_for_them() {
    let folder = Folder::new().unwrap();
    let authority = Authority::new("test", folder.path()).unwrap();
    let (certificate, key) =
        authority.server("127.0.0.1", &["127.0.0.1"]).unwrap().write(folder.path(), "server").unwrap();
    let argument = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let tls =
        [argument("certificate", &certificate), argument("key", &key), argument("authority", &authority.certificate)];
    let plugin = Plugin::start(&tls).await;
    let ours = authority.client("tandem", &[]).unwrap();
    let metadata = [("target", "1"), ("value", "3")];
    let all = [
        ("caCert", authority.pem()),
        ("tlsClientCert", ours.certificate.as_str()),
        ("tlsClientKey", ours.key.as_str()),
    ];
    assert_eq!(read(&plugin.scaler("external", &metadata, &all)).await, Ok((3_000, false)));
    for some in [&all[..1], &all[1..], &[]] {
        assert!(read(&plugin.scaler("external", &metadata, some)).await.unwrap_err().contains("not available"));
    }
    let unsafe_ssl = [&metadata[..], &[("unsafeSsl", "true")]].concat();
    assert_eq!(read(&plugin.scaler("external", &unsafe_ssl, &all[1..])).await, Ok((3_000, false)));
}

#[tokio::test]
async fn a_push_is_heard_and_the_stream_is_opened_again_when_it_broke() {
    let mut plugin = Plugin::start(&[]).await;
    let signal = plugin.folder.path().join("signal");
    let metadata = [("target", "1"), ("value", "1"), ("signal", signal.to_str().unwrap())];
    assert!(plugin.scaler("external", &metadata, &[]).pushes().is_none());
    let scaler = plugin.scaler("external-push", &metadata, &[]);
    assert_eq!(read(&scaler).await, Ok((1_000, false)));
    let mut pushes = scaler.pushes().expect("this type pushes");
    let say = |text: &str| {
        // All at once, so that no half of it is read.
        let whole = signal.with_extension("new");
        std::fs::write(&whole, text).unwrap();
        std::fs::rename(&whole, &signal).unwrap();
    };
    let heard = async |pushes: &mut futures::stream::BoxStream<'static, ()>| {
        tokio::time::timeout(Duration::from_mins(2), pushes.next()).await.expect("a push").expect("no end");
    };
    say("active");
    heard(&mut pushes).await;
    assert_eq!(read(&scaler).await, Ok((1_000, true)), "what was pushed counts");
    plugin.child = None;
    let listening = tokio::spawn(async move {
        pushes.next().await;
    });
    plugin.run(&[]).await;
    say("active");
    tokio::time::timeout(Duration::from_mins(2), listening).await.expect("the stream is opened again").unwrap();
}
