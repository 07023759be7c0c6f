//! The program's flags.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, sync::LazyLock, time::Duration};

use api::convert::{SpanOrNever, parse_duration};
use controller_runtime::cli::CommonArgs;
use node_controller::{Settings, batch::Window};

/// Makes machines for pods that fit nowhere, and ends them when nobody needs them.
///
/// Reads Provisioners, NodePools and their node classes; see the documentation of Karpenter for those.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "node-provisioner", version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: CommonArgs,

    /// Name of the cluster: goes into the tags of machines, and machines without it are never touched.
    #[arg(long, env = "CLUSTER_NAME", value_name = "NAME")]
    pub(crate) cluster_name: String,

    /// URL of the API server as new machines reach it; without it the one this program uses.
    #[arg(long, env = "CLUSTER_ENDPOINT", value_name = "URL")]
    pub(crate) cluster_endpoint: Option<String>,

    /// CA certificate of the API server for new machines, base64 of PEM; without it the one this program trusts.
    #[arg(long, env = "CLUSTER_CA_BUNDLE", value_name = "BASE64")]
    pub(crate) cluster_ca_bundle: Option<String>,

    /// Addresses of Services, as the API server was told; nodes with the image family AL2023 need it. `10.100.0.0/16`.
    #[arg(long, env = "CLUSTER_SERVICE_CIDR", value_name = "CIDR", value_parser = cidr)]
    pub(crate) cluster_service_cidr: Option<String>,

    /// Who rents the machines.
    #[arg(long, env = "TANDEM_CLOUD", value_enum, default_value_t = Cloud::Aws)]
    pub(crate) cloud: Cloud,

    /// A batch of pending pods is planned when no new one came for this long.
    #[arg(long, env = "BATCH_IDLE_DURATION", default_value_t = Span(DEFAULTS.batch.idle))]
    pub(crate) batch_idle: Span,

    /// A batch of pending pods is planned after this long at the latest.
    #[arg(long, env = "BATCH_MAX_DURATION", default_value_t = Span(DEFAULTS.batch.max))]
    pub(crate) batch_max: Span,

    /// A claim for which the cloud grants no machine is given up after this long.
    #[arg(long, env = "TANDEM_LAUNCH_TIMEOUT", default_value_t = Span(DEFAULTS.launch_timeout))]
    pub(crate) launch_timeout: Span,

    /// A machine that does not join the cluster is given up after this long.
    #[arg(long, env = "TANDEM_REGISTRATION_TIMEOUT", default_value_t = Span(DEFAULTS.registration_timeout))]
    pub(crate) registration_timeout: Span,

    /// Time between two looks for machines without a claim and claims without a machine.
    #[arg(long, env = "TANDEM_GARBAGE_INTERVAL", default_value_t = Span(DEFAULTS.garbage_interval))]
    pub(crate) garbage_interval: Span,

    /// How old a machine without a claim must be before it is ended.
    #[arg(long, env = "TANDEM_GARBAGE_GRACE", default_value_t = Span(DEFAULTS.garbage_grace))]
    pub(crate) garbage_grace: Span,

    /// How long an expired node waits for its replacement before it is put back into service.
    #[arg(long, env = "TANDEM_REPLACEMENT_TIMEOUT", default_value_t = Span(DEFAULTS.replacement_timeout))]
    pub(crate) replacement_timeout: Span,

    /// Time between two plans for pods that found no place, if nothing else changes.
    #[arg(long, env = "TANDEM_RETRY_INTERVAL", default_value_t = Span(DEFAULTS.retry_interval))]
    pub(crate) retry_interval: Span,

    /// Whether what pods prefer (preferred affinity, `ScheduleAnyway`) is planned for as if they demanded it, as far as that can
    /// be, or left to the kube-scheduler.
    #[arg(long, env = "PREFERENCE_POLICY", value_enum, default_value_t = PreferencePolicy::Respect)]
    pub(crate) preference_policy: PreferencePolicy,

    /// Whether a pool without as many different values as its `minValues` asks for gets no node, or one with as many as there
    /// are.
    #[arg(long, env = "MIN_VALUES_POLICY", value_enum, default_value_t = MinValuesPolicy::Strict)]
    pub(crate) min_values_policy: MinValuesPolicy,

    /// Nominate each pod for the new node it is planned on (`status.nominatedNodeName`), just before that node takes pods.
    #[arg(long, env = "TANDEM_NOMINATE_PODS", default_value_t = DEFAULTS.nominate_pods, num_args = 0..=1,
          require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) nominate_pods: bool,

    /// Folder for plans that the independent checker refused, the last ten of them; without it one below the system's
    /// temporary folder.
    #[arg(long, env = "TANDEM_REJECTED_PLANS", value_name = "DIR")]
    pub(crate) rejected_plans: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) aws: AwsArgs,

    /// Cloud `kwok`: time from a launch to its Node.
    #[arg(long, env = "TANDEM_KWOK_BOOT_DELAY", default_value_t = Span(Duration::from_secs(30)))]
    pub(crate) kwok_boot_delay: Span,

    /// Cloud `kwok`: file with the types that can be rented, in the format of Karpenter's KWOK provider; without it
    /// made-up ones.
    #[arg(long, env = "INSTANCE_TYPES_FILE_PATH", value_name = "FILE")]
    pub(crate) kwok_catalogue: Option<PathBuf>,
}

/// Flags of the cloud `aws`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "AWS")]
pub(crate) struct AwsArgs {
    /// Instance profile of node classes that name none.
    #[arg(long, env = "AWS_DEFAULT_INSTANCE_PROFILE", value_name = "NAME")]
    pub(crate) aws_default_instance_profile: Option<String>,

