//! Netflix's `concurrency-limits` (<https://github.com/Netflix/concurrency-limits>, commit 784c960 and before), limiting a
//! client: at most `limit` requests out, and each that ends is a sample of round-trip time, requests in flight when it
//! was sent, and whether it was dropped.
//!
//! What had to be decided: a 429 or 5xx is a drop, as `UNAVAILABLE` is in its gRPC interceptor, other failures are
//! ignored; the library does not retry, so a rejected job goes back to the front of its user's queue and waits like
//! [`requeue`]. Two defaults would have measured only themselves and are raised: the most that Gradient2 (200) and Vegas
//! (1,000) may reach, to 10,000; and AIMD's time limit, for every answer slower than 5 s counts as a drop there, to an hour.

use std::time::Duration;

use tidegate::core::time::Timestamp;

use super::engine::{Ended, Failure, Policy, Sample, requeue};

const MOST: f64 = 10_000.0;

/// One of the library's algorithms.
pub(crate) trait Algorithm {
    /// Takes in a sample; returns the limit.
    fn update(&mut self, rtt: f64, in_flight: usize, dropped: bool, rng: &mut fastrand::Rng) -> usize;
}

/// A client under one of them (`SimpleLimiter`).
pub(crate) struct Netflix<A> {
    algorithm: A,
    limit: usize,
    rng: fastrand::Rng,
}

impl<A: Algorithm> Netflix<A> {
    pub(crate) fn new(algorithm: A, initial: usize, seed: u64) -> Self {
        Self { algorithm, limit: initial, rng: fastrand::Rng::with_seed(seed) }
    }
}

impl<A: Algorithm> Policy for Netflix<A> {
    fn has_room(&mut self, _now: Timestamp, in_flight: usize) -> bool {
        in_flight < self.limit
    }

    fn limit(&self) -> Option<usize> {
        Some(self.limit)
    }

    fn on_end(&mut self, sample: &Sample) {
        let dropped = match sample.ended {
            Ended::Whole => false,
            Ended::Throttled | Ended::Unavailable => true,
            Ended::Failed => return,
        };
        self.limit = self.algorithm.update(sample.rtt(), sample.in_flight, dropped, &mut self.rng);
    }

    fn retry_after(&mut self, failures: u32, failure: &Failure<'_>, rng: &mut fastrand::Rng) -> Option<Duration> {
        requeue(failures, failure, rng)
    }
}

/// `AIMDLimit`: one more with each answer while at least half of the limit is in use, a tenth less with each drop.
pub(crate) struct Aimd {
    limit: usize,
}

impl Aimd {
    pub(crate) const INITIAL: usize = 10;
    const BACKOFF_RATIO: f64 = 0.9;
    const TIMEOUT: f64 = 3600.0;

    pub(crate) fn new() -> Self {
        Self { limit: Self::INITIAL }
    }
}

impl Algorithm for Aimd {
    fn update(&mut self, rtt: f64, in_flight: usize, dropped: bool, _rng: &mut fastrand::Rng) -> usize {
        if dropped || rtt > Self::TIMEOUT {
            let less = (self.limit as f64 * Self::BACKOFF_RATIO) as usize;
            self.limit = less.min(self.limit - 1).max(1);
        } else if in_flight * 2 >= self.limit {
            self.limit += 1;
        }
        self.limit
    }
}

/// `Gradient2Limit`: the limit follows the ratio of long-term to present round-trip time, plus room for a queue of 4,
/// smoothed. A drop is a round-trip time like any other to it.
pub(crate) struct Gradient2 {
    limit: f64,
    long_rtt: f64,
    /// Samples while it warms up, and their sum.
    warm: (usize, f64),
}

impl Gradient2 {
    pub(crate) const INITIAL: usize = 20;
    const LEAST: f64 = 20.0;
    const QUEUE: f64 = 4.0;
    const SMOOTHING: f64 = 0.2;
    const LONG_WINDOW: f64 = 600.0;
    const WARM_UP: usize = 10;

    pub(crate) fn new() -> Self {
        Self { limit: Self::INITIAL as f64, long_rtt: 0.0, warm: (0, 0.0) }
    }
}

impl Algorithm for Gradient2 {
    fn update(&mut self, rtt: f64, in_flight: usize, _dropped: bool, _rng: &mut fastrand::Rng) -> usize {
        if self.warm.0 < Self::WARM_UP {
            self.warm = (self.warm.0 + 1, self.warm.1 + rtt);
            self.long_rtt = self.warm.1 / self.warm.0 as f64;
        } else {
            let factor = 2.0 / (Self::LONG_WINDOW + 1.0);
            self.long_rtt = self.long_rtt * (1.0 - factor) + rtt * factor;
        }
        // The ratio below is of the average before it is cut, as in the original.
        let long_rtt = self.long_rtt;
        if long_rtt / rtt > 2.0 {
            self.long_rtt *= 0.9;
        }
        if (in_flight as f64) < self.limit / 2.0 {
            return self.limit as usize;
        }
        let gradient = (long_rtt / rtt).clamp(0.5, 1.0);
        let wanted = self.limit * gradient + Self::QUEUE;
        let smooth = self.limit * (1.0 - Self::SMOOTHING) + wanted * Self::SMOOTHING;
        self.limit = smooth.clamp(Self::LEAST, MOST);
        self.limit as usize
    }
}

