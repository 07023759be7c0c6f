//! Labels that follow from an instance type: `karpenter.k8s.aws/instance-*` and the well-known ones.

use std::collections::BTreeMap;

use requirements::labels::{ARCH, INSTANCE_TYPE, OS};

use crate::class::Generation;
use crate::type_info::TypeInfo;

const PREFIX: &str = "karpenter.k8s.aws/instance-";

/// Every label the type alone decides. What a type does not have is not named: no GPU, no GPU label.
pub(crate) fn of_type(info: &TypeInfo, generation: Generation, pods: i64) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = [
        (INSTANCE_TYPE.to_owned(), info.name.clone()),
        (ARCH.to_owned(), info.arch.label().to_owned()),
        (OS.to_owned(), "linux".to_owned()),
    ]
    .into();
    let mut set = |name: &str, value: String| {
        labels.insert(format!("{PREFIX}{name}"), value);
    };
    set("hypervisor", info.hypervisor.clone());
    set("family", info.family().to_owned());
    set("size", info.size().to_owned());
    set("cpu", info.vcpus.to_string());
    set("memory", info.memory_mib.to_string());
    set("encryption-in-transit-supported", info.encrypts_transit.to_string());
    set("capability-flex", info.family().contains("-flex").to_string());
    if generation == Generation::V1Alpha5 {
        set("pods", pods.to_string());
    }
    if let Some((category, number)) = info.category_and_generation() {
        set("category", category.to_owned());
        set("generation", number.to_owned());
    }
    if !info.cpu_maker.is_empty() {
        set("cpu-manufacturer", info.cpu_maker.clone());
    }
    let numbers = [
        ("cpu-sustained-clock-speed-mhz", info.clock_mhz),
        ("local-nvme", info.nvme_gb),
        ("network-bandwidth", info.network_mbps),
        ("ebs-bandwidth", info.ebs_mbps),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            set(name, number.to_string());
        }
    }
    if let Some(gpus) = &info.gpus {
        set("gpu-name", gpus.name.clone());
        set("gpu-manufacturer", gpus.maker.clone());
        set("gpu-count", gpus.count.to_string());
        set("gpu-memory", gpus.memory_mib.to_string());
    }
    if let Some(neuron) = &info.neuron {
        set("accelerator-name", neuron.name.clone());
        set("accelerator-manufacturer", neuron.maker.clone());
        set("accelerator-count", neuron.count.to_string());
    }
    labels
}

/// Whether a kubelet may be started with `--node-labels` of this key.
///
/// It refuses to start with one of the Kubernetes domains outside the few it knows (`k8s.io/kubernetes/pkg/kubelet/apis`).
/// The type, the zone and the like it finds out by itself, and they differ between offerings of one launch.
pub(crate) fn kubelet_accepts(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|it| it.ends_with('.'));
    if key.starts_with(PREFIX) || key == INSTANCE_TYPE || key.starts_with("topology.") {
        return false;
    }
    if within("kubelet.kubernetes.io") || within("node.kubernetes.io") {
        return true;
    }
    !(within("kubernetes.io") || within("k8s.io"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::type_info::tests::plain;
    use crate::type_info::{Arch, Devices};

    #[test]
    fn a_plain_type_has_no_label_of_hardware_it_lacks() {
        let labels = of_type(&plain("m5.large", Arch::Amd64, 2, 8192, 3, 10), Generation::V1Alpha5, 29);
        let get = |name: &str| labels.get(&format!("{PREFIX}{name}")).map(String::as_str);
        assert_eq!(
            (get("category"), get("generation"), get("family"), get("size")),
            (Some("m"), Some("5"), Some("m5"), Some("large"))
        );
        assert_eq!((get("cpu"), get("memory"), get("pods")), (Some("2"), Some("8192"), Some("29")));
        assert_eq!((get("gpu-count"), get("local-nvme"), get("accelerator-count")), (None, None, None));
    }

    #[test]
    fn gpus_are_described() {
        let mut info = plain("g4dn.xlarge", Arch::Amd64, 4, 16384, 3, 10);
        info.gpus = Some(Devices { name: "t4".into(), maker: "nvidia".into(), count: 1, memory_mib: 16384, cores: 0 });
        let labels = of_type(&info, Generation::V1, 29);
        assert_eq!(labels["karpenter.k8s.aws/instance-gpu-memory"], "16384");
        assert!(!labels.contains_key("karpenter.k8s.aws/instance-pods"), "dropped in v1");
    }

    #[test]
    fn a_kubelet_is_only_given_labels_it_takes() {
        let table = [
            ("team", true),
            ("karpenter.sh/provisioner-name", true),
            ("karpenter.sh/capacity-type", true),
            ("node.kubernetes.io/team", true),
            ("node.kubernetes.io/instance-type", false),
            ("node-role.kubernetes.io/worker", false),
            ("kubernetes.io/arch", false),
            ("topology.kubernetes.io/zone", false),
            ("karpenter.k8s.aws/instance-cpu", false),
            ("notkubernetes.io/team", true),
        ];
        for (key, accepted) in table {
            assert_eq!(kubelet_accepts(key), accepted, "{key}");
        }
    }
}
