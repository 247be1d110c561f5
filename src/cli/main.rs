//! The `tidegate` program.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

mod args;
mod batch;
mod caller;
mod client;
mod connection;
mod interrupt;
mod serve_sim;
mod simulation;

use args::{Cli, Command};

/// Something was wrong before anything was sent; clap uses the same for wrong arguments.
const NOTHING_SENT: u8 = 2;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("no threads to run on: {error}")),
    };
    let code = runtime.block_on(async {
        match command {
            Command::Batch(args) => match batch::execute(args).await {
                Ok(status) => ExitCode::from(status.exit_code()),
                Err(error) => refuse(&error),
            },
            Command::Sim(args) => match serve_sim::execute(args).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => refuse(&error),
            },
        }
    });
    // What still runs (a read of standard input, connections given up) is not waited for.
    runtime.shutdown_background();
    code
}

fn refuse(error: &dyn Display) -> ExitCode {
    say(format_args!("tidegate: {error}"));
    ExitCode::from(NOTHING_SENT)
}

/// Writes a line to standard error. Who closed it, as `2>&1 | head` does, doesn't want to know; `eprintln!` would panic,
/// and with it a batch whose answers are under way.
fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
