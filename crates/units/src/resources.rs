use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock},
    vec,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Amount, Quantity};

/// A resource's name: `cpu`, `memory`, `pods`, `nvidia.com/gpu`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct ResourceName(Arc<str>);

/// Those that nearly every pod asks for. A large cluster has a hundred thousand lists of them: each name is there once.
static COMMON: LazyLock<[ResourceName; 4]> =
    LazyLock::new(|| ["cpu", "memory", "pods", "ephemeral-storage"].map(|name| ResourceName(name.into())));

impl ResourceName {
    /// The resource of this name.
    pub fn new(name: impl AsRef<str> + Into<Arc<str>>) -> Self {
        let common = COMMON.iter().find(|common| *common.0 == *name.as_ref());
        common.cloned().unwrap_or_else(|| Self(name.into()))
    }

    /// Processor time, counted in millicores.
    pub fn cpu() -> Self {
        COMMON[0].clone()
    }

    /// Main memory, counted in bytes.
    pub fn memory() -> Self {
        COMMON[1].clone()
    }

    /// Pod slots, counted.
    pub fn pods() -> Self {
        COMMON[2].clone()
    }

    /// Local scratch space, counted in bytes.
    pub fn ephemeral_storage() -> Self {
        COMMON[3].clone()
    }

    /// The name as Kubernetes writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is counted in millicores.
    pub fn is_cpu(&self) -> bool {
        &*self.0 == "cpu"
    }

    /// Whether it is counted in bytes.
    pub fn is_bytes(&self) -> bool {
        matches!(&*self.0, "memory" | "ephemeral-storage" | "storage") || self.0.starts_with("hugepages-")
    }

    pub(crate) fn nanos_per_unit(&self) -> i128 {
        if self.is_cpu() { 1_000_000 } else { 1_000_000_000 }
    }
}

/// By name.
impl Ord for ResourceName {
    fn cmp(&self, other: &Self) -> Ordering {
        // Nearly all names are the common ones, each of which is there once.
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for ResourceName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ResourceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl From<&str> for ResourceName {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl std::borrow::Borrow<str> for ResourceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Amounts of several resources. What is not named is zero, except where a method says otherwise.
///
/// Every pod has one, with three or four names: they are held in the order of the names and in no more memory than they need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResourceList(Box<[(ResourceName, Amount)]>);

/// A resource of which more is asked than is free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excess {
    /// Which resource.
    pub name: ResourceName,
    /// How much of it is asked.
    pub asked: Amount,
    /// How much of it is free.
    pub free: Amount,
}

impl ResourceList {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// The amount of a resource; zero if it is not named.
    pub fn get(&self, name: &ResourceName) -> Amount {
        self.named(name).unwrap_or_default()
    }

    /// The amount of a resource, or `None` if it is not named: in limits, what is not named has none.
    pub fn named(&self, name: &ResourceName) -> Option<Amount> {
        let position = self.position(name).ok()?;
        Some(self.0[position].1)
    }

    /// Names an amount, in place of what was named before.
    pub fn set(&mut self, name: ResourceName, amount: Amount) {
        match self.position(&name) {
            Ok(position) => self.0[position].1 = amount,
            Err(position) => {
                let mut amounts = std::mem::take(&mut self.0).into_vec();
                amounts.reserve_exact(1);
                amounts.insert(position, (name, amount));
                self.0 = amounts.into_boxed_slice();
            }
        }
    }

    /// Where a name is, or where it would be.
    fn position(&self, name: &ResourceName) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(name))
    }

    /// The same list with one amount named.
    #[must_use]
    pub fn with(mut self, name: ResourceName, amount: Amount) -> Self {
        self.set(name, amount);
        self
    }

