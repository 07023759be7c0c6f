//! A plan that was refused, with all that it takes to make it again.

use serde::{Deserialize, Serialize};

use super::Violation;
use crate::{Settings, Snapshot, Solution};

/// A plan that the checker refused, with all that it was made from: what node-provisioner saves, and `tandem simulate` makes again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// What kind of file this is: [`Refused::FORMAT`].
    pub format: String,
    /// Who made the plan.
    pub planner: String,
    /// What there was, and what was wanted.
    pub snapshot: Snapshot,
    /// How it was planned.
    pub settings: Settings,
    /// The plan of a moment before that the search began with.
    pub earlier: Option<Solution>,
    /// The plan; none if its maker panicked.
    pub solution: Option<Solution>,
    /// The promises it breaks.
    pub violations: Vec<Violation>,
}

impl Refused {
    /// The value of `format`.
    pub const FORMAT: &str = "tandem-refused-plan/1";
}
