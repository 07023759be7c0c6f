//! The pods and what they may go on, as numbers.

use std::collections::{BTreeMap, BTreeSet};

use packing::{Bin, Group, Limit, Problem};

use super::{
    super::{axis, bits::Bits, search::Search, template::Template},
    ports::Ports,
    reach::Reach,
    together::Together,
    wanted::Wanted,
};

/// A packing problem and what its indices mean.
pub(super) struct Model {
    pub(super) problem: Problem,
    /// What each group of the problem is.
    pub(super) groups: Vec<Wanted>,
    /// What each bin is.
    pub(super) bins: Vec<Nodes>,
    scales: Vec<i64>,
    ports: Ports,
    together: Together,
}

/// Nodes that no group tells apart and that cost the same.
pub(super) enum Nodes {
    /// Choices of a pool.
    New { template: usize, choices: Bits },
    /// Nodes there are.
    Existing(Vec<usize>),
}

impl Model {
    /// For a bound: what could be bought, whatever else of it a pool demands.
    pub(super) fn of(search: &Search<'_>, reach: &Reach, wanted: Vec<Wanted>) -> Self {
        Self::made(search, reach, wanted, false)
    }

    /// For a plan: where a pool demands different values of labels, only what enough others can stand in for, with the same pods.
    pub(super) fn to_plan(search: &Search<'_>, reach: &Reach, wanted: Vec<Wanted>) -> Self {
        Self::made(search, reach, wanted, true)
    }

    fn made(search: &Search<'_>, reach: &Reach, wanted: Vec<Wanted>, to_plan: bool) -> Self {
        let kinds: BTreeSet<usize> = wanted.iter().flat_map(Wanted::kinds).collect();
        let ports = Ports::of(search);
        let together = Together::of(search, &kinds, ports.count());
        let scales = scales(search, &kinds);
        let problem = Problem { resources: scales.len() + together.rows.len(), ..Problem::default() };
        let mut model = Self { problem, groups: wanted, bins: Vec::new(), scales, ports, together };
        model.add_groups(search);
        for index in 0..search.templates.len() {
            model.add_new(search, reach, index, to_plan);
        }
        model.add_limits(search);
        model
    }

    fn add_groups(&mut self, search: &Search<'_>) {
        for wanted in &self.groups {
            let mut group = Group {
                demand: wanted.count,
                request: vec![0; self.problem.resources],
                max_per_node: self.together.most(wanted.kind),
                exclusive: Vec::new(),
                eligible: packing::Bits::default(),
            };
            for (kind, pods) in std::iter::once((wanted.kind, wanted.pods)).chain(wanted.beside.iter().copied()) {
                let shape = &search.kinds[kind].shape;
                let mut request = scaled(&shape.request, &self.scales);
                request.extend(self.together.rows.iter().map(|row| i64::from(row.taken_by(kind))));
                let pods_each = i64::try_from(pods).unwrap_or(i64::MAX);
                for (sum, asked) in group.request.iter_mut().zip(request) {
                    *sum = sum.saturating_add(asked.saturating_mul(pods_each));
                }
                group.exclusive.extend(self.ports.taken(shape.ports));
                group.exclusive.extend(self.together.labels(kind));
                if kind != wanted.kind {
                    let most = u64::from(self.together.most(kind)) / pods.max(1);
                    group.max_per_node = group.max_per_node.min(u32::try_from(most).unwrap_or(u32::MAX));
                }
            }
            group.exclusive.sort_unstable();
            group.exclusive.dedup();
            self.problem.groups.push(group);
        }
    }

    fn add_new(&mut self, search: &Search<'_>, reach: &Reach, index: usize, to_plan: bool) {
        let template = &search.templates[index];
        let all = told_apart(search, reach, index, &self.groups);
        let relaxed = search.settings.relax_min_values;
        let has_deputies =
            |one: &(Bits, Vec<usize>)| template.min_values.is_empty() || relaxed || has_deputies(template, one, &all);
        for (column, choices) in all.iter().filter(|one| !to_plan || has_deputies(one)) {
            let choice = &template.choices[choices[0]];
            let shape = &template.shapes[choice.shape];
            let available = choice.remaining.map(u64::from);
            self.add(choice.price.0, &shape.free, available, &shape.ports, column.iter());
            let choices = Bits::of(template.choices.len(), choices.iter().copied());
            self.bins.push(Nodes::New { template: index, choices });
        }
    }

