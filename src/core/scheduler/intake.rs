//! Taking calls in: pools, lanes and models come into being as calls name them.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use super::dispatch::stopped;
use super::{JobSpec, Model, Offer, OnFull, Pool, Scheduler, SubmitError};
use crate::core::call::{Call, State, Ticket};
use crate::core::limit::Params;
use crate::core::queue::Queue;
use crate::core::quota::QuotaSpec;
use crate::core::route::{Candidate, Lane, LaneId, LaneKey, RouteId};
use crate::core::time::Timestamp;
use crate::core::tokens::Estimator;

/// Pools beyond which idle ones are forgotten, and the lanes of single users with them.
pub(super) const POOLS: usize = 4096;

impl Scheduler {
    /// Takes a call in. It ends in exactly one [`Action::End`](super::Action::End), unless it is cancelled before.
    ///
    /// # Errors
    /// [`SubmitError`]; the call then never was.
    pub fn submit(&mut self, now: Timestamp, spec: JobSpec<'_>) -> Result<Ticket, SubmitError> {
        if self.closed {
            return Err(SubmitError::Closed);
        }
        let model = self.model(spec.model).ok_or_else(|| SubmitError::NoRoute { model: spec.model.to_owned() })?;
        self.submit_to(now, model, spec)
    }

    /// [`Scheduler::submit`] to the model of this number; the name in `spec` is not looked at.
    ///
    /// # Errors
    /// [`SubmitError`]; the call then never was.
    pub fn submit_to(&mut self, now: Timestamp, model: u32, spec: JobSpec<'_>) -> Result<Ticket, SubmitError> {
        let now = self.tick(now);
        if self.closed {
            return Err(SubmitError::Closed);
        }
        let pool_id = self.pool(now, model, spec.user_id);
        let pool = &mut self.pools[pool_id as usize];
        let full = pool.queue.len() >= self.config.max_queued;
        if full && spec.on_full == OnFull::Fail {
            return Err(SubmitError::QueueFull { limit: self.config.max_queued });
        }
        pool.calls += 1;
        let class = self.workloads[spec.workload.index()].spec.class;
        for lane in &pool.lanes {
            self.lanes[lane.0 as usize].note_class(now, class);
        }
        let tokens = self.models[model as usize].estimator.correct(f64::from(spec.tokens));
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let series = self.metrics.series(spec.workload.0, model);
        self.metrics.scope(series, None).counters.submitted += 1;
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let index = self.calls.insert(Call {
            serial,
            pool: pool_id,
            model,
            workload: spec.workload,
            series,
            class,
            delivered: false,
            estimated: spec.tokens,
            tokens,
            failures: 0,
            max_attempts: spec.max_attempts.unwrap_or(self.config.retry.max_attempts).max(1),
            state: State::Outside,
            submitted: now,
            deadline: spec.deadline.or(self.config.deadline).map_or(Timestamp::MAX, |span| now + span),
            first_sent: None,
            armed: Timestamp::MAX,
            last_route: None,
            clocks: spec.clocks.map(Box::new),
            history: None,
            last_outcome: None,
        });
        let ticket = Ticket { index: index as u32, serial };
        if full {
            self.pools[pool_id as usize].overflow.push_back(ticket);
        } else {
            self.enqueue(ticket, false);
        }
        self.arm_call(ticket);
        Ok(ticket)
    }

    /// The number of a model, if some route serves it. Other names are not remembered: callers may make up any number.
    pub fn model(&mut self, name: &str) -> Option<u32> {
        if let Some(model) = self.model_of.get(name) {
            return Some(model);
        }
        let mut ways = self.config.routes.iter().filter(|route| route.resolve(name).is_some()).peekable();
        ways.peek()?;
        let per_user = ways.any(|route| route.per_user);
        let model = self.models.len() as u32;
        self.models.push(Model { name: name.into(), per_user, pool: None, estimator: Estimator::new() });
        self.model_of.insert(name.into(), model);
        Some(model)
    }

