use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn quantity(text: &str) -> Quantity {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str, expected: &Expect) {
    expected.assert_eq(&text.parse::<Quantity>().unwrap_err().to_string());
}

/// What Kubernetes writes after having read the same (`apimachinery/pkg/api/resource`).
#[test]
fn the_canonical_form_is_that_of_kubernetes() {
    for (written, canonical) in [
        ("0", "0"),
        ("0m", "0"),
        ("-0", "0"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("0.5", "500m"),
        ("0.1m", "100u"),
        ("1000", "1k"),
        ("1000k", "1M"),
        ("1024", "1024"),
        ("1024Ki", "1Mi"),
        ("1Ki", "1Ki"),
        ("0.5Ki", "512"),
        ("1.5Gi", "1536Mi"),
        ("1500Gi", "1500Gi"),
        ("1.3333Ki", "1365299200u"),
        ("0.1Gi", "107374182400m"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("12e-3", "12e-3"),
        ("1e2", "100"),
        ("1E", "1E"),
        ("-1.5k", "-1500"),
        ("+5", "5"),
        (".5", "500m"),
        ("5.", "5"),
        ("007", "7"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("1e-30", "1e-9"),
        ("100E", "9223372036854775807"),
        ("-1e99999999999999999999", "-9223372036854775807"),
        ("0e99999999999999999999", "0"),
    ] {
        assert_eq!(quantity(written).to_string(), canonical, "{written}");
    }
}

#[test]
fn what_is_no_quantity_says_why() {
    refused("", &expect!["a quantity must not be empty"]);
    refused("1000 Gi", &expect![[r#"quantity "1000 Gi" has a space: write 1000Gi instead"#]]);
    refused(" 1", &expect![[r#"quantity " 1" has a space: write 1 instead"#]]);
    refused("Gi", &expect![[r#"quantity "Gi" does not begin with a number"#]]);
    refused(".", &expect![[r#"quantity "." does not begin with a number"#]]);
    refused("1.2.3", &expect![[r#"quantity "1.2.3" has more than one point"#]]);
    refused("--1", &expect![[r#"quantity "--1" does not begin with a number"#]]);
    refused("16GB", &expect![[r#"quantity "16GB" has the unknown suffix "GB" (write G or Gi)"#]]);
    refused("5K", &expect![[r#"quantity "5K" has the unknown suffix "K" (thousands are a small k, 1024 is Ki)"#]]);
    refused("1e", &expect![[r#"quantity "1e" has the unknown suffix "e""#]]);
    refused("1e1.5", &expect![[r#"quantity "1e1.5" has the unknown suffix "e1.5""#]]);
    refused("1Éi", &expect![[r#"quantity "1Éi" has the unknown suffix "Éi""#]]);
}

#[test]
fn asks_round_up_and_supplies_round_down() {
    let (cpu, memory) = (ResourceName::cpu(), ResourceName::memory());
    assert_eq!(quantity("0.1m").to_amount_ceil(&cpu), Ok(Amount(1)));
    assert_eq!(quantity("0.1m").to_amount_floor(&cpu), Ok(Amount(0)));
    assert_eq!(quantity("1500m").to_amount_ceil(&memory), Ok(Amount(2)));
    assert_eq!(quantity("-1500m").to_amount_ceil(&memory), Ok(Amount(-1)));
    assert_eq!(quantity("-1500m").to_amount_floor(&memory), Ok(Amount(-2)));
    assert_eq!(quantity("2Gi").to_amount_ceil(&memory), Ok(Amount(2 << 30)));
    assert_eq!(quantity("1u").to_milli_ceil(), Ok(1));
    let error = quantity("9E").to_amount_ceil(&cpu).unwrap_err();
    expect!["quantity 9E is out of range for cpu"].assert_eq(&error.to_string());
}

#[test]
fn amounts_are_written_in_their_own_family() {
    for (name, amount, text) in [
        ("cpu", 1500, "1500m"),
        ("memory", 2 << 30, "2Gi"),
        ("pods", 110, "110"),
        ("x.io/gpu", 8, "8"),
        ("memory", 10_000_000_000, "10G"),
        ("memory", 512_000, "500Ki"),
        ("memory", i64::MIN, "-8Ei"),
    ] {
        assert_eq!(Quantity::of(&ResourceName::new(name), Amount(amount)).to_string(), text);
    }
}

#[test]
fn an_amount_in_passing_is_rounded_up() {
    for (name, amount, text) in [
        ("memory", 969_932 << 20, "948Gi"),
        ("memory", 8 << 30, "8Gi"),
        ("memory", 10_239 << 20, "10239Mi"),
        ("memory", 0, "0"),
        ("memory", i64::MAX, "9223372036854775807"),
        ("cpu", 9_999, "9999m"),
        ("cpu", 15_890, "16"),
        ("pods", 110, "110"),
    ] {
        assert_eq!(Quantity::about(&ResourceName::new(name), Amount(amount)).to_string(), text);
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_as_the_same(nanos in -LARGEST..=LARGEST, family in prop_oneof![Just(Family::Decimal), Just(Family::Binary), Just(Family::Exponent)]) {
        let written = Quantity { nanos, family };
        let read = quantity(&written.to_string());
        prop_assert_eq!(read, written);
        prop_assert_eq!(read.to_string(), written.to_string());
    }

    #[test]
    fn every_suffix_multiplies(number in -1_000_000i64..1_000_000, (suffix, factor) in prop_oneof![
        Just(("k", 1000i128)), Just(("M", 1_000_000)), Just(("G", 1_000_000_000)), Just(("Ki", 1 << 10)), Just(("Mi", 1 << 20)), Just(("Gi", 1 << 30)),
        Just(("Ti", 1 << 40)), Just(("", 1)), Just(("e2", 100)), Just(("E+2", 100)),
    ]) {
        prop_assert_eq!(quantity(&format!("{number}{suffix}")).nanos, i128::from(number) * factor * NANOS);
    }

    #[test]
    fn rounding_up_is_the_least_that_suffices(nanos in -LARGEST/2000..=LARGEST/2000) {
        let value = Quantity { nanos, family: Family::Decimal };
        let milli = i128::from(value.to_milli_ceil().unwrap()) * NANOS_PER_MILLI;
        prop_assert!(milli >= nanos && milli - nanos < NANOS_PER_MILLI);
    }

    #[test]
    fn no_text_panics(text in "[-+]?[0-9.eEKMGTPinumk ]{0,20}|\\PC{0,12}") {
        let _ = text.parse::<Quantity>();
    }
}
