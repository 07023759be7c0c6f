//! What the rest of a plan costs at least.

use super::Content;
use crate::solve::search::Search;

/// By resource: the offering of which a unit costs least, its price and what it has.
pub(super) struct Units(Vec<Option<(i128, i128)>>);

impl Units {
    pub(super) fn of(search: &Search<'_>) -> Self {
        let resources = search.kinds.first().map_or(0, |kind| kind.shape.request.len());
        let unit = |resource: usize| {
            let offered = search.templates.iter().flat_map(|template| {
                let of = |choice: usize| (&template.choices[choice], &template.shapes[template.choices[choice].shape]);
                template.available.iter().map(of).map(|(choice, shape)| (choice.price.0, shape.free[resource]))
            });
            let sold =
                offered.filter(|(_, free)| *free > 0).map(|(price, free)| (i128::from(price.max(0)), i128::from(free)));
            sold.min_by(|(price, free), (other, more)| (price * more).cmp(&(other * free)))
        };
        Self((0..resources).map(unit).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The nodes so far only become dearer. What they and the nodes there are do not hold without that costs what a unit
    /// costs at least.
    pub(super) fn least<'r>(&self, content: &Content, left: &(impl Iterator<Item = &'r [i64]> + Clone)) -> i64 {
        let cost: i128 = content.nodes.iter().map(|node| i128::from(node.price)).sum();
        let more = self.0.iter().enumerate().filter_map(|(resource, unit)| {
            let (price, free) = (*unit)?;
            let asked: i128 = left.clone().map(|request| i128::from(request[resource])).sum();
            let paid = content.nodes.iter().map(|node| {
                // A node of this price has no more than that.
                let most =
                    if price == 0 { i128::MAX / 4096 } else { (i128::from(node.price) * free + price - 1) / price };
                (most - i128::from(node.used[resource])).max(0)
            });
            let short = asked - i128::from(content.room[resource].max(0)) - paid.sum::<i128>();
            (short > 0).then(|| short.saturating_mul(price) / free)
        });
        i64::try_from(cost + more.max().unwrap_or(0)).unwrap_or(i64::MAX)
    }
}
