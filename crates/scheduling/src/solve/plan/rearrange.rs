//! A plan rearranged by the engine's own rules: some nodes are taken away, their pods go elsewhere in another order, and
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

mod manner;
mod ruin;

use std::collections::BTreeMap;

use packing::Dice;

use self::manner::Manner;
use super::{
    super::{Greedy, Queue, Rest, open::Open},
    Best, FEW, Task,
    carry_out::Planned,
    kept::Kept,
    orders::{Order, orders},
    reach::Reach,
};
use crate::{PodKey, Target};

/// No more pods than this are rearranged.
pub(super) const PODS: usize = 2000;
/// What it is to ask a node about a pod, and to begin anew.
const ASK: u64 = 200;
const BEGIN: u64 = 20_000;
/// If so many plans one after another are no better, there is an end; of fewer pods than [`FEW`] it takes as many times more.
const PATIENCE: usize = 600;
/// Of the same beginning one plan is made for so many pods, and one more.
const PODS_A_TRY: usize = 32;
/// After so many it goes on from the best one.
const BACK: usize = 60;
/// Of the plans that cost no more than this above the best, one in so many is gone on from: of many pods, as much as it is of few.
const WORSE_PERCENT: i128 = 3;
const ODDS: u64 = 16;

/// Rearranges the best plan until it is known to be one (`is_closed`) or nothing is gained any more. Returns how much work that was.
pub(super) fn improve<'a>(task: &Task<'_, 'a>, is_closed: &dyn Fn(&Best<'_>) -> bool, best: &mut Best<'a>) -> u64 {
    let mut start = task.start.clone();
    // Whoever must be near pods that choose more freely need not wait for these: many orders are tried.
    start.search.topology.stop_waiting(true);
    let work = start.search.settings.search_work_units;
    let mut search = Rearranging {
        orders: orders(&start.search, task.queue),
        positions: task.queue.iter().enumerate().map(|(position, (pod, _))| (&pod.key, position)).collect(),
        start,
        queue: task.queue,
        reach: &task.reach,
        dice: Dice(1),
        work,
    };
    let mut now = search.layout(&best.plan);
    let (mut rank, mut in_vain) = (best.rank.clone(), 0);
    let tries = 1 + task.queue.len() / PODS_A_TRY;
    let patience = PATIENCE * (FEW / task.queue.len().max(1)).max(1);
    while in_vain < patience && search.work > 0 && !is_closed(best) && !(task.stop)() {
        if in_vain % BACK < tries {
            (now, rank) = (search.layout(&best.plan), best.rank.clone());
        }
        let begun = search.begin(&now);
        for _ in 0..tries {
            in_vain += 1;
            let near = search.most(best.rank.1.0);
            // Where pods have no place, what places more may cost what it will.
            let most = if best.rank.0.is_empty() { near } else { i64::MAX };
            let Some((mut plan, rest)) = search.finish(&begun, &now, most) else { continue };
            let other = plan.rank(&rest);
            let (places_more, places_as_many) = (other.0 < best.rank.0, other.0 == best.rank.0);
            let is_near = places_as_many && other.1.0 <= near;
            let is_tried = other < best.rank || other <= rank || (is_near && search.dice.below(ODDS) == 0);
            if !is_tried && (best.is_bound || !places_as_many) {
                continue;
            }
            let kept = Kept::by(&plan, &best.weights);
            let gains = places_more || (places_as_many && best.is_worse(&other, &kept));
            if !(gains || is_tried && kept.is_within(&best.kept)) {
                continue;
            }
            (now, rank) = (search.layout(&plan), other);
            if gains {
                plan.widen();
                best.consider(plan, rest);
                in_vain = 0;
            }
            break;
        }
    }
    work - search.work
}

struct Rearranging<'t, 'a> {
    start: Greedy<'a>,
    queue: &'t Queue<'a>,
    reach: &'t Reach,
    positions: BTreeMap<&'a PodKey, usize>,
    /// By pod.
    orders: Vec<Order>,
    dice: Dice,
    work: u64,
}

/// Which pods are on which nodes.
struct Layout {
    nodes: Vec<Planned>,
    /// By pod: its node, and its turn among all.
    place: Vec<Option<(usize, usize)>>,
}

/// A layout without some of its nodes, as far as it does not matter where the pods of these go.
struct Begun<'a> {
    plan: Greedy<'a>,
    nodes: Vec<Planned>,
    /// The pods that come after these.
    left: Vec<usize>,
    /// By pod: whether it has lost its place.
    loose: Vec<bool>,
}

