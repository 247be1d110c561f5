//! Whether one more request may be sent now, and if not, when to ask again.

use super::Ceiling;
use super::climb::Mode;
use super::probe::Probe;
use crate::core::time::Timestamp;

/// The answer to "may one more request be sent now?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Not now; ask again after the next event or at [`Ceiling::next_wake`].
    No,
    /// Yes.
    Yes,
    /// Yes, as planned learning (a probe, a climb beyond the window, the trial after a rejection or an outage): it is
    /// likelier than others to be rejected, so the least urgent request should carry it.
    Risky,
}

impl Ceiling {
    /// May one more request be sent now? Not a promise: ask anew for each, right before sending.
    pub fn admission(&mut self, now: Timestamp, rng: &mut fastrand::Rng) -> Admission {
        self.settle_timers(now);
        self.settled_admission(now, rng)
    }

    /// [`Ceiling::admission`] for whoever has let time pass until `now` by [`Ceiling::advance`].
    pub(crate) fn settled_admission(&mut self, now: Timestamp, rng: &mut fastrand::Rng) -> Admission {
        let now = now.max(self.clock);
        let in_flight = self.flights.len();
        let unconfirmed = self.flights.unconfirmed();
        if let Mode::Climb(_) = self.mode
            && in_flight >= self.window
            && self.window >= self.summit()
        {
            self.plateau(now, rng);
        }
        if now < self.pause || in_flight >= self.max {
            return Admission::No;
        }
        if self.outage.is_half_open() {
            return risky_if(unconfirmed == 0 && in_flight < self.window);
        }
        if self.streak > 0 {
            return risky_if(in_flight < self.window && self.canary.is_none());
        }
        if in_flight < self.window {
            return if unconfirmed < self.unconfirmed_room() { Admission::Yes } else { Admission::No };
        }
        if self.lag.blurs(self.service.unwrap_or(Self::SERVICE)) {
            return Admission::No;
        }
        if let Some(penalty) = self.penalties.serving {
            if now < penalty.until {
                return Admission::No;
            }
            if let Mode::Hold = self.mode {
                // It is over or not; if it is, the level is known and nothing is gained by going there slowly.
                self.bound = Some(penalty.level);
                self.climb_from_here(self.params.first_gain);
            }
        }
        let climb = self.mode.climb();
        let probes = climb.is_none_or(|climb| climb.follows()) && in_flight == self.window && !self.probe.is_out();
        if probes && now >= self.probe_due(now) {
            self.probe.allowed(rng);
            self.mode = Mode::Hold;
            return Admission::Risky;
        }
        risky_if(climb.is_some_and(|climb| {
            (in_flight < climb.level || now >= climb.next) && in_flight < self.summit().min(self.outlook())
        }))
    }

    /// How many may be unresolved at once below the window. As many as are proved beside them, or half as many while the
    /// window itself is unproved; what completed a moment ago is as good a proof as what is still there. This is the
    /// clock of growth, after idle times too. They prove nothing, but a cap that has been measured seldom moves far
    /// meanwhile: then it begins with twice the window's root.
    fn unconfirmed_room(&self) -> u32 {
        let confirmed = self.flights.len().saturating_sub(self.flights.unconfirmed());
        let proved = confirmed.max(self.lately.level(self.clock));
        if self.measured.is_some() {
            (2 * proved - confirmed).max(self.params.burst).max(2 * self.window.isqrt())
        } else {
            (proved + proved / 2 - confirmed).max(self.params.burst)
        }
    }

    /// The climb reached its bound.
    fn plateau(&mut self, now: Timestamp, rng: &mut fastrand::Rng) {
        if let Some(level) = self.penalties.served(now, self.service.unwrap_or(Self::SERVICE)) {
            self.measured = Some(level);
            self.rested();
        }
        self.mode = Mode::Hold;
        self.bound = None;
        self.probe.tried(now, rng);
    }

    /// Where a climb ends of itself.
    fn summit(&self) -> u32 {
        self.bound.map_or(self.max, |bound| bound.min(self.max))
    }

    /// How far a climb may go.
    fn outlook(&self) -> u32 {
        if self.rejections > 0 {
            return u32::MAX;
        }
        self.outlook.reaches(self.flights.answered(), self.delays.knows_the_way())
    }

    /// The moment of the next probe.
    fn probe_due(&self, now: Timestamp) -> Timestamp {
        let service = self.service.unwrap_or(Self::SERVICE);
        let followed = self.mode.climb().is_some_and(|climb| climb.follows());
        let drift = self.motion.expected(now, self.window, followed);
        let price = self.penalties.price(self.params.price);
        self.probe.due(Probe::interval(service, self.window, drift, price, price / self.params.price))
    }

    /// When planned learning can go on although nothing happens.
    pub(super) fn learning_due(&self, now: Timestamp) -> Option<Timestamp> {
        if let Some(penalty) = self.penalties.serving {
            return Some(penalty.until);
        }
        match self.mode {
            Mode::Hold if self.window < self.max => Some(self.probe_due(now)),
            Mode::Hold => None,
            // A little later than it could: several at a time are as good, and spare timers.
            Mode::Climb(climb) => Some(climb.next.plus_secs(self.delays.feedback() / 8.0)),
        }
    }

    /// When to look again if nothing happens before; after a refused [`admission`](Self::admission), with `demand`
    /// for whether anything waits to be sent. `None`: only an event can change anything.
    pub fn next_wake(&self, now: Timestamp, demand: bool) -> Option<Timestamp> {
        let now = now.max(self.clock);
        let silence = self.outage.silence(self.delays.silence());
        let confirmed = self.flights.oldest_unconfirmed().map(|(_, at)| at.plus_secs(silence));
        let wanted = if demand { [Some(self.pause), self.learning_due(now)] } else { [None, None] };
        let mut next = None;
        for at in [self.flights.lingering_until(), confirmed, wanted[0], wanted[1]] {
            // Never now or before, or a caller would spin.
            if at > Some(now) && (next.is_none() || at < next) {
                next = at;
            }
        }
        next
    }
}

fn risky_if(yes: bool) -> Admission {
    if yes { Admission::Risky } else { Admission::No }
}
