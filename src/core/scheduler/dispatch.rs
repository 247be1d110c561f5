//! Sending: which call goes next, and by which route.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Account, Action, Notice, Offer, Pool, RouteState, Scheduler, Timer, served};
use crate::core::call::{Attempt, Flight, LaneFlight, Phase, State, Ticket};
use crate::core::outcome::OutcomeKind;
use crate::core::queue::{Select, WorkloadId};
use crate::core::route::{Candidate, LaneId, Passage, RouteId, Strategy};
use crate::core::time::Timestamp;

/// A lane limited for longer than this is passed over if another route is open.
const WORTH_WAITING: Duration = Duration::from_secs(1);

/// When a clock that was started at `since` runs out.
pub(super) fn after(since: Timestamp, clock: Option<Duration>) -> Timestamp {
    clock.map_or(Timestamp::MAX, |span| since + span)
}

/// What a route says that is stopped, or whose account is: nothing else is asked of it.
pub(super) fn stopped(now: Timestamp, routes: &[RouteState], accounts: &[Account], route: RouteId) -> Option<Offer> {
    let route = &routes[route.index()];
    let mut stops = route.stop.iter().chain(&accounts[route.account].stop);
    let stop = stops.find(|stop| stop.probing || stop.probe_at > now)?;
    Some(if stop.probing { Offer::Closed(None) } else { Offer::Stopped(stop.probe_at) })
}

impl Scheduler {
    /// Sends as many of a pool's calls as its lanes let through; one, if other pools wait for the same lanes.
    // Apart from `poll`, which mostly hands over what is there.
    #[inline(never)]
    pub(super) fn serve(&mut self, now: Timestamp, pool_id: u32) {
        let mut offers = core::mem::take(&mut self.offers);
        for lane in &self.pools[pool_id as usize].lanes {
            self.lanes[lane.0 as usize].ceiling.advance(now);
        }
        // Candidates that have room, but not for what waits; and of these, those that won't have it soon.
        let (mut unfit, mut passed) = (0u64, 0u64);
        let mut shut = false;
        while self.ask(now, pool_id, &mut offers) {
            if offers.iter().all(|offer| matches!(offer, Offer::Stopped(_))) {
                self.fail_all(pool_id);
                break;
            }
            let sent = loop {
                if unfit != 0 {
                    for (at, offer) in offers.iter_mut().enumerate() {
                        if unfit & (1 << at) != 0 && matches!(offer, Offer::Open { .. }) {
                            *offer = if passed & (1 << at) != 0 { Offer::Closed(None) } else { Offer::Full };
                        }
                    }
                }
                let Some(candidate) = self.choose(pool_id, &offers) else { break false };
                match self.dispatch(now, pool_id, candidate, &offers) {
                    Ok(()) => break true,
                    Err((candidate, until)) => {
                        unfit |= 1 << candidate;
                        passed |= u64::from(until - now > WORTH_WAITING) << candidate;
                    }
                }
            };
            if !sent {
                // What has no use for an open way may be followed by what has.
                shut = unfit == 0;
                break;
            }
            let mut others = false;
            for lane in &self.pools[pool_id as usize].lanes {
                others |= self.lanes[lane.0 as usize].waiting.len() > 1;
            }
            if others {
                self.mark(pool_id);
                break;
            }
        }
        let pool = &mut self.pools[pool_id as usize];
        pool.shut = shut;
        let waiting = !pool.queue.is_empty();
        let lanes = core::mem::take(&mut pool.lanes);
        if waiting {
            for offer in &offers {
                if let Offer::Limited(at) | Offer::Closed(Some(at)) | Offer::Stopped(at) = *offer {
                    self.arm_pool(pool_id, at);
                }
            }
        }
        self.offers = offers;
        for &lane in &lanes {
            let state = &mut self.lanes[lane.0 as usize];
            let news = state.news_of_limit();
            if !waiting {
                state.stop_waiting(pool_id);
            } else if let Some(at) = state.ceiling.next_wake(now, true) {
                // A moment that has come already has been acted on; the least step avoids spinning on it.
                let at = at.max(now + Duration::from_millis(1));
                if at < state.armed {
                    state.armed = at;
                    self.arm(at, Timer::Lane(lane));
                }
            }
            if let Some(limit) = news {
                self.notify(Notice::Limit { lane, limit });
            }
        }
        self.pools[pool_id as usize].lanes = lanes;
    }

