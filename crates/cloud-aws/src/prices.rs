//! What a type costs: the Pricing API and the spot price history, with a shipped table behind them.

use std::collections::HashMap;

use scheduling::CapacityType;
use units::UsdMicrosPerHour;

/// On-demand prices of us-east-1, for when the Pricing API cannot be reached. Written by `data/on_demand_prices.py`.
const SHIPPED: &str = include_str!("../data/on-demand-us-east-1.txt");

/// Spot price of a pool that the price history does not know, as a share of the on-demand price.
///
/// Unit: percent. Over all types the median saving is about 66 % (Spot advisor); a little dearer than that, so that an
/// unknown pool does not win over a known one of the median price.
const UNKNOWN_SPOT_PERCENT: i64 = 40;

/// Prices of one region.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prices {
    on_demand: HashMap<String, UsdMicrosPerHour>,
    /// By type, then zone.
    spot: HashMap<String, HashMap<String, UsdMicrosPerHour>>,
}

impl Prices {
    /// The shipped table. Elsewhere than in us-east-1 the prices differ by some tens of percent, but their order hardly.
    pub(crate) fn shipped() -> Self {
        Self { on_demand: parse(SHIPPED), spot: HashMap::new() }
    }

    /// The price of an offering; `None` if nobody has one: such a type cannot be compared and is not offered.
    pub(crate) fn of(&self, instance_type: &str, zone: &str, capacity_type: CapacityType) -> Option<UsdMicrosPerHour> {
        match capacity_type {
            CapacityType::OnDemand => self.on_demand.get(instance_type).copied(),
            CapacityType::Spot => self
                .spot
                .get(instance_type)
                .and_then(|zones| zones.get(zone))
                .copied()
                .or_else(|| self.on_demand.get(instance_type).map(|price| spot_guess(*price))),
            CapacityType::Reserved => None,
        }
    }

    /// Takes on-demand prices that were read; types without one keep what they had.
    pub(crate) fn take_on_demand(&mut self, prices: HashMap<String, UsdMicrosPerHour>) {
        self.on_demand.extend(prices);
    }

    /// Takes the newest spot prices; what is no longer there is forgotten.
    pub(crate) fn take_spot(&mut self, prices: Vec<SpotPrice>) {
        let mut spot: HashMap<String, HashMap<String, UsdMicrosPerHour>> = HashMap::new();
        for SpotPrice { instance_type, zone, price } in prices {
            spot.entry(instance_type).or_default().entry(zone).or_insert(price);
        }
        self.spot = spot;
    }
}

/// One row of the spot price history. Rows come newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpotPrice {
    pub(crate) instance_type: String,
    pub(crate) zone: String,
    pub(crate) price: UsdMicrosPerHour,
}

fn spot_guess(on_demand: UsdMicrosPerHour) -> UsdMicrosPerHour {
    UsdMicrosPerHour(on_demand.0.saturating_mul(UNKNOWN_SPOT_PERCENT) / 100)
}

fn parse(table: &str) -> HashMap<String, UsdMicrosPerHour> {
    table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (name, micros) = line.split_once(' ')?;
            Some((name.to_owned(), UsdMicrosPerHour(micros.parse().ok()?)))
        })
        .collect()
}

/// A price in dollars as AWS writes it, `0.0960000000`. `None` for what is no price, and for zero: the price list has
/// rows of zero for what is paid for elsewhere.
pub(crate) fn dollars(text: &str) -> Option<UsdMicrosPerHour> {
    let price = UsdMicrosPerHour::from_usd_per_hour(text.trim().parse().ok()?)?;
    (price > UsdMicrosPerHour::ZERO).then_some(price)
}

/// The type and on-demand price in one product of the price list, which is JSON of fixed shape and random keys.
pub(crate) fn product(text: &str) -> Option<(String, UsdMicrosPerHour)> {
    let product: serde_json::Value = serde_json::from_str(text).ok()?;
    let name = product.pointer("/product/attributes/instanceType")?.as_str()?;
    let terms = product.pointer("/terms/OnDemand")?.as_object()?;
    let price = terms.values().find_map(|term| {
        term.get("priceDimensions")?
            .as_object()?
            .values()
            .find_map(|dimension| dollars(dimension.pointer("/pricePerUnit/USD")?.as_str()?))
    })?;
    Some((name.to_owned(), price))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_shipped_table_is_a_price() {
        let lines = SHIPPED.lines().filter(|line| !line.starts_with('#')).count();
        let prices = parse(SHIPPED);
        assert_eq!(prices.len(), lines);
        assert!(lines > 1000 && prices.values().all(|price| *price > UsdMicrosPerHour::ZERO));
        assert_eq!(prices["m5.large"], UsdMicrosPerHour(96_000));
    }

    #[test]
    fn spot_prices_are_zonal_and_the_newest_counts() {
        let row = |zone: &str, micros| SpotPrice {
            instance_type: "m5.large".to_owned(),
            zone: zone.to_owned(),
            price: UsdMicrosPerHour(micros),
        };
        let mut prices = Prices::shipped();
        prices.take_spot(vec![row("a", 40_000), row("b", 35_000), row("a", 1)]);
        let spot = |zone| prices.of("m5.large", zone, CapacityType::Spot);
        assert_eq!(spot("a"), Some(UsdMicrosPerHour(40_000)));
        assert_eq!(spot("b"), Some(UsdMicrosPerHour(35_000)));
        assert_eq!(spot("c"), Some(UsdMicrosPerHour(38_400)), "unknown pools are reckoned from on demand");
        assert_eq!(prices.of("nosuch.large", "a", CapacityType::Spot), None);
    }

    #[test]
    fn a_product_of_the_price_list_is_read() {
        let text = r#"{"product": {"attributes": {"instanceType": "m5.large"}}, "terms": {"OnDemand": {"X.Y": {
            "priceDimensions": {"X.Y.Z": {"unit": "Hrs", "pricePerUnit": {"USD": "0.0960000000"}}}}}}}"#;
        assert_eq!(product(text), Some(("m5.large".to_owned(), UsdMicrosPerHour(96_000))));
        assert_eq!(product(&text.replace("0.0960000000", "0.0000000000")), None);
        assert_eq!(product("{}"), None);
    }
}
