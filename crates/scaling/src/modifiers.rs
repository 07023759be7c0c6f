//! `scalingModifiers`: one metric out of several triggers.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use units::Milli;

use crate::fallback::{Fallback, FallbackBehavior};
use crate::formula::{Formula, FormulaError};
use crate::sample::{Sample, Target, TriggerReading, is_active};

/// The name the HPA asks the composite metric by.
pub const COMPOSITE: &str = "composite-metric";

/// A formula with what its result is compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct Modifiers {
    formula: Formula,
    target: Target,
    activation: Milli,
}

/// The block as a manifest wrote it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written<'a> {
    /// `formula`.
    pub formula: &'a str,
    /// `target`, a decimal above 0.
    pub target: &'a str,
    /// `activationTarget`, a decimal; 0 if empty.
    pub activation_target: &'a str,
    /// `metricType`: `AverageValue` (also if empty) or `Value`.
    pub metric_type: &'a str,
}

/// A field of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `formula`
    Formula,
    /// `target`
    Target,
    /// `activationTarget`
    ActivationTarget,
    /// `metricType`
    MetricType,
}

impl Part {
    /// The name of the field.
    pub fn name(self) -> &'static str {
        match self {
            Self::Formula => "formula",
            Self::Target => "target",
            Self::ActivationTarget => "activationTarget",
            Self::MetricType => "metricType",
        }
    }
}

/// What is wrong with the block. The first lines are KEDA's, which people search for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModifiersError {
    /// There is a target, but nothing to compare with it.
    #[error("error ScalingModifiers.Formula is mandatory")]
    NoFormula,
    /// The formula cannot be used.
    #[error("error validating formula in ScalingModifiers\n{0}")]
    Formula(FormulaError),
    /// There is nothing to compare the result with.
    #[error("error validating formula in ScalingModifiers\nformula is given but target is empty")]
    NoTarget,
    /// The target is no number, or not above 0.
    #[error(
        "error validating target in ScalingModifiers\nerror converting target for scalingModifiers (string->float) to \
         valid target: {0}"
    )]
    Target(String),
    /// The activation target is no number.
    #[error(
        "error validating activationTarget in ScalingModifiers\nerror converting activationTarget for scalingModifiers \
         (string->float): {0}"
    )]
    ActivationTarget(String),
    /// The metric type is none that a composite metric can have.
    #[error("metric type {0:?} is not allowed; use AverageValue or Value")]
    MetricType(String),
}

impl ModifiersError {
    /// The field at fault.
    pub fn part(&self) -> Part {
        match self {
            Self::NoFormula | Self::Formula(_) => Part::Formula,
            Self::NoTarget | Self::Target(_) => Part::Target,
            Self::ActivationTarget(_) => Part::ActivationTarget,
            Self::MetricType(_) => Part::MetricType,
        }
    }
}

/// One trigger of the object, for the formula.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The trigger's name.
    pub name: &'a str,
    /// One of its metrics, as it was read.
    pub reading: &'a TriggerReading,
}

impl Modifiers {
    /// Reads the block; `names` are those of the external triggers that have one.
    ///
    /// # Errors
    /// Everything that is wrong, each with its field.
    pub fn read(written: Written<'_>, names: &BTreeSet<&str>) -> Result<Self, Vec<ModifiersError>> {
        let mut wrong = Vec::new();
        let formula = if written.formula.trim().is_empty() {
            wrong.push(ModifiersError::NoFormula);
            None
        } else {
            Formula::read(written.formula, names).map_err(|error| wrong.push(ModifiersError::Formula(error))).ok()
        };
        let amount = target(written.target.trim()).map_err(|error| wrong.push(error)).ok();
        let activation = match written.activation_target.trim() {
            "" => Some(Milli::ZERO),
            text => decimal(text).map_err(|error| wrong.push(ModifiersError::ActivationTarget(error))).ok(),
        };
        let kind: Option<fn(Milli) -> Target> = match written.metric_type {
            "" | "AverageValue" => Some(Target::AverageValue),
            "Value" => Some(Target::Value),
            other => {
                wrong.push(ModifiersError::MetricType(other.to_owned()));
                None
            }
        };
        match (formula, amount, activation, kind) {
            (Some(formula), Some(amount), Some(activation), Some(kind)) => {
                Ok(Self { formula, target: kind(amount), activation })
            }
            _ => Err(wrong),
        }
    }

    /// What the composite metric is compared with.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Whether the formula depends on the trigger of this name.
    pub fn uses(&self, name: &str) -> bool {
        self.formula.names().any(|used| used == name)
    }

