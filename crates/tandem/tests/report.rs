//! How a plan's figures read.
#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them when it updates")]

use expect_test::{Expect, expect};
use scheduling::{LowerBound, Note, Snapshot, Solution};
use tandem::report::{Detail, Look, Report};
use units::UsdMicrosPerHour;

/// A plan of this cost, with nothing in it but one node.
fn plan(cost: i64, bound: Option<i64>, greedy: Option<i64>) -> (Snapshot, Solution) {
    let snapshot = tandem::generate::karpenter_mix_snapshot(1, 1);
    let mut solution = scheduling::solve_greedy(&snapshot, &scheduling::Settings::default());
    solution.cost = UsdMicrosPerHour(cost);
    solution.lower_bound =
        bound.map(|cost| LowerBound { cost: UsdMicrosPerHour(cost), ignores: vec!["host ports".to_owned()] });
    solution.greedy_cost = greedy.map(UsdMicrosPerHour);
    (snapshot, solution)
}

fn headline(cost: i64, bound: Option<i64>, greedy: Option<i64>, expected: &Expect) {
    let (snapshot, solution) = plan(cost, bound, greedy);
    let text = Report::new(&snapshot, &solution, 1.0, Detail::Summary).text(Look::Plain);
    expected.assert_eq(&format!("{}\n", text.lines().next().unwrap_or_default()));
}

#[test]
fn the_headline_says_how_far_the_plan_is_from_the_best_there_can_be() {
    headline(
        239_523_200,
        Some(239_152_000),
        Some(349_205_280),
        &expect![[r#"
        $239.53/h; proven minimum >= $239.15/h; at most 0.16 % above it. The greedy rule: $349.21/h.
    "#]],
    );
    headline(
        688_000,
        Some(688_000),
        Some(688_000),
        &expect![[r#"
        $0.688/h; proven minimum. The greedy rule: $0.688/h.
    "#]],
    );
    headline(
        688_001,
        None,
        None,
        &expect![[r#"
        $0.6881/h; no minimum is proven.
    "#]],
    );
    headline(
        12_345_678_901,
        Some(12_000_000_000),
        None,
        &expect![[r#"
            $12,345.68/h; proven minimum >= $12,000.00/h; at most 2.89 % above it.
        "#]],
    );
}

#[test]
fn a_distance_is_rounded_so_that_it_never_promises_too_much() {
    let gap = |cost, bound| {
        let (snapshot, solution) = plan(cost, Some(bound), None);
        Report::new(&snapshot, &solution, 1.0, Detail::Summary).gap()
    };
    assert_eq!(gap(1_000_001, 1_000_000), Some(1));
    assert_eq!(gap(1_000_000, 1_000_000), Some(0));
    assert_eq!(gap(1_010_000, 1_000_000), Some(100));
    assert_eq!(gap(1_000_000, 0), None);
}

#[test]
fn the_whole_report_has_a_line_for_everything_a_reader_should_know() {
    let (snapshot, mut solution) = plan(200_000, Some(190_000), Some(210_000));
    solution.notes.push(Note::PreferencesIgnored { pods: 3 });
    let report = Report::new(&snapshot, &solution, 12_345.0, Detail::EveryPod);
    expect![[r#"
        $0.20/h; proven minimum >= $0.19/h; at most 5.27 % above it. The greedy rule: $0.21/h.
        1 pod: 1 on 1 new node. Solved in 12.3 s.

        New nodes
          COUNT  TYPE       ZONE      PAID         EACH   TOGETHER   CPU  MEMORY  PODS  WHOSE PODS
              1  fake-it-1  any of 2  spot  $0.629496/h  $0.6295/h  79 %     2 %     1  pod-0

        Why
          1 pod: no node takes it, so a new one is opened

        Notes
          the preferences of 3 pods are left to the kube-scheduler
          the proven minimum does not reckon with host ports

        Every pod
          POD            NODE                    BECAUSE
          default/pod-0  fake-it-1 (new node 1)  no node takes it, so a new one is opened
    "#]]
    .assert_eq(&report.text(Look::Plain));
    assert!(report.text(Look::Terminal).starts_with("\x1b[1m$0.20/h; "), "emphasis for terminals");
}
