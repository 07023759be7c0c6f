//! Machines from EC2.
//!
//! In goes a class (an inline v1alpha5 `provider`, an AWSNodeTemplate or an EC2NodeClass) and a claim; out come EC2
//! instances that carry the claim's UID in their tags, and whose user data joins the cluster.
//!
//! ```text
//!  NodeClass ─ class ─┐                    ┌─ type_info ─ capacity ─ labels ─┐
//!                     ├─ offers ◄──────────┤                                 ├──► InstanceType
//!                     │                    └─ prices, unavailable ───────────┘
//!                     ├─ images ─ user_data ─ template ─┐
//!  LaunchRequest ─────┴─ fleet (choose, place) ─────────┴─ CreateFleet ─ fleet (read) ──► Machine
//! ```
//!
//! Everything but `aws`, `account`, `launch`, `provider` and `batch` is plain functions over values. Every call passes
//! the limiter ([`limits`]) and every error the one sorting function ([`errors`]).
//!
//! The endpoint is the SDK's business: `AWS_ENDPOINT_URL` leads to an emulator, and nothing here knows.
//!
//! Not here yet: instance profiles made from a `role`, capacity reservations, placement groups, several network
//! interfaces, Windows. A class that asks for one of them is refused by name.

mod account;
mod aws;
mod batch;
mod capacity;
mod class;
mod class_v1;
mod errors;
mod fleet;
mod images;
mod kubelet;
mod labels;
mod launch;
mod limits;
mod machine;
mod offers;
mod prices;
mod provider;
mod recent;
mod selectors;
mod settings;
mod template;
mod type_info;
mod unavailable;
mod user_data;

pub use provider::{AwsCloud, ConnectError};
pub use settings::Settings;
