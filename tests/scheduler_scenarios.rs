//! The whole scheduler against a provider whose limit moves, on a virtual clock: how close it comes to a client that
//! knows the cap, and what share of its requests is rejected.
//!
//! `make scenarios` prints the table. Requests run about 6 s (log-normal, at most 20 s), the round trip is 40 ms;
//! ratio is the time that a client on the same network needs that knows the cap, over ours, or our answers over its
//! where clients are stopped in the middle of their work; rejected is the share of requests answered 429. Nothing may
//! be lost or asked twice in any of them.

#![cfg(feature = "sim")]

mod parallel;

use std::time::Duration;

use tidegate::core::queue::Class;
use tidegate::core::route::RouteSpec;
use tidegate::core::scheduler::{Config, WorkloadSpec};
use tidegate::sim::oracle::{self, Jobs};
use tidegate::sim::play::{Job, Played, Setup, play};
use tidegate::sim::scenario::{
    Balance, BodyStyle, Cap, Dist, Lognormal, Punish, Rejection, RetryAfter, RetryAfterForm, Sawtooth, Scenario, Steps,
    Walk, Window,
};

/// What the limit was tuned on, and what it was not.
const TESTED: [u64; 2] = [1, 2];
const HELD_OUT: [u64; 4] = [201, 202, 203, 204];

fn scenario(cap: Cap) -> Scenario {
    let time = Dist::Lognormal(Lognormal { median: 5.0, sigma: 0.6, max: Some(20.0) });
    // Bodies without numbers: what a client can do that is told nothing.
    let rejection = Rejection { body: BodyStyle::Plain, ..Rejection::default() };
    Scenario { cap: Some(cap), rejection, ..Scenario::constant(1) }.with_service_time(time)
}

fn constant(cap: u32) -> Scenario {
    scenario(Cap::Constant(cap))
}

fn steps(points: &[(f64, u32)], repeat: Option<f64>) -> Scenario {
    scenario(Cap::Steps(Steps { points: points.to_vec(), repeat }))
}

struct Case {
    name: &'static str,
    scenario: Scenario,
    setup: Setup,
    jobs: Vec<Job>,
    /// The least mean ratio to the oracle, and the largest mean share rejected.
    floor: (f64, f64),
}

fn case(name: &'static str, scenario: Scenario, jobs: usize, floor: (f64, f64)) -> Case {
    Case { name, scenario, setup: Setup::clients(1), jobs: Job::batch(jobs), floor }
}

