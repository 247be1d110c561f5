//! One request beyond a held window, now and then, to find out whether the cap has risen.

use super::flights::Seq;
use crate::core::time::Timestamp;

#[cfg(not(feature = "std"))]
use num_traits::Float as _;

/// The probe that is out, and when the next is due.
#[derive(Debug)]
pub(super) struct Probe {
    out: Option<Seq>,
    /// When the cap was last tried, by a probe or in another way.
    last: Timestamp,
    /// A probe's rejection asked to wait.
    not_before: Timestamp,
    /// Factor on the interval, so that clients don't probe in step.
    jitter: f64,
    /// The same once the one that is now due was sent: until then, asking twice must get one answer.
    next_jitter: f64,
}

impl Probe {
    pub(super) fn starting_at(now: Timestamp) -> Self {
        Self { out: None, last: now, not_before: now, jitter: 1.0, next_jitter: 1.0 }
    }

    /// Seconds between two of them: then the slots that a cap drifting by `drift` a second leaves unused cost as much as a
    /// rejection, which is worth `price` requests of `service` seconds; `dear` times what it costs if nothing is punished.
    pub(super) fn interval(service: f64, window: u32, drift: f64, price: f64, dear: f64) -> f64 {
        let longest = (100.0 * service / f64::from(window)).clamp(120.0, (10.0 * service).max(600.0)) * dear.sqrt();
        // `min` before `max`: neither can be NaN's victim, and a tiny `longest` doesn't panic as `clamp` would.
        (2.0 * price * service / drift).sqrt().min(longest).max(1.0)
    }

    /// When the next may be sent, `interval` seconds from the last.
    pub(super) fn due(&self, interval: f64) -> Timestamp {
        self.last.plus_secs(interval * self.jitter).max(self.not_before)
    }

    pub(super) fn is_out(&self) -> bool {
        self.out.is_some()
    }

    pub(super) fn is(&self, seq: Seq) -> bool {
        self.out == Some(seq)
    }

    /// One may be sent now.
    pub(super) fn allowed(&mut self, rng: &mut fastrand::Rng) {
        self.next_jitter = jitter(rng);
    }

    pub(super) fn sent(&mut self, now: Timestamp, seq: Seq) {
        self.out.get_or_insert(seq);
        self.last = now;
        self.jitter = self.next_jitter;
    }

    /// The cap was tried just now, in one way or another.
    pub(super) fn tried(&mut self, now: Timestamp, rng: &mut fastrand::Rng) {
        self.last = now;
        self.jitter = jitter(rng);
    }

    /// What came of it tells nothing: the next is due at once.
    pub(super) fn void(&mut self) {
        self.last = Timestamp::ZERO;
    }

    /// The server asked for none before `at`.
    pub(super) fn put_off(&mut self, at: Timestamp) {
        self.not_before = at;
    }

    /// What became of `seq` is known.
    pub(super) fn settle(&mut self, seq: Seq) {
        self.out = self.out.filter(|&probe| probe != seq);
    }
}

/// A factor between 0.75 and 1.25.
pub(super) fn jitter(rng: &mut fastrand::Rng) -> f64 {
    0.75 + 0.5 * rng.f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_a_cap_moves_and_the_cheaper_a_rejection_the_sooner_it_is_probed() {
        let usual = Probe::interval(5.0, 64, 0.1, 4.0, 1.0);
        assert!(Probe::interval(5.0, 64, 0.4, 4.0, 1.0) < usual);
        assert!(Probe::interval(5.0, 64, 0.1, 16.0, 4.0) > usual);
        assert!((usual - 20.0).abs() < 1e-9, "the root of 2 × 4 × 5 / 0.1, {usual}");
    }

    #[test]
    fn no_interval_is_absurd() {
        for service in [0.0, 1e-9, 1.0, 86_400.0] {
            for drift in [0.0, 1e-12, 1e9] {
                for window in [1, 64, u32::MAX] {
                    let interval = Probe::interval(service, window, drift, 4.0, 1.0);
                    assert!((1.0..=864_000.0).contains(&interval), "{service} {drift} {window}: {interval}");
                }
            }
        }
    }

    #[test]
    fn clients_that_start_together_do_not_probe_together() {
        let due = |seed| {
            let mut probe = Probe::starting_at(Timestamp::ZERO);
            probe.tried(Timestamp::ZERO, &mut fastrand::Rng::with_seed(seed));
            probe.due(100.0).as_secs_f64()
        };
        let (first, second) = (due(1), due(2));
        assert!(first != second && (75.0..=125.0).contains(&first) && (75.0..=125.0).contains(&second));
    }
}
