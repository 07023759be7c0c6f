//! Small problems to the end: every way to put the pods on nodes, pod by pod, by the engine's own rules.
//!
//! ```text
//! pods left, nodes so far ──▶ each pod that may be next × each node that takes it (there, opened, new) ──▶ one pod fewer
//!        └── given up: what cannot be cheaper than the best so far, what was seen in another order already
//! ```
//!
//! A new node is opened as one of the *sorts* of its pool (`sorts`): choices that no pod and no relation tells apart; it
//! becomes narrower with its pods, as everywhere. So what costs least is found among all plans that place as many pods, give
//! up no wish more than the best plan had to before, and put no more pods on pools of less weight. Pods that nothing relates
//! to others come last and in one order only; for the others every order counts, since a spread or an affinity may let in
//! later what it refuses now; but whoever counts in a spread and demands none comes before those that do.
//!
//! What a state costs at least is worked out for all pods that are left together (`least`), zone by zone where they demand
//! something of others in their zone (`zones`); of zones that nothing tells apart only one is looked at (`mirrors`).
//!
//! The work is counted, so that it ends at the same place each time, and what is remembered is bounded.

mod content;
mod least;
mod mirrors;
mod sorts;
mod zones;

use std::collections::BTreeMap;

use units::UsdMicrosPerHour;

use self::{
    content::{Content, New, cost},
    least::Least,
    mirrors::Mirrors,
    sorts::{Sort, Sorts},
};
use super::{
    super::{Greedy, Queue, Rank, Rest, make::Preset, map::Set, open::Fit, relations::Demand, search::Search},
    Best, Task,
    carry_out::Planned,
    kept::{self, Kept, Weights},
    orders::{Order, orders},
    reach::Reach,
};
use crate::Pod;

/// Of so many pods every way is tried.
const PODS: usize = 10;
/// If so many nodes there are may take some of them, it is no small problem.
const NODES: usize = 24;
/// No more work than this, in the unit of `search_work_units`.
const WORK: u64 = 50_000_000;
/// What it is to ask one node about one pod, and to look at what follows if it takes it.
const ASK: u64 = 500;
const TAKE: u64 = 5_000;
/// So many states are remembered.
const SEEN: usize = 100_000;

/// Looks for the best plan there is, and says whether the best one now is that.
pub(super) fn improve<'a>(task: &Task<'_, 'a>, best: &mut Best<'a>) -> bool {
    let (pods, nowhere): (Queue<'a>, Queue<'a>) =
        task.queue.iter().partition(|(_, asked)| !task.reach.is_nowhere(task.stages.least[*asked]));
    if pods.len() > PODS || !nowhere.is_empty() && best.rank.0.len() < nowhere.len() {
        return false;
    }
    let Some(mut tree) = Tree::of(task.start, &pods, &task.reach, &best.weights, task.stop) else { return false };
    tree.nowhere = nowhere;
    if best.rank.0.len() > tree.nowhere.len() {
        // Whether more can be placed, whatever it costs and gives up.
        tree.most = None;
        if !tree.search(best) {
            return false;
        }
    }
    tree.most = Some(best.kept.clone());
    tree.search(best) && tree.sorts.are_all
}

/// The search and what it knows.
struct Tree<'t, 'a> {
    start: Greedy<'a>,
    pods: &'t Queue<'a>,
    nowhere: Queue<'a>,
    /// By pod: its number among those that nothing tells apart.
    alike: Vec<u32>,
    /// By pod: whether others matter for it, or it for others.
    related: Vec<bool>,
    /// By pod: the set of those that come before it, because others are spread by them and they wait for nobody (see [`Order`]).
    after: Vec<usize>,
    /// Whether the order of the related matters.
    ordered: bool,
    /// The nodes there are that may take one of the pods.
    there: Vec<usize>,
    sorts: Sorts,
    mirrors: Mirrors,
    weights: Weights,
    reach: &'t Reach,
    least: Option<Least>,
    /// How much may be given up; `None` for everything, as long as more pods have a place.
    most: Option<Kept>,
    goal: Rank,
    found: Option<Vec<Move>>,
    seen: Set<Vec<u32>>,
    work: u64,
    stop: &'t dyn Fn() -> bool,
    has_broken_off: bool,
}

