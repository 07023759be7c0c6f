//! The part of a kubelet's settings that changes how much fits on a node, and how it is told to the kubelet.

use std::collections::BTreeMap;

use cloud::CloudError;
use serde_json::{Map, Value, json};
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
    /// The settings that change no amount, as they were written, with `evictionHard`, which does.
    pub(crate) others: Map<String, Value>,
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
            let path = path(key);
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
                    kubelet.others.insert(key.clone(), value.clone());
                }
                "evictionSoft" | "evictionSoftGracePeriod" => {
                    texts(value, &path)?;
                    kubelet.others.insert(key.clone(), value.clone());
                }
                "evictionMaxPodGracePeriod" | "imageGCHighThresholdPercent" | "imageGCLowThresholdPercent" => {
                    count(value, &path)?;
                    kubelet.others.insert(key.clone(), value.clone());
                }
                "cpuCFSQuota" => {
                    value.as_bool().ok_or_else(|| CloudError::misconfigured(&path, "is not true or false"))?;
                    kubelet.others.insert(key.clone(), value.clone());
                }
                "clusterDNS" => {
                    kubelet.cluster_dns = value.get(0).and_then(Value::as_str).map(str::to_owned);
                }
                "containerRuntime" => match value.as_str() {
                    Some(runtime @ ("containerd" | "dockerd")) => kubelet.container_runtime = Some(runtime.to_owned()),
                    _ => return Err(CloudError::misconfigured(&path, format!("{value} is not containerd or dockerd"))),
                },
                // Whatever else a kubelet knows: whether it can be told depends on the family.
                _ => {
                    kubelet.others.insert(key.clone(), value.clone());
                }
            }
        }
        Ok(kubelet)
    }

    /// The settings beside the amounts as flags, for families whose kubelet is started with nothing else.
    ///
    /// # Errors
    /// `Misconfigured` with the path of a setting that no flag is known for, or whose value a flag cannot have.
    pub(crate) fn flags(&self) -> Result<Vec<String>, CloudError> {
        let mut flags = Vec::new();
        for (key, value) in &self.others {
            if let Some((_, name, operator)) = MAPS.iter().find(|(setting, ..)| setting == key) {
                flags.push(flag(name, operator, texts(value, &path(key))?));
            } else if let Some((_, name, _)) = SINGLES.iter().find(|(setting, ..)| setting == key) {
                flags.push(format!("--{name}={}", plain(value, &path(key))?));
            } else {
                return Err(not_told(key, "a flag"));
            }
        }
        Ok(flags)
    }

    /// The settings beside the amounts as a `KubeletConfiguration` has them.
    ///
    /// # Errors
    /// `Misconfigured` with the path of a setting whose value is none.
    pub(crate) fn config(&self) -> Result<Map<String, Value>, CloudError> {
        let as_config = |(key, value): (&String, &Value)| {
            let is_map = MAPS.iter().any(|(setting, ..)| setting == key);
            let value = if is_map { json!(texts(value, &path(key))?) } else { value.clone() };
            Ok((key.clone(), value))
        };
        self.others.iter().map(as_config).collect()
    }

    /// The settings beside the amounts as Bottlerocket's `settings.kubernetes` has them: lines, then tables.
    ///
    /// # Errors
    /// `Misconfigured` with the path of a setting that Bottlerocket has no name for, or whose value is none.
    pub(crate) fn bottlerocket(&self) -> Result<(Rows, Tables), CloudError> {
        let (mut lines, mut tables) = (Rows::new(), Tables::new());
        for (key, value) in &self.others {
            if let Some((_, name, _)) = MAPS.iter().find(|(setting, ..)| setting == key) {
                let rows = texts(value, &path(key))?.into_iter().map(|(signal, text)| (signal, json!(text)));
                tables.push((*name, rows.collect()));
            } else if let Some((.., name)) = SINGLES.iter().find(|(setting, ..)| setting == key) {
                let text = plain(value, &path(key))?;
                // Percentages are text there.
                let value = if name.ends_with("-percent") { json!(text) } else { value.clone() };
                lines.push(((*name).to_owned(), value));
            } else {
                return Err(not_told(key, "a setting of Bottlerocket"));
            }
        }
        Ok((lines, tables))
    }
}

/// Keys and values, in order.
pub(crate) type Rows = Vec<(String, Value)>;

