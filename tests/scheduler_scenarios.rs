//! The whole scheduler against a provider whose limit moves, on a virtual clock: how close it comes to a client that
//! knows the cap, and what share of its requests is rejected.
//!
//! `make scenarios` prints the table. Requests run about 6 s (log-normal, at most 20 s), the round trip is 40 ms; ratio
//! is the time that a client on the same network needs that knows the cap, over ours; rejected is the share of requests
//! answered 429. Nothing may be lost or asked twice in any of them.

#![cfg(feature = "sim")]

use std::time::Duration;

use tidegate::core::queue::Class;
use tidegate::core::route::RouteSpec;
use tidegate::core::scheduler::{Config, WorkloadSpec};
use tidegate::sim::oracle::{self, Jobs};
use tidegate::sim::play::{Job, Played, Setup, play};
use tidegate::sim::scenario::{
    Balance, BodyStyle, Cap, Dist, Lognormal, Punish, Rejection, Sawtooth, Scenario, Steps, Walk, Window,
};

const SEEDS: u64 = 3;

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
    let short_steps = steps(&[(0.0, 64), (60.0, 16)], Some(120.0)).with_service_time(0.5);
    vec![
        case("constant 8", constant(8), 800, (0.99, 0.016)),
        case("constant 64", constant(64), 6000, (0.99, 0.006)),
        case("constant 500", constant(500), 30_000, (0.99, 0.006)),
        case("constant 2500", constant(2500), 60_000, (0.945, 0.005)),
        case("constant 64, requests of 0.5 s", constant(64).with_service_time(0.5), 20_000, (0.98, 0.004)),
        case("constant 64, requests of 50 ms", constant(64).with_service_time(0.05), 40_000, (0.98, 0.003)),
        case("64 ↔ 16 every 60 s, requests of 0.5 s", short_steps, 60_000, (0.85, 0.012)),
        case("batch while 64 → 16 → 64", steps(&[(0.0, 64), (60.0, 16), (120.0, 64)], None), 2000, (0.936, 0.024)),
        case("step 64 ↔ 16 every 120 s", steps(&[(0.0, 64), (120.0, 16)], Some(240.0)), 12_000, (0.945, 0.022)),
        case("the same, 429s 2 s late", late(steps(&[(0.0, 64), (120.0, 16)], Some(240.0))), 12_000, (0.9, 0.07)),
        case("constant 64, 429s 2 s late", late(constant(64)), 6000, (0.98, 0.06)),
        case(
            "sawtooth 16 → 64 in 60 s",
            scenario(Cap::Sawtooth(Sawtooth { low: 16, high: 64, period: 60.0, falling: false })),
            12_000,
            (0.85, 0.06),
        ),
        case(
            "walk between 16 and 256",
            scenario(Cap::Walk(Walk { start: 64, low: 16, high: 256, every: 10.0, spread: 0.06 })),
            20_000,
            (0.93, 0.04),
        ),
        case("503 for 15 s in every 120 s", outages(64), 6000, (0.97, 0.006)),
        case("cold start on 500", constant(500), 2500, (0.92, 0.032)),
        Case { setup: hinted(500), ..case("cold start on 500, right hint", constant(500), 2500, (0.94, 0.008)) },
        Case { setup: hinted(2500), ..case("cold start on 500, hint 2500", constant(500), 2500, (0.95, 0.025)) },
        case("cold start on 2500", constant(2500), 20_000, (0.88, 0.01)),
        case("punishing 64, hours", punishing(64), 40_000, (0.945, 0.003)),
        case("punishing 64, short batch", punishing(64), 1200, (0.85, 0.014)),
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
                (0.98, 0.09),
            )
        },
        case("storm: five caps a minute, 503s, breaks", Scenario::preset("storm").unwrap(), 300, (0.77, 0.05)),
        case("storm, ten minutes of it", Scenario::preset("storm").unwrap(), 4000, (0.84, 0.04)),
        clients("8 clients on 64, 10 min", 8, 64, (0.95, 0.03)),
        clients("20 clients on 500, 10 min", 20, 500, (0.95, 0.04)),
        Case { jobs: cancelling, ..case("a fifth gives up, constant 64", constant(64), 0, (0.98, 0.006)) },
    ]
}

fn check(name: &str, seed: u64, jobs: usize, played: &Played) {
    let failed: Vec<_> = played.failed.iter().take(3).collect();
    assert_eq!(played.unaccounted, 0, "{name}, seed {seed}: calls of which nothing was heard again");
    assert!(played.failed.is_empty(), "{name}, seed {seed}: {} failed: {failed:?}", played.failed.len());
    assert_eq!(played.completed + played.cancelled, jobs, "{name}, seed {seed}");
    assert!(played.tally.duplicates.is_empty(), "{name}, seed {seed}: answered twice {:?}", played.tally.duplicates);
}

#[test]
fn the_scheduler_keeps_a_moving_limit_full_and_loses_nothing() {
    println!("{:<40} {:>8} {:>9} {:>9} {:>9}", "scenario", "ratio", "worst", "rejected", "seconds");
    let mut missed = Vec::new();
    for case in cases() {
        let (mut ratios, mut rejected, mut seconds) = (Vec::new(), 0.0, 0.0);
        for seed in 1..=SEEDS {
            let played = play(&case.scenario, seed, &case.setup, &case.jobs).unwrap();
            rejected += played.tally.slot_rejections() as f64 / played.tally.requests as f64 / SEEDS as f64;
            seconds += played.makespan.as_secs_f64() / SEEDS as f64;
            if case.setup.clients.len() > 1 {
                // They are stopped in the middle of their work: what counts is how much of the cap they used.
                assert!(played.failed.is_empty() && played.tally.duplicates.is_empty(), "{}, seed {seed}", case.name);
                ratios.push(played.tally.utilisation().unwrap());
                continue;
            }
            check(case.name, seed, case.jobs.len(), &played);
            let work = Jobs { round_trip: case.setup.round_trip, ..Jobs::new(played.completed) };
            let ideal = oracle::knowing(&case.scenario, seed, &work).unwrap();
            ratios.push(ideal.makespan.as_secs_f64() / played.makespan.as_secs_f64());
        }
        let mean = ratios.iter().sum::<f64>() / SEEDS as f64;
        let worst = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        println!("{:<40} {mean:>8.3} {worst:>9.3} {:>8.2}% {seconds:>9.0}", case.name, rejected * 100.0);
        if mean < case.floor.0 || rejected > case.floor.1 {
            missed.push((case.name, mean, rejected));
        }
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
    for seed in 1..=SEEDS {
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