/// Some of the pods on nodes.
#[derive(Clone)]
struct State<'a> {
    search: Search<'a>,
    /// The pods that are left, in the order of the queue.
    left: Vec<usize>,
    moves: Vec<Move>,
    content: Content,
}

#[derive(Clone, Copy)]
struct Move {
    pod: usize,
    given_up: usize,
    to: To,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    Existing(usize),
    Open(usize),
    New { template: usize, sort: usize },
    Nowhere,
}

/// What follows from a state.
struct Child {
    next: Move,
    kind: usize,
    fit: Option<Fit>,
    content: Content,
    least: i64,
}

impl<'t, 'a> Tree<'t, 'a> {
    /// `None` if the problem is not small.
    fn of(
        start: &Greedy<'a>,
        pods: &'t Queue<'a>,
        reach: &'t Reach,
        weights: &Weights,
        stop: &'t dyn Fn() -> bool,
    ) -> Option<Self> {
        let mut start = start.clone();
        // Whoever must be near pods that choose more freely need not wait for these: every order is tried.
        start.search.topology.stop_waiting(true);
        start.search.stop_expecting();
        let search = &start.search;
        let kinds = |asked: usize| search.stages_of(asked).iter().copied();
        let all = || pods.iter().flat_map(|(_, asked)| kinds(*asked));
        let may = |index: &usize| all().any(|kind| reach.existing(kind).contains(index));
        let there: Vec<usize> = (0..search.existing.len()).filter(may).collect();
        let sorts = Sorts::of(search, &all().collect::<Vec<_>>(), pods.len())?;
        if there.len() > NODES {
            return None;
        }
        let mirrors = Mirrors::of(search, &all().collect::<Vec<_>>());
        let relations = |kind: usize| &search.kinds[kind].shape.relations;
        let related = |asked: usize| {
            kinds(asked).map(relations).any(|relations| {
                let (rules, repels) = (!relations.rules.is_empty(), !relations.repels.is_empty());
                rules || repels || !relations.counted.is_empty() || !relations.repelled.is_empty()
            })
        };
        // To be apart is mutual, if it is demanded.
        let mutual = |kind: usize| {
            let of = relations(kind);
            of.rules.iter().all(|rule| rule.demand == Demand::Apart && of.repels.contains(&(rule.group, rule.place)))
        };
        let orders = orders(search, pods);
        let after = |(index, (pod, _)): (usize, &(&Pod, usize))| {
            let first = pods
                .iter()
                .zip(&orders)
                .enumerate()
                .filter(|(_, ((other, _), order))| **order == Order::Early && other.priority >= pod.priority);
            first.filter(|_| orders[index] == Order::Later).fold(0, |set, (index, _)| set | 1 << index)
        };
        let mut numbers: BTreeMap<(usize, i32), u32> = BTreeMap::new();
        let mut number = |pod: &Pod, asked: usize| {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            *numbers.entry((asked, pod.priority)).or_insert(next)
        };
        let tree = Self {
            alike: pods.iter().map(|(pod, asked)| number(pod, *asked)).collect(),
            related: pods.iter().map(|(_, asked)| related(*asked)).collect(),
            after: pods.iter().enumerate().map(after).collect(),
            ordered: all().any(|kind| !mutual(kind)),
            reach,
            least: None,
            weights: weights.clone(),
            pods,
            nowhere: Queue::new(),
            there,
            sorts,
            mirrors,
            most: None,
            goal: Rank::default(),
            found: None,
            seen: Set::default(),
            work: search.settings.search_work_units.min(WORK),
            stop,
            has_broken_off: false,
            start,
        };
        Some(tree)
    }

