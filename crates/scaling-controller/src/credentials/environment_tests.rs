use serde_json::json;

use super::super::found::{Kind, found};
use super::*;

fn with(env: &serde_json::Value, env_from: &serde_json::Value) -> Container {
    serde_json::from_value(json!({"name": "main", "env": env, "envFrom": env_from})).unwrap()
}

fn names(wanted: &[&str]) -> BTreeSet<String> {
    wanted.iter().map(|name| (*name).to_owned()).collect()
}

/// The value of the variable `X`.
fn x(container: &Container, found: &Found) -> Result<Option<String>, String> {
    let known = variables(container, "web", &names(&["X"]), found);
    known.map(|mut known| known.remove("X")).map_err(|failure| failure.to_string())
}

fn needs(container: &Container, wanted: &str) -> Vec<String> {
    references(container, "web", &names(&[wanted])).iter().map(ToString::to_string).collect()
}

#[test]
fn values_are_expanded_as_the_kubelet_does() {
    for (value, becomes) in [
        ("plain", "plain"),
        ("$(A)", "1"),
        ("<$(A)$(A)>", "<11>"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(LATER)", "$(LATER)"),
        ("$(NOBODY)", "$(NOBODY)"),
        ("$(A", "$(A"),
        ("$A $", "$A $"),
        ("$()", "$()"),
        ("€$(A)€", "€1€"),
    ] {
        let env = json!([{"name": "A", "value": "1"}, {"name": "X", "value": value}, {"name": "LATER", "value": "2"}]);
        assert_eq!(x(&with(&env, &json!([])), &Found::default()), Ok(Some(becomes.to_owned())), "{value}");
    }
}

#[test]
fn a_later_definition_wins_and_sees_the_earlier_one() {
    let env = json!([{"name": "X", "value": "a"}, {"name": "X", "value": "$(X)b"}, {"name": "X", "value": "$(X)c"}]);
    assert_eq!(x(&with(&env, &json!([])), &Found::default()), Ok(Some("abc".into())));
}

#[test]
fn values_that_grow_without_end_are_refused() {
    let mut env = vec![json!({"name": "V0", "value": "xx"})];
    env.extend((1..64).map(|n| json!({"name": format!("V{n}"), "value": format!("$(V{0})$(V{0})", n - 1)})));
    env.push(json!({"name": "X", "value": "$(V63)"}));
    let said = x(&with(&json!(env), &json!([])), &Found::default()).unwrap_err();
    assert!(said.contains("is longer than"), "{said}");
}

#[test]
fn env_beats_env_from_and_the_last_source_the_first() {
    let found = found(&[
        (Kind::ConfigMap, "base", &[("X", "base"), ("Y", "base")]),
        (Kind::Secret, "over", &[("X", "over"), ("P_X", "no")]),
        (Kind::ConfigMap, "prefixed", &[("X", "prefixed")]),
    ]);
    let sources = json!([
        {"configMapRef": {"name": "base"}}, {"secretRef": {"name": "over"}},
        {"prefix": "P_", "configMapRef": {"name": "prefixed"}},
    ]);
    assert_eq!(x(&with(&json!([]), &sources), &found), Ok(Some("over".into())));
    let env = json!([{"name": "X", "value": "$(Y)+$(P_X)"}]);
    assert_eq!(x(&with(&env, &sources), &found), Ok(Some("base+prefixed".into())));
}

#[test]
fn a_value_comes_from_a_key_and_is_not_expanded() {
    let found = found(&[(Kind::Secret, "db", &[("url", "$(A)")]), (Kind::ConfigMap, "db", &[("url", "map")])]);
    let from = |kind: &str| json!({kind: {"name": "db", "key": "url"}});
    let env = |kind: &str| json!([{"name": "A", "value": "1"}, {"name": "X", "valueFrom": from(kind)}]);
    assert_eq!(x(&with(&env("secretKeyRef"), &json!([])), &found), Ok(Some("$(A)".into())));
    assert_eq!(x(&with(&env("configMapKeyRef"), &json!([])), &found), Ok(Some("map".into())));
}

#[test]
fn what_is_missing_is_named_unless_it_is_optional() {
    let found = found(&[(Kind::Secret, "db", &[])]);
    let env = |optional: bool| {
        let from = json!({"secretKeyRef": {"name": "db", "key": "url", "optional": optional}});
        json!([{"name": "X", "value": "before"}, {"name": "X", "valueFrom": from}])
    };
    assert_eq!(x(&with(&env(false), &json!([])), &found), Err("Secret web/db has no key \"url\"".into()));
    assert_eq!(x(&with(&env(true), &json!([])), &found), Ok(Some("before".into())));
}

#[test]
fn a_field_of_the_pod_is_not_known_before_there_is_a_pod() {
    let env = json!([{"name": "X", "value": "a"},
                     {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    assert_eq!(x(&with(&env, &json!([])), &Found::default()), Ok(None));
}

#[test]
fn only_what_a_variable_depends_on_is_read() {
    let key = |name: &str| json!({"secretKeyRef": {"name": name, "key": "k"}});
    let env = json!([
        {"name": "A", "valueFrom": key("a")},
        {"name": "B", "valueFrom": key("b")},
        {"name": "X", "value": "$(A)"},
        {"name": "Y", "value": "$(ELSEWHERE)"},
    ]);
    let container = with(&env, &json!([{"secretRef": {"name": "all"}}]));
    assert_eq!(needs(&container, "X"), ["Secret web/a"]);
    assert_eq!(needs(&container, "B"), ["Secret web/b"]);
    assert_eq!(needs(&container, "Y"), ["Secret web/all"]);
    assert_eq!(needs(&container, "ELSEWHERE"), ["Secret web/all"]);
}

#[test]
fn a_container_is_found_by_name_or_is_the_first() {
    let template: PodTemplateSpec =
        serde_json::from_value(json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}})).unwrap();
    assert_eq!(container(&template, None).unwrap().name, "a");
    assert_eq!(container(&template, Some("b")).unwrap().name, "b");
    let said = container(&template, Some("c")).unwrap_err().to_string();
    assert_eq!(said, "the scale target's pods have no container \"c\"");
}
