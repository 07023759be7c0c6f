//! What an operator can set.

use std::{path::PathBuf, time::Duration};

use crate::batch::Window;

/// Settings of the node controller.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long pending pods are collected before they are solved together.
    pub batch: Window,
    /// Time for the cloud to grant a machine before its claim is given up and its pods are planned anew.
    ///
    /// Karpenter's value is five minutes.
    pub launch_timeout: Duration,
    /// Time for a machine to join after its launch before its claim is given up. Karpenter's value is fifteen minutes.
    pub registration_timeout: Duration,
    /// Time between two looks for machines nobody owns. Karpenter's steady value is two minutes.
    pub garbage_interval: Duration,
    /// How old a machine without a claim must be before it is ended: the cloud's lists lag behind. Karpenter: 30 s.
    pub garbage_grace: Duration,
    /// How long a node that is to be replaced waits for its replacement before it is put back into service.
    ///
    /// Karpenter gives replacements ten minutes.
    pub replacement_timeout: Duration,
    /// Time between two plans for pods that found no place.
    pub retry_interval: Duration,
    /// Work units the solver may spend on one plan.
    pub solver_budget: u64,
    /// Whether what pods prefer is left to the kube-scheduler. Karpenter's `PREFERENCE_POLICY=Ignore`.
    pub ignore_preferences: bool,
    /// Whether `minValues` may be missed where it cannot be met. Karpenter's `MIN_VALUES_POLICY=BestEffort`.
    pub relax_min_values: bool,
    /// Whether the kube-scheduler is told which pods a new node is meant for.
    pub nominate_pods: bool,
    /// Whether KWOKNodeClasses are followed; their CRD must be there then.
    pub kwok_classes: bool,
    /// Where plans go that the checker refused.
    pub rejected_plans: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch: Window { idle: Duration::from_secs(1), max: Duration::from_secs(10) },
            launch_timeout: Duration::from_mins(5),
            registration_timeout: Duration::from_mins(15),
            garbage_interval: Duration::from_mins(2),
            garbage_grace: Duration::from_secs(30),
            replacement_timeout: Duration::from_mins(10),
            retry_interval: Duration::from_secs(10),
            // As `tandem simulate`, so that it shows what would be bought.
            solver_budget: scheduling::Settings::default().budget_work_units,
            ignore_preferences: false,
            relax_min_values: false,
            nominate_pods: true,
            kwok_classes: false,
            rejected_plans: std::env::temp_dir().join("tandem-rejected-plans"),
        }
    }
}

impl Settings {
    /// What the solver is told.
    pub fn solver(&self) -> scheduling::Settings {
        scheduling::Settings {
            budget_work_units: self.solver_budget,
            ignore_preferences: self.ignore_preferences,
            relax_min_values: self.relax_min_values,
            ..scheduling::Settings::default()
        }
    }

    /// How long a planned place is kept for its pod after the place is ready: twice the longest batch, at least ten
    /// seconds, as in Karpenter.
    pub fn nomination_ttl(&self) -> Duration {
        (self.batch.max * 2).max(Duration::from_secs(10))
    }
}
