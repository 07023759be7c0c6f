//! Why a pod has no place: for every pool every reason, and one for the nodes there are.

use requirements::Requirement;
use units::Amount;

use super::{
    axis,
    bits::Bits,
    kind::Kind,
    node_labels::allowed,
    relations::{Demand, Place, Relations, Rule},
    search::Search,
    template::Template,
    topology::{Domain, Seat, Spot, Verdict},
};
use crate::{NodeRefusals, Shortage, Unfit, unfit::Distance};

/// How many domains are named.
const NAMED: usize = 10;

impl Search<'_> {
    /// Why no pod of this kind finds a place, the nearest first. Of several reasons of one pool none may hold for it to come
    /// nearer, so a pool is as near as its farthest reason; of those equally near the one with fewer comes first, and then the one
    /// whose other reasons are nearer.
    pub(super) fn reasons(&self, kind: usize) -> Vec<Unfit> {
        if self.templates.is_empty() && self.existing.is_empty() {
            return vec![Unfit::NoPools];
        }
        let mut pools: Vec<Vec<Unfit>> =
            (0..self.templates.len()).map(|template| self.pool_reasons(kind, template)).collect();
        for reasons in &mut pools {
            reasons.sort_by_key(Unfit::distance);
        }
        // Stable: pools that are equally near stay in the order they were tried.
        pools.sort_by_cached_key(|reasons| {
            let farthest_first: Vec<Distance> = reasons.iter().rev().map(Unfit::distance).collect();
            (farthest_first.first().copied(), reasons.len(), farthest_first)
        });
        let mut all: Vec<Unfit> = pools.into_iter().flatten().collect();
        if self.templates.is_empty() {
            all.push(Unfit::NoPools);
        }
        let mut refusals = NodeRefusals::default();
        let mut to_ask: Vec<usize> = self.existing_to_try(kind).collect();
        if to_ask.len() < self.existing.len() {
            // A taint is told before labels are.
            to_ask.extend(self.tainted.iter());
            to_ask.sort_unstable();
            to_ask.dedup();
        }
        refusals.requirement += self.existing.len() - to_ask.len();
        for index in to_ask {
            if let Err(refusal) = self.fits_existing(kind, index) {
                refusal.count_in(&mut refusals);
            }
        }
        if refusals != NodeRefusals::default() {
            all.push(Unfit::Nodes(refusals));
        }
        all
    }

    /// What keeps the kind most from a pool that is tried before another, asked once.
    pub(super) fn farthest_reason(&mut self, kind: usize, template: usize) -> Option<Unfit> {
        if !self.kinds[kind].passed.contains_key(&template) {
            let farthest = self.pool_reasons(kind, template).into_iter().max_by_key(Unfit::distance)?;
            self.kinds[kind].passed.insert(template, farthest);
        }
        self.kinds[kind].passed.get(&template).cloned()
    }

    /// Every reason why a pool has no node for the kind.
    fn pool_reasons(&self, kind: usize, template: usize) -> Vec<Unfit> {
        let (index, kind, template) = (template, &self.kinds[kind], &self.templates[template]);
        let pool = || template.pool.key.clone();
        if let Some(nothing) = template.base.first_empty() {
            return vec![Unfit::Contradiction { pool: pool(), key: nothing.key().to_owned() }];
        }
        let taints =
            kind.untolerated(&template.pool.taints).map(|taint| Unfit::Taint { pool: pool(), taint: taint.clone() });
        let mut reasons: Vec<Unfit> = taints.collect();
        let labelled = labelled(kind, template, &mut reasons);
        let all = Bits::of(template.choices.len(), 0..template.choices.len());
        if all.is_empty() {
            reasons.push(template.nothing_offered());
            return reasons;
        }
        let has_labels = labelled.as_ref().is_some_and(|choices| !choices.is_empty());
        let mut left = if has_labels { labelled.unwrap_or(all) } else { all };
        // What a node would take of the limits can be said as long as some choice is left, whatever else is in the way.
        let mut limited = left.clone();
        keep_roomy(kind, template, &mut left, &mut reasons);
        let before = left.clone();
        template.keep_portly(&mut left, kind.shape.ports);
        if left.is_empty() && !before.is_empty() {
            let taken =
                before.iter().find_map(|choice| kind.clash(&template.shapes[template.choices[choice].shape].ports));
            reasons.extend(taken.map(|port| Unfit::HostPort { pool: pool(), port: port.clone() }));
        }
        if !left.is_empty() {
            limited.clone_from(&left);
        }
        let would_do = left.len();
        left.keep_common(&template.available);
        let available = left.len();
        self.left.keep_unreserved(template, &mut left);
        if left.is_empty() && would_do > 0 && has_labels {
            reasons.push(Unfit::NoOffering { pool: pool(), unavailable: would_do, used_up: available });
        }
        if !left.is_empty()
            && !self.settings.relax_min_values
            && let Some((key, needed, found)) = template.too_few_values(&left)
        {
            reasons.push(Unfit::MinValues { pool: pool(), key: key.to_owned(), needed, found });
        }
        if !left.is_empty() {
            limited.clone_from(&left);
        }
        let mut decided = kind.shape.relations.keys.iter().map(|key| self.topology.groups.keys[*key]);
        if reasons.is_empty()
            && !self.settings.relax_min_values
            && let Some((key, needed)) = decided.find_map(|key| template.values_needed(key))
        {
            // Its node must have one value, for it is counted by that.
            reasons.push(Unfit::MinValues { pool: pool(), key: key.to_owned(), needed, found: 1 });
        }
        let others = !reasons.is_empty();
        self.topology_reasons(kind, template, &left, &mut reasons);
        self.limit_reasons(index, &limited, others, &mut reasons);
        // A node that could not be had anyway brings nothing.
        let allowed = if others { Bits::none(0) } else { self.allowed(kind, template, left.clone()) };
        reasons.extend(self.topology.domains_not_brought(index, template, &allowed).map(|(key, domains)| {
            let key = self.topology.groups.keys[key].to_owned();
            Unfit::NewDomain { pool: pool(), key, domains }
        }));
        if reasons.is_empty() {
            // Each demand alone could be met, all together cannot.
            let rules = &kind.shape.relations.rules;
            reasons.extend(rules.iter().map(|rule| self.rule_reason(kind, rule, template, &left)));
        }
        if reasons.is_empty() {
            reasons.push(Unfit::NoOffering { pool: pool(), unavailable: would_do, used_up: 0 });
        }
        reasons
    }

    /// Of some choices those in domains where the kind's relations to others let it be, label by label.
    fn allowed(&self, kind: &Kind<'_>, template: &Template<'_>, mut choices: Bits) -> Bits {
        let relations = &kind.shape.relations;
        for key in &relations.keys {
            let is_fine = |domain| self.topology.verdict(relations, *key, Seat::In(domain)) == Verdict::Fine;
            let (fine, barred): (Vec<_>, Vec<_>) =
                template.domains[*key].iter().partition(|(domain, _)| is_fine(*domain));
            let is_in = |domains: &[&(Domain, Bits)], choice| domains.iter().any(|(_, can)| can.contains(choice));
            choices.retain(|choice| is_in(&fine, choice) || !is_in(&barred, choice));
        }
        choices
    }

    /// The demands on where other pods are that nothing the pool can make meets.
    fn topology_reasons(&self, kind: &Kind<'_>, template: &Template<'_>, left: &Bits, reasons: &mut Vec<Unfit>) {
        let relations = &kind.shape.relations;
        let seats = |key: usize| {
            let possible = template.domains[key].iter().filter(|(_, can)| left.is_empty() || can.overlaps(left));
            let mut seats: Vec<Seat> = possible.map(|(domain, _)| Seat::In(*domain)).collect();
            if seats.is_empty() {
                seats.push(Seat::Nowhere);
            }
            seats
        };
        let mut blocked = Vec::new();
        for rule in &relations.rules {
            let fine = match rule.place {
                Place::Host => match rule.demand {
                    Demand::Near { itself } => itself && !self.topology.is_populated(rule.group),
                    Demand::Spread { .. } | Demand::Apart => true,
                },
                Place::Key(key) => seats(key)
                    .into_iter()
                    .any(|seat| self.topology.rule_verdict(relations, rule, seat) == Verdict::Fine),
            };
            if !fine {
                let others = relations.rules.iter().filter(|other| self.is_in_the_way(relations, rule, other));
                blocked.extend(others.map(|other| self.rule_reason(kind, other, template, left)));
                blocked.push(self.rule_reason(kind, rule, template, left));
            }
        }
        let keys = if blocked.is_empty() { relations.keys.as_slice() } else { &[] };
        for key in keys {
            let repelled = Relations { repelled: relations.repelled.clone(), ..Default::default() };
            if seats(*key).into_iter().all(|seat| self.topology.verdict(&repelled, *key, seat) != Verdict::Fine) {
                let (pool, key) = (template.pool.key.clone(), self.topology.groups.keys[*key].to_owned());
                blocked.push(Unfit::PodAntiAffinity { pool, key, by_others: true });
            }
        }
        blocked.dedup();
        reasons.extend(blocked);
    }

    /// Whether another rule bars everything where the pods are that one demands to be near to.
    fn is_in_the_way(&self, relations: &Relations, rule: &Rule, other: &Rule) -> bool {
        let Place::Key(key) = other.place else { return false };
        if other == rule || !matches!(rule.demand, Demand::Near { .. }) {
            return false;
        }
        let seats: Vec<Seat> = match rule.place {
            Place::Host => {
                let homes = self.topology.homes(rule.group).iter();
                let seat = |spot: &Spot| match spot {
                    Spot::Existing(index) => self.existing[*index].seats[key],
                    Spot::Open(index) => self.open[*index].seats[key],
                };
                homes.map(seat).collect()
            }
            Place::Key(near) if near == key => {
                self.topology.populated_domains(rule.group).into_iter().map(Seat::In).collect()
            }
            Place::Key(_) => return false,
        };
        !seats.is_empty()
            && seats.iter().all(|seat| self.topology.rule_verdict(relations, other, *seat) != Verdict::Fine)
    }

    fn rule_reason(&self, kind: &Kind<'_>, rule: &Rule, template: &Template<'_>, left: &Bits) -> Unfit {
        let pool = template.pool.key.clone();
        let key = match rule.place {
            Place::Host => requirements::labels::HOSTNAME.to_owned(),
            Place::Key(key) => self.topology.groups.keys[key].to_owned(),
        };
        match rule.demand {
            Demand::Apart => Unfit::PodAntiAffinity { pool, key, by_others: false },
            Demand::Near { itself } => {
                let domains = self.topology.populated(rule.group).into_iter().map(|(domain, _)| domain);
                let (mut domains, shortage) = match rule.place {
                    Place::Host => (self.homes(rule.group), self.shortage(kind, rule.group)),
                    Place::Key(_) => (domains.take(NAMED).collect(), None),
                };
                if itself && domains.is_empty() {
                    // The first has to be beside those that were told to go.
                    let going = self.topology.going(rule.group).take(NAMED);
                    let name = |domain: Domain| match rule.place {
                        Place::Host => self.existing[domain as usize].node.key.to_string(),
                        Place::Key(key) => self.topology.name(key, domain).to_owned(),
                    };
                    domains = going.map(name).collect();
                    let has_label = |index: usize| !template.domains[index].is_empty();
                    if domains.is_empty() && matches!(rule.place, Place::Key(index) if !has_label(index)) {
                        // It would be the first, and there is no place where it could be.
                        let wanted = Requirement::exists(&*key);
                        return Unfit::Requirement { pool, key, wanted, has: None, by_volumes: false, of_terms: 0 };
                    }
                }
                Unfit::PodAffinity { pool, key, domains, shortage }
            }
            Demand::Spread { max_skew, min_domains, .. } => {
                let Place::Key(index) = rule.place else {
                    return Unfit::TopologySpread {
                        pool,
                        key,
                        max_skew,
                        domains: Vec::new(),
                        emptier: Vec::new(),
                        too_few_domains: None,
                    };
                };
                let here = template.domains[index].iter().filter(|(_, can)| left.is_empty() || can.overlaps(left));
                let counted = |(domain, _): &(Domain, Bits)| {
                    (self.topology.name(index, *domain).to_owned(), self.topology.pods_in(rule.group, *domain))
                };
                let mut domains: Vec<_> = here.map(counted).collect();
                domains.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
                let over = self.topology.spread_over(rule.group);
                let least_here = domains.first().map(|(_, pods)| *pods);
                let elsewhere = over.iter().filter(|(_, pods)| least_here.is_none_or(|least| *pods < least));
                let emptier = elsewhere.map(|(domain, pods)| (self.topology.name(index, *domain).to_owned(), *pods));
                let emptier = emptier.take(NAMED).collect();
                let too_few_domains = (over.len() < min_domains as usize).then_some((over.len(), min_domains));
                domains.truncate(NAMED);
                Unfit::TopologySpread { pool, key, max_skew, domains, emptier, too_few_domains }
            }
        }
    }

    /// The names of the nodes that have pods of a group.
    fn homes(&self, group: usize) -> Vec<String> {
        let named = self.topology.homes(group).iter().map(|spot| match spot {
            Spot::Existing(index) => self.existing[*index].node.key.0.clone(),
            // Counted from 1, as people do.
            Spot::Open(index) => format!("new node {}", index + 1),
        });
        named.take(NAMED).collect()
    }

    /// What the nodes that have pods of a group have too little of for a pod of the kind: what none has enough of, or else what
    /// the first of them lacks. Of those that it could not be on if they were empty more room would not help.
    fn shortage(&self, kind: &Kind<'_>, group: usize) -> Option<Shortage> {
        let asked = &kind.shape.request;
        let free = self.topology.homes(group).iter().filter_map(|spot| match spot {
            Spot::Existing(index) => {
                let one = &self.existing[*index];
                let suits = kind.shape.alternatives.iter().any(|wanted| allowed(wanted, &one.labels));
                suits.then(|| one.free.clone())
            }
            Spot::Open(index) => {
                let one = &self.open[*index];
                let template = &self.templates[one.template];
                let suits = kind.shape.alternatives.iter().any(|wanted| {
                    let mut choices = one.choices.clone();
                    let joint = template.join(&one.requirements, wanted);
                    joint.is_ok_and(|(_, changed)| {
                        template.keep_holding(&mut choices, &changed);
                        !choices.is_empty()
                    })
                });
                suits.then(|| one.largest_free())
            }
        });
        let free: Vec<Vec<i64>> = free.collect();
        let mut most = free.first()?.clone();
        for one in &free {
            axis::max(&mut most, one);
        }
        let lacks = |free: &[i64]| (0..asked.len()).find(|position| asked[*position] > free[*position].max(0));
        let (position, free) = lacks(&most).map(|position| (position, most[position])).or_else(|| {
            let position = lacks(&free[0])?;
            let lacking = free.iter().filter(|one| one[position] < asked[position]);
            Some((position, lacking.map(|one| one[position]).max()?))
        })?;
        let (asked, largest_free) = (Amount(asked[position]), Amount(free.max(0)));
        Some(Shortage { name: self.axis.name(position).clone(), asked, largest_free })
    }

    /// Every limit that the smallest of the choices would pass; unless there are other reasons, also what the smallest choices that
    /// are different enough would pass, where what is left of the limits leaves too few.
    fn limit_reasons(&self, index: usize, choices: &Bits, others: bool, reasons: &mut Vec<Unfit>) {
        let (template, left) = (&self.templates[index], &self.left.limits[index]);
        let Some(smallest) = template.least_limited(choices) else { return };
        let passed = |adds: &[i64]| {
            let each = template.limits.iter().zip(left).zip(adds).filter(|((_, left), adds)| **adds > 0 && adds > left);
            let found = each.map(|((limit, left), adds)| Unfit::Limit {
                pool: template.pool.key.clone(),
                resource: limit.resource.clone(),
                limit: Amount(limit.most),
                used: Amount(limit.most.saturating_sub(*left)),
                would_add: Amount(*adds),
            });
            found.collect::<Vec<Unfit>>()
        };
        let mut found = passed(&template.choices[smallest].limited);
        if found.is_empty() && !others {
            // The smallest would do, but not so many different ones as the pool demands.
            let mut within = choices.clone();
            template.keep_within(&mut within, left);
            let few = template.too_few_values(&within).filter(|_| !self.settings.relax_min_values);
            if let Some((key, needed, possible)) = few {
                let enough = template.smallest(choices, |choices| template.too_few_values(choices).is_none());
                found.extend(enough.into_iter().flat_map(|enough| passed(&template.charge(&enough))));
                let (pool, key) = (template.pool.key.clone(), key.to_owned());
                found.push(Unfit::MinValues { pool, key, needed, found: possible });
            }
        }
        reasons.extend(found);
    }
}

