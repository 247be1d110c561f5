//! Runs a scenario with every peer and takes the figures.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate::sim::oracle;
use tidegate::sim::play::{Client, Job, Played, Setup, play, play_clients};
use tidegate::sim::tally::{RejectReason, Sample};

use crate::cases::{Case, Measure, Share};
use crate::peers::{Brief, Peer};

/// What one peer made of one scenario: of one run, or the mean of several.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Figures {
    /// Goodput over the oracle's.
    pub(crate) goodput: f64,
    /// The share of attempts answered 429.
    pub(crate) rejected: f64,
    /// Jobs that the oracle finished and this one did not, as a share of the oracle's.
    pub(crate) lost: f64,
    /// Seconds people waited until their request was sent for good: half of them, and 99 of 100.
    pub(crate) wait_median: Option<f64>,
    pub(crate) wait_p99: Option<f64>,
    /// Jain's index of what each had: 1 is even, 1/n is one having all.
    pub(crate) fairness: Option<f64>,
    /// Seconds from cold until 90 % of the cap was used; infinite if never.
    pub(crate) converged: Option<f64>,
    /// 429s within ten seconds of a change of the cap, for each change.
    pub(crate) per_change: Option<f64>,
}

/// One peer's run, with what a chart needs.
pub(crate) struct Run {
    pub(crate) figures: Figures,
    pub(crate) samples: Vec<Sample>,
    /// (seconds, limit) whenever the client changed its limit; empty where there are several limits.
    pub(crate) limits: Vec<(f64, u32)>,
}

/// What all peers made of a scenario on one seed, and the oracle's run.
pub(crate) struct Outcome {
    pub(crate) runs: Vec<Run>,
    pub(crate) oracle: Run,
}

/// Plays `case` on `seed` with each of `peers`.
pub(crate) fn run(case: &Case, seed: u64, peers: &[&Peer]) -> Outcome {
    let jobs = (case.jobs)(seed);
    let ideal = oracle::knowing_calls(&case.scenario, seed, &case.setup, &jobs).expect("the scenario makes sense");
    let setup = setup(case, seed);
    let models = models(&jobs);
    let count = setup.clients.len();
    let right = (right(&ideal) / count as f64).round().max(1.0) as usize;
    let runs = peers
        .iter()
        .map(|peer| {
            let brief = |client| Brief { setup: &setup, client, right, seed };
            let mut clients: Vec<Box<dyn Client>> =
                (0..count).map(|client| peer.client(brief(client), &models)).collect();
            let mut borrowed: Vec<&mut dyn Client> = clients.iter_mut().map(|client| &mut **client as _).collect();
            let played = play_clients(&case.scenario, seed, &setup, &mut borrowed, &jobs);
            let played = played.expect("the scenario makes sense");
            let limits = if count == 1 && models.len() == 1 { played.limits.clone() } else { Vec::new() };
            Run { figures: figures(case, &jobs, &played, &ideal), samples: played.samples, limits }
        })
        .collect();
    let oracle = Run { figures: figures(case, &jobs, &ideal, &ideal), samples: ideal.samples, limits: Vec::new() };
    Outcome { runs, oracle }
}

/// The setup of `case`, with what was learned before.
pub(crate) fn setup(case: &Case, seed: u64) -> Setup {
    let mut setup = case.setup.clone();
    if let Some(before) = &case.learned_on {
        // A batch like this one went before, on other draws.
        let played = play(before, seed + 1000, &setup, &(case.jobs)(seed)).expect("the scenario makes sense");
        setup.learned = played.learned;
    }
    setup
}

fn models(jobs: &[Job]) -> Vec<&'static str> {
    let mut models: Vec<_> = jobs.iter().map(|job| job.model).collect();
    models.sort_unstable();
    models.dedup();
    models
}

/// The concurrency a well-informed user would write down: the average cap, or what was in use on average where something
/// else than the cap limits.
fn right(ideal: &Played) -> f64 {
    let paced = ideal.tally.lanes.iter().all(|lane| lane.used < 0.5 * lane.offered);
    let mean = |lane: &tidegate::sim::tally::LaneTally| {
        (if paced { lane.used } else { lane.offered }) / (lane.to - lane.from).max(1e-9)
    };
    ideal.tally.lanes.iter().map(mean).sum()
}

pub(crate) fn figures(case: &Case, jobs: &[Job], played: &Played, ideal: &Played) -> Figures {
    let finished = |played: &Played| played.answered.iter().flatten().max().copied().unwrap_or_default();
    let done = played.completed as f64 / ideal.completed.max(1) as f64;
    // An oracle that waits for answers can be beaten by who keeps more than the cap on the wire; that is no goodput.
    let goodput = match case.measure {
        // Whoever is done sooner because it lost jobs gains nothing by it.
        Measure::Batch => {
            done.min(1.0) * finished(ideal).as_secs_f64() / finished(played).max(finished(ideal)).as_secs_f64()
        }
        Measure::Work => (played.completed as f64 / ideal.completed as f64).min(1.0),
        Measure::Answer => {
            let end = finished(ideal);
            (answer_time(jobs, ideal, end) / answer_time(jobs, played, end).max(1e-9)).min(1.0)
        }
    };
    let throttled = [RejectReason::Slot, RejectReason::UserSlot, RejectReason::Rpm, RejectReason::Tpm];
    let rejected: u64 = throttled.iter().filter_map(|reason| played.tally.rejected.get(reason)).sum();
    let lost = match case.measure {
        Measure::Work => played.failed.len() as f64 / jobs.len() as f64,
        // Those given up by their callers are nobody's loss; what the oracle had done before they were is.
        _ => (1.0 - (played.completed + played.cancelled) as f64 / ideal.completed.max(1) as f64).max(0.0),
    };
    let people = played.waits.get("interactive").filter(|_| case.people);
    Figures {
        goodput,
        rejected: rejected as f64 / played.tally.requests.max(1) as f64,
        lost,
        wait_median: people.map(|waits| percentile(waits, 0.5)),
        wait_p99: people.map(|waits| percentile(waits, 0.99)),
        fairness: fairness(case.share, jobs, played),
        converged: case.cold.then(|| converged(played)),
        per_change: per_change(&played.samples, case.setup.sample_every),
    }
}

