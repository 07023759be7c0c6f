//! Looking for the first node that takes a pod, without looking twice at those that never will.

use super::{
    existing::Refusal,
    kind::List,
    open::Fit,
    relations::{Demand, Place},
    search::Search,
    topology::{Seat, Spot},
};

/// Pods whose nodes are looked through by domain look at no more than so many whichever domain these are in.
const NAMED: usize = 64;

impl Search<'_> {
    /// The node of the snapshot that a pod of the kind goes to, if one takes it.
    pub(super) fn find_existing(&mut self, kind: usize) -> Option<usize> {
        if !self.may_fit_existing(kind) {
            return None;
        }
        let mut cursors = std::mem::take(&mut self.kinds[kind].cursors.existing);
        let relations = &self.kinds[kind].shape.relations;
        let leading = relations.leading_key();
        let from = cursors.get(&List::All).copied().unwrap_or(0);
        let named = self.existing_named(kind, from).filter(|named| leading.is_none() || named.len() <= NAMED);
        let mut work = 0;
        let mut look = |list: List, nodes: Option<&[usize]>| {
            let cursor = cursors.entry(list).or_default();
            let fits = |index| self.fits_existing(kind, index);
            if let Some(named) = &named {
                let listed = |index: usize| is_listed(list, leading, &self.existing[index].seats);
                return scan_named(named.iter().copied().filter(|index| listed(*index)), list, cursor, &mut work, fits);
            }
            let len = nodes.map_or(self.existing.len(), <[usize]>::len);
            let at = |position: usize| nodes.map_or(position, |nodes| nodes[position]);
            scan(len, at, cursor, &mut work, fits)
        };
        let found = if let Some(key) = leading {
            let mut domains = self.topology.domains_to_try(relations, key);
            domains.find_map(|domain| {
                look(List::In(domain), self.existing_in[key].get(&domain).map(Vec::as_slice).or(Some(&[])))
            })
        } else {
            look(List::All, None)
        };
        let found = found.map(|(index, ())| index);
        self.work += work;
        self.kinds[kind].cursors.existing = cursors;
        found
    }

    /// The group that has pods which a pod of the kind must be beside on one node.
    pub(super) fn company(&self, kind: usize) -> Option<usize> {
        self.kinds[kind].shape.relations.companions().filter(|group| self.topology.is_populated(*group))
    }

    /// The node with pods of the group that a pod of the kind goes to, if one takes it.
    pub(super) fn find_beside(&mut self, kind: usize, group: usize) -> Option<(Spot, Option<Fit>)> {
        let mut cursors = std::mem::take(&mut self.kinds[kind].cursors.existing);
        let homes = self.topology.homes(group);
        let mut work = 0;
        let cursor = cursors.entry(List::Companions).or_default();
        let found = scan(
            homes.len(),
            |position| position,
            cursor,
            &mut work,
            |position| match homes[position] {
                Spot::Existing(index) => self.fits_existing(kind, index).map(|()| None),
                Spot::Open(index) => self.fits_open(kind, index).map(Some),
            },
        );
        let found = found.map(|(position, fit)| (homes[position], fit));
        self.work += work;
        self.kinds[kind].cursors.existing = cursors;
        found
    }

    /// The opened node that a pod of the kind goes to, if one takes it.
    pub(super) fn find_open(&mut self, kind: usize) -> Option<(usize, Fit)> {
        let mut cursors = std::mem::take(&mut self.kinds[kind].cursors.open);
        let crowded = self.past_crowded(kind);
        let relations = &self.kinds[kind].shape.relations;
        let leading = relations.leading_key();
        let from = cursors.get(&List::All).copied().unwrap_or(0).max(crowded);
        let named = self.open_named(kind, from).filter(|named| leading.is_none() || named.len() <= NAMED);
        let mut work = 0;
        let mut look = |list: List, nodes: Option<&[usize]>| {
            let cursor = cursors.entry(list).or_default();
            if list == List::All {
                *cursor = from;
            }
            let fits = |index: usize| match list {
                // It is listed by its domain now.
                List::Undecided(key) if self.open[index].seats[key] != Seat::Undecided => Err(Refusal::Requirement),
                _ => self.fits_open(kind, index),
            };
            if let Some(named) = &named {
                let listed = |index: usize| is_listed(list, leading, &self.open[index].seats);
                return scan_named(named.iter().copied().filter(|index| listed(*index)), list, cursor, &mut work, fits);
            }
            let len = nodes.map_or(self.open.len(), <[usize]>::len);
            let at = |position: usize| nodes.map_or(position, |nodes| nodes[position]);
            scan(len, at, cursor, &mut work, fits)
        };
        let found = if let Some(key) = leading {
            let mut domains = self.topology.domains_to_try(relations, key);
            let pinned = domains.find_map(|domain| {
                look(List::In(domain), self.open_in[key].get(&domain).map(Vec::as_slice).or(Some(&[])))
            });
            pinned.or_else(|| look(List::Undecided(key), Some(&self.undecided[key])))
        } else {
            look(List::All, None)
        };
        self.work += work;
        self.kinds[kind].cursors.open = cursors;
        found
    }

    /// Before this node all opened ones have more pods of a group than the kind allows on one node. What one kind finds out
    /// serves all.
    fn past_crowded(&mut self, kind: usize) -> usize {
        let mut past = 0;
        for rule in self.kinds[kind].shape.relations.rules.iter().filter(|rule| rule.place == Place::Host) {
            let most = match rule.demand {
                Demand::Spread { max_skew, itself, .. } => max_skew.saturating_sub(u32::from(itself)),
                Demand::Apart => 0,
                Demand::Near { .. } => continue,
            };
            let from = self.crowded.entry((rule.group, most)).or_default();
            while self.open.get(*from).is_some_and(|open| open.here.pods(rule.group) > most) {
                *from += 1;
                self.work += 1;
            }
            past = past.max(*from);
        }
        past
    }
}