    /// Share of a machine's memory that is not there for the system to see, from 0 to 1.
    #[arg(long, env = "VM_MEMORY_OVERHEAD_PERCENT", default_value = "0.075", value_parser = permille)]
    pub(crate) vm_memory_overhead_percent: u32,

    /// Whether the addresses of a machine's network interfaces limit its pods; else 110.
    #[arg(long, env = "AWS_ENI_LIMITED_POD_DENSITY", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) aws_eni_limited_pod_density: bool,

    /// Network interfaces of each machine that are not for pods.
    #[arg(long, env = "RESERVED_ENIS", default_value_t = 0)]
    pub(crate) reserved_enis: u32,

    /// There is no route to the Pricing API: use the prices this program was built with.
    #[arg(long, env = "ISOLATED_VPC", default_value_t = false, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) isolated_vpc: bool,
}

/// Who rents the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Cloud {
    /// EC2.
    Aws,
    /// Nodes without machines, for local clusters; needs the kwok controller.
    Kwok,
}

/// What becomes of the pods' preferences; the names are Karpenter's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum PreferencePolicy {
    /// They are planned for, and given up one by one for pods that find no place.
    Respect,
    /// They are left to the kube-scheduler.
    Ignore,
}

/// How strictly `minValues` is taken; the names are Karpenter's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum MinValuesPolicy {
    /// It is met or there is no node.
    Strict,
    /// It is met as far as it can be.
    BestEffort,
}

impl Args {
    /// What the controller is told.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            batch: Window { idle: self.batch_idle.0, max: self.batch_max.0 },
            launch_timeout: self.launch_timeout.0,
            registration_timeout: self.registration_timeout.0,
            garbage_interval: self.garbage_interval.0,
            garbage_grace: self.garbage_grace.0,
            replacement_timeout: self.replacement_timeout.0,
            retry_interval: self.retry_interval.0,
            solver_budget: DEFAULTS.solver_budget,
            ignore_preferences: self.preference_policy == PreferencePolicy::Ignore,
            relax_min_values: self.min_values_policy == MinValuesPolicy::BestEffort,
            nominate_pods: self.nominate_pods,
            rejected_plans: self.rejected_plans.clone().unwrap_or_else(|| DEFAULTS.rejected_plans.clone()),
            kwok_classes: self.cloud == Cloud::Kwok,
        }
    }
}

/// The controller's own defaults are those of the flags.
static DEFAULTS: LazyLock<Settings> = LazyLock::new(Settings::default);

/// A duration as people write it: `500ms`, `1s`, `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span = match text.strip_suffix("ms") {
            Some(number) if number.bytes().all(|b| b.is_ascii_digit()) => {
                number.parse().ok().map(Duration::from_millis)
            }
            _ => parse_duration(text).ok().and_then(SpanOrNever::span),
        };
        span.map(Self).ok_or_else(|| format!("{text:?} is not a duration such as 500ms, 1s or 1h30m"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.as_secs(), self.0.subsec_millis()) {
            (0, millis @ 1..) => write!(f, "{millis}ms"),
            (seconds, _) if seconds > 0 && seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            (seconds, _) => write!(f, "{seconds}s"),
        }
    }
}

/// A range of addresses as it was written.
fn cidr(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not a range of addresses such as 10.100.0.0/16");
    let (address, length) = text.split_once('/').ok_or_else(wrong)?;
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if length.parse::<u8>().is_ok_and(|length| length <= most) { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// A share from 0 to 1 in thousandths.
fn permille(text: &str) -> Result<u32, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if !(0.0..1.0).contains(&share) {
        return Err(format!("{text} is not from 0 to 1"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
    Ok((share * 1000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Args::command().debug_assert();
    }

    #[test]
    fn without_flags_karpenters_defaults_hold() {
        let args = Args::try_parse_from(["node-provisioner", "--cluster-name=c"]).unwrap();
        assert_eq!(args.settings().batch, Window { idle: Duration::from_secs(1), max: Duration::from_secs(10) });
        assert_eq!(args.settings().registration_timeout, Duration::from_mins(15));
        assert_eq!(args.aws.vm_memory_overhead_percent, 75);
        assert_eq!(args.cloud, Cloud::Aws);
    }

    #[test]
    fn karpenters_policies_are_followed_by_their_names() {
        let settings = |more: &[&str]| {
            let all = ["node-provisioner", "--cluster-name=c"].iter().chain(more);
            let settings = Args::try_parse_from(all).unwrap().settings().solver();
            (settings.ignore_preferences, settings.relax_min_values)
        };
        assert_eq!(settings(&[]), (false, false));
        let both = ["--preference-policy=Ignore", "--min-values-policy=BestEffort"];
        assert_eq!(settings(&both), (true, true));
    }

    #[test]
    fn a_cluster_without_a_name_is_refused() {
        if std::env::var_os("CLUSTER_NAME").is_none() {
            assert!(Args::try_parse_from(["node-provisioner"]).is_err());
        }
    }

    #[test]
    fn a_range_of_addresses_is_read_or_refused() {
        for text in ["10.100.0.0/16", "fd00::/108"] {
            assert_eq!(cidr(text).as_deref(), Ok(text));
        }
        for wrong in ["10.100.0.0", "10.100.0.0/33", "10.100/16", "fd00::/x", ""] {
            assert!(cidr(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_read_or_refused() {
        for (text, millis) in [("1m30s", 90_000), ("500ms", 500), ("0s", 0), ("720h", 2_592_000_000)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(millis))), "{text}");
        }
        for wrong in ["", "1", "s", "ms", "1d", "-1s", "1s2", "Never"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_default_is_shown_as_it_can_be_written() {
        for text in ["500ms", "1s", "0s", "90s", "15m"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
    }
}