fn cases() -> Vec<Case> {
    let late = |scenario: Scenario| Scenario {
        rejection: Rejection { latency: 2.0, ..scenario.rejection.clone() },
        ..scenario
    };
    // More than they can do in ten minutes, so that none runs out of work before the others.
    let clients = |name, count: usize, cap: u32, floor| {
        let jobs = (0..cap as usize * 200).map(|number| Job { client: number % count, ..Job::default() }).collect();
        let setup = Setup { horizon: Duration::from_secs(600), ..Setup::clients(count) };
        Case { setup, jobs, ..case(name, constant(cap), 0, floor) }
    };
    let punishing = |cap| Scenario { punish: Some(Punish::default()), ..constant(cap) };
    let hinted = |hint| {
        let mut setup = Setup::clients(1);
        let route = RouteSpec::new("deepseek", "account");
        let mut model = route.clone().with_deepseek_models().models.remove(0);
        model.hint = Some(hint);
        let config = Config::new(vec![RouteSpec { models: vec![model], ..route }]);
        setup.clients = vec![config];
        setup
    };
    let outages = |cap: u32| {
        let mut scenario = constant(cap);
        scenario.windows =
            (0..40).map(|at| Window::new(503, 60.0 + 120.0 * f64::from(at), 75.0 + 120.0 * f64::from(at))).collect();
        scenario
    };
    let mut cancelling = Job::batch(6000);
    for (number, job) in cancelling.iter_mut().enumerate() {
        if number % 5 == 0 {
            job.patience = Some(Duration::from_millis(100 * number as u64));
        }
    }
    let by_chance = |mut scenario: Scenario, share| {
        scenario.windows = vec![Window { to: None, probability: share, latency: 0.0, ..Window::new(429, 0.0, 0.0) }];
        scenario
    };
    let asking = |mut scenario: Scenario| {
        scenario.windows[0].retry_after = RetryAfter { form: RetryAfterForm::Seconds, seconds: 1.0 };
        scenario
    };
    let plenty = constant(500).with_service_time(0.3);
    let two_minutes = steps(&[(0.0, 64), (120.0, 16)], Some(240.0));
    let short_steps = steps(&[(0.0, 64), (60.0, 16)], Some(120.0)).with_service_time(0.5);
    vec![
        case("constant 8", constant(8), 800, (0.994, 0.0105)),
        case("constant 64", constant(64), 6200, (0.993, 0.0039)),
        case("constant 500", constant(500), 48_000, (0.991, 0.0044)),
        case("constant 2500", constant(2500), 240_000, (0.990, 0.0040)),
        case("constant 64, requests of 0.5 s", constant(64).with_service_time(0.5), 20_000, (0.992, 0.0036)),
        case("constant 64, requests of 50 ms", constant(64).with_service_time(0.05), 40_000, (0.989, 0.0012)),
        case("64 ↔ 16 every 60 s, requests of 0.5 s", short_steps, 60_000, (0.939, 0.0121)),
        case("batch while 64 → 16 → 64", steps(&[(0.0, 64), (60.0, 16), (120.0, 64)], None), 2000, (0.953, 0.0225)),
        case("step 64 ↔ 16 every 120 s", steps(&[(0.0, 64), (120.0, 16)], Some(240.0)), 12_000, (0.962, 0.0219)),
        case("the same, 429s 2 s late", late(steps(&[(0.0, 64), (120.0, 16)], Some(240.0))), 12_000, (0.888, 0.0681)),
        case("constant 64, 429s 2 s late", late(constant(64)), 6000, (0.993, 0.0447)),
        case(
            "sawtooth 16 → 64 in 60 s",
            scenario(Cap::Sawtooth(Sawtooth { low: 16, high: 64, period: 60.0, falling: false })),
            12_000,
            (0.953, 0.0465),
        ),
        case(
            "walk between 16 and 256",
            scenario(Cap::Walk(Walk { start: 64, low: 16, high: 256, every: 10.0, spread: 0.06 })),
            20_000,
            (0.967, 0.0212),
        ),
        case("503 for 15 s in every 120 s", outages(64), 6000, (0.975, 0.0038)),
        case("cold start on 500", constant(500), 2500, (0.967, 0.0137)),
        Case { setup: hinted(500), ..case("cold start on 500, right hint", constant(500), 2500, (0.975, 0.0048)) },
        Case { setup: hinted(2500), ..case("cold start on 500, hint 2500", constant(500), 2500, (0.975, 0.0165)) },
        case("cold start on 2500", constant(2500), 20_000, (0.943, 0.0065)),
        case("punishing 64, hours", punishing(64), 40_000, (0.972, 0.0015)),
        case("punishing 64, short batch", punishing(64), 1200, (0.897, 0.0126)),
        Case {
            jobs: Job::batch(1200),
            ..case(
                "balance falling, with bodies",
                Scenario {
                    balance: Some(Balance {
                        cost_per_request: 0.0018,
                        cost_per_million_tokens: 0.0,
                        ..Balance::default()
                    }),
                    rejection: Rejection::default(),
                    ..constant(500)
                },
                1200,
                (0.962, 0.0495),
            )
        },
        case("storm: five caps a minute, 503s, breaks", Scenario::preset("storm").unwrap(), 300, (0.785, 0.0413)),
        case("storm, ten minutes of it", Scenario::preset("storm").unwrap(), 4000, (0.890, 0.0350)),
        case("constant 64, one in ten refused by chance", by_chance(constant(64), 0.1), 6000, (0.71, 0.0290)),
        case("the same, each asking to wait a second", asking(by_chance(constant(64), 0.1)), 6000, (0.745, 0.0370)),
        case("constant 500, requests of 0.3 s, the same", by_chance(plenty, 0.1), 40_000, (0.50, 0.0150)),
        case("64 ↔ 16 every 120 s, one in ten by chance", by_chance(two_minutes, 0.1), 12_000, (0.84, 0.0790)),
        clients("8 clients on 64, 10 min", 8, 64, (0.994, 0.0205)),
        clients("20 clients on 500, 10 min", 20, 500, (0.992, 0.0290)),
        Case { jobs: cancelling, ..case("a fifth gives up, constant 64", constant(64), 0, (0.982, 0.0045)) },
    ]
}

fn check(name: &str, seed: u64, jobs: usize, played: &Played) {
    let failed: Vec<_> = played.failed.iter().take(3).collect();
    assert_eq!(played.unaccounted, 0, "{name}, seed {seed}: calls of which nothing was heard again");
    assert!(played.failed.is_empty(), "{name}, seed {seed}: {} failed: {failed:?}", played.failed.len());
    assert_eq!(played.completed + played.cancelled, jobs, "{name}, seed {seed}");
    assert!(played.tally.duplicates.is_empty(), "{name}, seed {seed}: answered twice {:?}", played.tally.duplicates);
}

/// The mean over some seeds, and the worst of them.
struct Row {
    ratio: f64,
    worst: f64,
    rejected: f64,
    seconds: f64,
}

