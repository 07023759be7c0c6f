//! The gates of the node solver; `cargo xtask gates` runs this as a release build.

use std::process::ExitCode;

fn main() -> ExitCode {
    match tandem::gates::run(&mut |line| println!("{line}")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
