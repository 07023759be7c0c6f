//! Few pods, rearranged by the engine's own rules: some nodes are taken away, their pods go elsewhere in another order, and
//! what places more or costs less is kept.
//!
//! The model of crate `packing` knows counts. What it cannot say (who keeps a node for whom, which zone a heap had better go
//! to, what a limit lets in if pods are spread evenly) is found here, because every step is the engine's:
//!
//! ```text
//! best plan ──▶ layout (pod → node, in the order of placing) ──ruin──▶ pods that stay ──▶ engine ──▶ pods that are loose,
//!     ▲                                                                                          one by one, new nodes too
//!     └────────────── if it ranks no worse ◀──────────────────────────────────────────────────────────────┘
//! ```
//!
//! The numbers it rolls are the same every time, and the work is counted, so that the same input gives the same plan.

use std::collections::BTreeMap;

use packing::Dice;

use super::{
    super::{Greedy, Queue, Rest, bits::Bits, relations::Demand, wishes::Turn},
    Best,
    carry_out::Planned,
    kept::Kept,
    reach::Reach,
};
use crate::{PodKey, Target};

/// No more work than this, in the unit of `search_work_units`.
const WORK: u64 = 100_000_000;
/// What it is to ask a node about a pod, and to begin anew.
const ASK: u64 = 200;
const BEGIN: u64 = 20_000;
/// If so many plans one after another are no better, there is an end.
const PATIENCE: usize = 1000;
/// After so many it goes on from the best one.
const BACK: usize = 60;
/// So many nodes are taken away at once, at most.
const NODES: u64 = 4;
/// Of the plans that cost no more than this above the best, one in so many is gone on from.
const WORSE_PERCENT: i64 = 3;
const ODDS: u64 = 16;

/// Rearranges the best plan until it is known to be one (`is_closed`) or nothing is gained any more. Returns how much work that was.
pub(super) fn improve<'a>(
    start: &Greedy<'a>,
    queue: &Queue<'a>,
    reach: &Reach,
    is_closed: &dyn Fn(&Best<'_>) -> bool,
    stop: &dyn Fn() -> bool,
    best: &mut Best<'a>,
) -> u64 {
    let mut start = start.clone();
    // Whoever must be near pods that choose more freely need not wait for these: many orders are tried.
    start.search.topology.stop_waiting(true);
    let work = start.search.settings.search_work_units.min(WORK);
    let mut search = Rearranging {
        comes_later: queue.iter().map(|(_, asked)| comes_later(&start, *asked)).collect(),
        positions: queue.iter().enumerate().map(|(position, (pod, _))| (&pod.key, position)).collect(),
        start,
        queue,
        reach,
        dice: Dice(1),
        work,
    };
    let mut now = search.layout(&best.plan);
    let (mut rank, mut in_vain) = (best.rank.clone(), 0);
    while in_vain < PATIENCE && search.work > 0 && !is_closed(best) && !stop() {
        in_vain += 1;
        if in_vain % BACK == 0 {
            (now, rank) = (search.layout(&best.plan), best.rank.clone());
        }
        let cost = best.rank.1.0;
        // Where pods have no place, what places more may cost what it will.
        let most = if best.rank.0.is_empty() { cost.saturating_add(cost / 100 * WORSE_PERCENT) } else { i64::MAX };
        let Some((mut plan, rest)) = search.other(&now, most) else { continue };
        let other = plan.rank(&rest);
        let gains = other < best.rank;
        let is_tried = gains || other <= rank || (other.0 == best.rank.0 && search.dice.below(ODDS) == 0);
        let places_more = other.0 < best.rank.0;
        if !is_tried || !(places_more || Kept::by(&plan).is_within(&best.kept)) {
            continue;
        }
        (now, rank) = (search.layout(&plan), other);
        if gains {
            plan.widen();
            best.consider(plan, rest);
            in_vain = 0;
        }
    }
    work - search.work
}

/// Whether pods of this number come after those that their spreads count and that choose freely (see [`Turn`]).
fn comes_later(start: &Greedy<'_>, asked: usize) -> bool {
    let search = &start.search;
    let mut kinds = search.stages_of(asked).iter();
    let spread = |kind: &usize| {
        let mut rules = search.kinds[*kind].shape.relations.rules.iter();
        rules.any(|rule| matches!(rule.demand, Demand::Spread { .. }))
    };
    search.turns[asked] > Turn::First && kinds.any(spread)
}

