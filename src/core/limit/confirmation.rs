//! What it tells that a request was let in.

use super::Ceiling;
use super::climb::Mode;
use super::flights::Seq;
use super::measurement::beyond_wavering;
use super::penalty::Penalties;
use crate::core::time::Timestamp;

impl Ceiling {
    /// Lets time pass until `now`: silence becomes admission, lingering ends.
    pub(super) fn settle_timers(&mut self, now: Timestamp) {
        let now = self.tick(now);
        let silence = self.outage.silence(self.delays.silence());
        while let Some((seq, sent)) = self.flights.oldest_unconfirmed() {
            if sent.plus_secs(silence) > now {
                break;
            }
            self.confirm(seq, false);
        }
        self.flights.end_lingering(now);
        if self.rejections == 0 {
            self.outlook.observe(now, self.window);
        }
    }

    /// `seq` was let in: for sure (the server answered), or as far as its silence tells.
    pub(super) fn confirm(&mut self, seq: Seq, sure: bool) {
        let Some(flight) = self.flights.get(seq) else { return };
        let waited = self.clock.secs_since(flight.sent);
        if sure {
            self.delays.answered(waited);
        }
        // Counted once, as soon as it is known: later the crowd it met has dispersed.
        let first = !flight.confirmed;
        // Nor is it any other news: what one inside the window tells of the present episode, it has told.
        if !first && !flight.beyond && seq >= self.epoch {
            return;
        }
        let flight = *flight;
        let met = if first {
            // Of the time a quick answer took, the way is an unknown share: then whatever completed since it was sent
            // may have been there when it arrived.
            let prompt = Some(self.delays.prompt()).filter(|&prompt| waited >= 2.0 * prompt);
            let met = self.flights.met_by(seq, flight, prompt.unwrap_or(0.0)).saturating_add(1);
            self.flights.confirm(seq, met);
            met
        } else {
            flight.level
        };
        if first && self.noise.admitted(seq, flight.rank, flight.beyond) {
            // The falls were none, and what looked like punishment was not.
            self.penalties = Penalties::new();
            self.bound = None;
            self.climb_from_here(self.params.first_gain);
        }
        if first && seq >= self.epoch {
            self.lately.observe(self.clock, met);
            if flight.rank >= self.window {
                self.lag.admitted(self.window);
                self.flights.hold = self.lag.hold();
            }
        }
        self.outage.admitted(seq);
        let was_probe = self.probe.is(seq);
        self.settle_roles(seq);
        if seq < self.epoch {
            self.correct_upwards(seq, flight.sent, if first { met } else { self.flights.through(seq) });
            return;
        }
        if was_probe && self.streak == 0 {
            // Told the cap's peak, it need not be exceeded to be found again.
            self.bound = Some(self.stated.peak()).filter(|&peak| peak > self.window);
            self.climb_from_here(self.usual_gain());
        }
        self.penalties.admitted(self.clock, self.window);
        if self.streak >= 1
            && !self.penalties.is_likely()
            && let Some(last) = self.measured
        {
            let moved = beyond_wavering(self.window, last.max(self.window));
            if moved > 0.0 {
                self.motion.moved(self.clock, moved);
            } else if self.streak == 1 && last == self.window + 1 {
                self.motion.lost_a_place(self.clock);
            }
            self.measured = Some(self.window);
        }
        if self.streak >= 2 && self.penalties.serving.is_none() {
            // The gallop overshot: come back by a climb.
            self.climb_from_here(self.usual_gain());
        }
        self.streak = 0;
        self.canary = None;
        if flight.beyond {
            let level = if self.measured.is_none() { flight.rank } else { met };
            self.set_window(self.window.max(level));
            if let Mode::Climb(climb) = self.mode
                && climb.follows()
            {
                // As was to be expected: no news.
                self.measured = self.measured.map(|last| last.max(self.window));
            }
            if sure {
                self.proved = self.proved.max((level, Some(seq)));
            }
        }
    }

    /// A request of a judged burst, sent after the one that measured it, was let in after all: there was more room.
    fn correct_upwards(&mut self, seq: Seq, sent: Timestamp, level: u32) {
        // One sent much later may have got a place that came free: then it was not let in besides those before it.
        let overtaken = |(at, then): (Seq, Timestamp)| seq > at && sent.secs_since(then) <= self.delays.prompt();
        if self.streak > 0 || self.measured != Some(self.window) || !self.burst_at.is_some_and(overtaken) {
            return;
        }
        if level > self.window {
            self.believe(level);
            self.burst_at = Some((seq, sent));
            self.penalties.correct_suspect(|_| level);
        }
    }
}
