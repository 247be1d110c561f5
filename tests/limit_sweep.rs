//! The whole scheduler over the range of what a provider may be, to find where it falls off a cliff: services from 20 ms
//! to ten minutes, caps from 1 to 5,000, networks from 1 ms to 2 s, and scenarios drawn at random.

#![cfg(feature = "sim")]

use std::time::Duration;

use tidegate::sim::oracle::{self, Jobs};
use tidegate::sim::play::{Job, Setup, play};
use tidegate::sim::scenario::{BodyStyle, Cap, Dist, Lognormal, Rejection, Scenario};

fn provider(cap: Cap, time: Dist) -> Scenario {
    let rejection = Rejection { body: BodyStyle::Plain, ..Rejection::default() };
    let mut scenario = Scenario { cap: Some(cap), rejection, ..Scenario::constant(1) };
    scenario.service.time = Some(time);
    scenario
}

/// What a run came to.
struct Run {
    /// The oracle's makespan over ours.
    ratio: f64,
    rejections: u64,
    /// Share of the attempts.
    rejected: f64,
}

fn measure(scenario: &Scenario, seed: u64, setup: &Setup, jobs: usize) -> Run {
    let mut setup = setup.clone();
    for client in &mut setup.clients {
        // Services of ten minutes are no stall, and a job that waits for hours is not to be given up.
        client.clocks.idle = None;
        client.clocks.first_content = None;
        client.retry.max_elapsed = Duration::MAX;
    }
    let played = play(scenario, seed, &setup, &Job::batch(jobs)).unwrap();
    assert_eq!((played.completed, played.unaccounted), (jobs, 0), "{scenario:?}, seed {seed}");
    assert!(played.tally.duplicates.is_empty(), "{scenario:?}, seed {seed}");
    let ideal = oracle::knowing(scenario, seed, &Jobs { round_trip: setup.round_trip, ..Jobs::new(jobs) }).unwrap();
    let rejections = played.tally.slot_rejections();
    Run {
        ratio: ideal.makespan.as_secs_f64() / played.makespan.as_secs_f64(),
        rejections,
        rejected: rejections as f64 / played.tally.requests as f64,
    }
}

#[test]
fn no_service_cap_or_network_is_a_cliff() {
    let (mut runs, mut missed) = (0, Vec::new());
    for round_trip in [0.001, 0.04, 0.3, 2.0] {
        for service in [0.02f64, 0.2, 2.0, 30.0, 600.0] {
            for cap in [1u32, 2, 8, 64, 500, 5000] {
                let span = f64::max(20.0 * (service + round_trip), 60.0);
                let jobs = (f64::from(cap) * span / (service + round_trip)) as usize;
                if jobs > 20_000 {
                    continue;
                }
                let time = Dist::Lognormal(Lognormal { median: service, sigma: 0.5, max: Some(4.0 * service) });
                let round_trip = Duration::from_secs_f64(round_trip);
                let setup = Setup { round_trip, ..Setup::clients(1) };
                let run = measure(&provider(Cap::Constant(cap), time), 1, &setup, jobs);
                runs += 1;
                // On a slow network all caps are overshot in the dark, and a minute's work is half climbing.
                let near = round_trip < Duration::from_millis(200);
                let (least, few, share) = if near { (0.98, 40, 0.01) } else { (0.6, 180, 0.45) };
                let most = few + (share * jobs as f64) as u64;
                if run.ratio < least || run.rejections > most {
                    missed.push((round_trip, service, cap, jobs, run.ratio, run.rejections));
                }
            }
        }
    }
    println!("{runs} providers");
    assert!(runs > 80 && missed.is_empty(), "{missed:#?}");
}

/// A cap, services and a network drawn at random.
fn drawn(seed: u64) -> (Scenario, Setup, usize) {
    use tidegate::sim::scenario::{Sawtooth, Steps, Walk};
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let mut between = |low: f64, high: f64| low * (high / low).powf(rng.f64());
    let top = between(4.0, 400.0) as u32;
    let low = (f64::from(top) * between(0.1, 0.8)) as u32;
    let every = between(20.0, 300.0);
    let service = between(0.3, 20.0);
    let round_trip = between(0.005, 0.25);
    let delay = between(0.005, 0.5);
    let cap = match seed % 4 {
        0 => {
            let points =
                (0..40).map(|i| (f64::from(i) * every, (between(f64::from(low.max(1)), f64::from(top))) as u32));
            Cap::Steps(Steps { points: points.collect(), repeat: None })
        }
        1 => Cap::Sawtooth(Sawtooth { low: low.max(1), high: top, period: every, falling: seed % 8 > 3 }),
        2 => Cap::Walk(Walk {
            start: top,
            low: low.max(1),
            high: top * 2,
            every: every / 10.0,
            spread: between(0.02, 0.2),
        }),
        _ => Cap::Constant(top),
    };
    let time = Dist::Lognormal(Lognormal { median: service, sigma: between(0.1, 0.8), max: Some(5.0 * service) });
    let mut scenario = provider(cap, time);
    scenario.rejection.latency = delay;
    let jobs = (f64::from(top) * 600.0 / service).min(15_000.0) as usize;
    let setup = Setup { round_trip: Duration::from_secs_f64(round_trip), ..Setup::clients(1) };
    (scenario, setup, jobs)
}

#[test]
fn what_is_drawn_at_random_is_hardly_harder_than_what_was_chosen() {
    let kinds = ["steps", "sawtooth", "walk", "constant"];
    let floors = [(0.93, 0.02), (0.69, 0.11), (0.95, 0.035), (0.982, 0.012)];
    let mut sums = [(0.0, 0.0); 4];
    const EACH: u64 = 12;
    for seed in 0..4 * EACH {
        let (scenario, setup, jobs) = drawn(seed);
        let run = measure(&scenario, seed, &setup, jobs);
        let sum = &mut sums[seed as usize % 4];
        *sum = (sum.0 + run.ratio / EACH as f64, sum.1 + run.rejected / EACH as f64);
    }
    for ((kind, (ratio, rejected)), floor) in kinds.into_iter().zip(sums).zip(floors) {
        println!("{kind:<10} ratio {ratio:.3}, rejected {:.2} %", rejected * 100.0);
        assert!(ratio >= floor.0 && rejected <= floor.1, "{kind}: {ratio:.3}, {rejected:.4}");
    }
}