    /// Adds every amount of the other list, held at the ends of the range.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            let sum = self.get(name).saturating_add(amount);
            self.set(name.clone(), sum);
        }
    }

    /// The sum, or `None` when any amount leaves the range.
    #[must_use]
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        let mut sum = self.clone();
        for (name, amount) in other.iter() {
            sum.set(name.clone(), self.get(name).checked_add(amount)?);
        }
        Some(sum)
    }

    /// What is left after taking the other list away; nothing goes below zero.
    #[must_use]
    pub fn saturating_sub(&self, other: &Self) -> Self {
        let left = |(name, amount): (&ResourceName, Amount)| {
            (name.clone(), amount.saturating_sub(other.get(name)).max(Amount::ZERO))
        };
        self.iter().map(left).collect()
    }

    /// The larger of both amounts, for each resource.
    pub fn max_with(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            let larger = self.named(name).map_or(amount, |mine| mine.max(amount));
            self.set(name.clone(), larger);
        }
    }

    /// Whether all that is asked here is free there. An ask for nothing always is.
    pub fn fits_in(&self, free: &Self) -> bool {
        self.first_excess(free).is_none()
    }

    /// The first resource by name of which more is asked here than is free there.
    pub fn first_excess(&self, free: &Self) -> Option<Excess> {
        self.iter().find_map(|(name, asked)| {
            let there = free.get(name);
            (asked > Amount::ZERO && asked > there).then(|| Excess { name: name.clone(), asked, free: there })
        })
    }

    /// The named amounts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&ResourceName, Amount)> {
        self.0.iter().map(|(name, amount)| (name, *amount))
    }

    /// Whether no resource is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(ResourceName, Amount)> for ResourceList {
    fn from_iter<I: IntoIterator<Item = (ResourceName, Amount)>>(amounts: I) -> Self {
        // Of a name that is there twice the last amount counts.
        Self(amounts.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect())
    }
}

impl IntoIterator for ResourceList {
    type Item = (ResourceName, Amount);
    type IntoIter = vec::IntoIter<(ResourceName, Amount)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Serialize for ResourceList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for ResourceList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self::from_iter)
    }
}

/// `cpu: 1500m, memory: 2Gi`; `nothing` when empty.
impl fmt::Display for ResourceList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        for (index, (name, amount)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name}: {}", Quantity::of(name, amount))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(amounts: &[(&str, i64)]) -> ResourceList {
        amounts.iter().map(|(name, amount)| (ResourceName::from(*name), Amount(*amount))).collect()
    }

    #[test]
    fn a_list_reads_as_people_write_it() {
        assert_eq!(
            list(&[("memory", 2 << 30), ("cpu", 1500), ("pods", 3)]).to_string(),
            "cpu: 1500m, memory: 2Gi, pods: 3"
        );
        assert_eq!(ResourceList::new().to_string(), "nothing");
    }

    #[test]
    fn the_first_excess_names_both_sides() {
        let (asked, free) = (list(&[("cpu", 10), ("x.io/gpu", 1)]), list(&[("cpu", 10)]));
        let excess = Excess { name: "x.io/gpu".into(), asked: Amount(1), free: Amount(0) };
        assert_eq!(asked.first_excess(&free), Some(excess));
    }

    #[test]
    fn asking_for_nothing_always_fits() {
        assert!(list(&[("x.io/gpu", 0)]).fits_in(&ResourceList::new()));
        assert!(list(&[("cpu", 0)]).fits_in(&list(&[("cpu", -5)])));
    }

    #[test]
    fn a_sum_out_of_range_is_noticed() {
        assert_eq!(list(&[("cpu", i64::MAX)]).checked_add(&list(&[("cpu", 1)])), None);
    }

    fn lists() -> impl Strategy<Value = ResourceList> {
        proptest::collection::btree_map(prop_oneof![Just("cpu"), Just("memory"), Just("pods")], 0i64..1000, 0..3)
            .prop_map(|map| map.into_iter().map(|(name, amount)| (name.into(), Amount(amount))).collect())
    }

    proptest! {
        #[test]
        fn what_fits_leaves_enough_for_itself(a in lists(), b in lists()) {
            let mut both = a.clone();
            both.add(&b);
            prop_assert!(a.fits_in(&both));
            prop_assert!(b.fits_in(&both.saturating_sub(&a)));
        }

        #[test]
        fn the_larger_of_two_holds_either(a in lists(), b in lists()) {
            let mut larger = a.clone();
            larger.max_with(&b);
            prop_assert!(a.fits_in(&larger) && b.fits_in(&larger));
        }
    }
}
