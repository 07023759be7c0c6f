//! Time and memory of the node solver; `cargo xtask bench` runs this as a release build.

use std::{error::Error, path::Path, process::ExitCode};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["--solve", case, file] = arguments[..] {
        println!("{}", tandem::bench::solve_one(case, Path::new(file))?);
        return Ok(ExitCode::SUCCESS);
    }
    let filter = arguments.first().copied().unwrap_or_default();
    let met = tandem::bench::run(&std::env::current_exe()?, filter, &mut |line| println!("{line}"))?;
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