    /// Looks for something better than the best, which becomes that. Whether the search came to its end.
    fn search(&mut self, best: &mut Best<'a>) -> bool {
        let mut without = best.rank.0.clone();
        for (pod, _) in &self.nowhere {
            let place = without.iter().position(|priority| *priority == pod.priority);
            place.map(|place| without.remove(place));
        }
        // Where only the number of pods counts, no plan is cheap enough to place as few.
        let cost = if self.most.is_none() { UsdMicrosPerHour(i64::MIN) } else { best.rank.1 };
        self.goal = (without, cost);
        self.found = None;
        self.seen.clear();
        let search = self.start.search.clone();
        let allowed = |(_, asked): &(&Pod, usize)| {
            let stages = search.stages_of(*asked);
            let most = self.most.as_ref().map_or(u32::MAX, |most| most.given_up[*asked]);
            stages[..stages.len().min(usize::try_from(most).unwrap_or(usize::MAX).saturating_add(1))].to_vec()
        };
        let stages: Vec<Vec<usize>> = self.pods.iter().map(allowed).collect();
        self.least = (!stages.is_empty()).then(|| Least::of(&search, self.reach, &stages, &self.there));
        let kept = Kept { given_up: vec![0; self.start.given_up.len()], below: self.weights.nothing() };
        let there = vec![0; self.there.len()];
        let content = Content { without: Vec::new(), kept, there, others: Vec::new(), nodes: Vec::new() };
        self.look(&State { search, left: (0..self.pods.len()).collect(), moves: Vec::new(), content });
        if let Some(moves) = self.found.take() {
            match self.carry_out(&moves) {
                Some((plan, rest)) => best.consider(plan, rest),
                None => self.has_broken_off = true,
            }
        }
        !self.has_broken_off
    }

    fn look(&mut self, state: &State<'a>) {
        if state.left.is_empty() {
            let cost = cost(&state.content.nodes);
            let rank = (state.content.without.clone(), UsdMicrosPerHour(cost));
            if rank < self.goal {
                let cost = if self.most.is_none() { UsdMicrosPerHour(i64::MIN) } else { rank.1 };
                self.goal = (rank.0, cost);
                self.found = Some(state.moves.clone());
            }
            return;
        }
        let mut children = self.children(state);
        children.sort_by_key(|child| (child.content.without.len(), child.least, child.next.to));
        for child in children {
            if self.work == 0 || self.seen.len() >= SEEN {
                self.has_broken_off = true;
                return;
            }
            if self.is_hopeless(&child.content, child.least) || !self.seen.insert(child.content.key()) {
                continue;
            }
            self.work = self.work.saturating_sub(TAKE);
            if self.seen.len().is_multiple_of(256) && (self.stop)() {
                self.has_broken_off = true;
                return;
            }
            let next = self.follow(state, child);
            self.look(&next);
        }
    }

    fn is_hopeless(&self, content: &Content, least: i64) -> bool {
        (&content.without, UsdMicrosPerHour(least)) >= (&self.goal.0, self.goal.1)
    }

    /// The pods that may be next: of those that are alike only one.
    fn next(&self, state: &State<'a>) -> Vec<usize> {
        let related: Vec<usize> = state.left.iter().copied().filter(|pod| self.related[*pod]).collect();
        if related.is_empty() || !self.ordered {
            return related.first().or(state.left.first()).copied().into_iter().collect();
        }
        let left = related.iter().fold(0, |set, pod| set | 1 << pod);
        let mut seen = Set::default();
        let may_come = |pod: &usize| self.after[*pod] & left == 0;
        related.into_iter().filter(|pod| may_come(pod) && seen.insert(self.alike[*pod])).collect()
    }

