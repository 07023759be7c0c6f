//! The objects people write: `keda.sh`, `eventing.keda.sh`, `karpenter.sh`, `karpenter.k8s.aws` and `karpenter.kwok.sh`, as Rust types.
//!
//! In: what the API server stores. Out: typed specs and statuses, the CRDs that describe them
//! ([`crds`]), what is wrong with an object ([`validate`]), what admission says to it ([`admission`]), what is accepted but not acted upon yet
//! ([`mod@unsupported`]), the values the core crates decide on ([`convert`]), and what of a pod matters to its node ([`pods`], [`budget`], [`volumes`]).
//!
//! The types are liberal where an older release of the originals was: a stored object that this
//! crate cannot decode would stop a watch for everybody, so only fields that every release of the
//! original restricts are Rust enums; the others are text that [`validate`] judges.
//!
//! Nothing here talks to a cluster.

pub mod admission;
pub mod budget;
pub mod condition;
pub mod convert;
mod crds;
pub mod eventing;
mod field;
pub mod karpenter_aws;
pub mod karpenter_kwok;
pub mod karpenter_v1;
pub mod karpenter_v1alpha1;
pub mod karpenter_v1alpha5;
pub mod keda;
pub mod pods;
mod schema;
pub mod unsupported;
pub mod validate;
pub mod volumes;

pub use crds::{crds, file_name};
pub use field::{FieldError, FieldNotice, in_one_line, joined};
