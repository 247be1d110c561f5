//! The adaptive concurrency limit: how many requests may be in flight when nobody says what the cap is, and it moves.
//!
//! Latency says nothing of a hard cap: a request takes 1–20 s whether ten or a thousand run beside it, and one too
//! many is refused at once with a 429. So this limit is not driven by latency, and neither does it halve on every
//! rejection. **A rejection is a measurement**: at that instant, those of our requests that were sent earlier and are
//! still admitted equal the cap, or our share of it. The window is set to that. Below the window growth is clocked by
//! admissions; above it, learning is planned and budgeted:
//!
//! * `climb`: beyond the window at an even pace, so fast that few are under way in the time a rejection takes; or as fast
//!   as the cap has been rising; and the galloping retreat when the cap fell;
//! * `measurement`: how long silence must last to mean "let in", how fast the cap moves, what bodies say;
//! * `penalty`: what a rejection costs beyond itself, for some providers cut the cap after an excess;
//! * `noise`: refusals at random, which measure nothing;
//! * `lag`: a server that gives places back late refuses what is sent into them at once;
//! * `outage`: 503s, which pause and half-open without touching the window;
//! * `flights`: the requests in flight, with order statistics.

mod climb;
mod flights;
mod lag;
mod measurement;
mod noise;
mod outage;
mod params;
mod penalty;
mod probe;
mod view;

use core::time::Duration;

#[cfg(not(feature = "std"))]
use num_traits::Float as _;

use self::climb::{Climb, Mode, Outlook, retreat};
use self::flights::{Flight, Flights};
use self::lag::{Blame, Lag};
use self::measurement::{Delays, Motion, Proved, Rise, Stated, is_material};
use self::noise::Noise;
use self::outage::Outage;
use self::penalty::{Penalties, Verdict};
use self::probe::{Probe, jitter};
use crate::core::outcome::Told;
use crate::core::time::Timestamp;

pub use self::flights::Seq;
pub use self::measurement::Delay;
pub use self::params::Params;
pub use self::penalty::Punishment;
pub use self::view::{Learned, State, View};

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

/// How the server showed that it let a request in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The head of a successful answer.
    Headers,
    /// A byte of its body: content, a comment or a blank line.
    Content,
}

/// The adaptive concurrency limit of one lane.
///
/// The contract: ask [`admission`](Self::admission); after a yes, send and say so with [`on_send`](Self::on_send);
/// report what is seen of the request; end each number exactly once, by [`on_done`](Self::on_done),
/// [`on_failed`](Self::on_failed), [`on_cancelled`](Self::on_cancelled),
/// [`on_slot_rejected`](Self::on_slot_rejected) or [`on_unavailable`](Self::on_unavailable). Whatever is said of a
/// number that was never given out or has ended is ignored. Time that runs backwards counts as standing still. Every
/// operation costs O(log n) in the requests in flight. The window is always within 1 and [`Params::max`].
#[derive(Debug)]
pub struct Ceiling {
    params: Params,
    max: u32,
    clock: Timestamp,
    window: u32,
    mode: Mode,
    /// The cap as last measured.
    measured: Option<u32>,
    /// The highest level this climb has reached for sure, and by which request.
    proved: (u32, Option<Seq>),
    outlook: Outlook,
    flights: Flights,
    /// Requests sent before this one belong to an episode already judged.
    epoch: Seq,
    /// Rejections in a row below the window.
    streak: u32,
    /// While `streak > 0`: the one request out to see if the retreat is deep enough.
    canary: Option<Seq>,
    probe: Probe,
    /// The request whose rejection measured the last burst: the rest of the burst corrects it.
    burst_at: Option<(Seq, Timestamp)>,
    /// The climb stops here.
    bound: Option<u32>,
    stated: Stated,
    delays: Delays,
    motion: Motion,
    rise: Rise,
    lately: Proved,
    lag: Lag,
    noise: Noise,
    service: Option<f64>,
    penalties: Penalties,
    outage: Outage,
    pause: Timestamp,
    rejections: u64,
    outages: u64,
}