    fn children(&mut self, state: &State<'a>) -> Vec<Child> {
        let mut children = Vec::new();
        for pod in self.next(state) {
            let asked = self.pods[pod].1;
            let spent = state.content.kept.given_up[asked];
            for (given_up, kind) in state.search.stages_of(asked).iter().copied().enumerate() {
                let sum = spent.saturating_add(u32::try_from(given_up).unwrap_or(u32::MAX));
                if self.most.as_ref().is_some_and(|most| sum > most.given_up[asked]) {
                    break;
                }
                self.ask(state, pod, given_up, kind, &mut children);
            }
            let next = Move { pod, given_up: 0, to: To::Nowhere };
            self.add(state, next, state.search.stages_of(asked)[0], None, &mut children);
        }
        children
    }

    /// Asks every node about a pod of this kind.
    fn ask(&mut self, state: &State<'a>, pod: usize, given_up: usize, kind: usize, children: &mut Vec<Child>) {
        let search = &state.search;
        let sorts = self.sorts.of_pools(self.related[pod]);
        let asked = self.there.len() + search.open.len() + sorts.iter().map(Vec::len).sum::<usize>();
        self.work = self.work.saturating_sub(ASK * asked as u64);
        let mut fits: Vec<(To, Option<Fit>)> = Vec::new();
        let takes = |index: &&usize| search.fits_existing(kind, **index).is_ok();
        fits.extend(self.there.iter().filter(takes).map(|index| (To::Existing(*index), None)));
        for index in 0..search.open.len() {
            fits.extend(search.fits_open(kind, index).ok().map(|fit| (To::Open(index), Some(fit))));
        }
        for (template, sorts) in sorts.iter().enumerate() {
            for (sort, one) in sorts.iter().enumerate() {
                let used = state.content.nodes.iter().map(|node| self.sorts.sort(node.template, node.sort));
                if self.mirrors.is_needless(one, used) {
                    continue;
                }
                let Sort { choices, labels, .. } = one;
                let preset = Preset { choices, labels: Some(labels) };
                let fit = search.fit_within(template, Some(preset), kind, Some(&search.left.limits[template]));
                fits.extend(fit.map(|fit| (To::New { template, sort }, Some(fit))));
            }
        }
        for (to, fit) in fits {
            self.add(state, Move { pod, given_up, to }, kind, fit, children);
        }
    }

    /// Adds what follows if it may still become the best.
    fn add(&mut self, state: &State<'a>, next: Move, kind: usize, fit: Option<Fit>, children: &mut Vec<Child>) {
        let (pod, asked) = self.pods[next.pod];
        let mut content = state.content.clone();
        let number = self.alike[next.pod] << 8 | u32::try_from(next.given_up).unwrap_or(0xff);
        content.kept.given_up[asked] += u32::try_from(next.given_up).unwrap_or(u32::MAX);
        let search = &self.start.search;
        let price = |template: usize, fit: &Option<Fit>| {
            let first = fit.as_ref().and_then(|fit| fit.choices.iter().next());
            first.map_or(0, |choice| search.templates[template].choices[choice].price.0)
        };
        match next.to {
            To::Existing(index) => {
                if let Some(position) = self.there.iter().position(|there| *there == index) {
                    content.there[position] |= 1 << next.pod;
                }
                content.others.push((u32::try_from(index).unwrap_or(u32::MAX), number));
            }
            To::Nowhere => {
                let place = content.without.partition_point(|priority| *priority >= pod.priority);
                content.without.insert(place, pod.priority);
                content.others.push((u32::MAX, number));
            }
            To::Open(index) => {
                let node = &mut content.nodes[index];
                node.price = price(node.template, &fit);
                node.members |= 1 << next.pod;
                node.kinds.push(kind);
                node.pods.push(number);
            }
            To::New { template, sort } => {
                let price = price(template, &fit);
                let sort = sort * 2 + usize::from(self.related[next.pod]);
                let (kinds, pods, members) = (vec![kind], vec![number], 1 << next.pod);
                content.nodes.push(New { template, sort, price, kinds, pods, members });
            }
        }
        let nodes = content.nodes.iter().map(|node| (node.template, node.price, node.kinds.clone()));
        content.kept.below = self.weights.below(search, nodes);
        if self.most.as_ref().is_some_and(|most| !self.may_keep(state, next.pod, &content.kept, most)) {
            return;
        }
        let least =
            if content.without == self.goal.0 { self.least(state, next.pod, &content) } else { cost(&content.nodes) };
        if !self.is_hopeless(&content, least) {
            children.push(Child { next, kind, fit, content, least });
        }
    }

