//! How the window is exceeded on purpose: a stop-and-wait climb, or one probe at a time.

#[cfg(not(feature = "std"))]
use num_traits::Float as _;

/// What the limit does once the window is full.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mode {
    /// Stays, and now and then sends one probe beyond the window.
    Hold,
    /// Sends growing steps beyond the window, each only when the one before is resolved.
    Climb(Climb),
}

/// A stop-and-wait climb.
#[derive(Clone, Copy, Debug)]
pub(super) struct Climb {
    /// The step's size; grows by `gain` (and with the window's root) from step to step.
    step: f64,
    gain: f64,
    /// What of the step is still to be sent.
    quota: u32,
    /// The window it began at: the rejection that ends it doesn't throw the window below.
    pub(super) from: u32,
}

impl Climb {
    /// The very first: nothing is known, so it gains fast.
    pub(super) fn first(gain: f64) -> Self {
        Self { step: 0.0, gain, quota: 0, from: 1 }
    }

    pub(super) fn starting_at(window: u32, gain: f64) -> Self {
        Self { step: 1.0, gain, quota: 0, from: window }
    }

    /// The next step, if the last one is spent. To be called when nothing of it is unresolved, and from wherever
    /// sending is considered: a step refilled only where one is confirmed stalls when the last one is cancelled.
    pub(super) fn refill(&mut self, window: u32, ascent: f64) {
        if self.quota == 0 {
            self.step = (self.step + self.gain * (f64::from(window).sqrt() / ascent).max(1.0)).min(1e9);
            self.quota = self.step as u32;
        }
    }

    /// May one more be sent beyond `window`, with `in_flight` there already?
    pub(super) fn has_room(&self, window: u32, in_flight: u32) -> bool {
        self.quota > 0 && in_flight < window.saturating_add(self.step as u32)
    }

    pub(super) fn spend(&mut self) {
        self.quota = self.quota.saturating_sub(1);
    }
}

/// How far to step back from `measured` after the `streak`-th rejection in a row below the window.
///
/// The first says where the cap was when it fell; if the next is rejected as well the cap is somewhere below, and the
/// steps double (from the root of the level, never past a quarter of it), so that a deep fall is found in a handful of
/// requests and a shallow one not overshot.
pub(super) fn retreat(streak: u32, measured: u32, ascent: f64) -> u32 {
    if streak < 2 {
        return 0;
    }
    let level = f64::from(measured);
    let gallop = 2f64.powi(streak.saturating_sub(2).min(30) as i32) * (level.sqrt() / ascent).max(1.0);
    gallop.min((level / 4.0).max(1.0)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_climb_passes_five_hundred_within_twenty_steps() {
        let mut climb = Climb::first(2.0);
        let mut window = 4;
        let mut steps = 0;
        while window < 500 {
            climb.refill(window, 8.0);
            while climb.has_room(window, window) {
                climb.spend();
            }
            window += climb.step as u32;
            steps += 1;
        }
        assert!((10..=20).contains(&steps), "{steps}");
    }

    #[test]
    fn retreats_double_but_never_pass_a_quarter_of_the_level() {
        let steps: Vec<u32> = (0..8).map(|streak| retreat(streak, 64, 8.0)).collect();
        assert_eq!(steps, [0, 0, 1, 2, 4, 8, 16, 16]);
        assert_eq!(retreat(u32::MAX, u32::MAX, 8.0), u32::MAX / 4);
        assert_eq!(retreat(5, 0, 8.0), 1);
    }
}
