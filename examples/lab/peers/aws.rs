//! The adaptive retry mode of the AWS SDKs, as botocore has it
//! (<https://github.com/boto/botocore/blob/develop/botocore/retries/adaptive.py>, `throttling.py`, `bucket.py`): after the
//! first throttling a token bucket paces every attempt; its rate is cut to 0.7 with each throttling and grows along a
//! cubic with each other answer, to twice the measured rate at most.
//!
//! It limits a rate, not requests in flight, so everything is sent that has a token. What had to be decided: only 429 is
//! a throttling. The standard mode's three attempts and its quota of retries would lose most of a batch, as openai's do;
//! here attempts have no end, as for a user who submits again, and wait a random part of 2^n s, 20 s at most (`standard.py`).

use std::time::Duration;

use tidegate::core::time::Timestamp;

use super::engine::{Ended, Failure, Policy, Sample};

const SCALE: f64 = 0.4;
const BETA: f64 = 0.7;
const LEAST_RATE: f64 = 0.5;
const SMOOTHING: f64 = 0.8;
const BUCKET_SECONDS: f64 = 0.5;
const MOST_GROWTH: f64 = 2.0;

pub(crate) struct AwsAdaptive {
    /// Since the first throttling every attempt takes a token.
    enabled: bool,
    // The cubic.
    w_max: f64,
    k: f64,
    last_fail: f64,
    // The token bucket.
    rate: f64,
    capacity: f64,
    tokens: f64,
    filled: f64,
    // The clock of rates.
    measured: f64,
    bucket: f64,
    count: f64,
    now: f64,
}

impl AwsAdaptive {
    pub(crate) fn new() -> Self {
        Self {
            enabled: false,
            w_max: 0.0,
            k: 0.0,
            last_fail: 0.0,
            rate: 1.0,
            capacity: 1.0,
            tokens: 0.0,
            filled: 0.0,
            measured: 0.0,
            bucket: 0.0,
            count: 0.0,
            now: 0.0,
        }
    }

    fn refill(&mut self, now: f64) {
        self.tokens = (self.tokens + (now - self.filled) * self.rate).min(self.capacity);
        self.filled = now;
        self.now = now;
    }

    fn set_rate(&mut self, now: f64, rate: f64) {
        self.refill(now);
        self.rate = rate.max(LEAST_RATE);
        self.capacity = rate.max(1.0);
        self.tokens = self.tokens.min(self.capacity);
    }

    /// `RateClocker.record`: answers a second, smoothed over half seconds.
    fn record(&mut self, now: f64) -> f64 {
        let bucket = (now / BUCKET_SECONDS).floor() * BUCKET_SECONDS;
        self.count += 1.0;
        if bucket > self.bucket {
            let current = self.count / (bucket - self.bucket);
            self.measured = current * SMOOTHING + self.measured * (1.0 - SMOOTHING);
            self.count = 0.0;
            self.bucket = bucket;
        }
        self.measured
    }

    fn on_response(&mut self, now: f64, throttled: bool) {
        let measured = self.record(now);
        let rate = if throttled {
            let used = if self.enabled { measured.min(self.rate) } else { measured };
            self.w_max = used;
            self.k = (self.w_max * (1.0 - BETA) / SCALE).cbrt();
            self.last_fail = now;
            self.enabled = true;
            used * BETA
        } else {
            SCALE * (now - self.last_fail - self.k).powi(3) + self.w_max
        };
        self.set_rate(now, rate.min(MOST_GROWTH * measured));
    }
}

impl Policy for AwsAdaptive {
    fn has_room(&mut self, now: Timestamp, _in_flight: usize) -> bool {
        self.refill(now.as_secs_f64());
        !self.enabled || self.tokens >= 1.0 - 1e-9
    }

    fn room_at(&self) -> Option<Timestamp> {
        // A microsecond on top, so that rounding never wakes it before there is a token.
        let missing = (1.0 - self.tokens).max(0.0) / self.rate;
        self.enabled.then(|| Timestamp::from_secs_f64(self.now + missing + 1e-6))
    }

    fn on_send(&mut self, _now: Timestamp, _in_flight: usize, _first: bool) {
        if self.enabled {
            self.tokens -= 1.0;
        }
    }

    fn on_end(&mut self, sample: &Sample) {
        self.on_response(sample.now.as_secs_f64(), sample.ended == Ended::Throttled);
    }

    fn retry_after(&mut self, failures: u32, _failure: &Failure<'_>, rng: &mut fastrand::Rng) -> Option<Duration> {
        let most = 2f64.powi(failures.min(16) as i32 - 1).min(20.0);
        Some(Duration::from_secs_f64(most * rng.f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_measured_in_half_seconds() {
        let mut aws = AwsAdaptive::new();
        for at in [0.1, 0.2, 0.3, 0.4] {
            assert_eq!(aws.record(at), 0.0);
        }
        // Five in half a second are 10 a second, smoothed to 8.
        assert_eq!(aws.record(0.5), 8.0);
        // One more in the next half: 2 · 0.8 + 8 · 0.2.
        assert!((aws.record(1.0) - 3.2).abs() < 1e-9);
    }

    #[test]
    fn throttling_cuts_the_rate_and_success_lets_it_grow_along_the_cubic() {
        let mut aws = AwsAdaptive::new();
        for at in [0.1, 0.2, 0.3, 0.4] {
            aws.on_response(at, false);
        }
        aws.on_response(0.5, true);
        // Measured 8 a second: cut to 5.6; K is the cube root of 8 · 0.3 / 0.4.
        assert!((aws.rate - 5.6).abs() < 1e-9 && aws.enabled);
        assert!((aws.k - 6f64.cbrt()).abs() < 1e-9);
        // Two seconds later: 0.4 · (2 - 1.817)³ + 8, but at most twice the 2 · 0.4 · (1 - … ) measured by then.
        aws.count = 40.0;
        aws.on_response(2.5, false);
        let cubic = 0.4 * (2.0 - 6f64.cbrt()).powi(3) + 8.0;
        assert!((aws.rate - cubic).abs() < 1e-9, "{} {cubic}", aws.rate);
    }
}