impl Ceiling {
    /// Assumed time a request runs until one completed, in seconds.
    const SERVICE: f64 = 10.0;
    /// A Retry-After of a single rejection pauses everything for no longer than this, in seconds.
    const LONGEST_PAUSE: f64 = 60.0;
    /// Rejections that take longer than this, in seconds, make climbs stride out.
    const SHORT_FEEDBACK: f64 = 0.1;
    /// So few places of a window may lag; an eighth of a large one.
    const FEW: u32 = 4;

    /// A limit that knows nothing but `params`.
    pub fn new(now: Timestamp, params: Params) -> Self {
        let params = params.sane();
        let max = params.ceiling();
        let flights = Flights::new();
        let window = params.initial.clamp(1, max);
        let climb = Climb::starting_at(now, 0, window, params.first_gain).expecting(params.hint.unwrap_or(0));
        Self {
            max,
            clock: now,
            window,
            mode: Mode::Climb(climb),
            measured: None,
            proved: (0, None),
            outlook: Outlook::starting_at(now),
            epoch: flights.next_seq(),
            flights,
            streak: 0,
            canary: None,
            probe: Probe::starting_at(now),
            burst_at: None,
            bound: None,
            stated: Stated::default(),
            delays: Delays::default(),
            motion: Motion::starting_at(now, params.memory.as_secs_f64(), 0.0),
            rise: Rise::default(),
            lately: Proved::default(),
            lag: Lag::default(),
            noise: Noise::default(),
            service: None,
            penalties: Penalties::new(),
            outage: Outage::default(),
            pause: now,
            rejections: 0,
            outages: 0,
            params,
        }
    }

    /// May one more request be sent now? Not a promise: ask anew for each, right before sending.
    pub fn admission(&mut self, now: Timestamp, rng: &mut fastrand::Rng) -> Admission {
        let now = self.settle_timers(now);
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
        match self.mode {
            Mode::Climb(climb)
                if climb.follows()
                    && in_flight == self.window
                    && !self.probe.is_out()
                    && now >= self.probe_due(now) =>
            {
                self.probe.allowed(rng);
                self.mode = Mode::Hold;
                Admission::Risky
            }
            Mode::Climb(climb) => risky_if(
                (in_flight < climb.level || now >= climb.next) && in_flight < self.summit().min(self.outlook()),
            ),
            Mode::Hold => {
                let due = in_flight == self.window && !self.probe.is_out() && now >= self.probe_due(now);
                if due {
                    self.probe.allowed(rng);
                }
                risky_if(due)
            }
        }
    }

    /// A request was sent; returns its number.
    pub fn on_send(&mut self, now: Timestamp) -> Seq {
        let now = self.tick(now);
        let beyond = self.flights.len() >= self.window;
        let seq = self.flights.push(now, beyond);
        if self.streak > 0 {
            self.canary.get_or_insert(seq);
        } else if beyond {
            match &mut self.mode {
                Mode::Climb(climb) => {
                    climb.reached(now, self.flights.len(), self.delays.feedback());
                }
                Mode::Hold => {
                    self.probe.sent(now, seq);
                }
            }
        }
        seq
    }

    /// The server let `seq` in. May be said more than once.
    pub fn on_admitted(&mut self, now: Timestamp, seq: Seq, evidence: Evidence) {
        let now = self.tick(now);
        self.flights.set_answered(seq);
        if evidence == Evidence::Headers {
            self.flights.set_headers(seq, now);
        }
        self.confirm(seq, true);
    }

