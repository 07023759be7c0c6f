//! Selectors as EC2's filters.

use aws_sdk_ec2::types::Filter;

use crate::class::Selector;

/// The filters whose conjunction is the selector. `ids` and `name` are what EC2 calls those filters for the resource.
pub(crate) fn filters(selector: &Selector, ids: &str, name: &str) -> Vec<Filter> {
    let mut filters = Vec::new();
    if !selector.ids.is_empty() {
        filters.push(filter(ids, selector.ids.iter().cloned()));
    }
    if let Some(wanted) = &selector.name {
        filters.push(filter(name, [wanted.clone()]));
    }
    for (key, value) in &selector.tags {
        filters.push(if value == "*" || value.is_empty() {
            filter("tag-key", [key.clone()])
        } else {
            filter(&format!("tag:{key}"), [value.clone()])
        });
    }
    filters
}

/// One filter: any of the values.
pub(crate) fn filter(name: &str, values: impl IntoIterator<Item = String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}

/// Selectors for a person: `{aws-ids: subnet-1; team: *} or {…}`.
pub(crate) fn described(selectors: &[Selector]) -> String {
    let one = |selector: &Selector| {
        let ids = selector.ids.iter().cloned().collect::<Vec<_>>().join(",");
        let mut parts = Vec::new();
        if !ids.is_empty() {
            parts.push(format!("id: {ids}"));
        }
        parts.extend(selector.name.iter().map(|name| format!("name: {name}")));
        parts.extend(selector.tags.iter().map(|(key, value)| format!("{key}: {value}")));
        format!("{{{}}}", parts.join(", "))
    };
    selectors.iter().map(one).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn every_part_becomes_a_filter_and_a_star_asks_for_the_key() {
        let selector = Selector {
            ids: BTreeSet::from(["subnet-1".to_owned(), "subnet-2".to_owned()]),
            tags: BTreeMap::from([("env".to_owned(), "prod".to_owned()), ("team".to_owned(), "*".to_owned())]),
            ..Selector::default()
        };
        let filters = filters(&selector, "subnet-id", "tag:Name");
        let seen: Vec<_> = filters.iter().map(|it| (it.name().unwrap_or_default(), it.values().join("|"))).collect();
        assert_eq!(
            seen,
            [
                ("subnet-id", "subnet-1|subnet-2".to_owned()),
                ("tag:env", "prod".to_owned()),
                ("tag-key", "team".to_owned())
            ]
        );
        assert_eq!(described(&[selector]), "{id: subnet-1,subnet-2, env: prod, team: *}");
    }
}
