//! The part of a kubelet's settings that changes how much fits on a node, and how it is told to the kubelet.

use std::collections::BTreeMap;

use cloud::CloudError;
use serde_json::Value;
use units::{Amount, Quantity, ResourceName};

/// A threshold of the kubelet's eviction signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threshold {
    /// Unit: bytes.
    Bytes(i64),
    /// In thousandths of a percent of the capacity, so that `7.5%` is exact.
    MilliPercent(i64),
}

impl Threshold {
    /// Bytes that are kept free. A percentage is rounded up; `100%` and more means that the signal is off.
    pub(crate) fn bytes_of(self, capacity: i64) -> i64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::MilliPercent(share) if share >= 100_000 => 0,
            Self::MilliPercent(share) => {
                let product = i128::from(capacity) * i128::from(share);
                i64::try_from(product.div_euclid(100_000) + i128::from(product.rem_euclid(100_000) > 0))
                    .unwrap_or(i64::MAX)
            }
        }
    }
}

/// `kubeletConfiguration`, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kubelet {
    pub(crate) max_pods: Option<u32>,
    pub(crate) pods_per_core: Option<u32>,
    pub(crate) kube_reserved: BTreeMap<ResourceName, Amount>,
    pub(crate) system_reserved: BTreeMap<ResourceName, Amount>,
    /// By signal: `memory.available`, `nodefs.available`.
    pub(crate) eviction_hard: BTreeMap<String, Threshold>,
    pub(crate) cluster_dns: Option<String>,
    pub(crate) container_runtime: Option<String>,
    /// Flags for settings that do not change how much fits, in the order they are passed.
    pub(crate) flags: Vec<String>,
}

impl Kubelet {
    /// Reads the settings as they were written; `Null` gives those of a kubelet nobody configured.
    ///
    /// # Errors
    /// `Misconfigured` with the setting's path.
    pub(crate) fn parse(value: &Value) -> Result<Self, CloudError> {
        let Some(map) = value.as_object() else { return Ok(Self::default()) };
        let mut kubelet = Self::default();
        for (key, value) in map {
            let path = format!("kubeletConfiguration.{key}");
            match key.as_str() {
                "maxPods" => kubelet.max_pods = Some(count(value, &path)?),
                "podsPerCore" => kubelet.pods_per_core = Some(count(value, &path)?).filter(|count| *count > 0),
                "kubeReserved" => kubelet.kube_reserved = reserved(value, &path)?,
                "systemReserved" => kubelet.system_reserved = reserved(value, &path)?,
                "evictionHard" => {
                    for (signal, text) in texts(value, &path)? {
                        let threshold = threshold(&text, &format!("{path}.{signal}"))?;
                        kubelet.eviction_hard.insert(signal.clone(), threshold);
                    }
                    kubelet.flags.push(flag("eviction-hard", "<", texts(value, &path)?));
                }
                "evictionSoft" => kubelet.flags.push(flag("eviction-soft", "<", texts(value, &path)?)),
                "evictionSoftGracePeriod" => {
                    kubelet.flags.push(flag("eviction-soft-grace-period", "=", texts(value, &path)?));
                }
                "evictionMaxPodGracePeriod" => {
                    kubelet.flags.push(format!("--eviction-max-pod-grace-period={}", count(value, &path)?));
                }
                "imageGCHighThresholdPercent" => {
                    kubelet.flags.push(format!("--image-gc-high-threshold={}", count(value, &path)?));
                }
                "imageGCLowThresholdPercent" => {
                    kubelet.flags.push(format!("--image-gc-low-threshold={}", count(value, &path)?));
                }
                "cpuCFSQuota" => {
                    let on = value.as_bool().ok_or_else(|| CloudError::misconfigured(&path, "is not true or false"))?;
                    kubelet.flags.push(format!("--cpu-cfs-quota={on}"));
                }
                "clusterDNS" => {
                    kubelet.cluster_dns = value.get(0).and_then(Value::as_str).map(str::to_owned);
                }
                "containerRuntime" => kubelet.container_runtime = value.as_str().map(str::to_owned),
                // Upstream's KubeletConfiguration is an open map: what is unknown here changes no amount.
                _ => {}
            }
        }
        Ok(kubelet)
    }
}

