//! What an operator tells the adapter about the cluster.

use std::collections::BTreeMap;

/// Cluster-wide settings; every one has the name of Karpenter's, in the words of this code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the cluster: goes into tags, launch templates and the nodes' bootstrap.
    pub cluster_name: String,
    /// What no other cluster has, whatever its name: UID of its namespace `kube-system`. Marks what is this cluster's.
    pub cluster_uid: String,
    /// URL of the API server as nodes reach it.
    pub cluster_endpoint: String,
    /// The cluster's CA certificate, base64 of PEM. Without it nodes discover it from EKS.
    pub cluster_ca: Option<String>,
    /// Address range of Services; AL2023 nodes need it. `10.100.0.0/16`.
    pub service_cidr: Option<String>,
    /// `MAJOR.MINOR` of the API server; chooses the image. `1.28`.
    pub kubernetes_version: String,
    /// Instance profile of classes that name none.
    pub default_instance_profile: Option<String>,
    /// Tags on everything that is created; a class's own tags win.
    pub tags: BTreeMap<String, String>,
    /// Share of the memory that the hypervisor and the firmware take, in thousandths. Default 75.
    pub vm_memory_overhead_permille: u32,
    /// Whether a node's pods are limited by the addresses of its network interfaces; else 110. Default true.
    pub eni_limited_pod_density: bool,
    /// Network interfaces that are not for pods. Default 0.
    pub reserved_enis: u32,
    /// Without a route to the Pricing API: on-demand prices come from the shipped table. Default false.
    pub isolated_vpc: bool,
    /// First part of the names of the image parameters. AWS publishes under `/aws/service`, the default.
    pub image_parameter_prefix: String,
}

impl Settings {
    /// Settings of a cluster with every default.
    pub fn new(cluster_name: &str, cluster_uid: &str, cluster_endpoint: &str, kubernetes_version: &str) -> Self {
        Self {
            cluster_name: cluster_name.to_owned(),
            cluster_uid: cluster_uid.to_owned(),
            cluster_endpoint: cluster_endpoint.to_owned(),
            cluster_ca: None,
            service_cidr: None,
            kubernetes_version: kubernetes_version.to_owned(),
            default_instance_profile: None,
            tags: BTreeMap::new(),
            vm_memory_overhead_permille: 75,
            eni_limited_pod_density: true,
            reserved_enis: 0,
            isolated_vpc: false,
            image_parameter_prefix: "/aws/service".to_owned(),
        }
    }
}
