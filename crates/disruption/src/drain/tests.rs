use expect_test::{Expect, expect};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::candidate::tests::at;

fn pod(name: &str) -> DrainPod {
    DrainPod {
        key: PodKey::new("shop", name),
        priority: 0,
        kind: DrainKind::Owned,
        terminal: false,
        deleted_at: None,
        protected: false,
        tolerates_removal: false,
        grace: Duration::from_secs(30),
    }
}

fn critical(name: &str) -> DrainPod {
    DrainPod { priority: CRITICAL_PRIORITY, ..pod(name) }
}

fn check(rules: Rules, pods: &[DrainPod], expected: &Expect) {
    let plan = plan(pods, rules, None, at(1000));
    let waiting: Vec<String> = plan.waiting.iter().map(|(pod, why)| format!("{pod} {why}")).collect();
    let text = if plan.is_drained() { "drained".to_owned() } else { waiting.join("\n") };
    expected.assert_eq(&text);
}

#[test]
fn plain_pods_go_before_critical_ones() {
    let pods = [critical("dns"), DrainPod { priority: 5, ..pod("b") }, pod("a")];
    check(
        Rules::V1Alpha5,
        &pods,
        &expect![[r"
            shop/a is being evicted
            shop/b is being evicted
            shop/dns waits for pods of lower priority to go"]],
    );
    check(Rules::V1Alpha5, &pods[..1], &expect!["shop/dns is being evicted"]);
}

#[test]
fn critical_pods_wait_for_pods_that_are_still_stopping() {
    let stopping = DrainPod { deleted_at: Some(at(990)), ..pod("a") };
    let pods = [critical("dns"), stopping];
    check(
        Rules::V1,
        &pods,
        &expect![[r"
            shop/a is terminating
            shop/dns waits for pods of lower priority to go"]],
    );
    assert_eq!(plan(&pods, Rules::V1, None, at(1000)).next_look, Some(at(1050)));
}

#[test]
fn a_pod_long_past_its_grace_is_not_waited_for() {
    let stuck = DrainPod { deleted_at: Some(at(940)), ..pod("a") };
    check(Rules::V1, &[stuck], &expect!["drained"]);
}

#[test]
fn daemons_static_and_ended_pods_stay_and_are_not_waited_for() {
    let pods = [
        DrainPod { kind: DrainKind::Daemon, protected: true, ..pod("log") },
        DrainPod { kind: DrainKind::Static, ..pod("proxy") },
        DrainPod { terminal: true, protected: true, ..pod("job") },
        DrainPod { tolerates_removal: true, ..pod("sticky") },
    ];
    check(Rules::V1Alpha5, &pods, &expect!["drained"]);
}

#[test]
fn under_v1alpha5_one_protected_pod_stops_the_whole_drain() {
    let pods = [DrainPod { protected: true, ..pod("training") }, pod("web"), critical("dns")];
    check(
        Rules::V1Alpha5,
        &pods,
        &expect![[r"
            shop/training is annotated do-not-evict or do-not-disrupt
            shop/web waits until no pod forbids the drain
            shop/dns waits until no pod forbids the drain"]],
    );
    check(
        Rules::V1,
        &pods,
        &expect![[r"
            shop/training is annotated do-not-evict or do-not-disrupt
            shop/web is being evicted
            shop/dns waits for pods of lower priority to go"]],
    );
}

#[test]
fn under_v1alpha5_a_pod_that_nothing_makes_again_stops_the_whole_drain() {
    let pods = [DrainPod { kind: DrainKind::Ownerless, ..pod("bare") }, pod("web")];
    check(
        Rules::V1Alpha5,
        &pods,
        &expect![[r"
            shop/bare has no controller that would make it again
            shop/web waits until no pod forbids the drain"]],
    );
    check(
        Rules::V1,
        &pods,
        &expect![[r"
            shop/bare is being evicted
            shop/web is being evicted"]],
    );
    let blockers = plan(&pods, Rules::V1Alpha5, None, at(1000));
    assert_eq!(blockers.blockers().map(|(pod, _)| pod.name.as_str()).collect::<Vec<_>>(), ["bare"]);
}

#[test]
fn before_the_end_of_the_node_every_pod_is_asked_to_stop_with_the_time_it_needs() {
    let slow = DrainPod { protected: true, grace: Duration::from_secs(40), ..pod("training") };
    let pods = [slow, DrainPod { protected: true, ..pod("web") }, critical("dns")];
    let deleted = |now: i64| {
        let plan = plan(&pods, Rules::V1, Some(at(1000)), at(now));
        let said = |(pod, left): (PodKey, Duration)| format!("{} {}", pod.name, left.as_secs());
        plan.delete.into_iter().map(said).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(deleted(959), "");
    assert_eq!(deleted(960), "training 40");
    assert_eq!(deleted(975), "training 25, web 25, dns 25");
    assert_eq!(deleted(1001), "training 1, web 1, dns 1");
    // The next look may come too late for who needs less time than passes between two.
    let quick = DrainPod { protected: true, grace: Duration::ZERO, ..pod("quick") };
    let deleted = |now: i64| plan(std::slice::from_ref(&quick), Rules::V1, Some(at(1000)), at(now)).delete;
    assert_eq!(deleted(989), []);
    assert_eq!(deleted(990), [(quick.key.clone(), Duration::from_secs(1))]);
}

#[test]
fn a_protected_pod_that_goes_by_itself_blocks_nothing() {
    let pods = [DrainPod { protected: true, deleted_at: Some(at(990)), ..pod("training") }, pod("web")];
    check(
        Rules::V1Alpha5,
        &pods,
        &expect![[r"
            shop/training is terminating
            shop/web is being evicted"]],
    );
}

fn pods() -> impl Strategy<Value = Vec<DrainPod>> {
    let kind =
        select(vec![DrainKind::Owned, DrainKind::Owned, DrainKind::Ownerless, DrainKind::Daemon, DrainKind::Static]);
    let priority = select(vec![0, 7, CRITICAL_PRIORITY]);
    let rare = || prop::bool::weighted(0.15);
    let one = (priority, kind, option::weighted(0.2, 900i64..1100), (rare(), rare(), rare()));
    vec(one, 0..8).prop_map(|all| {
        let number = |(index, (priority, kind, deleted, (terminal, protected, tolerates_removal)))| {
            let deleted_at = Option::map(deleted, at);
            DrainPod { priority, kind, terminal, deleted_at, protected, tolerates_removal, ..pod(&format!("p{index}")) }
        };
        all.into_iter().enumerate().map(number).collect()
    })
}

proptest! {
    #[test]
    fn nothing_is_evicted_that_must_not_be(pods in pods(), old in any::<bool>()) {
        let rules = if old { Rules::V1Alpha5 } else { Rules::V1 };
        let plan = plan(&pods, rules, None, at(1000));
        for key in &plan.evict {
            let pod = pods.iter().find(|pod| pod.key == *key).unwrap();
            prop_assert!(!pod.protected && !pod.terminal && pod.deleted_at.is_none());
            prop_assert!(matches!(pod.kind, DrainKind::Owned | DrainKind::Ownerless));
        }
        prop_assert!(!(old && plan.blockers().count() > 0 && !plan.evict.is_empty()));
    }

    /// Evicting what is asked for until nothing changes leaves only what blocks, or nothing.
    #[test]
    fn a_drain_without_blockers_ends(mut pods in pods(), old in any::<bool>()) {
        let rules = if old { Rules::V1Alpha5 } else { Rules::V1 };
        pods.retain(|pod| !pod.protected && pod.kind != DrainKind::Ownerless);
        for _ in 0..=pods.len() {
            let step = plan(&pods, rules, None, at(10_000));
            pods.retain(|pod| !step.evict.contains(&pod.key));
        }
        prop_assert!(plan(&pods, rules, None, at(10_000)).is_drained());
    }

    #[test]
    fn critical_pods_are_evicted_last(pods in pods()) {
        let plan = plan(&pods, Rules::V1, None, at(1000));
        let critical = |key: &PodKey| pods.iter().any(|pod| pod.key == *key && is_critical(pod));
        if plan.evict.iter().any(&critical) {
            prop_assert!(plan.waiting.iter().all(|(key, _)| critical(key)));
        }
    }
}
