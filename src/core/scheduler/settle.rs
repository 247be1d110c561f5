//! What happens to attempts: lanes learn, stops and breakers move, and each call goes on or ends.

use alloc::boxed::Box;
use core::time::Duration;

use super::dispatch::after;
use super::{Action, Done, Event, Notice, Scheduler};
use crate::core::breaker::BreakerState;
use crate::core::call::{
    Attempt, AttemptRecord, Call, Failure, FailureKind, Flight, LaneFlight, Next, Phase, State, Ticket, counts, decide,
};
use crate::core::limit::Evidence;
use crate::core::outcome::{Outcome, OutcomeKind};
use crate::core::route::{RouteId, Stop};
use crate::core::time::Timestamp;
use crate::core::tokens::TokenCount;

/// 403s in a row that stop a route: one alone may be about one request (moderation, a model the key may not use).
const FORBIDDEN_RUN: u32 = 3;

/// How an attempt leaves its lanes.
pub(super) enum Departure<'a> {
    /// Given up by the caller.
    Cancelled,
    /// It came to something; `aborted` says that we closed the connection.
    Ended { outcome: &'a Outcome, tokens: Option<TokenCount>, aborted: bool },
}

impl Scheduler {
    /// Takes note of what happened to an attempt. Reports on an attempt that is over are ignored.
    pub fn on(&mut self, now: Timestamp, attempt: Attempt, event: Event) {
        let now = self.tick(now);
        let gate = &self.config.clocks;
        let Some(call) =
            self.calls.get_mut(attempt.ticket.index as usize).filter(|call| call.serial == attempt.ticket.serial)
        else {
            return;
        };
        let (delivered, series) = (call.delivered, call.series);
        let clocks = call.clocks.as_deref().unwrap_or(gate);
        let State::InFlight(flight) = &mut call.state else { return };
        if flight.number != attempt.number {
            return;
        }
        let mut admitted = None;
        let mut content_after = None;
        let due = flight.due;
        match event {
            Event::Headers => {
                admitted = Some(Evidence::Headers);
                if flight.phase == Phase::Sent {
                    flight.phase = Phase::Headers;
                    flight.due = after(flight.sent, clocks.first_content);
                }
            }
            Event::Alive => admitted = Some(Evidence::Content),
            Event::Content => {
                if flight.phase != Phase::Content {
                    flight.phase = Phase::Content;
                    admitted = Some(Evidence::Content);
                    content_after = Some((flight.route, now.micros_since(flight.sent)));
                }
                flight.due = Timestamp::MAX;
            }
            Event::Reading => {
                let idle = after(now, clocks.idle);
                // A caller that came late to read has not let the server's time run out.
                if flight.phase == Phase::Content {
                    flight.due = idle;
                } else if delivered {
                    flight.due = idle.max(after(flight.sent, clocks.first_content));
                }
            }
            Event::Delivered => {
                if flight.phase != Phase::Content {
                    flight.due = Timestamp::MAX;
                }
                call.delivered = true;
                // Nobody may ever read it: the clock that ran until now must not stand for it in the meantime.
                call.armed = Timestamp::MAX;
                self.arm_call(attempt.ticket);
                return;
            }
            Event::Ended { outcome, tokens } => {
                self.settle(now, attempt.ticket, outcome, tokens, false);
                return;
            }
        }
        let (lanes, sent, route) = (flight.lanes, flight.sent, flight.route);
        let reopens = admitted.is_some() && core::mem::take(&mut flight.probes_stop);
        if flight.due < due {
            self.arm_call(attempt.ticket);
        }
        if reopens {
            self.reopen(route);
        }
        if let Some(evidence) = admitted {
            for lane in lanes.iter().flatten() {
                let state = &mut self.lanes[lane.lane.0 as usize];
                state.ceiling.on_admitted(now, lane.seq, evidence);
                state.quota.on_accepted(sent, lane.seq.get());
                let recovered = state.relieve(sent);
                let closed = state.breaker.on_admitted(lane.trial);
                self.mark_lane(lane.lane);
                if closed {
                    self.notify(Notice::Breaker { lane: lane.lane, open: false });
                }
                if recovered {
                    self.notify(Notice::Recovered { lane: lane.lane });
                }
            }
        }
        if let Some((route, after)) = content_after {
            self.metrics.scope(series, Some(route)).first_content.record_micros(after);
        }
    }