    /// The pool for calls to `model` by `user_id`: calls that may use the same lanes wait in one line.
    fn pool(&mut self, now: Timestamp, model: u32, user_id: Option<&str>) -> u32 {
        let Model { per_user, pool, name, .. } = &self.models[model as usize];
        let per_user = *per_user;
        let user_id = user_id.unwrap_or("");
        let found = if per_user { self.pool_of.get(&name_of_pool(model, user_id)) } else { *pool };
        if let Some(pool) = found {
            return pool;
        }
        let name = name.clone();
        self.forget_idle_pools(now);
        let mut candidates = Vec::new();
        for at in 0..self.config.routes.len() {
            let route = &self.config.routes[at];
            let Some(resolved) = route.resolve(&name) else { continue };
            let account = LaneKey {
                account: route.account.clone(),
                model: resolved.lane.unwrap_or(&name).to_owned(),
                user_id: None,
            };
            let hint = resolved.hint;
            let (weight, per_user) = (route.weight, route.per_user);
            let mut user = None;
            if per_user {
                let key = LaneKey { user_id: Some(user_id.to_owned()), ..account.clone() };
                user = Some(self.lane_for(now, key, hint));
            }
            let account = self.lane_for(now, account, hint);
            let lanes = [Some(account), user];
            candidates.push(Candidate { route: RouteId(at as u16), lanes, weight, credit: 0.0 });
        }
        let pool = self.pool_with(candidates);
        if per_user {
            self.pool_of.insert(name_of_pool(model, user_id), pool);
        } else {
            self.models[model as usize].pool = Some(pool);
            self.pools[pool as usize].kept = true;
        }
        pool
    }

    /// The pool of just these routes and lanes, if there is one. It is known to each of the lanes; the one with the fewest is asked.
    fn pool_of_lanes(&self, candidates: &[Candidate]) -> Option<u32> {
        let mut known: Option<&Vec<u32>> = None;
        for lane in lanes_of(candidates) {
            let pools = &self.lanes[lane.0 as usize].pools;
            if known.is_none_or(|known| pools.len() < known.len()) {
                known = Some(pools);
            }
        }
        known?.iter().copied().find(|&pool| {
            let others = &self.pools[pool as usize].candidates;
            let same = |(one, other): (&Candidate, &Candidate)| one.route == other.route && one.lanes == other.lanes;
            others.len() == candidates.len() && others.iter().zip(candidates).all(same)
        })
    }

    /// Moves a call that waits nowhere to the pool of its routes without `route`; false if there is no other, or if all
    /// others are stopped and nobody is finding out, so that what this one said decides. In a pool each call may take every
    /// route, so none waits for what is of no use to it.
    pub(super) fn leave_route(&mut self, ticket: Ticket, route: RouteId) -> bool {
        let from = self.calls[ticket.index as usize].pool;
        let mut others = Vec::new();
        for candidate in &self.pools[from as usize].candidates {
            if candidate.route != route {
                others.push(candidate.clone());
            }
        }
        let stopped = |other: &Candidate| stopped(self.now, &self.routes, &self.accounts, other.route);
        if others.iter().all(|other| matches!(stopped(other), Some(Offer::Stopped(_)))) {
            return false;
        }
        self.forget_idle_pools(self.now);
        let to = self.pool_with(others);
        self.calls[ticket.index as usize].pool = to;
        self.pools[from as usize].calls -= 1;
        self.pools[to as usize].calls += 1;
        true
    }

    /// The pool of just these routes and lanes, a new one if there is none yet.
    #[cfg_attr(target_family = "wasm", inline(never))]
    fn pool_with(&mut self, candidates: Vec<Candidate>) -> u32 {
        if let Some(pool) = self.pool_of_lanes(&candidates) {
            return pool;
        }
        let pool = self.pools.vacant_key() as u32;
        let lanes = lanes_of(&candidates);
        for lane in &lanes {
            self.lanes[lane.0 as usize].pools.push(pool);
        }
        self.pools.insert(Pool {
            kept: false,
            queue: Queue::new(),
            overflow: VecDeque::new(),
            overflow_dead: 0,
            calls: 0,
            dirty: None,
            shut: false,
            armed: Timestamp::MAX,
            candidates,
            lanes,
        });
        pool
    }

