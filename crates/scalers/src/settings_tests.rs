//! What holds for the settings of every type, of the next one, too.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{BUILT, TriggerType};
use crate::error::BuildError;
use crate::metadata::{Kind, Origin, Parameter};
use crate::prometheus::Prometheus;
use crate::resource::{is_resource, metric};
use crate::testing::{Texts, Trigger, changed, refusal};

/// Why a trigger of this type is refused.
fn refused(built: &TriggerType, trigger: &Trigger) -> BuildError {
    trigger.with(|context| {
        if is_resource(built.name) {
            metric(built.name, context).map(drop).expect_err("a trigger that is wrong")
        } else {
            crate::build(built.name, context).map(drop).expect_err("a trigger that is wrong")
        }
    })
}

#[test]
fn what_is_required_is_asked_for_all_at_once() {
    for built in BUILT {
        let error = refused(built, &Trigger::new(&[]));
        let required = built.shape.parameters().into_iter().filter(|parameter| parameter.required);
        let groups =
            built.shape.all().into_iter().flat_map(|shape| shape.some_of).filter_map(|set| set.first().copied());
        let wanted: BTreeSet<&str> = required.map(|parameter| parameter.name).chain(groups).collect();
        assert_eq!(error.each().map(|(field, _)| field).collect::<BTreeSet<_>>(), wanted, "{}: {error}", built.name);
    }
}

/// Texts that are no value of this parameter.
fn nonsense(parameter: &Parameter) -> Vec<String> {
    let beyond = |limit: Option<&str>, by: f64| limit.map(|text| (text.parse::<f64>().unwrap() + by).to_string());
    let limits = [beyond(parameter.above, 0.0), beyond(parameter.at_least, -1.0), beyond(parameter.at_most, 1.0)];
    let texts: &[&str] = match parameter.kind {
        Kind::Text | Kind::QueryPairs | Kind::List(Kind::Text) => &[],
        Kind::Whole | Kind::List(Kind::Whole) => &["1.5", "many"],
        Kind::Number => &["many", "NaN", "Infinity"],
        Kind::Boolean | Kind::OneOf(_) | Kind::List(_) => &["maybe"],
        Kind::Duration => &["soon"],
        Kind::Url => &["hunter2:9090", "file:///hunter2"],
        Kind::Pairs => &["hunter2", "=hunter2"],
    };
    let rivals = parameter.at_most_one.get(..2).map(|two| two.join(parameter.separator));
    texts.iter().map(|text| (*text).to_owned()).chain(limits.into_iter().flatten()).chain(rivals).collect()
}

#[test]
fn a_text_that_is_no_value_is_refused_by_the_name_of_its_setting() {
    for built in BUILT {
        for parameter in built.shape.parameters() {
            let texts = nonsense(parameter);
            for (name, text) in parameter.names().flat_map(|name| texts.iter().map(move |text| (name, text))) {
                let written = [(name, text.as_str())];
                let (trigger, field) = match parameter.sources[0] {
                    Origin::Metadata => (Trigger::new(&written), name.to_owned()),
                    Origin::Authentication => (Trigger::new(&[]).auth(&written), format!("authenticationRef {name}")),
                    Origin::Environment => panic!("{name}: nobody reads the environment first"),
                };
                let error = refused(built, &trigger);
                assert!(error.each().any(|(wrong, _)| wrong == field), "{} {field}={text}: {error}", built.name);
                assert!(!parameter.secret || !error.to_string().contains("hunter2"), "{}: {error}", built.name);
            }
        }
    }
}

#[test]
fn what_excludes_each_other_or_belongs_together_is_told() {
    let check = |built: &TriggerType, written: Texts<'_>, wanted: &str| {
        // What may not come from one place has to come from the other.
        let error = refused(built, &Trigger::new(written).auth(written));
        let told = |message: &str| message.starts_with("excludes ") || message.starts_with("is required with ");
        let found = error.each().any(|(field, message)| field == wanted && told(message));
        assert!(found, "{} {written:?}: {error}", built.name);
    };
    for built in BUILT {
        for shape in built.shape.all() {
            for set in shape.exclusive {
                check(built, &[(set[0], "x"), (set[1], "x")], set[1]);
            }
            for (one, other) in shape.together {
                check(built, &[(*one, "x")], other);
                check(built, &[(*other, "x")], one);
            }
        }
    }
}

#[test]
fn what_was_removed_is_refused_with_advice() {
    for built in BUILT {
        for (name, advice) in built.shape.all().into_iter().flat_map(|shape| shape.removed) {
            let error = refused(built, &Trigger::new(&[(*name, "x")]));
            let told: BTreeMap<&str, &str> = error.each().collect();
            assert_eq!(told.get(name), Some(advice), "{}", built.name);
        }
    }
}

const PLAIN: [(&str, &str); 3] = [("serverAddress", "http://prometheus:9090"), ("query", "up"), ("threshold", "2.5")];

fn notices(metadata: Texts<'_>) -> Vec<String> {
    let scaler = Trigger::new(metadata).build::<Prometheus>().expect("a trigger that can be built");
    scaler.notices().iter().map(|notice| format!("{}: {}", notice.field, notice.message)).collect()
}

#[test]
fn settings_without_effect_earn_a_notice() {
    assert_eq!(notices(&PLAIN), [""; 0]);
    let told = notices(&[&PLAIN[..], &[("metricName", "old"), ("tresholdd", "5")]].concat());
    assert!(told.len() == 2 && told[0].starts_with("metricName: ") && told[1].starts_with("tresholdd: "), "{told:?}");
}

#[test]
fn a_header_that_cannot_be_sent_is_refused() {
    for text in ["bad name=1", "name=\u{7}"] {
        assert_eq!(refusal::<Prometheus>(&changed(&PLAIN, "customHeaders", text)), ["customHeaders"], "{text:?}");
    }
}

#[test]
fn a_target_finer_than_a_thousandth_is_refused_or_told() {
    for text in ["0.0001", "0.00099", "1u", "999999n"] {
        let error = Trigger::new(&changed(&PLAIN, "threshold", text)).build::<Prometheus>().expect_err(text);
        assert_eq!(error.to_string(), "threshold: must be at least 0.001; an HPA reckons in thousandths", "{text}");
    }
    for (text, wanted) in [("0.001", None), ("1m", None), ("2.5", None), ("1e3", None), ("0.0015", Some("0.002"))] {
        let wanted = wanted.map(|rounded| format!("threshold: is taken for {rounded}; an HPA reckons in thousandths"));
        assert_eq!(notices(&changed(&PLAIN, "threshold", text)), wanted.into_iter().collect::<Vec<_>>(), "{text}");
    }
    // What is only compared keeps every digit.
    assert_eq!(notices(&changed(&PLAIN, "activationThreshold", "0.0001")), [""; 0]);
}