/// Whether a node of these seats is in a list that is led by this label.
fn is_listed(list: List, leading: Option<usize>, seats: &[Seat]) -> bool {
    match (list, leading) {
        (List::In(domain), Some(key)) => seats[key] == Seat::In(domain),
        (List::Undecided(key), _) => seats[key] == Seat::Undecided,
        (List::In(_), None) | (List::All | List::Companions, _) => true,
    }
}

/// Looks through the nodes of a list that do not refuse the kind at first sight. What is refused so is refused for good.
fn scan_named<T>(
    named: impl Iterator<Item = usize>,
    list: List,
    cursor: &mut usize,
    work: &mut u64,
    fits: impl Fn(usize) -> Result<T, Refusal>,
) -> Option<(usize, T)> {
    let named: Vec<usize> = named.collect();
    let mut passed = 0;
    let found = scan(named.len(), |position| named[position], &mut passed, work, fits);
    // The positions of other lists are not those of the nodes.
    if list == List::All
        && let Some(last) = passed.checked_sub(1)
    {
        *cursor = named[last] + 1;
    }
    found
}

/// Looks through a sequence of nodes from the cursor on, for the first that takes a pod. The cursor moves past those that
/// will never take one of the kind.
fn scan<T>(
    len: usize,
    at: impl Fn(usize) -> usize,
    cursor: &mut usize,
    work: &mut u64,
    fits: impl Fn(usize) -> Result<T, Refusal>,
) -> Option<(usize, T)> {
    let mut position = *cursor;
    while position < len {
        *work += 1;
        match fits(at(position)) {
            Ok(fit) => return Some((at(position), fit)),
            Err(refusal) if refusal.is_final() && *cursor == position => *cursor += 1,
            Err(_) => {}
        }
        position += 1;
    }
    None
}