    /// The composite metric, from the triggers that the formula names. Several metrics of one trigger are added up.
    ///
    /// A trigger without a number makes the composite unknown, as often in a row as the trigger that has failed most. With
    /// the fallback `scalingModifiers` it enters the formula as nil instead, once the fallback applies to it.
    ///
    /// Differs from KEDA: a formula that cannot be worked out makes the composite unknown; there it counts as inactive, so
    /// that the target goes to zero.
    pub fn compose(&self, inputs: &[Input<'_>], fallback: Option<&Fallback>) -> TriggerReading {
        let as_nil = fallback.filter(|fallback| fallback.behavior == FallbackBehavior::ScalingModifiers);
        let (mut values, mut failing) = (BTreeMap::new(), Vec::new());
        let (mut failures, mut nil_failures) = (0, 0);
        for name in self.formula.names() {
            match sum(inputs.iter().filter(|input| input.name == name).map(|input| input.reading)) {
                Ok(value) => {
                    values.insert(name, Some(value));
                }
                Err((_, count)) if as_nil.is_some_and(|fallback| fallback.applies(count)) => {
                    nil_failures = nil_failures.max(count);
                    values.insert(name, None);
                }
                Err((why, count)) => {
                    failures = failures.max(count);
                    failing.push(format!("{name}: {why}"));
                }
            }
        }
        let sample = if failing.is_empty() {
            // What the fallback has put into the formula is also what a result of nil comes from.
            failures = nil_failures;
            match self.formula.evaluate(&values) {
                Ok(Some(value)) => Sample::Value(value),
                Ok(None) => Sample::Unknown { why: "the formula gives nil".to_owned() },
                Err(error) => Sample::Unknown { why: error.to_string() },
            }
        } else {
            Sample::Unknown { why: failing.join("; ") }
        };
        TriggerReading {
            metric_name: COMPOSITE.to_owned(),
            active: sample.value().map(|value| is_active(value, self.activation)),
            substituted: !sample.is_unknown() && nil_failures > 0,
            failures: if sample.is_unknown() { failures } else { 0 },
            sample,
            target: self.target,
        }
    }
}

/// The sum of the metrics of one trigger, or why there is none and how often in a row there was none.
fn sum<'a>(readings: impl Iterator<Item = &'a TriggerReading>) -> Result<Milli, (String, u32)> {
    let mut total = None;
    for reading in readings {
        let value = match &reading.sample {
            Sample::Value(value) => *value,
            Sample::Unknown { why } => return Err((why.clone(), reading.failures)),
        };
        let before = total.unwrap_or(Milli::ZERO);
        total = Some(before.checked_add(value).ok_or_else(|| ("the sum is out of range".to_owned(), 0))?);
    }
    total.ok_or_else(|| ("no trigger of this name gives a metric".to_owned(), 0))
}

fn target(text: &str) -> Result<Milli, ModifiersError> {
    if text.is_empty() {
        return Err(ModifiersError::NoTarget);
    }
    match decimal(text) {
        Ok(amount) if amount > Milli::ZERO => Ok(amount),
        Ok(_) => Err(ModifiersError::Target(format!("{text:?} is not at least 0.001"))),
        Err(error) => Err(ModifiersError::Target(error)),
    }
}

