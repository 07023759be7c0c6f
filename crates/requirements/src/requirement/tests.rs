use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::Requirements;

fn values() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]", (0i64..8).prop_map(|n| n.to_string()), Just("07".to_owned()), Just(String::new())]
}

fn terms(key: &'static str) -> impl Strategy<Value = RequirementTerm> {
    let set = || proptest::collection::vec(values(), 1..4);
    let bound = 0i64..8;
    prop_oneof![
        set().prop_map(|v| (Operator::In, v)),
        set().prop_map(|v| (Operator::NotIn, v)),
        Just((Operator::Exists, Vec::new())),
        Just((Operator::DoesNotExist, Vec::new())),
        bound.clone().prop_map(|n| (Operator::Gt, vec![n.to_string()])),
        bound.clone().prop_map(|n| (Operator::Lt, vec![n.to_string()])),
        bound.clone().prop_map(|n| (Operator::Gte, vec![n.to_string()])),
        bound.prop_map(|n| (Operator::Lte, vec![n.to_string()])),
    ]
    .prop_map(move |(operator, values)| RequirementTerm {
        key: key.to_owned(),
        operator,
        values,
        min_values: None,
    })
}

fn requirement() -> impl Strategy<Value = Requirement> {
    proptest::collection::vec(terms("a"), 0..3).prop_map(|terms| {
        terms
            .iter()
            .map(|t| Requirement::try_from(t).unwrap())
            .fold(Requirement::any("a"), |all, one| all.intersect(&one))
    })
}

pub(crate) fn requirements() -> impl Strategy<Value = Requirements> {
    proptest::collection::vec(prop_oneof![terms("a"), terms("b")], 0..4)
        .prop_map(|terms| Requirements::try_from(terms.as_slice()).unwrap())
}

fn label() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(values())
}

proptest! {
    #[test]
    fn an_intersection_allows_what_both_allow(a in requirement(), b in requirement(), value in label()) {
        let value = value.as_deref();
        prop_assert_eq!(a.intersect(&b).allows(value), a.allows(value) && b.allows(value));
    }

    #[test]
    fn intersection_is_commutative(a in requirement(), b in requirement()) {
        prop_assert_eq!(a.intersect(&b), b.intersect(&a));
    }

    #[test]
    fn intersection_is_associative(a in requirement(), b in requirement(), c in requirement()) {
        prop_assert_eq!(a.intersect(&b).intersect(&c), a.intersect(&b.intersect(&c)));
    }

    #[test]
    fn intersection_is_idempotent_and_has_an_identity(a in requirement()) {
        prop_assert_eq!(&a.intersect(&a), &a);
        prop_assert_eq!(&a.intersect(&Requirement::any("a")), &a);
        prop_assert_eq!(Requirement::any("a").intersect(&a), a);
    }

    #[test]
    fn overlap_is_a_nonempty_intersection(a in requirement(), b in requirement()) {
        prop_assert_eq!(a.overlaps(&b), !a.intersect(&b).is_empty());
    }

    #[test]
    fn what_is_empty_allows_nothing(a in requirement(), value in label()) {
        prop_assert!(!(a.is_empty() && a.allows(value.as_deref())));
    }

    #[test]
    fn an_example_is_allowed(a in requirement()) {
        match a.example() {
            Some(value) => prop_assert!(a.allows(Some(&value))),
            None => prop_assert!(a.finite().is_none_or(BTreeSet::is_empty)),
        }
    }

    #[test]
    fn terms_mean_what_they_were_made_from(a in requirement()) {
        let again = a.to_terms().iter().map(|t| Requirement::try_from(t).unwrap()).fold(Requirement::any("a"), |all, one| all.intersect(&one));
        prop_assert_eq!(again, a);
    }

    #[test]
    fn a_term_allows_what_kubernetes_says(term in terms("a"), value in label()) {
        let requirement = Requirement::try_from(&term).unwrap();
        let integer = value.as_deref().and_then(|v| v.parse::<i64>().ok());
        let bound = term.values.first().and_then(|v| v.parse::<i64>().ok());
        let named = value.as_ref().is_some_and(|v| term.values.contains(v));
        let expected = match term.operator {
            Operator::In => named,
            Operator::NotIn => !named,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => integer.is_some() && integer > bound,
            Operator::Lt => integer.is_some() && integer < bound,
            Operator::Gte => integer.is_some() && integer >= bound,
            Operator::Lte => integer.is_some() && integer <= bound,
        };
        prop_assert_eq!(requirement.allows(value.as_deref()), expected);
    }
}

