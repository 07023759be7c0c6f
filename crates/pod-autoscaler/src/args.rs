//! The command line.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use controller_runtime::cli::CommonArgs;

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

    /// Namespaces whose objects count, separated by commas; all if empty.
    #[arg(long, env = "WATCH_NAMESPACE", value_name = "NAMESPACES", value_delimiter = ',')]
    pub(crate) watch_namespaces: Vec<String>,

    /// The Secret in our own namespace that keeps our certificate authority.
    #[arg(long, env = "TANDEM_CERTIFICATE_SECRET", default_value = "pod-autoscaler-certs", value_name = "NAME")]
    pub(crate) certificate_secret: String,

    /// How long an HTTP source may take, in milliseconds, when a trigger does not say.
    #[arg(long, env = "KEDA_HTTP_DEFAULT_TIMEOUT", default_value_t = 3_000, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub(crate) http_timeout: u64,
}

impl Args {
    /// The namespaces to watch; empty for all.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        self.watch_namespaces.iter().map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect()
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
    fn no_namespaces_are_all_namespaces() {
        assert!(parse(&["--watch-namespaces", ""]).unwrap().namespaces().is_empty());
        assert_eq!(parse(&["--watch-namespaces", "a, b"]).unwrap().namespaces(), ["a", "b"]);
    }
}