fn decimal(text: &str) -> Result<Milli, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    let number = number.ok_or_else(|| format!("{text:?} is not a number"))?;
    Milli::try_from_f64(number).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modifiers(formula: &str) -> Modifiers {
        let written = Written { formula, target: "2.5", ..Written::default() };
        Modifiers::read(written, &["a", "b"].into()).unwrap()
    }

    fn value(metric_name: &str, units: i64) -> TriggerReading {
        TriggerReading {
            metric_name: metric_name.into(),
            sample: Sample::Value(Milli::from_thousandths(units * 1000)),
            active: Some(true),
            target: Target::AverageValue(Milli::from_thousandths(1000)),
            failures: 0,
            substituted: false,
        }
    }

    fn failed(metric_name: &str, failures: u32) -> TriggerReading {
        let sample = Sample::Unknown { why: "timed out".into() };
        TriggerReading { sample, active: None, failures, ..value(metric_name, 0) }
    }

    fn composed(formula: &str, a: &TriggerReading, b: &TriggerReading, fallback: Option<Fallback>) -> TriggerReading {
        let inputs = [Input { name: "a", reading: a }, Input { name: "b", reading: b }];
        modifiers(formula).compose(&inputs, fallback.as_ref())
    }

    const NIL: Fallback = Fallback { failure_threshold: 3, replicas: 2, behavior: FallbackBehavior::ScalingModifiers };

    #[test]
    fn the_composite_is_compared_with_its_own_targets() {
        let reading = composed("a - b", &value("s0-x", 3), &value("s1-x", 5), None);
        assert_eq!((reading.metric_name.as_str(), reading.active), ("composite-metric", Some(false)));
        assert_eq!(reading.sample, Sample::Value(Milli::from_thousandths(-2000)));
        assert_eq!(reading.target, Target::AverageValue(Milli::from_thousandths(2500)));
        let active = Written { formula: "a", target: "1", activation_target: "3", metric_type: "Value" };
        let modifiers = Modifiers::read(active, &["a"].into()).unwrap();
        let at = |units| {
            modifiers.compose(&[Input { name: "a", reading: &value("s0-x", units) }], None).active == Some(true)
        };
        assert_eq!((at(3), at(4)), (false, true));
        assert_eq!(modifiers.target(), Target::Value(Milli::from_thousandths(1000)));
    }

    #[test]
    fn a_failing_trigger_makes_the_composite_unknown_if_the_formula_names_it() {
        let reading = composed("a + b", &failed("s0-x", 2), &value("s1-x", 5), None);
        assert_eq!(reading.sample, Sample::Unknown { why: "a: timed out".into() });
        assert_eq!((reading.active, reading.failures), (None, 2));
        let other = composed("b", &failed("s0-x", 2), &value("s1-x", 5), None);
        assert_eq!(other.sample, Sample::Value(Milli::from_thousandths(5000)));
    }

    #[test]
    fn with_its_fallback_a_failing_trigger_is_nil_once_it_has_failed_often_enough() {
        let early = composed("a ?? b", &failed("s0-x", 3), &value("s1-x", 5), Some(NIL));
        assert!(early.sample.is_unknown() && !NIL.applies(early.failures), "{early:?}");
        let late = composed("a ?? b", &failed("s0-x", 4), &value("s1-x", 5), Some(NIL));
        assert_eq!((late.sample, late.substituted), (Sample::Value(Milli::from_thousandths(5000)), true));
        let nothing = composed("a ?? nil", &failed("s0-x", 4), &value("s1-x", 5), Some(NIL));
        assert!(nothing.sample.is_unknown() && NIL.applies(nothing.failures), "{nothing:?}");
        let both = composed("a ?? b", &failed("s0-x", 4), &failed("s1-x", 1), Some(NIL));
        assert!(both.sample.is_unknown() && !NIL.applies(both.failures), "one has not failed for long: {both:?}");
        let other = Fallback { behavior: FallbackBehavior::Static, ..NIL };
        let replaced = composed("a ?? b", &failed("s0-x", 4), &value("s1-x", 5), Some(other));
        assert!(replaced.sample.is_unknown() && other.applies(replaced.failures), "{replaced:?}");
    }

    #[test]
    fn a_formula_that_cannot_be_worked_out_is_not_inactivity() {
        let reading = composed("a / (b - 5)", &value("s0-x", 3), &value("s1-x", 5), None);
        assert!(reading.sample.is_unknown() && reading.active.is_none(), "{reading:?}");
    }

    #[test]
    fn several_metrics_of_a_trigger_are_added_up() {
        let (one, two) = (value("s0-x", 3), value("s0-y", 4));
        let inputs = [Input { name: "a", reading: &one }, Input { name: "a", reading: &two }];
        assert_eq!(modifiers("a").compose(&inputs, None).sample, Sample::Value(Milli::from_thousandths(7000)));
    }

    #[test]
    fn all_that_is_wrong_is_said_with_its_field() {
        let said = |written| {
            let wrong = Modifiers::read(written, &["a"].into()).unwrap_err();
            wrong.iter().map(|error| format!("{}: {error}", error.part().name())).collect::<Vec<_>>()
        };
        let heading = "formula: error validating formula in ScalingModifiers\n";
        assert_eq!(
            said(Written { formula: "c", target: "", activation_target: "x", metric_type: "Utilization" }),
            [
                &format!("{heading}unknown name c (1:1)\n | c\n | ^"),
                "target: error validating formula in ScalingModifiers\nformula is given but target is empty",
                "activationTarget: error validating activationTarget in ScalingModifiers\nerror converting activationTarget \
                 for scalingModifiers (string->float): \"x\" is not a number",
                "metricType: metric type \"Utilization\" is not allowed; use AverageValue or Value",
            ]
        );
        assert_eq!(
            said(Written { target: "1", ..Written::default() }),
            ["formula: error ScalingModifiers.Formula is mandatory"]
        );
        for target in ["0", "-3", "0.0001", "NaN", "1e400"] {
            let said = said(Written { formula: "a", target, ..Written::default() });
            assert!(said[0].starts_with("target: error validating target in ScalingModifiers\n"), "{target}: {said:?}");
        }
    }
}