/// Named tables of them.
type Tables = Vec<(&'static str, Rows)>;

/// What a kubelet can reserve.
const RESERVED: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pid"];

/// Settings that are maps of signals: their name as a flag and at Bottlerocket, and what a flag has between key and value.
const MAPS: [(&str, &str, &str); 3] = [
    ("evictionHard", "eviction-hard", "<"),
    ("evictionSoft", "eviction-soft", "<"),
    ("evictionSoftGracePeriod", "eviction-soft-grace-period", "="),
];

/// Settings that are one value: their names as a flag and at Bottlerocket.
const SINGLES: [(&str, &str, &str); 18] = [
    ("containerLogMaxFiles", "container-log-max-files", "container-log-max-files"),
    ("containerLogMaxSize", "container-log-max-size", "container-log-max-size"),
    ("cpuCFSQuota", "cpu-cfs-quota", "cpu-cfs-quota-enforced"),
    ("cpuManagerPolicy", "cpu-manager-policy", "cpu-manager-policy"),
    ("cpuManagerReconcilePeriod", "cpu-manager-reconcile-period", "cpu-manager-reconcile-period"),
    ("eventBurst", "event-burst", "event-burst"),
    ("eventRecordQPS", "event-qps", "event-qps"),
    ("evictionMaxPodGracePeriod", "eviction-max-pod-grace-period", "eviction-max-pod-grace-period"),
    ("imageGCHighThresholdPercent", "image-gc-high-threshold", "image-gc-high-threshold-percent"),
    ("imageGCLowThresholdPercent", "image-gc-low-threshold", "image-gc-low-threshold-percent"),
    ("kubeAPIBurst", "kube-api-burst", "kube-api-burst"),
    ("kubeAPIQPS", "kube-api-qps", "kube-api-qps"),
    ("memoryManagerPolicy", "memory-manager-policy", "memory-manager-policy"),
    ("podPidsLimit", "pod-max-pids", "pod-pids-limit"),
    ("registryBurst", "registry-burst", "registry-burst"),
    ("registryPullQPS", "registry-qps", "registry-qps"),
    ("topologyManagerPolicy", "topology-manager-policy", "topology-manager-policy"),
    ("topologyManagerScope", "topology-manager-scope", "topology-manager-scope"),
];

fn path(key: &str) -> String {
    format!("kubeletConfiguration.{key}")
}

/// Better no machine than one that is not what was asked for.
fn not_told(key: &str, what: &str) -> CloudError {
    CloudError::misconfigured(
        &path(key),
        format!("is not known as {what}, so machines of this image family cannot be told"),
    )
}

/// One value as text that needs no quotes.
fn plain(value: &Value, path: &str) -> Result<String, CloudError> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        _ => return Err(CloudError::misconfigured(path, "is not one value")),
    };
    if is_harmless(&text) {
        Ok(text)
    } else {
        Err(CloudError::misconfigured(path, format!("{text:?} is not a plain value")))
    }
}

/// Whether it can stand inside a quoted shell argument or a TOML string.
fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "._-%/".contains(c))
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
            if is_harmless(key) && is_harmless(&text) {
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
            if !RESERVED.contains(&key.as_str()) {
                let what = format!("is not one of {}", RESERVED.join(", "));
                return Err(CloudError::misconfigured(&format!("{path}.{key}"), what));
            }
            let wrong = |error: &dyn std::fmt::Display| CloudError::misconfigured(&format!("{path}.{key}"), error);
            let quantity: Quantity = text.parse().map_err(|error| wrong(&error))?;
            if quantity.is_negative() {
                return Err(wrong(&"is negative"));
            }
            let amount = quantity.to_amount_ceil(&name).map_err(|error| wrong(&error))?;
            Ok((name, amount))
        })
        .collect()
}

