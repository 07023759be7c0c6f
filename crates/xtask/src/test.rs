//! `cargo xtask test`: what CI runs and a newcomer should.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail, ensure};
use cargo_metadata::Message;
use clap::Args;

use crate::run::{cargo, run, step, wait};
use crate::tidy::{self, house};

/// Name of the end-to-end test binary (`crates/testkit/tests/it`); it runs last.
const END_TO_END: &str = "it";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave the end-to-end tests out.
    #[arg(long)]
    quick: bool,
    /// How many end-to-end tests run at once. Each has a control plane of its own (1 GB of memory), and mostly waits.
    #[arg(long, default_value_t = 4)]
    at_once: usize,
    /// Only end-to-end tests whose name contains this.
    #[arg(long)]
    only: Option<String>,
}

/// What `cargo test` counted, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// How a binary runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Its lines are shown as they come.
    Alone,
    /// Others have the terminal and go first on the cores; its lines are shown together when it has ended.
    Beside,
}

/// Whether everything passed. The last line on standard output is the sum.
pub(crate) fn test(options: &Options) -> bool {
    let mut tally = Tally::default();
    if let Err(error) = all(options, &mut tally) {
        println!("\nfailed: {error:#}");
        // A broken step that counted no failing test (a lint, a compile error) is one failure.
        tally.failed = tally.failed.max(1);
    }
    if tally.ignored > 0 {
        println!("\n{} tests are marked as ignored", tally.ignored);
    }
    println!("\n{} passed, {} failed", tally.passed, tally.failed);
    tally.failed == 0
}

