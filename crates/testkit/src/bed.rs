//! A control plane of one's own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use nix::sys::signal::Signal;

use crate::binaries::{self, workspace};
use crate::children::{Child, Folder};
use crate::eventually::{Seen, eventually, when};
use crate::pki::{Authority, Identity, Issued, kubeconfig};
use crate::ports;

/// How long each server may take to come up. Measured: four seconds on two idle cores.
const START: Duration = Duration::from_secs(90);

/// What differs between control planes.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often the HPA controller looks. Unit: seconds. Clusters use 15.
    pub hpa_sync_seconds: u32,
    /// How long the HPA controller remembers a high recommendation. Unit: seconds. Clusters use 300.
    pub hpa_downscale_stabilization_seconds: u32,
    /// How long a node may be silent before it is NotReady. Unit: seconds. Clusters use 50.
    pub node_monitor_grace_seconds: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { hpa_sync_seconds: 2, hpa_downscale_stabilization_seconds: 5, node_monitor_grace_seconds: 30 }
    }
}

/// etcd, kube-apiserver, kube-controller-manager, kube-scheduler and KWOK on loopback ports. Dropping it kills them.
///
/// Each test has its own; several run side by side.
pub struct Bed {
    // Fields drop in this order: programs first, then what they wrote.
    children: Mutex<Vec<Child>>,
    authority: Authority,
    admin: Client,
    admin_kubeconfig: PathBuf,
    endpoint: String,
    folder: Folder,
}

impl std::fmt::Debug for Bed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bed").field("endpoint", &self.endpoint).field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Bed {
    /// Starts everything and returns when the API answers, the controllers work and the scheduler runs.
    pub async fn start(options: Options) -> Result<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let binaries = tokio::task::spawn_blocking(binaries::control_plane).await??;
        let folder = Folder::new()?;
        let files = Files::write(folder.path())?;
        let endpoint = format!("https://127.0.0.1:{}", files.api_port);
        let mut children = Vec::new();

        let launch = |name: &str, program: &Path, arguments: Vec<String>| -> Result<Child> {
            let mut command = Command::new(program);
            command.args(arguments).current_dir(folder.path()).env("HOME", folder.path()).env_remove("KUBECONFIG");
            Child::start(name, command, &folder.path().join(format!("{name}.log")))
        };
        children.push(launch("etcd", &binaries.etcd, files.etcd_arguments())?);
        children.push(launch("kube-apiserver", &binaries.apiserver, files.apiserver_arguments())?);

        let admin_kubeconfig = folder.path().join("admin.kubeconfig");
        let admin = client(&admin_kubeconfig).await?;
        eventually("kube-apiserver to be ready", START, || {
            let alive = children.iter_mut().try_for_each(Child::check);
            let admin = admin.clone();
            async move {
                if let Err(dead) = alive {
                    return Ok(Seen::Never(dead.to_string()));
                }
                let answer = admin.request_text(http_get("/readyz")?).await.map_err(|error| error.to_string());
                Ok(when(answer.as_deref() == Ok("ok"), format!("{answer:?}")))
            }
        })
        .await
        .map_err(|error| with_logs(error, &children))?;

        children.push(launch(
            "kube-controller-manager",
            &binaries.controller_manager,
            files.controller_manager_arguments(&options),
        )?);
        children.push(launch("kube-scheduler", &binaries.scheduler, files.scheduler_arguments())?);
        children.push(launch("kwok", &binaries.kwok, files.kwok_arguments())?);
        let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), "default");
        eventually("the controllers to make the default ServiceAccount", START, || async {
            let account = accounts.get_opt("default").await?;
            Ok(when(account.is_some(), "no ServiceAccount default/default"))
        })
        .await
        .map_err(|error| with_logs(error, &children))?;
        let Files { authority, .. } = files;
        Ok(Self { children: Mutex::new(children), authority, admin, admin_kubeconfig, endpoint, folder })
    }

    /// A client that may do anything.
    pub fn client(&self) -> Client {
        self.admin.clone()
    }

    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// `https://127.0.0.1:PORT`
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The certificate authority of the API server, in PEM.
    pub fn authority_pem(&self) -> &str {
        self.authority.pem()
    }

    /// Where logs and files go; it is gone with the bed.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a namespace, and is content when it is there.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        let api: Api<Namespace> = Api::all(self.client());
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        match api.create(&PostParams::default(), &namespace).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A kubeconfig file that speaks with a token of this ServiceAccount and nothing else.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(3600 * 12), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        // Just after a ServiceAccount is made, an API server on a busy machine may not have seen it yet.
        let token = eventually(format!("a token of ServiceAccount {namespace}/{name}"), START, || async {
            let answer = api.create_token_request(name, &PostParams::default(), &request).await?;
            let token = answer.status.and_then(|status| status.token);
            Ok(token.map_or_else(|| Seen::NotYet("an answer without a token".into()), Seen::Done))
        })
        .await?;
        let path = self.folder().join(format!("{namespace}.{name}.kubeconfig"));
        std::fs::write(&path, kubeconfig(&self.endpoint, self.authority_pem(), &Identity::Token(token), namespace))?;
        Ok(path)
    }

    /// A client that speaks as this ServiceAccount.
    pub async fn client_for_service_account(&self, namespace: &str, name: &str) -> Result<Client> {
        client(&self.service_account_kubeconfig(namespace, name).await?).await
    }

    /// An error when a part of the control plane has died.
    pub fn check(&self) -> Result<()> {
        let mut children = self.children.lock().map_err(|_| anyhow!("a panic while the bed was in use"))?;
        children.iter_mut().try_for_each(Child::check)
    }

    /// Stops the scheduler, say, by SIGKILL. For tests of what happens without it.
    pub fn kill(&self, name: &str) -> Result<()> {
        self.with(name, Child::kill)
    }

    /// Lets a part of the control plane do nothing until [`Bed::resume`]: its connections stay open, and no answer comes.
    pub fn pause(&self, name: &str) -> Result<()> {
        self.with(name, |child| child.signal(Signal::SIGSTOP))
    }

    /// Lets it go on where it was.
    pub fn resume(&self, name: &str) -> Result<()> {
        self.with(name, |child| child.signal(Signal::SIGCONT))
    }

    fn with(&self, name: &str, act: impl FnOnce(&mut Child)) -> Result<()> {
        let mut children = self.children.lock().map_err(|_| anyhow!("a panic while the bed was in use"))?;
        let Some(child) = children.iter_mut().find(|child| child.name() == name) else { bail!("no {name} in the bed") };
        act(child);
        Ok(())
    }
}

