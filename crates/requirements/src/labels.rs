//! Label keys with a meaning, their older names, and which of them a user may ask for.

/// The processor architecture: `amd64`, `arm64`.
pub const ARCH: &str = "kubernetes.io/arch";
/// The operating system: `linux`, `windows`.
pub const OS: &str = "kubernetes.io/os";
/// What the machine calls itself: different on every node, as a rule, and mostly the node's name.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// What stands for the node's name (`matchFields` of `metadata.name`) among labels; no label can be called so.
pub const NODE_NAME: &str = ".metadata.name";
/// The availability zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// The region.
pub const REGION: &str = "topology.kubernetes.io/region";
/// The instance type.
pub const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";
/// The build of Windows.
pub const WINDOWS_BUILD: &str = "node.kubernetes.io/windows-build";
/// How the machine is paid for: `spot`, `on-demand`, `reserved`.
pub const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
/// The v1alpha5 Provisioner a node belongs to.
pub const PROVISIONER_NAME: &str = "karpenter.sh/provisioner-name";
/// The v1 NodePool a node belongs to.
pub const NODEPOOL: &str = "karpenter.sh/nodepool";
/// Set to `true` once the node can take pods.
pub const INITIALIZED: &str = "karpenter.sh/initialized";
/// Set to `true` once the node of a claim has joined.
pub const REGISTERED: &str = "karpenter.sh/registered";
/// What keeps nodes and claims until their machine is gone.
pub const TERMINATION_FINALIZER: &str = "karpenter.sh/termination";
/// Node annotation: since when the node is empty, RFC 3339.
pub const EMPTINESS_TIMESTAMP: &str = "karpenter.sh/emptiness-timestamp";
/// Pod annotation of v0.16: this pod must not be evicted.
pub const DO_NOT_EVICT: &str = "karpenter.sh/do-not-evict";
/// Pod and node annotation of v1: leave it in peace.
pub const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
/// Node annotation of v0.16: never consolidate this node.
pub const DO_NOT_CONSOLIDATE: &str = "karpenter.sh/do-not-consolidate";
/// Key of the taint on a node that is being removed.
pub const DISRUPTED_TAINT: &str = "karpenter.sh/disrupted";
/// Key of Kubernetes' own taint on a node that is cordoned.
pub const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";
/// Key of the taint on a node that has not joined yet.
pub const UNREGISTERED_TAINT: &str = "karpenter.sh/unregistered";

/// The domain of the labels that describe an EC2 machine.
const AWS_DOMAIN: &str = "karpenter.k8s.aws";
const AWS_ZONE_ID: &str = "topology.k8s.aws/zone-id";
/// The labels of that domain that a machine can have. Source: karpenter-provider-aws 0.16 and 1, `pkg/apis`.
const AWS_LABELS: [&str; 30] = [
    "capacity-reservation-id",
    "capacity-reservation-interruptible",
    "capacity-reservation-type",
    "instance-accelerator-count",
    "instance-accelerator-manufacturer",
    "instance-accelerator-name",
    "instance-capability-flex",
    "instance-category",
    "instance-cpu",
    "instance-cpu-manufacturer",
    "instance-cpu-sustained-clock-speed-mhz",
    "instance-ebs-bandwidth",
    "instance-encryption-in-transit-supported",
    "instance-family",
    "instance-generation",
    "instance-gpu-count",
    "instance-gpu-manufacturer",
    "instance-gpu-memory",
    "instance-gpu-name",
    "instance-hypervisor",
    "instance-local-nvme",
    "instance-memory",
    "instance-network-bandwidth",
    "instance-pods",
    "instance-size",
    "instance-tenancy",
    "nitro-sandbox",
    "placement-group-id",
    "placement-group-partition",
    "ec2nodeclass",
];

/// The present name of a label key that has had others; any other key as it is.
pub fn normalize(key: &str) -> &str {
    match key {
        "failure-domain.beta.kubernetes.io/zone" | "topology.ebs.csi.aws.com/zone" => ZONE,
        "failure-domain.beta.kubernetes.io/region" => REGION,
        "beta.kubernetes.io/arch" => ARCH,
        "beta.kubernetes.io/os" => OS,
        "beta.kubernetes.io/instance-type" => INSTANCE_TYPE,
        _ => key,
    }
}

/// Whether the key's meaning is fixed: a new node can carry it though no pool names it.
pub fn is_well_known(key: &str) -> bool {
    is_of_the_machine(key)
        || matches!(
            key,
            HOSTNAME | ZONE | REGION | CAPACITY_TYPE | PROVISIONER_NAME | NODEPOOL | INITIALIZED | REGISTERED
        )
}

/// Whether only the instance type decides the label: a type that does not name it will not carry it.
pub fn is_of_the_machine(key: &str) -> bool {
    matches!(key, ARCH | OS | INSTANCE_TYPE | WINDOWS_BUILD | AWS_ZONE_ID) || domain(key) == AWS_DOMAIN
}

/// Why a Provisioner (v1alpha5) may not require or set this label, or `None` when it may.
///
/// Well-known keys are allowed; the domains of Kubernetes and Karpenter are not (karpenter v0.16,
/// `pkg/apis/provisioning/v1alpha5/labels.go`).
pub fn restricted_v1alpha5(key: &str) -> Option<String> {
    if let Some(why) = restricted_outright(key) {
        return Some(why);
    }
    if is_well_known(key) && !is_unknown_of_aws(key) {
        return None;
    }
    let domain = domain(key);
    let excepted = ["kops.k8s.io", "node.kubernetes.io", "node-restriction.kubernetes.io"];
    if excepted.iter().any(|exception| is_within(domain, exception)) {
        return None;
    }
    ["kubernetes.io", "k8s.io", "karpenter.sh", AWS_DOMAIN]
        .into_iter()
        .find(|reserved| is_within(domain, reserved))
        .map(|reserved| format!("label {key} is in the reserved domain {reserved}"))
}

