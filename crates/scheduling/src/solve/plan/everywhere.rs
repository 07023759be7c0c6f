//! All pods at once with their wishes, on the nodes there are too.
//!
//! What the greedy rule puts on nodes there are need not be what should go there: a pod that has another cheap place may
//! take room that others could only buy dearly. The bound's plan sees that, but knows of no wishes, so that a plan which
//! has to grant some may not come of it. This one is made of what the pods are planned as.

use std::collections::BTreeSet;

use super::{
    EXISTING, Task,
    carry_out::{Plan, Way},
    known::Known,
    model::Model,
    wanted::Wanted,
};

impl Task<'_, '_> {
    /// The nodes there are that may take some of these pods, if they are not too many to be planned with.
    pub(super) fn there(&self, wanted: &[Wanted]) -> Option<BTreeSet<usize>> {
        let there = wanted.iter().flat_map(|wanted| self.reach.existing(wanted.kind).iter().copied());
        let there: BTreeSet<usize> = there.collect();
        (there.len() <= EXISTING).then_some(there)
    }

    /// Leaves what is wanted the pools of the largest weight.
    pub(super) fn keep_heaviest(&self, wanted: &mut Wanted) {
        let weight = |template: &usize| self.start.search.templates[*template].pool.weight;
        let largest = wanted.templates.iter().map(weight).max();
        wanted.templates.retain(|template| Some(weight(template)) == largest);
    }

    /// Offers a plan for all pods, each on a node there is or in the pools of the largest weight that can have a node for it,
    /// and adds what it has taught to what is known.
    pub(super) fn plan_everywhere(
        &self,
        mut wanted: Vec<Wanted>,
        work: u64,
        known: &mut Known,
        offer: &mut dyn FnMut(Plan, &[Way]),
    ) {
        let search = &self.start.search;
        for wanted in &mut wanted {
            self.keep_heaviest(wanted);
        }
        let mut model = Model::to_plan(search, &self.reach, wanted);
        model.add_existing(search, &self.reach);
        let warm = self.warm(&model).unwrap_or_else(|| known.of(&model));
        let packing = self.pack(&model, work, Some(&warm));
        if self.has_broken_off(&packing) {
            return;
        }
        let mut plan = Plan::new(self.left.len());
        plan.add(&model, &packing);
        known.learn(&model, &packing.warm);
        offer(plan, &self.stages.ways());
    }
}