    pub(super) fn lane_for(&mut self, now: Timestamp, key: LaneKey, hint: Option<u32>) -> LaneId {
        let name = key.joined();
        if let Some(lane) = self.lane_of.get(&name) {
            return LaneId(lane);
        }
        // The strictest of what was configured holds for the account's lane, whichever of its routes came first.
        let mut params = Params { hint, ..Params::default() };
        let mut quota = QuotaSpec::default();
        for route in &self.config.routes {
            if route.account != key.account {
                continue;
            }
            params.max = stricter(params.max, route.max_concurrency);
            if key.user_id.is_none() {
                let QuotaSpec { requests_per_minute, tokens_per_minute, requests_per_day } = route.quota;
                quota.requests_per_minute = stricter(quota.requests_per_minute, requests_per_minute);
                quota.tokens_per_minute = stricter(quota.tokens_per_minute, tokens_per_minute);
                quota.requests_per_day = stricter(quota.requests_per_day, requests_per_day);
            }
        }
        let mut lane = Lane::new(now, key.clone(), params, self.config.breaker.clone(), &quota);
        if let Some(at) = self.restored.iter().position(|restored| restored.lane == key) {
            lane.ceiling.restore(now, self.restored.swap_remove(at).learned);
        }
        let id = self.lanes.insert(lane) as u32;
        self.lane_of.insert(name, id);
        LaneId(id)
    }

    /// If there are many pools, forgets those that no call is in, and lanes of single users that nobody has used for a
    /// minute with them, so that their number stays bounded.
    #[cfg_attr(target_family = "wasm", inline(never))]
    fn forget_idle_pools(&mut self, now: Timestamp) {
        if self.pools.len() < self.pools_most {
            return;
        }
        let lanes = &self.lanes;
        let used = |lane: LaneId| now.secs_since(lanes[lane.0 as usize].last_used) < 60.0;
        let idle = |pool: &Pool| {
            !pool.kept
                && pool.calls == 0
                && !pool.candidates.iter().any(|candidate| candidate.lanes[1].is_some_and(used))
        };
        let mut gone = Vec::new();
        for (id, pool) in &self.pools {
            if idle(pool) {
                gone.push(id as u32);
            }
        }
        for id in gone {
            let pool = self.pools.remove(id as usize);
            for lane in pool.lanes {
                let Some(state) = self.lanes.get_mut(lane.0 as usize) else { continue };
                state.stop_waiting(id);
                state.pools.retain(|&pool| pool != id);
                // Several pools may have shared it.
                if state.pools.is_empty() && state.key.user_id.is_some() {
                    self.lanes.remove(lane.0 as usize);
                }
            }
        }
        let Self { pools, lanes, .. } = self;
        self.pool_of.forget(&|pool| !pools.contains(pool as usize));
        self.lane_of.forget(&|lane| !lanes.contains(lane as usize));
        // Where most are in use, looking through all of them again must wait until there are many more.
        self.pools_most = POOLS.max(pools.len() * 2);
    }
}

/// The lanes of all of them.
fn lanes_of(candidates: &[Candidate]) -> Vec<LaneId> {
    let mut lanes = Vec::new();
    for candidate in candidates {
        lanes.extend(candidate.lanes.iter().flatten());
    }
    lanes
}

/// The lower of two limits, of those that are set.
fn stricter<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What the pool of a user's calls to a model is found by.
fn name_of_pool(model: u32, user_id: &str) -> Box<str> {
    let mut name = String::new();
    for byte in model.to_be_bytes() {
        name.push(char::from(byte));
    }
    name.push_str(user_id);
    name.into()
}
