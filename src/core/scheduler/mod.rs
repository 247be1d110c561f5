//! The scheduler: takes calls in, decides when each is sent where, and what becomes of it.
//!
//! It is driven from outside. Submit calls with [`Scheduler::submit`], report what happens to attempts with
//! [`Scheduler::on`], and after each of these, and when [`Scheduler::next_wake`] comes, drain [`Scheduler::poll`] to
//! `None` and carry out every [`Action`]. Every submitted call ends in exactly one [`Action::End`], or by
//! [`Scheduler::cancel`].

mod action;
mod config;
mod dispatch;
mod intake;
mod names;
mod settle;
#[cfg(test)]
mod tests;
mod timers;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use slab::Slab;

use self::names::Names;
use self::settle::Departure;
use self::timers::Timers;
use super::backoff::RetryBudget;
use super::breaker::BreakerState;
use super::call::{Attempt, Call, Clocks, FailureKind, Flight, Phase, State, Ticket};
use super::metrics::{LaneSnapshot, LaneState, Metrics, MetricsSnapshot, Scope};
use super::outcome::{Outcome, OutcomeKind};
use super::queue::{Class, Queue, WorkloadId};
use super::route::{Candidate, Lane, LaneId, LaneKey, RouteId, RouteSpec, Stop};
use super::time::Timestamp;
use super::tokens::Estimator;

pub use self::action::{Action, Done, Event, JobSpec, LearnedLane, Load, Notice, OnFull, SubmitError};
pub use self::config::{Config, ConfigError, WorkloadSpec};

#[derive(Debug)]
struct Pool {
    /// It is a model's, whoever calls: never forgotten.
    kept: bool,
    candidates: Vec<Candidate>,
    /// The lanes of all of them; one that several share is in it as often.
    lanes: Vec<LaneId>,
    queue: Queue<Ticket>,
    /// Calls waiting for room in the queue.
    overflow: VecDeque<Ticket>,
    /// Entries in it whose call is gone.
    overflow_dead: usize,
    /// Live calls that belong to it, wherever they are.
    calls: usize,
    /// It is to be looked at, in the line of this rank.
    dirty: Option<usize>,
    /// Calls wait, and at the last look no way was open to any call: whatever opens one marks the pool, so one more call
    /// that lines up is no reason to look.
    shut: bool,
    armed: Timestamp,
}

#[derive(Debug)]
struct Workload {
    spec: WorkloadSpec,
    in_flight: u32,
    /// The pool whose call was sent last.
    turn: u32,
}

#[derive(Debug)]
struct RouteState {
    account: usize,
    stop: Option<Stop>,
    /// 403s in a row.
    forbidden: u32,
}

#[derive(Debug)]
struct Account {
    name: String,
    stop: Option<Stop>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Call(Ticket),
    Lane(LaneId),
    Pool(u32),
}

/// What one candidate says to one more request.
#[derive(Clone, Copy, Debug)]
enum Offer {
    Open {
        risky: bool,
    },
    Full,
    Limited(Timestamp),
    Closed(Option<Timestamp>),
    /// Its account or route is stopped until then and nobody is finding out: whoever depends on it fails.
    Stopped(Timestamp),
}

#[derive(Debug)]
struct Model {
    name: Box<str>,
    /// Some route that serves it limits each user.
    per_user: bool,
    /// Where its calls wait, if users make no difference.
    pool: Option<u32>,
    /// What its tokens come to, beside what callers estimate.
    estimator: Estimator,
}

/// The gate's brain. See the [module](self).
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    now: Timestamp,
    rng: fastrand::Rng,
    calls: Slab<Call>,
    serial: u32,
    pools: Slab<Pool>,
    /// By model and user.
    pool_of: Names,
    lanes: Slab<Lane>,
    /// By [`LaneKey::joined`].
    lane_of: Names,
    /// As many pools have idle ones among them forgotten.
    pools_most: usize,
    restored: Vec<LearnedLane>,
    models: Vec<Model>,
    model_of: Names,
    workloads: Vec<Workload>,
    workload_of: Names,
    routes: Vec<RouteState>,
    accounts: Vec<Account>,
    timers: Timers<Timer>,
    /// Pools to be looked at, by how urgent their work is (see [`Queue::rank`]).
    dirty: [VecDeque<u32>; 4],
    /// Where attempts stood that are over, kept to be used again.
    #[allow(clippy::vec_box, reason = "they are moved between here and the calls")]
    places: Vec<Box<Flight>>,
    /// Room for the offers of one look at a pool, kept to be used again.
    offers: Vec<Offer>,
    actions: VecDeque<Action>,
    budget: RetryBudget,
    metrics: Metrics,
    notices: bool,
    closed: bool,
    backing_off: u64,
    in_flight: u64,
}

