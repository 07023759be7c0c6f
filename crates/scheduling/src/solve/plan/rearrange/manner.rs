//! Where pods without a node go: each plan is made in another manner.

use packing::Dice;

use super::{
    super::super::{Greedy, bits::Bits},
    ASK, Planned, Rearranging,
};

/// For each pod so many opened nodes are looked at, and as many of those opened last.
const WINDOW: usize = 32;

/// How pods without a node are put on some.
pub(super) struct Manner {
    /// On the first node that takes it; else on the one that costs the least more.
    first_fit: bool,
    /// A new node counts as so much dearer than it is. Unit: percent.
    new_percent: i64,
    /// A new node may cost so many times what the least costs that its first pod fits on.
    times: i64,
    elsewhere: Option<Elsewhere>,
    /// Wishes are given up before anything else is tried: who grants them may take another's only place.
    pub(super) is_wishless: bool,
    /// New nodes are in one domain of this label after another, from this one on.
    over: Option<(usize, usize)>,
}

/// Some pods go where the others would not go first: on a node there is only if there is no other.
pub(super) struct Elsewhere {
    /// One in so many, picked by a number.
    one_in: u64,
    salt: u64,
    /// Those that ask for the same go together.
    together: bool,
    /// Each on a node of its own.
    alone: bool,
}

impl<'a> Rearranging<'_, 'a> {
    pub(super) fn manner(&mut self, is_short: bool) -> Manner {
        let keys = self.start.search.topology.groups.keys.len();
        let over = (keys > 0 && self.dice.below(2) == 0).then(|| (self.index(keys as u64), self.index(1 << 16)));
        let is_there = !self.start.search.existing.is_empty();
        let elsewhere = (self.dice.below(if is_there { 2 } else { 4 }) == 0).then(|| Elsewhere {
            one_in: 1 + self.dice.below(3),
            salt: self.dice.roll(),
            together: self.dice.below(2) == 0,
            alone: self.dice.below(if is_there { 3 } else { 1 }) == 0,
        });
        Manner {
            over,
            elsewhere,
            is_wishless: is_short && self.dice.below(3) == 0,
            first_fit: self.dice.below(2) == 0,
            new_percent: [60, 100, 100, 150, 250][self.index(5)],
            times: [1, 1, 2, 3, 4, 8, 16, i64::MAX][self.index(8)],
        }
    }

    /// The nodes for a pod of this kind, those first that seem the best.
    pub(super) fn candidates(
        &mut self,
        plan: &Greedy<'a>,
        position: usize,
        kind: usize,
        manner: &Manner,
    ) -> Vec<Planned> {
        let search = &plan.search;
        let there = self.reach.existing(kind);
        let from = self.index(there.len() as u64);
        self.work = self.work.saturating_sub(ASK * there.len() as u64);
        let mut there = there[from..].iter().chain(&there[..from]);
        let there =
            there.find(|index| search.fits_existing(kind, **index).is_ok()).map(|index| Planned::Existing(*index));
        let elsewhere = manner.elsewhere.as_ref().filter(|one| {
            let picked = if one.together { self.queue[position].1 } else { position };
            Dice(one.salt ^ picked as u64).below(one.one_in) == 0
        });
        let last = match there {
            Some(there) if elsewhere.is_none() => return vec![there],
            other => other,
        };
        let weight = |template: usize| search.templates[template].pool.weight;
        let heaviest = self.reach.templates(kind).map(weight).max();
        // Pools of less weight come after all others.
        let later = |template: usize| Some(weight(template)) < heaviest;
        let mut found: Vec<((bool, i64, usize), Planned)> = Vec::new();
        // Of many nodes some, and the last ones.
        let open = search.open.len();
        let (some, newest) = if open > 2 * WINDOW {
            let from = self.index((open - 2 * WINDOW) as u64);
            (from..from + WINDOW, open - WINDOW..open)
        } else {
            (0..0, 0..open)
        };
        for index in some.chain(newest) {
            self.work = self.work.saturating_sub(ASK);
            let Ok(fit) = search.fits_open(kind, index) else { continue };
            let template = search.open[index].template;
            let price = fit.choices.iter().next().map_or(0, |one| search.templates[template].choices[one].price.0);
            let more = if manner.first_fit { 0 } else { price.saturating_sub(search.bought(index).0.price.0) };
            found.push(((false, more, found.len()), Planned::Open(index)));
            if manner.first_fit {
                break;
            }
        }
        for template in self.reach.templates(kind) {
            let choices = self.reach.choices(kind, template);
            let price = |one: usize| search.templates[template].choices[one].price.0;
            let Some(least) = choices.iter().map(price).min() else { continue };
            let mut capped = choices.clone();
            capped.retain(|one| price(one) <= least.saturating_mul(manner.times));
            let more = if manner.first_fit { i64::MAX } else { least.saturating_mul(manner.new_percent) / 100 };
            let mut there = Bits::none(0);
            if let Some((key, first)) = manner.over {
                let domains = &search.templates[template].domains[key];
                if let Some((_, can)) = domains.get((first + search.open.len()) % domains.len().max(1)) {
                    there = capped.clone();
                    there.keep_common(can);
                }
            }
            for (choices, more) in [(there, more), (capped, more), (choices.clone(), i64::MAX)] {
                if choices.is_empty() {
                    continue;
                }
                let node = Planned::New { template, choices, labels: None };
                found.push(((later(template), more, found.len()), node));
            }
        }
        let alone = elsewhere.is_some_and(|one| one.alone);
        found.sort_by_key(|(rank, node)| (alone && matches!(node, Planned::Open(_)), *rank));
        found.into_iter().map(|(_, node)| node).chain(last).collect()
    }
}