    /// `seq` ended with a 429 for concurrency. `told`: what its body says of the account's concurrency.
    ///
    /// A `retry_after` puts off the next probe if this was one, and else pauses all sending, by at most a minute, unless
    /// refusals come by chance and this is one of them; the request itself waits all of it, which is the caller's business.
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
        self.delays.answered(now.secs_since(flight.sent));
        Delay::observe(&mut self.delays.rejection, now.secs_since(flight.sent));
        if !flight.beyond {
            self.noise.refused();
        }
        let rate = f64::from(self.window) / self.service.unwrap_or(Self::SERVICE).max(0.001);
        let random = told.is_none()
            && self.streak == 0
            && self.noise.ignores(seq, flight.rank, flight.beyond, rate, &self.flights);
        if random && self.noise.is_believed() {
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
        if random {
            return;
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
        let climb = match self.mode {
            Mode::Climb(climb) => Some(climb),
            Mode::Hold => None,
        };
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
            self.penalties.judge(now, measured);
        }

        if was_probe {
            self.rested();
            self.rise.stopped(now, measured);
            self.probe.tried(now, rng);
            if told.is_some() {
                self.believe(measured);
            }
        } else if let Some(climb) = climb {
            self.mode = Mode::Hold;
            self.probe.tried(now, rng);
            self.end_climb(now, (seq, flight.sent), climb, measured, told.is_some());
        } else {
            self.probe.tried(now, rng);
            self.fell(now, measured, told.is_some(), rng);
        }
    }

    /// `seq` ended with a 503 or its kin: the service is busy for everybody. Pauses and half-opens; the window stays.
    /// A `retry_after` lengthens the pause, to at most a minute.
    pub fn on_unavailable(&mut self, now: Timestamp, seq: Seq, retry_after: Option<Duration>, rng: &mut fastrand::Rng) {
        let now = self.tick(now);
        let Some(flight) = self.take(seq) else { return };
        self.outages += 1;
        self.outage.observe(now.secs_since(flight.sent));
        if let Some(wait) = retry_after {
            self.pause_for(now, wait.as_secs_f64().min(Self::LONGEST_PAUSE));
        }
        if seq < self.epoch {
            return;
        }
        self.epoch = self.flights.next_seq();
        self.lately = Proved::default();
        let pause = self.outage.struck(now, self.epoch);
        self.pause_for(now, pause * jitter(rng));
    }

    /// `seq` completed.
    pub fn on_done(&mut self, now: Timestamp, seq: Seq) {
        let now = self.tick(now);
        self.confirm(seq, true);
        let Some(flight) = self.flights.get(seq) else { return };
        self.settle_roles(seq);
        self.flights.complete(now, seq);
        let total = now.secs_since(flight.sent);
        let service = self.service.get_or_insert(total);
        *service += 0.05 * (total - *service);
        self.delays.completed(flight.headers.map(|at| at.secs_since(flight.sent)), total);
    }

    /// `seq` failed in a way that says nothing of the cap: a transport error, a 500, another 4xx.
    pub fn on_failed(&mut self, now: Timestamp, seq: Seq) {
        self.tick(now);
        self.take(seq);
    }

    /// `seq` was given up here. It stays counted for [`Params::linger`].
    pub fn on_cancelled(&mut self, now: Timestamp, seq: Seq) {
        let now = self.tick(now);
        if self.flights.linger(seq, now + self.params.linger) {
            self.settle_roles(seq);
        }
    }