/// Seconds from submission to answer, on average. A job that was lost counts as if it still waited at `end`.
fn answer_time(jobs: &[Job], played: &Played, end: Duration) -> f64 {
    let times = jobs.iter().zip(&played.answered).map(|(job, at)| at.unwrap_or(end).saturating_sub(job.at));
    times.map(|time| time.as_secs_f64()).sum::<f64>() / jobs.len() as f64
}

fn percentile(waits: &[Duration], share: f64) -> f64 {
    let mut waits = waits.to_vec();
    waits.sort_unstable();
    waits.get(((waits.len().saturating_sub(1)) as f64 * share).ceil() as usize).map_or(0.0, Duration::as_secs_f64)
}

/// Jain's index (<https://www.rfc-editor.org/rfc/rfc5166#section-2.3.2>) over the jobs answered for each.
fn fairness(share: Share, jobs: &[Job], played: &Played) -> Option<f64> {
    let group = |job: &Job| match share {
        Share::Nobody => None,
        Share::Clients => Some(job.client.to_string()),
        Share::Workloads => Some(job.workload.to_owned()),
        Share::Users => job.user_id.map(str::to_owned),
    };
    let mut had: BTreeMap<String, f64> = BTreeMap::new();
    for (job, answered) in jobs.iter().zip(&played.answered) {
        *had.entry(group(job)?).or_default() += f64::from(answered.is_some());
    }
    Some(jain(had.values().copied()))
}

fn jain(shares: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = shares.clone().count() as f64;
    let (sum, squares) = (shares.clone().sum::<f64>(), shares.map(|share| share * share).sum::<f64>());
    if squares > 0.0 { sum * sum / (count * squares) } else { 1.0 }
}

fn converged(played: &Played) -> f64 {
    let reached = |sample: &&Sample| f64::from(sample.in_flight) >= 0.9 * f64::from(sample.cap);
    played.samples.iter().find(reached).map_or(f64::INFINITY, |sample| sample.at)
}

/// The 429s after each change of the cap; none where it changes all the time.
fn per_change(samples: &[Sample], every: Option<Duration>) -> Option<f64> {
    const AFTER: f64 = 10.0;
    let window = (AFTER / every?.as_secs_f64()) as usize;
    let changes: Vec<usize> = (1..samples.len()).filter(|&n| samples[n].cap != samples[n - 1].cap).collect();
    if changes.is_empty() || changes.windows(2).any(|pair| pair[1] - pair[0] < window) {
        return None;
    }
    let after = |&n: &usize| samples[(n + window).min(samples.len() - 1)].rejected - samples[n - 1].rejected;
    Some(changes.iter().map(after).sum::<u64>() as f64 / changes.len() as f64)
}

/// The mean of several runs.
pub(crate) fn mean(runs: &[Figures]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| runs.iter().map(figure).sum::<f64>() / runs.len() as f64;
    let maybe = |figure: fn(&Figures) -> Option<f64>| {
        let some: Vec<f64> = runs.iter().filter_map(figure).collect();
        (!some.is_empty()).then(|| some.iter().sum::<f64>() / some.len() as f64)
    };
    Figures {
        goodput: of(|f| f.goodput),
        rejected: of(|f| f.rejected),
        lost: of(|f| f.lost),
        wait_median: maybe(|f| f.wait_median),
        wait_p99: maybe(|f| f.wait_p99),
        fairness: maybe(|f| f.fairness),
        converged: maybe(|f| f.converged),
        per_change: maybe(|f| f.per_change),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jain_is_one_for_even_shares_and_a_part_for_one_having_all() {
        assert_eq!(jain([5.0, 5.0, 5.0].into_iter()), 1.0);
        assert_eq!(jain([9.0, 0.0, 0.0].into_iter()), 1.0 / 3.0);
        // (1 + 2 + 3)² / (3 · 14)
        assert!((jain([1.0, 2.0, 3.0].into_iter()) - 36.0 / 42.0).abs() < 1e-12);
    }

    #[test]
    fn percentiles_are_of_the_sorted_waits() {
        let waits: Vec<_> = (0..=100).rev().map(Duration::from_secs).collect();
        assert_eq!((percentile(&waits, 0.5), percentile(&waits, 0.99), percentile(&[], 0.5)), (50.0, 99.0, 0.0));
    }

    #[test]
    fn rejections_are_counted_by_change_of_the_cap() {
        let sample = |n: u32, cap, rejected| Sample { at: f64::from(n), cap, in_flight: 0, rejected };
        let samples: Vec<_> =
            (0..60).map(|n| sample(n, if n < 20 { 64 } else { 16 }, u64::from(n >= 22) * 3)).collect();
        assert_eq!(per_change(&samples, Some(Duration::from_secs(1))), Some(3.0));
        assert_eq!(per_change(&samples[..10], Some(Duration::from_secs(1))), None);
    }
}