impl Row {
    fn of(case: &Case, seeds: &[u64]) -> Self {
        let mut row = Self { ratio: 0.0, worst: f64::INFINITY, rejected: 0.0, seconds: 0.0 };
        let share = 1.0 / seeds.len() as f64;
        for &seed in seeds {
            let played = play(&case.scenario, seed, &case.setup, &case.jobs).unwrap();
            row.rejected += share * played.tally.slot_rejections() as f64 / played.tally.requests as f64;
            row.seconds += share * played.makespan.as_secs_f64();
            let ratio = if case.setup.clients.len() > 1 {
                // They are stopped in the middle of their work: what counts is how much of it was done.
                assert!(played.failed.is_empty() && played.tally.duplicates.is_empty(), "{}, seed {seed}", case.name);
                let ideal = oracle::knowing_calls(&case.scenario, seed, &case.setup, &case.jobs).unwrap();
                played.completed as f64 / ideal.completed as f64
            } else {
                check(case.name, seed, case.jobs.len(), &played);
                let work = Jobs { round_trip: case.setup.round_trip, ..Jobs::new(played.completed) };
                let ideal = oracle::knowing(&case.scenario, seed, &work).unwrap();
                ideal.makespan.as_secs_f64() / played.makespan.as_secs_f64()
            };
            row.ratio += share * ratio;
            row.worst = row.worst.min(ratio);
        }
        row
    }
}

#[test]
fn the_scheduler_keeps_a_moving_limit_full_and_loses_nothing() {
    let cases = cases();
    let rows = parallel::map(&cases, |case| [&TESTED[..], &HELD_OUT[..]].map(|seeds| Row::of(case, seeds)));

    println!("{:42}{:>16}{:>16}", "", "tested seeds", "held-out seeds");
    println!("{:42}{:>8}{:>8}{:>8}{:>8}{:>9}", "scenario", "ratio", "429s", "ratio", "429s", "seconds");
    let mut missed = Vec::new();
    for (case, rows) in cases.iter().zip(&rows) {
        print!("{:42}", case.name);
        for row in rows {
            print!("{:>8.3}{:>7.2}%", row.ratio, row.rejected * 100.0);
            if row.ratio < case.floor.0 || row.rejected > case.floor.1 {
                missed.push((case.name, row.ratio, row.rejected, row.worst));
            }
        }
        println!("{:>9.0}", rows[0].seconds);
    }
    assert!(missed.is_empty(), "missed their floors: {missed:?}");
}

fn percentile(waits: &[Duration], share: f64) -> f64 {
    let mut waits = waits.to_vec();
    waits.sort_unstable();
    waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64()
}

#[test]
fn a_person_hardly_waits_while_a_flood_of_background_work_fills_every_slot() {
    let scenario = steps(&[(0.0, 64), (120.0, 16)], Some(240.0));
    let mut jobs: Vec<Job> = (0..6000).map(|_| Job { workload: "background", ..Job::default() }).collect();
    let people = (30..600).map(|at| Job { at: Duration::from_secs(at), workload: "interactive", ..Job::default() });
    jobs.extend(people);
    for seed in [1, 2, 101] {
        let played = play(&scenario, seed, &Setup::clients(1), &jobs).unwrap();
        check("flood", seed, jobs.len(), &played);
        let people = &played.waits["interactive"];
        let (median, worst) = (percentile(people, 0.5), percentile(people, 0.99));
        println!("a person waits {median:.3} s (median), {worst:.3} s (99 of 100), for a slot of about 6 s");
        // While the cap falls to a quarter every slot is overbooked until the excess has drained: that is the worst.
        assert!(median < 0.2 && worst < 6.0 * 1.2, "seed {seed}: {median} {worst}");
    }
}

#[test]
fn workloads_share_a_moving_cap_by_weight() {
    let mut setup = Setup::clients(1);
    setup.clients[0].workloads = [("chat", 1.0), ("rag", 2.0), ("eval", 4.0)]
        .map(|(name, weight)| WorkloadSpec { weight, ..WorkloadSpec::new(name, Class::Normal) })
        .to_vec();
    setup.horizon = Duration::from_secs(600);
    let names = ["chat", "rag", "eval"];
    let jobs: Vec<Job> = (0..30_000).map(|at| Job { workload: names[at % 3], ..Job::default() }).collect();
    let played = play(&steps(&[(0.0, 64), (60.0, 24)], Some(120.0)), 1, &setup, &jobs).unwrap();
    let done = names.map(|name| played.waits[name].len() as f64);
    let total: f64 = done.iter().sum();
    for (done, share) in done.into_iter().zip([1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0]) {
        assert!((done / total - share).abs() < 0.02, "{:.3} instead of {share:.3}", done / total);
    }
}