/// The choices that can have the labels one of the kind's alternatives wants. If there are none, the reasons of every
/// alternative, those of the one that comes nearest first.
fn labelled(kind: &Kind<'_>, template: &Template<'_>, reasons: &mut Vec<Unfit>) -> Option<Bits> {
    let mut each: Vec<Vec<Unfit>> = Vec::new();
    for wanted in &kind.shape.alternatives {
        let pool = || template.pool.key.clone();
        let conflicts = template.conflicts(&template.base, wanted).into_iter();
        let mut found: Vec<Unfit> = conflicts
            .map(|conflict| Unfit::Requirement {
                pool: pool(),
                key: conflict.key,
                wanted: conflict.wanted,
                has: conflict.has,
                by_volumes: false,
                of_terms: 0,
            })
            .collect();
        let all = Bits::of(template.choices.len(), 0..template.choices.len());
        let mut left = all.clone();
        let of_the_machine = template.of_the_machine(&template.base, wanted);
        for want in of_the_machine.iter().filter(|_| !all.is_empty()) {
            // What no type at all has is told of each label, what no type has together of the first that is too much.
            let mut alone = all.clone();
            template.keep_holding(&mut alone, std::slice::from_ref(want));
            let before = left.clone();
            left.keep_common(&alone);
            if alone.is_empty() || (left.is_empty() && !before.is_empty()) {
                let among = if before.is_empty() { &all } else { &before };
                let has = template.values(among, want.key());
                let (key, wanted) = (want.key().to_owned(), want.clone());
                found.push(Unfit::Requirement { pool: pool(), key, wanted, has, by_volumes: false, of_terms: 0 });
            }
        }
        if found.is_empty() {
            return Some(left);
        }
        each.push(found);
    }
    // Stable: alternatives that are equally near stay in the order they are written in.
    each.sort_by_key(Vec::len);
    let mut told: Vec<Unfit> = Vec::new();
    for reason in each.iter().flatten().filter(|reason| !reasons.contains(reason)) {
        let mut reason = reason.clone();
        let by_all = each.iter().all(|found| found.contains(&reason));
        if let Unfit::Requirement { of_terms, .. } = &mut reason {
            *of_terms = if by_all { 0 } else { each.len() };
        }
        if !told.contains(&reason) {
            told.push(reason);
        }
    }
    reasons.extend(told);
    None
}

