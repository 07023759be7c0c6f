//! Pods that must be on a node with others, planned with room kept for them where these others go.
//!
//! The greedy rule lets the others come first, and may fill their nodes with them: then those that must be beside them have
//! no place, for good. Here each of the others that goes on a new node takes some of those that follow it along, as if they
//! were one large pod. How many is tried several times: as few as it takes to place all, then twice as many on half as many
//! nodes, and so on, for the cheapest plan may be any of these; and half as many, and fewer, for no node may hold so many: the
//! rest goes where room is left. Under limits each of these is tried without those that take nobody along, too: one that does
//! brings more pods for what it takes of the limits.

use super::{
    super::search::Search,
    Task,
    carry_out::{Plan, Way},
    model::Model,
    reach::Reach,
    wanted::{Wanted, counted},
};

/// The ways of taking pods along that are tried: so many times as few as it takes, for one in so many of them. Each gets as much
/// work.
const WAYS: [(u64, u64); 9] = [(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (32, 1), (1, 2), (1, 4), (1, 8)];

/// All of these together get one in so many parts of the work: most are no good, and where limits are in the way none is proven.
const SHARE: u64 = 4;

/// How those that follow are dealt out to those whom they follow.
#[derive(Clone, Copy)]
struct Deal {
    /// So many times as many to each as there have to be if each takes its share.
    times: u64,
    /// One in so many of those that follow.
    parts: u64,
    /// Those that take nobody along are planned for as well.
    alone: bool,
}

/// Whether pods of the kind have to be on nodes with pods of some group.
pub(super) fn follows(search: &Search<'_>, kind: usize) -> bool {
    search.kinds[kind].shape.relations.companions().is_some()
}

impl Task<'_, '_> {
    /// Offers plans in which pods take those that must be beside them along: `planned` is for the pods that are not on nodes
    /// there are, `everywhere` for all of them. `offer` says whether there should be more.
    pub(super) fn plan_company(
        &self,
        planned: &[Wanted],
        everywhere: &[Wanted],
        offer: &mut dyn FnMut(Plan, &[Way]) -> bool,
    ) {
        let search = &self.start.search;
        let variants = [(planned, &self.left, false), (everywhere, &self.as_planned, true)];
        let is_limited = search.templates.iter().any(|template| !template.limits.is_empty());
        let with_alone = if is_limited { &[true, false][..] } else { &[true] };
        let deals = with_alone.iter().flat_map(|alone| WAYS.map(|(times, parts)| Deal { times, parts, alone: *alone }));
        let deals: Vec<Deal> = deals.collect();
        let work = search.settings.search_work_units / SHARE / (deals.len() * variants.len()) as u64;
        for (wanted, counts, with_existing) in variants {
            let there = self.there(wanted).filter(|there| !there.is_empty());
            if with_existing && there.is_none() {
                continue;
            }
            let mut before = Vec::new();
            for deal in &deals {
                if (self.stop)() {
                    return;
                }
                let nodes = Nodes { reach: &self.reach, with_existing };
                let mut wanted = taking_along(search, &nodes, wanted.to_vec(), counts, *deal);
                if wanted == before {
                    continue;
                }
                before.clone_from(&wanted);
                for wanted in &mut wanted {
                    self.keep_heaviest(wanted);
                }
                let mut model = Model::to_plan(search, &self.reach, wanted);
                let mut plan = Plan::new(self.left.len());
                if with_existing {
                    model.add_existing(search, &self.reach);
                } else {
                    self.kept.iter().for_each(|(kind, existing)| plan.keep(*kind, *existing));
                }
                plan.add(&model, &self.pack(&model, work, None));
                if !offer(plan, &self.stages.ways()) {
                    return;
                }
            }
        }
    }
}

/// What is wanted, with pods that must be beside others taken along by these.
fn taking_along(
    search: &Search<'_>,
    nodes: &Nodes<'_>,
    mut wanted: Vec<Wanted>,
    counts: &[u64],
    deal: Deal,
) -> Vec<Wanted> {
    let on_their_own = |kind: usize| wanted.iter().any(|wanted| wanted.kind == kind);
    let mut waiting: Vec<(usize, u64)> =
        counted(counts).filter(|(kind, _)| follows(search, *kind) && !on_their_own(*kind)).collect();
    // Whoever follows those that follow others comes when these have been taken along.
    loop {
        let before = waiting.len();
        waiting.retain(|(kind, count)| !attach(search, nodes, &mut wanted, (*kind, *count), deal));
        if waiting.is_empty() || waiting.len() == before {
            return wanted;
        }
    }
}

/// Lets so many pods of this kind be taken along; `false` if none of what is wanted can.
fn attach(
    search: &Search<'_>,
    nodes: &Nodes<'_>,
    wanted: &mut Vec<Wanted>,
    (kind, count): (usize, u64),
    deal: Deal,
) -> bool {
    let count = count.div_ceil(deal.parts);
    let Some(group) = search.kinds[kind].shape.relations.companions() else { return false };
    let is_host = |one: &Wanted| {
        let mut kinds = one.kinds();
        kinds.any(|kind| search.kinds[kind].shape.relations.counted.iter().any(|(counted, _)| *counted == group))
            && nodes.have_both(one, kind)
    };
    let hosts: u64 = wanted.iter().filter(|one| is_host(one)).map(|one| one.count).sum();
    if hosts == 0 {
        return false;
    }
    let share = count.div_ceil(hosts).saturating_mul(deal.times);
    let (mut seen, mut dealt) = (0, 0);
    let mut all = Vec::new();
    for one in wanted.drain(..) {
        if !is_host(&one) {
            all.push(one);
            continue;
        }
        seen += one.count;
        let until = u64::try_from(u128::from(count) * u128::from(seen) / u128::from(hosts)).unwrap_or(count);
        let here = until - dealt;
        dealt = until;
        let (full, rest) = (here / share, here % share);
        for (copies, along) in [(full, share), (u64::from(rest > 0), rest)] {
            if copies > 0 {
                let mut with = Wanted { count: copies, templates: nodes.shared(&one, kind).collect(), ..one.clone() };
                with.beside.push((kind, along));
                all.push(with);
            }
        }
        let alone = one.count.saturating_sub(full + u64::from(rest > 0));
        if alone > 0 && deal.alone {
            all.push(Wanted { count: alone, ..one });
        }
    }
    *wanted = all;
    true
}

/// Where pods may be together.
struct Nodes<'r> {
    reach: &'r Reach,
    /// Not on new nodes alone.
    with_existing: bool,
}

impl Nodes<'_> {
    /// The pools that can have one node for what is wanted and a pod of the kind.
    fn shared<'s>(&'s self, wanted: &'s Wanted, kind: usize) -> impl Iterator<Item = usize> + 's {
        wanted.templates.iter().copied().filter(move |template| {
            let mut common = self.reach.choices(kind, *template).clone();
            wanted.kinds().for_each(|other| common.keep_common(self.reach.choices(other, *template)));
            !common.is_empty()
        })
    }

    /// Whether some node may have what is wanted and a pod of the kind.
    fn have_both(&self, wanted: &Wanted, kind: usize) -> bool {
        let all = |there: &usize| wanted.kinds().all(|other| self.reach.existing(other).contains(there));
        self.shared(wanted, kind).next().is_some() || self.with_existing && self.reach.existing(kind).iter().any(all)
    }
}
