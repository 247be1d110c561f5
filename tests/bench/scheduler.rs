//! What a call costs in the scheduler: time and memory, with few and with very many waiting.
//!
//! `cargo bench --bench scheduler`. Each job is submitted, sent, answered and ended; the machine is driven as a driver
//! would, without I/O. `callgrind` counts instructions instead, the same on every run:
//! `valgrind --tool=callgrind target/release/deps/scheduler-… 1000`.

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

fn main() {
    if let Some(queued) = std::env::args().nth(1).and_then(|arg| arg.parse().ok()) {
        run(queued, 10_000);
        return;
    }
    println!("{:>10} {:>12} {:>14}", "queued", "µs a job", "bytes a job");
    for queued in [1, 1_000, 100_000, 1_000_000] {
        let (micros, bytes) = run(queued, 200_000);
        let bytes = bytes.filter(|_| queued >= 100_000).map_or("-".into(), |bytes| format!("{bytes:.0}"));
        println!("{queued:>10} {micros:>12.2} {bytes:>14}");
    }
}
