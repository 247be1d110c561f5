//! The `tidegate` program.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod batch;
mod caller;
mod client;
mod connection;

use args::{Cli, Command};

/// Something was wrong before anything was sent; clap uses the same for wrong arguments.
const NOTHING_SENT: u8 = 2;

fn main() -> ExitCode {
    let Command::Batch(args) = Cli::parse().command;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tidegate: no threads to run on: {error}");
            return ExitCode::from(NOTHING_SENT);
        }
    };
    let result = runtime.block_on(batch::execute(args));
    // What still runs (a read of standard input, connections given up) is not waited for.
    runtime.shutdown_background();
    match result {
        Ok(status) => ExitCode::from(status.exit_code()),
        Err(error) => {
            eprintln!("tidegate: {error}");
            ExitCode::from(NOTHING_SENT)
        }
    }
}
