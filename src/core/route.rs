//! Routes and lanes: the ways to reach a model, and what the provider limits as one.
//!
//! DeepSeek limits requests in flight per account and model, whatever the API key
//! (<https://api-docs.deepseek.com/quick_start/rate_limit>), so two keys of one account are two routes on one lane: more
//! keys of one account raise nothing. Keys of different accounts, and other providers, are lanes of their own. Routes
//! are for availability; they are not a means to evade a provider's limits.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::breaker::{Breaker, BreakerPolicy, BreakerState};
use super::call::counts;
use super::limit::{Admission, Ceiling, Params};
use super::outcome::Outcome;
use super::queue::Class;
use super::quota::{Quota, QuotaSpec};
use super::scheduler::ConfigError;
use super::time::Timestamp;

/// A route, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub(crate) u16);

impl RouteId {
    /// Its place in the configuration, from 0.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A lane, by the order in which it was first used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub(crate) u32);

/// How calls choose among the routes that serve their model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The first route that is open; later ones are fallbacks. A full route is waited for, not passed over; one that a rate
    /// limit, or the wait a server asked for, holds for more than a second is passed over. A call that a route has refused
    /// (a 403, a wait beyond its deadline) goes to the others only.
    #[default]
    Ordered,
    /// In turn by weight (smooth weighted round-robin); a full or closed route gives its turn to the next.
    Weighted,
    /// In turn; a full or closed route gives its turn to the next.
    RoundRobin,
}

/// A model as one route knows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelSpec {
    /// The name callers use.
    pub name: String,
    /// The name this route's provider uses, if it is another.
    pub upstream: Option<String>,
    /// The model whose limit it counts against, if it is another (a provider's alias).
    pub lane: Option<String>,
    /// The provider's published cap on requests in flight: a hint for the first climb, never a ceiling.
    pub hint: Option<u32>,
}

/// One way to reach models: what the core needs to know of a base URL with a key.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSpec {
    /// Its name in errors and metrics; unique.
    pub name: String,
    /// The account whose limits it counts against. Routes that share an account share its lanes.
    pub account: String,
    /// Its share of turns under [`Strategy::Weighted`]. Default 1; finite and above zero.
    pub weight: f64,
    /// Models known by name.
    pub models: Vec<ModelSpec>,
    /// Whether it also takes models not named in `models`. Default true. What was learned and counted of a model is kept
    /// for good: where names come from outside, name the models and turn this off.
    pub any_model: bool,
    /// A hard ceiling on requests in flight per lane; the learned limit stays at or under it. Default none.
    pub max_concurrency: Option<u32>,
    /// Whether the account limits each `user_id` as well as the whole (DeepSeek does on accounts with raised quota).
    pub per_user: bool,
    /// Rate quotas per lane, for what the server does not tell: limits that its answers state are learned by themselves.
    /// Default none. Of routes that share an account, the strictest holds for all.
    pub quota: QuotaSpec,
}

impl RouteSpec {
    /// A route to any model of `account`.
    pub fn new(name: impl Into<String>, account: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            account: account.into(),
            weight: 1.0,
            models: Vec::new(),
            any_model: true,
            max_concurrency: None,
            per_user: false,
            quota: QuotaSpec::default(),
        }
    }

    /// The same with DeepSeek's published caps as hints and its aliases on the lanes they count against
    /// (<https://api-docs.deepseek.com/quick_start/pricing>).
    #[must_use]
    pub fn with_deepseek_models(mut self) -> Self {
        for name in ["deepseek-flash", "deepseek-v4-flash", "deepseek-v4-flash-vision-exp"] {
            self.models.push(ModelSpec {
                name: name.into(),
                upstream: None,
                lane: Some("deepseek-flash".into()),
                hint: Some(2500),
            });
        }
        self.models.push(ModelSpec { name: "deepseek-v4-pro".into(), hint: Some(500), ..ModelSpec::default() });
        self
    }

    /// What this route makes of `model`: `None` if it does not serve it.
    pub(crate) fn resolve(&self, model: &str) -> Option<Resolved<'_>> {
        match self.models.iter().find(|spec| spec.name == model) {
            Some(spec) => {
                let upstream = spec.upstream.as_deref();
                let lane = spec.lane.as_deref().or(upstream);
                Some(Resolved { upstream, lane, hint: spec.hint })
            }
            None => self.any_model.then_some(Resolved { upstream: None, lane: None, hint: None }),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let name = &self.name;
        let refuse = |field, expected, found| {
            Err(ConfigError::Field { field, kind: "route", name: name.clone(), expected, found })
        };
        if name.is_empty() {
            return Err(ConfigError::Unnamed { kind: "route" });
        }
        if !(self.weight.is_finite() && self.weight > 0.0) {
            return refuse("weight", "finite and above zero", self.weight);
        }
        if self.max_concurrency == Some(0) {
            return refuse("max_concurrency", "at least 1", 0.0);
        }
        let quota = &self.quota;
        for (field, value) in [
            ("requests_per_minute", quota.requests_per_minute),
            ("tokens_per_minute", quota.tokens_per_minute),
            ("requests_per_day", quota.requests_per_day),
        ] {
            if value == Some(0) {
                return refuse(field, "at least 1", 0.0);
            }
        }
        if self.models.is_empty() && !self.any_model {
            return Err(ConfigError::NoModel(name.clone()));
        }
        Ok(())
    }
}