impl<'a> Rearranging<'_, 'a> {
    /// What a plan may cost to be gone on from, if the best one costs so much.
    fn most(&self, cost: i64) -> i64 {
        let worse = i128::from(cost) * WORSE_PERCENT * FEW as i128 / self.queue.len().max(FEW) as i128 / 100;
        cost.saturating_add(i64::try_from(worse).unwrap_or(0))
    }

    fn layout(&self, plan: &Greedy<'a>) -> Layout {
        let search = &plan.search;
        let there: BTreeMap<_, usize> =
            search.existing.iter().enumerate().map(|(index, one)| (&one.node.key, index)).collect();
        let new = |(index, node): (usize, &Open<'a>)| {
            let template = &search.templates[node.template];
            let mut choices = node.choices.clone();
            if template.min_values.is_empty() {
                let price = search.bought(index).0.price;
                choices.retain(|choice| template.choices[choice].price <= price);
            }
            Planned::New { template: node.template, choices, labels: None }
        };
        let mut nodes: Vec<Planned> = search.open.iter().enumerate().map(new).collect();
        let mut sites: BTreeMap<usize, usize> = BTreeMap::new();
        let mut place = vec![None; self.queue.len()];
        for (key, placement) in &plan.placed {
            let site = match &placement.node {
                Target::New(index) => *index,
                Target::Existing(key) => *sites.entry(there[key]).or_insert_with(|| {
                    nodes.push(Planned::Existing(there[key]));
                    nodes.len() - 1
                }),
            };
            place[self.positions[key]] = Some((site, placement.turn));
        }
        Layout { nodes, place }
    }

    /// Takes some nodes away, and puts the pods back that come before all that have no place now.
    fn begin(&mut self, layout: &Layout) -> Begun<'a> {
        self.work = self.work.saturating_sub(BEGIN);
        let mut loose = self.ruin(layout);
        let (mut plan, mut nodes) = (self.start.clone(), layout.nodes.clone());
        let mut order: Vec<usize> = (0..self.queue.len()).collect();
        let times = self.times(layout, &loose);
        order.sort_by_key(|position| times[*position]);
        let first_loose = order.iter().position(|position| loose[*position]).unwrap_or(order.len());
        let mut left = Vec::new();
        for position in order.drain(..first_loose) {
            let site = layout.place[position].map(|(site, _)| site);
            if !site.is_some_and(|site| self.put(&mut plan, position, &mut nodes[site])) {
                loose[position] = true;
                left.push(position);
            }
        }
        left.append(&mut order);
        Begun { plan, nodes, left, loose }
    }

    /// Puts the other pods where they were, or somewhere else; `None` if that is dearer than `most`.
    fn finish(&mut self, begun: &Begun<'a>, layout: &Layout, most: i64) -> Option<(Greedy<'a>, Rest<'a>)> {
        let Begun { plan, nodes, left, loose } = begun;
        self.work = self.work.saturating_sub(BEGIN);
        let manner = self.manner(layout.place.contains(&None));
        let (mut plan, mut nodes) = (plan.clone(), nodes.clone());
        let mut left = self.order(layout, left, loose);
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

    /// By pod: when it comes. Those that keep their places come as they came; the loose after these, but not later than they may.
    fn times(&self, layout: &Layout, loose: &[bool]) -> Vec<usize> {
        let turn = |position: usize| layout.place[position].filter(|_| !loose[position]).map(|(_, turn)| turn);
        let is_later = |position: &usize| self.orders[*position] == Order::Later;
        let later = (0..self.queue.len()).filter(is_later).filter_map(turn).min().unwrap_or(usize::MAX / 2);
        let time = |position: usize| match (turn(position), self.orders[position]) {
            (Some(turn), _) => turn * 2 + 1,
            (None, Order::Early) => later * 2,
            (None, Order::Any | Order::Later) => usize::MAX,
        };
        (0..self.queue.len()).map(time).collect()
    }

    /// These pods in the order in which they are put somewhere.
    fn order(&mut self, layout: &Layout, pods: &[usize], loose: &[bool]) -> Vec<usize> {
        let way = self.dice.below(6);
        let salt = self.dice.roll();
        let times = self.times(layout, loose);
        let key = |position: usize| {
            let asked = self.queue[position].1 as u64;
            let among = match way {
                // As the greedy rule takes them.
                0 => 0,
                1 => Dice(salt ^ position as u64).roll(),
                _ => Dice(salt ^ asked).roll(),
            };
            (times[position], among, position)
        };
        let mut order = pods.to_vec();
        order.sort_by_cached_key(|position| key(*position));
        order
    }

    /// Puts a pod on this node with as many of its wishes as can be.
    fn put(&mut self, plan: &mut Greedy<'a>, position: usize, node: &mut Planned) -> bool {
        self.work = self.work.saturating_sub(ASK);
        let (pod, asked) = self.queue[position];
        let placement = plan.put_with_wishes(pod, asked, node);
        placement.map(|placement| plan.has_put(pod, asked, placement)).is_some()
    }

    /// Puts a pod on this node without so many of its wishes.
    fn put_as(&mut self, plan: &mut Greedy<'a>, position: usize, given_up: usize, node: &mut Planned) -> bool {
        self.work = self.work.saturating_sub(ASK);
        let (pod, asked) = self.queue[position];
        let kind = plan.search.stages_of(asked)[given_up];
        let Ok(placement) = plan.put(pod, kind, node) else { return false };
        plan.note_given_up(asked, given_up);
        plan.has_put(pod, asked, placement);
        true
    }

    /// Puts a pod on some node, there, opened or new, with as many of its wishes as can be.
    fn insert(&mut self, plan: &mut Greedy<'a>, position: usize, manner: &Manner) -> bool {
        let asked = self.queue[position].1;
        let stages = plan.search.stages_of(asked).len();
        for stage in 0..stages {
            let given_up = if manner.is_wishless { stages - 1 - stage } else { stage };
            let kind = plan.search.stages_of(asked)[given_up];
            for mut node in self.candidates(plan, position, kind, manner) {
                if self.put_as(plan, position, given_up, &mut node) {
                    return true;
                }
            }
        }
        false
    }

    /// A number below this one, or zero.
    fn index(&mut self, end: u64) -> usize {
        usize::try_from(self.dice.below(end)).unwrap_or(0)
    }
}

fn cost(plan: &Greedy<'_>) -> i64 {
    (0..plan.search.open.len()).fold(0, |sum: i64, index| sum.saturating_add(plan.search.bought(index).0.price.0))
}
