//! The lab: every scenario, Tidegate and what people use instead, side by side on a virtual clock.
//!
//! `make lab`, or `cargo run --profile lab --no-default-features --features sim --example lab -- --help`. The same seeds
//! give the same table each time, on every machine. It writes a chart for each scenario to `target/lab`. With `--losses`
//! it says where Tidegate falls behind the oracle, and how much of that nobody could have had.

mod cases;
mod chart;
mod goals;
mod losses;
mod measure;
mod options;
mod peers;
mod table;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::cases::{Case, SEEDS};
use self::measure::{Figures, Outcome};
use self::options::Options;
use self::peers::Peer;

/// One scenario's row of the table.
pub(crate) struct Row<'a> {
    pub(crate) case: &'a Case,
    /// Of each peer, the mean over all seeds.
    pub(crate) peers: Vec<Figures>,
    pub(crate) oracle: Figures,
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let peers: Vec<&Peer> = peers::PEERS.iter().filter(|peer| options.wants_peer(peer.name)).collect();
    let cases: Vec<Case> = cases::cases().into_iter().filter(|case| options.wants_scenario(case.name)).collect();
    if options.losses {
        losses::print(&cases);
        return ExitCode::SUCCESS;
    }
    let charts = Path::new(&options.charts);
    if let Err(error) = fs::create_dir_all(charts) {
        eprintln!("cannot make the folder {}: {error}", charts.display());
        return ExitCode::FAILURE;
    }
    let rows = run_all(&cases, &peers, charts, options.quiet());
    if options.json {
        println!("{}", table::json(&rows, &peers));
    } else {
        table::print(&rows, &peers);
        if options.is_whole() {
            goals::print(&rows, &peers);
        }
        println!("\nCharts: {}/NAME.svg", charts.display());
    }
    ExitCode::SUCCESS
}

/// Runs every scenario on every seed, on all cores; writes the first seed's charts.
fn run_all<'a>(cases: &'a [Case], peers: &[&Peer], charts: &Path, quiet: bool) -> Vec<Row<'a>> {
    let mut tasks: Vec<(usize, u64)> = (0..cases.len()).flat_map(|case| SEEDS.map(|seed| (case, seed))).collect();
    // The longest first, so that no core is left alone with one at the end.
    tasks.sort_by_key(|&(case, seed)| (std::cmp::Reverse((cases[case].jobs)(seed).len()), case, seed));
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, u64, Outcome)>> = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(tasks.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(&(case, seed)) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut outcome = measure::run(&cases[case], seed, peers);
                    if seed == SEEDS[0] {
                        let file = charts.join(format!("{}.svg", cases[case].name));
                        if let Err(error) = fs::write(&file, chart::draw(&cases[case], peers, &outcome)) {
                            eprintln!("cannot write {}: {error}", file.display());
                        }
                    }
                    // Only the figures are needed from here on.
                    for run in outcome.runs.iter_mut().chain([&mut outcome.oracle]) {
                        (run.samples, run.limits) = (Vec::new(), Vec::new());
                    }
                    let mut results = results.lock().expect("no thread panicked");
                    results.push((case, seed, outcome));
                    if !quiet {
                        eprint!("\r{} of {} runs", results.len(), tasks.len());
                    }
                }
            });
        }
    });
    if !quiet {
        eprint!("\r\x1b[K");
    }
    let mut results = results.into_inner().expect("no thread panicked");
    results.sort_by_key(|(case, seed, _)| (*case, *seed));
    let of_case = |wanted: usize| results.iter().filter(move |(case, ..)| *case == wanted).map(|(.., outcome)| outcome);
    (cases.iter().enumerate())
        .map(|(number, case)| {
            let of_peer = |peer: usize| of_case(number).map(|o| o.runs[peer].figures.clone()).collect::<Vec<_>>();
            let oracle: Vec<_> = of_case(number).map(|outcome| outcome.oracle.figures.clone()).collect();
            Row {
                case,
                peers: (0..peers.len()).map(|peer| measure::mean(&of_peer(peer))).collect(),
                oracle: measure::mean(&oracle),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate::sim::Scenario;
    use tidegate::sim::play::Job;

    /// A scenario of a few seconds with every peer: all that is in the table is there, and makes sense.
    #[test]
    fn every_peer_plays_a_short_scenario() {
        let mut all = cases::cases();
        let at = all.iter().position(|case| case.name == "dip").unwrap();
        let mut case = all.swap_remove(at);
        case.scenario = Scenario::steps(&[(0.0, 12), (4.0, 5), (8.0, 12)], None).with_service_time(0.8);
        case.jobs = |_| Job::batch(120);
        let peers: Vec<&Peer> = peers::PEERS.iter().collect();
        let outcome = measure::run(&case, 7, &peers);
        assert_eq!(outcome.oracle.figures.goodput, 1.0);
        for (peer, run) in peers.iter().zip(&outcome.runs) {
            let Figures { goodput, rejected, lost, .. } = run.figures;
            assert!(goodput > 0.05 && goodput <= 1.0, "{}: goodput {goodput}", peer.name);
            assert!((0.0..1.0).contains(&rejected) && (0.0..1.0).contains(&lost), "{}: {rejected} {lost}", peer.name);
        }
        let of = |name| &outcome.runs[peers.iter().position(|peer| peer.name == name).unwrap()].figures;
        assert!(of("tide").goodput > of("fix3").goodput && of("tide").lost == 0.0);
        assert!(of("oai").lost > 0.5, "all at once and two retries lose most: {}", of("oai").lost);
        let chart = chart::draw(&case, &peers, &outcome);
        assert!(chart.starts_with("<svg") && chart.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn every_scenario_makes_sense_and_is_named_once() {
        let cases = cases::cases();
        for (at, case) in cases.iter().enumerate() {
            case.scenario.check().unwrap();
            assert!(cases[..at].iter().all(|other| other.name != case.name), "{}", case.name);
            assert!(case.name.len() < table::NAME_WIDTH, "{}", case.name);
            let jobs = (case.jobs)(1);
            assert!(!jobs.is_empty() && jobs.iter().all(|job| job.client < case.setup.clients.len()));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_figures() {
        let mut all = cases::cases();
        all.retain(|case| case.name == "balance");
        all[0].jobs = |_| Job::batch(300);
        let peers: Vec<&Peer> = peers::PEERS.iter().collect();
        let figures = || measure::run(&all[0], 3, &peers).runs.iter().map(|r| format!("{:?}", r.figures)).collect();
        let (first, second): (Vec<String>, Vec<String>) = (figures(), figures());
        assert_eq!(first, second);
    }
}
