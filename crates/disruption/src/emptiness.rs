use jiff::Timestamp;

use crate::{Candidate, KeepReason, RemoveReason, Verdict, candidate::after};

/// Whether a node stands empty, since when, and whether that was long enough.
///
/// The time is kept on the node, so that it survives a restart. As Karpenter v0.16
/// (`pkg/controllers/node/emptiness.go`): only initialized nodes count as empty; nominated ones do not, and their mark is
/// taken away, so that the wait begins anew when the promised pods never come.
pub fn emptiness(node: &Candidate, now: Timestamp) -> Verdict {
    let keep = |why| match node.empty_since {
        Some(_) if why != KeepReason::Deleting => Verdict::ClearEmpty,
        _ => Verdict::Keep { next_look: None, why },
    };
    if node.deleting {
        return keep(KeepReason::Deleting);
    }
    let Some(ttl) = node.ttl_after_empty else { return keep(KeepReason::NoTtl) };
    if !node.initialized {
        return keep(KeepReason::NotInitialized);
    }
    if node.non_daemon_pods > 0 {
        return keep(KeepReason::HasPods);
    }
    if node.nominated {
        return keep(KeepReason::Nominated);
    }
    let Some(since) = node.empty_since else {
        return Verdict::MarkEmpty { since: now, next_look: Some(after(now, ttl)) };
    };
    let until = after(since, ttl);
    if now < until {
        return Verdict::Keep { next_look: Some(until), why: KeepReason::NotYet };
    }
    if node.do_not_disrupt {
        return Verdict::Keep { next_look: None, why: KeepReason::DoNotDisrupt };
    }
    Verdict::Remove { reason: RemoveReason::Empty { since, ttl } }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::candidate::tests::{at, node};

    fn empty() -> Candidate {
        Candidate { ttl_after_empty: Some(Duration::from_secs(30)), ..node() }
    }

    #[test]
    fn a_node_without_pods_is_marked_first() {
        assert_eq!(emptiness(&empty(), at(100)), Verdict::MarkEmpty { since: at(100), next_look: Some(at(130)) });
    }

    #[test]
    fn a_marked_node_waits_out_its_time_to_the_second() {
        let node = Candidate { empty_since: Some(at(100)), ..empty() };
        assert_eq!(emptiness(&node, at(129)), Verdict::Keep { next_look: Some(at(130)), why: KeepReason::NotYet });
        let reason = RemoveReason::Empty { since: at(100), ttl: Duration::from_secs(30) };
        assert_eq!(emptiness(&node, at(130)), Verdict::Remove { reason });
    }

    #[test]
    fn zero_seconds_still_mark_before_they_remove() {
        let node = Candidate { ttl_after_empty: Some(Duration::ZERO), ..empty() };
        assert_eq!(emptiness(&node, at(1)), Verdict::MarkEmpty { since: at(1), next_look: Some(at(1)) });
    }

    #[test]
    fn what_is_not_empty_loses_its_mark() {
        for node in [
            Candidate { non_daemon_pods: 1, ..empty() },
            Candidate { nominated: true, ..empty() },
            Candidate { initialized: false, ..empty() },
            Candidate { ttl_after_empty: None, ..empty() },
        ] {
            assert!(matches!(emptiness(&node, at(500)), Verdict::Keep { next_look: None, .. }), "{node:?}");
            let marked = Candidate { empty_since: Some(at(1)), ..node };
            assert_eq!(emptiness(&marked, at(500)), Verdict::ClearEmpty, "{marked:?}");
        }
    }

    #[test]
    fn a_node_that_is_going_is_left_alone() {
        let node = Candidate { deleting: true, empty_since: Some(at(1)), ..empty() };
        assert_eq!(emptiness(&node, at(500)), Verdict::Keep { next_look: None, why: KeepReason::Deleting });
    }

    #[test]
    fn a_protected_node_stays_empty() {
        let node = Candidate { do_not_disrupt: true, empty_since: Some(at(1)), ..empty() };
        assert_eq!(emptiness(&node, at(500)), Verdict::Keep { next_look: None, why: KeepReason::DoNotDisrupt });
    }

    proptest! {
        #[test]
        fn a_node_with_pods_is_never_removed(pods in 1usize..5, since in proptest::option::of(0i64..1000), now in 0i64..2000, ttl in 0u64..100) {
            let node = Candidate { non_daemon_pods: pods, empty_since: since.map(at), ttl_after_empty: Some(Duration::from_secs(ttl)), ..node() };
            let removed = matches!(emptiness(&node, at(now)), Verdict::Remove { .. });
            prop_assert!(!removed);
        }

        #[test]
        fn looking_when_told_to_finds_the_change(since in 0i64..1000, now in 0i64..2000, ttl in 0u64..100) {
            let node = Candidate { empty_since: Some(at(since)), ttl_after_empty: Some(Duration::from_secs(ttl)), ..node() };
            if let Verdict::Keep { next_look: Some(look), .. } = emptiness(&node, at(now)) {
                let removed = matches!(emptiness(&node, look), Verdict::Remove { .. });
                prop_assert!(removed);
            }
        }
    }
}
