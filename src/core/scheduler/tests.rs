//! The scheduler as its drivers see it: behaviour by behaviour, then under random orders of everything.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::core::backoff::RetryPolicy;
use crate::core::breaker::BreakerPolicy;
use crate::core::call::{Clocks, Failure};
use crate::core::limit::{Learned, Punishment};
use crate::core::metrics::{Counters, ScopeSnapshot};
use crate::core::outcome::{QuotaHint, QuotaHints, Told};
use crate::core::quota::QuotaSpec;
use crate::core::route::{ModelSpec, Strategy};
use crate::core::tokens::TokenCount;

fn outcome(kind: OutcomeKind) -> Outcome {
    Outcome::new(kind)
}

/// A gate with what it has asked for so far.
struct World {
    gate: Scheduler,
    now: Timestamp,
    sent: Vec<(Attempt, RouteId)>,
    aborted: Vec<Attempt>,
    ended: HashMap<Ticket, Result<Done, Box<Failure>>>,
    notices: Vec<Notice>,
}

impl World {
    fn new(config: Config) -> Self {
        let mut gate = Scheduler::new(config, 7).unwrap();
        gate.set_notices(true);
        let (sent, aborted, notices) = Default::default();
        Self { gate, now: Timestamp::ZERO, sent, aborted, ended: HashMap::new(), notices }
    }

    fn single() -> Self {
        Self::new(Config::new(vec![RouteSpec::new("one", "account")]))
    }

    fn capped(cap: u32) -> Self {
        let route = RouteSpec { max_concurrency: Some(cap), ..RouteSpec::new("one", "account") };
        Self::new(Config { max_queued: 50, ..Config::new(vec![route]) })
    }

    fn two_routes(strategy: Strategy) -> Self {
        let routes = vec![RouteSpec::new("first", "a"), RouteSpec::new("second", "b")];
        Self::new(Config { strategy, ..Config::new(routes) })
    }

