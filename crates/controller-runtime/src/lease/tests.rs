use expect_test::{Expect, expect};
use http::StatusCode;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::fake_api::FakeApi;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/tandem/leases/leader";

fn lease(holder: &str) -> LeaseSpec {
    LeaseSpec { holder_identity: Some(holder.to_owned()), lease_duration_seconds: Some(15), ..LeaseSpec::default() }
}

fn check(lease: Option<&LeaseSpec>, unchanged_seconds: u64, expected: &Expect) {
    let step = next_step(lease, Duration::from_secs(unchanged_seconds), "me", &Timing::default());
    expected.assert_eq(&format!("{step:?}"));
}

#[test]
fn a_missing_lease_is_created() {
    check(None, 0, &expect!["Create"]);
}

#[test]
fn a_released_lease_is_taken_at_once() {
    check(Some(&lease("")), 0, &expect!["Take"]);
}

#[test]
fn our_own_lease_is_renewed_however_old() {
    check(Some(&lease("me")), 1000, &expect!["Renew"]);
}

#[test]
fn anothers_lease_is_taken_only_after_a_whole_duration_without_change() {
    check(Some(&lease("other")), 14, &expect![[r#"Wait { holder: "other" }"#]]);
    check(Some(&lease("other")), 15, &expect!["Take"]);
}

#[test]
fn the_holders_duration_counts_not_ours() {
    let long = LeaseSpec { lease_duration_seconds: Some(60), ..lease("other") };
    check(Some(&long), 59, &expect![[r#"Wait { holder: "other" }"#]]);
    check(Some(&long), 60, &expect!["Take"]);
}

#[test]
fn a_new_holder_counts_a_transition_and_a_renewal_does_not() {
    let (timing, start) = (Timing::default(), Timestamp::UNIX_EPOCH);
    let first = held(None, "a", &timing, start);
    assert_eq!(first.lease_transitions, Some(0));
    let later = start + Duration::from_secs(5);
    let renewed = held(Some(&first), "a", &timing, later);
    assert_eq!((renewed.lease_transitions, &renewed.acquire_time), (Some(0), &first.acquire_time));
    assert_eq!(renewed.renew_time, Some(MicroTime(later)));
    let taken = held(Some(&released(&renewed, later)), "b", &timing, later);
    assert_eq!((taken.lease_transitions, taken.acquire_time), (Some(1), Some(MicroTime(later))));
}

proptest! {
    #[test]
    fn nobody_takes_a_lease_that_its_holder_may_still_act_on(unchanged in 0u64..30, holder in "[a-z]{1,3}") {
        let timing = Timing::default();
        let step = next_step(Some(&lease(&holder)), Duration::from_secs(unchanged), "ME", &timing);
        // The holder acts for at most `renew_deadline` after the renewal we saw.
        if step == Step::Take {
            prop_assert!(Duration::from_secs(unchanged) > timing.renew_deadline);
        }
    }
}

fn spawn(api: &FakeApi, identity: &str, shutdown: &CancellationToken) -> watch::Receiver<bool> {
    let election =
        Election { namespace: "tandem".into(), name: "leader".into(), identity: identity.into(), client: api.client() };
    election.spawn(shutdown.clone())
}

fn holder(api: &FakeApi) -> String {
    api.get(LEASE).unwrap()["spec"]["holderIdentity"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn of_two_candidates_one_leads_and_the_other_follows_a_release_within_a_retry() {
    let api = FakeApi::new();
    let (first_stop, second_stop) = (CancellationToken::new(), CancellationToken::new());
    let first = spawn(&api, "first", &first_stop);
    assert!(acquired(&first).await);
    let second = spawn(&api, "second", &second_stop);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!((*first.borrow(), *second.borrow(), holder(&api).as_str()), (true, false, "first"));

    first_stop.cancel();
    ended(&first).await;
    assert_eq!((*first.borrow(), holder(&api).as_str()), (false, ""));
    let given_back = Instant::now();
    assert!(acquired(&second).await);
    assert!(given_back.elapsed() <= Duration::from_millis(2400), "took {:?}", given_back.elapsed());
    assert_eq!(api.get(LEASE).unwrap()["spec"]["leaseTransitions"], json!(1));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_died_is_replaced_after_the_lease_has_run_out_and_not_before() {
    let api = FakeApi::new();
    // As a dead replica of a machine with a clock an hour ahead left it.
    api.put(LEASE, json!({ "spec": { "holderIdentity": "dead", "leaseDurationSeconds": 15, "renewTime": "2999-01-01T00:00:00.000000Z" } }));
    let begin = Instant::now();
    let next = spawn(&api, "next", &CancellationToken::new());
    assert!(acquired(&next).await);
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_secs(15) && waited < Duration::from_secs(18), "waited {waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_steps_down_before_anybody_may_follow() {
    for silent in [true, false] {
        let api = FakeApi::new();
        let leader = spawn(&api, "leader", &CancellationToken::new());
        assert!(acquired(&leader).await);
        let cut_off = Instant::now();
        if silent {
            api.silence(true);
        } else {
            api.break_with(Some(StatusCode::INTERNAL_SERVER_ERROR));
        }
        ended(&leader).await;
        assert!(!*leader.borrow());
        assert!(cut_off.elapsed() <= Timing::default().renew_deadline, "silent {silent}: {:?}", cut_off.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_survives_an_outage_shorter_than_the_deadline() {
    let api = FakeApi::new();
    let leader = spawn(&api, "leader", &CancellationToken::new());
    assert!(acquired(&leader).await);
    api.break_with(Some(StatusCode::INTERNAL_SERVER_ERROR));
    tokio::time::sleep(Duration::from_secs(7)).await;
    api.break_with(None);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(*leader.borrow());
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_is_written_by_another_steps_down_and_does_not_release_it() {
    let api = FakeApi::new();
    let leader = spawn(&api, "leader", &CancellationToken::new());
    assert!(acquired(&leader).await);
    api.before_next_write(|api| {
        let mut lease = api.get(LEASE).unwrap();
        lease["spec"]["holderIdentity"] = json!("thief");
        api.put(LEASE, lease);
    });
    ended(&leader).await;
    assert!(!*leader.borrow());
    assert_eq!(holder(&api), "thief");
}

#[test]
fn two_identities_of_one_pod_differ() {
    assert_ne!(identity(), identity());
}