/// `VegasLimit`: estimates a queue from how much slower than the fastest answers are, and steps by the logarithm of the
/// limit.
pub(crate) struct Vegas {
    limit: f64,
    /// The fastest answer; zero before the first.
    best_rtt: f64,
    probe_count: f64,
    probe_jitter: f64,
}

impl Vegas {
    pub(crate) const INITIAL: usize = 20;
    const PROBE_MULTIPLIER: f64 = 30.0;

    pub(crate) fn new() -> Self {
        // The first jitter is drawn with the first sample; the library draws it when built.
        Self { limit: Self::INITIAL as f64, best_rtt: 0.0, probe_count: 0.0, probe_jitter: 0.75 }
    }

    /// `Log10RootFunction`.
    fn log10(limit: f64) -> f64 {
        limit.trunc().log10().trunc().max(1.0)
    }
}

impl Algorithm for Vegas {
    fn update(&mut self, rtt: f64, in_flight: usize, dropped: bool, rng: &mut fastrand::Rng) -> usize {
        self.probe_count += 1.0;
        if self.probe_jitter * Self::PROBE_MULTIPLIER * self.limit <= self.probe_count {
            self.probe_jitter = 0.5 + 0.5 * rng.f64();
            self.probe_count = 0.0;
            self.best_rtt = rtt;
            return self.limit as usize;
        }
        if self.best_rtt == 0.0 || rtt < self.best_rtt {
            self.best_rtt = rtt;
            return self.limit as usize;
        }
        let queue = (self.limit * (1.0 - self.best_rtt / rtt)).ceil();
        let log = Self::log10(self.limit);
        let (alpha, beta, threshold) = (3.0 * log, 6.0 * log, log);
        let wanted = if dropped {
            self.limit - log
        } else if (in_flight as f64) * 2.0 < self.limit {
            self.limit
        } else if queue <= threshold {
            self.limit + beta
        } else if queue < alpha {
            self.limit + log
        } else if queue > beta {
            self.limit - log
        } else {
            self.limit
        };
        self.limit = wanted.clamp(1.0, MOST);
        self.limit as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed<A: Algorithm>(algorithm: &mut A, samples: &[(f64, usize, bool)]) -> Vec<usize> {
        let mut rng = fastrand::Rng::with_seed(1);
        samples.iter().map(|&(rtt, in_flight, dropped)| algorithm.update(rtt, in_flight, dropped, &mut rng)).collect()
    }

    #[test]
    fn aimd_adds_one_in_use_and_takes_a_tenth_on_a_drop() {
        let samples = [(1.0, 5, false), (1.0, 5, false), (1.0, 6, false), (0.1, 12, true), (0.1, 10, true)];
        // 10 → 11 (5 is half of 10), 11 (5 is less than half), 12, ⌊10.8⌋, ⌊9⌋.
        assert_eq!(feed(&mut Aimd::new(), &samples), [11, 11, 12, 10, 9]);
    }

    #[test]
    fn gradient2_grows_by_a_fifth_of_its_queue_while_answers_are_as_fast_as_ever() {
        // 20 → 20.8 → 21.6, and not at all while less than half of it is in use.
        let mut gradient = Gradient2::new();
        assert_eq!(feed(&mut gradient, &[(1.0, 20, false), (1.0, 20, false), (1.0, 10, false)]), [20, 21, 21]);
        assert!((gradient.limit - 21.6).abs() < 1e-9);
        // Twice as slow: the average of three is 4/3, the gradient 2/3; 21.6 · 2/3 + 4 = 18.4; 0.8 · 21.6 + 0.2 · 18.4.
        let mut slower = Gradient2 { limit: 21.6, long_rtt: 1.0, warm: (2, 2.0) };
        feed(&mut slower, &[(2.0, 20, false)]);
        assert!((slower.limit - 20.96).abs() < 1e-9, "{}", slower.limit);
    }

    #[test]
    fn vegas_steps_by_the_logarithm_of_its_limit() {
        // The first sample sets the best time. No queue: + 6 · log10(20) = 6. Queue of ⌈26 · (1 - 1/2)⌉ = 13 > 6: - 1.
        // A queue of ⌈25 · (1 - 1/1.1)⌉ = 3 is within alpha and beta. A drop: - 1.
        let samples = [(1.0, 20, false), (1.0, 20, false), (2.0, 26, false), (1.1, 25, false), (1.1, 25, true)];
        assert_eq!(feed(&mut Vegas::new(), &samples), [20, 26, 25, 25, 24]);
    }
}