    /// Lets time pass: silence becomes admission, lingering ends. [`admission`](Self::admission) does it too.
    pub fn advance(&mut self, now: Timestamp) {
        self.settle_timers(now);
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

    /// Until when nothing at all is sent, if later than the last event.
    pub fn pause_until(&self) -> Option<Timestamp> {
        (self.pause > self.clock).then_some(self.pause)
    }

    /// Changes the hard ceiling (see [`Params::max`]). Requests already in flight above a lowered one are left alone;
    /// a window that a raised one had held down climbs.
    pub fn set_max(&mut self, max: Option<u32>) {
        self.params.max = max;
        let before = core::mem::replace(&mut self.max, self.params.ceiling());
        self.set_window(self.window);
        if self.max > before && self.window == before && self.penalties.serving.is_none() {
            self.climb_from_here(self.usual_gain());
        }
    }

    /// What is worth saving for the next start.
    pub fn learned(&self, now: Timestamp) -> Learned {
        Learned {
            // Under a penalty the level before it is what is known of the cap.
            window: match (self.penalties.serving, self.mode) {
                (Some(penalty), _) => penalty.level.clamp(1, self.max),
                // What an earlier run knew and this one has not come to yet.
                (None, Mode::Climb(climb)) if self.rejections == 0 => self.window.max(climb.expected),
                _ => self.window,
            },
            measured: self.measured.is_some(),
            service: self.service,
            rejection: self.delays.rejection,
            headers: self.delays.headers,
            early: self.delays.early,
            drift: self.motion.rate(now.max(self.clock)),
            punishment: Some(self.penalties.learned),
            told_limit: self.stated.limit(),
        }
    }

    /// Starts from what an earlier [`learned`](Self::learned) saved; whatever of it is out of range is left out.
    ///
    /// The first climb strides out to the saved window, as to a hint, for the cap may have moved since; what is learned of
    /// delays and punishment is simply believed. For a fresh limit: nothing changes once a request was sent.
    pub fn restore(&mut self, now: Timestamp, learned: Learned) {
        let now = self.tick(now);
        if self.flights.next_seq() != Flights::new().next_seq() {
            return;
        }
        self.service = learned.service.filter(|service| (0.0..=86_400.0).contains(service));
        self.delays.rejection = learned.rejection.filter(|delay| delay.is_valid());
        self.delays.headers = learned.headers.filter(|delay| delay.is_valid());
        if (0.0..=1.0).contains(&learned.early) {
            self.delays.early = learned.early;
        }
        if (0.0..=1e6).contains(&learned.drift) {
            self.motion = Motion::starting_at(now, self.params.memory.as_secs_f64(), learned.drift);
        }
        if let Some(punishment) = learned.punishment.filter(|punishment| punishment.is_valid()) {
            self.penalties.learned = punishment;
        }
        self.stated = Stated::of(learned.told_limit);
        if learned.window >= 1 {
            if learned.measured && self.penalties.is_likely() {
                self.believe(learned.window);
                self.mode = Mode::Hold;
            } else {
                let gain = self.params.first_gain;
                self.mode = Mode::Climb(Climb::starting_at(now, 0, self.window, gain).expecting(learned.window));
            }
        }
    }

    /// Requests that may be in flight outside planned learning.
    pub fn window(&self) -> u32 {
        self.window
    }

    /// Requests in flight, lingering ones among them.
    pub fn in_flight(&self) -> u32 {
        self.flights.len()
    }

    /// Whether `seq`, still in flight, was sent beyond the window of then: on purpose, to learn.
    pub fn is_beyond(&self, seq: Seq) -> bool {
        self.flights.get(seq).is_some_and(|flight| flight.beyond)
    }

    /// Whether a full window would now be used to learn: it is climbing, or a probe is due.
    pub fn is_learning(&self, now: Timestamp) -> bool {
        matches!(self.mode, Mode::Climb(_)) || self.learning_due(now).is_some_and(|due| due <= now)
    }

    /// A picture of the limit for metrics and events.
    pub fn view(&self) -> View {
        let lingering = self.flights.lingering();
        View {
            window: self.window,
            in_flight: self.flights.len().saturating_sub(lingering),
            lingering,
            measured: self.measured,
            told_limit: self.stated.limit(),
            state: self.state(),
            rejections: self.rejections,
            outages: self.outages,
            service: self.service,
            price: self.penalties.price(self.params.price),
            release_lag: self.lag.hold(),
        }
    }

    fn state(&self) -> State {
        if self.pause > self.clock {
            State::Paused
        } else if self.outage.is_half_open() {
            State::HalfOpen
        } else if self.penalties.serving.is_some() {
            State::Penalised
        } else if self.streak > 0 {
            State::Retreating
        } else if let Mode::Climb(_) = self.mode {
            State::Climbing
        } else {
            State::Holding
        }
    }

    fn tick(&mut self, now: Timestamp) -> Timestamp {
        self.clock = self.clock.max(now);
        self.clock
    }

    fn settle_timers(&mut self, now: Timestamp) -> Timestamp {
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
        now
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

    /// `seq` was let in: for sure (the server answered), or as far as its silence tells.
    fn confirm(&mut self, seq: Seq, sure: bool) {
        let Some(flight) = self.flights.get(seq) else { return };
        if sure {
            self.delays.answered(self.clock.secs_since(flight.sent));
        }
        // Counted once, as soon as it is known: later the crowd it met has dispersed.
        let first = !flight.confirmed;
        // Of the time a quick answer took, the way is an unknown share: then whatever completed since it was sent may
        // have been there when it arrived.
        let prompt = Some(self.delays.prompt()).filter(|&prompt| self.clock.secs_since(flight.sent) >= 2.0 * prompt);
        let met = if first {
            self.flights.met_by(seq, flight, prompt.unwrap_or(0.0)).saturating_add(1)
        } else {
            flight.level
        };
        self.flights.confirm(seq, met);
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
            // Beside other clients our share wavers by about its root.
            let moved = f64::from(last.saturating_sub(self.window)) - f64::from(self.window).sqrt() / 4.0;
            if moved > 0.0 {
                self.motion.moved(self.clock, moved);
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
            self.motion.moved(now, f64::from(measured.abs_diff(last)));
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

    /// The cap was found where it had been.
    fn rested(&mut self) {
        self.motion.rested();
        self.noise.found(self.window);
    }

    /// How far a climb may go.
    fn outlook(&self) -> u32 {
        if self.rejections > 0 {
            return u32::MAX;
        }
        self.outlook.reaches(self.flights.answered(), self.delays.knows_the_way())
    }

    fn climb_from_here(&mut self, gain: f64) {
        self.proved = (0, None);
        self.mode = Mode::Climb(Climb::starting_at(self.clock, self.window, self.window, gain));
    }

    /// A climb's gain: as long as no rejection was ever met, it is still the first.
    fn usual_gain(&self) -> f64 {
        // The longer a rejection takes, the longer every step: then longer strides are worth their overshoot.
        let gain = self.params.gain * (self.delays.feedback() / Self::SHORT_FEEDBACK).max(1.0);
        if self.rejections > 0 { gain.min(self.params.first_gain) } else { self.params.first_gain }
    }

    /// The moment of the next probe.
    fn probe_due(&self, now: Timestamp) -> Timestamp {
        let service = self.service.unwrap_or(Self::SERVICE);
        let drift = self.motion.expected(now, self.window);
        let price = self.penalties.price(self.params.price);
        self.probe.due(Probe::interval(service, self.window, drift, price, price / self.params.price))
    }

    /// When planned learning can go on although nothing happens.
    fn learning_due(&self, now: Timestamp) -> Option<Timestamp> {
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

    /// Takes `seq` out of the flights and out of its role.
    fn take(&mut self, seq: Seq) -> Option<Flight> {
        let flight = self.flights.remove(seq)?;
        self.settle_roles(seq);
        Some(flight)
    }

    fn settle_roles(&mut self, seq: Seq) {
        self.probe.settle(seq);
        self.canary = self.canary.filter(|&canary| canary != seq);
    }

    fn believe(&mut self, level: u32) {
        self.measured = Some(level.max(1));
        self.set_window(level);
    }

    fn set_window(&mut self, window: u32) {
        self.window = window.clamp(1, self.max);
        self.noise.rose(self.window);
    }

    fn pause_for(&mut self, now: Timestamp, seconds: f64) {
        self.pause = self.pause.max(now.plus_secs(seconds));
    }
}

fn risky_if(yes: bool) -> Admission {
    if yes { Admission::Risky } else { Admission::No }
}
