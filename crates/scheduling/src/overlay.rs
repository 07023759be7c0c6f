//! What a person knows of machines that their vendor does not say: another price, more capacity.
//!
//! A `NodeOverlay` (`karpenter.sh/v1alpha1`) changes what plans believe, nothing about the machines: what a contract takes off
//! the price, what a licence adds to it, devices that appear once the node has joined.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use requirements::{Requirement, Requirements, labels};
use units::{ResourceList, ResourceName, UsdMicrosPerHour};

use crate::{InstanceType, Offering, OfferingKey, PoolKey};

/// One overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// The name of its object.
    pub name: String,
    /// The overlay of the largest weight decides. Kubernetes allows 1 to 10,000; 0 is an object without one.
    pub weight: u32,
    /// Which offerings of which types of which pools: what the pool's labels, the type and the offering say together.
    pub requirements: Requirements,
    /// What it makes of their price.
    pub price: Option<PriceChange>,
    /// What their machines have beside what the vendor says; never cpu, memory, ephemeral-storage or pods.
    pub capacity: ResourceList,
}

/// What an overlay makes of the vendor's price. No price becomes less than nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceChange {
    /// This price instead.
    To(UsdMicrosPerHour),
    /// So much more. Unit: micro-dollars per hour.
    By(i64),
    /// So many parts of a million more.
    ByMillionths(i64),
}

impl PriceChange {
    /// The price after the change, to the nearest micro-dollar.
    #[must_use]
    pub fn of(self, price: UsdMicrosPerHour) -> UsdMicrosPerHour {
        let micros = match self {
            Self::To(price) => price.0,
            Self::By(more) => price.0.saturating_add(more),
            Self::ByMillionths(parts) => {
                let new = i128::from(price.0) * (1_000_000 + i128::from(parts));
                i64::try_from((new + 500_000).div_euclid(1_000_000)).unwrap_or(i64::MAX)
            }
        };
        UsdMicrosPerHour(micros.max(0))
    }
}

/// What a pool can buy, and the labels it gives its nodes.
#[derive(Clone, Debug)]
pub struct Offered {
    /// The pool's labels, its name among them.
    pub labels: BTreeMap<String, String>,
    /// What it can buy, as the vendor says.
    pub instance_types: Arc<[InstanceType]>,
}

impl Offered {
    /// Whether nothing has changed: the same labels, and the very same list, which is not compared type by type.
    pub fn is(&self, other: &Self) -> bool {
        self.labels == other.labels && Arc::ptr_eq(&self.instance_types, &other.instance_types)
    }
}

/// What pools can buy, as people say.
#[derive(Clone, Debug, Default)]
pub struct Overlaid {
    /// What each pool can buy. Shared with what came in where nothing was changed.
    pub instance_types: BTreeMap<PoolKey, Arc<[InstanceType]>>,
    /// Overlays that change nothing because they contradict another one, by name.
    pub conflicts: BTreeMap<String, Conflict>,
}

/// Two overlays of one weight that say different things of the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other overlay, which counts.
    pub with: String,
    /// Its weight, and this one's.
    pub weight: u32,
    /// A pool where it happens.
    pub pool: PoolKey,
    /// Of what both speak.
    pub about: Contested,
}

/// What two overlays speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contested {
    /// The price of an offering.
    Price(OfferingKey),
    /// How much of a resource an instance type has.
    Capacity(String, ResourceName),
}

/// `NodeOverlay b of the same weight 0 already sets the price of m5.large in a (spot) for NodePool/default`
impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { with, weight, pool, about } = self;
        write!(f, "NodeOverlay {with} of the same weight {weight} already sets ")?;
        match about {
            Contested::Price(offering) => write!(f, "the price of {offering}")?,
            Contested::Capacity(kind, resource) => write!(f, "the {resource} of {kind}")?,
        }
        write!(f, " for {pool}")
    }
}

/// Changes what pools can buy as the overlays say.
///
/// For every price and every resource the overlay of the largest weight counts; every change starts from what the vendor
/// says. Of overlays of one weight that set the same, the one whose name is last in the alphabet counts, and the others
/// change nothing at all. (Karpenter 1.14, `pkg/controllers/nodeoverlay`.)
pub fn overlay(offered: &BTreeMap<PoolKey, Offered>, overlays: &[Overlay]) -> Overlaid {
    let mut sorted: Vec<&Overlay> = overlays.iter().collect();
    sorted.sort_by(|a, b| (b.weight, &b.name).cmp(&(a.weight, &a.name)));
    let mut layers = Layers { offered: offered.iter().collect(), prices: HashMap::new(), resources: HashMap::new() };
    let mut conflicts = BTreeMap::new();
    for overlay in sorted {
        let places = layers.places(overlay);
        match layers.conflict(overlay, &places) {
            Some(conflict) => {
                conflicts.insert(overlay.name.clone(), conflict);
            }
            None => layers.add(overlay, &places),
        }
    }
    Overlaid { instance_types: layers.result(), conflicts }
}