    /// Whether no more may be given up in the end than this. Who is left may yet justify a node of a pool of less weight.
    fn may_keep(&self, state: &State<'a>, next: usize, kept: &Kept, most: &Kept) -> bool {
        let light = |pod: &usize| {
            let kinds = state.search.stages_of(self.pods[*pod].1).iter();
            kinds.map(|kind| kept::heaviest(&self.start.search, *kind)).min().unwrap_or(0)
        };
        let lightest = state.left.iter().filter(|left| **left != next).map(light).min().unwrap_or(u32::MAX);
        let below = self.weights.of_pools.iter().cycle().zip(&kept.below).zip(&most.below);
        let no_more = |(one, most): (&u32, &u32)| one <= most;
        kept.given_up.iter().zip(&most.given_up).all(no_more)
            && below.into_iter().all(|((weight, one), most)| lightest < *weight || one <= most)
    }

    /// What the state costs at least if everybody else finds a place.
    fn least(&mut self, state: &State<'a>, next: usize, content: &Content) -> i64 {
        let left = state.left.iter().filter(|left| **left != next).fold(0, |set, pod| set | 1 << pod);
        let Self { least, sorts, start, .. } = self;
        let Some(least) = least else { return cost(&content.nodes) };
        let cost = least.cost(&start.search, sorts, content, left);
        self.work = self.work.saturating_sub(std::mem::take(&mut least.steps));
        cost
    }

    fn follow(&self, state: &State<'a>, child: Child) -> State<'a> {
        let Child { next, kind, fit, content, .. } = child;
        let mut search = state.search.clone();
        let pod = self.pods[next.pod].0;
        match (next.to, fit) {
            (To::Existing(index), _) => search.put_on_existing(kind, index),
            (To::Open(index), Some(fit)) => search.put_on_open(kind, index, fit, pod),
            (To::New { template, .. }, Some(fit)) => drop(search.open_as(template, fit, Vec::new(), kind, pod)),
            (To::Nowhere | To::Open(_) | To::New { .. }, _) => {}
        }
        let left = state.left.iter().copied().filter(|left| *left != next.pod).collect();
        let moves = state.moves.iter().copied().chain([next]).collect();
        State { search, left, moves, content }
    }

    /// The plan of these moves, by the way of all plans.
    fn carry_out(&self, moves: &[Move]) -> Option<(Greedy<'a>, Rest<'a>)> {
        let mut plan = self.start.clone();
        let mut rest = Rest { refused: self.nowhere.clone(), untried: Vec::new() };
        let mut nodes = Vec::new();
        for Move { pod, given_up, to } in moves.iter().copied() {
            let related = self.related[pod];
            let (pod, asked) = self.pods[pod];
            let kind = plan.search.stages_of(asked)[given_up];
            let placement = match to {
                To::Nowhere => {
                    rest.refused.push((pod, asked));
                    continue;
                }
                To::Existing(index) => plan.put(pod, kind, &mut Planned::Existing(index)),
                To::Open(index) => plan.put(pod, kind, nodes.get_mut(index)?),
                To::New { template, sort } => {
                    let Sort { choices, labels, .. } = self.sorts.of_pools(related)[template][sort].clone();
                    nodes.push(Planned::New { template, choices, labels: Some(labels) });
                    plan.put(pod, kind, nodes.last_mut()?)
                }
            };
            let placement = placement.ok()?;
            plan.note_given_up(asked, given_up);
            plan.has_put(pod, asked, placement);
        }
        plan.widen();
        Some((plan, rest))
    }
}