    fn submit_as(&mut self, workload: &str, change: impl FnOnce(&mut JobSpec<'_>)) -> Result<Ticket, SubmitError> {
        let workload = self.gate.workload(workload);
        let mut spec = JobSpec::new("m", workload);
        change(&mut spec);
        let ticket = self.gate.submit(self.now, spec);
        self.drain();
        ticket
    }

    fn submit(&mut self, workload: &str) -> Ticket {
        self.submit_as(workload, |_| {}).unwrap()
    }

    fn drain(&mut self) {
        while let Some(action) = self.gate.poll(self.now) {
            match action {
                Action::Send { attempt, route, .. } => self.sent.push((attempt, route)),
                Action::Abort { attempt } => self.aborted.push(attempt),
                Action::End { ticket, result } => {
                    assert!(self.ended.insert(ticket, result).is_none(), "ended twice");
                }
                Action::Notify(notice) => self.notices.push(notice),
            }
        }
    }

    /// Lets time pass, waking when the gate asks to be woken.
    fn pass(&mut self, span: f64) {
        let until = self.now.plus_secs(span);
        while let Some(at) = self.gate.next_wake()
            && at <= until
        {
            self.now = self.now.max(at);
            self.drain();
        }
        self.now = until;
        self.drain();
    }

    fn on(&mut self, attempt: Attempt, event: Event) {
        self.gate.on(self.now, attempt, event);
        self.drain();
    }

    fn end(&mut self, attempt: Attempt, outcome: Outcome) {
        self.on(attempt, Event::Ended { outcome, tokens: None });
    }

    fn succeed(&mut self, attempt: Attempt) {
        self.on(attempt, Event::Headers);
        self.end(attempt, outcome(OutcomeKind::Success));
    }

    /// The attempt of `ticket` under way.
    fn attempt(&self, ticket: Ticket) -> Attempt {
        self.sent.iter().rev().find(|(attempt, _)| attempt.ticket == ticket).expect("it was sent").0
    }

    fn route(&self, ticket: Ticket) -> usize {
        self.sent.iter().rev().find(|(attempt, _)| attempt.ticket == ticket).expect("it was sent").1.index()
    }

    fn was_sent(&self, ticket: Ticket) -> bool {
        self.sent.iter().any(|(attempt, _)| attempt.ticket == ticket)
    }

    fn failure(&self, ticket: Ticket) -> &Failure {
        match &self.ended[&ticket] {
            Err(failure) => failure,
            Ok(done) => panic!("succeeded: {done:?}"),
        }
    }

    fn succeeded(&self, ticket: Ticket) -> bool {
        matches!(self.ended.get(&ticket), Some(Ok(_)))
    }
}

#[test]
fn a_clock_that_stood_still_goes_on_whatever_rang_meanwhile() {
    let mut world = World::single();
    let clocks = Clocks {
        headers: Some(Duration::from_secs(10)),
        first_content: Some(Duration::from_secs(60)),
        ..Clocks::default()
    };
    let ticket = world.submit_as("normal", |spec| spec.clocks = Some(clocks)).unwrap();
    let attempt = world.attempt(ticket);
    world.on(attempt, Event::Delivered);
    world.pass(20.0);
    assert!(world.aborted.is_empty(), "the time for a head has rung for nothing");
    world.on(attempt, Event::Headers);
    world.pass(50.0);
    assert_eq!(world.aborted, [attempt], "no content in a minute");
}

#[test]
fn a_lifted_deadline_lets_a_call_take_as_long_as_it_likes() {
    let mut world = World::single();
    let brief = |spec: &mut JobSpec<'_>| spec.deadline = Some(Duration::from_secs(5));
    let (lifted, other) = (world.submit_as("normal", brief).unwrap(), world.submit_as("normal", brief).unwrap());
    world.gate.lift_deadline(lifted);
    world.pass(100.0);
    assert_eq!(
        (world.aborted.as_slice(), world.failure(other).kind),
        (&[world.attempt(other)][..], FailureKind::Deadline)
    );
    world.succeed(world.attempt(lifted));
    assert!(world.succeeded(lifted));
    world.gate.lift_deadline(lifted);
    assert_eq!(world.gate.load(), Load::default(), "of a call that is over there is none");
}

#[test]
fn who_reports_a_success_as_such_is_not_told_of_its_end() {
    let mut world = World::capped(1);
    let (first, second) = (world.submit("normal"), world.submit("normal"));
    world.gate.on_succeeded(world.now, world.attempt(first), outcome(OutcomeKind::Success));
    world.drain();
    assert!(!world.ended.contains_key(&first));
    assert!(world.was_sent(second), "its place is free");
    // What failed is told, and so is what was tried again.
    world.gate.on_succeeded(world.now, world.attempt(second), outcome(OutcomeKind::Refused));
    world.drain();
    assert_eq!(world.failure(second).kind, FailureKind::Refused);
    world.gate.on_succeeded(world.now, world.attempt(first), outcome(OutcomeKind::Success));
    assert_eq!(world.gate.total().snapshot("total").counters.completed, 1, "a report on what is over is ignored");
}

#[test]
fn a_call_is_sent_answered_and_counted() {
    let mut world = World::single();
    let ticket = world.submit("chat");
    let attempt = world.attempt(ticket);
    assert_eq!(attempt.number, 1);
    world.pass(0.2);
    world.on(attempt, Event::Headers);
    world.on(attempt, Event::Content);
    let tokens = TokenCount { prompt: 10, cached: 4, completion: 6, reasoning: 2 };
    world.on(attempt, Event::Ended { outcome: outcome(OutcomeKind::Success), tokens: Some(tokens) });
    assert!(world.succeeded(ticket));
    let snapshot = world.gate.snapshot(world.now);
    let counters = snapshot.total.counters;
    assert_eq!((counters.submitted, counters.attempts, counters.completed), (1, 1, 1));
    assert_eq!((counters.prompt_tokens, counters.cached_tokens, counters.reasoning_tokens), (10, 4, 2));
    assert_eq!((snapshot.queued, snapshot.in_flight), (0, 0));
    assert_eq!(snapshot.total.first_content.count, 1);
    let chat = snapshot.workloads.iter().find(|scope| scope.name == "chat").unwrap();
    assert_eq!(chat.counters.completed, 1);
    assert_eq!(snapshot.lanes[0].in_flight, 0);
}

#[test]
fn a_slot_rejection_returns_to_the_front_and_spends_no_attempt() {
    let mut world = World::capped(1);
    let first = world.submit_as("normal", |spec| spec.max_attempts = Some(1)).unwrap();
    let second = world.submit("normal");
    for _ in 0..20 {
        world.end(world.attempt(first), outcome(OutcomeKind::Slot));
        world.pass(10.0);
        assert!(!world.was_sent(second), "the rejected one is older");
    }
    world.succeed(world.attempt(first));
    assert!(world.succeeded(first));
    assert_eq!(world.attempt(first).number, 21);
    assert!(world.was_sent(second));
}

#[test]
fn failures_back_off_and_end_when_attempts_are_used_up() {
    let mut world = World::single();
    let ticket = world.submit("normal");
    for number in 1..=5 {
        assert_eq!(world.attempt(ticket).number, number);
        world.end(world.attempt(ticket), outcome(OutcomeKind::Server).with_message("boom"));
        world.pass(40.0);
    }
    let failure = world.failure(ticket);
    assert_eq!(failure.kind, FailureKind::Exhausted);
    assert_eq!(failure.history.sent(), 5);
    assert_eq!(failure.outcome.as_ref().unwrap().message.as_deref(), Some("boom"));
}

#[test]
fn the_requests_own_fault_ends_it_at_once() {
    let mut world = World::two_routes(Strategy::Ordered);
    let ticket = world.submit("normal");
    world.end(world.attempt(ticket), outcome(OutcomeKind::Refused));
    assert_eq!(world.failure(ticket).kind, FailureKind::Refused);
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn an_account_without_money_fails_over_then_ends_calls_until_it_is_resumed() {
    let mut world = World::two_routes(Strategy::Ordered);
    let ticket = world.submit("normal");
    world.end(world.attempt(ticket), outcome(OutcomeKind::Billing));
    assert_eq!(world.route(ticket), 1, "the other account has money");
    world.end(world.attempt(ticket), outcome(OutcomeKind::Billing));
    assert_eq!(world.failure(ticket).kind, FailureKind::InsufficientBalance);
    let later = world.submit("normal");
    assert_eq!(world.failure(later).kind, FailureKind::InsufficientBalance, "not sent at all");
    assert_eq!(world.failure(later).route, Some(RouteId(0)), "the stopped one whose reason that is");
    assert!(!world.was_sent(later));
    world.gate.resume(world.now);
    let after = world.submit("normal");
    assert_eq!(world.route(after), 0);
}

#[test]
fn a_stopped_account_is_probed_by_one_call_and_reopens() {
    let mut world = World::single();
    let first = world.submit("normal");
    world.end(world.attempt(first), outcome(OutcomeKind::Billing));
    world.pass(301.0);
    let (probe, waiting) = (world.submit("normal"), world.submit("normal"));
    assert!(world.was_sent(probe));
    assert!(!world.was_sent(waiting), "one finds out for all");
    world.gate.cancel(world.now, probe);
    world.drain();
    assert!(world.was_sent(waiting), "a probe given up lets the next one ask");
    world.succeed(world.attempt(waiting));
    let (a, b) = (world.submit("normal"), world.submit("normal"));
    assert!(world.was_sent(a) && world.was_sent(b));
}

#[test]
fn a_wrong_key_stops_its_route_only() {
    let routes = vec![RouteSpec::new("wrong", "same"), RouteSpec::new("right", "same")];
    let mut world = World::new(Config::new(routes));
    let ticket = world.submit("normal");
    world.end(world.attempt(ticket), outcome(OutcomeKind::Authentication));
    assert_eq!(world.route(ticket), 1);
    world.succeed(world.attempt(ticket));
    let next = world.submit("normal");
    assert_eq!(world.route(next), 1);
}

#[test]
fn where_every_route_is_stopped_calls_outside_the_queue_fail_too() {
    let route = RouteSpec { max_concurrency: Some(1), ..RouteSpec::new("one", "account") };
    let mut world = World::new(Config { max_queued: 1, ..Config::new(vec![route]) });
    let mut calls = vec![world.submit("normal"), world.submit("normal")];
    let mut outside = || world.submit_as("normal", |spec| spec.on_full = OnFull::Wait).unwrap();
    calls.push(outside());
    let given_up = outside();
    world.gate.cancel(world.now, given_up);
    world.end(world.attempt(calls[0]), outcome(OutcomeKind::Billing));
    for call in calls {
        assert_eq!(world.failure(call).kind, FailureKind::InsufficientBalance);
    }
    assert_eq!(world.gate.load(), Load::default());
}

#[test]
fn a_single_403_ends_one_call_and_a_run_of_them_stops_the_route() {
    let mut world = World::single();
    for _ in 0..3 {
        let ticket = world.submit("normal");
        world.end(world.attempt(ticket), outcome(OutcomeKind::Forbidden));
        assert_eq!(world.failure(ticket).kind, FailureKind::Forbidden);
    }
    let ticket = world.submit("normal");
    assert!(!world.was_sent(ticket));
    assert_eq!(world.failure(ticket).kind, FailureKind::Forbidden);
}

#[test]
fn overload_pauses_the_lane_and_fails_over_if_another_route_is_open() {
    let mut world = World::two_routes(Strategy::Ordered);
    let ticket = world.submit("normal");
    world.end(world.attempt(ticket), Outcome { status: Some(503), ..outcome(OutcomeKind::Pressure) });
    assert_eq!(world.route(ticket), 1);
    assert!(world.notices.contains(&Notice::Pressure { lane: LaneId(0) }), "{:?}", world.notices);

    let mut world = World::single();
    let ticket = world.submit("normal");
    world.end(world.attempt(ticket), Outcome { status: Some(503), ..outcome(OutcomeKind::Pressure) });
    let others: Vec<_> = (0..5).map(|_| world.submit("normal")).collect();
    assert_eq!(world.attempt(ticket).number, 1, "paused");
    while world.attempt(ticket).number == 1 {
        world.pass(0.01);
    }
    assert!(world.now > Timestamp::from_secs_f64(0.2), "not at once");
    assert!(!others.iter().any(|&other| world.was_sent(other)), "and only one");
    world.succeed(world.attempt(ticket));
    assert!(others.iter().any(|&other| world.was_sent(other)));
    assert!(world.notices.contains(&Notice::Recovered { lane: LaneId(0) }));
}

#[test]
fn one_answer_without_substance_does_not_close_a_lane_and_three_in_a_row_do() {
    let mut world = World::single();
    let tickets: Vec<_> = (0..4).map(|_| world.submit("normal")).collect();
    let blank = || Outcome { status: Some(200), ..outcome(OutcomeKind::Pressure) };
    world.end(world.attempt(tickets[0]), blank());
    assert_eq!(world.attempt(tickets[0]).number, 1, "this call backs off");
    let next = world.submit("normal");
    assert!(world.was_sent(next), "the others go on");
    world.end(world.attempt(tickets[1]), blank());
    assert!(world.notices.iter().all(|notice| !matches!(notice, Notice::Pressure { .. })));
    world.end(world.attempt(tickets[2]), blank());
    assert!(world.notices.contains(&Notice::Pressure { lane: LaneId(0) }));
    let next = world.submit("normal");
    assert!(!world.was_sent(next));
}

#[test]
fn an_ordered_fallback_is_not_used_while_the_first_route_is_merely_full() {
    let routes =
        vec![RouteSpec { max_concurrency: Some(1), ..RouteSpec::new("first", "a") }, RouteSpec::new("second", "b")];
    let mut world = World::new(Config::new(routes.clone()));
    let (one, two) = (world.submit("normal"), world.submit("normal"));
    assert!(world.was_sent(one) && !world.was_sent(two));
    let mut world = World::new(Config { strategy: Strategy::RoundRobin, ..Config::new(routes) });
    let tickets: Vec<_> = (0..4).map(|_| world.submit("normal")).collect();
    let sent: Vec<_> = tickets.into_iter().map(|ticket| world.route(ticket)).collect();
    assert_eq!(sent.iter().filter(|&&route| route == 0).count(), 1, "a full route gives its turn away");
}

#[test]
fn a_call_that_must_go_elsewhere_does_not_wait_for_the_route_it_came_from() {
    let narrow = |name: &str| RouteSpec { max_concurrency: Some(1), ..RouteSpec::new(name, name) };
    let mut world = World::new(Config::new(["first", "second", "third"].map(narrow).into()));
    let (refused, next, another) = (world.submit("normal"), world.submit("normal"), world.submit("normal"));
    let refuse = |world: &mut World| {
        world.end(world.attempt(refused), outcome(OutcomeKind::Forbidden));
        world.route(refused)
    };
    assert_eq!(refuse(&mut world), 1);
    assert_eq!(world.route(next), 0, "the place that it gave back");
    assert!(!world.was_sent(another), "the first route is merely full");
    assert_eq!(refuse(&mut world), 2, "from there, too, though the first is full");
    refuse(&mut world);
    assert_eq!(world.failure(refused).kind, FailureKind::Forbidden, "every route has refused it");
    world.succeed(world.attempt(next));
    assert_eq!(world.route(another), 0);
    world.succeed(world.attempt(another));
    assert_eq!(world.gate.load(), Load::default());
}

#[test]
fn a_call_that_must_go_elsewhere_waits_there_for_its_turn() {
    let narrow = |name: &str| RouteSpec { max_concurrency: Some(1), ..RouteSpec::new(name, name) };
    let mut world = World::new(Config::new(["first", "second"].map(narrow).into()));
    let tickets = [(); 3].map(|()| world.submit("normal"));
    for ticket in tickets {
        world.end(world.attempt(ticket), outcome(OutcomeKind::Forbidden));
    }
    assert_eq!(tickets.map(|ticket| world.route(ticket)), [1, 0, 0]);
    assert_eq!(world.gate.load(), Load { queued: 2, backing_off: 0, in_flight: 1 });
    world.gate.cancel(world.now, tickets[1]);
    world.succeed(world.attempt(tickets[0]));
    assert_eq!(world.route(tickets[2]), 1);
    world.succeed(world.attempt(tickets[2]));
    assert_eq!(world.gate.load(), Load::default());
}

#[test]
fn a_call_whose_last_route_is_stopped_ends_with_the_reason_of_the_stop() {
    let mut world = World::two_routes(Strategy::Ordered);
    let ticket = world.submit("normal");
    world.end(world.attempt(ticket), outcome(OutcomeKind::Forbidden));
    world.end(world.attempt(ticket), outcome(OutcomeKind::Billing));
    let failure = world.failure(ticket);
    assert_eq!((failure.kind, failure.route), (FailureKind::InsufficientBalance, Some(RouteId(1))));
}

/// Two routes, the first of which is stopped, and a call that was sent by the second.
fn stopped_beside(kind: OutcomeKind) -> (World, Ticket) {
    let mut world = World::two_routes(Strategy::Ordered);
    let stopping = world.submit("normal");
    world.end(world.attempt(stopping), outcome(kind));
    world.succeed(world.attempt(stopping));
    let ticket = world.submit_as("normal", |spec| spec.deadline = Some(Duration::from_secs(600))).unwrap();
    assert_eq!(world.route(ticket), 1);
    (world, ticket)
}

#[test]
fn a_call_that_leaves_its_route_while_all_others_are_stopped_ends_by_what_that_route_said() {
    let busy =
        Outcome { status: Some(503), retry_after: Some(Duration::from_secs(3600)), ..outcome(OutcomeKind::Pressure) };
    for stop in [OutcomeKind::Billing, OutcomeKind::Authentication] {
        for (said, expected) in
            [(busy.clone(), FailureKind::Deadline), (outcome(OutcomeKind::Forbidden), FailureKind::Forbidden)]
        {
            let (mut world, ticket) = stopped_beside(stop);
            world.end(world.attempt(ticket), said.clone());
            let failure = world.failure(ticket);
            assert_eq!((failure.kind, failure.route), (expected, Some(RouteId(1))), "beside {stop:?}");
            assert_eq!((failure.outcome.as_ref(), failure.history.sent()), (Some(&said), 1));
            assert_eq!(world.gate.load(), Load::default());
        }
    }
}

#[test]
fn a_call_that_leaves_its_route_waits_for_a_stopped_one_that_is_being_asked_or_may_be() {
    let (mut world, ticket) = stopped_beside(OutcomeKind::Billing);
    world.pass(301.0);
    world.end(world.attempt(ticket), outcome(OutcomeKind::Forbidden));
    assert_eq!(world.route(ticket), 0, "it is the one to find out");

    let (mut world, ticket) = stopped_beside(OutcomeKind::Billing);
    world.pass(301.0);
    let probe = world.submit("normal");
    assert_eq!(world.route(probe), 0);
    world.end(world.attempt(ticket), outcome(OutcomeKind::Forbidden));
    assert_eq!((world.route(ticket), world.gate.load().queued), (1, 1));
    world.succeed(world.attempt(probe));
    assert_eq!(world.route(ticket), 0);
}

#[test]
fn a_failure_says_which_route_decided_it() {
    let mut world = World::two_routes(Strategy::Ordered);
    let ticket = world.submit_as("normal", |spec| spec.deadline = Some(Duration::from_secs(5))).unwrap();
    world.end(world.attempt(ticket), Outcome { status: Some(503), ..outcome(OutcomeKind::Pressure) });
    assert_eq!(world.route(ticket), 1);
    world.pass(6.0);
    let failure = world.failure(ticket);
    assert_eq!((failure.kind, failure.route), (FailureKind::Deadline, Some(RouteId(0))), "not the one given up");
    assert_eq!(failure.outcome.as_ref().unwrap().status, Some(503));
    assert_eq!(failure.history.records().last().unwrap().route, RouteId(1));

    let ticket = world.submit_as("normal", |spec| spec.deadline = Some(Duration::from_secs(5))).unwrap();
    world.pass(6.0);
    assert_eq!((&world.failure(ticket).outcome, world.failure(ticket).route), (&None, None), "nothing decided");
}

#[test]
fn what_must_go_elsewhere_takes_its_workloads_turns_there() {
    let routes =
        vec![RouteSpec::new("first", "a"), RouteSpec { max_concurrency: Some(1), ..RouteSpec::new("second", "b") }];
    let mut world = World::new(Config::new(routes));
    // One that is answered between them, lest the route be stopped.
    let refused = |world: &mut World, workload: &str| {
        let [refused, answered] = [(); 2].map(|()| world.submit(workload));
        world.end(world.attempt(refused), outcome(OutcomeKind::Forbidden));
        world.succeed(world.attempt(answered));
        refused
    };
    let answer = |world: &mut World| {
        let attempt = world.sent.iter().rev().find(|(_, route)| route.index() == 1).unwrap().0;
        world.succeed(attempt);
    };
    for _ in 0..40 {
        refused(&mut world, "flood");
    }
    (0..20).for_each(|_| answer(&mut world));
    for _ in 0..20 {
        refused(&mut world, "flood");
    }
    let other = refused(&mut world, "other");
    (0..2).for_each(|_| answer(&mut world));
    assert_eq!(world.route(other), 1, "and is not behind all that others have waiting");
}

#[test]
fn lines_of_refused_calls_do_not_pile_up_for_ever() {
    let routes = (0..16).map(|at| RouteSpec::new(at.to_string(), at.to_string())).collect();
    let mut world = World::new(Config { strategy: Strategy::RoundRobin, ..Config::new(routes) });
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..3000 {
        let ticket = world.submit("normal");
        for _ in 0..rng.u32(4..12) {
            world.end(world.attempt(ticket), outcome(OutcomeKind::Forbidden));
            // No route is stopped, and turns are taken by others, too.
            world.gate.resume(world.now);
            for _ in 0..rng.u32(0..3) {
                let other = world.submit("normal");
                world.succeed(world.attempt(other));
            }
        }
        world.succeed(world.attempt(ticket));
        world.sent.clear();
    }
    assert!(world.gate.pools.len() <= 4096, "{}", world.gate.pools.len());
    let ticket = world.submit("normal");
    world.succeed(world.attempt(ticket));
    assert!(world.succeeded(ticket));
}

#[test]
fn weights_share_the_turns() {
    let routes = vec![
        RouteSpec { weight: 3.0, ..RouteSpec::new("heavy", "a") },
        RouteSpec { weight: 1.0, ..RouteSpec::new("light", "b") },
    ];
    let mut world = World::new(Config { strategy: Strategy::Weighted, ..Config::new(routes) });
    let mut turns = [0; 2];
    for _ in 0..400 {
        let ticket = world.submit("normal");
        turns[world.route(ticket)] += 1;
        world.succeed(world.attempt(ticket));
    }
    assert_eq!(turns, [300, 100]);
}

#[test]
fn two_keys_of_one_account_share_its_lane() {
    let capped = |name| RouteSpec { max_concurrency: Some(2), ..RouteSpec::new(name, "same") };
    let mut world =
        World::new(Config { strategy: Strategy::RoundRobin, ..Config::new(vec![capped("a"), capped("b")]) });
    let tickets: Vec<_> = (0..4).map(|_| world.submit("normal")).collect();
    assert_eq!(tickets.iter().filter(|&&ticket| world.was_sent(ticket)).count(), 2);
    assert_eq!(world.gate.snapshot(world.now).lanes.len(), 1);
}

#[test]
fn users_have_lanes_of_their_own_under_the_accounts_where_the_account_limits_each() {
    let route = RouteSpec { per_user: true, max_concurrency: Some(3), ..RouteSpec::new("one", "account") };
    let mut world = World::new(Config::new(vec![route]));
    let mut of = |user: &'static str| world.submit_as("normal", |spec| spec.user_id = Some(user)).unwrap();
    let tickets = [of("ann"), of("bob"), of("ann"), of("eve")];
    let sent: Vec<_> = tickets.iter().map(|&ticket| world.was_sent(ticket)).collect();
    assert_eq!(sent, [true, true, true, false], "the account's ceiling holds for all users together");
    let snapshot = world.gate.snapshot(world.now);
    let users: HashSet<_> = snapshot.lanes.iter().filter_map(|lane| lane.user_id.clone()).collect();
    assert_eq!(users.len(), 3);
}

#[test]
fn a_user_who_asks_for_too_much_takes_nothing_from_others() {
    let mut world = World::new(Config::new(vec![RouteSpec { per_user: true, ..RouteSpec::new("one", "account") }]));
    for _ in 0..20 {
        world.submit_as("normal", |spec| spec.user_id = Some("ann")).unwrap();
    }
    // The account would take many more, but she may have five at once.
    let mut refused = Vec::new();
    for _ in 0..40 {
        world.pass(0.05);
        let flying = world.sent.iter().map(|&(attempt, _)| attempt).filter(|attempt| !refused.contains(attempt));
        if let Some(over) = flying.skip(5).last() {
            refused.push(over);
            world.end(over, outcome(OutcomeKind::Slot));
        }
    }
    assert!(!refused.is_empty());
    let others = ["bob", "eve", "mia", "tom", "zoe"]
        .map(|user| world.submit_as("normal", |spec| spec.user_id = Some(user)).unwrap());
    world.pass(2.0);
    assert_eq!(others.map(|ticket| world.was_sent(ticket)), [true; 5]);
}

#[test]
fn lanes_of_single_users_do_not_pile_up_for_ever() {
    let route = RouteSpec { per_user: true, ..RouteSpec::new("one", "account") };
    let mut world = World::new(Config::new(vec![route]));
    for user in 0..10_000 {
        let ticket = world.submit_as("normal", |spec| spec.user_id = Some(format!("user-{user}").leak())).unwrap();
        world.succeed(world.attempt(ticket));
        world.pass(0.1);
    }
    let again = world.submit_as("normal", |spec| spec.user_id = Some("user-0")).unwrap();
    assert!(world.was_sent(again));
    let lanes = world.gate.snapshot(world.now).lanes;
    assert!(lanes.len() <= USER_LANES_AND_ACCOUNT);
    assert!(lanes.iter().any(|lane| lane.user_id.as_deref() == Some("user-0")), "who was forgotten is new again");
}
const USER_LANES_AND_ACCOUNT: usize = 4096 + 1;

#[test]
fn an_unknown_model_is_refused_before_anything_is_sent() {
    let route = RouteSpec { any_model: false, ..RouteSpec::new("one", "account").with_deepseek_models() };
    let mut world = World::new(Config::new(vec![route]));
    assert_eq!(world.submit_as("normal", |_| {}), Err(SubmitError::NoRoute { model: "m".into() }));
    assert!(world.submit_as("normal", |spec| spec.model = "deepseek-flash").is_ok());
}

#[test]
fn aliases_of_a_model_share_its_lane_and_keep_their_names() {
    let mut world = World::new(Config::new(vec![RouteSpec::new("one", "account").with_deepseek_models()]));
    world.submit_as("normal", |spec| spec.model = "deepseek-flash").unwrap();
    world.submit_as("normal", |spec| spec.model = "deepseek-v4-flash").unwrap();
    let snapshot = world.gate.snapshot(world.now);
    assert_eq!(snapshot.lanes.len(), 1);
    assert_eq!(snapshot.models.len(), 2);
}

#[test]
fn a_full_queue_refuses_or_lets_wait_in_order() {
    let mut world = World::capped(1);
    let first = world.submit("normal");
    for _ in 0..50 {
        world.submit("normal");
    }
    assert_eq!(world.submit_as("normal", |_| {}), Err(SubmitError::QueueFull { limit: 50 }));
    let wait = |spec: &mut JobSpec<'_>| spec.on_full = OnFull::Wait;
    let outside: Vec<_> = (0..100).map(|_| world.submit_as("normal", wait).unwrap()).collect();
    assert_eq!(world.gate.load(), Load { queued: 150, backing_off: 0, in_flight: 1 });
    for &ticket in &outside[10..90] {
        assert!(world.gate.cancel(world.now, ticket));
    }
    let mut running = first;
    let mut order = Vec::new();
    loop {
        world.succeed(world.attempt(running));
        let Some((attempt, _)) = world.sent.last().filter(|(attempt, _)| attempt.ticket != running) else { break };
        running = attempt.ticket;
        order.push(running);
    }
    let kept: Vec<_> = outside[..10].iter().chain(&outside[90..]).copied().collect();
    assert_eq!(order[50..], kept[..], "in the order of arrival");
    assert_eq!(world.gate.load(), Load::default());
}

#[test]
fn a_call_given_up_in_the_queue_makes_room_too() {
    let route = RouteSpec { max_concurrency: Some(1), ..RouteSpec::new("one", "account") };
    let mut world = World::new(Config { max_queued: 1, ..Config::new(vec![route]) });
    let (flying, queued) = (world.submit("normal"), world.submit("normal"));
    let outside = world.submit_as("normal", |spec| spec.on_full = OnFull::Wait).unwrap();
    assert!(world.gate.cancel(world.now, queued));
    world.succeed(world.attempt(flying));
    assert!(world.was_sent(outside));
}

#[test]
fn one_more_in_a_line_that_nobody_can_leave_is_no_reason_to_look() {
    let mut world = World::capped(2);
    let [first, second, third] = std::array::from_fn(|_| world.submit("normal"));
    assert!(world.was_sent(second) && !world.was_sent(third));
    let workload = world.gate.workload("normal");
    let fourth = world.gate.submit(world.now, JobSpec::new("m", workload)).unwrap();
    assert_ne!(world.gate.next_wake(), Some(world.now), "there is nothing to be done");
    world.gate.cancel(world.now, third);
    world.succeed(world.attempt(first));
    assert!(world.was_sent(fourth));
    // A line that all have left is new again.
    let fifth = world.submit("normal");
    world.gate.cancel(world.now, fifth);
    let sixth = world.submit("normal");
    assert!(!world.was_sent(sixth));
    world.succeed(world.attempt(second));
    assert!(world.was_sent(sixth));
}

#[test]
fn a_deadline_ends_a_call_wherever_it_is() {
    let mut world = World::capped(1);
    let hurried = |spec: &mut JobSpec<'_>| spec.deadline = Some(Duration::from_secs(5));
    let flying = world.submit_as("normal", hurried).unwrap();
    let queued = world.submit_as("normal", hurried).unwrap();
    world.pass(5.1);
    assert_eq!(world.failure(flying).kind, FailureKind::Deadline);
    assert_eq!(world.failure(queued).kind, FailureKind::Deadline);
    assert_eq!(world.aborted, [world.attempt(flying)]);
    assert!(!world.was_sent(queued));
    let resting = world.submit_as("normal", hurried).unwrap();
    world.pass(2.0);
    let slow = Outcome { retry_after: Some(Duration::from_secs(60)), ..outcome(OutcomeKind::Server) };
    world.end(world.attempt(resting), slow);
    assert_eq!(world.failure(resting).kind, FailureKind::Deadline, "not retried early, so it fails at once");
}

#[test]
fn retry_after_is_obeyed_before_the_next_attempt() {
    let mut world = World::single();
    let ticket = world.submit("normal");
    let asked = Outcome { retry_after: Some(Duration::from_secs(20)), ..outcome(OutcomeKind::Slot) };
    world.end(world.attempt(ticket), asked);
    world.pass(19.9);
    assert_eq!(world.attempt(ticket).number, 1);
    world.pass(3.0);
    assert_eq!(world.attempt(ticket).number, 2);
}

#[test]
fn a_rate_rejection_closes_the_quota_and_leaves_the_limit_alone() {
    let mut world = World::single();
    let limit = world.gate.snapshot(world.now).lanes.first().map(|lane| lane.limit);
    let ticket = world.submit("normal");
    let asked = Outcome { retry_after: Some(Duration::from_secs(8)), ..outcome(OutcomeKind::Rate) };
    world.end(world.attempt(ticket), asked);
    let other = world.submit("normal");
    assert!(!world.was_sent(other), "the whole lane slows down");
    let lane = &world.gate.snapshot(world.now).lanes[0];
    assert!(limit.is_none_or(|limit| limit == lane.limit));
    assert_eq!(lane.measured, None);
    world.pass(10.0);
    assert!(world.was_sent(other));
}

#[test]
fn a_token_quota_reckons_with_what_answers_came_to_not_with_what_was_guessed() {
    let quota = QuotaSpec { tokens_per_minute: Some(100_000), ..QuotaSpec::default() };
    let route = RouteSpec { quota, ..RouteSpec::new("one", "account") };
    let mut world = World::new(Config::new(vec![route]));
    let guess = |spec: &mut JobSpec<'_>| spec.tokens = 2000;
    let fits = |world: &mut World| {
        world.pass(130.0);
        let mut sent = 0;
        loop {
            let ticket = world.submit_as("normal", guess).unwrap();
            if !world.was_sent(ticket) {
                world.gate.cancel(world.now, ticket);
                return sent;
            }
            sent += 1;
            let tokens = TokenCount { prompt: 1000, completion: 3000, ..TokenCount::default() };
            let attempt = world.attempt(ticket);
            world.on(attempt, Event::Ended { outcome: outcome(OutcomeKind::Success), tokens: Some(tokens) });
        }
    };
    assert_eq!(fits(&mut world), 25, "what was used counts, whatever was guessed");
    let waiting = world.submit_as("normal", |spec| spec.tokens = 2000).unwrap();
    world.pass(130.0);
    assert!(world.was_sent(waiting));
    let flying: Vec<_> = (0..60).map(|_| world.submit_as("normal", guess).unwrap()).collect();
    world.pass(20.0);
    let in_flight = flying.iter().filter(|&&ticket| world.was_sent(ticket)).count();
    assert!((20..=26).contains(&in_flight), "{in_flight}: an estimate of 2,000 is known to come to 4,000");
}

#[test]
fn what_was_delivered_is_never_sent_again() {
    let mut world = World::single();
    let ticket = world.submit("normal");
    let attempt = world.attempt(ticket);
    world.on(attempt, Event::Headers);
    world.on(attempt, Event::Content);
    world.on(attempt, Event::Delivered);
    world.end(attempt, outcome(OutcomeKind::Interrupted));
    assert_eq!(world.failure(ticket).kind, FailureKind::Interrupted);
    let again = world.submit("normal");
    let attempt = world.attempt(again);
    world.on(attempt, Event::Content);
    world.end(attempt, outcome(OutcomeKind::Interrupted));
    world.pass(5.0);
    assert_eq!(world.attempt(again).number, 2, "nothing was delivered, so it may be asked again");
}

#[test]
fn keep_alives_are_no_progress_and_a_slow_reader_is_no_stall() {
    let mut world = World::single();
    let clocks = Clocks {
        headers: Some(Duration::from_secs(30)),
        first_content: Some(Duration::from_secs(60)),
        idle: Some(Duration::from_secs(10)),
    };
    let with = |spec: &mut JobSpec<'_>| spec.clocks = Some(clocks.clone());
    let ticket = world.submit_as("normal", with).unwrap();
    let attempt = world.attempt(ticket);
    world.on(attempt, Event::Headers);
    for _ in 0..59 {
        world.pass(1.0);
        world.on(attempt, Event::Alive);
    }
    assert!(world.aborted.is_empty());
    world.pass(1.5);
    assert_eq!(world.aborted, [attempt], "the first content clock ran out");
    world.pass(5.0);

    let attempt = world.attempt(ticket);
    assert_eq!(attempt.number, 2);
    world.on(attempt, Event::Headers);
    world.on(attempt, Event::Content);
    world.on(attempt, Event::Delivered);
    world.pass(500.0);
    assert_eq!(world.aborted.len(), 1, "nobody is reading: the server owes nothing");
    world.on(attempt, Event::Reading);
    world.pass(9.0);
    world.on(attempt, Event::Alive);
    world.pass(2.0);
    assert_eq!(world.aborted.len(), 2, "a comment does not re-arm the idle clock");
    assert_eq!(world.failure(ticket).kind, FailureKind::Interrupted);
}

#[test]
fn nobody_is_woken_for_what_was_delivered_and_is_not_read() {
    let mut world = World::single();
    let unread = world.submit("normal");
    let attempt = world.attempt(unread);
    world.on(attempt, Event::Headers);
    world.on(attempt, Event::Delivered);
    // A call beside it comes and goes; its clocks stay behind.
    let other = world.submit("normal");
    world.succeed(world.attempt(other));
    world.gate.drop_stale_timers();
    assert_eq!(world.gate.next_wake(), None);

    let span = Duration::from_secs(5);
    let until = world.now + span;
    let late = world.submit_as("normal", |spec| spec.deadline = Some(span)).unwrap();
    let attempt = world.attempt(late);
    world.on(attempt, Event::Headers);
    world.on(attempt, Event::Delivered);
    world.gate.drop_stale_timers();
    assert_eq!(world.gate.next_wake(), Some(until), "a deadline holds all the same");
}

#[test]
fn a_server_that_sends_no_head_in_time_is_left() {
    let mut world = World::single();
    let ticket = world.submit("normal");
    world.pass(659.0);
    assert!(world.aborted.is_empty(), "DeepSeek itself hangs up after ten minutes");
    world.pass(2.0);
    assert_eq!(world.aborted.len(), 1);
    world.pass(2.0);
    assert_eq!(world.attempt(ticket).number, 2);
}

#[test]
fn a_connection_that_was_closed_for_its_silence_is_counted_a_moment_longer() {
    let mut world = World::capped(1);
    world.submit("normal");
    let clock = world.gate.clocks().headers.unwrap().as_secs_f64();
    world.pass(clock);
    assert_eq!((world.aborted.len(), world.sent.len()), (1, 1));
    world.submit("normal");
    world.pass(0.9);
    assert_eq!(world.sent.len(), 1, "the server may count it still");
    world.pass(0.2);
    assert_eq!(world.sent.len(), 2);
}

#[test]
fn reports_on_an_attempt_that_is_over_are_ignored() {
    let mut world = World::single();
    let ticket = world.submit("normal");
    let old = world.attempt(ticket);
    world.end(old, outcome(OutcomeKind::Server));
    world.pass(2.0);
    let new = world.attempt(ticket);
    assert_ne!(old, new);
    world.end(old, outcome(OutcomeKind::Success));
    assert!(!world.ended.contains_key(&ticket));
    world.succeed(new);
    assert!(world.succeeded(ticket));
    world.end(new, outcome(OutcomeKind::Server));
    assert!(!world.gate.cancel(world.now, ticket), "it is over");
}

#[test]
fn closing_rejects_every_waiter_and_lets_those_in_flight_end() {
    let mut world = World::capped(1);
    let flying = world.submit("normal");
    let queued: Vec<_> = (0..10).map(|_| world.submit("normal")).collect();
    world.gate.close(world.now, false);
    world.drain();
    assert!(queued.iter().all(|&ticket| world.failure(ticket).kind == FailureKind::Closed));
    assert_eq!(world.submit_as("normal", |_| {}), Err(SubmitError::Closed));
    world.succeed(world.attempt(flying));
    assert!(world.succeeded(flying));
    assert_eq!(world.gate.load(), Load::default());

    let mut world = World::capped(1);
    let flying = world.submit("normal");
    world.gate.close(world.now, true);
    world.drain();
    let failure = world.failure(flying);
    assert_eq!((failure.kind, failure.history.sent()), (FailureKind::Closed, 1), "it is told that it was sent");
    assert_eq!(world.aborted.len(), 1);
}

#[test]
fn what_fails_after_closing_is_not_tried_again() {
    for kind in [OutcomeKind::Slot, OutcomeKind::Pressure, OutcomeKind::Server] {
        let mut world = World::capped(1);
        let flying = world.submit("normal");
        world.gate.close(world.now, false);
        world.end(world.attempt(flying), outcome(kind));
        world.pass(60.0);
        assert_eq!((world.failure(flying).kind, world.sent.len()), (FailureKind::Closed, 1), "{kind:?}");
    }
}

#[test]
fn the_breaker_opens_after_a_run_of_failures_and_a_trial_closes_it() {
    let mut world = World::single();
    let tickets: Vec<_> = (0..4).map(|_| world.submit("normal")).collect();
    let mut rounds = 0;
    while world.gate.snapshot(world.now).lanes[0].breaker == "closed" {
        rounds += 1;
        assert!(rounds < 100, "opens within reason");
        let flying: Vec<_> = tickets.iter().map(|&ticket| world.attempt(ticket)).collect();
        for attempt in flying {
            world.end(attempt, outcome(OutcomeKind::Transport));
        }
        world.pass(0.1);
    }
    assert!(world.notices.contains(&Notice::Breaker { lane: LaneId(0), open: true }));
    let ticket = world.submit("normal");
    world.pass(60.0);
    let last = world.sent.last().unwrap().0;
    world.succeed(last);
    assert_eq!(world.gate.snapshot(world.now).lanes[0].breaker, "closed");
    world.pass(60.0);
    assert!(world.was_sent(ticket));
}

#[test]
fn learning_is_carried_by_the_lowest_class_and_background_waits_out_pressure() {
    let mut world = World::capped(4);
    let background: Vec<_> = (0..8).map(|_| world.submit("background")).collect();
    let interactive: Vec<_> = (0..3).map(|_| world.submit("interactive")).collect();
    world.succeed(world.attempt(background[0]));
    assert!(world.was_sent(interactive[0]), "served before the background that waits longer");
    world.succeed(world.attempt(interactive[0]));
    let overloaded = || Outcome { status: Some(503), ..outcome(OutcomeKind::Pressure) };
    world.end(world.attempt(interactive[1]), overloaded());
    for &ticket in &background[1..4] {
        world.end(world.attempt(ticket), overloaded());
    }
    let before = world.sent.len();
    while world.sent.len() == before {
        world.pass(0.01);
    }
    let trial = world.sent[before].0;
    assert!(background.contains(&trial.ticket), "a person does not pay for finding out");
    world.on(trial, Event::Headers);
    let flying: Vec<_> = world.sent[before + 1..].iter().map(|(attempt, _)| attempt.ticket).collect();
    assert!(flying.starts_with(&[interactive[1]]), "{flying:?}");
}

#[test]
fn background_adds_nothing_to_the_load_while_the_service_is_overloaded() {
    let mut world = World::capped(4);
    let person = world.submit("interactive");
    let background: Vec<_> = (0..8).map(|_| world.submit("background")).collect();
    for &ticket in &background[..3] {
        let overloaded = Outcome { status: Some(503), ..outcome(OutcomeKind::Pressure) };
        world.end(world.attempt(ticket), overloaded);
    }
    let before = world.sent.len();
    world.pass(20.0);
    assert_eq!(world.sent.len(), before, "a person's request is in flight");
    world.succeed(world.attempt(person));
    world.pass(1.0);
    assert!(world.sent.len() > before);
}

#[test]
fn a_slot_is_kept_for_interactive_work_only_while_it_is_about() {
    let mut world = World::capped(10);
    world.pass(100.0);
    // Grow the window to its ceiling.
    for _ in 0..200 {
        let ticket = world.submit("normal");
        if world.was_sent(ticket) {
            world.succeed(world.attempt(ticket));
        }
        world.pass(0.05);
    }
    let flood: Vec<_> = (0..40).map(|_| world.submit("background")).collect();
    world.pass(5.0);
    let flying = |world: &World| world.gate.load().in_flight;
    assert_eq!(flying(&world), 10, "all of it is used");
    let person = world.submit("interactive");
    assert!(!world.was_sent(person));
    let sent: Vec<_> = flood.iter().copied().filter(|&ticket| world.was_sent(ticket)).collect();
    world.succeed(world.attempt(sent[0]));
    assert!(world.was_sent(person));
    world.succeed(world.attempt(sent[1]));
    world.succeed(world.attempt(person));
    assert_eq!(flying(&world), 9, "one is kept for the next person");
    let next = world.submit("interactive");
    assert!(world.was_sent(next), "who does not wait");
    world.succeed(world.attempt(next));
    assert_eq!(flying(&world), 9);
    world.pass(61.0);
    assert_eq!(flying(&world), 10, "nobody came: it is given free although nothing happens");
}

#[test]
fn a_workloads_own_cap_holds_across_lanes() {
    let capped = WorkloadSpec { max_concurrency: Some(2), ..WorkloadSpec::new("eval", Class::Normal) };
    let config = Config { workloads: vec![capped], ..Config::new(vec![RouteSpec::new("one", "account")]) };
    let mut world = World::new(config);
    let of = |model: &'static str| move |spec: &mut JobSpec<'_>| spec.model = model;
    let tickets = [
        world.submit_as("eval", of("a")).unwrap(),
        world.submit_as("eval", of("b")).unwrap(),
        world.submit_as("eval", of("b")).unwrap(),
    ];
    assert!(!world.was_sent(tickets[2]));
    world.succeed(world.attempt(tickets[0]));
    assert!(world.was_sent(tickets[2]), "a permit freed on one lane lets the workload use another");
}

#[test]
fn what_was_learned_survives_a_restart() {
    let mut world = World::single();
    for _ in 0..400 {
        let ticket = world.submit("normal");
        if world.was_sent(ticket) && world.gate.load().in_flight > 12 {
            let told = Some(Told { current: 13, limit: 12 });
            world.end(world.attempt(ticket), Outcome { told, ..outcome(OutcomeKind::Slot) });
        }
        world.pass(0.05);
    }
    let limit = world.gate.snapshot(world.now).lanes[0].limit;
    let saved = serde_json::to_string(&world.gate.learned()).unwrap();
    let mut restarted = World::single();
    restarted.gate.restore(Timestamp::ZERO, serde_json::from_str(&saved).unwrap());
    assert_eq!(serde_json::to_string(&restarted.gate.learned()).unwrap(), saved, "nor by a run that had no use for it");
    restarted.submit("normal");
    assert_eq!(restarted.gate.learned()[0].learned.window, limit, "not forgotten by the next restart either");
    for _ in 0..limit {
        restarted.submit("normal");
    }
    restarted.pass(1.0);
    assert!(restarted.gate.load().in_flight >= u64::from(limit), "it is gone to at once");
}

#[test]
fn a_configuration_that_makes_no_sense_says_what_and_where() {
    let route = || RouteSpec::new("one", "account");
    let expect = |config: Config, words: &str| {
        let error = Scheduler::new(config, 1).unwrap_err().to_string();
        assert!(error.starts_with("Expected ") && error.contains(words), "{error}");
    };
    expect(Config::new(vec![]), "at least one route");
    expect(Config::new(vec![route(); 2]), "`one` twice");
    expect(Config::new(vec![RouteSpec { weight: f64::NAN, ..route() }]), "`weight` of route `one`");
    expect(Config::new(vec![RouteSpec { max_concurrency: Some(0), ..route() }]), "`max_concurrency` of route `one`");
    let workload = WorkloadSpec { weight: -1.0, ..WorkloadSpec::new("chat", Class::Normal) };
    expect(Config { workloads: vec![workload], ..Config::new(vec![route()]) }, "`weight` of workload `chat`");
    expect(Config { max_queued: 0, ..Config::new(vec![route()]) }, "`max_queued`");
}

#[test]
fn a_call_too_large_for_what_is_left_of_a_token_quota_waits_for_it_quietly() {
    let quota = QuotaSpec { tokens_per_minute: Some(1000), ..QuotaSpec::default() };
    let mut world = World::new(Config::new(vec![RouteSpec { quota, ..RouteSpec::new("one", "account") }]));
    let sized = |spec: &mut JobSpec<'_>| spec.tokens = 600;
    world.submit_as("normal", sized).unwrap();
    let large = world.submit_as("normal", sized).unwrap();
    assert!(!world.was_sent(large));
    assert!(world.gate.next_wake().is_some_and(|at| at > world.now), "nothing to do until tokens are free");
    world.pass(62.0);
    assert!(world.was_sent(large));
}

#[test]
fn an_ordered_route_with_too_few_tokens_left_for_a_call_is_passed_over() {
    let quota = QuotaSpec { tokens_per_minute: Some(1000), ..QuotaSpec::default() };
    let first = RouteSpec { quota, ..RouteSpec::new("first", "a") };
    let mut world = World::new(Config::new(vec![first, RouteSpec::new("second", "b")]));
    let calls = [600, 600, 300, 300].map(|tokens| world.submit_as("normal", |spec| spec.tokens = tokens).unwrap());
    assert_eq!(calls.map(|ticket| world.route(ticket)), [0, 1, 0, 1], "what is left is for whom it is enough");
}

#[test]
fn a_probe_that_is_answered_by_another_stop_does_not_block_its_own_for_ever() {
    for (first, second) in
        [(OutcomeKind::Authentication, OutcomeKind::Billing), (OutcomeKind::Billing, OutcomeKind::Authentication)]
    {
        let mut world = World::single();
        let ticket = world.submit("normal");
        world.end(world.attempt(ticket), outcome(first));
        world.pass(301.0);
        let probe = world.submit("normal");
        world.end(world.attempt(probe), outcome(second));
        world.pass(301.0);
        let next = world.submit("normal");
        assert!(world.was_sent(next), "{first:?} then {second:?}");
    }
}

#[test]
fn an_answer_to_what_was_sent_before_does_not_reopen_a_stopped_account() {
    let mut world = World::single();
    let (one, two, three) = (world.submit("normal"), world.submit("normal"), world.submit("normal"));
    world.end(world.attempt(one), outcome(OutcomeKind::Billing));
    world.succeed(world.attempt(two));
    let late = world.submit("normal");
    assert_eq!(world.failure(late).kind, FailureKind::InsufficientBalance);
    world.end(world.attempt(three), outcome(OutcomeKind::Billing));
    let stopped = world.notices.iter().filter(|notice| matches!(notice, Notice::Stopped { .. })).count();
    assert_eq!(stopped, 1, "told once");
}

#[test]
fn a_probe_that_is_let_in_reopens_the_account_before_its_answer_is_complete() {
    let mut world = World::single();
    let first = world.submit("normal");
    world.end(world.attempt(first), outcome(OutcomeKind::Billing));
    world.pass(301.0);
    let (probe, waiting) = (world.submit("normal"), world.submit("normal"));
    assert!(!world.was_sent(waiting));
    world.on(world.attempt(probe), Event::Headers);
    assert!(world.was_sent(waiting), "a long answer must not keep everybody waiting");
}

#[test]
fn a_trial_that_is_let_in_closes_the_breaker_before_its_answer_is_complete() {
    let breaker = BreakerPolicy { failures: 2, ..BreakerPolicy::default() };
    let mut world = World::new(Config { breaker, ..Config::new(vec![RouteSpec::new("one", "account")]) });
    let tickets: Vec<_> = (0..2).map(|_| world.submit("normal")).collect();
    for &ticket in &tickets {
        world.end(world.attempt(ticket), outcome(OutcomeKind::Transport));
    }
    let others: Vec<_> = (0..3).map(|_| world.submit("normal")).collect();
    let sent = world.sent.len();
    world.pass(2.0);
    assert_eq!(world.sent.len(), sent + 1, "one trial");
    let trial = world.sent[sent].0;
    world.on(trial, Event::Headers);
    world.pass(0.5);
    assert!(world.sent.len() > sent + 1, "a long answer must not keep everybody waiting");
    world.end(trial, outcome(OutcomeKind::Interrupted));
    assert_eq!(world.gate.snapshot(world.now).lanes[0].breaker, "open", "but its failure counts as the trial's");
    assert!(others.iter().any(|&ticket| world.was_sent(ticket)));
}

#[test]
fn a_trial_nobody_hears_of_gives_way_to_the_next() {
    let breaker = BreakerPolicy { failures: 1, ..BreakerPolicy::default() };
    let mut world = World::new(Config { breaker, ..Config::new(vec![RouteSpec::new("one", "account")]) });
    let ticket = world.submit("normal");
    world.end(world.attempt(ticket), outcome(OutcomeKind::Transport));
    let others: Vec<_> = (0..3).map(|_| world.submit("normal")).collect();
    world.pass(5.0);
    let sent = world.sent.len();
    assert_eq!(sent, 2);
    world.pass(11.0);
    assert_eq!(
        world.sent.len(),
        sent + 1,
        "a connection into the void must not close the lane until its clock runs out"
    );
    world.succeed(world.sent[sent].0);
    assert!(others.iter().filter(|&&ticket| world.was_sent(ticket)).count() >= 2);
}

#[test]
fn an_account_that_closes_its_rate_without_a_time_to_wait_is_not_hammered() {
    let mut world = World::single();
    let ticket = world.submit("normal");
    for _ in 0..5 {
        let asked = Outcome { retry_after: Some(Duration::ZERO), ..outcome(OutcomeKind::Rate) };
        world.end(world.attempt(ticket), asked);
    }
    assert_eq!(world.attempt(ticket).number, 1, "`Retry-After: 0` is no licence to spin");
}

#[test]
fn an_answer_whose_head_nobody_reported_proves_that_the_rate_is_free_again() {
    let mut world = World::single();
    let first = world.submit("normal");
    world
        .end(world.attempt(first), Outcome { retry_after: Some(Duration::from_secs(5)), ..outcome(OutcomeKind::Rate) });
    let others = [(); 4].map(|()| world.submit("normal"));
    world.pass(5.6);
    let attempt = world.attempt(first);
    assert_eq!(attempt.number, 2);
    world.end(attempt, outcome(OutcomeKind::Success));
    assert!(world.was_sent(others[0]) && world.was_sent(others[1]));
}

#[test]
fn what_an_account_has_used_up_is_not_reckoned_as_one_users() {
    let route = RouteSpec { per_user: true, ..RouteSpec::new("one", "account") };
    let mut world = World::new(Config::new(vec![route]));
    let word = |used: u64| {
        let reset = Some(Duration::from_secs(30));
        let tokens = QuotaHint { limit: Some(10_000), remaining: Some(10_000 - used), reset };
        Outcome { quota: QuotaHints { tokens, ..QuotaHints::default() }, ..outcome(OutcomeKind::Success) }
    };
    let mut used = 0;
    for user in ["ann", "bob", "bob", "bob", "bob", "bob", "bob", "bob", "bob", "bob", "ann"] {
        let ticket = world.submit_as("normal", |spec| spec.user_id = Some(user)).unwrap();
        used += 500;
        world.end(world.attempt(ticket), word(used));
    }
    let tickets = [(); 3].map(|()| world.submit_as("normal", |spec| spec.user_id = Some("ann")).unwrap());
    assert!(tickets.into_iter().all(|ticket| world.was_sent(ticket)));
}

#[test]
fn routes_of_one_account_share_the_stricter_of_their_quotas() {
    for others in [None, Some(3)] {
        let [free, strict] = [("free", others), ("strict", Some(2))].map(|(name, requests_per_minute)| {
            let quota = QuotaSpec { requests_per_minute, ..QuotaSpec::default() };
            RouteSpec { quota, ..RouteSpec::new(name, "same") }
        });
        let mut world = World::new(Config::new(vec![free, strict]));
        let tickets: Vec<_> = (0..4).map(|_| world.submit("normal")).collect();
        assert_eq!(tickets.iter().filter(|&&ticket| world.was_sent(ticket)).count(), 2);
    }
}

#[test]
fn a_user_who_gave_up_and_was_forgotten_leaves_nothing_behind() {
    let route = RouteSpec { per_user: true, max_concurrency: Some(1), ..RouteSpec::new("one", "account") };
    let mut world = World::new(Config::new(vec![route]));
    let user = |user: String| move |spec: &mut JobSpec<'_>| spec.user_id = Some(user.leak());
    let flying = world.submit_as("normal", user("long".into())).unwrap();
    let mut given_up = Vec::new();
    while world.gate.pools.len() < world.gate.pools_most {
        given_up.push(world.submit_as("normal", user(format!("user-{}", given_up.len()))).unwrap());
    }
    for ticket in given_up {
        world.gate.cancel(world.now, ticket);
    }
    world.now = world.now.plus_secs(100.0);
    let workload = world.gate.workload("normal");
    let spec = JobSpec { user_id: Some("late"), ..JobSpec::new("m", workload) };
    let late = world.gate.submit(world.now, spec).unwrap();
    assert!(world.gate.pools.len() < 10 && world.gate.lanes.len() < 10);
    let Scheduler { lanes, pools, .. } = &world.gate;
    let mut waiting = lanes.iter().flat_map(|(_, lane)| &lane.waiting);
    assert!(waiting.all(|&pool| pools.contains(pool as usize)), "nobody is asked in vain with every answer");
    world.succeed(world.attempt(flying));
    assert!(world.was_sent(late));
}

#[test]
fn names_nobody_serves_and_calls_long_over_take_no_memory() {
    let route = RouteSpec { any_model: false, ..RouteSpec::new("one", "account").with_deepseek_models() };
    let per_user = RouteSpec { per_user: true, any_model: false, ..RouteSpec::new("two", "other") };
    let model = vec![ModelSpec { name: "private".into(), ..ModelSpec::default() }];
    let mut world = World::new(Config::new(vec![route, RouteSpec { models: model, ..per_user }]));
    for at in 0..1000 {
        let name = format!("nonsense-{at}");
        assert!(world.submit_as("normal", |spec| spec.model = name.leak()).is_err());
        let user = format!("user-{at}");
        let known = |spec: &mut JobSpec<'_>| {
            spec.model = "deepseek-flash";
            spec.user_id = Some(user.leak());
        };
        let ticket = world.submit_as("normal", known).unwrap();
        world.pass(0.01);
        world.succeed(world.attempt(ticket));
    }
    assert_eq!(world.gate.models.len(), 1);
    assert_eq!(
        world.gate.pools.len() + world.gate.pool_of.len(),
        1,
        "users make no difference where no route tells them apart"
    );
    assert!(world.gate.timers.len() < 200, "{} timers", world.gate.timers.len());
    assert_eq!(world.gate.next_wake(), None, "nobody is woken for calls that are over");
}

#[test]
fn background_ages_across_the_lines_of_users_who_share_an_account() {
    let route = RouteSpec { per_user: true, max_concurrency: Some(1), ..RouteSpec::new("one", "account") };
    let mut world = World::new(Config::new(vec![route]));
    let of = |user: &'static str| move |spec: &mut JobSpec<'_>| spec.user_id = Some(user);
    let batch: Vec<_> = ["ann", "bob", "eve"]
        .into_iter()
        .flat_map(|user| [user; 4])
        .map(|user| world.submit_as("background", of(user)).unwrap())
        .collect();
    for _ in 0..3 {
        world.submit_as("interactive", of("dan")).unwrap();
    }
    world.end(world.sent[0].0, outcome(OutcomeKind::Refused));
    let mut times = Vec::new();
    for _ in 0..200 {
        world.pass(1.0);
        world.submit_as("interactive", of("dan")).unwrap();
        let running = world.sent.last().unwrap().0;
        if batch.contains(&running.ticket) {
            times.push(world.now.as_secs_f64().round() as u32);
        }
        world.succeed(running);
    }
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.len() >= 5 && gaps.iter().all(|gap| (30..=33).contains(gap)), "one every thirty seconds: {times:?}");
}