impl Scheduler {
    /// A gate by `config`. `seed` feeds its jitter: take it from the system's randomness, or fix it for a repeatable run.
    ///
    /// # Errors
    /// A configuration that makes no sense.
    pub fn new(config: Config, seed: u64) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self::of(config, seed))
    }

    /// [`Scheduler::new`] for whoever has made sure that the configuration makes sense.
    pub(crate) fn of(config: Config, seed: u64) -> Self {
        let mut accounts: Vec<Account> = Vec::new();
        let mut routes = Vec::new();
        for route in &config.routes {
            let account = accounts.iter().position(|account| account.name == route.account).unwrap_or_else(|| {
                accounts.push(Account { name: route.account.clone(), stop: None });
                accounts.len() - 1
            });
            routes.push(RouteState { account, stop: None, forbidden: 0 });
        }
        let mut this = Self {
            now: Timestamp::ZERO,
            rng: fastrand::Rng::with_seed(seed),
            calls: Slab::new(),
            serial: 0,
            pools: Slab::new(),
            pool_of: Names::default(),
            lanes: Slab::new(),
            lane_of: Names::default(),
            pools_most: intake::POOLS,
            restored: Vec::new(),
            models: Vec::new(),
            model_of: Names::default(),
            workloads: Vec::new(),
            workload_of: Names::default(),
            routes,
            accounts,
            timers: Timers::new(),
            dirty: Default::default(),
            places: Vec::new(),
            offers: Vec::new(),
            actions: VecDeque::new(),
            budget: RetryBudget::new(&config.retry),
            metrics: Metrics::default(),
            notices: false,
            closed: false,
            backing_off: 0,
            in_flight: 0,
            config,
        };
        for class in [Class::Normal, Class::Interactive, Class::Background] {
            this.add_workload(WorkloadSpec::new(class.name(), class));
        }
        for spec in core::mem::take(&mut this.config.workloads) {
            match this.workload_of.get(&spec.name) {
                Some(id) => this.workloads[id as usize].spec = spec,
                None => {
                    this.add_workload(spec);
                }
            }
        }
        this
    }

    /// Whether [`Action::Notify`] is wanted. Off at first.
    pub fn set_notices(&mut self, wanted: bool) {
        self.notices = wanted;
    }

    /// The workload of this name; a new one in class normal if there is none yet. Workloads are kept for good, with their
    /// metrics: let names be few, not one per user or request.
    pub fn workload(&mut self, name: &str) -> WorkloadId {
        match self.workload_of.get(name) {
            Some(id) => WorkloadId(id),
            None => self.add_workload(WorkloadSpec::new(name, Class::Normal)),
        }
    }

    fn add_workload(&mut self, spec: WorkloadSpec) -> WorkloadId {
        let id = self.workloads.len() as u32;
        self.workload_of.insert(spec.name.as_str().into(), id);
        self.workloads.push(Workload { spec, in_flight: 0, turn: 0 });
        WorkloadId(id)
    }

    /// The clocks of calls that bring none of their own.
    pub fn clocks(&self) -> &Clocks {
        &self.config.clocks
    }

    /// What a route was configured as.
    pub fn route(&self, route: RouteId) -> &RouteSpec {
        &self.config.routes[route.index()]
    }

    /// Which lane an id stands for; `None` if it was a single user's and has been forgotten.
    pub fn lane(&self, lane: LaneId) -> Option<&LaneKey> {
        self.lanes.get(lane.0 as usize).map(|lane| &lane.key)
    }

    #[cfg_attr(target_family = "wasm", inline(never))]
    fn get(&self, ticket: Ticket) -> Option<&Call> {
        self.calls.get(ticket.index as usize).filter(|call| call.serial == ticket.serial)
    }

    #[cfg_attr(target_family = "wasm", inline(never))]
    fn call(&mut self, ticket: Ticket) -> Option<&mut Call> {
        self.calls.get_mut(ticket.index as usize).filter(|call| call.serial == ticket.serial)
    }

    /// Puts a call into its line, at the end or back at the front, and has the line looked at.
    fn enqueue(&mut self, ticket: Ticket, back: bool) {
        if let Some(pool_id) = self.line_up(ticket, back) {
            self.mark(pool_id);
        }
    }

    /// Puts a call into its line, at the end or back at the front. Returns the pool, if there is a reason to look at it.
    fn line_up(&mut self, ticket: Ticket, back: bool) -> Option<u32> {
        let now = self.now;
        let call = self.call(ticket)?;
        call.state = State::Queued;
        let (pool_id, class, workload, submitted) = (call.pool, call.class, call.workload, call.submitted);
        let weight = self.workloads[workload.index()].spec.weight;
        let pool = &mut self.pools[pool_id as usize];
        if back {
            pool.queue.put_back(submitted, class, workload, weight, ticket);
        } else {
            pool.queue.push_back(now, class, workload, weight, ticket);
        }
        if pool.queue.len() == 1 {
            pool.shut = false;
            for lane in &pool.lanes {
                self.lanes[lane.0 as usize].wait(pool_id);
            }
        }
        (!pool.shut).then_some(pool_id)
    }

    /// Has a pool looked at, after those with more urgent work.
    fn mark(&mut self, pool_id: u32) {
        let alone = self.pools.len() == 1;
        let Some(pool) = self.pools.get_mut(pool_id as usize) else { return };
        if pool.dirty == Some(0) {
            return;
        }
        // Nothing is more urgent than the one line there is.
        let rank = if alone { 0 } else { pool.queue.rank(self.now, served(&self.lanes, &pool.candidates)) };
        if pool.dirty.is_none_or(|already| rank < already) {
            pool.dirty = Some(rank);
            pool.shut = false;
            self.dirty[rank].push_back(pool_id);
        }
    }

    /// The next pool to be looked at.
    fn next_marked(&mut self) -> Option<u32> {
        for (rank, line) in self.dirty.iter_mut().enumerate() {
            while let Some(pool_id) = line.pop_front() {
                // One that became more urgent was in that line, too.
                if let Some(pool) = self.pools.get_mut(pool_id as usize)
                    && pool.dirty == Some(rank)
                {
                    pool.dirty = None;
                    return Some(pool_id);
                }
            }
        }
        None
    }

    /// Lets every pool that waits for `lane` look again, beginning after the one served last, so that pools (single
    /// users') take turns.
    fn mark_lane(&mut self, lane: LaneId) {
        let Some(state) = self.lanes.get(lane.0 as usize) else { return };
        if state.waiting.len() <= 1 {
            if let Some(&pool) = state.waiting.first() {
                self.mark(pool);
            }
            return;
        }
        let (waiting, turn) = (state.waiting.clone(), state.turn);
        self.mark_in_turn(&waiting, turn);
    }

    fn mark_all(&mut self) {
        self.mark_after(0);
    }

    /// Lets every pool with waiting calls look again, beginning after `turn`.
    fn mark_after(&mut self, turn: u32) {
        let mut waiting = Vec::new();
        for (id, pool) in &self.pools {
            if !pool.queue.is_empty() {
                waiting.push(id as u32);
            }
        }
        self.mark_in_turn(&waiting, turn);
    }

    /// Has these pools, which are in order, looked at, beginning after `turn`.
    fn mark_in_turn(&mut self, pools: &[u32], turn: u32) {
        for after in [true, false] {
            for &pool in pools {
                if (pool > turn) == after {
                    self.mark(pool);
                }
            }
        }
    }

    // ---- time ----

    /// Time never runs backwards in here.
    #[cfg_attr(target_family = "wasm", inline(never))]
    fn tick(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.now.max(now);
        self.now
    }

    /// Sets a timer. Those of calls that are over stay behind; they are swept once they outnumber all that can be live.
    fn arm(&mut self, at: Timestamp, timer: Timer) {
        self.timers.push(at, timer);
        let live = self.calls.len() + self.pools.len() + self.lanes.len();
        if self.timers.len() > 2 * live + 64 {
            for (at, timer) in self.timers.drain() {
                if self.is_armed(at, timer) {
                    self.timers.push(at, timer);
                }
            }
        }
    }

    /// Whether a timer is still the earliest of its owner.
    fn is_armed(&self, at: Timestamp, timer: Timer) -> bool {
        match timer {
            Timer::Call(ticket) => self.get(ticket).is_some_and(|call| call.armed == at),
            Timer::Lane(lane) => self.lanes.get(lane.0 as usize).is_some_and(|lane| lane.armed == at),
            Timer::Pool(pool) => self.pools.get(pool as usize).is_some_and(|pool| pool.armed == at),
        }
    }

    fn arm_call(&mut self, ticket: Ticket) {
        let Some(call) = self.call(ticket) else { return };
        let due = call.due();
        if due < call.armed {
            call.armed = due;
            self.arm(due, Timer::Call(ticket));
        }
    }

    fn arm_pool(&mut self, pool: u32, at: Timestamp) {
        let state = &mut self.pools[pool as usize];
        if at < state.armed {
            state.armed = at;
            self.arm(at, Timer::Pool(pool));
        }
    }

    /// When [`Scheduler::poll`] must be called at the latest, if nothing happens before. `None`: not until something
    /// happens.
    pub fn next_wake(&self) -> Option<Timestamp> {
        if !self.actions.is_empty() || self.dirty.iter().any(|line| !line.is_empty()) {
            return Some(self.now);
        }
        self.timers.first().map(|(at, _)| at)
    }

    /// The latest time it was told.
    #[cfg(all(feature = "js", target_family = "wasm"))]
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Drops the next timers whose owners are gone, or wait for them no more: they must not wake anybody, nor keep a
    /// program from ending.
    pub(crate) fn drop_stale_timers(&mut self) {
        while let Some((at, timer)) = self.timers.first()
            && !self.is_armed(at, timer)
        {
            self.timers.pop();
        }
    }

    /// The next thing to do; call it until it returns `None`.
    pub fn poll(&mut self, now: Timestamp) -> Option<Action> {
        let now = self.tick(now);
        while self.actions.is_empty() && self.go_on(now) {}
        self.actions.pop_front()
    }

    /// Does the next thing that is due: lets a timer ring, or looks at a pool. False if there is none.
    fn go_on(&mut self, now: Timestamp) -> bool {
        self.drop_stale_timers();
        if let Some((at, timer)) = self.timers.first()
            && at <= now
        {
            self.timers.pop();
            self.on_timer(now, timer);
            return true;
        }
        let marked = self.next_marked();
        if let Some(pool) = marked {
            self.serve(now, pool);
        }
        marked.is_some()
    }

    fn on_timer(&mut self, now: Timestamp, timer: Timer) {
        match timer {
            Timer::Pool(pool) => {
                self.pools[pool as usize].armed = Timestamp::MAX;
                self.mark(pool);
            }
            Timer::Lane(lane) => {
                self.lanes[lane.0 as usize].armed = Timestamp::MAX;
                self.mark_lane(lane);
            }
            Timer::Call(ticket) => {
                let Some(call) = self.call(ticket) else { return };
                call.armed = Timestamp::MAX;
                if call.due() <= now {
                    self.on_due(now, ticket);
                } else {
                    self.arm_call(ticket);
                }
            }
        }
    }

    /// Ends a call within an attempt, which was sent and so stands in the books.
    fn cut(&mut self, now: Timestamp, attempt: Attempt, kind: FailureKind, why: &str) {
        self.act(Action::Abort { attempt });
        if let Some(flight) = self.leave_lanes(now, attempt.ticket, &Departure::Cancelled) {
            let outcome = Outcome::new(OutcomeKind::Cancelled).with_message(why);
            self.record_flight(now, attempt.ticket, &flight, &outcome, None);
        }
        self.fail(attempt.ticket, kind, None);
    }

    /// A call's deadline, clock or backoff has run out.
    fn on_due(&mut self, now: Timestamp, ticket: Ticket) {
        let Some(call) = self.get(ticket) else { return };
        let overdue = call.deadline <= now;
        match &call.state {
            State::InFlight(flight) => {
                let attempt = Attempt { ticket, number: flight.number };
                let (phase, waited) = (flight.phase, now - flight.sent);
                if overdue {
                    self.cut(now, attempt, FailureKind::Deadline, "the call's deadline passed");
                } else {
                    self.act(Action::Abort { attempt });
                    let outcome = match phase {
                        Phase::Content => Outcome::new(OutcomeKind::Interrupted)
                            .with_message("the stream stalled: no content came while it was being read"),
                        Phase::Headers | Phase::Sent => Outcome::new(OutcomeKind::FirstContentTimeout)
                            .with_message(&["no content came within ", &rounded(waited)].concat()),
                    };
                    self.settle(now, ticket, outcome, None, true);
                }
            }
            State::Backoff { .. } if !overdue => {
                self.backing_off -= 1;
                self.enqueue(ticket, true);
                self.arm_call(ticket);
            }
            State::Backoff { .. } | State::Queued | State::Outside => {
                self.unqueue(ticket);
                self.fail(ticket, FailureKind::Deadline, None);
            }
        }
    }

    /// Stops admissions and ends every waiting call as [`FailureKind::Closed`]. Attempts in flight go on, unless `abort`:
    /// then they are closed too. May be called again, to abort what a first call let go on.
    pub fn close(&mut self, now: Timestamp, abort: bool) {
        let now = self.tick(now);
        self.closed = true;
        for (_, pool) in &mut self.pools {
            pool.queue.drain();
            pool.overflow.clear();
            pool.overflow_dead = 0;
        }
        self.backing_off = 0;
        let mut all = Vec::new();
        for (index, call) in &self.calls {
            all.push(Ticket { index: index as u32, serial: call.serial });
        }
        for ticket in all {
            match &self.calls[ticket.index as usize].state {
                State::InFlight(flight) if abort => {
                    let attempt = Attempt { ticket, number: flight.number };
                    self.cut(now, attempt, FailureKind::Closed, "the client was closed");
                }
                State::InFlight(_) => {}
                State::Outside | State::Queued | State::Backoff { .. } => self.fail(ticket, FailureKind::Closed, None),
            }
        }
    }

    /// Whether it was [closed](Self::close).
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Reopens stopped accounts and routes, closes breakers and forgets the waits servers asked for: the balance was
    /// topped up, the key mended, the outage is over.
    pub fn resume(&mut self, now: Timestamp) {
        let now = self.tick(now);
        for route in &mut self.routes {
            route.stop = None;
            route.forbidden = 0;
        }
        for account in &mut self.accounts {
            account.stop = None;
        }
        let mut closed = Vec::new();
        for (id, lane) in &mut self.lanes {
            if lane.breaker.state() != BreakerState::Closed {
                closed.push(LaneId(id as u32));
            }
            lane.breaker.reset(now);
            lane.quota.reset();
        }
        for lane in closed {
            self.notify(Notice::Breaker { lane, open: false });
        }
        self.mark_all();
    }

    /// What the lanes have learned of their limits on requests in flight, to be saved across a restart; of those not used
    /// since, what a former run did. Lanes of single users are left out, and so are rate limits.
    pub fn learned(&self) -> Vec<LearnedLane> {
        let mut learned = self.learned_before().to_vec();
        learned.append(&mut self.learned_here());
        learned
    }

    /// What a former run learned of lanes that this one has not used.
    pub(crate) fn learned_before(&self) -> &[LearnedLane] {
        &self.restored
    }

    /// What this run has learned, in the order of the lanes' names.
    pub(crate) fn learned_here(&self) -> Vec<LearnedLane> {
        let mut learned = Vec::new();
        for lane in self.lane_of.numbers() {
            let lane = &self.lanes[lane as usize];
            if lane.key.user_id.is_none() {
                learned.push(LearnedLane { lane: lane.key.clone(), learned: lane.ceiling.learned(self.now) });
            }
        }
        learned
    }

    /// Takes over what a former run learned, for lanes in use and for those still to come.
    pub fn restore(&mut self, now: Timestamp, learned: Vec<LearnedLane>) {
        for lane in learned {
            self.restore_lane(now, lane);
        }
    }

    /// [`Scheduler::restore`] for one of them.
    pub(crate) fn restore_lane(&mut self, now: Timestamp, restored: LearnedLane) {
        let now = self.tick(now);
        if let Some(id) = self.lane_of.get(&restored.lane.joined()) {
            self.lanes[id as usize].ceiling.restore(now, restored.learned);
        } else if let Some(known) = self.restored.iter_mut().find(|known| known.lane == restored.lane) {
            *known = restored;
        } else {
            self.restored.push(restored);
        }
    }

    /// Calls waiting for a permit, calls waiting to be tried again, and requests in flight.
    pub fn load(&self) -> Load {
        let queued = self
            .pools
            .iter()
            .map(|(_, pool)| (pool.queue.len() + pool.overflow.len() - pool.overflow_dead) as u64)
            .sum();
        Load { queued, backing_off: self.backing_off, in_flight: self.in_flight }
    }

    /// The lane, if there is one and no more.
    #[cfg(feature = "sim")]
    pub(crate) fn only_lane(&mut self) -> Option<&mut Lane> {
        let mut lanes = self.lanes.iter_mut().map(|(_, lane)| lane);
        lanes.next().filter(|_| lanes.next().is_none())
    }

    /// Everything counted so far, and the state of every lane.
    pub fn snapshot(&mut self, now: Timestamp) -> MetricsSnapshot {
        let mut lists = [const { Vec::new() }; 3];
        self.each_scope(&mut |list, name, scope| lists[list].push(scope.snapshot(name)));
        let [routes, models, workloads] = lists;
        let mut lanes = Vec::new();
        self.each_lane_state(now, &mut |lane| {
            let LaneKey { account, model, user_id } = lane.key.clone();
            lanes.push(LaneSnapshot {
                account,
                model,
                user_id,
                limit: lane.limit,
                measured: lane.measured,
                in_flight: lane.in_flight,
                state: lane.state,
                breaker: lane.breaker,
                held_by: lane.held_by,
                paused: lane.paused,
                requests_per_minute: lane.requests_per_minute,
                tokens_per_minute: lane.tokens_per_minute,
                release_lag: lane.release_lag,
            });
        });
        let Load { queued, backing_off, in_flight } = self.load();
        let (uptime, total) = (self.now.as_secs_f64(), self.total().snapshot("total"));
        MetricsSnapshot { uptime, queued, backing_off, in_flight, total, routes, models, workloads, lanes }
    }

    /// Everything counted so far.
    pub(crate) fn total(&self) -> Scope {
        self.metrics.total()
    }

    /// Shows what was counted of each route, model and workload, by the place of their list and their names.
    pub(crate) fn each_scope(&self, show: &mut dyn FnMut(usize, &str, &Scope)) {
        let lists: [&mut dyn Iterator<Item = &str>; 3] = [
            &mut self.config.routes.iter().map(|route| route.name.as_str()),
            &mut self.models.iter().map(|model| &*model.name),
            &mut self.workloads.iter().map(|workload| workload.spec.name.as_str()),
        ];
        self.metrics.each(lists, show);
    }

    /// Shows the state of each lane.
    pub(crate) fn each_lane_state(&mut self, now: Timestamp, show: &mut dyn FnMut(LaneState<'_>)) {
        let now = self.tick(now);
        for (_, lane) in &mut self.lanes {
            // A pause that is over is over, even if nobody has looked since.
            lane.ceiling.advance(now);
            let view = lane.ceiling.view();
            let [requests_per_minute, tokens_per_minute] = lane.quota.per_minute();
            let held = lane.held(now);
            let full = view.in_flight + view.lingering >= view.window;
            show(LaneState {
                key: &lane.key,
                limit: view.window,
                measured: view.measured,
                in_flight: lane.in_flight.iter().sum(),
                state: view.state.name(),
                breaker: lane.breaker_name(),
                held_by: held.map_or(full.then_some("limit"), |(gate, _)| Some(gate.name())),
                paused: held.map_or(0.0, |(_, until)| until.secs_since(now)),
                requests_per_minute,
                tokens_per_minute,
                release_lag: view.release_lag,
            });
        }
    }

    #[cfg_attr(target_family = "wasm", inline(never))]
    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    #[cfg_attr(target_family = "wasm", inline(never))]
    fn notify(&mut self, notice: Notice) {
        if self.notices {
            self.act(Action::Notify(notice));
        }
    }
}

/// When each class was last served by the lanes of a pool with these candidates.
fn served(lanes: &Slab<Lane>, candidates: &[Candidate]) -> [Timestamp; 3] {
    let mut latest = [Timestamp::ZERO; 3];
    for candidate in candidates {
        let Some(account) = candidate.lanes[0] else { continue };
        for (latest, served) in latest.iter_mut().zip(&lanes[account.0 as usize].served) {
            *latest = (*latest).max(*served);
        }
    }
    latest
}

/// A span of time in words. All of the standard library's formatting hangs on one `format!`.
fn rounded(span: Duration) -> String {
    let (mut rest, unit) = match span.as_secs() {
        seconds @ 0..10 => (seconds * 1000 + u64::from(span.subsec_millis()), " ms"),
        seconds => (seconds, " s"),
    };
    let mut words = String::from(unit);
    loop {
        words.insert(0, char::from(b'0' + (rest % 10) as u8));
        rest /= 10;
        if rest == 0 {
            return words;
        }
    }
}