fn threshold(text: &str, path: &str) -> Result<Threshold, CloudError> {
    let wrong = |error: &dyn std::fmt::Display| CloudError::misconfigured(path, error);
    let quantity: Quantity = text.strip_suffix('%').unwrap_or(text).parse().map_err(|error| wrong(&error))?;
    if quantity.is_negative() {
        return Err(wrong(&"is negative"));
    }
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
        assert_eq!(kubelet.cluster_dns.as_deref(), Some("10.0.0.10"));
    }

    #[test]
    fn less_than_nothing_is_refused() {
        for (setting, key) in
            [("systemReserved", "cpu"), ("kubeReserved", "memory"), ("evictionHard", "memory.available")]
        {
            for text in ["-6", "-5%"] {
                let refused = Kubelet::parse(&json!({ setting: { key: text } })).expect_err("is refused");
                assert!(refused.to_string().contains(&format!("kubeletConfiguration.{setting}.{key}")), "{refused}");
            }
        }
    }

    #[test]
    fn a_percentage_is_rounded_up_and_a_hundred_is_off() {
        assert_eq!(Threshold::MilliPercent(5_000).bytes_of(101), 6);
        assert_eq!(Threshold::MilliPercent(100_000).bytes_of(101), 0);
        assert_eq!(Threshold::Bytes(7).bytes_of(101), 7);
    }

    #[test]
    fn settings_that_change_no_amount_are_told_as_each_family_wants_them() {
        let kubelet = Kubelet::parse(&json!({
            "evictionHard": {"memory.available": "5%", "nodefs.available": "1Gi"},
            "evictionSoftGracePeriod": {"memory.available": "1m"},
            "imageGCHighThresholdPercent": 80,
            "cpuCFSQuota": false,
            "topologyManagerPolicy": "single-numa-node",
        }))
        .unwrap();
        let mut flags = kubelet.flags().unwrap();
        flags.sort();
        assert_eq!(
            flags,
            [
                "--cpu-cfs-quota=false",
                "--eviction-hard=memory.available<5%,nodefs.available<1Gi",
                "--eviction-soft-grace-period=memory.available=1m",
                "--image-gc-high-threshold=80",
                "--topology-manager-policy=single-numa-node",
            ]
        );
        assert_eq!(kubelet.config().unwrap(), kubelet.others);
        let (mut lines, mut tables) = kubelet.bottlerocket().unwrap();
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        tables.sort_by(|a, b| a.0.cmp(b.0));
        let lines: Vec<String> = lines.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        assert_eq!(
            lines,
            [
                "cpu-cfs-quota-enforced = false",
                "image-gc-high-threshold-percent = \"80\"",
                "topology-manager-policy = \"single-numa-node\"",
            ]
        );
        assert_eq!(tables[1], ("eviction-soft-grace-period", vec![("memory.available".to_owned(), json!("1m"))]));
    }

    #[test]
    fn what_a_family_cannot_be_told_is_refused_by_name() {
        let kubelet = Kubelet::parse(&json!({ "somethingNew": true })).unwrap();
        let says = |error: CloudError| error.to_string();
        assert_eq!(kubelet.config().unwrap(), *json!({ "somethingNew": true }).as_object().unwrap());
        assert!(
            says(kubelet.flags().unwrap_err()).starts_with("kubeletConfiguration.somethingNew: is not known as a flag")
        );
        let error = says(kubelet.bottlerocket().unwrap_err());
        assert!(
            error.starts_with("kubeletConfiguration.somethingNew: is not known as a setting of Bottlerocket"),
            "{error}"
        );
        let odd = Kubelet::parse(&json!({ "cpuManagerPolicy": "static'; reboot" })).unwrap();
        assert!(says(odd.flags().unwrap_err()).starts_with("kubeletConfiguration.cpuManagerPolicy:"));
    }

    #[test]
    fn mistakes_name_the_setting() {
        for (value, expected) in [
            (json!({"kubeReserved": {"gpu": "1"}}), "kubeletConfiguration.kubeReserved.gpu:"),
            (
                json!({"evictionHard": {"memory.available": "5 %"}}),
                "kubeletConfiguration.evictionHard.memory.available:",
            ),
            (json!({"containerRuntime": "rkt"}), "kubeletConfiguration.containerRuntime:"),
            (json!({"maxPods": -1}), "kubeletConfiguration.maxPods: -1 is not a count"),
            (json!({"kubeReserved": {"cpu": "1 0"}}), "kubeletConfiguration.kubeReserved.cpu:"),
            (json!({"evictionHard": {"memory.available": "'; reboot"}}), "kubeletConfiguration.evictionHard.memory"),
        ] {
            let text = Kubelet::parse(&value).expect_err("is refused").to_string();
            assert!(text.starts_with(expected), "{text}");
        }
    }
}
