use super::*;

const DAY: Duration = Duration::from_hours(24);

fn names() -> Vec<String> {
    vec!["pod-autoscaler.tandem-system.svc".to_owned(), "127.0.0.1".to_owned()]
}

fn begin() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn made() -> Material {
    Material::create(&names(), &Lifetimes::default(), begin()).unwrap()
}

fn follow(material: &Material, plan: &Plan, now: Timestamp) -> Material {
    material.follow(plan, &names(), &Lifetimes::default(), now).unwrap()
}

/// Whether a client that trusts `bundle` accepts what is served.
fn accepts(bundle: &Material, served: &Material, now: Timestamp) -> bool {
    let roots = certificates(&bundle.ca_bundle).unwrap();
    let chain = certificates(&served.certificate).unwrap();
    served.certified_key().is_ok() && names().iter().all(|name| trusted(&chain, &roots, name, now))
}

#[test]
fn what_is_made_is_trusted_by_its_own_bundle_and_needs_nothing() {
    let material = made();
    assert!(accepts(&material, &material, begin()));
    assert_eq!(material.plan(&names(), begin()), Plan::Keep);
}

#[test]
fn a_name_more_or_less_needs_another_certificate() {
    let material = made();
    let more = [names(), vec!["other".into()]].concat();
    assert!(matches!(material.plan(&more, begin()), Plan::RenewServing { why: "the names have changed" }));
    assert!(matches!(material.plan(&names()[..1], begin()), Plan::RenewServing { .. }));
}

#[test]
fn material_without_the_ca_key_is_kept_even_when_expired() {
    let foreign = Material { ca_key: None, ..made() };
    assert_eq!(foreign.plan(&names(), begin() + DAY * 5000), Plan::Keep);
}

#[test]
fn a_torn_secret_is_mended() {
    let (a, b) = (made(), made());
    let wrong_key = Material { key: b.key.clone(), ..a.clone() };
    assert!(matches!(wrong_key.plan(&names(), begin()), Plan::RenewServing { .. }));
    let wrong_ca_key = Material { ca_key: b.ca_key.clone(), ..a.clone() };
    assert!(matches!(wrong_ca_key.plan(&names(), begin()), Plan::Replace { .. }));
    let wrong_ca = Material { certificate: b.certificate, key: b.key, ..a.clone() };
    assert!(matches!(wrong_ca.plan(&names(), begin()), Plan::RenewServing { .. }));
    let garbage = Material { ca_bundle: "garbage".into(), ..a };
    assert!(matches!(garbage.plan(&names(), begin()), Plan::Replace { .. }));
    let mended = follow(&garbage, &garbage.plan(&names(), begin()), begin());
    assert_eq!(mended.plan(&names(), begin()), Plan::Keep);
}

#[test]
fn everything_expired_begins_anew() {
    let material = made();
    let late = begin() + DAY * 4000;
    let plan = material.plan(&names(), late);
    assert!(matches!(plan, Plan::Replace { .. }), "{plan:?}");
    let next = follow(&material, &plan, late);
    assert!(accepts(&next, &next, late));
}

/// The law of rotation: whoever follows the plan every half hour is trusted at every step, both by clients that have
/// the new bundle and by clients that still have the one before.
#[test]
fn a_rotation_is_never_noticed_by_clients_one_step_behind() {
    let lifetimes = Lifetimes { authority: DAY * 30, serving: DAY * 3 };
    let step = Duration::from_mins(30);
    let mut current = Material::create(&names(), &lifetimes, begin()).unwrap();
    let (mut authorities, mut servings) = (0, 0);
    let mut now = begin();
    while now < begin() + DAY * 60 {
        now += step;
        let plan = current.plan(&names(), now);
        match plan {
            Plan::Keep => continue,
            Plan::RenewServing { .. } => servings += 1,
            Plan::RenewAuthority => authorities += 1,
            Plan::Replace { ref why } => panic!("{why} at {now}"),
        }
        let next = current.follow(&plan, &names(), &lifetimes, now).unwrap();
        assert!(accepts(&current, &next, now), "a client behind refuses at {now} after {plan:?}");
        assert!(accepts(&next, &current, now), "a client ahead refuses at {now} after {plan:?}");
        assert!(accepts(&next, &next, now));
        current = next;
    }
    assert!(authorities >= 2 && servings >= 20, "{authorities} CAs, {servings} certificates");
    assert!(certificates(&current.ca_bundle).unwrap().len() <= 2, "expired CAs leave the bundle");
}

#[test]
fn debug_output_has_no_private_key() {
    let material = made();
    let text = format!("{material:?}");
    assert!(!text.contains("PRIVATE KEY"));
    assert!(text.contains("BEGIN CERTIFICATE"));
}
