//! How many different values of some labels a pool demands of what a node may become.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    bits::Bits,
    template::{Choice, Template},
};

impl Template<'_> {
    /// Numbers the values of what is demanded. What every machine has by itself demands nothing of a node, and is dropped.
    pub(super) fn number_values(&mut self) {
        let Self { min_values, choices, .. } = self;
        let of_all: Vec<Vec<Vec<u32>>> = min_values.iter().map(|(key, _)| numbered(key, choices)).collect();
        let demands = std::mem::take(min_values).into_iter().zip(of_all);
        let met = |needed: u32, values_of: &[Vec<u32>]| {
            !values_of.is_empty() && values_of.iter().all(|values| values.len() >= needed as usize)
        };
        let demanding = demands.filter(|((_, needed), values_of)| !met(*needed, values_of));
        (self.min_values, self.values_of) = demanding.unzip();
    }

    /// The label, and how many of its values must remain possible, if the pool demands several of which a machine alone has fewer.
    pub(super) fn values_needed(&self, key: &str) -> Option<(&str, u32)> {
        let demanded = self.min_values.iter().find(|(demanded, needed)| demanded == key && *needed > 1);
        demanded.map(|(key, needed)| (key.as_str(), *needed))
    }

    /// The first label of which fewer values remain possible than the pool demands: how many it demands and how many there are.
    pub(super) fn too_few_values(&self, choices: &Bits) -> Option<(&str, u32, usize)> {
        self.min_values.iter().zip(&self.values_of).find_map(|((key, needed), values_of)| {
            let mut values: BTreeSet<u32> = BTreeSet::new();
            for index in choices.iter() {
                values.extend(&values_of[index]);
                if values.len() >= *needed as usize {
                    return None;
                }
            }
            Some((key.as_str(), *needed, values.len()))
        })
    }
}

/// By choice: its values of a label, numbered.
fn numbered(key: &str, choices: &[Choice<'_>]) -> Vec<Vec<u32>> {
    let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
    let of = |choice: &Choice<'_>| {
        let mut values = BTreeSet::new();
        choice.adds_to(key, &mut values);
        let number = |value: String| {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            *numbers.entry(value).or_insert(next)
        };
        values.into_iter().map(number).collect()
    };
    choices.iter().map(of).collect()
}