/// A model as a route resolves it; `None` stands for the caller's own name.
#[derive(Debug)]
pub(crate) struct Resolved<'a> {
    pub(crate) upstream: Option<&'a str>,
    pub(crate) lane: Option<&'a str>,
    pub(crate) hint: Option<u32>,
}

/// What the provider limits as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct LaneKey {
    /// The account.
    pub account: String,
    /// The model, by the name whose limit counts.
    pub model: String,
    /// The end user, on accounts that limit each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
}

impl LaneKey {
    /// All of it in one text, by which lanes are found and sorted.
    pub(crate) fn joined(&self) -> Box<str> {
        let user = self.user_id.as_deref();
        // No name that can be sent holds a NUL.
        let mark = if user.is_some() { "\0" } else { "" };
        [&*self.account, "\0", &*self.model, "\0", mark, user.unwrap_or("")].concat().into()
    }
}

/// Why an account or a route takes nothing for now.
#[derive(Debug)]
pub(crate) struct Stop {
    /// When one call may find out whether it is over.
    pub(crate) probe_at: Timestamp,
    /// The answer that caused it.
    pub(crate) cause: Outcome,
    /// A call is finding out.
    pub(crate) probing: bool,
}

/// What a lane's gates say to one more request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Passage {
    /// It may be sent.
    Open {
        /// It is sent for learning; the lowest class present carries it.
        risky: bool,
    },
    /// Every permit is out; one that comes back opens it.
    Full,
    /// A quota or a 429's pause holds it until then.
    Limited { until: Timestamp },
    /// The service is failing: waits until then, or for the trial under way.
    Closed { until: Option<Timestamp> },
}

/// What holds a whole lane for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// The service keeps failing.
    Breaker,
    /// It is overloaded, or a rejection for concurrency is waited out.
    Pause,
    /// A limit on requests or tokens by time, or the wait after a rejection for one.
    Rate,
}

impl Gate {
    /// Its name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::Pause => "pause",
            Self::Rate => "rate",
        }
    }
}

/// A lane: one limit with everything that guards it.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) key: LaneKey,
    pub(crate) ceiling: Ceiling,
    pub(crate) breaker: Breaker,
    pub(crate) quota: Quota,
    /// The pools whose jobs may use it.
    pub(crate) pools: Vec<u32>,
    /// The pools with jobs waiting for it, in order.
    pub(crate) waiting: Vec<u32>,
    /// The pool served last.
    pub(crate) turn: u32,
    /// When each class was last served.
    pub(crate) served: [Timestamp; 3],
    /// When the service last said it is overloaded, if nothing sent since has been let in.
    pub(crate) pressure: Option<Timestamp>,
    /// Requests since the last success that were taken in and came to nothing for want of resources.
    pub(crate) strain: u32,
    pub(crate) last_interactive: Option<Timestamp>,
    pub(crate) last_used: Timestamp,
    /// The earliest timer set for it.
    pub(crate) armed: Timestamp,
    pub(crate) reported_limit: u32,
    /// The limit last reported as scaled by a low balance.
    pub(crate) reported_balance: Option<u32>,
    pub(crate) in_flight: [u32; 3],
}

impl Lane {
    pub(crate) fn new(now: Timestamp, key: LaneKey, params: Params, breaker: BreakerPolicy, quota: &QuotaSpec) -> Self {
        let ceiling = Ceiling::new(now, params);
        Self {
            key,
            reported_limit: ceiling.window(),
            ceiling,
            breaker: Breaker::new(breaker),
            quota: Quota::new(quota),
            pools: Vec::new(),
            waiting: Vec::new(),
            turn: 0,
            served: [Timestamp::ZERO; 3],
            pressure: None,
            strain: 0,
            last_interactive: None,
            last_used: now,
            armed: Timestamp::MAX,
            reported_balance: None,
            in_flight: [0; 3],
        }
    }

    /// Notes that a pool has jobs waiting for it.
    pub(crate) fn wait(&mut self, pool: u32) {
        if let Err(place) = self.waiting.binary_search(&pool) {
            self.waiting.insert(place, pool);
        }
    }