    /// Asks each candidate of a pool what it says to one more request. False if none waits.
    fn ask(&mut self, now: Timestamp, pool_id: u32, offers: &mut Vec<Offer>) -> bool {
        let Self { pools, lanes, routes, accounts, rng, .. } = self;
        let pool = &pools[pool_id as usize];
        if pool.queue.is_empty() {
            return false;
        }
        offers.clear();
        for candidate in &pool.candidates {
            if let Some(offer) = stopped(now, routes, accounts, candidate.route) {
                offers.push(offer);
                continue;
            }
            let mut offer = Offer::Open { risky: false };
            for lane in candidate.lanes.iter().flatten() {
                offer = match (offer, lanes[lane.0 as usize].passage(now, rng)) {
                    (_, Passage::Closed { until }) => {
                        offer = Offer::Closed(until);
                        break;
                    }
                    (Offer::Limited(at), Passage::Limited { until }) => Offer::Limited(at.max(until)),
                    (_, Passage::Limited { until }) => Offer::Limited(until),
                    (Offer::Open { .. }, Passage::Full) => Offer::Full,
                    (Offer::Open { risky: one }, Passage::Open { risky: two }) => Offer::Open { risky: one || two },
                    (worse, _) => worse,
                };
            }
            offers.push(offer);
        }
        true
    }

    /// Which candidate the next call goes to.
    pub(super) fn choose(&self, pool_id: u32, offers: &[Offer]) -> Option<usize> {
        let open = |offer: &Offer| matches!(offer, Offer::Open { .. });
        if self.config.strategy == Strategy::Ordered {
            let worth_waiting = |offer: &Offer| match offer {
                Offer::Open { .. } | Offer::Full => true,
                Offer::Limited(until) => *until - self.now <= WORTH_WAITING,
                Offer::Closed(_) | Offer::Stopped(_) => false,
            };
            let first = offers.iter().position(worth_waiting);
            return first.filter(|&at| open(&offers[at]));
        }
        let candidates = &self.pools[pool_id as usize].candidates;
        let credit = |at: usize| candidates[at].credit + self.share(&candidates[at]);
        let mut best = None;
        for (at, offer) in offers.iter().enumerate() {
            if open(offer) && best.is_none_or(|best| credit(at) > credit(best)) {
                best = Some(at);
            }
        }
        best
    }

    /// A candidate's share of the turns.
    fn share(&self, candidate: &Candidate) -> f64 {
        if self.config.strategy == Strategy::Weighted { candidate.weight } else { 1.0 }
    }

    /// Keeps the books of the turns: `sent` had one, of those that were open.
    fn charge(&mut self, pool_id: u32, sent: usize, offers: &[Offer]) {
        if self.config.strategy == Strategy::Ordered {
            return;
        }
        let mut total = 0.0;
        for (at, offer) in offers.iter().enumerate() {
            if matches!(offer, Offer::Open { .. }) {
                let share = self.share(&self.pools[pool_id as usize].candidates[at]);
                self.pools[pool_id as usize].candidates[at].credit += share;
                total += share;
            }
        }
        self.pools[pool_id as usize].candidates[sent].credit -= total;
    }

    /// Sends the next call by `candidate`, or by another that is open if that one has failed it twice.
    ///
    /// # Errors
    /// The candidate, if it has nothing for what waits, and until when its rate limit has not.
    pub(super) fn dispatch(
        &mut self,
        now: Timestamp,
        pool_id: u32,
        candidate: usize,
        offers: &[Offer],
    ) -> Result<(), (usize, Timestamp)> {
        let Pool { queue, candidates, .. } = &mut self.pools[pool_id as usize];
        let lanes = candidates[candidate].lanes;
        let mut allowed = [true; 3];
        for lane in lanes.iter().flatten() {
            let by_lane = self.lanes[lane.0 as usize].allowed(now);
            allowed.iter_mut().zip(by_lane).for_each(|(all, lane)| *all &= lane);
        }
        let select = Select { lowest_first: matches!(offers[candidate], Offer::Open { risky: true }), allowed };
        let served = || served(&self.lanes, candidates);
        let (calls, workloads) = (&self.calls, &self.workloads);
        let blocked = |id: WorkloadId| {
            let workload = &workloads[id.index()];
            workload.spec.max_concurrency.is_some_and(|cap| workload.in_flight >= cap)
        };
        let alive = |ticket: Ticket| {
            let call = calls.get(ticket.index as usize);
            call.is_some_and(|call| call.serial == ticket.serial && matches!(call.state, State::Queued))
        };
        let Some((ticket, _)) = queue.pop(now, select, served, blocked, alive) else {
            // What is kept for interactive work is given free without anything happening.
            for lane in lanes.iter().flatten() {
                if let Some(at) = self.lanes[lane.0 as usize].kept_until(now) {
                    self.arm_pool(pool_id, at);
                }
            }
            return Err((candidate, now));
        };
        let call = &self.calls[ticket.index as usize];
        let fresh = |at: usize| call.failures < 2 || call.last_route != Some(candidates[at].route);
        let open = |at: usize| matches!(offers[at], Offer::Open { .. });
        let mut choice = candidate;
        // The first that has not failed it like that.
        for at in 0..offers.len() {
            if !fresh(choice) && open(at) && fresh(at) {
                choice = at;
            }
        }
        // The quota was asked about the least request; now it is known how large this one is.
        let tokens = u64::from(call.tokens);
        let Candidate { route, lanes, .. } = candidates[choice];
        let mut affordable = now;
        if tokens > 1 {
            for lane in lanes.iter().flatten() {
                affordable = affordable.max(self.lanes[lane.0 as usize].quota.opens_at(now, tokens));
            }
        }
        if affordable > now {
            // Without having the line looked at: nothing has changed, and it would be at once, for ever.
            self.line_up(ticket, true);
            self.arm_pool(pool_id, affordable);
            return Err((choice, affordable));
        }
        self.admit_from_overflow(pool_id);
        self.charge(pool_id, choice, offers);
        self.send(now, ticket, route, lanes);
        Ok(())
    }