/// A pool and one of its instance types, by their places.
type TypePlace = (usize, usize);

/// An instance type that an overlay speaks of, and which of its offerings.
struct Place {
    at: TypePlace,
    offerings: Vec<usize>,
}

/// What overlays have said so far, the heaviest first.
struct Layers<'a> {
    offered: Vec<(&'a PoolKey, &'a Offered)>,
    prices: HashMap<(TypePlace, usize), Said<'a, PriceChange>>,
    resources: HashMap<(TypePlace, ResourceName), Said<'a, i64>>,
}

/// What counts, and who spoke of it last.
struct Said<'a, T> {
    first: T,
    last: &'a Overlay,
}

impl<'a> Layers<'a> {
    fn places(&self, overlay: &Overlay) -> Vec<Place> {
        // Whatever else a machine may be, it is where and how it was bought.
        let mut of_type = overlay.requirements.clone();
        let zone = of_type.remove(labels::ZONE);
        let paid = of_type.remove(labels::CAPACITY_TYPE);
        let allows =
            |wanted: &Option<Requirement>, value: &str| wanted.as_ref().is_none_or(|one| one.allows(Some(value)));
        let mut places = Vec::new();
        for (pool, (_, offered)) in self.offered.iter().enumerate() {
            for (index, kind) in offered.instance_types.iter().enumerate() {
                let mut described = Requirements::from_labels(&offered.labels);
                described.add_all(&kind.requirements);
                if described.strictly_compatible(&of_type).is_err() {
                    continue;
                }
                let matches = |one: &Offering| allows(&zone, &one.zone) && allows(&paid, one.capacity_type.as_str());
                let numbered = kind.offerings.iter().enumerate();
                let offerings: Vec<usize> = numbered.filter(|(_, one)| matches(one)).map(|(at, _)| at).collect();
                if !offerings.is_empty() {
                    places.push(Place { at: (pool, index), offerings });
                }
            }
        }
        places
    }

    fn conflict(&self, overlay: &Overlay, places: &[Place]) -> Option<Conflict> {
        for Place { at, offerings } in places {
            let (pool, offered) = self.offered[at.0];
            let kind = &offered.instance_types[at.1];
            let with = |other: &Overlay, about| Conflict {
                with: other.name.clone(),
                weight: other.weight,
                pool: pool.clone(),
                about,
            };
            let priced = offerings.iter().filter(|_| overlay.price.is_some());
            let mut priced = priced.filter_map(|one| Some((one, self.prices.get(&(*at, *one))?.last)));
            if let Some((one, other)) = priced.find(|(_, other)| other.weight == overlay.weight) {
                let Offering { zone, capacity_type, .. } = &kind.offerings[*one];
                let (instance_type, zone, capacity_type) = (kind.name.clone(), zone.clone(), *capacity_type);
                return Some(with(other, Contested::Price(OfferingKey { instance_type, zone, capacity_type })));
            }
            let names = overlay.capacity.iter().map(|(name, _)| name);
            let mut sized = names.filter_map(|name| Some((name, self.resources.get(&(*at, name.clone()))?.last)));
            if let Some((name, other)) = sized.find(|(_, other)| other.weight == overlay.weight) {
                return Some(with(other, Contested::Capacity(kind.name.clone(), name.clone())));
            }
        }
        None
    }

    fn add(&mut self, overlay: &'a Overlay, places: &[Place]) {
        for Place { at, offerings } in places {
            for one in offerings {
                if let Some(price) = overlay.price {
                    say(&mut self.prices, (*at, *one), price, overlay);
                }
            }
            for (name, amount) in overlay.capacity.iter() {
                say(&mut self.resources, (*at, name.clone()), amount.0, overlay);
            }
        }
    }