#[test]
fn urgent_work_of_one_user_goes_before_all_background_of_others() {
    let route = RouteSpec { per_user: true, ..RouteSpec::new("one", "account") };
    let mut world = World::new(Config::new(vec![route]));
    let of = |user: &'static str| move |spec: &mut JobSpec<'_>| spec.user_id = Some(user);
    let first = world.submit_as("normal", of("zoe")).unwrap();
    world.end(world.attempt(first), outcome(OutcomeKind::Pressure));
    for user in ["ann", "bob"] {
        for _ in 0..6 {
            world.submit_as("background", of(user)).unwrap();
        }
    }
    let urgent: Vec<_> = (0..3).map(|_| world.submit_as("interactive", of("dan")).unwrap()).collect();
    let sent = world.sent.len();
    while world.sent.len() == sent {
        world.pass(0.01);
    }
    let trial = world.sent[sent].0;
    world.on(trial, Event::Headers);
    world.pass(0.5);
    let next: Vec<_> = world.sent[sent + 1..].iter().map(|(attempt, _)| attempt.ticket).take(2).collect();
    assert_eq!(next.iter().filter(|&ticket| urgent.contains(ticket)).count(), 2, "{next:?}");
}

#[test]
fn a_capped_workload_takes_turns_between_models() {
    let capped = WorkloadSpec { max_concurrency: Some(1), ..WorkloadSpec::new("eval", Class::Normal) };
    let config = Config { workloads: vec![capped], ..Config::new(vec![RouteSpec::new("one", "account")]) };
    let mut world = World::new(config);
    let of = |model: &'static str| move |spec: &mut JobSpec<'_>| spec.model = model;
    let mut other = Vec::new();
    for _ in 0..10 {
        world.submit_as("eval", of("a")).unwrap();
        other.push(world.submit_as("eval", of("b")).unwrap());
    }
    for _ in 0..10 {
        world.succeed(world.sent.last().unwrap().0);
    }
    let served = other.iter().filter(|&&ticket| world.was_sent(ticket)).count();
    assert!((4..=6).contains(&served), "{served} of 11");
}