/// A client for a kubeconfig file.
pub async fn client(path: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// A GET of a path of the API server, for `Client::request_text`.
pub fn http_get(path: &str) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

fn with_logs(error: anyhow::Error, children: &[Child]) -> anyhow::Error {
    let logs: Vec<String> =
        children.iter().map(|child| format!("--- {}\n{}", child.name(), child.last_lines(12))).collect();
    error.context(logs.join("\n"))
}

/// Certificates, kubeconfigs and ports of one control plane.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
    authority: Authority,
    front_proxy: Authority,
    etcd_port: u16,
    etcd_peer_port: u16,
    api_port: u16,
    controller_manager_port: u16,
    scheduler_port: u16,
    kwok_port: u16,
}

impl Files {
    fn write(folder: &Path) -> Result<Self> {
        let authority = Authority::new("authority", folder)?;
        let front_proxy = Authority::new("front-proxy-authority", folder)?;
        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc", "10.0.0.1"];
        authority.server("kube-apiserver", &names)?.write(folder, "apiserver")?;
        front_proxy.client("front-proxy-client", &[])?.write(folder, "front-proxy-client")?;
        let files = Self {
            folder: folder.to_owned(),
            etcd_port: ports::free()?,
            etcd_peer_port: ports::free()?,
            api_port: ports::free()?,
            controller_manager_port: ports::free()?,
            scheduler_port: ports::free()?,
            kwok_port: ports::free()?,
            authority,
            front_proxy,
        };
        let tokens = rcgen::KeyPair::generate()?;
        std::fs::write(files.at("service-account.key"), tokens.serialize_pem())?;
        std::fs::write(files.at("service-account.pub"), tokens.public_key_pem())?;
        let users: [(&str, &str, &[&str]); 4] = [
            ("admin", "admin", &["system:masters"]),
            ("controller-manager", "system:kube-controller-manager", &[]),
            ("scheduler", "system:kube-scheduler", &[]),
            ("kwok", "kwok", &["system:masters"]),
        ];
        for (file, user, groups) in users {
            let issued: Issued = files.authority.client(user, groups)?;
            let server = format!("https://{}:{}", Ipv4Addr::LOCALHOST, files.api_port);
            let text = kubeconfig(&server, files.authority.pem(), &Identity::Certificate(issued), "default");
            std::fs::write(files.at(&format!("{file}.kubeconfig")), text)?;
        }
        Ok(files)
    }

