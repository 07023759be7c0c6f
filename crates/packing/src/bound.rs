//! What any plan must cost: from values of pods to a proven bound, in integers.
//!
//! Give every pod a value, and let `upper` of a bin be at least the value of anything one node of it can hold. If no node
//! can hold more value than it costs, all pods together cost at least their value. Values that are too large for some bin
//! are scaled down by the worst ratio (Farley's bound). Bins that run out may hold more than they cost; what all of them
//! hold in excess is subtracted. Limits are ignored, which only makes the bound smaller.

use crate::knapsack::Values;
use crate::model::{Model, UNLIMITED};

/// Values may not exceed this, so that sums of them stay far from the ends of `i128`.
const MOST: f64 = (1_u64 << 50) as f64;

/// How values are written: 2^digits of them are one micro-USD per hour.
pub(crate) fn digits(model: &Model) -> u32 {
    let dearest = model.bins.iter().map(|bin| bin.price).max().unwrap_or(0).max(1);
    (38 - dearest.ilog2().min(38)).min(20)
}

/// Groups that some endless bin takes for nothing. They are worth nothing, too.
pub(crate) fn free_of_charge(model: &Model) -> Vec<bool> {
    let mut free = vec![false; model.groups.len()];
    for bin in model.bins.iter().filter(|bin| bin.stock == UNLIMITED && bin.price == 0) {
        for &group in &bin.groups {
            free[group] = true;
        }
    }
    free
}

/// Prices in micro-USD as integer values.
pub(crate) fn values(prices: &[f64], digits: u32, free: &[bool]) -> Vec<i64> {
    let unit = f64::from(1_u32 << digits);
    let each = prices.iter().zip(free);
    each.map(|(price, free)| if *free { 0 } else { (price * unit).clamp(0.0, MOST).floor() as i64 }).collect()
}

/// The bin that scales the values most: price and upper value, as a fraction of positive integers.
pub(crate) fn tightest(model: &Model, uppers: &[i128]) -> Option<usize> {
    let endless = (0..model.bins.len()).filter(|&bin| model.bins[bin].stock == UNLIMITED && uppers[bin] > 0);
    endless.reduce(|a, b| {
        let left = i128::from(model.bins[a].price).saturating_mul(uppers[b]);
        let right = i128::from(model.bins[b].price).saturating_mul(uppers[a]);
        if right < left { b } else { a }
    })
}

/// A lower bound, in micro-USD per hour, on the cost of placing `demand`.
pub(crate) fn certified(model: &Model, demand: &[u64], values: &Values, uppers: &[i128], digits: u32) -> i128 {
    let total = values
        .iter()
        .zip(demand)
        .fold(0_i128, |sum, (value, count)| sum.saturating_add(i128::from(*value).saturating_mul(i128::from(*count))));
    // In the unit of values: pods are worth `price / upper` of what they say.
    let (price, upper) = match tightest(model, uppers) {
        Some(bin) => (i128::from(model.bins[bin].price) << digits, uppers[bin]),
        None => (1, 1),
    };
    let mut worth = price.saturating_mul(total);
    for (bin, most) in model.bins.iter().zip(uppers).filter(|(bin, _)| bin.stock != UNLIMITED) {
        let held = price.saturating_mul(*most);
        let paid = (i128::from(bin.price) << digits).saturating_mul(upper);
        let excess = held.saturating_sub(paid).max(0);
        worth = worth.saturating_sub(excess.saturating_mul(i128::from(bin.stock)));
    }
    let Some(unit) = upper.checked_mul(1 << digits) else { return 0 };
    whole_prices(model, worth.max(0) / unit + i128::from(worth > 0 && worth % unit != 0))
}

/// Costs are sums of prices, so a bound may go up to the next multiple of what divides all prices.
pub(crate) fn whole_prices(model: &Model, bound: i128) -> i128 {
    let divisor = i128::from(model.bins.iter().fold(0, |divisor, bin| gcd(divisor, bin.price)));
    if divisor == 0 { 0 } else { (bound.max(0) + divisor - 1) / divisor * divisor }
}

fn gcd(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
