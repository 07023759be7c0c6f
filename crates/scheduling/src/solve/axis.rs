use std::collections::BTreeSet;

use units::{Amount, ResourceList, ResourceName};

use crate::{InstanceType, Snapshot};

/// The resources that any pod to place or any daemon asks for, as positions in a vector.
pub(super) struct Axis {
    names: Vec<ResourceName>,
}

impl Axis {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let asked: BTreeSet<ResourceName> = snapshot
            .pods
            .iter()
            .chain(&snapshot.daemons)
            .flat_map(|pod| pod.requests.iter().filter(|(_, amount)| *amount > Amount::ZERO))
            .map(|(name, _)| name.clone())
            .collect();
        Self { names: asked.into_iter().collect() }
    }

    pub(super) fn name(&self, position: usize) -> &ResourceName {
        &self.names[position]
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// What a list has of each resource.
    pub(super) fn dense(&self, list: &ResourceList) -> Vec<i64> {
        self.names.iter().map(|name| list.get(name).0).collect()
    }

    /// What a pod asks of each resource; less than nothing is nothing.
    pub(super) fn request(&self, list: &ResourceList) -> Vec<i64> {
        self.names.iter().map(|name| list.get(name).0.max(0)).collect()
    }

    /// Takes a pod's requests away, each as it is asked.
    pub(super) fn subtract<'l>(&self, rest: &mut [i64], amounts: impl Iterator<Item = (&'l ResourceName, Amount)>) {
        // Both are in the order of the names.
        let mut here = self.names.iter().zip(rest).peekable();
        for (name, amount) in amounts {
            while let Some((other, rest)) = here.next_if(|(other, _)| *other <= name) {
                if other == name {
                    *rest = rest.saturating_sub(amount.0);
                }
            }
        }
    }

    /// What a type has of each resource for pods.
    pub(super) fn allocatable(&self, machine: &InstanceType) -> Vec<i64> {
        self.dense(&machine.allocatable())
    }

    pub(super) fn list(&self, dense: &[i64]) -> ResourceList {
        let amounts = self.names.iter().cloned().zip(dense.iter().map(|amount| Amount(*amount)));
        amounts.filter(|(_, amount)| !amount.is_zero()).collect()
    }
}

/// Whether there is enough of everything that is asked for; of what is not asked there may be less than nothing.
pub(super) fn fits(asked: &[i64], free: &[i64]) -> bool {
    asked.iter().zip(free).all(|(asked, free)| *asked == 0 || asked <= free)
}

pub(super) fn add(sum: &mut [i64], more: &[i64]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum = sum.saturating_add(*more);
    }
}

pub(super) fn subtract(rest: &mut [i64], less: &[i64]) {
    for (rest, less) in rest.iter_mut().zip(less) {
        *rest = rest.saturating_sub(*less);
    }
}

pub(super) fn max(larger: &mut [i64], other: &[i64]) {
    for (larger, other) in larger.iter_mut().zip(other) {
        *larger = (*larger).max(*other);
    }
}
