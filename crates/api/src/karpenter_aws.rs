//! `karpenter.k8s.aws`: where and how machines are made on AWS.

mod aws_node_template;
mod ec2_node_class;

pub use aws_node_template::*;
pub use ec2_node_class::*;