#[test]
fn a_call_given_up_before_its_sending_was_carried_out_is_not_sent() {
    let mut world = World::single();
    let workload = world.gate.workload("normal");
    let tickets: Vec<_> = (0..2).map(|_| world.gate.submit(world.now, JobSpec::new("m", workload)).unwrap()).collect();
    let Some(Action::Send { attempt, .. }) = world.gate.poll(world.now) else { panic!("sent") };
    assert_eq!(attempt.ticket, tickets[0]);
    assert!(world.gate.cancel(world.now, tickets[1]));
    world.drain();
    assert!(!world.was_sent(tickets[1]));
}

#[test]
fn only_attempts_after_a_failure_are_counted_as_retries() {
    let mut world = World::single();
    let ticket = world.submit("normal");
    for kind in [OutcomeKind::Server, OutcomeKind::Slot, OutcomeKind::Slot, OutcomeKind::Success] {
        world.end(world.attempt(ticket), outcome(kind));
        world.pass(10.0);
    }
    let counters = world.gate.snapshot(world.now).total.counters;
    assert_eq!((counters.attempts, counters.retries, counters.slot_rejections), (4, 1, 2));
}

#[test]
fn a_lane_at_rest_is_not_shown_as_paused() {
    for kind in [OutcomeKind::Pressure, OutcomeKind::Slot] {
        let mut world = World::single();
        let ticket = world.submit("normal");
        let asked = Outcome { retry_after: Some(Duration::from_secs(5)), ..outcome(kind) };
        world.end(world.attempt(ticket), asked);
        world.gate.cancel(world.now, ticket);
        assert_eq!(world.gate.snapshot(world.now).lanes[0].state, "paused");
        world.now = world.now.plus_secs(100.0);
        assert_ne!(world.gate.snapshot(world.now).lanes[0].state, "paused");
    }
}

