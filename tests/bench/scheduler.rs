//! What a call costs in the scheduler: time and memory, with few and with very many waiting.
//!
//! `cargo bench --bench scheduler`. Each job is submitted, sent, answered and ended; the machine is driven as a driver
//! would, without I/O. Times are of this machine at this moment; instructions, counted by valgrind's callgrind where it
//! is installed, are the same on every run.

use std::process::Command;
use std::time::{Duration, Instant};

use tidegate::core::call::Attempt;
use tidegate::core::outcome::{Outcome, OutcomeKind};
use tidegate::core::route::RouteSpec;
use tidegate::core::scheduler::{Action, Config, Event, JobSpec, Scheduler};
use tidegate::core::time::Timestamp;

/// Resident memory in bytes, as Linux tells it; elsewhere memory is not measured.
fn resident() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096.0)
}

const IN_FLIGHT: usize = 64;

struct Driver {
    gate: Scheduler,
    now: Timestamp,
    flying: std::collections::VecDeque<Attempt>,
    ended: usize,
}

impl Driver {
    fn new() -> Self {
        let route = RouteSpec { max_concurrency: Some(IN_FLIGHT as u32), ..RouteSpec::new("one", "account") };
        let config = Config { max_queued: usize::MAX, ..Config::new(vec![route]) };
        let gate = Scheduler::new(config, 1).expect("the configuration is valid");
        Self { gate, now: Timestamp::ZERO, flying: Default::default(), ended: 0 }
    }

    fn submit(&mut self) {
        let workload = self.gate.workload("normal");
        self.gate.submit(self.now, JobSpec::new("deepseek-flash", workload)).expect("the queue has room");
    }

    fn drain(&mut self) {
        while let Some(action) = self.gate.poll(self.now) {
            match action {
                Action::Send { attempt, .. } => self.flying.push_back(attempt),
                Action::End { .. } => self.ended += 1,
                _ => {}
            }
        }
    }

    /// The oldest request is answered; the next goes out.
    fn turn(&mut self) {
        self.now += Duration::from_millis(1);
        if let Some(attempt) = self.flying.pop_front() {
            self.gate.on(self.now, attempt, Event::Headers);
            self.gate.on(self.now, attempt, Event::Content);
            let outcome = Outcome::new(OutcomeKind::Success);
            self.gate.on(self.now, attempt, Event::Ended { outcome, tokens: None });
        }
        self.drain();
    }
}

fn run(queued: usize, jobs: usize) -> (f64, Option<f64>) {
    let mut driver = Driver::new();
    // Warm: the window grows to its ceiling.
    for _ in 0..2000 {
        driver.submit();
    }
    while driver.ended < 2000 {
        driver.turn();
    }
    let before = resident();
    for _ in 0..queued + IN_FLIGHT {
        driver.submit();
    }
    driver.drain();
    let bytes = resident().zip(before).map(|(now, before)| (now - before) / queued as f64);
    let start = Instant::now();
    for _ in 0..jobs {
        driver.submit();
        driver.turn();
    }
    let each = start.elapsed().as_secs_f64() / jobs as f64;
    (each * 1e6, bytes)
}

/// Instructions a job takes: what a run of more jobs executes more than a run of fewer, by callgrind's count.
///
/// # Errors
/// Why there is no count.
fn instructions(queued: usize) -> Result<f64, String> {
    const FEWER: usize = 1_000;
    const MORE: usize = 6_000;
    let count = |jobs: usize| {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(program)
            .args([COUNTED, &queued.to_string(), &jobs.to_string()])
            .output()
            .map_err(|error| format!("valgrind: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse::<f64>().ok());
        collected.ok_or_else(|| format!("valgrind ended with {}: {said}", output.status))
    };
    Ok((count(MORE)? - count(FEWER)?) / (MORE - FEWER) as f64)
}

/// With this argument, and how many are queued and done, the program only does what is counted.
const COUNTED: &str = "--counted";
/// With more queued, counting would take minutes: it runs fifty times slower.
const MOST_COUNTED: usize = 100_000;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, flag, queued, jobs] = &args[..]
        && flag == COUNTED
    {
        let number = |text: &str| text.parse().expect("a number");
        run(number(queued), number(jobs));
        return;
    }
    println!("{:>10} {:>12} {:>18} {:>14}", "queued", "µs a job", "instructions a job", "bytes a job");
    let mut uncounted = None;
    for queued in [1, 1_000, 100_000, 1_000_000] {
        let (micros, bytes) = run(queued, 200_000);
        let bytes = bytes.filter(|_| queued >= 100_000).map_or("-".into(), |bytes| format!("{bytes:.0}"));
        let counted = match queued {
            ..=MOST_COUNTED if uncounted.is_none() => {
                instructions(queued).map_or_else(|why| (uncounted = Some(why), "-".into()).1, |n| format!("{n:.0}"))
            }
            _ => "-".into(),
        };
        println!("{queued:>10} {micros:>12.2} {counted:>18} {bytes:>14}");
    }
    if let Some(why) = uncounted {
        println!("\nNOTE: instructions were NOT counted, for that takes valgrind: {why}");
    }
}
