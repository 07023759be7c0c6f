//! `karpenter.k8s.aws`: where and how machines are made on AWS.

mod aws_node_template;

pub use aws_node_template::*;