#[test]
fn a_low_balance_is_told_when_it_changes_not_at_every_rejection() {
    let mut world = World::single();
    let ticket = world.submit("normal");
    for limit in [30, 30, 30, 20, 20] {
        let told = Some(Told { current: limit + 1, limit });
        world.end(world.attempt(ticket), Outcome { told, low_balance: true, ..outcome(OutcomeKind::Slot) });
        world.pass(30.0);
    }
    let limits = world.notices.iter().filter_map(|notice| match notice {
        Notice::LowBalance { limit, .. } => Some(*limit),
        _ => None,
    });
    assert_eq!(limits.collect::<Vec<_>>(), [30, 20]);
}

#[test]
fn a_lane_that_lets_a_class_wait_leaves_it_to_the_others() {
    let routes = ["first", "second"].map(|name| RouteSpec { max_concurrency: Some(4), ..RouteSpec::new(name, name) });
    let mut world = World::new(Config { strategy: Strategy::RoundRobin, ..Config::new(routes.to_vec()) });
    let people: Vec<_> = (0..3).map(|_| world.submit("interactive")).collect();
    assert_eq!(people.iter().map(|&ticket| world.route(ticket)).collect::<Vec<_>>(), [0, 1, 0]);
    // The first lane is under pressure with a person's request in flight: background may not use it.
    world.end(world.attempt(people[2]), Outcome { status: Some(503), ..outcome(OutcomeKind::Pressure) });
    world.pass(2.0);
    assert_eq!(world.gate.load().in_flight, 3);
    let workload = world.gate.workload("background");
    for _ in 0..4 {
        world.gate.submit(world.now, JobSpec::new("m", workload)).unwrap();
    }
    let sent = world.sent.len();
    world.drain();
    let routes: Vec<_> = world.sent[sent..].iter().map(|(_, route)| route.index()).collect();
    assert_eq!(routes, [1, 1], "the second lane has room for two");
}

