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

/// Formulas that expr-lang itself takes for something else: `docs/differences.md` has the reasons.
const DIFFERENT: [&str; 2] = ["a > 1 ? true : 2", "a // comment ?? 1"];

/// What we make of a formula, in the form of `expr-lang.tsv`, which says in what situations.
fn situations(text: &str) -> Vec<String> {
    let names =
        ["a", "b", "notifications", "note_q", "nilable", "trueval", "falsey", "index", "orders", "in_queue"].into();
    let Ok(formula) = Formula::read(text, &names) else { return vec!["refused".to_owned()] };
    let with = |a: Option<i64>, b: i64| {
        let mut values: BTreeMap<_, _> =
            names.iter().map(|name| (*name, Some(Milli::from_thousandths(7_000)))).collect();
        values.insert("a", a.map(Milli::from_thousandths));
        values.insert("b", Some(Milli::from_thousandths(b)));
        match formula.evaluate(&values) {
            Ok(Some(value)) => value.to_f64().to_string(),
            Ok(None) | Err(_) => "-".to_owned(),
        }
    };
    vec![with(Some(25_000), 40_000), with(Some(0), -3_500), with(None, 40_000)]
}

#[test]
fn formulas_give_what_expr_lang_itself_gives() {
    let mut wrong = Vec::new();
    for line in include_str!("expr-lang.tsv").lines() {
        let mut columns = line.split('\t');
        let text: String = serde_json::from_str(columns.next().unwrap()).unwrap();
        let theirs: Vec<_> = columns.map(str::to_owned).collect();
        let ours = situations(&text);
        // One that never gives a number may be refused at once.
        let never = ours == ["refused"] && theirs.iter().all(|value| value == "-");
        if (ours != theirs && !never) != DIFFERENT.contains(&text.as_str()) {
            wrong.push(format!("{text}: {ours:?}, expr-lang {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_wrong_is_shown_where_it_is() {
    assert_eq!(result("a + c"), "unknown name c (1:5)\n | a + c\n | ....^");
    assert_eq!(result("a > 0 ? a : c"), "unknown name c (1:13)\n | a > 0 ? a : c\n | ............^");
    assert_eq!(result("a +\n c"), "unknown name c (2:2)\n |  c\n | .^");
    assert_eq!(result("$env[\"a\"]"), "unknown name $env (1:1)\n | $env[\"a\"]\n | ^");
    assert_eq!(result("a +"), "unexpected token EOF (1:4)\n | a +\n | ...^");
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
fn what_gives_numbers_for_inputs_that_differ_is_a_formula() {
    assert_eq!(result("1 / (b - a)"), "66m");
    assert_eq!(result("a / (a - b)"), "-1666m");
    assert_eq!(result("a / (a - a)"), "the formula gives infinity, which is not a number");
}

#[test]
fn a_trigger_that_gives_nothing_is_nil() {
    let formula = Formula::read("a ?? b", &known()).unwrap();
    let values = BTreeMap::from([("a", None), ("b", Some(Milli::from_thousandths(4_000)))]);
    assert_eq!(formula.evaluate(&values), Ok(Some(Milli::from_thousandths(4_000))));
    assert_eq!(formula.evaluate(&BTreeMap::from([("a", None), ("b", None)])), Ok(None));
    assert_eq!(result("find([a], # > 100)"), "the formula gives nil, which is not a number");
    let strict = Formula::read("a + b", &known()).unwrap();
    assert!(strict.evaluate(&values).is_err(), "nil is not zero");
}

#[test]
fn only_names_from_outside_are_names() {
    let names = |text: &str| {
        let formula = Formula::read(text, &["a", "b", "c"].into()).unwrap();
        formula.names().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names("let x = a; x + max(b, 2) // c"), ["a", "b"]);
    assert_eq!(names("{k: a, l: b}.k + len('c' + \"d\\\"e\")"), ["a", "b"]);
    assert_eq!(names("a > 0 ? b : c"), ["a", "b", "c"]);
    assert_eq!(names("reduce([a], #acc + #index, 0x1f + 1e-3)"), ["a"]);
}

#[test]
fn a_formula_cannot_cost_more_than_it_is_worth() {
    let names =
        (1..200).fold("let x0 = [a, a]; ".to_owned(), |text, i| format!("{text}let x{i} = [x{}, x{}]; ", i - 1, i - 1));
    for formula in [
        "sum(1..1000000000)",
        "sum(1..int(a) * 1000000000)",
        "sum(map(1..1000, sum(map(1..1000, #))))",
        "len(uniq(1..10000))",
        "let x = 'x'; len(reduce(1..60, #acc + #acc, x))",
        &format!("a{}", " + a".repeat(2_000)),
    ] {
        let said = Formula::read(formula, &known()).unwrap_err();
        assert!(matches!(said, FormulaError::TooLarge(_)), "{formula}: {said}");
    }
    for formula in [
        &format!("{}a{}", "(".repeat(500), ")".repeat(500)),
        &format!("{}a", "-".repeat(500)),
        &format!("a{}", " + a".repeat(500)),
        &format!("a{}", "[0]".repeat(500)),
        "max(reduce(1..1000, [#acc]))",
        &format!("{}max(x30)", names.split_inclusive(';').take(31).collect::<String>()),
    ] {
        let said = Formula::read(formula, &known()).unwrap_err().to_string();
        assert!(
            said.contains("nest deeper than") || said.contains("nests deeper than") || said.contains("steps"),
            "{formula}: {said}"
        );
    }
}

#[test]
fn a_formula_may_be_as_deep_as_it_may_be() {
    let deep = DEPTH_MAX - 8;
    for formula in [
        format!("{}a{}", "(".repeat(deep), ")".repeat(deep)),
        format!("{}a", "-".repeat(deep)),
        format!("a{}", " + a".repeat(deep)),
        format!("{}a{}", "[".repeat(30), "]".repeat(30)) + &"[0]".repeat(30),
    ] {
        let said = Formula::read(&formula, &known());
        assert!(said.is_ok(), "{formula}: {said:?}");
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
