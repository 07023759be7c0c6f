//! What the kube-scheduler would make of the plans for packing instances, free and with nominations.
//!
//! `cargo run --release -p tandem --example realise -- web-1k-team.json …` prints, for the greedy plan and for the solver's
//! if that is another, how many percent of the pods are stranded and what is paid for them on top of the plan, as means
//! over the seeds.

use std::{collections::BTreeMap, error::Error, path::Path, time::Instant};

use scheduling::{
    Opening, PodKey, Settings, Snapshot, Solution, Target, nominations, realise_nominated, solve, solve_greedy,
};

/// Orders of arrival that are tried for every number.
const SEEDS: std::ops::Range<u64> = 0..5;

fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings::default();
    for path in std::env::args().skip(1) {
        let snapshot = tandem::instance::read(Path::new(&path))?;
        println!("{path}: {} pods", snapshot.pods.len());
        let (greedy, solved) = (solve_greedy(&snapshot, &settings), solve(&snapshot, &settings));
        report("greedy", &snapshot, &greedy);
        if (&solved.placed, &solved.new_nodes) != (&greedy.placed, &greedy.new_nodes) {
            report("solver", &snapshot, &solved);
        }
    }
    Ok(())
}

fn report(name: &str, snapshot: &Snapshot, plan: &Solution) {
    let (nodes, placed, cost) = (plan.new_nodes.len(), plan.placed.len(), plan.cost);
    println!("  {name}: {placed} pods placed, {nodes} new nodes, {cost}");
    for opening in [Opening::Together, Opening::OneByOne] {
        for (how, nominated) in [("free", BTreeMap::new()), ("nominated", nominations(snapshot, plan))] {
            println!("    {opening:?}, {how}: {}", played(snapshot, plan, &nominated, opening));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts and prices for people to read")]
fn played(snapshot: &Snapshot, plan: &Solution, nominated: &BTreeMap<PodKey, Target>, opening: Opening) -> String {
    let (mut stranded, mut unplaced, mut extra) = (0, 0, 0);
    let began = Instant::now();
    for seed in SEEDS {
        let realised = realise_nominated(snapshot, plan, nominated, opening, seed);
        stranded += realised.stranded.len();
        unplaced += realised.unplaced.len();
        extra += realised.realised_cost.0 - realised.planned_cost.0;
    }
    let runs = SEEDS.count() as f64;
    let percent = |part: f64, whole: f64| if whole > 0.0 { 100.0 * part / runs / whole } else { 0.0 };
    format!(
        "{:.2} % stranded, {:.2} % on top, {:.2} % without a place in the second plan either; {:.0} ms each",
        percent(stranded as f64, plan.placed.len() as f64),
        percent(extra as f64, plan.cost.0 as f64),
        percent(f64::from(u32::try_from(unplaced).unwrap_or(u32::MAX)), plan.placed.len() as f64),
        began.elapsed().as_secs_f64() * 1000.0 / runs,
    )
}