/// Why a NodePool (v1) may not require or set this label, or `None` when it may.
pub fn restricted_v1(key: &str) -> Option<String> {
    if let Some(why) = restricted_outright(key) {
        return Some(why);
    }
    if is_well_known(key) && !is_unknown_of_aws(key) {
        return None;
    }
    let domain = domain(key);
    ["karpenter.sh", AWS_DOMAIN]
        .into_iter()
        .find(|reserved| is_within(domain, reserved))
        .map(|reserved| format!("label {key} is in the reserved domain {reserved}"))
}

/// Whether a key of EC2's domain is none of its labels: nobody would ever carry it, so it is a slip.
fn is_unknown_of_aws(key: &str) -> bool {
    key.split_once('/').is_some_and(|(domain, name)| domain == AWS_DOMAIN && !AWS_LABELS.contains(&name))
}

fn restricted_outright(key: &str) -> Option<String> {
    // An exclusion that is not understood would be one that does not hold.
    let unread = || (key == AWS_ZONE_ID).then(|| format!("label {key} is not read here: name zones by {ZONE}"));
    let of_the_node = matches!(key, HOSTNAME | NODE_NAME | EMPTINESS_TIMESTAMP);
    of_the_node.then(|| format!("label {key} belongs to the node alone")).or_else(unread)
}

fn domain(key: &str) -> &str {
    key.split_once('/').map_or("", |(domain, _)| domain)
}

fn is_within(domain: &str, parent: &str) -> bool {
    domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}

/// What is wrong with a label key, or `None`: an optional DNS domain and a slash, then 1 to 63 letters, digits,
/// `-`, `_` or `.`, beginning and ending with a letter or digit.
pub fn problem_with_key(key: &str) -> Option<String> {
    let name = match key.split_once('/') {
        None => key,
        Some((domain, name)) => {
            let label = |part: &str| {
                !part.is_empty()
                    && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && !part.starts_with('-')
                    && !part.ends_with('-')
            };
            if domain.len() > 253 || !domain.split('.').all(label) {
                return Some(format!("its domain {domain:?} is not a DNS name"));
            }
            name
        }
    };
    if name.is_empty() { Some("its name is empty".to_owned()) } else { problem_with_value(name) }
}

/// What is wrong with a label value, or `None`: up to 63 letters, digits, `-`, `_` or `.`, beginning and ending with a
/// letter or digit, or empty.
pub fn problem_with_value(value: &str) -> Option<String> {
    let outer = |b: Option<u8>| b.is_none_or(|b| b.is_ascii_alphanumeric());
    if value.len() > 63 {
        Some(format!("{value:?} is longer than 63 characters"))
    } else if !value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        Some(format!("{value:?} has characters other than letters, digits, -, _ and ."))
    } else if !outer(value.bytes().next()) || !outer(value.bytes().last()) {
        Some(format!("{value:?} must begin and end with a letter or digit"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_names_mean_the_present_ones() {
        for (old, new) in [
            ("failure-domain.beta.kubernetes.io/zone", ZONE),
            ("failure-domain.beta.kubernetes.io/region", REGION),
            ("topology.ebs.csi.aws.com/zone", ZONE),
            ("beta.kubernetes.io/arch", ARCH),
            ("beta.kubernetes.io/os", OS),
            ("beta.kubernetes.io/instance-type", INSTANCE_TYPE),
            ("team", "team"),
        ] {
            assert_eq!(normalize(old), new);
        }
    }

    #[test]
    fn reserved_domains_are_reserved_by_suffix() {
        let table = [
            ("team", true, true),
            ("example.com/team", true, true),
            ("notkubernetes.io/team", true, true),
            ("kubernetes.io/team", false, true),
            ("sub.k8s.io/team", false, true),
            ("node.kubernetes.io/team", true, true),
            ("kops.k8s.io/instancegroup", true, true),
            ("karpenter.sh/team", false, false),
            ("karpenter.sh/capacity-type", true, true),
            ("karpenter.k8s.aws/instance-family", true, true),
            ("karpenter.k8s.aws/instance-famly", false, false),
            ("sub.karpenter.k8s.aws/instance-family", false, false),
            ("kubernetes.io/arch", true, true),
            ("kubernetes.io/hostname", false, false),
            ("karpenter.sh/emptiness-timestamp", false, false),
        ];
        for (key, v1alpha5, v1) in table {
            assert_eq!(restricted_v1alpha5(key).is_none(), v1alpha5, "{key} in v1alpha5");
            assert_eq!(restricted_v1(key).is_none(), v1, "{key} in v1");
        }
    }

    #[test]
    fn keys_and_values_are_checked_as_kubernetes_does() {
        for good in ["a", "a.b/c", "A_b-c.d", "example.com/Team"] {
            assert_eq!(problem_with_key(good), None);
        }
        for bad in ["", "/a", "a/", "a/b/c", "Example.com/a", "-a", "a b", &"x".repeat(64)] {
            assert!(problem_with_key(bad).is_some(), "{bad}");
        }
        assert_eq!(problem_with_value(""), None);
    }
}
