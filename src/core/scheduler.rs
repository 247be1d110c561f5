//! The scheduler: takes calls in, decides when each is sent where, and what becomes of it.
//!
//! It is driven from outside. Submit calls with [`Scheduler::submit`], report what happens to attempts with
//! [`Scheduler::on`], and after each of these, and when [`Scheduler::next_wake`] comes, drain [`Scheduler::poll`] to
//! `None` and carry out every [`Action`]. Every submitted call ends in exactly one [`Action::End`], or by
//! [`Scheduler::cancel`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use slab::Slab;

use super::backoff::{RetryBudget, RetryPolicy};
use super::breaker::{BreakerPolicy, BreakerState};
use super::call::{
    Attempt, AttemptRecord, Call, Clocks, Failure, FailureKind, Flight, History, LaneFlight, Next, Phase, State,
    Ticket, counts, decide,
};
use super::limit::{Evidence, Learned, Params};
use super::metrics::{Labels, LaneSnapshot, Metrics, MetricsSnapshot};
use super::outcome::{Outcome, OutcomeKind};
use super::queue::{Class, Queue, Select, WorkloadId};
use super::route::{Candidate, Lane, LaneId, LaneKey, Passage, RouteId, RouteSpec, Stop, Strategy};
use super::time::Timestamp;
use super::tokens::TokenCount;

/// A named stream of work.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadSpec {
    /// Its name in calls and metrics.
    pub name: String,
    /// Its priority class.
    pub class: Class,
    /// Its share within the class, relative to the others'. Default 1; between 0.001 and 1,000.
    pub weight: f64,
    /// A cap of its own on requests in flight. Default none.
    pub max_concurrency: Option<u32>,
}

impl WorkloadSpec {
    /// A workload of weight 1 without a cap of its own.
    pub fn new(name: impl Into<String>, class: Class) -> Self {
        Self { name: name.into(), class, weight: 1.0, max_concurrency: None }
    }
}

/// How a gate works. [`Config::new`] with a route is good as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The ways to reach models, at least one, at most 64.
    pub routes: Vec<RouteSpec>,
    /// How calls choose among them.
    pub strategy: Strategy,
    /// Workloads known beforehand. `interactive`, `normal` and `background` always exist, in the classes of their names;
    /// any other name comes into being when first used, in class normal.
    pub workloads: Vec<WorkloadSpec>,
    /// How many calls may wait per set of lanes. Default 10,000.
    pub max_queued: usize,
    /// How failed attempts are retried.
    pub retry: RetryPolicy,
    /// When a lane's breaker opens.
    pub breaker: BreakerPolicy,
    /// The clocks of calls that bring none of their own.
    pub clocks: Clocks,
    /// The total time a call may take, queueing included, where it brings no deadline of its own. Default none: a batch
    /// waits as long as it takes.
    pub deadline: Option<Duration>,
    /// How long an account without money, or a route whose key is refused, stays closed before one call probes it.
    /// Default 5 min.
    pub stop_probe: Duration,
}

impl Config {
    /// The defaults over `routes`.
    pub fn new(routes: Vec<RouteSpec>) -> Self {
        Self {
            routes,
            strategy: Strategy::default(),
            workloads: Vec::new(),
            max_queued: 10_000,
            retry: RetryPolicy::default(),
            breaker: BreakerPolicy::default(),
            clocks: Clocks::default(),
            deadline: None,
            stop_probe: Duration::from_secs(300),
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let fail = |message: String| Err(ConfigError(message));
        match self.routes.len() {
            0 => return fail("Expected `routes` to hold at least one route, got none".into()),
            1..=64 => {}
            more => return fail(format!("Expected `routes` to hold at most 64 routes, got {more}")),
        }
        for (at, route) in self.routes.iter().enumerate() {
            route.validate().map_err(ConfigError)?;
            if self.routes[..at].iter().any(|other| other.name == route.name) {
                return fail(format!("Expected route names to be unique, got `{}` twice", route.name));
            }
        }
        for (at, workload) in self.workloads.iter().enumerate() {
            let name = &workload.name;
            if name.is_empty() {
                return fail("Expected a workload's `name` to be a non-empty string, got \"\"".into());
            }
            if !(0.001..=1000.0).contains(&workload.weight) {
                return fail(format!(
                    "Expected `weight` of workload `{name}` to be between 0.001 and 1,000, got {}",
                    workload.weight
                ));
            }
            if workload.max_concurrency == Some(0) {
                return fail(format!("Expected `max_concurrency` of workload `{name}` to be at least 1, got 0"));
            }
            if self.workloads[..at].iter().any(|other| other.name == *name) {
                return fail(format!("Expected workload names to be unique, got `{name}` twice"));
            }
        }
        if self.max_queued == 0 {
            return fail("Expected `max_queued` to be at least 1, got 0".into());
        }
        if self.retry.max_attempts == 0 {
            return fail("Expected `max_attempts` to be at least 1, got 0".into());
        }
        if !(self.retry.budget_ratio.is_finite() && self.retry.budget_ratio >= 0.0) {
            return fail(format!(
                "Expected `budget_ratio` to be finite and not negative, got {}",
                self.retry.budget_ratio
            ));
        }
        Ok(())
    }
}

/// A configuration that makes no sense; the message says what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

/// What to do with a call when the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Refuse it.
    #[default]
    Fail,
    /// Let it wait for room, in the order of arrival.
    Wait,
}

/// What the scheduler needs to know of a call; the request's body stays with the driver.
#[derive(Clone, Debug)]
pub struct JobSpec<'a> {
    /// The model, by the caller's name for it.
    pub model: &'a str,
    /// The workload it belongs to.
    pub workload: WorkloadId,
    /// The end user it is for, where accounts limit each.
    pub user_id: Option<&'a str>,
    /// About how many tokens it will take, prompt and completion together; matters only under a token quota.
    pub tokens: u32,
    /// The total time it may take, queueing included. `None` takes the gate's.
    pub deadline: Option<Duration>,
    /// Its own clocks. `None` takes the gate's.
    pub clocks: Option<Clocks>,
    /// Its own number of attempts. `None` takes the gate's.
    pub max_attempts: Option<u32>,
    /// What to do when the queue is full.
    pub on_full: OnFull,
}

impl<'a> JobSpec<'a> {
    /// A call to `model` for `workload`, everything else by default.
    pub fn new(model: &'a str, workload: WorkloadId) -> Self {
        Self {
            model,
            workload,
            user_id: None,
            tokens: 0,
            deadline: None,
            clocks: None,
            max_attempts: None,
            on_full: OnFull::Fail,
        }
    }
}

/// Why a call was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// As many calls wait as may.
    #[error("the queue is full: {limit} calls are waiting; send fewer at once, or wait for room")]
    QueueFull {
        /// How many may wait.
        limit: usize,
    },
    /// No route serves the model.
    #[error("no route serves the model `{model}`")]
    NoRoute {
        /// The model asked for.
        model: String,
    },
    /// The gate is closed.
    #[error("the client is closed")]
    Closed,
}

/// What happens to an attempt, as its driver reports it.
#[derive(Debug)]
pub enum Event {
    /// A connection was made for it, in so much time. Optional; it sharpens the limit's idea of a round trip.
    Connected(Duration),
    /// A 2xx head came: the provider let it in.
    Headers,
    /// A keep-alive came: blank line or comment. Proves the connection lives, and that the provider let it in.
    Alive,
    /// Content came.
    Content,
    /// The driver has nothing buffered and now waits for the server. Starts the idle clock; a caller that is slow to read
    /// must not look like a server that stalls.
    Reading,
    /// Something of the answer was handed to the caller: it is never replayed from now on.
    Delivered,
    /// It is over, its connection too.
    Ended {
        /// What it came to.
        outcome: Outcome,
        /// What the provider counted.
        tokens: Option<TokenCount>,
    },
}

