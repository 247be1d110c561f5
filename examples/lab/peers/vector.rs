//! Vector's Adaptive Request Concurrency
//! (<https://github.com/vectordotdev/vector/tree/master/src/sinks/util/adaptive_concurrency>, its description
//! <https://vector.dev/docs/architecture/arc/>): additive increase once in a round trip while answers are no slower than
//! their average and the limit was reached; a tenth less when they are much slower or the service pushed back.
//!
//! The limiter is outside the retries: a request that waits to be sent again keeps its place (`ShrinkableSemaphore`), and
//! only the attempt that was answered is timed. Vector's defaults: retries without end after waits that follow Fibonacci
//! from 1 s to 30 s, with full jitter. What had to be decided: 429 and 5xx are back pressure (`RetryAction::Retry`); its
//! `max_concurrency_limit` of 200 is raised to 10,000, and its time limit of 60 s for a request is left out.

use std::time::Duration;

use tidegate::core::time::Timestamp;

use super::engine::{Ended, Failure, Policy, Sample};

const MOST: usize = 10_000;
const DECREASE_RATIO: f64 = 0.9;
const EWMA_ALPHA: f64 = 0.4;
const RTT_DEVIATION_SCALE: f64 = 2.5;

pub(crate) struct Arc {
    limit: usize,
    /// Mean and variance of round-trip times, exponentially weighted.
    past: Option<(f64, f64)>,
    next_update: Timestamp,
    /// Sum and count of round-trip times in this interval.
    current: (f64, u32),
    back_pressure: bool,
    reached_limit: bool,
}

impl Arc {
    pub(crate) fn new() -> Self {
        Self {
            limit: 1,
            past: None,
            next_update: Timestamp::ZERO,
            current: (0.0, 0),
            back_pressure: false,
            reached_limit: false,
        }
    }

    fn learn(&mut self, rtt: f64) -> f64 {
        let (mean, variance) = match self.past {
            None => (rtt, 0.0),
            Some((mean, variance)) => {
                let difference = rtt - mean;
                let increment = EWMA_ALPHA * difference;
                (mean + increment, (1.0 - EWMA_ALPHA) * (variance + difference * increment))
            }
        };
        self.past = Some((mean, variance));
        mean
    }

    /// A request is over, its retries included.
    fn complete(&mut self, now: Timestamp) {
        let average = (self.current.1 > 0).then(|| self.current.0 / f64::from(self.current.1));
        let Some((mean, variance)) = self.past else {
            if let Some(average) = average {
                self.learn(average);
                self.next_update = now.plus_secs(average);
            }
            return;
        };
        if now < self.next_update {
            return;
        }
        let threshold = variance.sqrt() * RTT_DEVIATION_SCALE;
        if self.limit < MOST && self.reached_limit && !self.back_pressure && average.is_some_and(|rtt| rtt <= mean) {
            self.limit += 1;
        } else if self.limit > 1 && (self.back_pressure || average.unwrap_or(0.0) >= mean + threshold) {
            self.limit = ((self.limit as f64 * DECREASE_RATIO) as usize).max(1);
        }
        let mean = average.map_or(mean, |average| self.learn(average));
        self.next_update = now.plus_secs(mean);
        self.current = (0.0, 0);
        self.back_pressure = false;
        self.reached_limit = false;
    }
}

impl Policy for Arc {
    fn has_room(&mut self, _now: Timestamp, in_flight: usize) -> bool {
        in_flight < self.limit
    }

    fn limit(&self) -> Option<usize> {
        Some(self.limit)
    }

    fn on_send(&mut self, _now: Timestamp, in_flight: usize, first: bool) {
        if first && in_flight >= self.limit {
            self.reached_limit = true;
        }
    }

    fn on_end(&mut self, sample: &Sample) {
        match sample.ended {
            Ended::Whole => {
                self.current = (self.current.0 + sample.rtt(), self.current.1 + 1);
                self.complete(sample.now);
            }
            Ended::Throttled | Ended::Unavailable | Ended::Failed => self.back_pressure = true,
        }
    }

    fn retry_after(&mut self, failures: u32, _failure: &Failure<'_>, rng: &mut fastrand::Rng) -> Option<Duration> {
        Some(Duration::from_secs_f64(fibonacci(failures) * rng.f64()))
    }

    fn keeps_its_place(&self) -> bool {
        true
    }
}

/// The longest wait after the `failures`-th failure: 1, 2, 3, 5 … 30 s. The policy moves on before it first waits, so the
/// leading 1 of the series is never seen twice.
fn fibonacci(failures: u32) -> f64 {
    let (mut previous, mut current) = (0.0, 1.0);
    for _ in 0..failures.min(32) {
        (previous, current) = (current, f64::min(previous + current, 30.0));
    }
    current
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(arc: &mut Arc, at: f64, rtt: f64, ended: Ended) -> usize {
        let now = Timestamp::from_secs_f64(at);
        arc.on_send(now, arc.limit, true);
        arc.on_end(&Sample { sent: Timestamp::from_secs_f64(at - rtt), now, in_flight: 1, ended });
        arc.limit
    }

    #[test]
    fn arc_adds_one_a_round_trip_and_takes_a_tenth_on_back_pressure() {
        let mut arc = Arc::new();
        // The first answer starts the average; from then on one step a round trip of one second.
        assert_eq!(answer(&mut arc, 1.0, 1.0, Ended::Whole), 1);
        assert_eq!(answer(&mut arc, 1.5, 1.0, Ended::Whole), 1, "the interval is not over");
        assert_eq!(answer(&mut arc, 2.0, 1.0, Ended::Whole), 2);
        assert_eq!(answer(&mut arc, 3.0, 1.0, Ended::Whole), 3);
        // Slower than the average, but within its deviation: neither. The variance is 0, so 1.0 + 0 is the threshold.
        assert_eq!(answer(&mut arc, 4.0, 1.1, Ended::Whole), 2, "slower than all before is back pressure");
        arc.limit = 20;
        answer(&mut arc, 4.5, 0.1, Ended::Throttled);
        assert_eq!(answer(&mut arc, 6.0, 1.0, Ended::Whole), 18);
    }

    #[test]
    fn arc_waits_along_fibonacci_to_half_a_minute() {
        assert_eq!([1, 2, 3, 4, 5, 6, 7, 8, 20].map(fibonacci), [1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 30.0, 30.0]);
    }
}
