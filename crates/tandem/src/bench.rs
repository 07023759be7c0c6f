//! How fast the node solver is and how much memory it takes, on the workloads that people quote figures for.
//!
//! Every case is solved in a process of its own, which is given the snapshot as a file: so the memory is that of a program
//! that holds the snapshot, plans within the default budget and holds that plan, not that of making the snapshot up or of
//! checking. Three plans are timed: the first there is, for which the search is stopped at once; the one that the default
//! budget of work gives; and that of the greedy rule alone, to which the controller falls back. Nobody is asked before the
//! first is there, so it is what the smallest budget gives. Times are those on a core, so that what else the
//! machine does counts as little as possible; the clock's are printed beside them. The figures depend on the machine, so no
//! test asserts them; whoever changes the solver runs this and puts the table into `docs/measurements.md`.

mod labels;
mod worlds;

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufReader, BufWriter},
    path::Path,
    process::Command,
    time::Instant,
};

use scheduling::{Settings, Snapshot, Solution, check, solve_greedy, solve_within};
use serde::{Deserialize, Serialize};

pub use self::worlds::{CASES, Case};
use crate::gates::stopwatch::Stopwatch;

const INFALLIBLE: &str = "writing to a string cannot fail";

/// What one case came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Figures {
    greedy: Timed,
    first: Timed,
    whole: Timed,
    /// The memory of the process before it plans, and the most it ever had. Unit: MiB.
    before_mib: Option<u64>,
    peak_mib: Option<u64>,
    /// How long the checker looks at the whole plan. Unit: milliseconds on a core.
    check_ms: f64,
    /// What the checker has against the plans.
    violations: Vec<String>,
}

/// One solve.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Timed {
    core_ms: f64,
    clock_ms: f64,
    nodes: usize,
    unplaced: usize,
    /// Unit: micro-USD per hour.
    cost: i64,
    greedy: Option<i64>,
    bound: Option<i64>,
}

/// Every case.
fn cases() -> impl Iterator<Item = &'static Case> {
    CASES.iter().chain(&labels::CASES)
}

