//! How a plan's figures read.
#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them when it updates")]

use expect_test::{Expect, expect};
use scheduling::{LowerBound, Note, PodKey, Settings, Snapshot, Solution, Unfit, solve_greedy};
use tandem::report::{Detail, Look, Report};
use units::UsdMicrosPerHour;

/// A plan of this cost, with nothing in it but one node.
fn plan(cost: i64, bound: Option<i64>, greedy: Option<i64>) -> (Snapshot, Solution) {
    let snapshot = tandem::generate::karpenter_mix_snapshot(1, 1);
    let mut solution = solve_greedy(&snapshot, &Settings::default());
    solution.cost = UsdMicrosPerHour(cost);
    solution.lower_bound =
        bound.map(|cost| LowerBound { cost: UsdMicrosPerHour(cost), ignores: vec!["host ports".to_owned()] });
    solution.greedy_cost = greedy.map(UsdMicrosPerHour);
    (snapshot, solution)
}

fn headline(cost: i64, bound: Option<i64>, greedy: Option<i64>, expected: &Expect) {
    let (snapshot, solution) = plan(cost, bound, greedy);
    let text = Report::new(&snapshot, &solution, 1.0, Detail::Summary).text(Look::PLAIN);
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
    // So many digits that the two are as far from each other as is said, and neither is the greedy rule's.
    headline(
        1_632_000,
        Some(1_627_040),
        Some(1_639_000),
        &expect![[r#"
        $1.632/h; proven minimum >= $1.627/h; at most 0.31 % above it. The greedy rule: $1.639/h.
    "#]],
    );
    headline(
        1_224_100,
        None,
        Some(1_224_900),
        &expect![[r#"
        $1.2241/h; no minimum is proven. The greedy rule: $1.2249/h.
    "#]],
    );
    headline(
        1_000_001,
        Some(1_000_000),
        None,
        &expect![[r#"
        $1.0001/h; proven minimum >= $1.00/h; at most 0.01 % above it.
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
          NODE  COUNT  TYPE       ZONE      PAID         EACH     TOGETHER   CPU  MEMORY  PODS  WHOSE PODS
          1         1  fake-it-1  any of 2  spot  $0.629496/h  $0.629496/h  79 %     2 %     1  pod-0

        Why
          1 pod: no node takes it, so a new one is opened

        Notes
          the preferences of 3 pods are left to the kube-scheduler
          the proven minimum does not reckon with host ports

        Every pod
          POD            NODE                    BECAUSE
          default/pod-0  fake-it-1 (new node 1)  no node takes it, so a new one is opened
    "#]]
    .assert_eq(&report.text(Look::PLAIN));
    assert!(
        report.text(Look { emphasis: true, columns: None }).starts_with("\x1b[1m$0.20/h; "),
        "emphasis for terminals"
    );
}

#[test]
fn a_report_fits_the_readers_lines() {
    let (snapshot, solution) = plan(200_000, Some(190_000), Some(210_000));
    let report = Report::new(&snapshot, &solution, 12_345.0, Detail::EveryPod);
    let text = report.text(Look { emphasis: false, columns: Some(50) });
    expect![[r#"
        $0.20/h; proven minimum >= $0.19/h; at most 5.27 %
          above it. The greedy rule: $0.21/h.
        1 pod: 1 on 1 new node. Solved in 12.3 s.

        New nodes
          NODE  COUNT  TYPE       ZONE      PAID
                     EACH     TOGETHER   CPU  MEMORY  PODS
              WHOSE PODS
          1         1  fake-it-1  any of 2  spot
              $0.629496/h  $0.629496/h  79 %     2 %     1
              pod-0

        Why
          1 pod: no node takes it, so a new one is opened

        Notes
          the proven minimum does not reckon with host
            ports

        Every pod
          POD            NODE
              BECAUSE
          default/pod-0  fake-it-1 (new node 1)
              no node takes it, so a new one is opened
    "#]]
    .assert_eq(&text);
    let widest = |columns| {
        let text = report.text(Look { emphasis: true, columns: Some(columns) });
        let plain = text.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "");
        plain.lines().map(|line| line.chars().count()).max().unwrap_or(0)
    };
    for columns in [30, 40, 60, 80, 120] {
        assert!(widest(columns) <= columns, "{columns}: {}", widest(columns));
    }
}

#[test]
fn what_was_asked_for_is_there_when_it_is_empty() {
    let (snapshot, solution) = (Snapshot::default(), solve_greedy(&Snapshot::default(), &Settings::default()));
    let keys = |detail| {
        let report = serde_json::to_value(Report::new(&snapshot, &solution, 1.0, detail)).expect("a report is JSON");
        ["placements", "planned_nodes", "new_nodes"].map(|key| report.get(key).cloned())
    };
    let empty = || Some(serde_json::json!([]));
    assert_eq!(keys(Detail::EveryPod), [empty(), empty(), empty()]);
    assert_eq!(keys(Detail::Summary), [None, None, empty()]);
}

#[test]
fn of_very_many_reasons_the_first_are_told() {
    let (snapshot, mut solution) = plan(200_000, None, None);
    for index in 0..1022 {
        let invalid = Unfit::Invalid { what: format!("it is {}", index.min(1020)) };
        solution.unplaced.insert(PodKey::new("shop", format!("p{index:04}")), vec![invalid]);
    }
    let text = Report::new(&snapshot, &solution, 1.0, Detail::Summary).text(Look::PLAIN);
    let told = text.lines().skip_while(|line| *line != "Without a place").take_while(|line| !line.is_empty());
    let told: Vec<&str> = told.collect();
    assert_eq!(told.len(), 1 + 2 * 20 + 1);
    assert_eq!(told[1], "  2 pods: shop/p1020, shop/p1021");
    assert_eq!(told[41], "  and 1,001 more pods for other reasons, which --format json lists");
}
