//! What it tells that a request was refused: a rejection is a measurement, unless something else explains it.

use core::time::Duration;

#[cfg(not(feature = "std"))]
use num_traits::Float as _;

use super::Ceiling;
use super::climb::{Climb, Mode, retreat};
use super::flights::{Flight, Seq};
use super::lag::Blame;
use super::measurement::{Rise, beyond_wavering, is_material};
use super::penalty::Verdict;
use super::probe::jitter;
use crate::core::outcome::Told;
use crate::core::time::Timestamp;

impl Ceiling {
    /// So few places of a window may lag; an eighth of a large one.
    const FEW: u32 = 4;

    /// `seq` ended with a 429 for concurrency. `told`: what its body says of the account's concurrency.
    ///
    /// A `retry_after` puts off the next probe if this was one, and else pauses all sending, by at most a minute, unless
    /// it may well be one by chance; the request itself waits all of it, which is the caller's business.
    pub fn on_slot_rejected(
        &mut self,
        now: Timestamp,
        seq: Seq,
        told: Option<Told>,
        retry_after: Option<Duration>,
        rng: &mut fastrand::Rng,
    ) {
        let now = self.tick(now);
        let was_probe = self.probe.is(seq);
        let Some(flight) = self.take(seq) else { return };
        self.rejections += 1;
        self.delays.rejected(now.secs_since(flight.sent));
        if self.is_random(seq, flight, told) {
            if was_probe {
                // It told nothing, so it is sent again.
                self.probe.void();
            }
            return;
        }
        if let Some(wait) = retry_after {
            if was_probe {
                self.probe.put_off(now + wait.min(Duration::from_secs(600)));
            } else {
                self.pause_for(now, wait.as_secs_f64().min(Self::LONGEST_PAUSE));
            }
        }

        let held = self.lag.hold();
        let blame = if was_probe || seq < self.epoch { None } else { self.blames_lag(seq, flight, told) };
        self.flights.hold = self.lag.hold();
        self.flights.end_lingering(now);
        let mut earlier = self.flights.met_by(seq, flight, self.delays.prompt());
        self.lately.refuted(earlier);
        let told = told.and_then(|told| self.stated.read(told, &mut earlier));
        if seq < self.epoch {
            self.correct_downwards(now, seq, flight, told);
            return;
        }
        self.epoch = self.flights.next_seq();
        self.burst_at = None;
        // What left a moment ago left too early.
        self.pause_for(now, self.lag.hold() - held);
        if let Some(blame) = blame {
            self.streak = u32::from(blame == Blame::Suspected);
            if blame == Blame::Found {
                // The window was measured in the dark.
                self.climb_from_here(self.usual_gain());
            }
            return;
        }
        let climb = self.mode.climb();
        let planned = was_probe || climb.is_some();
        let measured = match told {
            Some(told) if planned => told,
            Some(told) => told.min(earlier),
            None => earlier,
        };

        if self.penalties.serving.is_some() {
            let verdict = self.penalties.rejected(now, measured, planned);
            if verdict == Verdict::Refuted {
                self.bound = None;
            } else if climb.is_some() {
                let refuge = self.penalties.refuge(measured).filter(|_| verdict == Verdict::Renewed);
                self.mode = Mode::Hold;
                self.set_window(refuge.unwrap_or(measured).min(measured));
                self.streak = 0;
                return;
            }
        } else if !self.noise.is_believed() {
            // Following a rising cap is no excess: its fall must not be taken for our doing.
            if self.streak == 0 && planned && !climb.is_some_and(|climb| climb.follows()) {
                self.penalties.suspect_at(if was_probe { self.window } else { earlier });
                self.bound = None;
            }
            // One refusal may be chance, and of a window that is not full it measures little.
            if self.streak > 0 || told.is_some() {
                self.penalties.judge(now, measured);
            }
        }

        self.probe.tried(now, rng);
        if was_probe {
            self.rested();
            self.rise.stopped(now, measured);
            if told.is_some() {
                self.believe(measured);
            }
        } else if let Some(climb) = climb {
            self.mode = Mode::Hold;
            self.end_climb(now, (seq, flight.sent), climb, measured, told.is_some());
        } else {
            self.fell(now, measured, told.is_some(), rng);
        }
    }

    /// Whether the rejection of `flight` says nothing of the cap, because such come by chance.
    fn is_random(&mut self, seq: Seq, flight: Flight, told: Option<Told>) -> bool {
        self.noise.refused(flight.beyond);
        let service = self.service.unwrap_or(Self::SERVICE);
        // Where most of a request is the way, places are free most of the time, and whether one is met is chance indeed; but
        // not one that is the same however many are sent.
        let far = self.delays.rejection.is_some_and(|rejection| rejection.mean > 0.75 * service);
        let rate = f64::from(self.window) / service.max(0.001);
        told.is_none()
            && self.streak == 0
            && !far
            && self.noise.ignores(seq, flight.rank, flight.beyond, rate, &self.flights)
    }

