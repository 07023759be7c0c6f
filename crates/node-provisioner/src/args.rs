//! The program's flags.

use std::{path::PathBuf, time::Duration};

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

    /// Who rents the machines.
    #[arg(long, env = "TANDEM_CLOUD", value_enum, default_value_t = Cloud::Aws)]
    pub(crate) cloud: Cloud,

    /// A batch of pending pods is planned when no new one came for this long.
    #[arg(long, env = "BATCH_IDLE_DURATION", default_value = "1s", value_parser = duration)]
    pub(crate) batch_idle: Duration,

    /// A batch of pending pods is planned after this long at the latest.
    #[arg(long, env = "BATCH_MAX_DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) batch_max: Duration,

    /// A claim for which the cloud grants no machine is given up after this long.
    #[arg(long, env = "TANDEM_LAUNCH_TIMEOUT", default_value = "5m", value_parser = duration)]
    pub(crate) launch_timeout: Duration,

    /// A machine that does not join the cluster is given up after this long.
    #[arg(long, env = "TANDEM_REGISTRATION_TIMEOUT", default_value = "15m", value_parser = duration)]
    pub(crate) registration_timeout: Duration,

    /// Time between two looks for machines without a claim and claims without a machine.
    #[arg(long, env = "TANDEM_GARBAGE_INTERVAL", default_value = "2m", value_parser = duration)]
    pub(crate) garbage_interval: Duration,

    /// How old a machine without a claim must be before it is ended.
    #[arg(long, env = "TANDEM_GARBAGE_GRACE", default_value = "30s", value_parser = duration)]
    pub(crate) garbage_grace: Duration,

    /// How long an expired node waits for its replacement before it is drained anyway.
    #[arg(long, env = "TANDEM_REPLACEMENT_TIMEOUT", default_value = "10m", value_parser = duration)]
    pub(crate) replacement_timeout: Duration,

    /// Time between two plans for pods that found no place, if nothing else changes.
    #[arg(long, env = "TANDEM_RETRY_INTERVAL", default_value = "10s", value_parser = duration)]
    pub(crate) retry_interval: Duration,

    /// Folder for plans that the independent checker refused, the last ten of them; without it one below the system's
    /// temporary folder.
    #[arg(long, env = "TANDEM_REJECTED_PLANS", value_name = "DIR")]
    pub(crate) rejected_plans: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) aws: AwsArgs,

    /// Cloud `kwok`: time from a launch to its Node.
    #[arg(long, env = "TANDEM_KWOK_BOOT_DELAY", default_value = "30s", value_parser = duration)]
    pub(crate) kwok_boot_delay: Duration,
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

impl Args {
    /// What the controller is told.
    pub(crate) fn settings(&self) -> Settings {
        let defaults = Settings::default();
        Settings {
            batch: Window { idle: self.batch_idle, max: self.batch_max },
            launch_timeout: self.launch_timeout,
            registration_timeout: self.registration_timeout,
            garbage_interval: self.garbage_interval,
            garbage_grace: self.garbage_grace,
            replacement_timeout: self.replacement_timeout,
            retry_interval: self.retry_interval,
            rejected_plans: self.rejected_plans.clone().unwrap_or(defaults.rejected_plans),
            solver_budget: defaults.solver_budget,
        }
    }
}

/// Durations as Go and Karpenter write them: `1s`, `500ms`, `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 500ms, 1s or 1m30s");
    let mut rest = text;
    let mut sum = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let part = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60).ok_or_else(wrong)?),
            "h" => Duration::from_secs(number.checked_mul(3600).ok_or_else(wrong)?),
            _ => return Err(wrong()),
        };
        sum = sum.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(sum)
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
    fn a_cluster_without_a_name_is_refused() {
        if std::env::var_os("CLUSTER_NAME").is_none() {
            assert!(Args::try_parse_from(["node-provisioner"]).is_err());
        }
    }

    #[test]
    fn durations_are_read_or_refused() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "1", "s", "1d", "-1s", "1s2"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
