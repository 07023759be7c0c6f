//! Scenarios that a person can read: `scenarios/NAME.yaml` is what there is, `scenarios/NAME.txt` what becomes of it and why.
//!
//! A scenario is ordinary Kubernetes YAML below a comment that tells its story; those called `weak_point_…` show what is
//! done better where Karpenter's scheduling is known to be weak. Types and prices are those of `scenarios/types.yaml` unless
//! the file has its own. Lines of the comment that begin with a word and a colon ask for more, see [`Story`]. When an outcome
//! changes, the difference is printed; `UPDATE_EXPECT=1 cargo test -p tandem --test scenarios` writes the outcomes anew.
#![expect(clippy::unwrap_used, reason = "a test says so by ending")]

use std::{fmt::Write as _, fs, path::PathBuf, sync::Arc};

use expect_test::expect_file;
use scheduling::{InstanceType, Settings, Snapshot, Solution, check, solve};
use tandem::{
    Document, catalogue, documents, input,
    report::{Detail, Look, Played, Report},
};

/// A test for each file.
macro_rules! scenarios {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*

        #[test]
        fn every_scenario_is_run() {
            let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
            let mut found: Vec<String> = files
                .filter(|file| file.extension().is_some_and(|extension| extension == "yaml"))
                .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
                .filter(|name| name != "types")
                .collect();
            found.sort();
            assert_eq!(found, [$(stringify!($name)),*]);
        }
    };
}

scenarios! {
    a_drained_nodes_pods_count_no_more
    a_node_attaches_so_many_volumes
    a_person_knows_the_price_better
    a_restarting_group_finds_its_zones_again
    a_rollout_is_spread_by_itself
    both_generations_of_pools_work_side_by_side
    ready_nodes_come_before_coming_ones_before_new_ones
    reserved_capacity_is_used_first
    weak_point_binding_is_free
    weak_point_claims_stall_planning
    weak_point_first_alternative
    weak_point_first_fit
    weak_point_first_pool
    weak_point_groups_are_torn
    weak_point_one_zone_is_guessed
    weak_point_preferences_are_requirements
    weak_point_priority_is_ignored
    weak_point_sorting_for_every_pod
}

/// What the comment of a scenario asks for.
#[derive(Default)]
struct Story {
    /// `Again: with preferences ignored`: the plan for that setting, too.
    again: bool,
    /// `Play: the kube-scheduler`: what becomes of the plan when the scheduler places the pods.
    play: bool,
    /// `Only: the sum`: not every pod and every node.
    sum: bool,
    /// `Steps of work: N`: no more of them for the greedy rule.
    work: Option<u64>,
}

impl Story {
    fn of(text: &str) -> Self {
        let mut story = Self::default();
        for line in text.lines().map_while(|line| line.strip_prefix('#')) {
            match line.trim().split_once(": ") {
                Some(("Again", "with preferences ignored")) => story.again = true,
                Some(("Play", "the kube-scheduler")) => story.play = true,
                Some(("Only", "the sum")) => story.sum = true,
                Some(("Steps of work", count)) => story.work = Some(count.parse().unwrap()),
                _ => {}
            }
        }
        story
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

fn run(name: &str) {
    let text = fs::read_to_string(folder().join(format!("{name}.yaml"))).unwrap();
    let story = Story::of(&text);
    let documents = documents::parse(&format!("{name}.yaml"), &text).unwrap();
    let turned = documents.iter().rev().cloned().collect();
    let said = outcome(&snapshot(documents), &story);
    assert_eq!(said, outcome(&snapshot(turned), &story), "the order of the documents matters");
    expect_file![folder().join(format!("{name}.txt"))].assert_eq(&said);
}

fn snapshot(documents: Vec<Document>) -> Snapshot {
    let has_types = documents.iter().any(|document| document.value.is_array());
    let types = (!has_types).then(types);
    let input = input::from_documents(&folder(), documents, types).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(input.remarks.unknown_fields.is_empty(), "{:?}", input.remarks.unknown_fields);
    input.snapshot
}

fn types() -> Arc<[InstanceType]> {
    let documents = documents::read(&folder().join("types.yaml")).unwrap();
    catalogue::types(&documents[0]).unwrap()
}

fn outcome(snapshot: &Snapshot, story: &Story) -> String {
    let mut settings = Settings::default();
    settings.budget_work_units = story.work.unwrap_or(settings.budget_work_units);
    let plan = solve(snapshot, &settings);
    let mut said = planned(snapshot, &plan, story);
    if story.again {
        let plan = solve(snapshot, &Settings { ignore_preferences: true, ..settings });
        write!(said, "\n== With preferences ignored\n\n{}", planned(snapshot, &plan, story)).unwrap();
    }
    if story.play {
        write!(said, "\nPlayed through the kube-scheduler, at worst\n{}", Played::new(snapshot, &plan)).unwrap();
    }
    said
}

/// The plan as people see it, after the checker has agreed.
fn planned(snapshot: &Snapshot, plan: &Solution, story: &Story) -> String {
    assert_eq!(check::check(snapshot, plan), []);
    if let (Some(bound), true) = (&plan.lower_bound, plan.unplaced.is_empty()) {
        assert!(bound.cost <= plan.cost, "{bound:?}");
    }
    let detail = if story.sum { Detail::Summary } else { Detail::EveryPod };
    let report = Report::new(snapshot, plan, 0.0, detail).text(Look::PLAIN);
    let mut said = report.replace(" Solved in 0.0 ms.", "");
    if !plan.new_nodes.is_empty() && !story.sum {
        said += "\nEvery new node\n";
        for (index, node) in plan.new_nodes.iter().enumerate() {
            writeln!(said, "  {}: {}", index + 1, node.offerings[0].key).unwrap();
            for why in &node.why {
                writeln!(said, "    {why}").unwrap();
            }
        }
    }
    said
}
