//! TCP's CUBIC (<https://www.rfc-editor.org/rfc/rfc9438>) with requests in place of segments: an answer is an
//! acknowledgement, a 429 a loss, the window the number of requests in flight.
//!
//! What had to be decided: losses of requests sent before the last reduction belong to the same congestion event, as in
//! fast recovery; the initial window is 10 (RFC 6928), and slow start doubles it each round until the first loss; a
//! rejected job is sent again like [`requeue`], other failures neither grow nor shrink the window.

use std::time::Duration;

use tidegate::core::time::Timestamp;

use super::engine::{Ended, Failure, Policy, Sample, requeue};

const C: f64 = 0.4;
const BETA: f64 = 0.7;
const INITIAL_WINDOW: f64 = 10.0;

pub(crate) struct Cubic {
    cwnd: f64,
    ssthresh: f64,
    w_max: f64,
    /// Since when the window grows anew, and K.
    epoch: Option<(Timestamp, f64)>,
    /// The Reno-friendly estimate.
    w_est: f64,
    cwnd_prior: f64,
    reduced: Option<Timestamp>,
    srtt: f64,
}

impl Cubic {
    pub(crate) fn new() -> Self {
        Self {
            cwnd: INITIAL_WINDOW,
            ssthresh: f64::INFINITY,
            w_max: 0.0,
            epoch: None,
            w_est: 0.0,
            cwnd_prior: INITIAL_WINDOW,
            reduced: None,
            srtt: 0.0,
        }
    }

    fn on_ack(&mut self, sample: &Sample) {
        self.srtt = if self.srtt == 0.0 { sample.rtt() } else { 0.875 * self.srtt + 0.125 * sample.rtt() };
        // Not limited by the window: RFC 9438 section 5.8 lets it stand.
        if (sample.in_flight as f64) < self.cwnd / 2.0 {
            return;
        }
        if self.cwnd < self.ssthresh {
            self.cwnd += 1.0;
            return;
        }
        let (start, k) = *self.epoch.get_or_insert_with(|| {
            self.w_est = self.cwnd;
            (sample.now, ((self.w_max - self.cwnd).max(0.0) / C).cbrt())
        });
        let w_cubic = |t: f64| C * (t - k).powi(3) + self.w_max;
        let t = sample.now.secs_since(start);
        let target = w_cubic(t + self.srtt).clamp(self.cwnd, 1.5 * self.cwnd);
        // α is as large as Reno's once the estimate has made up for the smaller cut.
        let alpha = if self.w_est >= self.cwnd_prior { 1.0 } else { 3.0 * (1.0 - BETA) / (1.0 + BETA) };
        self.w_est += alpha / self.cwnd;
        if w_cubic(t) < self.w_est {
            self.cwnd = self.cwnd.max(self.w_est);
        } else {
            self.cwnd += (target - self.cwnd) / self.cwnd;
        }
    }

    fn on_loss(&mut self, sample: &Sample) {
        if self.reduced.is_some_and(|reduced| sample.sent < reduced) {
            return;
        }
        self.reduced = Some(sample.now);
        self.cwnd_prior = self.cwnd;
        // Fast convergence: below the last maximum, leave room for others.
        self.w_max = if self.cwnd < self.w_max { self.cwnd * (1.0 + BETA) / 2.0 } else { self.cwnd };
        self.ssthresh = (self.cwnd * BETA).max(2.0);
        self.cwnd = self.ssthresh;
        self.epoch = None;
    }
}

impl Policy for Cubic {
    fn has_room(&mut self, _now: Timestamp, in_flight: usize) -> bool {
        in_flight < self.cwnd as usize
    }

    fn limit(&self) -> Option<usize> {
        Some(self.cwnd as usize)
    }

    fn on_end(&mut self, sample: &Sample) {
        match sample.ended {
            Ended::Whole => self.on_ack(sample),
            Ended::Throttled => self.on_loss(sample),
            Ended::Unavailable | Ended::Failed => {}
        }
    }

    fn retry_after(&mut self, failures: u32, failure: &Failure<'_>, rng: &mut fastrand::Rng) -> Option<Duration> {
        requeue(failures, failure, rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sent: f64, now: f64, ended: Ended) -> Sample {
        Sample { sent: Timestamp::from_secs_f64(sent), now: Timestamp::from_secs_f64(now), in_flight: 1000, ended }
    }

    #[test]
    fn a_loss_cuts_the_window_to_seven_tenths_once_a_round() {
        let mut cubic = Cubic { cwnd: 100.0, ..Cubic::new() };
        cubic.on_loss(&sample(0.0, 1.0, Ended::Throttled));
        cubic.on_loss(&sample(0.5, 1.2, Ended::Throttled));
        assert_eq!((cubic.cwnd, cubic.w_max), (70.0, 100.0));
        // Another round, below the last maximum: fast convergence.
        cubic.on_loss(&sample(1.1, 2.0, Ended::Throttled));
        assert!((cubic.cwnd - 49.0).abs() < 1e-9 && (cubic.w_max - 59.5).abs() < 1e-9);
    }

    #[test]
    fn the_window_is_back_at_its_maximum_after_k_seconds() {
        let mut cubic = Cubic { cwnd: 1000.0, ..Cubic::new() };
        cubic.on_loss(&sample(0.0, 0.0, Ended::Throttled));
        // K is the cube root of 300 / 0.4, about 9.09 s; a round trip is 0.1 s, every answer acknowledges one request.
        let k = (300.0 / C).cbrt();
        let mut now = 0.1;
        while now < 0.1 + k {
            for _ in 0..(cubic.cwnd as usize) {
                cubic.on_ack(&sample(now - 0.1, now, Ended::Whole));
            }
            now += 0.1;
        }
        assert!((cubic.cwnd - 1000.0).abs() < 5.0, "{}", cubic.cwnd);
    }

    #[test]
    fn slow_start_adds_one_an_answer() {
        let mut cubic = Cubic::new();
        for _ in 0..10 {
            cubic.on_ack(&sample(0.0, 1.0, Ended::Whole));
        }
        assert_eq!(cubic.cwnd, 20.0);
    }
}