    /// The same for an attempt that ended well, if whoever says so takes the call for ended and need not be told.
    #[cfg(any(test, all(feature = "js", target_family = "wasm")))]
    pub(crate) fn on_succeeded(&mut self, now: Timestamp, attempt: Attempt, outcome: Outcome) {
        self.on(now, attempt, Event::Ended { outcome, tokens: None });
        if let Some(Action::End { ticket, result: Ok(_) }) = self.actions.back()
            && *ticket == attempt.ticket
        {
            self.actions.pop_back();
        }
    }

    /// Has a call that is under way take as long as it likes: its deadline was for its wait.
    #[cfg(any(test, all(feature = "js", target_family = "wasm")))]
    pub(crate) fn lift_deadline(&mut self, ticket: Ticket) {
        if let Some(call) = self.call(ticket) {
            call.deadline = Timestamp::MAX;
        }
    }

    /// The caller gave the call up. Its permit comes back and nothing more is heard of it; the driver closes the
    /// connection. Returns whether it was still there.
    pub fn cancel(&mut self, now: Timestamp, ticket: Ticket) -> bool {
        let now = self.tick(now);
        let Some(call) = self.get(ticket) else { return false };
        if matches!(call.state, State::InFlight(_)) {
            // The driver may have come here from carrying out an action that stood before its sending.
            for action in core::mem::take(&mut self.actions) {
                if !matches!(&action, Action::Send { attempt, .. } if attempt.ticket == ticket) {
                    self.act(action);
                }
            }
            self.leave_lanes(now, ticket, &Departure::Cancelled);
        } else {
            self.unqueue(ticket);
        }
        let Some(call) = self.remove(ticket) else { return false };
        self.metrics.scope(call.series, None).counters.cancelled += 1;
        true
    }