    /// Whether the rejection of `flight`, inside the window, comes of a place that is given back late.
    fn blames_lag(&mut self, seq: Seq, flight: Flight, told: Option<Told>) -> Option<Blame> {
        let service = self.service.unwrap_or(Self::SERVICE);
        if self.streak == 1 {
            self.lag.refused_again();
        }
        if self.penalties.suspect().is_some() {
            self.lag.met_the_cap();
        }
        let missing = self.window.saturating_sub(self.flights.met_by(seq, flight, self.delays.prompt()));
        let may_be = self.streak == 0
            && !self.noise.is_believed()
            && !flight.beyond
            && missing <= (self.window / 8).max(Self::FEW)
            // Where the way is as long as a service, places come free on it, and let in more than there is room for.
            && self.delays.rejection.is_none_or(|rejection| 4.0 * rejection.mean <= service)
            && told.is_none_or(|told| told.limit >= self.window)
            && self.penalties.serving.is_none()
            && !self.penalties.is_likely();
        if !may_be {
            return None;
        }
        let vacated = self.flights.left_before(flight.sent).map(|left| flight.sent.secs_since(left));
        self.lag.refused(vacated, service, self.window)
    }

    /// A request of a judged burst, sent before the one that measured it and counted as let in, was rejected too: the
    /// first rejection to arrive is not always the first that was made.
    fn correct_downwards(&mut self, now: Timestamp, seq: Seq, flight: Flight, told: Option<u32>) {
        if let Some(told) = told {
            // The first of a burst was told the cap it broke, the rest what became of it.
            if self.penalties.serving.is_some() {
                self.penalties.lowered(told);
            } else {
                self.penalties.judge(now, told);
            }
            self.believe(told);
        } else if self.burst_at.is_some_and(|(at, _)| seq < at) && !flight.confirmed {
            if self.measured == Some(self.window) {
                self.set_window(self.window.saturating_sub(1));
            }
            self.measured = self.measured.map(|level| level.saturating_sub(1).max(1));
            self.penalties.correct_suspect(|level| level.saturating_sub(1));
        }
    }

    /// A climb ran into the cap at `measured`.
    fn end_climb(&mut self, now: Timestamp, by: (Seq, Timestamp), climb: Climb, measured: u32, told: bool) {
        let material = self.measured.is_none_or(|last| is_material(measured, last));
        if let Some(last) = self.measured.filter(|_| material && self.penalties.serving.is_none()) {
            let slots = if told { f64::from(measured.abs_diff(last)) } else { beyond_wavering(measured, last) };
            self.motion.moved(now, slots);
        }
        if self.measured.is_none() {
            self.motion.first_met(now);
        }
        let trend = self.rise.met(now, measured);
        if told {
            self.believe(measured);
        } else if material {
            // What was proved a moment ago is surer than a count that requests have been leaving; unless by one sent
            // later than the one now rejected, which may have got a place that came free.
            let (level, _) = Some(self.proved).filter(|(_, proof)| *proof < Some(by.0)).unwrap_or_default();
            self.set_window(measured.max((0.98 * f64::from(level)).ceil() as u32));
            self.measured = Some(measured.max(1));
            self.burst_at = Some(by);
        } else {
            self.set_window(climb.from.max(measured));
        }
        self.proved = (0, None);
        if let Some(trend) = trend.filter(|_| !self.penalties.is_likely()) {
            self.mode = Mode::Climb(Climb::following(now, self.window, trend));
        }
    }

    /// Rejected inside the window: the cap fell.
    fn fell(&mut self, now: Timestamp, measured: u32, told: bool, rng: &mut fastrand::Rng) {
        self.rise = Rise::default();
        self.proved = (0, None);
        if told {
            // A punished fall is our own doing: it says nothing of how the cap moves.
            let own = self.penalties.serving.is_some();
            if !own && self.window > measured && is_material(measured, self.window) {
                // What it says of how far the cap may rise again is measured by what is left.
                self.motion.moved(now, f64::from((self.window - measured).min(measured)));
            }
            self.believe(measured);
            if self.flights.len() == 0 {
                self.pause_for(now, 0.5 * jitter(rng));
            }
            return;
        }
        self.streak = self.streak.saturating_add(1);
        self.measured.get_or_insert(self.window);
        if self.streak == 1
            && self.penalties.is_likely()
            && self.penalties.suspect().is_none()
            && self.penalties.serving.is_none()
            && !self.noise.is_believed()
        {
            // Where excesses are punished, one we did not notice may have been, too.
            self.penalties.suspect_at(self.window.saturating_sub(1));
        }
        if self.streak == 2
            && let Some(depth) = self.penalties.depth_to_tell()
        {
            // Nothing was let in since our first excess ever: every step of feeling one's way down would be another.
            self.set_window(measured.min(depth));
            return;
        }
        let retreated = measured.saturating_sub(retreat(self.streak, measured, self.params.ascent));
        self.set_window(self.penalties.refuge(measured).map_or(retreated, |refuge| refuge.min(retreated)));
        self.penalties.lowered(self.window);
        self.noise.fell(self.window, self.streak);
        if measured == 0 {
            // Others hold every slot.
            let wait = (0.25 * 2f64.powi(self.streak.min(10) as i32)).min(5.0);
            self.pause_for(now, wait * jitter(rng));
        }
    }
}