    fn result(&self) -> BTreeMap<PoolKey, Arc<[InstanceType]>> {
        let mut result: BTreeMap<PoolKey, Arc<[InstanceType]>> =
            self.offered.iter().map(|(pool, offered)| ((*pool).clone(), Arc::clone(&offered.instance_types))).collect();
        let of_prices = self.prices.keys().map(|(at, _)| *at);
        let mut changed: Vec<TypePlace> = of_prices.chain(self.resources.keys().map(|(at, _)| *at)).collect();
        changed.sort_unstable();
        changed.dedup();
        for pool in changed.chunk_by(|a, b| a.0 == b.0) {
            let (key, offered) = self.offered[pool[0].0];
            let mut kinds = offered.instance_types.to_vec();
            for at in pool {
                let kind = &mut kinds[at.1];
                for (index, offering) in kind.offerings.iter_mut().enumerate() {
                    if let Some(said) = self.prices.get(&(*at, index)) {
                        offering.price = said.first.of(offering.price);
                    }
                }
            }
            for ((at, name), said) in self.resources.iter().filter(|((at, _), _)| at.0 == pool[0].0) {
                kinds[at.1].capacity.set(name.clone(), units::Amount(said.first));
            }
            result.insert(key.clone(), kinds.into());
        }
        result
    }
}

fn say<'a, K: Eq + std::hash::Hash, T>(all: &mut HashMap<K, Said<'a, T>>, key: K, what: T, by: &'a Overlay) {
    all.entry(key).and_modify(|said| said.last = by).or_insert(Said { first: what, last: by });
}

#[cfg(test)]
mod tests {
    use units::Amount;

    use super::*;
    use crate::{CapacityType, PoolKind};

    fn kind(name: &str, price: i64) -> InstanceType {
        let offering = |zone: &str, capacity_type, price| Offering {
            zone: zone.to_owned(),
            capacity_type,
            price: UsdMicrosPerHour(price),
            available: true,
            remaining: None,
        };
        let requirements = [
            Requirement::one_of(labels::INSTANCE_TYPE, [name]),
            Requirement::one_of(labels::ZONE, ["a", "b"]),
            Requirement::one_of(labels::CAPACITY_TYPE, ["spot", "on-demand"]),
        ];
        let mut all = Requirements::new();
        for one in requirements {
            all.add(one);
        }
        InstanceType {
            name: name.to_owned(),
            requirements: all,
            capacity: ResourceList::new().with(ResourceName::cpu(), Amount(2000)),
            overhead: ResourceList::new(),
            offerings: vec![
                offering("a", CapacityType::OnDemand, price),
                offering("b", CapacityType::OnDemand, price),
                offering("a", CapacityType::Spot, price / 2),
            ],
        }
    }

    fn layer(name: &str, weight: u32, wanted: &[(&str, &str)], price: Option<PriceChange>) -> Overlay {
        let mut requirements = Requirements::new();
        for (key, value) in wanted {
            requirements.add(Requirement::one_of(*key, [*value]));
        }
        Overlay { name: name.to_owned(), weight, requirements, price, capacity: ResourceList::new() }
    }

    fn slices(amount: i64) -> ResourceList {
        ResourceList::new().with(ResourceName::new("example.com/slice"), Amount(amount))
    }

    /// Prices and slices of `m5.large` and `m5.xlarge`, 100 and 200 at the vendor's, in two pools.
    struct Shown {
        prices: BTreeMap<String, [Vec<i64>; 2]>,
        slices: BTreeMap<String, [i64; 2]>,
        conflicts: BTreeMap<String, String>,
        shared: Vec<bool>,
    }