struct Rearranging<'t, 'a> {
    start: Greedy<'a>,
    queue: &'t Queue<'a>,
    reach: &'t Reach,
    positions: BTreeMap<&'a PodKey, usize>,
    /// By pod: whether it comes in the second half.
    comes_later: Vec<bool>,
    dice: Dice,
    work: u64,
}

/// Which pods are on which nodes.
struct Layout {
    nodes: Vec<Site>,
    /// By pod: its node, and its turn among all.
    place: Vec<Option<(usize, usize)>>,
}

/// A node of a layout.
#[derive(Clone)]
enum Site {
    Existing(usize),
    New { template: usize, choices: Bits },
}

/// How pods without a node are put on some.
struct Manner {
    /// On the first node that takes it; else on the one that costs the least more.
    first_fit: bool,
    /// A new node counts as so much dearer than it is. Unit: percent.
    new_percent: i64,
    /// A new node may cost so many times what the least costs that its first pod fits on.
    times: i64,
    /// New nodes are in one domain of this label after another, from this one on.
    over: Option<(usize, usize)>,
}

impl<'a> Rearranging<'_, 'a> {
    fn layout(&self, plan: &Greedy<'a>) -> Layout {
        let search = &plan.search;
        let there: BTreeMap<_, usize> =
            search.existing.iter().enumerate().map(|(index, one)| (&one.node.key, index)).collect();
        let new = |(index, node): (usize, &super::super::open::Open<'a>)| {
            let template = &search.templates[node.template];
            let mut choices = node.choices.clone();
            if template.min_values.is_empty() {
                let price = search.bought(index).0.price;
                choices.retain(|choice| template.choices[choice].price <= price);
            }
            Site::New { template: node.template, choices }
        };
        let mut nodes: Vec<Site> = search.open.iter().enumerate().map(new).collect();
        let mut sites: BTreeMap<usize, usize> = BTreeMap::new();
        let mut place = vec![None; self.queue.len()];
        for (key, placement) in &plan.placed {
            let site = match &placement.node {
                Target::New(index) => *index,
                Target::Existing(key) => *sites.entry(there[key]).or_insert_with(|| {
                    nodes.push(Site::Existing(there[key]));
                    nodes.len() - 1
                }),
            };
            place[self.positions[key]] = Some((site, placement.turn));
        }
        Layout { nodes, place }
    }

    /// Another plan, made of this one; `None` if it is dearer than `most`.
    fn other(&mut self, layout: &Layout, most: i64) -> Option<(Greedy<'a>, Rest<'a>)> {
        let loose = self.ruin(layout);
        let manner = self.manner();
        let order = self.order(layout, &loose);
        self.work = self.work.saturating_sub(BEGIN);
        let mut plan = self.start.clone();
        let mut nodes: Vec<Planned> = layout
            .nodes
            .iter()
            .map(|site| match site {
                Site::Existing(index) => Planned::Existing(*index),
                Site::New { template, choices } => {
                    Planned::New { template: *template, choices: choices.clone(), labels: None }
                }
            })
            .collect();
        let mut left = order;
        loop {
            let before = left.len();
            let mut refused = Vec::new();
            for position in left {
                let site = layout.place[position].filter(|_| !loose[position]);
                let has_place = site.is_some_and(|(site, _)| self.put(&mut plan, position, &mut nodes[site]))
                    || self.insert(&mut plan, position, &manner);
                if !has_place {
                    refused.push(position);
                } else if cost(&plan) > most {
                    return None;
                }
            }
            left = refused;
            if left.is_empty() || left.len() == before {
                break;
            }
        }
        left.sort_unstable();
        let refused = left.into_iter().map(|position| self.queue[position]).collect();
        Some((plan, Rest { refused, untried: Vec::new() }))
    }

    /// By pod: whether it loses its place. Those without one have none to lose.
    fn ruin(&mut self, layout: &Layout) -> Vec<bool> {
        let (pods, nodes) = (self.queue.len() as u64, layout.nodes.len() as u64);
        let mut loose: Vec<bool> = layout.place.iter().map(Option::is_none).collect();
        match self.dice.below(8) {
            0 | 1 if pods <= 64 => loose.fill(true),
            0..=2 => {
                // All that ask for the same as one of them, and all that ask for the same as another.
                for _ in 0..=self.dice.below(2) {
                    let asked = self.queue[self.index(pods)].1;
                    let same = self.queue.iter().zip(&mut loose).filter(|((_, other), _)| *other == asked);
                    same.for_each(|(_, loose)| *loose = true);
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

    fn manner(&mut self) -> Manner {
        let keys = self.start.search.topology.groups.keys.len();
        let over = (keys > 0 && self.dice.below(2) == 0).then(|| (self.index(keys as u64), self.index(1 << 16)));
        Manner {
            over,
            first_fit: self.dice.below(2) == 0,
            new_percent: [60, 100, 100, 150, 250][self.index(5)],
            times: [1, 1, 2, 3, 4, 8, 16, i64::MAX][self.index(8)],
        }
    }

    /// The pods in the order in which they are put somewhere: those that must come later do; before the loose come the others.
    fn order(&mut self, layout: &Layout, loose: &[bool]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.queue.len()).collect();
        let way = self.dice.below(6);
        let salt = self.dice.roll();
        let key = |position: usize| {
            let asked = self.queue[position].1 as u64;
            let turn = layout.place[position].filter(|_| !loose[position]).map_or(0, |(_, turn)| turn);
            let among = match way {
                // As the greedy rule takes them.
                0 => 0,
                1 => Dice(salt ^ position as u64).roll(),
                _ => Dice(salt ^ asked).roll(),
            };
            (self.comes_later[position], loose[position], turn, if loose[position] { among } else { 0 }, position)
        };
        order.sort_by_cached_key(|position| key(*position));
        order
    }

    /// Puts a pod on this node with as many of its wishes as can be.
    fn put(&mut self, plan: &mut Greedy<'a>, position: usize, node: &mut Planned) -> bool {
        let stages = plan.search.stages_of(self.queue[position].1).len();
        (0..stages).any(|given_up| self.put_as(plan, position, given_up, node))
    }

    /// Puts a pod on this node without so many of its wishes.
    fn put_as(&mut self, plan: &mut Greedy<'a>, position: usize, given_up: usize, node: &mut Planned) -> bool {
        self.work = self.work.saturating_sub(ASK);
        let (pod, asked) = self.queue[position];
        let kind = plan.search.stages_of(asked)[given_up];
        let Ok(placement) = plan.put(pod, kind, node) else { return false };
        plan.note_given_up(asked, given_up);
        plan.search.has_place(asked);
        plan.placed.push((&pod.key, placement));
        true
    }

    /// Puts a pod on some node, there, opened or new, with as many of its wishes as can be.
    fn insert(&mut self, plan: &mut Greedy<'a>, position: usize, manner: &Manner) -> bool {
        let asked = self.queue[position].1;
        for given_up in 0..plan.search.stages_of(asked).len() {
            let kind = plan.search.stages_of(asked)[given_up];
            for mut node in self.candidates(plan, kind, manner) {
                if self.put_as(plan, position, given_up, &mut node) {
                    return true;
                }
            }
        }
        false
    }

    /// The nodes for a pod of this kind, those first that seem the best.
    fn candidates(&mut self, plan: &Greedy<'a>, kind: usize, manner: &Manner) -> Vec<Planned> {
        let search = &plan.search;
        let there = self.reach.existing(kind);
        let from = self.index(there.len() as u64);
        self.work = self.work.saturating_sub(ASK * there.len() as u64);
        let mut there = there[from..].iter().chain(&there[..from]);
        if let Some(index) = there.find(|index| search.fits_existing(kind, **index).is_ok()) {
            return vec![Planned::Existing(*index)];
        }
        let weight = |template: usize| search.templates[template].pool.weight;
        let heaviest = self.reach.templates(kind).map(weight).max();
        // Pools of less weight come after all others.
        let later = |template: usize| Some(weight(template)) < heaviest;
        let mut found: Vec<((bool, i64, usize), Planned)> = Vec::new();
        for index in 0..search.open.len() {
            self.work = self.work.saturating_sub(ASK);
            let Ok(fit) = search.fits_open(kind, index) else { continue };
            let template = search.open[index].template;
            let price = fit.choices.iter().next().map_or(0, |one| search.templates[template].choices[one].price.0);
            let more = if manner.first_fit { 0 } else { price.saturating_sub(search.bought(index).0.price.0) };
            found.push(((later(template), more, found.len()), Planned::Open(index)));
            if manner.first_fit && !later(template) {
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
        found.sort_by_key(|(rank, _)| *rank);
        found.into_iter().map(|(_, node)| node).collect()
    }

    /// A number below this one, or zero.
    fn index(&mut self, end: u64) -> usize {
        usize::try_from(self.dice.below(end)).unwrap_or(0)
    }
}

fn cost(plan: &Greedy<'_>) -> i64 {
    (0..plan.search.open.len()).fold(0, |sum: i64, index| sum.saturating_add(plan.search.bought(index).0.price.0))
}