    /// Notes that a pool has none any more.
    pub(crate) fn stop_waiting(&mut self, pool: u32) {
        if let Ok(place) = self.waiting.binary_search(&pool) {
            self.waiting.remove(place);
        }
    }

    /// The one list of gates a request passes, in the order of how much they close. The ceiling was advanced to now.
    pub(crate) fn passage(&mut self, now: Timestamp, rng: &mut fastrand::Rng) -> Passage {
        if let Some((gate, until)) = self.held(now) {
            return if gate == Gate::Breaker || (gate == Gate::Pause && self.pressure.is_some()) {
                Passage::Closed { until: Some(until) }
            } else {
                Passage::Limited { until }
            };
        }
        match self.ceiling.settled_admission(now, rng) {
            Admission::Yes => Passage::Open { risky: self.breaker.state() != BreakerState::Closed },
            Admission::Risky => Passage::Open { risky: true },
            Admission::No if self.pressure.is_some() => Passage::Closed { until: None },
            Admission::No => Passage::Full,
        }
    }

    /// The first gate that holds whatever is sent, if one does, and until when at the latest.
    #[cfg_attr(target_family = "wasm", inline(never))]
    pub(crate) fn held(&mut self, now: Timestamp) -> Option<(Gate, Timestamp)> {
        let until = self.breaker.opens_at(now);
        if until > now {
            return Some((Gate::Breaker, until));
        }
        let paused = self.ceiling.pause_until().filter(|&until| until > now);
        if let Some(until) = paused {
            return Some((Gate::Pause, until));
        }
        let until = self.quota.opens_at(now, 1);
        (until > now).then_some((Gate::Rate, until))
    }

    /// Which classes may take a permit now.
    ///
    /// While interactive work has been about in the last minute, a fiftieth of the window (at least one of four) is kept
    /// for it, so that a flood of long background calls cannot hold every slot. Not while the limit is being learned:
    /// a window that is never full could never grow. And under pressure background adds nothing to the load while
    /// higher classes are in flight.
    pub(crate) fn allowed(&self, now: Timestamp) -> [bool; 3] {
        let window = self.ceiling.window();
        let recent = self.kept_until(now).is_some();
        let reserve = if recent && window >= 4 && !self.ceiling.is_learning(now) { (window / 50).max(1) } else { 0 };
        let lower = self.in_flight[1] + self.in_flight[2] + reserve < window || reserve == 0;
        let held = self.pressure.is_some() && self.in_flight[0] + self.in_flight[1] > 0;
        [true, lower, lower && !held]
    }

    /// Until when slots are kept for interactive work, if it has been about lately.
    pub(crate) fn kept_until(&self, now: Timestamp) -> Option<Timestamp> {
        const RECENT: Duration = Duration::from_secs(60);
        self.last_interactive.map(|at| at + RECENT).filter(|&until| until > now)
    }

    /// Whether an overload is one request's alone, as far as is known: it was taken in and then came to nothing (a blank
    /// 200, a generation cut short, a gateway's timeout). Among dozens that go well that must not close the lane; three
    /// in a row do, and so does a refusal at the door (503, 529) or a wait that the server asks for.
    pub(crate) fn is_mere_strain(&mut self, outcome: &Outcome) -> bool {
        const IN_A_ROW: u32 = 3;
        self.strain = self.strain.saturating_add(1);
        counts(outcome) && outcome.retry_after.is_none() && self.pressure.is_none() && self.strain < IN_A_ROW
    }

    /// Notes that the service let in what was sent at `sent`. Returns whether this ends the pressure: what was let in
    /// before the overload says nothing about it.
    pub(crate) fn relieve(&mut self, sent: Timestamp) -> bool {
        self.pressure.take_if(|since| sent > *since).is_some()
    }

    /// The limit, if it is another than was last told.
    pub(crate) fn news_of_limit(&mut self) -> Option<u32> {
        let limit = self.ceiling.window();
        (core::mem::replace(&mut self.reported_limit, limit) != limit).then_some(limit)
    }

    pub(crate) fn breaker_name(&self) -> &'static str {
        match self.breaker.state() {
            BreakerState::Closed => "closed",
            BreakerState::Open { .. } => "open",
            BreakerState::HalfOpen => "half-open",
        }
    }

    pub(crate) fn note_class(&mut self, now: Timestamp, class: Class) {
        self.last_used = now;
        if class == Class::Interactive {
            self.last_interactive = Some(now);
        }
    }
}

/// One route a pool's jobs may take, with the lanes it counts against: the account's, then the user's.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) route: RouteId,
    pub(crate) lanes: [Option<LaneId>; 2],
    pub(crate) weight: f64,
    /// Smooth weighted round-robin's running balance
    /// (<https://github.com/nginx/nginx/commit/52327e0627f49dbda1e8db695e63a4b0af4448b1>).
    pub(crate) credit: f64,
}