#[test]
fn a_stopped_account_is_asked_again_in_time_while_the_other_one_rests() {
    let mut world = World::two_routes(Strategy::Ordered);
    let ticket = world.submit("normal");
    world.end(world.attempt(ticket), outcome(OutcomeKind::Billing));
    let asked = Outcome { retry_after: Some(Duration::from_secs(7200)), ..outcome(OutcomeKind::Rate) };
    world.end(world.attempt(ticket), asked);
    let waiting = world.submit("normal");
    world.pass(299.0);
    assert!(!world.was_sent(waiting));
    world.pass(2.0);
    assert!(world.was_sent(waiting) && world.route(waiting) == 0);
}

#[test]
fn who_waits_a_moment_for_a_way_that_is_being_tried_goes_another() {
    let routes = ["first", "second"].map(|name| RouteSpec { max_concurrency: Some(1), ..RouteSpec::new(name, name) });
    let mut world = World::new(Config::new(routes.to_vec()));
    let other = |spec: &mut JobSpec<'_>| spec.model = "other";
    let long = world.submit_as("normal", other).unwrap();
    let ticket = world.submit("normal");
    world.end(world.attempt(ticket), outcome(OutcomeKind::Billing));
    assert_eq!((world.route(long), world.route(ticket)), (0, 1));
    world.succeed(world.attempt(ticket));
    world.pass(301.0);
    let waiting = world.submit_as("normal", other).unwrap();
    assert!(!world.was_sent(waiting), "the first route is merely full");
    let probe = world.submit("normal");
    assert_eq!((world.route(probe), world.route(waiting)), (0, 1));
}

#[test]
fn a_route_is_passed_over_if_either_of_its_lanes_rests_for_long() {
    for (account_rests, user_rests) in [(0.5, 0.5), (0.5, 30.0), (30.0, 0.5)] {
        let first = RouteSpec { per_user: true, ..RouteSpec::new("first", "a") };
        let mut world = World::new(Config::new(vec![first, RouteSpec::new("second", "b")]));
        // The account is far from its limit: a rejection is about the user's.
        let lane = LaneKey { account: "a".into(), model: "m".into(), user_id: None };
        let punishment = Some(Punishment { belief: 1.0, wait: 10.0, ..Punishment::default() });
        let learned = Learned { window: 100, measured: true, punishment, ..Learned::default() };
        world.gate.restore(Timestamp::ZERO, vec![LearnedLane { lane, learned }]);
        let ann = |spec: &mut JobSpec<'_>| spec.user_id = Some("ann");
        let (one, two) = (world.submit_as("normal", ann).unwrap(), world.submit_as("normal", ann).unwrap());
        let rejection = |kind, wait| Outcome { retry_after: Some(Duration::from_secs_f64(wait)), ..outcome(kind) };
        world.end(world.attempt(one), rejection(OutcomeKind::Slot, user_rests));
        world.end(world.attempt(two), rejection(OutcomeKind::Rate, account_rests));
        let next = world.submit_as("normal", ann).unwrap();
        let passed_over = world.was_sent(next) && world.route(next) == 1;
        assert_eq!(passed_over, account_rests + user_rests > 1.0, "{account_rests} s, she {user_rests} s");
    }
}

#[test]
fn users_who_share_a_full_account_take_turns() {
    let route = RouteSpec { per_user: true, max_concurrency: Some(1), ..RouteSpec::new("one", "account") };
    let mut world = World::new(Config::new(vec![route]));
    let users = ["ann", "bob", "eve", "tom"];
    let mut of = HashMap::new();
    for _ in 0..3 {
        for user in users {
            of.insert(world.submit_as("normal", |spec| spec.user_id = Some(user)).unwrap(), user);
        }
    }
    for _ in 1..12 {
        world.succeed(world.sent.last().unwrap().0);
    }
    let order: Vec<_> = world.sent.iter().map(|(attempt, _)| of[&attempt.ticket]).collect();
    assert_eq!(order, users.repeat(3));
}

#[test]
fn who_waits_for_a_lane_of_their_own_goes_another_way_once_its_account_rests() {
    let mut world = World::new(Config::new(vec![
        RouteSpec { per_user: true, ..RouteSpec::new("first", "a") },
        RouteSpec::new("second", "b"),
    ]));
    // The account is far from its limit.
    let lane = LaneKey { account: "a".into(), model: "m".into(), user_id: None };
    let punishment = Some(Punishment { belief: 1.0, wait: 10.0, ..Punishment::default() });
    let learned = Learned { window: 1 << 10, measured: true, punishment, ..Learned::default() };
    world.gate.restore(world.now, vec![LearnedLane { lane, learned }]);
    let mut of = |user: &'static str| world.submit_as("normal", |spec| spec.user_id = Some(user)).unwrap();
    let (ann, bob) = ([(); 100].map(|()| of("ann")), of("bob"));
    assert!(world.was_sent(bob) && !world.was_sent(ann[99]), "she alone has as many in flight as she may");
    let asked = Outcome { retry_after: Some(Duration::from_secs(30)), ..outcome(OutcomeKind::Rate) };
    world.end(world.attempt(bob), asked);
    assert!(ann.iter().any(|&ticket| world.was_sent(ticket) && world.route(ticket) == 1));
}

#[test]
fn an_urgent_call_brings_its_user_before_others_who_wait() {
    let route = RouteSpec { per_user: true, max_concurrency: Some(1), ..RouteSpec::new("one", "account") };
    let mut world = World::new(Config::new(vec![route]));
    let of = |user: &'static str| move |spec: &mut JobSpec<'_>| spec.user_id = Some(user);
    let first = world.submit_as("normal", of("zoe")).unwrap();
    let [bob, ann] = ["bob", "ann"].map(|user| world.submit_as("normal", of(user)).unwrap());
    let urgent = world.submit_as("interactive", of("ann")).unwrap();
    world.succeed(world.attempt(first));
    assert_eq!([bob, ann, urgent].map(|ticket| world.was_sent(ticket)), [false, false, true]);
}

#[test]
fn a_call_that_failed_twice_by_one_route_is_tried_by_another() {
    let mut world = World::two_routes(Strategy::Ordered);
    let ticket = world.submit("normal");
    let mut routes = Vec::new();
    for _ in 0..4 {
        routes.push(world.route(ticket));
        world.end(world.attempt(ticket), outcome(OutcomeKind::Server));
        world.pass(10.0);
    }
    assert_eq!(routes, [0, 0, 1, 0]);
}

#[test]
fn a_rejection_does_not_cost_background_the_turn_it_got_for_its_age() {
    let mut world = World::capped(1);
    let mut person = world.submit("interactive");
    let background = world.submit("background");
    while !world.was_sent(background) {
        world.pass(1.0);
        let next = world.submit("interactive");
        world.succeed(world.attempt(person));
        person = next;
    }
    let served = |world: &World| world.gate.lanes[0].served[Class::Background as usize];
    assert_eq!(served(&world), world.now);
    world.end(world.attempt(background), outcome(OutcomeKind::Slot));
    assert_eq!(served(&world), Timestamp::ZERO, "it has waited as long as before");
}

#[test]
fn the_servers_clock_runs_again_when_the_caller_reads_on_before_content_came() {
    let clocks = Clocks {
        headers: Some(Duration::from_secs(30)),
        first_content: Some(Duration::from_secs(60)),
        idle: Some(Duration::from_secs(10)),
    };
    for (reads_at, ends_at) in [(1.0, 60.0), (55.0, 65.0), (500.0, 510.0)] {
        let mut world = World::single();
        let ticket = world.submit_as("normal", |spec| spec.clocks = Some(clocks.clone())).unwrap();
        let attempt = world.attempt(ticket);
        world.on(attempt, Event::Headers);
        world.on(attempt, Event::Delivered);
        world.pass(reads_at);
        world.on(attempt, Event::Reading);
        world.pass(ends_at - reads_at - 0.5);
        assert!(world.aborted.is_empty(), "read on at {reads_at}");
        world.pass(1.0);
        assert_eq!(world.aborted, [attempt], "read on at {reads_at}");
        assert_eq!(world.failure(ticket).kind, FailureKind::Interrupted);
    }
}

#[test]
fn an_answer_between_them_keeps_three_blank_ones_from_closing_the_lane() {
    let mut world = World::single();
    let tickets: Vec<_> = (0..4).map(|_| world.submit("normal")).collect();
    let blank = || Outcome { status: Some(200), ..outcome(OutcomeKind::Pressure) };
    world.end(world.attempt(tickets[0]), blank());
    world.end(world.attempt(tickets[1]), blank());
    world.succeed(world.attempt(tickets[2]));
    world.end(world.attempt(tickets[3]), blank());
    assert!(world.notices.iter().all(|notice| !matches!(notice, Notice::Pressure { .. })));
}

#[test]
fn an_answer_between_them_keeps_three_403s_from_stopping_the_route() {
    let mut world = World::single();
    for kind in [OutcomeKind::Forbidden, OutcomeKind::Forbidden, OutcomeKind::Success, OutcomeKind::Forbidden] {
        let ticket = world.submit("normal");
        world.end(world.attempt(ticket), outcome(kind));
    }
    let next = world.submit("normal");
    assert!(world.was_sent(next));
}

#[test]
fn a_refused_request_gives_its_tokens_back() {
    let quota = QuotaSpec { tokens_per_minute: Some(1000), ..QuotaSpec::default() };
    let mut world = World::new(Config::new(vec![RouteSpec { quota, ..RouteSpec::new("one", "account") }]));
    let sized = |spec: &mut JobSpec<'_>| spec.tokens = 600;
    let refused = world.submit_as("normal", sized).unwrap();
    let next = world.submit_as("normal", sized).unwrap();
    assert!(!world.was_sent(next));
    world.end(world.attempt(refused), outcome(OutcomeKind::Refused));
    assert!(world.was_sent(next));
}

#[test]
fn lines_take_turns_at_a_route_whatever_they_send_by_others() {
    let route = |name: &str, cap, models: &[&str]| RouteSpec {
        max_concurrency: Some(cap),
        models: models
            .iter()
            .map(|&name| ModelSpec { name: name.into(), lane: Some("shared".into()), ..ModelSpec::default() })
            .collect(),
        any_model: false,
        ..RouteSpec::new(name, name)
    };
    let mut world =
        World::new(Config::new(vec![route("a", 9, &["y"]), route("b", 1, &["x", "y", "z"]), route("c", 1, &["z"])]));
    let submit = |world: &mut World, model| world.submit_as("normal", |spec| spec.model = model).unwrap();
    let x = [(); 20].map(|()| submit(&mut world, "x"));
    submit(&mut world, "y");
    for _ in 0..20 {
        submit(&mut world, "z");
    }
    let mut served = 0;
    for _ in 0..20 {
        let attempt = world.sent.iter().rev().find(|(_, route)| route.index() == 1).unwrap().0;
        served += u32::from(x.contains(&attempt.ticket));
        let between = submit(&mut world, "y");
        assert_eq!(world.route(between), 0);
        world.succeed(world.attempt(between));
        world.succeed(attempt);
    }
    assert!((9..=11).contains(&served), "{served} of 20");
}

#[test]
fn places_that_come_free_together_are_shared_among_users() {
    let route = RouteSpec { per_user: true, max_concurrency: Some(3), ..RouteSpec::new("one", "account") };
    let mut world = World::new(Config::new(vec![route]));
    let mut of = |user: &'static str| world.submit_as("normal", |spec| spec.user_id = Some(user)).unwrap();
    let before = [(); 3].map(|()| of("zoe"));
    let (ann, bob) = ([(); 3].map(|()| of("ann")), of("bob"));
    for ticket in before {
        let outcome = outcome(OutcomeKind::Success);
        world.gate.on(world.now, world.attempt(ticket), Event::Ended { outcome, tokens: None });
    }
    world.drain();
    assert!(world.was_sent(bob));
    assert_eq!(ann.map(|ticket| world.was_sent(ticket)), [true, true, false]);
}

#[test]
fn a_call_whose_only_way_is_busy_waits_for_it_quietly() {
    let routes =
        vec![RouteSpec::new("first", "a"), RouteSpec { max_concurrency: Some(1), ..RouteSpec::new("second", "b") }];
    let mut world = World::new(Config { strategy: Strategy::RoundRobin, ..Config::new(routes) });
    let (refused, other) = (world.submit("normal"), world.submit("normal"));
    assert_eq!((world.route(refused), world.route(other)), (0, 1));
    world.end(world.attempt(refused), outcome(OutcomeKind::Forbidden));
    assert!(world.gate.next_wake().is_some_and(|at| at > world.now));
    world.succeed(world.attempt(other));
    world.pass(0.3);
    assert_eq!(world.route(refused), 1);
}

#[test]
fn a_call_that_no_way_is_left_for_tells_what_closed_the_last_one() {
    for (kind, failure) in [
        (OutcomeKind::Billing, FailureKind::InsufficientBalance),
        (OutcomeKind::Authentication, FailureKind::Authentication),
    ] {
        let mut world = World::two_routes(Strategy::Ordered);
        let ticket = world.submit("normal");
        world.end(world.attempt(ticket), outcome(OutcomeKind::Forbidden));
        world.end(world.attempt(ticket), outcome(kind));
        assert_eq!(world.failure(ticket).kind, failure);
    }
}

#[test]
fn the_sooner_of_the_clocks_for_head_and_content_ends_an_attempt_without_a_head() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (headers, first_content) in [(seconds(20), seconds(60)), (seconds(60), seconds(20)), (None, seconds(20))] {
        let mut world = World::single();
        let clocks = Clocks { headers, first_content, idle: None };
        world.submit_as("normal", |spec| spec.clocks = Some(clocks)).unwrap();
        world.pass(19.0);
        assert!(world.aborted.is_empty());
        world.pass(2.0);
        assert_eq!(world.aborted.len(), 1);
    }
}