    /// Adds the nodes there are, equal ones together, for nothing.
    pub(super) fn add_existing(&mut self, search: &Search<'_>, reach: &Reach) {
        let mut columns: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (group, wanted) in self.groups.iter().enumerate() {
            let others = |there: &usize| wanted.beside.iter().all(|(kind, _)| reach.existing(*kind).contains(there));
            for &there in reach.existing(wanted.kind).iter().filter(|there| others(there)) {
                let seats = &search.existing[there].seats;
                let inside = wanted.within.iter().all(|(key, domains)| {
                    domains.iter().any(|domain| seats[*key] == super::super::topology::Seat::In(*domain))
                });
                if inside {
                    columns.entry(there).or_default().push(group);
                }
            }
        }
        let mut equal: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (there, column) in columns {
            let one = &search.existing[there];
            let key = (column, scaled(&one.free, &self.scales), self.ports.taken(&one.ports));
            equal.entry(key).or_default().push(there);
        }
        for ((column, ..), there) in equal {
            let one = &search.existing[there[0]];
            self.add(0, &one.free, Some(there.len() as u64), &one.ports, column.into_iter());
            self.bins.push(Nodes::Existing(there));
        }
    }

    fn add(
        &mut self,
        price: i64,
        free: &[i64],
        available: Option<u64>,
        ports: &[crate::HostPort],
        column: impl Iterator<Item = usize>,
    ) {
        let mut capacity = scaled(free, &self.scales);
        capacity.extend(self.together.rows.iter().map(|row| i64::from(row.most)));
        for group in column {
            self.problem.groups[group].eligible.insert(self.problem.bins.len());
        }
        self.problem.bins.push(Bin { price, capacity, available, pre_taken: self.ports.taken(ports) });
    }

    /// What is left of every pool's limits, charged by what a machine has.
    fn add_limits(&mut self, search: &Search<'_>) {
        for (index, of_pool) in search.templates.iter().enumerate() {
            for (position, limit) in of_pool.limits.iter().enumerate() {
                let counts = |nodes: &Nodes| match nodes {
                    Nodes::New { template, choices } if *template == index => {
                        choices.iter().next().map_or(0, |choice| of_pool.choices[choice].limited[position])
                    }
                    _ => 0,
                };
                let per_bin = self.bins.iter().map(counts).collect();
                self.problem.limits.push(Limit { per_bin, most: limit.left });
            }
        }
    }
}

/// The largest unit in which every request is a whole number, for each resource: capacities rounded down to it hold the
/// same pods.
fn scales(search: &Search<'_>, kinds: &BTreeSet<usize>) -> Vec<i64> {
    let mut scales = vec![0; search.kinds.first().map_or(0, |kind| kind.shape.request.len())];
    for kind in kinds {
        for (scale, asked) in scales.iter_mut().zip(&search.kinds[*kind].shape.request) {
            *scale = common_divisor(*scale, *asked);
        }
    }
    scales.into_iter().map(|scale| scale.max(1)).collect()
}

fn common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

fn scaled(amounts: &[i64], scales: &[i64]) -> Vec<i64> {
    amounts.iter().zip(scales).map(|(amount, scale)| amount.div_euclid(*scale)).collect()
}

/// Whether enough others take whatever one of these choices takes, so that a node of it has the values that its pool demands.
fn has_deputies(template: &Template<'_>, (column, choices): &(Bits, Vec<usize>), all: &[(Bits, Vec<usize>)]) -> bool {
    let free = |choice: usize| &template.shapes[template.choices[choice].shape].free;
    let deputies = all.iter().filter(|(others, _)| column.is_within(others)).flat_map(|(_, choices)| choices);
    let mut enough = Bits::of(template.choices.len(), choices.iter().copied());
    deputies.filter(|other| axis::fits(free(choices[0]), free(**other))).for_each(|other| enough.insert(*other));
    template.too_few_values(&enough).is_none()
}

/// The choices of a pool by the groups that can be there; equal ones together. Choices that no group can use are left out.
fn told_apart(search: &Search<'_>, reach: &Reach, index: usize, wanted: &[Wanted]) -> Vec<(Bits, Vec<usize>)> {
    let template = &search.templates[index];
    let mut columns = vec![Bits::none(wanted.len()); template.choices.len()];
    for (group, wanted) in wanted.iter().enumerate() {
        if !wanted.templates.contains(&index) {
            continue;
        }
        let mut choices = reach.choices(wanted.kind, index).clone();
        wanted.beside.iter().for_each(|(kind, _)| choices.keep_common(reach.choices(*kind, index)));
        for (key, domains) in &wanted.within {
            choices.keep_common(&template.choices_in(*key, domains));
        }
        choices.iter().for_each(|choice| columns[choice].insert(group));
    }
    let mut found: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (choice, column) in columns.into_iter().enumerate().filter(|(_, column)| !column.is_empty()) {
        let one = &template.choices[choice];
        // What can be bought only so often is counted by itself.
        let alone = one.remaining.map(|_| choice);
        found.entry((one.price, one.shape, &one.limited, alone, column)).or_default().push(choice);
    }
    let mut found: Vec<_> = found.into_iter().map(|((.., column), choices)| (column, choices)).collect();
    found.sort_by_key(|(_, choices)| choices[0]);
    found
}
