//! The test bed: real servers on this machine, and honest stand-ins for what cannot run here.
//!
//! Real: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, Prometheus, Helm. Standing in: KWOK for kubelets,
//! moto with our additions for EC2 (`tests/aws-double`), [`joiner`] for the boot of a machine, [`mesh`] for a service mesh.
//!
//! | module | what |
//! |---|---|
//! | [`bed`] | a control plane per test |
//! | [`binaries`] | where its programs come from |
//! | [`apply`], [`charts`] | manifests and Helm charts into the API server |
//! | [`programs`] | our own programs as processes, with their chart's ServiceAccount |
//! | [`aws`], [`joiner`], [`userdata`] | the AWS double, and how its instances become nodes |
//! | [`mesh`], [`prometheus`] | request counters and who scrapes them |
//! | [`corpus`] | what real KEDA did, and where we may differ |
//! | [`eventually`] | waiting with a deadline |
//! | [`children`] | processes that never outlive us |

pub mod apply;
pub mod aws;
pub mod bed;
pub mod binaries;
pub mod charts;
pub mod children;
pub mod corpus;
pub mod eventually;
pub mod joiner;
pub mod mesh;
pub mod pki;
pub mod ports;
pub mod programs;
pub mod prometheus;
pub mod rights;
pub mod userdata;