#[test]
fn a_probe_reopens_an_account_once_and_not_what_is_stopped_after_it() {
    let mut world = World::single();
    let first = world.submit("normal");
    world.end(world.attempt(first), outcome(OutcomeKind::Billing));
    world.pass(301.0);
    let (probe, other) = (world.submit("normal"), world.submit("normal"));
    world.on(world.attempt(probe), Event::Headers);
    world.end(world.attempt(other), outcome(OutcomeKind::Billing));
    world.on(world.attempt(probe), Event::Content);
    let next = world.submit("normal");
    assert_eq!(world.failure(next).kind, FailureKind::InsufficientBalance);
}

#[test]
fn a_refused_probe_puts_the_next_one_off_and_a_late_refusal_does_not() {
    let mut world = World::single();
    let (first, late) = (world.submit("normal"), world.submit("normal"));
    world.end(world.attempt(first), outcome(OutcomeKind::Billing));
    world.pass(200.0);
    world.end(world.attempt(late), outcome(OutcomeKind::Billing));
    world.pass(101.0);
    let probe = world.submit("normal");
    world.end(world.attempt(probe), outcome(OutcomeKind::Billing));
    let next = world.submit("normal");
    assert!(!world.was_sent(next));
    assert_eq!(world.failure(next).kind, FailureKind::InsufficientBalance);
}

#[test]
fn a_head_proves_that_the_rate_is_free_again() {
    let mut world = World::single();
    let first = world.submit("normal");
    let asked = Outcome { retry_after: Some(Duration::from_secs(5)), ..outcome(OutcomeKind::Rate) };
    world.end(world.attempt(first), asked);
    let others = [(); 4].map(|()| world.submit("normal"));
    world.pass(5.6);
    assert!(!world.was_sent(others[0]), "one goes ahead");
    world.on(world.attempt(first), Event::Headers);
    assert!(world.was_sent(others[0]) && world.was_sent(others[1]));
}

#[test]
fn an_answer_whose_head_nobody_reported_ends_an_overload() {
    let mut world = World::single();
    let ticket = world.submit("normal");
    world.end(world.attempt(ticket), Outcome { status: Some(503), ..outcome(OutcomeKind::Pressure) });
    world.pass(5.0);
    world.end(world.attempt(ticket), outcome(OutcomeKind::Success));
    assert!(world.notices.contains(&Notice::Recovered { lane: LaneId(0) }));
}

#[test]
fn failures_with_an_answer_between_them_do_not_open_the_breaker() {
    let breaker = BreakerPolicy { failures: 2, ..BreakerPolicy::default() };
    let mut world = World::new(Config { breaker, ..Config::new(vec![RouteSpec::new("one", "account")]) });
    for kind in [OutcomeKind::Server, OutcomeKind::Success, OutcomeKind::Server] {
        let ticket = world.submit("normal");
        world.end(world.attempt(ticket), outcome(kind));
    }
    assert_eq!(world.gate.snapshot(world.now).lanes[0].breaker, "closed");
}

#[test]
fn what_an_answer_tells_of_a_quota_is_kept_to() {
    let mut world = World::single();
    let ticket = world.submit("normal");
    let requests = QuotaHint { limit: Some(100), remaining: Some(0), reset: Some(Duration::from_secs(30)) };
    let quota = QuotaHints { requests, ..QuotaHints::default() };
    world.end(world.attempt(ticket), Outcome { quota, ..outcome(OutcomeKind::Success) });
    let next = world.submit("normal");
    world.pass(29.0);
    assert!(!world.was_sent(next));
}

#[test]
fn retries_of_many_calls_that_fail_together_are_spread_out() {
    let retry = RetryPolicy { max_attempts: 2, ..RetryPolicy::default() };
    let breaker = BreakerPolicy { failures: 0, ..BreakerPolicy::default() };
    let mut world = World::new(Config { retry, breaker, ..Config::new(vec![RouteSpec::new("one", "account")]) });
    for _ in 0..40 {
        let ticket = world.submit("normal");
        world.end(world.attempt(ticket), outcome(OutcomeKind::Server));
    }
    assert_eq!(world.sent.len(), 40);
    let mut ended = 40;
    let mut after = [5.0, 60.0].map(|until| {
        while world.now < Timestamp::from_secs_f64(until) {
            world.pass(0.1);
            while let Some(&(attempt, _)) = world.sent.get(ended) {
                ended += 1;
                world.end(attempt, outcome(OutcomeKind::Server));
            }
        }
        ended
    });
    after.iter_mut().for_each(|sent| *sent -= 40);
    assert!((10..=16).contains(&after[0]), "{after:?}");
    assert_eq!(after[1], 40, "and none is lost");
}

#[test]
fn the_content_of_an_answer_in_one_piece_came_with_its_end() {
    let mut world = World::single();
    let ticket = world.submit("normal");
    world.pass(2.0);
    world.succeed(world.attempt(ticket));
    let first_content = world.gate.snapshot(world.now).total.first_content;
    assert_eq!((first_content.count, first_content.sum), (1, 2.0));
}

#[test]
fn resuming_forgets_waits_failures_and_refusals() {
    let mut world = World::single();
    let asked = Outcome { retry_after: Some(Duration::from_secs(600)), ..outcome(OutcomeKind::Rate) };
    let requests = QuotaHint { limit: Some(100), remaining: Some(0), reset: Some(Duration::from_secs(600)) };
    let quota = QuotaHints { requests, ..QuotaHints::default() };
    let spent = Outcome { quota, ..outcome(OutcomeKind::Success) };
    for ending in [asked, spent, outcome(OutcomeKind::Transport)] {
        let breaker = BreakerPolicy { failures: 1, ..BreakerPolicy::default() };
        let mut world = World::new(Config { breaker, ..Config::new(vec![RouteSpec::new("one", "account")]) });
        let ticket = world.submit("normal");
        world.end(world.attempt(ticket), ending);
        let next = world.submit("normal");
        assert!(!world.was_sent(next));
        world.gate.resume(world.now);
        world.drain();
        assert!(world.was_sent(next));
    }
    for resumes in [false, false, true] {
        if resumes {
            world.gate.resume(world.now);
        }
        let ticket = world.submit("normal");
        world.end(world.attempt(ticket), outcome(OutcomeKind::Forbidden));
    }
    let next = world.submit("normal");
    assert!(world.was_sent(next), "it was the first 403 in a row");
}

#[test]
fn a_rejection_for_concurrency_is_waited_out_even_if_the_server_says_not_to_try_again() {
    let mut world = World::single();
    let ticket = world.submit("normal");
    world.end(world.attempt(ticket), Outcome { should_retry: Some(false), ..outcome(OutcomeKind::Slot) });
    world.pass(10.0);
    assert_eq!(world.attempt(ticket).number, 2);
}

#[test]
fn another_name_for_a_providers_model_counts_against_its_limit() {
    let fast = ModelSpec { name: "fast".into(), upstream: Some("m".into()), ..ModelSpec::default() };
    let mut world = World::new(Config::new(vec![RouteSpec { models: vec![fast], ..RouteSpec::new("one", "account") }]));
    world.submit("normal");
    world.submit_as("normal", |spec| spec.model = "fast").unwrap();
    assert_eq!(world.gate.snapshot(world.now).lanes.len(), 1);
}

#[test]
fn a_blank_answer_with_a_wait_that_the_server_asks_for_closes_the_lane_at_once() {
    let mut world = World::single();
    let ticket = world.submit("normal");
    let retry_after = Some(Duration::from_secs(2));
    world.end(world.attempt(ticket), Outcome { status: Some(200), retry_after, ..outcome(OutcomeKind::Pressure) });
    assert!(world.notices.contains(&Notice::Pressure { lane: LaneId(0) }));
}

#[test]
fn what_was_let_in_before_an_overload_does_not_end_it() {
    let mut world = World::single();
    let (one, two) = (world.submit("normal"), world.submit("normal"));
    world.pass(1.0);
    world.end(world.attempt(one), Outcome { status: Some(503), ..outcome(OutcomeKind::Pressure) });
    world.on(world.attempt(two), Event::Headers);
    assert!(!world.notices.contains(&Notice::Recovered { lane: LaneId(0) }));
}

#[test]
fn what_is_restored_last_counts_and_no_user_is_saved() {
    let mut world = World::new(Config::new(vec![RouteSpec { per_user: true, ..RouteSpec::new("one", "account") }]));
    let lane = LaneKey { account: "account".into(), model: "m".into(), user_id: None };
    let punishment = Some(Punishment { belief: 1.0, wait: 10.0, ..Punishment::default() });
    for window in [20, 30] {
        let learned = Learned { window, measured: true, punishment, ..Learned::default() };
        world.gate.restore(world.now, vec![LearnedLane { lane: lane.clone(), learned }]);
    }
    world.submit_as("normal", |spec| spec.user_id = Some("ann")).unwrap();
    let learned = world.gate.learned();
    assert_eq!(learned.iter().map(|lane| &lane.lane).collect::<Vec<_>>(), [&lane]);
    let snapshot = world.gate.snapshot(world.now);
    assert_eq!(snapshot.lanes.iter().find(|lane| lane.user_id.is_none()).unwrap().limit, 30);
}

/// What the random test remembers of a call.
#[derive(Default)]
struct Seen {
    attempts: u32,
    flying: Option<Attempt>,
    over: bool,
    delivered: bool,
}

fn random_outcome(pick: u8) -> Outcome {
    let kind = match pick % 16 {
        0..=4 => OutcomeKind::Success,
        5 | 6 => OutcomeKind::Slot,
        7 => OutcomeKind::Rate,
        8 => OutcomeKind::Pressure,
        9 => OutcomeKind::Server,
        10 => OutcomeKind::Transport,
        11 => OutcomeKind::FirstContentTimeout,
        12 => OutcomeKind::Interrupted,
        13 => [OutcomeKind::Billing, OutcomeKind::Authentication, OutcomeKind::Forbidden][pick as usize / 16 % 3],
        14 => OutcomeKind::Refused,
        _ => OutcomeKind::Malformed,
    };
    let mut outcome = Outcome::new(kind);
    if pick & 0x40 != 0 {
        outcome.retry_after = Some(Duration::from_secs(u64::from(pick >> 3)));
    }
    if kind == OutcomeKind::Slot && pick & 0x80 != 0 {
        outcome.told = Some(Told { current: u32::from(pick), limit: u32::from(pick >> 2) });
    }
    if kind == OutcomeKind::Pressure {
        outcome.status = Some([503, 504][pick as usize >> 7]);
    }
    outcome
}