    /// Takes a waiting call out of wherever it waits.
    pub(super) fn unqueue(&mut self, ticket: Ticket) {
        let Some(call) = self.call(ticket) else { return };
        let pool_id = call.pool;
        match core::mem::replace(&mut call.state, State::Outside) {
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
                    for other in core::mem::take(&mut pool.overflow) {
                        let call = self.calls.get(other.index as usize);
                        if other != ticket && call.is_some_and(|call| call.serial == other.serial) {
                            pool.overflow.push_back(other);
                        }
                    }
                }
            }
            State::InFlight(_) => {}
        }
    }

    /// Gives a call's permits back. Returns the attempt that held them.
    pub(super) fn leave_lanes(&mut self, now: Timestamp, ticket: Ticket, departure: &Departure<'_>) -> Option<Flight> {
        let call = self.call(ticket)?;
        let (class, workload, tokens) = (call.class, call.workload, u64::from(call.tokens));
        let place = match core::mem::replace(&mut call.state, State::Outside) {
            State::InFlight(place) => place,
            other => {
                call.state = other;
                return None;
            }
        };
        let flight = *place;
        self.places.push(place);
        self.in_flight -= 1;
        self.workloads[workload.index()].in_flight -= 1;
        let workload = &self.workloads[workload.index()];
        if workload.spec.max_concurrency.is_some() {
            // Before the flight's own lanes: others' calls of this workload have waited for this one's end.
            self.mark_after(workload.turn);
        }
        let rejected = matches!(departure, Departure::Ended { outcome, .. } if outcome.kind == OutcomeKind::Slot);
        let blamed = if rejected { self.blamed(&flight) } else { 0 };
        for (at, place) in flight.lanes.into_iter().enumerate() {
            let Some(place) = place else { continue };
            let lane = &mut self.lanes[place.lane.0 as usize];
            lane.in_flight[class as usize] -= 1;
            // A rejection must not cost its class the turn it got for its age.
            if rejected && lane.served[class as usize] == flight.sent {
                lane.served[class as usize] = place.served;
            }
            self.settle_lane(now, place, flight.sent, departure, blamed == at, tokens);
            self.mark_lane(place.lane);
        }
        if flight.probes_stop && matches!(departure, Departure::Cancelled) {
            self.end_probe(now, flight.route);
        }
        Some(flight)
    }

    /// Which of a flight's lanes a slot rejection is about: that on which it was sent beyond the window, the user's if on
    /// both, as it is the smaller one; if on none, the one nearer to its limit.
    pub(super) fn blamed(&self, flight: &Flight) -> usize {
        let suspicion = |place: Option<LaneFlight>| {
            place.map_or((false, -1.0), |place| {
                let ceiling = &self.lanes[place.lane.0 as usize].ceiling;
                let load = f64::from(ceiling.in_flight()) / f64::from(ceiling.window().max(1));
                (ceiling.is_beyond(place.seq), load)
            })
        };
        let [account, user] = flight.lanes.map(suspicion);
        usize::from(if user.0 || account.0 { user.0 } else { user.1 > account.1 })
    }

    pub(super) fn settle_lane(
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
        let was_pressed = lane.pressure.is_some();
        let was_open = lane.breaker.state() != BreakerState::Closed;
        match outcome.kind {
            K::Success => {
                lane.ceiling.on_done(now, seq);
                lane.quota.on_accepted(sent, seq.get());
                lane.relieve(sent);
                lane.strain = 0;
                lane.breaker.on_success();
            }
            K::Slot if blamed => {
                lane.ceiling.on_slot_rejected(now, seq, outcome.told, outcome.retry_after, rng);
                lane.breaker.on_neutral(now, place.trial);
            }
            K::Pressure if lane.is_mere_strain(outcome) => {
                lane.ceiling.on_failed(now, seq);
                lane.breaker.on_failure(now, sent, place.trial, rng);
            }
            K::Pressure => {
                lane.ceiling.on_unavailable(now, seq, outcome.retry_after, rng);
                lane.pressure = Some(now);
                lane.breaker.on_failure(now, sent, place.trial, rng);
            }
            K::Server | K::Transport | K::FirstContentTimeout | K::Interrupted | K::Malformed => {
                // A connection we closed may still count on the server's side for a while.
                if *aborted {
                    lane.ceiling.on_cancelled(now, seq)
                } else {
                    lane.ceiling.on_failed(now, seq)
                }
                lane.breaker.on_failure(now, sent, place.trial, rng);
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
        // Rates are the account's, and what it has left is no measure of what one user sent.
        let is_user = lane.key.user_id.is_some();
        if outcome.kind == K::Rate && !is_user {
            lane.quota.on_rejected(now, sent, seq.get(), outcome.retry_after, &outcome.quota, rng);
        } else if !is_user {
            lane.quota.on_hints(now, sent, seq.get(), &outcome.quota);
        }
        match tokens {
            Some(tokens) => lane.quota.on_usage(sent, estimated, tokens.total()),
            // Where the model may have been at work, the provider counts what it did.
            None if matches!(
                outcome.kind,
                K::Success | K::Interrupted | K::Malformed | K::FirstContentTimeout | K::Cancelled
            ) => {}
            None => lane.quota.on_usage(sent, estimated, 0),
        }
        let (pressure, open) = (lane.pressure.is_some(), lane.breaker.state() != BreakerState::Closed);
        let told = outcome.told.filter(|_| outcome.low_balance && blamed).map(|told| told.limit);
        let balance = told.filter(|&limit| lane.reported_balance.replace(limit) != Some(limit));
        let limit = lane.news_of_limit();
        let lane = place.lane;
        if pressure != was_pressed {
            self.notify(if pressure { Notice::Pressure { lane } } else { Notice::Recovered { lane } });
        }
        if open != was_open {
            self.notify(Notice::Breaker { lane, open });
        }
        if let Some(limit) = balance {
            self.notify(Notice::LowBalance { lane, limit });
        }
        if let Some(limit) = limit {
            self.notify(Notice::Limit { lane, limit });
        }
    }

    /// An attempt is over: the lanes learn, the books are kept, and the call goes on or ends.
    pub(super) fn settle(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        mut outcome: Outcome,
        tokens: Option<TokenCount>,
        aborted: bool,
    ) {
        let departure = Departure::Ended { outcome: &outcome, tokens, aborted };
        let Some(flight) = self.leave_lanes(now, ticket, &departure) else { return };
        self.settle_stops(now, &flight, &outcome);
        if outcome.kind == OutcomeKind::Success {
            return self.complete(now, ticket, &flight, &mut outcome, tokens);
        }
        self.record_flight(now, ticket, &flight, &outcome, tokens);
        let call = &mut self.calls[ticket.index as usize];
        call.failures += u32::from(counts(&outcome));
        let next = if outcome.kind == OutcomeKind::Cancelled {
            Next::End(FailureKind::Exhausted)
        } else {
            decide(call, &outcome, &self.config.retry, now, &mut self.rng)
        };
        let kind = outcome.kind;
        call.last_outcome = Some(Box::new((flight.route, outcome)));
        let attempts = call.history.as_ref().map_or(0, |history| history.sent());
        let next = if self.closed && !matches!(next, Next::End(_)) { Next::End(FailureKind::Closed) } else { next };
        let delay = match next {
            Next::End(kind) => return self.fail(ticket, kind, None),
            Next::Elsewhere if !self.leave_route(ticket, flight.route) => {
                let kind = if kind == OutcomeKind::Forbidden { FailureKind::Forbidden } else { FailureKind::Deadline };
                return self.fail(ticket, kind, None);
            }
            Next::Elsewhere | Next::Requeue => {
                // Elsewhere it has had no turn that could be given back.
                self.enqueue(ticket, matches!(next, Next::Requeue));
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

    pub(super) fn back_off(&mut self, ticket: Ticket, until: Timestamp) {
        if let Some(call) = self.call(ticket) {
            call.state = State::Backoff { until };
            self.backing_off += 1;
            self.arm_call(ticket);
        }
    }

    /// Stops an account or a route, or opens it again. While it is stopped only probes are sent, so whatever else ends
    /// was sent before and changes nothing: neither does its success reopen, nor its refusal put off the next probe.
    pub(super) fn settle_stops(&mut self, now: Timestamp, flight: &Flight, outcome: &Outcome) {
        let account = self.routes[flight.route.index()].account;
        let route = &mut self.routes[flight.route.index()];
        let stop = match outcome.kind {
            OutcomeKind::Success => {
                route.forbidden = 0;
                if flight.probes_stop {
                    self.reopen(flight.route);
                }
                return;
            }
            OutcomeKind::Billing => Some(&mut self.accounts[account].stop),
            OutcomeKind::Authentication => Some(&mut route.stop),
            OutcomeKind::Forbidden => {
                route.forbidden += 1;
                (route.forbidden >= FORBIDDEN_RUN).then_some(&mut route.stop)
            }
            _ => None,
        };
        let stopped = stop.is_some();
        let mut news = false;
        if let Some(stop) = stop.filter(|stop| stop.is_none() || flight.probes_stop) {
            news = stop.is_none();
            *stop = Some(Stop { probe_at: now + self.config.stop_probe, cause: outcome.clone(), probing: false });
        }
        if flight.probes_stop {
            // It may have asked about both the route and the account; the one it was not stopped by may be asked again.
            self.end_probe(now, flight.route);
        } else if stopped {
            self.mark_all();
        }
        if news {
            self.notify(Notice::Stopped { route: flight.route, kind: outcome.kind });
        }
    }

    /// A probe was let in: the account and the route are open again.
    fn reopen(&mut self, route: RouteId) {
        let account = self.routes[route.index()].account;
        self.routes[route.index()].stop = None;
        self.accounts[account].stop = None;
        self.mark_all();
    }

    /// A probe of a stopped account or route ended without an answer to the question: the next call may ask at once.
    pub(super) fn end_probe(&mut self, now: Timestamp, route: RouteId) {
        let account = self.routes[route.index()].account;
        for stop in [&mut self.routes[route.index()].stop, &mut self.accounts[account].stop].into_iter().flatten() {
            if core::mem::take(&mut stop.probing) {
                stop.probe_at = stop.probe_at.min(now);
            }
        }
        self.mark_all();
    }

    pub(super) fn record_flight(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        flight: &Flight,
        outcome: &Outcome,
        tokens: Option<TokenCount>,
    ) {
        let call = &mut self.calls[ticket.index as usize];
        self.metrics.scope(call.series, Some(flight.route)).on_outcome(outcome.kind, tokens.as_ref());
        let said = (outcome.message.clone(), outcome.request_id.clone());
        call.history.get_or_insert_default().push(record(now, flight, outcome, said));
    }

    /// A call was answered.
    fn complete(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        flight: &Flight,
        outcome: &mut Outcome,
        tokens: Option<TokenCount>,
    ) {
        let Some(mut call) = self.remove(ticket) else { return };
        self.budget.on_success(now);
        if let Some(tokens) = tokens {
            self.models[call.model as usize].estimator.learn(f64::from(call.estimated), tokens.total());
        }
        let elapsed = now - call.submitted;
        let scope = self.metrics.scope(call.series, Some(flight.route));
        scope.on_outcome(OutcomeKind::Success, tokens.as_ref());
        scope.counters.completed += 1;
        scope.duration.record_micros(now.micros_since(call.submitted));
        if flight.phase != Phase::Content {
            // It came in one piece.
            scope.first_content.record_micros(now.micros_since(flight.sent));
        }
        let mut history = call.history.take().map(|history| *history).unwrap_or_default();
        let said = (outcome.message.take(), outcome.request_id.take());
        history.push(record(now, flight, outcome, said));
        let route = flight.route;
        self.act(Action::End { ticket, result: Ok(Done { route, history, elapsed }) });
    }

    /// A call failed, because of `cause` or what its last attempt came to.
    pub(super) fn fail(&mut self, ticket: Ticket, kind: FailureKind, cause: Option<Box<(RouteId, Outcome)>>) {
        let Some(mut call) = self.remove(ticket) else { return };
        self.metrics.scope(call.series, None).counters.failed += 1;
        let (route, outcome) = cause.or(call.last_outcome.take()).map(|decisive| *decisive).unzip();
        let failure = Failure {
            kind,
            outcome,
            route,
            history: call.history.take().map(|history| *history).unwrap_or_default(),
            elapsed: self.now - call.submitted,
        };
        self.act(Action::End { ticket, result: Err(Box::new(failure)) });
    }

    /// Every route of the pool is stopped: its waiting calls fail for the reason of the first.
    pub(super) fn fail_all(&mut self, pool_id: u32) {
        let pool = &mut self.pools[pool_id as usize];
        let id = pool.candidates[0].route;
        let route = &self.routes[id.index()];
        let stop = route.stop.as_ref().or(self.accounts[route.account].stop.as_ref());
        let cause = stop.map(|stop| Box::new((id, stop.cause.clone())));
        let kind = match cause.as_ref().map(|cause| cause.1.kind) {
            Some(OutcomeKind::Billing) => FailureKind::InsufficientBalance,
            Some(OutcomeKind::Forbidden) => FailureKind::Forbidden,
            _ => FailureKind::Authentication,
        };
        let mut waiting = pool.queue.drain();
        while let Some(ticket) = pool.overflow.pop_front() {
            waiting.push(ticket);
        }
        pool.overflow_dead = 0;
        for ticket in waiting {
            if self.get(ticket).is_some_and(|call| matches!(call.state, State::Queued | State::Outside)) {
                self.fail(ticket, kind, cause.clone());
            }
        }
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Call> {
        self.get(ticket)?;
        let call = self.calls.try_remove(ticket.index as usize)?;
        self.pools[call.pool as usize].calls -= 1;
        Some(call)
    }
}

/// What the history keeps of an attempt.
fn record(
    now: Timestamp,
    flight: &Flight,
    outcome: &Outcome,
    (message, request_id): (Option<Box<str>>, Option<Box<str>>),
) -> AttemptRecord {
    AttemptRecord {
        route: flight.route,
        sent: flight.sent,
        took: now - flight.sent,
        kind: outcome.kind,
        status: outcome.status,
        message,
        request_id,
    }
}
