//! The `tidegate` program.

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

fn refuse(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("tidegate: {error}");
    ExitCode::from(NOTHING_SENT)
}