/// What a server may say of its quotas, sensible or not.
fn random_hints(pick: u16) -> QuotaHints {
    let number = |pick: u16| {
        [None, Some(0), Some(1), Some(7), Some(20), Some(300), Some(1 << 63), Some(u64::MAX)][pick as usize % 8]
    };
    let reset = [None, Some(0.0), Some(0.02), Some(1.0), Some(9.5), Some(60.0), Some(700.0), Some(86_400.0)];
    let hint = |pick: u16| QuotaHint {
        limit: number(pick),
        remaining: number(pick >> 3),
        reset: reset[pick as usize >> 6 & 7].map(Duration::from_secs_f64),
    };
    let hints = QuotaHints { requests: hint(pick), tokens: QuotaHint::default() };
    match pick >> 9 & 3 {
        0 | 1 => QuotaHints::default(),
        2 => hints,
        _ => QuotaHints { requests: hint(pick >> 2), tokens: hint(pick) },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Under any order of submissions, reports, cancels, clock jumps, resumes and a close: no call is lost or ended
    /// twice, none is sent while it is in flight or after it was delivered or over, no permit leaks, ceilings hold, the
    /// gate never asks to be woken at once for nothing, and once the provider answers again everything ends. Whoever looks
    /// at all lines (`looks`) finds nothing that could have been sent and was not; limits on tokens are left out then, for
    /// when a call too large for now has let others pass, age may bring one that is small to the front.
    #[test]
    fn no_call_is_lost_doubled_or_stuck(
        steps in prop::collection::vec((0u8..15, any::<u8>(), any::<u16>()), 1..300),
        strategy in 0u8..3,
        narrow: bool,
        per_user: bool,
        quotas: bool,
        hints: bool,
        looks: bool,
        closes: bool,
        seed: u64,
    ) {
        let quota = QuotaSpec { requests_per_minute: Some(40), tokens_per_minute: (!looks).then_some(4000), requests_per_day: None };
        let route = |name: &str, account: &str| RouteSpec {
            max_concurrency: Some(6),
            per_user,
            weight: 1.0 + f64::from(seed as u8 % 4),
            quota: if quotas { quota } else { QuotaSpec::default() },
            ..RouteSpec::new(name, account)
        };
        let config = Config {
            strategy: [Strategy::Ordered, Strategy::Weighted, Strategy::RoundRobin][strategy as usize],
            max_queued: if narrow { 2 } else { 20 },
            workloads: vec![
                WorkloadSpec { max_concurrency: Some(3), ..WorkloadSpec::new("eval", Class::Background) },
                WorkloadSpec { weight: 3.0, ..WorkloadSpec::new("heavy", Class::Normal) },
            ],
            clocks: Clocks {
                headers: Some(Duration::from_secs(40)),
                first_content: Some(Duration::from_secs(60)),
                idle: Some(Duration::from_secs(10)),
            },
            breaker: BreakerPolicy { failures: 4, ..BreakerPolicy::default() },
            stop_probe: Duration::from_secs(30),
            ..Config::new(vec![
                route("a", "x"),
                RouteSpec {
                    models: vec![ModelSpec { name: "m".into(), ..ModelSpec::default() }],
                    any_model: !narrow,
                    ..route("b", "x")
                },
                route("c", "y"),
            ])
        };
        // Where routes have an order, another line's sending may close the way for which this one waits, and that is no
        // reason to leave it at once.
        let looks = looks && config.strategy != Strategy::Ordered;
        let absurd = TokenCount { prompt: u64::MAX, cached: u64::MAX, completion: u64::MAX, reasoning: u64::MAX };
        let mut gate = Scheduler::new(config, seed).unwrap();
        let mut now = Timestamp::ZERO;
        let mut seen: BTreeMap<Ticket, Seen> = BTreeMap::new();
        // What is over, never was, or belongs to nobody.
        let mut strange: Vec<Attempt> = vec![Attempt { ticket: Ticket { index: u32::MAX, serial: 0 }, number: 1 }];
        let mut resolving = false;

        let drain = |gate: &mut Scheduler, now: Timestamp, seen: &mut BTreeMap<Ticket, Seen>| {
            for again in [false, true].into_iter().take(1 + usize::from(looks)) {
                if again {
                    // What opens within the least step between two looks may wait for the second.
                    if gate.next_wake().is_some_and(|at| at <= now + Duration::from_millis(1)) {
                        break;
                    }
                    gate.mark_all();
                }
                while let Some(action) = gate.poll(now) {
                    match action {
                        Action::Send { attempt, .. } => {
                            assert!(!again, "it could have been sent, and nobody looked");
                            let call = seen.get_mut(&attempt.ticket).expect("sent: it was submitted");
                            assert!(!call.over && !call.delivered && call.flying.is_none(), "sent out of turn");
                            assert_eq!(attempt.number, call.attempts + 1);
                            call.attempts += 1;
                            call.flying = Some(attempt);
                        }
                        Action::Abort { attempt } => {
                            let call = seen.get_mut(&attempt.ticket).expect("aborted: it was submitted");
                            assert_eq!(call.flying.take(), Some(attempt));
                        }
                        Action::End { ticket, .. } => {
                            let call = seen.get_mut(&ticket).expect("ended: it was submitted");
                            assert!(!call.over, "ended twice");
                            assert!(call.flying.is_none(), "ended while in flight");
                            call.over = true;
                        }
                        Action::Notify(_) => {}
                    }
                }
            }
            let flying: Vec<_> = seen.values().filter_map(|call| call.flying).collect();
            let wake = gate.next_wake();
            assert!(wake.is_none_or(|at| at > now), "drained, yet to be woken at once");
            let load = gate.load();
            assert_eq!(load.in_flight, flying.len() as u64);
            let waiting = seen.values().filter(|call| !call.over && call.flying.is_none()).count() as u64;
            assert_eq!(load.queued + load.backing_off, waiting);
            for lane in gate.snapshot(now).lanes {
                assert!(lane.in_flight <= 6, "{lane:?}");
            }
        };

        for (what, pick, amount) in steps {
            let flying: Vec<_> = seen.values().filter_map(|call| call.flying).collect();
            let some = |of: &[Attempt]| of.get(amount as usize % of.len().max(1)).copied();
            match what {
                0..=3 => {
                    let workload = gate.workload(["normal", "interactive", "background", "eval", "heavy"][pick as usize % 5]);
                    let spec = JobSpec {
                        user_id: Some(["ann", "bob", "eve", "dan"][pick as usize / 4 % 4]),
                        tokens: u32::from(amount) / 16,
                        deadline: match (pick >> 5 & 1, amount) {
                            (0, 0..60_000) => None,
                            (0, _) => Some(Duration::MAX),
                            _ => Some(Duration::from_millis(u64::from(amount))),
                        },
                        max_attempts: [None, None, Some(0), Some(u32::MAX)][amount as usize % 4],
                        on_full: if pick & 0x40 != 0 { OnFull::Wait } else { OnFull::Fail },
                        ..JobSpec::new(["m", "n"][pick as usize / 8 % 2], workload)
                    };
                    if let Ok(ticket) = gate.submit(now, spec) {
                        seen.insert(ticket, Seen::default());
                    }
                }
                4 | 5 => now += Duration::from_millis(u64::from(amount) * u64::from(pick % 8)),
                6 => {
                    if let Some(attempt) = some(&flying) {
                        let event = match pick % 5 {
                            0 => Event::Headers,
                            1 => Event::Alive,
                            2 => Event::Content,
                            3 => Event::Reading,
                            _ => {
                                seen.get_mut(&attempt.ticket).expect("it flies").delivered = true;
                                Event::Delivered
                            }
                        };
                        gate.on(now, attempt, event);
                    }
                }
                7..=9 => {
                    if let Some(attempt) = some(&flying) {
                        seen.get_mut(&attempt.ticket).expect("it flies").flying = None;
                        strange.push(attempt);
                        let mut outcome = random_outcome(pick);
                        if hints {
                            outcome.quota = random_hints(amount);
                        }
                        if looks {
                            outcome.quota.tokens = QuotaHint::default();
                        }
                        let tokens = [None, Some(TokenCount::default()), Some(absurd)][amount as usize % 3];
                        gate.on(now, attempt, Event::Ended { outcome, tokens });
                    }
                }
                12 | 13 => {
                    let mut attempt = strange[amount as usize % strange.len()];
                    match pick >> 6 {
                        0 => attempt.number = attempt.number.wrapping_add(1),
                        1 => attempt.ticket.serial = attempt.ticket.serial.wrapping_sub(1),
                        _ => {}
                    }
                    let live = seen.get(&attempt.ticket).and_then(|call| call.flying) == Some(attempt);
                    // The clock may have run backwards, too.
                    let then = Timestamp::from_micros(now.as_micros().saturating_sub(u64::from(amount) << (pick % 32)));
                    match pick % 4 {
                        _ if live => {}
                        0 => gate.on(then, attempt, Event::Headers),
                        1 => gate.on(then, attempt, Event::Delivered),
                        2 => gate.on(then, attempt, Event::Ended { outcome: random_outcome(pick), tokens: Some(absurd) }),
                        _ => {
                            let known = seen.get(&attempt.ticket).is_some_and(|call| !call.over);
                            prop_assert!(known || !gate.cancel(then, attempt.ticket), "it was over");
                        }
                    }
                }
                // Days and years go by.
                14 if pick < 16 => now += Duration::from_secs(1 << (amount % 36)),
                14 => {}
                10 => {
                    let live: Vec<_> = seen.iter().filter(|(_, call)| !call.over).map(|(&ticket, _)| ticket).collect();
                    if let Some(&ticket) = live.get(amount as usize % live.len().max(1)) {
                        // It may have ended in an action not yet drained.
                        if gate.cancel(now, ticket) {
                            let call = seen.get_mut(&ticket).expect("it lives");
                            call.over = true;
                            call.flying = None;
                        }
                    }
                }
                _ if pick < 64 => gate.resume(now),
                _ if pick < 80 => {
                    let mut learned = gate.learned();
                    for lane in learned.iter_mut().filter(|_| pick < 76) {
                        let number = [f64::NAN, f64::INFINITY, -1.0, 1e300, f64::from(amount)][pick as usize % 5];
                        lane.learned = Learned::from_numbers(&[number; 15]).expect("fifteen");
                    }
                    gate.restore(now, learned);
                }
                _ if closes && pick > 250 => gate.close(now, amount % 2 == 0),
                _ => {}
            }
            // Drivers may be slow to drain, but after closing they have to know what was aborted.
            if pick % 3 != 0 || what == 11 {
                drain(&mut gate, now, &mut seen);
            }
        }

        // The provider is well again: everything must end.
        drain(&mut gate, now, &mut seen);
        gate.resume(now);
        for _ in 0..200_000 {
            drain(&mut gate, now, &mut seen);
            let flying: Vec<_> = seen.values().filter_map(|call| call.flying).collect();
            if let Some(&attempt) = flying.first() {
                seen.get_mut(&attempt.ticket).expect("it flies").flying = None;
                gate.on(now, attempt, Event::Ended { outcome: Outcome::new(OutcomeKind::Success), tokens: None });
            } else if seen.values().all(|call| call.over) {
                resolving = true;
                break;
            } else {
                let wake = gate.next_wake();
                prop_assert!(wake.is_some(), "calls wait, nothing flies, and nobody will wake the gate");
                now = now.max(wake.expect("checked"));
            }
        }
        prop_assert!(resolving, "stuck: {:?}", gate.load());
        prop_assert_eq!(gate.load(), Load::default());
        prop_assert!(gate.calls.is_empty());
        let snapshot = gate.snapshot(now);
        let Counters { submitted, completed, failed, cancelled, .. } = snapshot.total.counters;
        prop_assert_eq!((submitted, completed + failed + cancelled), (seen.len() as u64, submitted));
        let sum = |scopes: &[ScopeSnapshot]| {
            let each = scopes.iter().map(|scope| scope.counters.values());
            each.fold([0; 19], |sum: [u64; 19], one| core::array::from_fn(|at| sum[at].saturating_add(one[at])))
        };
        let total = snapshot.total.counters.values();
        prop_assert_eq!((sum(&snapshot.workloads), sum(&snapshot.models)), (total, total));
        // What is counted of calls and not of attempts is no route's.
        let routes = sum(&snapshot.routes);
        prop_assert_eq!((&routes[..4], &routes[4..]), (&[0, completed, 0, 0][..], &total[4..]));
    }
}

proptest! {
    // Each case plays five minutes.
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// On a full lane, whatever the weights and however many attempts are rejected: workloads share their class by
    /// weight, and background gets its turn every thirty seconds while there is interactive work without end.
    #[test]
    fn weights_are_kept_and_no_class_starves_under_random_rejections(
        weights in prop::collection::vec(1u32..8, 2..5),
        cap in 1u32..12,
        rejected in 0u32..30,
        per_user: bool,
        seed: u64,
    ) {
        let route = RouteSpec { max_concurrency: Some(cap), per_user, ..RouteSpec::new("one", "account") };
        let names: Vec<_> = (0..weights.len()).map(|at| format!("workload {at}")).collect();
        let workloads = names.iter().zip(&weights);
        let workloads = workloads
            .map(|(name, &weight)| WorkloadSpec { weight: weight.into(), ..WorkloadSpec::new(name, Class::Interactive) });
        let mut gate = Scheduler::new(Config { workloads: workloads.collect(), ..Config::new(vec![route]) }, seed).unwrap();
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut now = Timestamp::ZERO;
        let ids: Vec<_> = names.iter().map(|name| gate.workload(name)).collect();
        let background = gate.workload("background");
        let mut of: HashMap<Ticket, Option<usize>> = HashMap::new();
        let mut waiting = vec![0; ids.len()];
        let mut done = vec![0u32; ids.len()];
        let mut last = Timestamp::ZERO;
        let mut longest = Duration::ZERO;
        let mut flying: VecDeque<(Timestamp, Attempt)> = VecDeque::new();
        let mut batch = 0;
        while now < Timestamp::from_secs_f64(320.0) {
            while batch < 20 {
                let spec = JobSpec { user_id: Some("batch"), ..JobSpec::new("m", background) };
                of.insert(gate.submit(now, spec).unwrap(), None);
                batch += 1;
            }
            for (at, &workload) in ids.iter().enumerate() {
                while waiting[at] < 30 {
                    let spec = JobSpec { user_id: Some("person"), ..JobSpec::new("m", workload) };
                    of.insert(gate.submit(now, spec).unwrap(), Some(at));
                    waiting[at] += 1;
                }
            }
            while let Some(action) = gate.poll(now) {
                if let Action::Send { attempt, .. } = action {
                    if of[&attempt.ticket].is_none() {
                        longest = longest.max(now - last);
                        last = now;
                    }
                    flying.push_back((now.plus_secs(0.3 + 0.4 * rng.f64()), attempt));
                }
            }
            let due = flying.iter().map(|&(at, _)| at).chain(gate.next_wake()).min();
            prop_assert!(due.is_some(), "calls wait, nothing flies, and nobody will wake the gate");
            now = now.max(due.unwrap());
            while let Some(at) = flying.iter().position(|&(at, _)| at <= now) {
                let (_, attempt) = flying.remove(at).unwrap();
                let slot = rng.u32(..100) < rejected;
                let kind = if slot { OutcomeKind::Slot } else { OutcomeKind::Success };
                gate.on(now, attempt, Event::Ended { outcome: Outcome::new(kind), tokens: None });
                match of[&attempt.ticket] {
                    _ if slot => {}
                    Some(at) => {
                        done[at] += 1;
                        waiting[at] -= 1;
                    }
                    None => batch -= 1,
                }
            }
        }
        // Its patience, a second until a slot is free, and the longest pause after rejections on an empty lane.
        let most = Duration::from_secs_f64(30.0 + 1.0 + 6.25);
        prop_assert!(longest <= most && now - last <= most, "{longest:?}, {last:?}");
        let (total, weight) = (done.iter().sum::<u32>(), weights.iter().sum::<u32>());
        for (&done, &of) in done.iter().zip(&weights) {
            let fair = f64::from(total) * f64::from(of) / f64::from(weight);
            // What flies and what a rejection set back is not yet evened out.
            let slack = 0.03 * fair + f64::from(2 * cap) + 4.0;
            prop_assert!((f64::from(done) - fair).abs() <= slack, "{done} of {total} for {of} of {weight}");
        }
    }
}