/// Runs every case whose name contains `filter` and prints as it goes; says whether every demand is met. `program` is run
/// as `program --solve CASE FILE` for each and must call [`solve_one`].
pub fn run(program: &Path, filter: &str, print: &mut dyn FnMut(&str)) -> io::Result<bool> {
    if !cases().any(|case| case.name.contains(filter)) {
        let names: Vec<&str> = cases().map(|case| case.name).collect();
        let message = format!("no case has {filter:?} in its name; there are {}", names.join(", "));
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    print(
        "milliseconds are those on a core, CLOCK those that passed; FIRST: search stopped at once; WHOLE: within the default \
         budget; memory in MiB\n",
    );
    print(&format!(
        "{:<22} {:>7} {:>8} {:>8} {:>8} {:>7} {:>11} {:>8} {:>8} {:>7} {:>11} {:>11} {:>11} {:>5} {:>7} {:>6} {:>6}",
        "CASE",
        "PODS",
        "GREEDY",
        "FIRST",
        "PODS/S",
        "NODES",
        "$/H",
        "WHOLE",
        "CLOCK",
        "NODES",
        "$/H",
        "BOUND",
        "GREEDY $/H",
        "LEFT",
        "CHECK",
        "BEFORE",
        "PEAK"
    ));
    let mut misses = Vec::new();
    for case in cases().filter(|case| case.name.contains(filter)) {
        let world = (case.world)();
        let pods = world.pods.len();
        let figures = measure(program, case, world)?;
        print(&row(case, pods, &figures));
        misses.extend(case.missed(&figures));
    }
    print("");
    for miss in &misses {
        print(&format!("MISS {miss}"));
    }
    if misses.is_empty() {
        print("every demand of these cases is met");
    }
    Ok(misses.is_empty())
}

/// In the process of a case: reads the snapshot, plans, and gives the figures for [`run`] to read.
pub fn solve_one(case: &str, file: &Path) -> io::Result<String> {
    let case = cases().find(|one| one.name == case).ok_or(io::ErrorKind::NotFound)?;
    let snapshot: Snapshot = serde_json::from_reader(BufReader::new(File::open(file)?))?;
    let settings = Settings { ignore_preferences: case.ignore_preferences, ..Settings::default() };
    let before_mib = memory_mib("VmRSS:");
    let mut violations = Vec::new();
    let mut look = |name: &str, plan: Solution| {
        let wrong = check::check(&snapshot, &plan);
        let of = wrong.len();
        let said =
            wrong.first().map(|one| format!("the checker has {of} objections to the {name} plan, such as: {one}"));
        violations.extend(said);
    };
    let at_once = || solve_within(&snapshot, &settings, &|| true);
    let (first, first_plan) = timed(at_once);
    drop(first_plan);
    let (whole, plan) = timed(|| solve_within(&snapshot, &settings, &|| false));
    let peak_mib = memory_mib("VmHWM:");
    let core = Stopwatch::start();
    look("whole", plan);
    let check_ms = core.elapsed().as_secs_f64() * 1e3;
    let (greedy, plan) = timed(|| solve_greedy(&snapshot, &settings));
    look("greedy", plan);
    look("first", at_once());
    Ok(serde_json::to_string(&Figures { greedy, first, whole, before_mib, peak_mib, check_ms, violations })?)
}

fn timed(plan: impl FnOnce() -> Solution) -> (Timed, Solution) {
    let (clock, core) = (Instant::now(), Stopwatch::start());
    let solution = plan();
    let (core, clock) = (core.elapsed(), clock.elapsed());
    let timed = Timed {
        core_ms: core.as_secs_f64() * 1e3,
        clock_ms: clock.as_secs_f64() * 1e3,
        nodes: solution.new_nodes.len(),
        unplaced: solution.unplaced.len(),
        cost: solution.cost.0,
        greedy: solution.greedy_cost.map(|cost| cost.0),
        bound: solution.lower_bound.as_ref().map(|bound| bound.cost.0),
    };
    (timed, solution)
}

fn measure(program: &Path, case: &Case, world: Snapshot) -> io::Result<Figures> {
    let file = std::env::temp_dir().join(format!("tandem-bench-{}-{}.json", std::process::id(), case.name));
    serde_json::to_writer(BufWriter::new(File::create(&file)?), &world)?;
    drop(world);
    let output = Command::new(program).args(["--solve", case.name]).arg(&file).output();
    std::fs::remove_file(&file)?;
    let output = output?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{}: {}", case.name, String::from_utf8_lossy(&output.stderr))));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

impl Case {
    /// What of its demands the figures do not meet.
    fn missed(&self, figures: &Figures) -> Vec<String> {
        let mut missed = Vec::new();
        let mut miss = |what: String| missed.push(format!("{}: {what}", self.name));
        figures.violations.iter().for_each(|violation| miss(violation.clone()));
        let left = figures.whole.unplaced.max(figures.first.unplaced);
        if left > self.most_left {
            miss(format!("{left} pods without a place, not {}", self.most_left));
        }
        if let Some(most) = self.most_ms.filter(|most| figures.first.core_ms > *most) {
            miss(format!("{:.0} ms to the first plan, not {most:.0}", figures.first.core_ms));
        }
        if let Some(most) = self.most_nodes {
            if figures.first.nodes > most {
                miss(format!("{} nodes in the first plan, not {most}", figures.first.nodes));
            }
            // More nodes are a way to pay less, and nothing else.
            if figures.whole.nodes > most && figures.whole.cost >= figures.first.cost {
                miss(format!("{} nodes, not {most}, and no cheaper than the first plan", figures.whole.nodes));
            }
        }
        if let (Some(most), Some(peak)) = (self.most_mib, figures.peak_mib)
            && peak > most
        {
            miss(format!("{peak} MiB, not {most}"));
        }
        missed
    }
}

fn row(case: &Case, pods: usize, figures: &Figures) -> String {
    let Figures { greedy, first, whole, .. } = figures;
    let dollars = |micros: i64| format!("{}.{:04}", micros / 1_000_000, micros % 1_000_000 / 100);
    let known = |micros: Option<i64>| micros.map_or("-".to_owned(), dollars);
    let mib = |mib: Option<u64>| mib.map_or("-".to_owned(), |mib| mib.to_string());
    #[expect(clippy::cast_precision_loss, reason = "a rate to print")]
    let rate = pods as f64 / first.core_ms * 1e3;
    let mut row = format!("{:<22} {pods:>7} {:>8.1} {:>8.1}", case.name, greedy.core_ms, first.core_ms);
    write!(row, " {rate:>8.0} {:>7} {:>11}", first.nodes, dollars(first.cost)).expect(INFALLIBLE);
    write!(row, " {:>8.1} {:>8.1} {:>7}", whole.core_ms, whole.clock_ms, whole.nodes).expect(INFALLIBLE);
    write!(
        row,
        " {:>11} {:>11} {:>11} {:>5} {:>7.1} {:>6} {:>6}",
        dollars(whole.cost),
        known(whole.bound),
        known(whole.greedy),
        whole.unplaced,
        figures.check_ms,
        mib(figures.before_mib),
        mib(figures.peak_mib),
    )
    .expect(INFALLIBLE);
    row
}

/// What the system says of this process's memory, where it does. Unit: MiB.
fn memory_mib(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib / 1024)
}
