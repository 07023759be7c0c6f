//! The flags every program of ours has.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Defaults that follow Karpenter's environment variables; a bad value in one is refused like a bad flag.
static METRICS_BIND: LazyLock<String> = LazyLock::new(|| every_address("METRICS_PORT", "8080"));
static HEALTH_BIND: LazyLock<String> = LazyLock::new(|| every_address("HEALTH_PROBE_PORT", "8081"));
static LOG_LEVEL: LazyLock<String> = LazyLock::new(|| variable("LOG_LEVEL").unwrap_or_else(|| "info".to_owned()));
static LEADER_ELECT: LazyLock<String> = LazyLock::new(|| {
    // The opposite meaning, so only its two values can be turned round; others are refused as they stand.
    match variable("DISABLE_LEADER_ELECTION") {
        None => "true".to_owned(),
        Some(value) if value == "false" => "true".to_owned(),
        Some(value) if value == "true" => "false".to_owned(),
        Some(value) => value,
    }
});

/// Flags shared by all programs; flatten into the program's own `clap::Parser`.
///
/// Every flag can also be given as an environment variable (`TANDEM_…`). A flag wins over the variable, and both over
/// Karpenter's variables of the same meaning: `METRICS_PORT`, `HEALTH_PROBE_PORT`, `LOG_LEVEL`,
/// `LEADER_ELECTION_NAMESPACE` and `DISABLE_LEADER_ELECTION`.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonArgs {
    /// Kubeconfig file; without it the pod's service account is used, then the default kubeconfig.
    #[arg(long, env = "TANDEM_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Address of the Prometheus endpoint, path /metrics.
    #[arg(long, env = "TANDEM_METRICS_BIND", default_value = METRICS_BIND.as_str(), value_name = "ADDRESS")]
    pub metrics_bind: SocketAddr,

    /// Address of the probes, paths /healthz and /readyz.
    #[arg(long, env = "TANDEM_HEALTH_BIND", default_value = HEALTH_BIND.as_str(), value_name = "ADDRESS")]
    pub health_bind: SocketAddr,

    /// How log lines are written.
    #[arg(long, env = "TANDEM_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Log filter: a level, or directives such as `info,scaling_controller=debug`.
    #[arg(long, env = "TANDEM_LOG_LEVEL", default_value = LOG_LEVEL.as_str(), value_name = "FILTER")]
    pub log_level: String,

    /// Namespace of the leader election Lease; without it the pod's own namespace.
    #[arg(long, env = "TANDEM_LEADER_ELECT_NAMESPACE", value_name = "NAMESPACE")]
    pub leader_elect_namespace: Option<String>,

    /// Whether replicas elect one leader. With `false` this process acts at once: for a single process only.
    #[arg(
        long,
        env = "TANDEM_LEADER_ELECT",
        default_value = LEADER_ELECT.as_str(),
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    pub leader_elect: bool,
}

/// The two shapes of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line per record.
    Text,
    /// One JSON object per record.
    Json,
}

impl CommonArgs {
    /// The namespace for our own objects (Lease, Secrets): the flag, else the pod's own namespace, else the client's.
    pub fn own_namespace(&self, client: &kube::Client) -> String {
        self.leader_elect_namespace
            .clone()
            .or_else(|| variable("LEADER_ELECTION_NAMESPACE"))
            .or_else(|| variable("POD_NAMESPACE"))
            .unwrap_or_else(|| client.default_namespace().to_owned())
    }
}

/// An environment variable; empty is as good as unset, which is how charts unset one.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn every_address(name: &str, port: &str) -> String {
    format!("0.0.0.0:{}", variable(name).as_deref().unwrap_or(port))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        common: CommonArgs,
    }

    fn parse(args: &[&str]) -> CommonArgs {
        Program::try_parse_from(std::iter::once("program").chain(args.iter().copied())).unwrap().common
    }

    #[test]
    fn without_flags_the_documented_defaults_hold() {
        let args = parse(&[]);
        assert_eq!(args.metrics_bind.to_string(), "0.0.0.0:8080");
        assert_eq!(args.health_bind.to_string(), "0.0.0.0:8081");
        assert_eq!(args.log_format, LogFormat::Text);
        assert!(args.leader_elect);
    }

    #[test]
    fn leader_election_can_be_switched_off_and_named_bare() {
        assert!(!parse(&["--leader-elect=false"]).leader_elect);
        assert!(parse(&["--leader-elect"]).leader_elect);
    }

    #[test]
    fn a_bad_address_is_refused() {
        assert!(Program::try_parse_from(["program", "--metrics-bind", "8080"]).is_err());
    }
}