/// `--name=key<op>value,…`, keys sorted.
fn flag(name: &str, operator: &str, pairs: BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}{operator}{value}")).collect();
    format!("--{name}={}", pairs.join(","))
}

fn count(value: &Value, path: &str) -> Result<u32, CloudError> {
    value
        .as_u64()
        .and_then(|count| u32::try_from(count).ok())
        .ok_or_else(|| CloudError::misconfigured(path, format!("{value} is not a count")))
}

fn texts(value: &Value, path: &str) -> Result<BTreeMap<String, String>, CloudError> {
    let map = value.as_object().ok_or_else(|| CloudError::misconfigured(path, "is not a map"))?;
    map.iter()
        .map(|(key, value)| {
            // A quantity such as `1` may be written without quotes.
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // These end up inside a quoted shell argument.
            let harmless = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "._-%/".contains(c));
            if harmless(key) && harmless(&text) {
                Ok((key.clone(), text))
            } else {
                Err(CloudError::misconfigured(&format!("{path}.{key}"), format!("{text:?} is not a quantity")))
            }
        })
        .collect()
}

fn reserved(value: &Value, path: &str) -> Result<BTreeMap<ResourceName, Amount>, CloudError> {
    texts(value, path)?
        .into_iter()
        .map(|(key, text)| {
            let name = ResourceName::new(key.clone());
            let wrong = |error: &dyn std::fmt::Display| CloudError::misconfigured(&format!("{path}.{key}"), error);
            let quantity: Quantity = text.parse().map_err(|error| wrong(&error))?;
            let amount = quantity.to_amount_ceil(&name).map_err(|error| wrong(&error))?;
            Ok((name, amount))
        })
        .collect()
}

fn threshold(text: &str, path: &str) -> Result<Threshold, CloudError> {
    let wrong = |error: &dyn std::fmt::Display| CloudError::misconfigured(path, error);
    let quantity: Quantity = text.strip_suffix('%').unwrap_or(text).parse().map_err(|error| wrong(&error))?;
    if text.ends_with('%') {
        quantity.to_milli_ceil().map(Threshold::MilliPercent).map_err(|error| wrong(&error))
    } else {
        quantity
            .to_amount_ceil(&ResourceName::memory())
            .map(|bytes| Threshold::Bytes(bytes.0))
            .map_err(|error| wrong(&error))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_that_change_amounts_are_read() {
        let kubelet = Kubelet::parse(&json!({
            "maxPods": 20,
            "systemReserved": {"cpu": "200m", "memory": "1Gi"},
            "evictionHard": {"memory.available": "5%", "nodefs.available": "1Gi"},
            "clusterDNS": ["10.0.0.10"],
            "somethingNew": true,
        }))
        .expect("parses");
        assert_eq!(kubelet.max_pods, Some(20));
        assert_eq!(kubelet.system_reserved[&ResourceName::cpu()], Amount(200));
        assert_eq!(kubelet.eviction_hard["memory.available"], Threshold::MilliPercent(5_000));
        assert_eq!(kubelet.flags, ["--eviction-hard=memory.available<5%,nodefs.available<1Gi"]);
        assert_eq!(kubelet.cluster_dns.as_deref(), Some("10.0.0.10"));
    }

    #[test]
    fn a_percentage_is_rounded_up_and_a_hundred_is_off() {
        assert_eq!(Threshold::MilliPercent(5_000).bytes_of(101), 6);
        assert_eq!(Threshold::MilliPercent(100_000).bytes_of(101), 0);
        assert_eq!(Threshold::Bytes(7).bytes_of(101), 7);
    }

    #[test]
    fn mistakes_name_the_setting() {
        for (value, expected) in [
            (json!({"maxPods": -1}), "kubeletConfiguration.maxPods: -1 is not a count"),
            (json!({"kubeReserved": {"cpu": "1 0"}}), "kubeletConfiguration.kubeReserved.cpu:"),
            (json!({"evictionHard": {"memory.available": "'; reboot"}}), "kubeletConfiguration.evictionHard.memory"),
        ] {
            let text = Kubelet::parse(&value).expect_err("is refused").to_string();
            assert!(text.starts_with(expected), "{text}");
        }
    }
}
