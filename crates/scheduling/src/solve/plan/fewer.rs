//! Plans for as many pods as the limits of the pools let in.
//!
//! Where limits leave no room for all, a packing leaves some out, and does not ask where: of pods to be spread over zones it
//! may leave out those of one zone, and then the others may not go to theirs either. So they are planned once more without
//! so many as had no place, dealt out anew, until all that are planned have one.

use super::{
    Task,
    carry_out::{Plan, Way},
    wanted::Wanted,
};

/// How often. Each time fewer are left out, mostly none the second time.
const ROUNDS: u64 = 4;

impl Task<'_, '_> {
    /// Offers plans for fewer pods than there are, as long as limits leave some of them out. `planned`: what is wanted for so
    /// many pods of each kind.
    pub(super) fn plan_fewer(&self, planned: impl Fn(&[u64]) -> Vec<Wanted>, offer: &mut dyn FnMut(Plan, &[Way])) {
        let work = self.start.search.settings.search_work_units / ROUNDS / 2;
        let mut counts = self.left.clone();
        for _ in 0..ROUNDS {
            let known = self.plan_by_weight(planned(&counts), &self.classes(), work, offer);
            if known.left_out.is_empty() || (self.stop)() {
                return;
            }
            for (kind, pods) in known.left_out {
                counts[kind] = counts[kind].saturating_sub(pods);
            }
        }
    }
}