/// Drops the choices without room. If that leaves none: each resource of which none has enough, or else the first of which
/// none that has enough of those before it has.
fn keep_roomy(kind: &Kind<'_>, template: &Template<'_>, left: &mut Bits, reasons: &mut Vec<Unfit>) {
    let all = left.clone();
    let asked = kind.shape.request.iter().enumerate().filter(|(_, asked)| **asked > 0);
    for (position, asked) in asked {
        let free = |choice: usize| template.shapes[template.choices[choice].shape].free[position];
        let had_some = !left.is_empty();
        let among = if had_some { left.clone() } else { all.clone() };
        left.retain(|choice| free(choice) >= *asked);
        let none_alone = !all.iter().any(|choice| free(choice) >= *asked);
        if none_alone || (had_some && left.is_empty()) {
            let roomiest = among.iter().max_by_key(|choice| free(*choice));
            let largest = roomiest.map_or(0, |choice| free(choice).max(0));
            let daemons =
                roomiest.map_or(0, |choice| template.shapes[template.choices[choice].shape].daemons[position]);
            reasons.push(Unfit::Resource {
                pool: template.pool.key.clone(),
                name: template.axis.name(position).clone(),
                asked: Amount(*asked),
                largest_free: Amount(largest),
                daemons: Amount(daemons),
            });
        }
    }
}