fn all(options: &Options, tally: &mut Tally) -> Result<()> {
    if options.only.is_none() {
        step("format: cargo fmt --all --check", || run(cargo().args(["fmt", "--all", "--check"])))?;
        step("lints: cargo clippy --workspace --all-targets", || {
            run(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
        })?;
        step("tidy: dependency rules, licences, generated files", tidy::tidy)?;
    }
    let mut binaries = Vec::new();
    step("build the tests and the programs", || {
        run(cargo().args(["build", "--workspace", "--bins"]))?;
        binaries = build_tests()?;
        Ok(())
    })?;
    let (end_to_end, unit): (Vec<_>, Vec<_>) = binaries.into_iter().partition(Binary::is_end_to_end);
    let unit = if options.only.is_none() { unit } else { Vec::new() };
    let (pure, servers): (Vec<_>, Vec<_>) = unit.into_iter().partition(Binary::is_pure);
    step("the test bed's programs (built once, then cached)", || {
        // The contract of the AWS adapter is tested against moto in it.
        testkit::binaries::python()?;
        if !options.quick {
            testkit::binaries::control_plane()?;
            testkit::binaries::prometheus()?;
            testkit::binaries::helm()?;
        }
        Ok(())
    })?;
    let python = testkit::binaries::python()?;
    if options.only.is_none() {
        step(
            &format!("unit and contract tests of what talks to others ({} binaries, two at once)", servers.len()),
            || {
                let queue = Mutex::new(servers.iter());
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let run = |tally: &mut Tally| {
                    let environment = [("TANDEM_PYTHON", python.as_path())];
                    std::iter::from_fn(next).try_for_each(|binary| binary.run(&[], &environment, How::Beside, tally))
                };
                side_by_side(tally, run, run)
            },
        )?;
    }
    let pure = |tally: &mut Tally, how| {
        step(&format!("unit and property tests of what decides ({} binaries)", pure.len()), || {
            pure.iter().try_for_each(|binary| binary.run(&[], &[], how, tally))
        })
    };
    if options.quick {
        pure(tally, How::Alone)?;
        println!("\nend-to-end tests are left out (--quick)");
    } else {
        step(&format!("end-to-end tests, {} at once, and beside them those of what decides", options.at_once), || {
            let mut arguments = vec![format!("--test-threads={}", options.at_once)];
            arguments.extend(options.only.clone());
            let run = |binary: &Binary, tally: &mut Tally| binary.run(&arguments, &[], How::Alone, tally);
            // The latter take what the former leave of the cores, and no load makes them fail.
            side_by_side(
                tally,
                |tally| end_to_end.iter().try_for_each(|binary| run(binary, tally)),
                |tally| if options.only.is_none() { pure(tally, How::Beside) } else { Ok(()) },
            )
        })?;
    }
    if options.only.is_none() {
        step("documentation tests", || {
            let mut command = cargo();
            command.args(["test", "--workspace", "--doc", "--quiet"]);
            count(command, How::Alone, tally, "documentation tests")
        })?;
    }
    // Failing tests let the other binaries run; the result is judged here.
    ensure!(tally.failed == 0, "{} tests failed", tally.failed);
    Ok(())
}

/// Does both at once, and counts both.
fn side_by_side(
    tally: &mut Tally,
    here: impl FnOnce(&mut Tally) -> Result<()>,
    there: impl FnOnce(&mut Tally) -> Result<()> + Send,
) -> Result<()> {
    let mut beside = Tally::default();
    let (ours, theirs) = std::thread::scope(|scope| {
        let others = scope.spawn(|| there(&mut beside));
        (here(tally), others.join())
    });
    tally.add(beside);
    theirs.map_err(|_| anyhow!("a panic beside the tests"))?.and(ours)
}

/// A test executable and where it expects to run.
struct Binary {
    name: String,
    package: String,
    folder: PathBuf,
    path: PathBuf,
}

impl Binary {
    fn is_end_to_end(&self) -> bool {
        self.package == "testkit" && self.name == END_TO_END
    }

    /// Whether it computes and waits for nobody: those of the crates that decide, and of the tool that plans without a cluster.
    fn is_pure(&self) -> bool {
        house::CORE.contains(&self.package.as_str()) || self.package == "tandem"
    }

    /// Runs it as cargo would.
    fn run(&self, arguments: &[String], environment: &[(&str, &Path)], how: How, tally: &mut Tally) -> Result<()> {
        let mut command = match how {
            How::Alone => Command::new(&self.path),
            How::Beside => Command::new("nice"),
        };
        if how == How::Beside {
            command.arg(&self.path);
        }
        command.args(arguments).current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command.envs(environment.iter().copied());
        command.env(testkit::programs::PROGRAMS_ARE_BUILT, "1");
        // The same random inputs in every run: what passed here passes in CI. `cargo test` alone draws others each time.
        command.env("PROPTEST_RNG_SEED", "11");
        count(command, how, tally, &format!("{} {}", self.package, self.name))
    }
}

fn build_tests() -> Result<Vec<Binary>> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]);
    let mut found = Vec::new();
    let status = wait(command.stdout(Stdio::piped()), |process| {
        let output = process.stdout.take().context("cargo's output")?;
        for message in Message::parse_stream(BufReader::new(output)) {
            let Message::CompilerArtifact(artifact) = message? else { continue };
            let (Some(path), true) = (artifact.executable, artifact.profile.test) else { continue };
            let folder = artifact.manifest_path.parent().context("a manifest in no folder")?.to_owned();
            let package = folder.file_name().unwrap_or_default().to_owned();
            found.push(Binary { name: artifact.target.name, package, folder: folder.into(), path: path.into() });
        }
        Ok(())
    })?;
    ensure!(status.success(), "the tests do not compile");
    found.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
    Ok(found)
}

/// Shows the lines and adds up those that say `test result:`. A binary that fails without counting a failed test
/// (it crashed) is an error; one that counted some is not, so that the others still run.
fn count(mut command: Command, how: How, tally: &mut Tally, what: &str) -> Result<()> {
    let before = tally.failed;
    let mut shown = format!("-- {what}\n");
    if how == How::Alone {
        print!("{}", std::mem::take(&mut shown));
    }
    let status = wait(command.stdout(Stdio::piped()), |process| {
        let output = process.stdout.take().context("a test's output")?;
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            if let Some(found) = result_line(&line) {
                tally.add(found);
            }
            match how {
                How::Alone => println!("{line}"),
                How::Beside => shown.extend([line.as_str(), "\n"]),
            }
        }
        Ok(())
    })
    .with_context(|| what.to_owned())?;
    print!("{shown}");
    if !status.success() && tally.failed == before {
        bail!("{what} ended with {status}");
    }
    Ok(())
}

/// `test result: ok. 3 passed; 0 failed; 0 ignored; …`
fn result_line(line: &str) -> Option<Tally> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |what: &str| rest.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse().ok());
    Some(Tally { passed: number("passed")?, failed: number("failed")?, ignored: number("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_line_is_counted() {
        let line = "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(result_line(line), Some(Tally { passed: 3, failed: 1, ignored: 2 }));
        assert_eq!(result_line("test a ... ok"), None);
    }
}
