//! What a process costs, from `/proc`.

use std::time::Duration;

use anyhow::{Context, Result};

/// Clock ticks of `/proc/PID/stat` in a second: 100 on every Linux that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process used over some time.
pub(super) struct Usage {
    millicores: f64,
    resident_mib: f64,
    anonymous_mib: f64,
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { millicores, resident_mib, anonymous_mib } = self;
        write!(f, "{millicores:.0} mCPU, {resident_mib:.0} MiB resident, of which {anonymous_mib:.0} MiB anonymous")
    }
}

pub(super) fn usage(pid: u32, cpu_seconds_before: f64, period: Duration) -> Result<Usage> {
    let used = cpu_seconds(pid)? - cpu_seconds_before;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(Usage {
        millicores: used / period.as_secs_f64() * 1000.0,
        resident_mib: mib(&status, "VmRSS:")?,
        anonymous_mib: mib(&status, "RssAnon:")?,
    })
}

/// User and system time of a process so far.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold spaces; the twelfth and thirteenth fields after it are the times.
    let fields = stat.rsplit_once(')').context("no name in stat")?.1;
    let ticks = |index: usize| -> Result<f64> {
        Ok(fields.split_whitespace().nth(index).context("a short stat")?.parse::<f64>()?)
    };
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

fn mib(status: &str, name: &str) -> Result<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_mebibytes() {
        assert_eq!(mib("Name:\tx\nVmRSS:\t   2048 kB\n", "VmRSS:").unwrap().to_string(), "2");
        assert!(mib("Name:\tx\n", "VmRSS:").is_err());
    }

    #[test]
    fn a_running_process_has_used_some_time() {
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
    }
}
