use proptest::prelude::*;

use super::*;

fn known() -> BTreeSet<&'static str> {
    ["a", "b"].into()
}

/// The result with `a` = 25 and `b` = 40, or why there is none.
fn result(text: &str) -> String {
    let values =
        BTreeMap::from([("a", Some(Milli::from_thousandths(25_000))), ("b", Some(Milli::from_thousandths(40_000)))]);
    match Formula::read(text, &known()).and_then(|formula| formula.evaluate(&values)) {
        Ok(Some(value)) => value.to_quantity_string(),
        Ok(None) => "nil".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn formulas_give_what_they_give_in_keda() {
    for (formula, wanted) in [
        ("a / b", "625m"),
        ("max([a,b])", "40"),
        ("max(a, b)", "40"),
        ("min([a,b])", "25"),
        ("let x = a * 2; x + b", "90"),
        ("a - a", "0"),
        ("a - 100", "-75"),
        ("a ?? b", "25"),
        ("count([a,b],{# > 30})", "1"),
        ("7", "7"),
        ("b", "40"),
        ("mean([a,b])", "32500m"),
        ("median([a,b])", "32500m"),
        ("[a,b] | sum()", "65"),
        ("sum([a, b])", "65"),
        ("a > 20 ? b : 1", "40"),
        ("a > 20 and b > 50 ? 1 : 2", "2"),
        ("not (a > 20) ? 1 : 2", "2"),
        ("a in [25, 26] ? 3 : 4", "3"),
        ("2 ** 3 + 2 ^ 2", "12"),
        ("any([a,b], {# > 30}) ? 1 : 0", "1"),
        ("reduce([a,b], #acc + #, 0)", "65"),
        ("round(a / 7)", "4"),
        ("ceil(a / 7)", "4"),
        ("floor(a / 7)", "3"),
        ("abs(a - b)", "15"),
        ("float(\"2.5\") + int(1)", "3500m"),
        ("int(a) % 7", "4"),
        ("a / 3", "8333m"),
        ("(0 - a) / 3", "-8333m"),
        ("sum(map(1..4, # * 2))", "20"),
    ] {
        assert_eq!(result(formula), wanted, "{formula}");
    }
}

#[test]
fn what_is_wrong_is_shown_where_it_is() {
    assert_eq!(result("a + c"), "unknown name c (1:5)\n | a + c\n | ....^");
    assert_eq!(result("a > 0 ? a : c"), "unknown name c (1:13)\n | a > 0 ? a : c\n | ............^");
    assert_eq!(result("a +\n c"), "unknown name c (2:2)\n |  c\n | .^");
    assert_eq!(result("$env[\"a\"]"), "unknown name $env (1:1)\n | $env[\"a\"]\n | ^");
    assert_eq!(result("a +"), "unexpected token (1:4)\n | a +\n | ...^");
    assert_eq!(result("a > b"), "the formula gives true or false, which is not a number");
    assert_eq!(result("\"x\""), "the formula gives a text, which is not a number");
    assert_eq!(result("[a, b]"), "the formula gives a list or a map, which is not a number");
}

#[test]
fn a_result_that_is_not_finite_is_no_number() {
    assert_eq!(result("a / (b - 40)"), "the formula gives infinity, which is not a number");
    assert_eq!(result("(a - 25) / (b - 40)"), "the formula gives an undefined value, which is not a number");
}

#[test]
fn a_trigger_that_gives_nothing_is_nil() {
    let formula = Formula::read("a ?? b", &known()).unwrap();
    let values = BTreeMap::from([("a", None), ("b", Some(Milli::from_thousandths(4_000)))]);
    assert_eq!(formula.evaluate(&values), Ok(Some(Milli::from_thousandths(4_000))));
    assert_eq!(formula.evaluate(&BTreeMap::from([("a", None), ("b", None)])), Ok(None));
    let strict = Formula::read("a + b", &known()).unwrap();
    assert!(strict.evaluate(&values).is_err(), "nil is not zero");
}

#[test]
fn only_names_from_outside_are_names() {
    let names = |text: &str| names::scan(text).names.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names("let x = a; x + max(b, 2) // c"), ["a", "b"]);
    assert_eq!(names("{k: a, l: b}.k + 'c' + \"d\\\"e\""), ["a", "b"]);
    assert_eq!(names("a ? b : c"), ["a", "b", "c"]);
    assert_eq!(names("reduce([a], #acc + #index, 0x1f + 1e-3)"), ["a"]);
    assert_eq!(names("a?.b ?? not c"), ["a", "c"]);
}

#[test]
fn a_formula_cannot_cost_more_than_it_is_worth() {
    for formula in [
        "sum(1..1000000000)",
        "sum(1..a)",
        "sum(map(1..1000, sum(map(1..1000, #))))",
        "len(repeat(\"x\", 1000000000))",
        "((((((((((((((a))))))))))))))",
        "---------------a",
        &format!("a{}", " + a".repeat(2_000)),
    ] {
        let said = Formula::read(formula, &known()).unwrap_err();
        assert!(matches!(said, FormulaError::TooLarge(_)), "{formula}: {said}");
    }
}

#[test]
fn whole_numbers_that_overflow_wrap_around_as_in_keda() {
    assert_eq!(result("9223372036854775807 + 9223372036854775807 + a"), "23");
}

proptest! {
    /// Whatever people write, there is an answer.
    #[test]
    fn no_text_is_too_odd_to_answer(text in "[ab0-9+*/().,?:#{}\\[\\]\"'=<>!&| \\-letxinot]{0,60}") {
        let _ = result(&text);
    }
}