/// What the driver must do.
#[derive(Debug)]
pub enum Action {
    /// Send the call's request.
    Send {
        /// Under which attempt to report what happens.
        attempt: Attempt,
        /// Where to.
        route: RouteId,
        /// What to call the model there, if not as the caller does.
        rename: Option<Box<str>>,
    },
    /// Close an attempt's connection: one of its clocks ran out, or the gate was closed. It needs no further report, and
    /// the call's next action follows.
    Abort {
        /// The attempt.
        attempt: Attempt,
    },
    /// The call is over: answered, or failed.
    End {
        /// The call.
        ticket: Ticket,
        /// How.
        result: Result<Done, Box<Failure>>,
    },
    /// Something worth telling happened. Only if [`Scheduler::set_notices`] asked for it.
    Notify(Notice),
}

/// A call that was answered.
#[derive(Debug)]
pub struct Done {
    /// The route that answered.
    pub route: RouteId,
    /// Its attempts, the successful one last.
    pub history: History,
    /// From submission to now.
    pub elapsed: Duration,
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// A lane's learned limit changed.
    Limit {
        /// The lane.
        lane: LaneId,
        /// The limit now.
        limit: u32,
    },
    /// The service said it is overloaded; the lane pauses.
    Pressure {
        /// The lane.
        lane: LaneId,
    },
    /// Pressure is over.
    Recovered {
        /// The lane.
        lane: LaneId,
    },
    /// A lane's breaker opened, or closed again.
    Breaker {
        /// The lane.
        lane: LaneId,
        /// Whether it is open.
        open: bool,
    },
    /// A call will be tried again.
    Retry {
        /// The call.
        ticket: Ticket,
        /// How many attempts it has had.
        attempts: u32,
        /// What the last one came to.
        kind: OutcomeKind,
        /// How long it waits before it queues again.
        delay: Duration,
    },
    /// A call goes to another route than its last attempt.
    Failover {
        /// The call.
        ticket: Ticket,
        /// The route it tried.
        from: RouteId,
        /// The route it tries now.
        to: RouteId,
    },
    /// The provider scales the account's limit by its balance: it will soon be out of money.
    LowBalance {
        /// The lane whose 429 said so.
        lane: LaneId,
        /// The limit it stated.
        limit: u32,
    },
    /// An account or a route was stopped (402, 401, 403) until it is resumed or a probe succeeds.
    Stopped {
        /// The route whose answer stopped it.
        route: RouteId,
        /// What that answer was.
        kind: OutcomeKind,
    },
}

/// The model and user a lane's limit was learned for, with what was learned: to be saved and given to
/// [`Scheduler::restore`] after a restart.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LearnedLane {
    /// The lane.
    #[serde(flatten)]
    pub lane: LaneKey,
    /// What was learned.
    pub learned: Learned,
}

#[derive(Debug)]
struct Pool {
    user: bool,
    candidates: Vec<Candidate>,
    queue: Queue<Ticket>,
    /// Calls waiting for room in the queue.
    overflow: VecDeque<Ticket>,
    /// Entries in it whose call is gone.
    overflow_dead: usize,
    /// Live calls that belong to it, wherever they are.
    calls: usize,
    dirty: bool,
    armed: Timestamp,
}

#[derive(Debug)]
struct Workload {
    spec: WorkloadSpec,
    in_flight: u32,
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
    /// Its account or route is stopped and nobody is finding out: whoever depends on it fails.
    Stopped,
}

/// 403s in a row that stop a route: one alone may be about one request (moderation, a model the key may not use).
const FORBIDDEN_RUN: u32 = 3;
/// A lane limited for longer than this is passed over if another route is open.
const WORTH_WAITING: Duration = Duration::from_secs(1);
/// How long a call waits whose only fitting routes are busy while others are free.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Lanes of single users beyond which idle ones are forgotten.
const USER_LANES: usize = 4096;

