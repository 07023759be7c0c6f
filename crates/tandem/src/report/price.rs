//! Prices for people: with no more digits than say something, and rounded so that none promises too much.

use units::UsdMicrosPerHour;

/// The steps to which prices are rounded: cents, and ever finer.
const STEPS: [i64; 5] = [10_000, 1_000, 100, 10, 1];
/// Four digits behind the point, as price lists have.
const LISTED: i64 = 100;

/// How far a cost is above a bound, in hundredths of a percent, rounded up; `None` without a bound above zero.
pub(super) fn gap(cost: UsdMicrosPerHour, bound: UsdMicrosPerHour) -> Option<i64> {
    let bound = i128::from(bound.0);
    let above = (i128::from(cost.0) - bound).max(0) * 10_000;
    (bound > 0).then(|| i64::try_from((above + bound - 1) / bound).ok()).flatten()
}

/// The prices of one line, all rounded to the same step.
#[derive(Clone, Copy)]
pub(super) struct Prices {
    step: i64,
}

impl Prices {
    /// So coarse that a cost, what no plan can be below, and what another plan costs still have the distance and the order that
    /// they have.
    pub(super) fn of(cost: UsdMicrosPerHour, bound: Option<UsdMicrosPerHour>, other: Option<UsdMicrosPerHour>) -> Self {
        let is_faithful = |prices: &Self| {
            let rounded = UsdMicrosPerHour(prices.up(cost));
            let keeps = |bound| gap(rounded, UsdMicrosPerHour(prices.down(bound))) == gap(cost, bound);
            bound.is_none_or(keeps) && other.is_none_or(|other| prices.up(other).cmp(&rounded.0) == other.cmp(&cost))
        };
        let steps = STEPS.into_iter().filter(|step| *step <= coarsest(cost)).map(|step| Self { step });
        steps.clone().find(is_faithful).unwrap_or(Self { step: 1 })
    }

    /// What something costs: never told too low.
    pub(super) fn cost(self, price: UsdMicrosPerHour) -> String {
        said(self.up(price))
    }

    /// What something costs at least: never told too high.
    pub(super) fn bound(self, price: UsdMicrosPerHour) -> String {
        said(self.down(price))
    }

    fn up(self, price: UsdMicrosPerHour) -> i64 {
        let steps = price.0.div_euclid(self.step) + i64::from(price.0.rem_euclid(self.step) > 0);
        steps.saturating_mul(self.step)
    }

    fn down(self, price: UsdMicrosPerHour) -> i64 {
        price.0.div_euclid(self.step) * self.step
    }
}

/// What something costs, alone in its line: in cents from a dollar on.
pub(super) fn dearer(price: UsdMicrosPerHour) -> String {
    Prices { step: coarsest(price) }.cost(price)
}

/// What something costs, to the last digit.
pub(super) fn exact(price: UsdMicrosPerHour) -> String {
    said(price.0)
}

fn coarsest(price: UsdMicrosPerHour) -> i64 {
    if price.0 >= 1_000_000 { STEPS[0] } else { LISTED }
}

fn said(micros: i64) -> String {
    let said = UsdMicrosPerHour(micros).to_string();
    match said.strip_prefix('$').and_then(|said| said.split_once('.')) {
        Some((dollars, cents)) => format!("${}.{cents}", with_commas(dollars)),
        None => said,
    }
}

/// Commas between the thousands of a row of digits.
pub(super) fn with_commas(digits: &str) -> String {
    let mut said = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            said.push(',');
        }
        said.push(digit);
    }
    said
}