    fn shown(overlays: &[Overlay]) -> Shown {
        let types: Arc<[InstanceType]> = [kind("m5.large", 100), kind("m5.xlarge", 200)].into();
        let labels = |pool: &str| {
            let pairs = [(labels::NODEPOOL, pool), ("team", pool)];
            BTreeMap::from(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())))
        };
        let key = |name: &str| PoolKey { kind: PoolKind::NodePool, name: name.to_owned() };
        let offered =
            ["p", "q"].map(|pool| (key(pool), Offered { labels: labels(pool), instance_types: Arc::clone(&types) }));
        let overlaid = overlay(&offered.into(), overlays);
        let of = |pool: &str, index: usize| overlaid.instance_types[&key(pool)][index].clone();
        let prices = |pool: &str| [0, 1].map(|index| of(pool, index).offerings.iter().map(|one| one.price.0).collect());
        let slice =
            |pool: &str| [0, 1].map(|index| of(pool, index).capacity.get(&ResourceName::new("example.com/slice")).0);
        let pools = ["p", "q"];
        Shown {
            prices: pools.iter().map(|pool| ((*pool).to_owned(), prices(pool))).collect(),
            slices: pools.iter().map(|pool| ((*pool).to_owned(), slice(pool))).collect(),
            conflicts: overlaid.conflicts.iter().map(|(name, one)| (name.clone(), one.to_string())).collect(),
            shared: pools.iter().map(|pool| Arc::ptr_eq(&overlaid.instance_types[&key(pool)], &types)).collect(),
        }
    }

    #[test]
    fn a_price_changes_where_pool_type_and_offering_are_meant() {
        let wanted = [
            ("team", "p"),
            (labels::INSTANCE_TYPE, "m5.large"),
            (labels::CAPACITY_TYPE, "on-demand"),
            (labels::ZONE, "b"),
        ];
        let shown = shown(&[layer("cut", 0, &wanted, Some(PriceChange::ByMillionths(-100_000)))]);
        assert_eq!(shown.prices["p"], [vec![100, 90, 50], vec![200, 200, 100]]);
        assert_eq!(shown.prices["q"], [vec![100, 100, 50], vec![200, 200, 100]]);
        assert_eq!(shown.shared, [false, true]);
    }

    #[test]
    fn a_label_that_nobody_has_is_met_by_nobody() {
        let shown = shown(&[layer("x", 0, &[("example.com/rack", "1")], Some(PriceChange::By(1)))]);
        assert_eq!(shown.shared, [true, true]);
    }

    #[test]
    fn the_heaviest_decides_and_every_change_starts_from_the_vendors_price() {
        let light = layer("a", 1, &[], Some(PriceChange::By(7)));
        let heavy = layer("b", 2, &[(labels::INSTANCE_TYPE, "m5.large")], Some(PriceChange::To(UsdMicrosPerHour(1))));
        let shown = shown(&[light, heavy]);
        assert_eq!(shown.prices["p"], [vec![1, 1, 1], vec![207, 207, 107]]);
        assert_eq!(shown.conflicts, BTreeMap::new());
    }

    #[test]
    fn of_equal_weights_the_last_name_counts_and_the_other_changes_nothing() {
        let mut early = layer("early", 0, &[], Some(PriceChange::By(5)));
        early.capacity = slices(9);
        let late = layer("late", 0, &[(labels::INSTANCE_TYPE, "m5.xlarge")], Some(PriceChange::By(1)));
        let shown = shown(&[early, late]);
        assert_eq!(shown.prices["q"], [vec![100, 100, 50], vec![201, 201, 101]]);
        assert_eq!(shown.slices["q"], [0, 0]);
        let why =
            "NodeOverlay late of the same weight 0 already sets the price of m5.xlarge in a (on-demand) for NodePool/p";
        assert_eq!(shown.conflicts, BTreeMap::from([("early".to_owned(), why.to_owned())]));
    }

    #[test]
    fn capacity_comes_from_the_heaviest_for_each_resource() {
        let mut heavy = layer("b", 2, &[(labels::CAPACITY_TYPE, "spot"), (labels::INSTANCE_TYPE, "m5.large")], None);
        heavy.capacity = slices(4);
        let mut light = layer("a", 1, &[], None);
        light.capacity = slices(2);
        let mut same = layer("c", 1, &[("team", "q")], None);
        same.capacity = slices(3);
        let shown = shown(&[heavy, light, same]);
        // One offering of a type is enough for all of it. And c comes before a.
        assert_eq!((shown.slices["p"], shown.slices["q"]), ([4, 0], [4, 3]));
        let why = "NodeOverlay c of the same weight 1 already sets the example.com/slice of m5.large for NodePool/q";
        assert_eq!(shown.conflicts, BTreeMap::from([("a".to_owned(), why.to_owned())]));
    }

    #[test]
    fn no_price_is_less_than_nothing() {
        let price = UsdMicrosPerHour(15);
        let cases = [
            (PriceChange::By(-20), 0),
            (PriceChange::ByMillionths(-1_000_000), 0),
            (PriceChange::ByMillionths(100_000), 17),
            (PriceChange::ByMillionths(i64::MAX), i64::MAX),
            (PriceChange::By(i64::MAX), i64::MAX),
        ];
        let got = cases.map(|(change, _)| change.of(price).0);
        assert_eq!(got[..3], cases.map(|(_, expected)| expected)[..3]);
        assert_eq!(got[4], i64::MAX);
        assert!(got[3] > 100_000_000);
    }
}