/// The gate's brain. See the [module](self).
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    now: Timestamp,
    rng: fastrand::Rng,
    calls: Slab<Call>,
    serial: u32,
    pools: Slab<Pool>,
    pool_of: HashMap<(u32, Option<Box<str>>), u32>,
    pool_of_lanes: HashMap<Vec<(RouteId, [Option<LaneId>; 2])>, u32>,
    lanes: Slab<Lane>,
    lane_of: HashMap<LaneKey, LaneId>,
    user_lanes: usize,
    restored: HashMap<LaneKey, Learned>,
    models: Vec<Box<str>>,
    model_of: HashMap<Box<str>, u32>,
    workloads: Vec<Workload>,
    workload_of: HashMap<String, WorkloadId>,
    routes: Vec<RouteState>,
    accounts: Vec<Account>,
    timers: BinaryHeap<Reverse<(Timestamp, Timer)>>,
    dirty: VecDeque<u32>,
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
            pool_of: HashMap::new(),
            pool_of_lanes: HashMap::new(),
            lanes: Slab::new(),
            lane_of: HashMap::new(),
            user_lanes: 0,
            restored: HashMap::new(),
            models: Vec::new(),
            model_of: HashMap::new(),
            workloads: Vec::new(),
            workload_of: HashMap::new(),
            routes,
            accounts,
            timers: BinaryHeap::new(),
            dirty: VecDeque::new(),
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
        for spec in this.config.workloads.clone() {
            match this.workload_of.get(&spec.name) {
                Some(id) => this.workloads[id.index()].spec = spec,
                None => {
                    this.add_workload(spec);
                }
            }
        }
        Ok(this)
    }

    /// Whether [`Action::Notify`] is wanted. Off at first.
    pub fn set_notices(&mut self, wanted: bool) {
        self.notices = wanted;
    }

    /// The workload of this name; a new one in class normal if there is none yet.
    pub fn workload(&mut self, name: &str) -> WorkloadId {
        match self.workload_of.get(name) {
            Some(&id) => id,
            None => self.add_workload(WorkloadSpec::new(name, Class::Normal)),
        }
    }

    fn add_workload(&mut self, spec: WorkloadSpec) -> WorkloadId {
        let id = WorkloadId(self.workloads.len() as u32);
        self.workload_of.insert(spec.name.clone(), id);
        self.workloads.push(Workload { spec, in_flight: 0 });
        id
    }

    /// What a route was configured as.
    pub fn route(&self, route: RouteId) -> &RouteSpec {
        &self.config.routes[route.index()]
    }

    /// Which lane an id stands for; `None` if it was a single user's and has been forgotten.
    pub fn lane(&self, lane: LaneId) -> Option<&LaneKey> {
        self.lanes.get(lane.0 as usize).map(|lane| &lane.key)
    }

    // ---- taking calls in ----

    /// Takes a call in. It ends in exactly one [`Action::End`], unless it is cancelled before.
    ///
    /// # Errors
    /// [`SubmitError`]; the call then never was.
    pub fn submit(&mut self, now: Timestamp, spec: JobSpec<'_>) -> Result<Ticket, SubmitError> {
        let now = self.tick(now);
        if self.closed {
            return Err(SubmitError::Closed);
        }
        let model = self.model(spec.model);
        let pool_id = self.pool(now, model, spec.model, spec.user_id)?;
        let pool = &mut self.pools[pool_id as usize];
        let full = pool.queue.len() >= self.config.max_queued;
        if full && spec.on_full == OnFull::Fail {
            return Err(SubmitError::QueueFull { limit: self.config.max_queued });
        }
        pool.calls += 1;
        let class = self.workloads[spec.workload.index()].spec.class;
        for candidate in &pool.candidates {
            for lane in candidate.lanes.into_iter().flatten() {
                self.lanes[lane.0 as usize].note_class(now, class);
            }
        }
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let index = self.calls.insert(Call {
            serial,
            pool: pool_id,
            model,
            workload: spec.workload,
            class,
            delivered: false,
            tokens: spec.tokens,
            failures: 0,
            max_attempts: spec.max_attempts.unwrap_or(self.config.retry.max_attempts).max(1),
            state: State::Outside,
            submitted: now,
            deadline: spec.deadline.or(self.config.deadline).map_or(Timestamp::MAX, |span| now + span),
            first_sent: None,
            armed: Timestamp::MAX,
            excluded: 0,
            last_route: None,
            clocks: spec.clocks.map(Box::new),
            history: None,
            last_outcome: None,
        });
        let ticket = Ticket { index: index as u32, serial };
        let labels = self.labels(ticket, None);
        self.metrics.count(labels, |scope| scope.counters.submitted += 1);
        if full {
            self.pools[pool_id as usize].overflow.push_back(ticket);
        } else {
            self.enqueue(ticket, false);
        }
        self.arm_call(ticket);
        Ok(ticket)
    }

    fn model(&mut self, name: &str) -> u32 {
        if let Some(&model) = self.model_of.get(name) {
            return model;
        }
        let model = self.models.len() as u32;
        self.models.push(name.into());
        self.model_of.insert(name.into(), model);
        model
    }

    /// The pool for calls to `model` by `user_id`: calls that may use the same lanes wait in one line.
    fn pool(&mut self, now: Timestamp, model: u32, name: &str, user_id: Option<&str>) -> Result<u32, SubmitError> {
        let per_user = self.config.routes.iter().any(|route| route.per_user);
        let key = (model, per_user.then(|| user_id.unwrap_or("").into()));
        if let Some(&pool) = self.pool_of.get(&key) {
            return Ok(pool);
        }
        if self.user_lanes >= USER_LANES {
            self.forget_idle_users(now);
        }
        let mut candidates = Vec::new();
        for at in 0..self.config.routes.len() {
            let route = &self.config.routes[at];
            let Some(resolved) = route.resolve(name) else { continue };
            let account = LaneKey {
                account: route.account.clone(),
                model: resolved.lane.unwrap_or(name).to_owned(),
                user_id: None,
            };
            let hint = resolved.hint;
            let (weight, per_user, quota) = (route.weight, route.per_user, route.quota);
            let user = per_user
                .then(|| LaneKey { user_id: Some(user_id.unwrap_or("").to_owned()), ..account.clone() })
                .map(|key| self.lane_for(now, key, hint, &Default::default()));
            let account = self.lane_for(now, account, hint, &quota);
            let lanes = [Some(account), user];
            candidates.push(Candidate { route: RouteId(at as u16), lanes, weight, credit: 0.0 });
        }
        if candidates.is_empty() {
            return Err(SubmitError::NoRoute { model: name.to_owned() });
        }
        let lanes_key: Vec<_> = candidates.iter().map(|candidate| (candidate.route, candidate.lanes)).collect();
        let pool = match self.pool_of_lanes.get(&lanes_key) {
            Some(&pool) => pool,
            None => {
                let pool = self.pools.insert(Pool {
                    user: per_user,
                    queue: Queue::new(),
                    overflow: VecDeque::new(),
                    overflow_dead: 0,
                    calls: 0,
                    dirty: false,
                    armed: Timestamp::MAX,
                    candidates,
                }) as u32;
                for lane in lanes_key.iter().flat_map(|(_, lanes)| lanes).flatten() {
                    let pools = &mut self.lanes[lane.0 as usize].pools;
                    if !pools.contains(&pool) {
                        pools.push(pool);
                    }
                }
                self.pool_of_lanes.insert(lanes_key, pool);
                pool
            }
        };
        self.pool_of.insert(key, pool);
        Ok(pool)
    }

    fn lane_for(&mut self, now: Timestamp, key: LaneKey, hint: Option<u32>, quota: &super::quota::QuotaSpec) -> LaneId {
        if let Some(&lane) = self.lane_of.get(&key) {
            return lane;
        }
        // A user's own ceiling holds for the account's lane whichever of its routes came first.
        let shared = self.config.routes.iter().filter(|route| route.account == key.account);
        let max = shared.filter_map(|route| route.max_concurrency).min();
        let params = Params { max, hint, ..Params::default() };
        let mut lane = Lane::new(now, key.clone(), params, self.config.breaker.clone(), quota);
        if let Some(learned) = self.restored.remove(&key) {
            lane.ceiling.restore(now, learned);
        }
        self.user_lanes += usize::from(key.user_id.is_some());
        let id = LaneId(self.lanes.insert(lane) as u32);
        self.lane_of.insert(key, id);
        id
    }

    /// Forgets pools and lanes of single users that nobody has used for a minute, so that their number stays bounded.
    fn forget_idle_users(&mut self, now: Timestamp) {
        let idle = |pool: &Pool, lanes: &Slab<Lane>| {
            let used = |lane: LaneId| now.secs_since(lanes[lane.0 as usize].last_used) < 60.0;
            pool.user
                && pool.calls == 0
                && !pool.candidates.iter().any(|candidate| candidate.lanes[1].is_some_and(used))
        };
        let gone: Vec<u32> =
            self.pools.iter().filter(|(_, pool)| idle(pool, &self.lanes)).map(|(id, _)| id as u32).collect();
        for id in gone {
            let pool = self.pools.remove(id as usize);
            self.pool_of.retain(|_, pool| *pool != id);
            self.pool_of_lanes.retain(|_, pool| *pool != id);
            for lane in pool.candidates.iter().flat_map(|candidate| candidate.lanes).flatten() {
                let Some(state) = self.lanes.get_mut(lane.0 as usize) else { continue };
                state.pools.retain(|&other| other != id);
                if state.key.user_id.is_some() && state.pools.is_empty() {
                    let state = self.lanes.remove(lane.0 as usize);
                    self.lane_of.remove(&state.key);
                    self.user_lanes -= 1;
                }
            }
        }
    }

    fn get(&self, ticket: Ticket) -> Option<&Call> {
        self.calls.get(ticket.index as usize).filter(|call| call.serial == ticket.serial)
    }

    fn call(&mut self, ticket: Ticket) -> Option<&mut Call> {
        self.calls.get_mut(ticket.index as usize).filter(|call| call.serial == ticket.serial)
    }

    fn labels(&self, ticket: Ticket, route: Option<RouteId>) -> Labels {
        let call = &self.calls[ticket.index as usize];
        Labels { route: route.map(RouteId::index), model: call.model as usize, workload: call.workload.index() }
    }

    /// Puts a call into its line: at the end, or back at the front.
    fn enqueue(&mut self, ticket: Ticket, back: bool) {
        let now = self.now;
        let Some(call) = self.call(ticket) else { return };
        call.state = State::Queued;
        let (pool_id, class, workload, submitted) = (call.pool, call.class, call.workload, call.submitted);
        let weight = self.workloads[workload.index()].spec.weight;
        let queue = &mut self.pools[pool_id as usize].queue;
        if back {
            queue.put_back(submitted, class, workload, weight, ticket);
        } else {
            queue.push_back(now, class, workload, weight, ticket);
        }
        self.mark(pool_id);
    }

    fn mark(&mut self, pool_id: u32) {
        if let Some(pool) = self.pools.get_mut(pool_id as usize)
            && !pool.dirty
        {
            pool.dirty = true;
            self.dirty.push_back(pool_id);
        }
    }

    fn mark_lane(&mut self, lane: LaneId) {
        let Some(state) = self.lanes.get(lane.0 as usize) else { return };
        for at in 0..state.pools.len() {
            let pool = self.lanes[lane.0 as usize].pools[at];
            self.mark(pool);
        }
    }

    fn mark_all(&mut self) {
        let all: Vec<_> = self.pools.iter().map(|(id, _)| id as u32).collect();
        for pool in all {
            self.mark(pool);
        }
    }

    // ---- time ----

    /// Time never runs backwards in here.
    fn tick(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.now.max(now);
        self.now
    }

    fn arm_call(&mut self, ticket: Ticket) {
        let Some(call) = self.call(ticket) else { return };
        let due = call.due();
        if due < call.armed {
            call.armed = due;
            self.timers.push(Reverse((due, Timer::Call(ticket))));
        }
    }

    fn arm_lane(&mut self, lane: LaneId, at: Timestamp) {
        let state = &mut self.lanes[lane.0 as usize];
        if at < state.armed {
            state.armed = at;
            self.timers.push(Reverse((at, Timer::Lane(lane))));
        }
    }

    fn arm_pool(&mut self, pool: u32, at: Timestamp) {
        let state = &mut self.pools[pool as usize];
        if at < state.armed {
            state.armed = at;
            self.timers.push(Reverse((at, Timer::Pool(pool))));
        }
    }

    /// When [`Scheduler::poll`] must be called at the latest, if nothing happens before. `None`: not until something
    /// happens.
    pub fn next_wake(&self) -> Option<Timestamp> {
        if !self.actions.is_empty() || !self.dirty.is_empty() {
            return Some(self.now);
        }
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// The next thing to do; call it until it returns `None`.
    pub fn poll(&mut self, now: Timestamp) -> Option<Action> {
        let now = self.tick(now);
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            if let Some(Reverse((at, timer))) = self.timers.peek().copied()
                && at <= now
            {
                self.timers.pop();
                self.on_timer(now, at, timer);
            } else if let Some(pool) = self.dirty.pop_front() {
                self.serve(now, pool);
            } else {
                return None;
            }
        }
    }

    fn on_timer(&mut self, now: Timestamp, at: Timestamp, timer: Timer) {
        match timer {
            Timer::Pool(pool) => {
                if let Some(state) = self.pools.get_mut(pool as usize)
                    && state.armed == at
                {
                    state.armed = Timestamp::MAX;
                    self.mark(pool);
                }
            }
            Timer::Lane(lane) => {
                if let Some(state) = self.lanes.get_mut(lane.0 as usize)
                    && state.armed == at
                {
                    state.armed = Timestamp::MAX;
                    self.mark_lane(lane);
                }
            }
            Timer::Call(ticket) => {
                let Some(call) = self.call(ticket) else { return };
                if call.armed != at {
                    return;
                }
                call.armed = Timestamp::MAX;
                if call.due() <= now {
                    self.on_due(now, ticket);
                } else {
                    self.arm_call(ticket);
                }
            }
        }
    }

    /// A call's deadline, clock or backoff has run out.
    fn on_due(&mut self, now: Timestamp, ticket: Ticket) {
        let Some(call) = self.get(ticket) else { return };
        let overdue = call.deadline <= now;
        match &call.state {
            State::InFlight(flight) => {
                let attempt = Attempt { ticket, number: flight.number };
                let (phase, waited) = (flight.phase, now - flight.sent);
                self.actions.push_back(Action::Abort { attempt });
                if overdue {
                    if let Some(flight) = self.leave_lanes(now, ticket, Departure::Cancelled) {
                        let outcome = Outcome::new(OutcomeKind::Cancelled).with_message("the call's deadline passed");
                        self.record_flight(now, ticket, &flight, &outcome, None);
                    }
                    self.fail(ticket, FailureKind::Deadline, None);
                } else {
                    let outcome = match phase {
                        Phase::Content => Outcome::new(OutcomeKind::Interrupted)
                            .with_message("the stream stalled: no content came while it was being read"),
                        Phase::Headers | Phase::Sent => Outcome::new(OutcomeKind::FirstContentTimeout)
                            .with_message(&format!("no content came within {:.0} s", waited.as_secs_f64())),
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

    // ---- sending ----

    /// Sends as many of a pool's calls as its lanes let through.
    fn serve(&mut self, now: Timestamp, pool_id: u32) {
        let Some(pool) = self.pools.get_mut(pool_id as usize) else { return };
        pool.dirty = false;
        let lanes: Vec<LaneId> = pool.candidates.iter().flat_map(|candidate| candidate.lanes).flatten().collect();
        for &lane in &lanes {
            self.lanes[lane.0 as usize].ceiling.advance(now);
        }
        let mut offers = Vec::new();
        while !self.pools[pool_id as usize].queue.is_empty() {
            self.offers(now, pool_id, &mut offers);
            if offers.iter().all(|offer| matches!(offer, Offer::Stopped)) {
                self.fail_all(pool_id);
                break;
            }
            let Some(candidate) = self.choose(now, pool_id, &offers) else { break };
            if !self.dispatch(now, pool_id, candidate, &offers) {
                break;
            }
        }
        let waiting = !self.pools[pool_id as usize].queue.is_empty();
        if waiting {
            for offer in offers {
                if let Offer::Limited(at) | Offer::Closed(Some(at)) = offer {
                    self.arm_pool(pool_id, at);
                }
            }
        }
        for &lane in &lanes {
            if waiting && let Some(at) = self.lanes[lane.0 as usize].ceiling.next_wake(now, true) {
                // A moment that has come already has been acted on; the least step avoids spinning on it.
                self.arm_lane(lane, at.max(now + Duration::from_millis(1)));
            }
            self.report_limit(lane);
        }
    }

    fn offers(&mut self, now: Timestamp, pool_id: u32, offers: &mut Vec<Offer>) {
        offers.clear();
        for at in 0..self.pools[pool_id as usize].candidates.len() {
            let candidate = &self.pools[pool_id as usize].candidates[at];
            let (route, lanes) = (candidate.route, candidate.lanes);
            let offer = self.offer(now, route, lanes);
            offers.push(offer);
        }
    }

    fn offer(&mut self, now: Timestamp, route: RouteId, lanes: [Option<LaneId>; 2]) -> Offer {
        let state = &self.routes[route.index()];
        for stop in [&state.stop, &self.accounts[state.account].stop].into_iter().flatten() {
            if stop.probing {
                return Offer::Closed(None);
            }
            if stop.probe_at > now {
                return Offer::Stopped;
            }
        }
        let mut offer = Offer::Open { risky: false };
        for lane in lanes.into_iter().flatten() {
            offer = match (offer, self.lanes[lane.0 as usize].passage(now, &mut self.rng)) {
                (_, Passage::Closed { until }) => return Offer::Closed(until),
                (Offer::Limited(at), Passage::Limited { until }) => Offer::Limited(at.max(until)),
                (_, Passage::Limited { until }) => Offer::Limited(until),
                (Offer::Open { .. }, Passage::Full) => Offer::Full,
                (Offer::Open { risky: one }, Passage::Open { risky: two }) => Offer::Open { risky: one || two },
                (worse, _) => worse,
            };
        }
        offer
    }

    /// Which candidate the next call goes to.
    fn choose(&mut self, now: Timestamp, pool_id: u32, offers: &[Offer]) -> Option<usize> {
        let open = |offer: &Offer| matches!(offer, Offer::Open { .. });
        if self.config.strategy == Strategy::Ordered {
            let worth_waiting = |offer: &Offer| match offer {
                Offer::Open { .. } | Offer::Full => true,
                Offer::Limited(until) => *until - now <= WORTH_WAITING,
                Offer::Closed(_) | Offer::Stopped => false,
            };
            let first = offers.iter().position(worth_waiting);
            return first.filter(|&at| open(&offers[at]));
        }
        let equal = self.config.strategy == Strategy::RoundRobin;
        let candidates = &mut self.pools[pool_id as usize].candidates;
        let share = |candidate: &Candidate| if equal { 1.0 } else { candidate.weight };
        let total: f64 = offers.iter().zip(&*candidates).filter(|(offer, _)| open(offer)).map(|(_, c)| share(c)).sum();
        let best = offers.iter().enumerate().filter(|(_, offer)| open(offer)).map(|(at, _)| at).max_by(|&a, &b| {
            let credit = |at: usize| candidates[at].credit + share(&candidates[at]);
            credit(a).total_cmp(&credit(b)).then(b.cmp(&a))
        })?;
        for (at, offer) in offers.iter().enumerate() {
            if open(offer) {
                candidates[at].credit += share(&candidates[at]);
            }
        }
        candidates[best].credit -= total;
        Some(best)
    }

    /// Sends the next call by `candidate`, or by another that suits it better. `false`: nothing more can be sent now.
    fn dispatch(&mut self, now: Timestamp, pool_id: u32, candidate: usize, offers: &[Offer]) -> bool {
        let pool = &mut self.pools[pool_id as usize];
        let allowed = pool.candidates[candidate]
            .lanes
            .into_iter()
            .flatten()
            .map(|lane| self.lanes[lane.0 as usize].allowed(now))
            .fold([true; 3], |all, lane| [all[0] && lane[0], all[1] && lane[1], all[2] && lane[2]]);
        let select = Select { lowest_first: matches!(offers[candidate], Offer::Open { risky: true }), allowed };
        let (calls, workloads) = (&self.calls, &self.workloads);
        let blocked = |id: WorkloadId| {
            let workload = &workloads[id.index()];
            workload.spec.max_concurrency.is_some_and(|cap| workload.in_flight >= cap)
        };
        let alive = |ticket: Ticket| {
            let call = calls.get(ticket.index as usize);
            call.is_some_and(|call| call.serial == ticket.serial && matches!(call.state, State::Queued))
        };
        let Some((ticket, _)) = pool.queue.pop(now, select, blocked, alive) else { return false };
        let call = &self.calls[ticket.index as usize];
        let fits = |at: usize| call.excluded & (1 << at) == 0;
        let fresh = |at: usize| call.failures < 2 || call.last_route != Some(pool.candidates[at].route);
        let open = |at: &usize| matches!(offers[*at], Offer::Open { .. });
        let choice = std::iter::once(candidate)
            .chain(0..offers.len())
            .filter(open)
            .filter(|&at| fits(at))
            .min_by_key(|&at| !fresh(at));
        let Some(choice) = choice else {
            let hope = (0..offers.len()).any(|at| fits(at) && !matches!(offers[at], Offer::Stopped));
            self.admit_from_overflow(pool_id);
            if hope {
                self.back_off(ticket, now + LOOK_AGAIN);
            } else {
                let kind = self.calls[ticket.index as usize].last_outcome.as_deref().map_or(
                    FailureKind::Exhausted,
                    |outcome| match outcome.kind {
                        OutcomeKind::Forbidden => FailureKind::Forbidden,
                        OutcomeKind::Authentication => FailureKind::Authentication,
                        OutcomeKind::Billing => FailureKind::InsufficientBalance,
                        _ => FailureKind::Exhausted,
                    },
                );
                self.fail(ticket, kind, None);
            }
            return true;
        };
        // The quota was asked about the least request; now it is known how large this one is.
        let tokens = u64::from(call.tokens);
        let lanes = pool.candidates[choice].lanes;
        let affordable = lanes
            .into_iter()
            .flatten()
            .map(|lane| self.lanes[lane.0 as usize].quota.opens_at(now, tokens))
            .max()
            .unwrap_or(now);
        if affordable > now {
            self.enqueue(ticket, true);
            self.arm_pool(pool_id, affordable);
            return false;
        }
        self.admit_from_overflow(pool_id);
        self.send(now, ticket, choice);
        true
    }

    fn send(&mut self, now: Timestamp, ticket: Ticket, candidate: usize) {
        let call = &self.calls[ticket.index as usize];
        let (pool_id, class, tokens, workload) = (call.pool, call.class, call.tokens, call.workload);
        let (failures, last_route, submitted, first) =
            (call.failures, call.last_route, call.submitted, call.first_sent);
        let number = call.history.as_ref().map_or(0, |history| history.sent()) + 1;
        let Candidate { route, lanes, .. } = self.pools[pool_id as usize].candidates[candidate];

        let mut probes_stop = false;
        let account = self.routes[route.index()].account;
        for stop in [&mut self.routes[route.index()].stop, &mut self.accounts[account].stop].into_iter().flatten() {
            stop.probing = true;
            probes_stop = true;
        }
        let lanes = lanes.map(|lane| {
            lane.map(|lane| {
                let state = &mut self.lanes[lane.0 as usize];
                let trial = state.breaker.on_send(now);
                state.quota.on_send(now, u64::from(tokens));
                state.in_flight[class as usize] += 1;
                state.last_used = now;
                LaneFlight { lane, seq: state.ceiling.on_send(now), trial }
            })
        });
        self.in_flight += 1;
        self.workloads[workload.index()].in_flight += 1;

        let clocks = self.calls[ticket.index as usize].clocks.as_deref().unwrap_or(&self.config.clocks);
        let due = [clocks.headers, clocks.first_content].into_iter().flatten().min();
        let due = due.map_or(Timestamp::MAX, |span| now + span);
        let call = &mut self.calls[ticket.index as usize];
        call.first_sent = call.first_sent.or(Some(now));
        call.last_route = Some(route);
        call.state =
            State::InFlight(Box::new(Flight { number, route, sent: now, lanes, phase: Phase::Sent, due, probes_stop }));

        let labels = self.labels(ticket, Some(route));
        let failover = last_route.filter(|&last| last != route);
        self.metrics.count(labels, |scope| {
            scope.counters.attempts += 1;
            scope.counters.retries += u64::from(failures > 0);
            scope.counters.failovers += u64::from(failover.is_some());
            if first.is_none() {
                scope.queue_wait.record(now - submitted);
            }
        });
        if let Some(from) = failover {
            self.notify(Notice::Failover { ticket, from, to: route });
        }
        let name = &self.models[labels.model];
        let rename = self.config.routes[route.index()].resolve(name).and_then(|model| model.upstream.map(Box::from));
        self.actions.push_back(Action::Send { attempt: Attempt { ticket, number }, route, rename });
        self.arm_call(ticket);
    }

    /// Lets the next call in that waits for room.
    fn admit_from_overflow(&mut self, pool_id: u32) {
        while self.pools[pool_id as usize].queue.len() < self.config.max_queued {
            let pool = &mut self.pools[pool_id as usize];
            let Some(ticket) = pool.overflow.pop_front() else { return };
            if self.get(ticket).is_some() {
                self.enqueue(ticket, false);
            } else {
                let pool = &mut self.pools[pool_id as usize];
                pool.overflow_dead = pool.overflow_dead.saturating_sub(1);
            }
        }
    }

    // ---- what happens to attempts ----

    /// Takes note of what happened to an attempt. Reports on an attempt that is over are ignored.
    pub fn on(&mut self, now: Timestamp, attempt: Attempt, event: Event) {
        let now = self.tick(now);
        let gate = &self.config.clocks;
        let Some(call) =
            self.calls.get_mut(attempt.ticket.index as usize).filter(|call| call.serial == attempt.ticket.serial)
        else {
            return;
        };
        let delivered = call.delivered;
        let clocks = call.clocks.as_deref().unwrap_or(gate);
        let State::InFlight(flight) = &mut call.state else { return };
        if flight.number != attempt.number {
            return;
        }
        let first_content = clocks.first_content.map_or(Timestamp::MAX, |span| flight.sent + span);
        let idle = clocks.idle.map_or(Timestamp::MAX, |span| now + span);
        let mut admitted = None;
        let mut content_after = None;
        match event {
            Event::Connected(rtt) => {
                for lane in flight.lanes.into_iter().flatten() {
                    self.lanes[lane.lane.0 as usize].ceiling.on_connect(rtt);
                }
            }
            Event::Headers => {
                admitted = Some(Evidence::Headers);
                if flight.phase == Phase::Sent {
                    flight.phase = Phase::Headers;
                    flight.due = first_content;
                }
            }
            Event::Alive => admitted = Some(Evidence::Content),
            Event::Content => {
                if flight.phase != Phase::Content {
                    flight.phase = Phase::Content;
                    admitted = Some(Evidence::Content);
                    content_after = Some((flight.route, now - flight.sent));
                }
                flight.due = Timestamp::MAX;
            }
            // A caller that came late to read has not let the server's time run out.
            Event::Reading if flight.phase == Phase::Content => flight.due = idle,
            Event::Reading if delivered => flight.due = first_content.max(idle),
            Event::Reading => {}
            Event::Delivered => {
                if flight.phase != Phase::Content {
                    flight.due = Timestamp::MAX;
                }
                call.delivered = true;
            }
            Event::Ended { outcome, tokens } => {
                self.settle(now, attempt.ticket, outcome, tokens, false);
                return;
            }
        }
        let lanes = flight.lanes;
        self.arm_call(attempt.ticket);
        if let Some(evidence) = admitted {
            for lane in lanes.into_iter().flatten() {
                let state = &mut self.lanes[lane.lane.0 as usize];
                state.ceiling.on_admitted(now, lane.seq, evidence);
                state.quota.on_accepted();
                self.mark_lane(lane.lane);
            }
        }
        if let Some((route, after)) = content_after {
            let labels = self.labels(attempt.ticket, Some(route));
            self.metrics.count(labels, |scope| scope.first_content.record(after));
        }
    }

    /// The caller gave the call up. Its permit comes back and nothing more is heard of it; the driver closes the
    /// connection. Returns whether it was still there.
    pub fn cancel(&mut self, now: Timestamp, ticket: Ticket) -> bool {
        let now = self.tick(now);
        let Some(call) = self.get(ticket) else { return false };
        if matches!(call.state, State::InFlight(_)) {
            self.leave_lanes(now, ticket, Departure::Cancelled);
        } else {
            self.unqueue(ticket);
        }
        let labels = self.labels(ticket, None);
        self.metrics.count(labels, |scope| scope.counters.cancelled += 1);
        self.remove(ticket);
        true
    }

    /// Takes a waiting call out of wherever it waits.
    fn unqueue(&mut self, ticket: Ticket) {
        let Some(call) = self.call(ticket) else { return };
        let pool_id = call.pool;
        match std::mem::replace(&mut call.state, State::Outside) {
            State::Queued => {
                let calls = &self.calls;
                self.pools[pool_id as usize].queue.on_cancelled(|ticket: Ticket| {
                    let call = calls.get(ticket.index as usize);
                    call.is_some_and(|call| call.serial == ticket.serial && matches!(call.state, State::Queued))
                });
                self.admit_from_overflow(pool_id);
            }
            State::Backoff { .. } => self.backing_off -= 1,
            State::Outside => {
                // Stays in the overflow line as a dead entry; they are swept once they outnumber the living.
                let pool = &mut self.pools[pool_id as usize];
                pool.overflow_dead += 1;
                if pool.overflow_dead * 2 > pool.overflow.len() + 64 {
                    pool.overflow_dead = 0;
                    let calls = &self.calls;
                    pool.overflow.retain(|&other| {
                        let call = calls.get(other.index as usize);
                        other != ticket && call.is_some_and(|call| call.serial == other.serial)
                    });
                }
            }
            State::InFlight(_) => {}
        }
    }

    /// Gives a call's permits back. Returns the attempt that held them.
    fn leave_lanes(&mut self, now: Timestamp, ticket: Ticket, departure: Departure<'_>) -> Option<Box<Flight>> {
        let call = self.call(ticket)?;
        let (class, workload, tokens) = (call.class, call.workload, u64::from(call.tokens));
        let flight = match std::mem::replace(&mut call.state, State::Outside) {
            State::InFlight(flight) => flight,
            other => {
                call.state = other;
                return None;
            }
        };
        self.in_flight -= 1;
        self.workloads[workload.index()].in_flight -= 1;
        let blamed = self.blamed(&flight);
        for (at, place) in flight.lanes.into_iter().enumerate() {
            let Some(place) = place else { continue };
            self.lanes[place.lane.0 as usize].in_flight[class as usize] -= 1;
            self.settle_lane(now, place, flight.sent, &departure, blamed == at, tokens);
            self.mark_lane(place.lane);
        }
        if self.workloads[workload.index()].spec.max_concurrency.is_some() {
            self.mark_all();
        }
        if flight.probes_stop && matches!(departure, Departure::Cancelled) {
            self.end_probe(now, flight.route);
        }
        Some(flight)
    }

    /// Which of a flight's lanes a slot rejection is about: the one nearer to its limit.
    fn blamed(&self, flight: &Flight) -> usize {
        let load = |place: Option<LaneFlight>| {
            place.map_or(-1.0, |place| {
                let ceiling = &self.lanes[place.lane.0 as usize].ceiling;
                f64::from(ceiling.in_flight()) / f64::from(ceiling.window().max(1))
            })
        };
        usize::from(load(flight.lanes[1]) > load(flight.lanes[0]))
    }

    fn settle_lane(
        &mut self,
        now: Timestamp,
        place: LaneFlight,
        sent: Timestamp,
        departure: &Departure<'_>,
        blamed: bool,
        estimated: u64,
    ) {
        use OutcomeKind as K;
        let Self { lanes, rng, .. } = self;
        let lane = &mut lanes[place.lane.0 as usize];
        let seq = place.seq;
        let Departure::Ended { outcome, tokens, aborted } = departure else {
            lane.ceiling.on_cancelled(now, seq);
            lane.breaker.on_neutral(now, place.trial);
            return;
        };
        let was_pressed = lane.pressure;
        let mut breaker_moved = false;
        match outcome.kind {
            K::Success => {
                lane.ceiling.on_done(now, seq);
                lane.pressure = false;
                breaker_moved = lane.breaker.on_success();
            }
            K::Slot if blamed => {
                lane.ceiling.on_slot_rejected(now, seq, outcome.told, outcome.retry_after, rng);
                lane.breaker.on_neutral(now, place.trial);
            }
            K::Pressure => {
                lane.ceiling.on_unavailable(now, seq, outcome.retry_after, rng);
                lane.pressure = true;
                breaker_moved = lane.breaker.on_failure(now, sent, place.trial, rng);
            }
            K::Server | K::Transport | K::FirstContentTimeout | K::Interrupted | K::Malformed => {
                // A connection we closed may still count on the server's side for a while.
                if *aborted {
                    lane.ceiling.on_cancelled(now, seq)
                } else {
                    lane.ceiling.on_failed(now, seq)
                }
                breaker_moved = lane.breaker.on_failure(now, sent, place.trial, rng);
            }
            K::Cancelled => {
                lane.ceiling.on_cancelled(now, seq);
                lane.breaker.on_neutral(now, place.trial);
            }
            K::Rate | K::Slot | K::Billing | K::Authentication | K::Forbidden | K::Refused => {
                lane.ceiling.on_failed(now, seq);
                lane.breaker.on_neutral(now, place.trial);
            }
        }
        if outcome.kind == K::Rate {
            lane.quota.on_rejected(now, outcome.retry_after, &outcome.quota, rng);
        } else {
            lane.quota.on_hints(now, &outcome.quota);
        }
        match tokens {
            Some(tokens) => lane.quota.on_usage(sent, estimated, tokens.total()),
            None if outcome.kind != K::Success => lane.quota.on_usage(sent, estimated, 0),
            None => {}
        }
        let (pressure, open) = (lane.pressure, lane.breaker.state() != BreakerState::Closed);
        let lane = place.lane;
        if pressure != was_pressed {
            self.notify(if pressure { Notice::Pressure { lane } } else { Notice::Recovered { lane } });
        }
        if breaker_moved {
            self.notify(Notice::Breaker { lane, open });
        }
        if let (true, Some(told)) = (outcome.low_balance && blamed, outcome.told) {
            self.notify(Notice::LowBalance { lane, limit: told.limit });
        }
        self.report_limit(lane);
    }

    /// An attempt is over: the lanes learn, the books are kept, and the call goes on or ends.
    fn settle(&mut self, now: Timestamp, ticket: Ticket, outcome: Outcome, tokens: Option<TokenCount>, aborted: bool) {
        let departure = Departure::Ended { outcome: &outcome, tokens, aborted };
        let Some(flight) = self.leave_lanes(now, ticket, departure) else { return };
        self.record_flight(now, ticket, &flight, &outcome, tokens);
        self.settle_stops(now, &flight, &outcome);
        if outcome.kind == OutcomeKind::Success {
            self.budget.on_success(now);
            self.complete(now, ticket, flight.route);
            return;
        }
        let pool_id = self.calls[ticket.index as usize].pool;
        let candidates = &self.pools[pool_id as usize].candidates;
        let others = candidates.iter().enumerate().filter(|(_, candidate)| candidate.route != flight.route);
        let mut others = others.map(|(at, _)| at);
        let here = candidates.iter().position(|candidate| candidate.route == flight.route).unwrap_or(0);
        let call = &mut self.calls[ticket.index as usize];
        call.failures += u32::from(counts(&outcome));
        let excluded = call.excluded | 1 << here;
        let elsewhere = others.any(|at| excluded & (1 << at) == 0);
        let next = if outcome.kind == OutcomeKind::Cancelled {
            Next::End(FailureKind::Exhausted)
        } else {
            decide(call, &outcome, &self.config.retry, now, &mut self.rng)
        };
        let kind = outcome.kind;
        call.last_outcome = Some(Box::new(outcome));
        let attempts = call.history.as_ref().map_or(0, |history| history.sent());
        let next = if self.closed && !matches!(next, Next::End(_)) { Next::End(FailureKind::Closed) } else { next };
        let delay = match next {
            Next::End(kind) => return self.fail(ticket, kind, None),
            Next::Elsewhere if elsewhere => {
                call.excluded = excluded;
                self.enqueue(ticket, true);
                Duration::ZERO
            }
            Next::Elsewhere => {
                let kind = if kind == OutcomeKind::Forbidden { FailureKind::Forbidden } else { FailureKind::Deadline };
                return self.fail(ticket, kind, None);
            }
            Next::Requeue => {
                self.enqueue(ticket, true);
                Duration::ZERO
            }
            Next::After { delay, budgeted } => {
                let at = if budgeted { self.budget.reserve(now, now + delay) } else { now + delay };
                self.back_off(ticket, at);
                at - now
            }
        };
        self.arm_call(ticket);
        self.notify(Notice::Retry { ticket, attempts, kind, delay });
    }

    fn back_off(&mut self, ticket: Ticket, until: Timestamp) {
        if let Some(call) = self.call(ticket) {
            call.state = State::Backoff { until };
            self.backing_off += 1;
            self.arm_call(ticket);
        }
    }

    /// Stops an account or a route, or opens it again.
    fn settle_stops(&mut self, now: Timestamp, flight: &Flight, outcome: &Outcome) {
        let account = self.routes[flight.route.index()].account;
        let probe_at = now + self.config.stop_probe;
        let route = &mut self.routes[flight.route.index()];
        let stop = || Some(Stop { probe_at, cause: outcome.clone(), probing: false });
        let stopped = match outcome.kind {
            OutcomeKind::Success => {
                route.forbidden = 0;
                let reopened = route.stop.take().is_some() | self.accounts[account].stop.take().is_some();
                if reopened {
                    self.mark_all();
                }
                return;
            }
            OutcomeKind::Billing => {
                self.accounts[account].stop = stop();
                true
            }
            OutcomeKind::Authentication => {
                route.stop = stop();
                true
            }
            OutcomeKind::Forbidden => {
                route.forbidden += 1;
                let stopped = route.forbidden >= FORBIDDEN_RUN;
                if stopped {
                    route.stop = stop();
                }
                stopped
            }
            _ => false,
        };
        if stopped {
            self.mark_all();
            self.notify(Notice::Stopped { route: flight.route, kind: outcome.kind });
        } else if flight.probes_stop {
            self.end_probe(now, flight.route);
        }
    }

    /// A probe of a stopped account or route ended without an answer to the question: the next call may ask at once.
    fn end_probe(&mut self, now: Timestamp, route: RouteId) {
        let account = self.routes[route.index()].account;
        for stop in [&mut self.routes[route.index()].stop, &mut self.accounts[account].stop].into_iter().flatten() {
            stop.probing = false;
            stop.probe_at = stop.probe_at.min(now);
        }
        self.mark_all();
    }

    fn record_flight(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        flight: &Flight,
        outcome: &Outcome,
        tokens: Option<TokenCount>,
    ) {
        let labels = self.labels(ticket, Some(flight.route));
        self.metrics.count(labels, |scope| {
            scope.on_outcome(outcome.kind);
            if let Some(tokens) = &tokens {
                scope.on_tokens(tokens);
            }
        });
        let record = AttemptRecord {
            route: flight.route,
            sent: flight.sent,
            took: now - flight.sent,
            kind: outcome.kind,
            status: outcome.status,
            message: outcome.message.clone(),
            request_id: outcome.request_id.clone(),
        };
        self.calls[ticket.index as usize].history.get_or_insert_default().push(record);
    }

    // ---- ends ----

    fn complete(&mut self, now: Timestamp, ticket: Ticket, route: RouteId) {
        let labels = self.labels(ticket, Some(route));
        let Some(mut call) = self.remove(ticket) else { return };
        let elapsed = now - call.submitted;
        self.metrics.count(labels, |scope| {
            scope.counters.completed += 1;
            scope.duration.record(elapsed);
        });
        let history = call.history.take().map(|history| *history).unwrap_or_default();
        self.actions.push_back(Action::End { ticket, result: Ok(Done { route, history, elapsed }) });
    }

    fn fail(&mut self, ticket: Ticket, kind: FailureKind, cause: Option<Outcome>) {
        if self.get(ticket).is_none() {
            return;
        }
        let labels = self.labels(ticket, None);
        let Some(mut call) = self.remove(ticket) else { return };
        self.metrics.count(labels, |scope| scope.counters.failed += 1);
        let failure = Failure {
            kind,
            outcome: cause.or_else(|| call.last_outcome.take().map(|outcome| *outcome)),
            history: call.history.take().map(|history| *history).unwrap_or_default(),
            elapsed: self.now - call.submitted,
        };
        self.actions.push_back(Action::End { ticket, result: Err(Box::new(failure)) });
    }

    /// Every route of the pool is stopped: its waiting calls fail for the reason of the first.
    fn fail_all(&mut self, pool_id: u32) {
        let pool = &mut self.pools[pool_id as usize];
        let route = &self.routes[pool.candidates[0].route.index()];
        let stop = route.stop.as_ref().or(self.accounts[route.account].stop.as_ref());
        let cause = stop.map(|stop| stop.cause.clone());
        let kind = match cause.as_ref().map(|cause| cause.kind) {
            Some(OutcomeKind::Billing) => FailureKind::InsufficientBalance,
            Some(OutcomeKind::Forbidden) => FailureKind::Forbidden,
            _ => FailureKind::Authentication,
        };
        let mut waiting = pool.queue.drain();
        waiting.extend(pool.overflow.drain(..));
        for ticket in waiting {
            if self.get(ticket).is_some_and(|call| matches!(call.state, State::Queued | State::Outside)) {
                self.fail(ticket, kind, cause.clone());
            }
        }
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Call> {
        self.get(ticket)?;
        let call = self.calls.try_remove(ticket.index as usize)?;
        self.pools[call.pool as usize].calls -= 1;
        Some(call)
    }

    // ---- the whole ----

    /// Stops admissions and ends every waiting call as [`FailureKind::Closed`]. Attempts in flight go on, unless `abort`:
    /// then they are closed too. May be called again, to abort what a first call let go on.
    pub fn close(&mut self, now: Timestamp, abort: bool) {
        let now = self.tick(now);
        self.closed = true;
        let all: Vec<Ticket> =
            self.calls.iter().map(|(index, call)| Ticket { index: index as u32, serial: call.serial }).collect();
        // First take everyone out of line, so that no permit given back is handed to a call about to end.
        let mut flying = Vec::new();
        for ticket in all {
            match &self.calls[ticket.index as usize].state {
                State::InFlight(flight) => flying.push((ticket, flight.number)),
                _ => {
                    self.unqueue_for_close(ticket);
                    self.fail(ticket, FailureKind::Closed, None);
                }
            }
        }
        if abort {
            for (ticket, number) in flying {
                self.actions.push_back(Action::Abort { attempt: Attempt { ticket, number } });
                self.leave_lanes(now, ticket, Departure::Cancelled);
                self.fail(ticket, FailureKind::Closed, None);
            }
        }
    }

    /// Like [`Scheduler::unqueue`], but lets nobody in from the overflow.
    fn unqueue_for_close(&mut self, ticket: Ticket) {
        let call = &self.calls[ticket.index as usize];
        let pool_id = call.pool;
        if matches!(call.state, State::Backoff { .. }) {
            self.backing_off -= 1;
        }
        let pool = &mut self.pools[pool_id as usize];
        pool.queue.drain();
        pool.overflow.clear();
        pool.overflow_dead = 0;
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
        for (_, lane) in &mut self.lanes {
            lane.breaker.reset(now);
            lane.quota.reset();
        }
        self.mark_all();
    }

    /// What the lanes have learned, to be saved across a restart.
    pub fn learned(&self) -> Vec<LearnedLane> {
        let mut lanes: Vec<_> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.key.user_id.is_none())
            .map(|(_, lane)| LearnedLane { lane: lane.key.clone(), learned: lane.ceiling.learned(self.now) })
            .collect();
        lanes.sort_by(|a, b| (&a.lane.account, &a.lane.model).cmp(&(&b.lane.account, &b.lane.model)));
        lanes
    }

    /// Takes over what a former run learned, for lanes in use and for those still to come.
    pub fn restore(&mut self, now: Timestamp, learned: Vec<LearnedLane>) {
        let now = self.tick(now);
        for LearnedLane { lane, learned } in learned {
            match self.lane_of.get(&lane) {
                Some(&id) => {
                    self.lanes[id.0 as usize].ceiling.restore(now, learned);
                    self.mark_lane(id);
                }
                None => {
                    self.restored.insert(lane, learned);
                }
            }
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

    /// Everything counted so far, and the state of every lane.
    pub fn snapshot(&mut self, now: Timestamp) -> MetricsSnapshot {
        let now = self.tick(now);
        let (total, routes, models, workloads) = self.metrics.snapshot(
            self.config.routes.iter().map(|route| route.name.as_str()),
            self.models.iter().map(|name| &**name),
            self.workloads.iter().map(|workload| workload.spec.name.as_str()),
        );
        let lanes = self.lanes.iter().map(|(_, lane)| {
            let view = lane.ceiling.view();
            let paused = lane.ceiling.pause_until().map_or(0.0, |until| until.secs_since(now));
            LaneSnapshot {
                account: lane.key.account.clone(),
                model: lane.key.model.clone(),
                user_id: lane.key.user_id.clone(),
                limit: view.window,
                measured: view.measured,
                in_flight: lane.in_flight.iter().sum(),
                state: view.state.name(),
                breaker: lane.breaker_name(),
                paused,
            }
        });
        let lanes = lanes.collect();
        let Load { queued, backing_off, in_flight } = self.load();
        let uptime = now.as_secs_f64();
        MetricsSnapshot { uptime, queued, backing_off, in_flight, total, routes, models, workloads, lanes }
    }

    fn notify(&mut self, notice: Notice) {
        if self.notices {
            self.actions.push_back(Action::Notify(notice));
        }
    }

    fn report_limit(&mut self, lane: LaneId) {
        let state = &mut self.lanes[lane.0 as usize];
        let limit = state.ceiling.window();
        if limit != state.reported_limit {
            state.reported_limit = limit;
            self.notify(Notice::Limit { lane, limit });
        }
    }
}

/// How much is going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Calls waiting for a permit.
    pub queued: u64,
    /// Calls waiting to be tried again.
    pub backing_off: u64,
    /// Requests in flight.
    pub in_flight: u64,
}

/// How an attempt leaves its lanes.
enum Departure<'a> {
    /// Given up by the caller.
    Cancelled,
    /// It came to something; `aborted` says that we closed the connection.
    Ended { outcome: &'a Outcome, tokens: Option<TokenCount>, aborted: bool },
}