    fn send(&mut self, now: Timestamp, ticket: Ticket, route: RouteId, lanes: [Option<LaneId>; 2]) {
        let mut probes_stop = false;
        let state = &mut self.routes[route.index()];
        let account = &mut self.accounts[state.account];
        for stop in state.stop.iter_mut().chain(&mut account.stop) {
            stop.probing = true;
            probes_stop = true;
        }
        if probes_stop {
            // Who would have waited a moment for this way must go another while it is being tried.
            self.mark_all();
        }
        let call = &mut self.calls[ticket.index as usize];
        let (class, model) = (call.class, call.model);
        let mut places = [None; 2];
        for (place, lane) in places.iter_mut().zip(lanes) {
            let Some(lane) = lane else { continue };
            let state = &mut self.lanes[lane.0 as usize];
            let trial = state.breaker.on_send(now);
            state.in_flight[class as usize] += 1;
            state.last_used = now;
            state.turn = call.pool;
            let served = core::mem::replace(&mut state.served[class as usize], now);
            let seq = state.ceiling.on_send(now);
            state.quota.on_send(now, seq.get(), u64::from(call.tokens));
            *place = Some(LaneFlight { lane, seq, trial, served });
        }
        let lanes = places;
        self.in_flight += 1;
        let state = &mut self.workloads[call.workload.index()];
        state.in_flight += 1;
        state.turn = call.pool;

        let clocks = call.clocks.as_deref().unwrap_or(&self.config.clocks);
        let due = after(now, clocks.headers).min(after(now, clocks.first_content));
        let number = call.history.as_ref().map_or(0, |history| history.sent()) + 1;
        let flight = Flight { number, route, sent: now, lanes, phase: Phase::Sent, due, probes_stop };
        let place = match self.places.pop() {
            Some(mut place) => {
                *place = flight;
                place
            }
            None => Box::new(flight),
        };
        call.state = State::InFlight(place);

        let failover = call.last_route.replace(route).filter(|&last| last != route);
        let retry = call
            .last_outcome
            .as_ref()
            .is_some_and(|last| !matches!(last.1.kind, OutcomeKind::Slot | OutcomeKind::Rate));
        let scope = self.metrics.scope(call.series, Some(route));
        scope.counters.attempts += 1;
        scope.counters.retries += u64::from(retry);
        scope.counters.failovers += u64::from(failover.is_some());
        if call.first_sent.is_none() {
            call.first_sent = Some(now);
            scope.queue_wait.record_micros(now.micros_since(call.submitted));
        }
        if let Some(from) = failover {
            self.notify(Notice::Failover { ticket, from, to: route });
        }
        let name = &self.models[model as usize].name;
        let rename = self.config.routes[route.index()].resolve(name).and_then(|model| model.upstream.map(Box::from));
        self.act(Action::Send { attempt: Attempt { ticket, number }, route, rename });
        self.arm_call(ticket);
    }

    /// Lets the next call in that waits for room.
    pub(super) fn admit_from_overflow(&mut self, pool_id: u32) {
        loop {
            let pool = &mut self.pools[pool_id as usize];
            if pool.overflow.is_empty() || pool.queue.len() >= self.config.max_queued {
                return;
            }
            let Some(ticket) = pool.overflow.pop_front() else { return };
            if self.get(ticket).is_some() {
                self.enqueue(ticket, false);
            } else {
                let pool = &mut self.pools[pool_id as usize];
                pool.overflow_dead = pool.overflow_dead.saturating_sub(1);
            }
        }
    }
}