    fn at(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn etcd_arguments(&self) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", self.etcd_port);
        let peer = format!("http://127.0.0.1:{}", self.etcd_peer_port);
        vec![
            "--name=bed".into(),
            format!("--data-dir={}", self.at("etcd")),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=bed={peer}"),
            "--unsafe-no-fsync".into(),
            "--log-level=warn".into(),
        ]
    }

    fn apiserver_arguments(&self) -> Vec<String> {
        vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--secure-port={}", self.api_port),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            "--endpoint-reconciler-type=none".into(),
            "--authorization-mode=RBAC,Node".into(),
            "--service-cluster-ip-range=10.0.0.0/16".into(),
            "--enable-aggregator-routing=false".into(),
            "--allow-privileged=true".into(),
            format!("--cert-dir={}", self.at("apiserver-certificates")),
            format!("--tls-cert-file={}", self.at("apiserver.crt")),
            format!("--tls-private-key-file={}", self.at("apiserver.key")),
            format!("--client-ca-file={}", self.authority.certificate.display()),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", self.at("service-account.pub")),
            format!("--service-account-signing-key-file={}", self.at("service-account.key")),
            format!("--requestheader-client-ca-file={}", self.front_proxy.certificate.display()),
            "--requestheader-allowed-names=front-proxy-client".into(),
            "--requestheader-username-headers=X-Remote-User".into(),
            "--requestheader-group-headers=X-Remote-Group".into(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
            format!("--proxy-client-cert-file={}", self.at("front-proxy-client.crt")),
            format!("--proxy-client-key-file={}", self.at("front-proxy-client.key")),
        ]
    }

    fn controller_manager_arguments(&self, options: &Options) -> Vec<String> {
        let config = self.at("controller-manager.kubeconfig");
        vec![
            format!("--kubeconfig={config}"),
            format!("--authentication-kubeconfig={config}"),
            format!("--authorization-kubeconfig={config}"),
            "--bind-address=127.0.0.1".into(),
            format!("--secure-port={}", self.controller_manager_port),
            format!("--cert-dir={}", self.at("controller-manager-certificates")),
            "--leader-elect=false".into(),
            "--use-service-account-credentials".into(),
            format!("--root-ca-file={}", self.authority.certificate.display()),
            format!("--service-account-private-key-file={}", self.at("service-account.key")),
            format!("--cluster-signing-cert-file={}", self.authority.certificate.display()),
            format!("--cluster-signing-key-file={}", self.authority.key.display()),
            "--controllers=*,-nodeipam,-cloud-node-lifecycle,-service-lb-controller,-node-route-controller".into(),
            format!("--horizontal-pod-autoscaler-sync-period={}s", options.hpa_sync_seconds),
            format!(
                "--horizontal-pod-autoscaler-downscale-stabilization={}s",
                options.hpa_downscale_stabilization_seconds
            ),
            format!("--node-monitor-grace-period={}s", options.node_monitor_grace_seconds),
            "--node-monitor-period=2s".into(),
        ]
    }

    fn scheduler_arguments(&self) -> Vec<String> {
        let config = self.at("scheduler.kubeconfig");
        vec![
            format!("--kubeconfig={config}"),
            format!("--authentication-kubeconfig={config}"),
            format!("--authorization-kubeconfig={config}"),
            "--bind-address=127.0.0.1".into(),
            format!("--secure-port={}", self.scheduler_port),
            format!("--cert-dir={}", self.at("scheduler-certificates")),
            "--leader-elect=false".into(),
        ]
    }

    /// KWOK keeps alive the nodes that carry the label; whoever takes it off a Node stops that Node's heart.
    /// (Its annotation selector would not notice that the annotation went away.)
    fn kwok_arguments(&self) -> Vec<String> {
        let stages = workspace().join("tests/testbed/kwok");
        vec![
            format!("--kubeconfig={}", self.at("kwok.kubeconfig")),
            "--manage-all-nodes=false".into(),
            format!("--manage-nodes-with-label-selector={ALIVE_LABEL}=true"),
            "--node-lease-duration-seconds=20".into(),
            "--cidr=10.1.0.0/16".into(),
            "--node-ip=127.0.0.1".into(),
            format!("--server-address=127.0.0.1:{}", self.kwok_port),
            format!("--config={}", stages.join("node.yaml").display()),
            format!("--config={}", stages.join("pod.yaml").display()),
        ]
    }
}

/// Nodes with this label (value `true`) are kept alive by KWOK.
pub const ALIVE_LABEL: &str = "testbed.tandem.dev/alive";
