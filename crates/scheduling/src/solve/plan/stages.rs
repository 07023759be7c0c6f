//! As what pods are planned: with how many of their wishes.

use std::collections::BTreeMap;

use super::{
    super::{Greedy, Queue, numbers_of},
    carry_out::Way,
};

/// What pods of each number are planned as, and what they are when all their wishes are given up.
pub(super) struct Stages {
    /// The kind, and how many wishes are given up.
    pub(super) planned: Vec<(usize, usize)>,
    pub(super) least: Vec<usize>,
}

impl Stages {
    /// Plans for as many wishes as some place grants.
    pub(super) fn of(start: &mut Greedy<'_>, queue: &Queue<'_>) -> Self {
        let search = &mut start.search;
        let numbers = numbers_of(queue);
        let (mut planned, mut least) = (Vec::new(), Vec::new());
        for asked in 0..numbers {
            least.push(search.least_kind(asked));
            let mut given_up = 0;
            let kind = loop {
                let Some(kind) = search.kind(asked, given_up) else { break least[asked] };
                let somewhere = search.kinds[kind].fresh.iter().any(Option::is_some)
                    || search.existing_to_try(kind).any(|index| search.fits_existing(kind, index).is_ok());
                if somewhere {
                    break kind;
                }
                given_up += 1;
            };
            planned.push((kind, given_up));
        }
        Self { planned, least }
    }

    /// Every pod as it is planned.
    pub(super) fn ways(&self) -> Vec<Way> {
        self.planned.iter().map(|way| Way { planned: way.0, stages: vec![*way] }).collect()
    }

    /// Every pod planned without wishes, and put with as many as can be.
    pub(super) fn wishful_ways(&self, start: &Greedy<'_>) -> Vec<Way> {
        let stages = |asked: usize| start.search.stages_of(asked).iter().copied().zip(0..).collect();
        self.least.iter().enumerate().map(|(asked, planned)| Way { planned: *planned, stages: stages(asked) }).collect()
    }

    /// Every pod planned and put without wishes.
    pub(super) fn wishless_ways(&self, start: &Greedy<'_>) -> Vec<Way> {
        let given_up = |asked: usize| start.search.stages_of(asked).len() - 1;
        let way = |(asked, least): (usize, &usize)| Way { planned: *least, stages: vec![(*least, given_up(asked))] };
        self.least.iter().enumerate().map(way).collect()
    }

    /// Whether any pod is planned with wishes.
    pub(super) fn have_wishes(&self) -> bool {
        self.planned.iter().zip(&self.least).any(|((planned, _), least)| planned != least)
    }

    /// By kind, all wishes given up: how many pods there are.
    pub(super) fn counts(&self, queue: &Queue<'_>) -> BTreeMap<usize, u64> {
        let mut counts = BTreeMap::new();
        for (_, asked) in queue {
            *counts.entry(self.least[*asked]).or_default() += 1;
        }
        counts
    }
}
