//! The rule Karpenter packs by, on groups: the measure of what we must never exceed.
//!
//! Pods go by size, largest first. A pod tries the nodes that are there, then the nodes being planned, those with the
//! fewest pods first, then a new node. A planned node has no kind yet: it keeps every kind that still holds all its pods,
//! and price is looked at only in the end. Equal nodes are one class with a count, so the cost depends on the number of
//! groups and not on the number of pods.

use crate::meter::Meter;
use crate::model::{Model, UNLIMITED, take};
use crate::plan::{Opened, Plan, Supply};

/// Rounds in which a new node may still become anything.
const OPEN_ROUNDS: usize = 3;

/// Nodes that are in the same state.
#[derive(Clone, Debug)]
struct Class {
    copies: u64,
    /// There before us: filled one after the other, not evenly.
    existing: bool,
    pods: u64,
    used: Vec<i64>,
    /// The largest capacity among `bins`, for each resource: a quick "no".
    largest: Vec<i64>,
    /// Kinds that still hold everything.
    bins: Vec<usize>,
    content: Vec<(usize, u64)>,
    labels: Vec<u32>,
}

pub(crate) fn first_fit(model: &Model, meter: &Meter<'_>) -> Plan {
    let mut order: Vec<usize> = (0..model.groups.len()).collect();
    order.sort_by(|&a, &b| model.groups[b].request.cmp(&model.groups[a].request).then(a.cmp(&b)));
    let mut greedy = Greedy { model, classes: Vec::new(), supply: Supply::new(model), decided: false, meter };
    for bin in 0..model.bins.len() {
        let kind = &model.bins[bin];
        if kind.stock != UNLIMITED && kind.price == 0 {
            let copies = greedy.supply.nodes(model, bin);
            if copies > 0 {
                let mut class = greedy.empty(vec![bin], copies);
                class.existing = true;
                greedy.supply.open(model, bin, copies);
                greedy.classes.push(class);
            }
        }
    }
    let mut missing = model.demand();
    // Limits are charged with the largest kind a node could become. Settling on the cheapest frees some of that, and
    // another round may place more; in the last rounds the kind is decided at once, so that they end.
    for round in 0.. {
        greedy.decided = round >= OPEN_ROUNDS;
        let before = missing.clone();
        for &group in &order {
            missing[group] = greedy.place(group, missing[group]);
        }
        let done = missing.iter().all(|count| *count == 0);
        if done || model.limits.is_empty() || (greedy.decided && missing == before) {
            break;
        }
        greedy.settle();
    }
    greedy.settle();
    let nodes = greedy.classes.into_iter().filter(|class| class.pods > 0).map(|class| {
        let content = crate::plan::joined(&class.content, &[]);
        Opened { bin: class.bins[0], copies: class.copies, content }
    });
    let mut plan = Plan { nodes: nodes.collect(), missing };
    plan.merge();
    plan
}

struct Greedy<'a> {
    model: &'a Model,
    classes: Vec<Class>,
    supply: Supply,
    /// New nodes are of the cheapest kind that takes the pod, from the start.
    decided: bool,
    meter: &'a Meter<'a>,
}

