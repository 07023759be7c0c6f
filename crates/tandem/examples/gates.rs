//! The gates of the node solver; `cargo xtask gates` runs this as a release build. With `--store` it prints instead what is to
//! be known of the instances that the generator makes: `crates/tandem/data/own_instances.json`.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--store") {
        return match tandem::gates::store() {
            Ok(known) => {
                print!("{known}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    match tandem::gates::run(&mut |line| println!("{line}")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
