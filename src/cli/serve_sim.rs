//! `tidegate sim`: a simulated provider for the tests of others.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidegate::sim::{ServeEvent, ServeOptions, Tally, serve};

use crate::args::SimArgs;
use crate::interrupt;
use crate::say;
use crate::simulation::{self, SimulationError};

/// How often a line is printed where no terminal shows a live one.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Serves until it is asked to end.
pub(crate) async fn execute(args: SimArgs) -> Result<(), SimulationError> {
    let scenario = simulation::load(Some(&args.scenario))?;
    let name = args.scenario.display().to_string();
    let options = ServeOptions { scenario, seed: args.seed, addr: args.listen, ..ServeOptions::default() };
    // It takes a line away whole, also where that is longer than the terminal is wide, and is hidden where there is none.
    let live = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        live.set_style(style);
    }
    let mut printed = Instant::now();
    let interrupts = interrupt::listen();
    let until = async {
        match interrupts {
            Ok(mut interrupts) => drop(interrupts.recv().await),
            // Without a handler the signal ends the process, which is an end too.
            Err(_) => std::future::pending().await,
        }
    };
    let told = |event: ServeEvent<'_>| match event {
        ServeEvent::Listening(url) => {
            say(format_args!("A simulated DeepSeek ({name}) listens on {url}"));
            say(format_args!("  export DEEPSEEK_BASE_URL={url} DEEPSEEK_API_KEY=sk-simulated"));
            say(format_args!("  Ctrl-C ends it; {url}/__sim/tally tells what it saw."));
        }
        ServeEvent::Progress(tally) if !live.is_hidden() => live.set_message(line(tally)),
        ServeEvent::Progress(tally) if printed.elapsed() >= LINE_EVERY => {
            printed = Instant::now();
            say(line(tally));
        }
        _ => {}
    };
    let tally = serve(options, told, until).await?;
    live.finish_and_clear();
    say(format_args!("It saw {}", line(&tally)));
    if args.json {
        // Who closed the pipe doesn't want to know.
        let _ = writeln!(std::io::stdout(), "{}", serde_json::to_string(&tally).unwrap_or_default());
    }
    Ok(())
}

fn line(tally: &Tally) -> String {
    let lane = tally.lanes.iter().max_by_key(|lane| lane.in_flight);
    let (cap, in_flight) = lane.map_or((0, 0), |lane| (lane.cap, lane.in_flight));
    let other = tally.rejected_total() - tally.slot_rejections();
    format!(
        "{} requests, {} answered, {in_flight} of {cap} in flight, {} times 429, {other} other refusals",
        tally.requests,
        tally.completed,
        tally.slot_rejections(),
    )
}