impl Greedy<'_> {
    /// Place pods of one group; returns how many found no place.
    fn place(&mut self, group: usize, mut count: u64) -> u64 {
        if count == 0 {
            return 0;
        }
        count = self.use_existing(group, count);
        count = if count == 1 { self.use_emptiest(group) } else { self.level(group, count) };
        while count > 0 {
            let placed = self.open(group, count);
            if placed == 0 {
                break;
            }
            count -= placed;
        }
        count
    }

    fn use_existing(&mut self, group: usize, mut count: u64) -> u64 {
        let mut at = 0;
        while at < self.classes.len() && count > 0 {
            if self.classes[at].existing {
                let room = self.room(&self.classes[at], group);
                if let Some(full) = count.checked_div(room) {
                    let copies = self.classes[at].copies;
                    let full = full.min(copies);
                    if full > 0 {
                        self.split(at, full);
                        self.add(at, group, room);
                        count -= full * room;
                        if full < copies {
                            at += 1;
                        }
                    }
                    if full < copies && count > 0 {
                        self.split(at, 1);
                        self.add(at, group, count);
                        count = 0;
                    }
                }
            }
            at += 1;
        }
        count
    }

    fn use_emptiest(&mut self, group: usize) -> u64 {
        let mut best: Option<usize> = None;
        for (at, class) in self.classes.iter().enumerate() {
            let emptier = best.is_none_or(|best| class.pods < self.classes[best].pods);
            if !class.existing && emptier && self.takes(class, group) {
                best = Some(at);
            }
        }
        self.meter.spend(self.classes.len() * 4);
        let Some(at) = best else { return 1 };
        self.split(at, 1);
        self.add(at, group, 1);
        0
    }

    /// Fewest pods first, pod by pod, is water filling: raise every class that takes the group to a common level.
    fn level(&mut self, group: usize, count: u64) -> u64 {
        let rooms: Vec<(usize, u64)> = (0..self.classes.len())
            .filter(|&at| !self.classes[at].existing)
            .map(|at| (at, self.room(&self.classes[at], group)))
            .filter(|(_, room)| *room > 0)
            .collect();
        let raised = |level: u64| -> u128 {
            let each = rooms.iter().map(|&(at, room)| {
                let class = &self.classes[at];
                u128::from(level.saturating_sub(class.pods).min(room)) * u128::from(class.copies)
            });
            each.sum()
        };
        let top = rooms.iter().map(|&(at, room)| self.classes[at].pods.saturating_add(room)).max().unwrap_or(0);
        let (mut low, mut high) = (0, top);
        while low < high {
            let middle = low + (high - low) / 2;
            if raised(middle) >= u128::from(count) { high = middle } else { low = middle + 1 }
        }
        let level = low;
        self.meter.spend(rooms.len() * 64);
        let below = level.saturating_sub(1);
        let mut left = count - u64::try_from(raised(below)).unwrap_or(count).min(count);
        // From the back, so that splitting does not move what is still to come.
        let mut plan: Vec<(usize, u64, u64)> = Vec::with_capacity(rooms.len());
        for &(at, room) in &rooms {
            let class = &self.classes[at];
            let even = below.saturating_sub(class.pods).min(room);
            let more = if room > even && class.pods + even == below { class.copies.min(left) } else { 0 };
            left -= more;
            plan.push((at, even, more));
        }
        for (at, even, more) in plan.into_iter().rev() {
            if more == 0 {
                self.add(at, group, even);
            } else if more == self.classes[at].copies {
                self.add(at, group, even + 1);
            } else {
                self.split(at, more);
                self.add(at + 1, group, even);
                self.add(at, group, even + 1);
            }
        }
        left
    }

    /// Open new nodes for a group; returns how many pods they take.
    fn open(&mut self, group: usize, count: u64) -> u64 {
        let model = self.model;
        let takes = |bin: &usize| model.bins[*bin].fits.has(group) && self.supply.nodes(model, *bin) > 0;
        let endless = (0..model.bins.len()).filter(|bin| model.bins[*bin].stock == UNLIMITED);
        let mut bins: Vec<usize> = endless.filter(takes).collect();
        if bins.is_empty() {
            bins.extend((0..model.bins.len()).filter(takes).take(1));
        }
        if self.decided {
            bins = bins.into_iter().min_by_key(|&bin| (model.bins[bin].price, bin)).into_iter().collect();
        }
        self.meter.spend(model.bins.len());
        if bins.is_empty() {
            return 0;
        }
        // A node takes as many pods as its largest kind holds, and kinds that hold fewer are out: a limit is charged with
        // what remains, or it would admit node after node as each takes less than it was charged with.
        let room = bins.iter().map(|&bin| model.room(bin, group)).max().unwrap_or(0).min(count);
        bins.retain(|&bin| model.room(bin, group) >= room);
        let class = self.empty(bins, 1);
        let Some(mut copies) = count.checked_div(room) else { return 0 };
        for (left, worst) in self.supply.limits().iter().zip(self.worst(&class)) {
            if worst > 0 {
                copies = copies.min(u64::try_from(left / i128::from(worst)).unwrap_or(UNLIMITED));
            }
        }
        if model.bins[class.bins[0]].stock != UNLIMITED {
            copies = copies.min(self.supply.nodes(model, class.bins[0]));
        }
        let class = Class { copies, ..class };
        self.charge(&class, 1);
        self.classes.push(class);
        self.add(self.classes.len() - 1, group, room);
        room * copies
    }

    fn empty(&self, bins: Vec<usize>, copies: u64) -> Class {
        let used = vec![0; self.model.resources];
        let largest = self.largest(&bins);
        Class { copies, existing: false, pods: 0, used, largest, bins, content: Vec::new(), labels: Vec::new() }
    }

    fn largest(&self, bins: &[usize]) -> Vec<i64> {
        let each = |resource: usize| bins.iter().map(|&bin| self.model.bins[bin].capacity[resource]).max();
        (0..self.model.resources).map(|resource| each(resource).unwrap_or(0)).collect()
    }

    /// Whether one node of a class can still take a pod of a group.
    fn takes(&self, class: &Class, group: usize) -> bool {
        let pods = &self.model.groups[group];
        if self.is_shut(class, group) || there(class, group) >= pods.most {
            return false;
        }
        let holds = |bin: &&usize| {
            let kind = &self.model.bins[**bin];
            kind.fits.has(group) && pods.asks.iter().all(|&(at, asked)| asked <= kind.capacity[at] - class.used[at])
        };
        let looked = class.bins.iter().position(|bin| holds(&bin));
        self.meter.spend((looked.unwrap_or(class.bins.len()) + 1) * pods.asks.len());
        looked.is_some()
    }

    /// Whether no node of a class takes a pod of a group, as can be told without looking at its kinds.
    fn is_shut(&self, class: &Class, group: usize) -> bool {
        let pods = &self.model.groups[group];
        pods.asks.iter().any(|&(at, asked)| asked > class.largest[at] - class.used[at])
            || pods.labels.iter().any(|label| class.labels.contains(label))
    }

    /// How many pods of a group one node of a class can still take.
    fn room(&self, class: &Class, group: usize) -> u64 {
        if self.is_shut(class, group) {
            return 0;
        }
        let pods = &self.model.groups[group];
        self.meter.spend(class.bins.len() * pods.asks.len());
        let most = pods.most - there(class, group).min(pods.most);
        let each = class.bins.iter().filter(|&&bin| self.model.bins[bin].fits.has(group)).map(|&bin| {
            let capacity = &self.model.bins[bin].capacity;
            let fitting = |&(at, asked): &(usize, i64)| u64::try_from((capacity[at] - class.used[at]) / asked);
            pods.asks.iter().map(|ask| fitting(ask).unwrap_or(0)).fold(most, u64::min)
        });
        each.max().unwrap_or(0)
    }

    /// Make the class at an index have so many copies; the rest follow it, unchanged.
    fn split(&mut self, at: usize, copies: u64) {
        if copies < self.classes[at].copies {
            let rest = Class { copies: self.classes[at].copies - copies, ..self.classes[at].clone() };
            self.classes[at].copies = copies;
            self.classes.insert(at + 1, rest);
        }
    }

    /// Put so many pods of a group on each node of a class, and forget the kinds that are too small for that.
    fn add(&mut self, at: usize, group: usize, count: u64) {
        if count == 0 {
            return;
        }
        let before = self.classes[at].clone();
        let model = self.model;
        let class = &mut self.classes[at];
        let pods = &model.groups[group];
        let mut negative: Vec<i64> = class.used.iter().map(|used| -used).collect();
        take(&mut negative, &pods.asks, count);
        class.used = negative.into_iter().map(i64::saturating_neg).collect();
        class.bins.retain(|&bin| {
            let kind = &model.bins[bin];
            kind.fits.has(group) && class.used.iter().zip(&kind.capacity).all(|(used, whole)| used <= whole)
        });
        class.pods += count;
        class.content.push((group, count));
        class.labels.extend_from_slice(&pods.labels);
        if class.bins.len() < before.bins.len() {
            let bins = class.bins.clone();
            self.classes[at].largest = self.largest(&bins);
            self.charge(&before, -1);
            let after = self.classes[at].clone();
            self.charge(&after, 1);
        }
    }

    /// The most a node of a class may count under each limit.
    fn worst(&self, class: &Class) -> Vec<i64> {
        let most = |limit: usize| class.bins.iter().map(|&bin| self.model.bins[bin].counts[limit]).max().unwrap_or(0);
        (0..self.model.limits.len()).map(most).collect()
    }

    fn charge(&mut self, class: &Class, sign: i128) {
        if class.existing {
            return;
        }
        let worst = self.worst(class);
        self.supply.charge_limits(&worst, sign * i128::from(class.copies));
        if let [bin] = class.bins[..]
            && self.model.bins[bin].stock != UNLIMITED
            && class.pods == 0
        {
            self.supply.charge_stock(bin, sign * i128::from(class.copies));
        }
    }

    /// Decide every node's kind: the cheapest that holds its content.
    fn settle(&mut self) {
        let mut supply = Supply::new(self.model);
        for class in &mut self.classes {
            let cheapest = class.bins.iter().min_by_key(|&&bin| (self.model.bins[bin].price, bin));
            class.bins = cheapest.copied().into_iter().collect();
            if let Some(&bin) = class.bins.first() {
                class.largest.clone_from(&self.model.bins[bin].capacity);
                supply.open(self.model, bin, class.copies);
            }
        }
        self.supply = supply;
    }
}

/// How many pods of a group are on each node of a class.
fn there(class: &Class, group: usize) -> u64 {
    class.content.iter().filter(|(other, _)| *other == group).map(|(_, count)| *count).sum()
}
