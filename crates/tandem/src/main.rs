//! The program `tandem`: reads arguments, prints, and says by its exit code how it went.
//!
//! 0: there is a plan, whether it has a place for every pod or not. 1: the run failed. 2: the input or the arguments have
//! to be corrected; what is printed then is a plan without the objects that something is wrong with, if there is one.

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use tandem::{
    generate::{Generate, generate},
    report::Look,
    simulate::{Failure, Simulate, simulate},
};
use terminal_size::{Width, terminal_size_of};

/// Pod and node elasticity for Kubernetes, from the command line.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Simulate(Simulate),
    Generate(Generate),
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    match command {
        Command::Simulate(arguments) => match simulate(&arguments, look()) {
            Ok(output) => {
                eprint!("{}", output.remarks);
                for line in output.problems.iter().chain(&output.rejected) {
                    eprintln!("error: {line}");
                }
                match print(&output.result) {
                    _ if !output.rejected.is_empty() => ExitCode::FAILURE,
                    ExitCode::SUCCESS if !output.problems.is_empty() => ExitCode::from(2),
                    code => code,
                }
            }
            Err(Failure::Input(problems)) => {
                for line in problems.to_string().lines() {
                    eprintln!("error: {line}");
                }
                ExitCode::from(2)
            }
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
        Command::Generate(arguments) => {
            let text = generate(arguments.what);
            match arguments.output.as_ref().map(|file| (file, fs::write(file, &text))) {
                None => print(&text),
                Some((_, Ok(()))) => ExitCode::SUCCESS,
                Some((file, Err(error))) => {
                    eprintln!("error: {}: {error}", file.display());
                    ExitCode::FAILURE
                }
            }
        }
    }
}

/// As the reader's terminal can show it, if there is one. Nobody who sets `NO_COLOR` wants escape codes.
fn look() -> Look {
    let terminal = io::stdout();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Look {
        emphasis: terminal.is_terminal() && !plain,
        columns: terminal_size_of(&terminal).map(|(Width(columns), _)| usize::from(columns)),
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the result could not be written: {error}");
            ExitCode::FAILURE
        }
    }
}