fn refused(key: &str, operator: Operator, values: &[&str], min_values: Option<u32>, expected: &Expect) {
    let term = RequirementTerm { min_values, ..RequirementTerm::new(key, operator, values.iter().copied()) };
    expected.assert_eq(&Requirement::try_from(&term).unwrap_err().to_string());
}

#[test]
fn a_term_without_a_meaning_says_why() {
    refused("a", Operator::In, &[], None, &expect![[r#"requirement on "a": In needs at least one value"#]]);
    refused("a", Operator::Exists, &["x"], None, &expect![[r#"requirement on "a": Exists takes no values"#]]);
    refused(
        "a",
        Operator::Gt,
        &["-1"],
        None,
        &expect![[r#"requirement on "a": Gt needs exactly one integer of at least 0"#]],
    );
    refused(
        "a",
        Operator::Lt,
        &["1", "2"],
        None,
        &expect![[r#"requirement on "a": Lt needs exactly one integer of at least 0"#]],
    );
    refused(
        "a b",
        Operator::Exists,
        &[],
        None,
        &expect![[
            r#"requirement on "a b": the key is not a label key: "a b" has characters other than letters, digits, -, _ and ."#
        ]],
    );
    refused(
        "a",
        Operator::In,
        &["-"],
        None,
        &expect![[r#"requirement on "a": the value "-" must begin and end with a letter or digit"#]],
    );
    refused(
        "a",
        Operator::In,
        &["x"],
        Some(2),
        &expect![[r#"requirement on "a": minValues is 2 but only 1 values are named"#]],
    );
    refused("a", Operator::Exists, &[], Some(51), &expect![[r#"requirement on "a": minValues must be from 1 to 50"#]]);
}

#[test]
fn nothing_is_above_the_largest_integer() {
    let term = RequirementTerm::new("a", Operator::Gt, [i64::MAX.to_string()]);
    assert!(Requirement::try_from(&term).unwrap().is_empty());
}

#[test]
fn below_zero_is_still_an_integer() {
    let below_zero = Requirement::try_from(&RequirementTerm::new("a", Operator::Lt, ["0"])).unwrap();
    assert!(below_zero.allows(Some("-1")) && !below_zero.allows(Some("0")));
    assert_eq!(below_zero.example().as_deref(), Some("-1"));
}

#[test]
fn requirements_read_as_sentences() {
    let table = [
        (Requirement::any("a"), "a anything"),
        (Requirement::exists("a"), "a present"),
        (Requirement::absent("a"), "a absent"),
        (Requirement::one_of("a", ["y", "x"]), "a in [x, y]"),
        (Requirement::none_of("a", ["y", "x"]), "a not in [x, y]"),
        (Requirement::none_of("a", ["x"]).intersect(&Requirement::exists("a")), "a present and not in [x]"),
        (Requirement::one_of("a", ["x"]).intersect(&Requirement::absent("a")), "a impossible"),
    ];
    for (requirement, text) in table {
        assert_eq!(requirement.to_string(), text);
    }
}

#[test]
fn a_long_list_is_told_in_part() {
    let values = |count: u32| (0..count).map(|n| format!("v{n:02}")).collect::<Vec<_>>();
    let listed = |count| Requirement::one_of("a", values(count)).to_string();
    assert_eq!(listed(20), format!("a in [{}]", values(20).join(", ")));
    assert_eq!(listed(21), format!("a in [{}, and 11 more]", values(10).join(", ")));
}
