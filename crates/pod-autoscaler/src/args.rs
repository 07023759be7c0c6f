//! The command line.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use controller_runtime::cli::CommonArgs;
use scaling_controller::CredentialSettings;

/// Scales workloads by events: ScaledObjects of keda.sh, and the external metrics API their HPAs ask.
#[derive(Debug, clap::Parser)]
#[command(name = "pod-autoscaler", version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: CommonArgs,

    /// Address of the external metrics API, over TLS.
    #[arg(long, env = "TANDEM_API_BIND", default_value = "0.0.0.0:6443", value_name = "ADDRESS")]
    pub(crate) api_bind: SocketAddr,

    /// The Service by which the API server reaches us; without it `pod-autoscaler` in our own namespace.
    #[arg(long, env = "TANDEM_API_SERVICE", value_name = "NAMESPACE/NAME")]
    pub(crate) api_service: Option<Service>,

    /// The ValidatingWebhookConfiguration that asks us about objects, for our certificate authority to be written into;
    /// without it nobody asks.
    #[arg(long, env = "TANDEM_WEBHOOK_CONFIGURATION", value_name = "NAME")]
    pub(crate) webhook_configuration: Option<String>,

    /// Namespaces whose objects count, separated by commas; all if empty.
    #[arg(long, env = "WATCH_NAMESPACE", value_name = "NAMESPACES", value_delimiter = ',')]
    pub(crate) watch_namespaces: Vec<String>,

    /// The Secret in our own namespace that keeps our certificate authority.
    #[arg(long, env = "TANDEM_CERTIFICATE_SECRET", default_value = "pod-autoscaler-certs", value_name = "NAME")]
    pub(crate) certificate_secret: String,

    /// How long an HTTP source may take, in milliseconds, when a trigger does not say.
    #[arg(long, env = "KEDA_HTTP_DEFAULT_TIMEOUT", default_value_t = 3_000, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub(crate) http_timeout: u64,

    /// The namespace of the Secrets and ConfigMaps that ClusterTriggerAuthentications name; our own if empty.
    #[arg(long, env = "KEDA_CLUSTER_OBJECT_NAMESPACE", default_value = "", value_name = "NAMESPACE")]
    pub(crate) cluster_object_namespace: String,

    /// What CloudEvents call this cluster, when their source does not say.
    #[arg(long, env = "TANDEM_CLUSTER_NAME", default_value = "kubernetes-default", value_name = "NAME")]
    pub(crate) k8s_cluster_name: String,

    /// The folder of the files that ClusterTriggerAuthentications name in `filePath`; without it they cannot.
    #[arg(long, env = "TANDEM_FILEPATH_AUTH_ROOT_PATH", value_name = "FOLDER")]
    pub(crate) filepath_auth_root_path: Option<PathBuf>,
}

impl Args {
    /// The namespaces to watch; empty for all.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        self.watch_namespaces.iter().map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect()
    }

    /// The configuration of the webhooks, unless its name is empty.
    pub(crate) fn webhook(&self) -> Option<&str> {
        self.webhook_configuration.as_deref().filter(|name| !name.is_empty())
    }

    /// Where credentials come from, when we are in `own_namespace`.
    pub(crate) fn credentials(&self, own_namespace: &str) -> CredentialSettings {
        let given = Some(self.cluster_object_namespace.trim()).filter(|namespace| !namespace.is_empty());
        let files = self.filepath_auth_root_path.clone().filter(|path| !path.as_os_str().is_empty());
        CredentialSettings { cluster_namespace: given.unwrap_or(own_namespace).to_owned(), files }
    }

    /// The deadline of HTTP sources.
    pub(crate) fn http_timeout(&self) -> Duration {
        Duration::from_millis(self.http_timeout)
    }
}

/// The name of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Not the name of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotAService(String);

impl fmt::Display for NotAService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not NAMESPACE/NAME", self.0)
    }
}

impl std::error::Error for NotAService {}

impl FromStr for Service {
    type Err = NotAService;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(NotAService(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("pod-autoscaler").chain(args.iter().copied()))
    }

    #[test]
    fn the_service_has_two_parts() {
        let args = parse(&["--api-service", "tandem-system/pod-autoscaler"]).unwrap();
        let service = args.api_service.unwrap();
        assert_eq!((service.namespace.as_str(), service.name.as_str()), ("tandem-system", "pod-autoscaler"));
        for bad in ["pod-autoscaler", "/x", "a/", "a/b/c"] {
            assert!(parse(&["--api-service", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn cluster_wide_credentials_are_in_our_own_namespace_unless_told() {
        assert_eq!(parse(&[]).unwrap().credentials("tandem-system").cluster_namespace, "tandem-system");
        let told = parse(&["--cluster-object-namespace", "vault"]).unwrap();
        assert_eq!(told.credentials("tandem-system").cluster_namespace, "vault");
    }

    #[test]
    fn no_namespaces_are_all_namespaces() {
        assert!(parse(&["--watch-namespaces", ""]).unwrap().namespaces().is_empty());
        assert_eq!(parse(&["--watch-namespaces", "a, b"]).unwrap().namespaces(), ["a", "b"]);
    }
}
