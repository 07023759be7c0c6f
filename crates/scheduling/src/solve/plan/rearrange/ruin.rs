//! Which pods lose their places.

use std::collections::BTreeSet;

use super::{Layout, Rearranging};

/// So many pods that are alike lose their places at once, at most.
const LOOSE: usize = 64;
/// So many nodes are taken away at once, at most.
const NODES: u64 = 4;

impl Rearranging<'_, '_> {
    /// By pod: whether it loses its place. Those without one have none to lose.
    pub(super) fn ruin(&mut self, layout: &Layout) -> Vec<bool> {
        let (pods, nodes) = (self.queue.len() as u64, layout.nodes.len() as u64);
        let mut loose: Vec<bool> = layout.place.iter().map(Option::is_none).collect();
        let waiting: Vec<usize> = (0..loose.len()).filter(|position| loose[*position]).collect();
        if !waiting.is_empty() && self.dice.below(2) == 0 {
            let waiting = waiting[self.index(waiting.len() as u64)];
            self.loosen_for(waiting, &mut loose);
        }
        match self.dice.below(8) {
            0 | 1 if pods <= LOOSE as u64 => loose.fill(true),
            0..=2 => {
                // All that ask for the same as one of them, and all that ask for the same as another; of many some.
                for _ in 0..=self.dice.below(2) {
                    let first = self.index(pods);
                    let asked = self.queue[first].1;
                    let same = (0..self.queue.len()).map(|step| (first + step) % self.queue.len());
                    let same = same.filter(|position| self.queue[*position].1 == asked);
                    same.take(LOOSE).for_each(|position| loose[position] = true);
                }
            }
            way => {
                let mut gone = Vec::new();
                let first = self.index(nodes);
                for _ in 0..=self.dice.below(NODES) {
                    let near = (first + gone.len()) % layout.nodes.len().max(1);
                    gone.push(if way < 6 { near } else { self.index(nodes) });
                }
                for (place, loose) in layout.place.iter().zip(&mut loose) {
                    *loose |= place.is_some_and(|(site, _)| gone.contains(&site));
                }
                // Now and then a few from elsewhere.
                for _ in 0..self.dice.below(3) {
                    let position = self.index(pods);
                    loose[position] = true;
                }
            }
        }
        loose
    }

    /// Takes their places from pods that matter for one without a place.
    fn loosen_for(&mut self, waiting: usize, loose: &mut [bool]) {
        let search = &self.start.search;
        let relations = |asked: usize| search.stages_of(asked).iter().map(|kind| &search.kinds[*kind].shape.relations);
        let rules = relations(self.queue[waiting].1).flat_map(|relations| &relations.rules);
        let groups: BTreeSet<usize> = rules.map(|rule| search.topology.groups.first_alike[rule.group]).collect();
        let matters = |asked: usize| {
            let mut counted = relations(asked).flat_map(|relations| &relations.counted);
            counted.any(|(first, _)| groups.contains(first))
        };
        let one_in = 1 + self.dice.below(3);
        for (loose, (_, asked)) in loose.iter_mut().zip(self.queue) {
            *loose |= self.dice.below(one_in) == 0 && matters(*asked);
        }
    }
}
