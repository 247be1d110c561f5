//! A number somebody wrote down: so many requests at once, whatever happens.

use std::time::Duration;

use tidegate::core::time::Timestamp;

use super::engine::{Failure, Policy, exponential};

/// A fixed number of workers, each with the retry loop of the guides: six attempts, waits of 1 s doubling to 60 s with up
/// to a quarter more, and a worker that waits keeps its place
/// (<https://developers.openai.com/cookbook/examples/how_to_handle_rate_limits>: `wait_random_exponential(min=1, max=60)`,
/// `stop_after_attempt(6)`; the quarter in place of its wider spread, for it costs a fixed number less).
pub(crate) struct Fixed {
    pub(crate) concurrency: usize,
}

impl Policy for Fixed {
    fn has_room(&mut self, _now: Timestamp, in_flight: usize) -> bool {
        in_flight < self.concurrency
    }

    fn limit(&self) -> Option<usize> {
        Some(self.concurrency)
    }

    fn retry_after(&mut self, failures: u32, failure: &Failure<'_>, rng: &mut fastrand::Rng) -> Option<Duration> {
        let backoff = exponential(failures, 1.0, 60.0, 0.0, rng).mul_f64(1.0 + 0.25 * rng.f64());
        (failures < 6).then(|| failure.asked_wait().map_or(backoff, |asked| asked.max(backoff)))
    }

    fn keeps_its_place(&self) -> bool {
        true
    }
}

/// `p-queue` around `p-retry`, the usual pair in JavaScript. p-queue's own concurrency is unlimited, so a user picks one:
/// 10 here, a round number. p-retry's defaults: ten retries, after 1 s doubling without bound and without jitter
/// (<https://github.com/sindresorhus/p-retry#options>, <https://github.com/sindresorhus/p-queue#options>). The retries
/// run inside the queued function, so a job that waits keeps its place; `Retry-After` is not looked at.
pub(crate) struct PQueue {
    pub(crate) concurrency: usize,
}

impl Policy for PQueue {
    fn has_room(&mut self, _now: Timestamp, in_flight: usize) -> bool {
        in_flight < self.concurrency
    }

    fn limit(&self) -> Option<usize> {
        Some(self.concurrency)
    }

    fn retry_after(&mut self, failures: u32, _failure: &Failure<'_>, rng: &mut fastrand::Rng) -> Option<Duration> {
        (failures <= 10).then(|| exponential(failures, 1.0, f64::INFINITY, 0.0, rng))
    }

    fn keeps_its_place(&self) -> bool {
        true
    }
}

/// The `openai` package as it comes: everything is sent at once and each request retried twice, after 0.5 s doubling to
/// 8 s less up to a quarter, or after what `retry-after-ms` or `retry-after` ask if that is less than a minute
/// (<https://github.com/openai/openai-node/blob/master/src/client.ts>, `shouldRetry`, `retryRequest` and
/// `calculateDefaultRetryTimeoutMillis`). An answer that breaks off after its head is not retried.
pub(crate) struct OpenAi;

impl Policy for OpenAi {
    fn has_room(&mut self, _now: Timestamp, _in_flight: usize) -> bool {
        true
    }

    fn retry_after(&mut self, failures: u32, failure: &Failure<'_>, rng: &mut fastrand::Rng) -> Option<Duration> {
        if failures > 2 || (failure.refused.is_none() && !failure.reset) {
            return None;
        }
        let asked = failure.asked_wait().filter(|asked| !asked.is_zero() && *asked < Duration::from_secs(60));
        Some(asked.unwrap_or_else(|| exponential(failures, 0.5, 8.0, 0.25, rng)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESET: Failure<'static> = Failure { refused: None, reset: true };

    #[test]
    fn p_retry_doubles_from_a_second_and_gives_up_after_ten_retries() {
        let mut rng = fastrand::Rng::with_seed(1);
        let waits: Vec<_> =
            (1..=12).map_while(|n| PQueue { concurrency: 1 }.retry_after(n, &RESET, &mut rng)).collect();
        let seconds: Vec<_> = waits.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
    }

    #[test]
    fn openai_retries_twice_after_half_a_second_and_a_second_less_up_to_a_quarter() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let first = OpenAi.retry_after(1, &RESET, &mut rng).unwrap().as_secs_f64();
            let second = OpenAi.retry_after(2, &RESET, &mut rng).unwrap().as_secs_f64();
            assert!((0.375..=0.5).contains(&first) && (0.75..=1.0).contains(&second), "{first} {second}");
        }
        assert_eq!(OpenAi.retry_after(3, &RESET, &mut rng), None);
        let broken = Failure { refused: None, reset: false };
        assert_eq!(OpenAi.retry_after(1, &broken, &mut rng), None);
    }

    #[test]
    fn the_guides_make_six_attempts() {
        let mut rng = fastrand::Rng::with_seed(1);
        let waits = (1..=9).map_while(|n| Fixed { concurrency: 1 }.retry_after(n, &RESET, &mut rng)).count();
        assert_eq!(waits, 5);
    }
}
