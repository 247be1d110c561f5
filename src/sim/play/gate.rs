//! The scheduler as a client that can be played.

use std::collections::HashMap;

use crate::core::call::{Attempt, Ticket};
use crate::core::classify::{Head, Phase, TransportFailure, classify, classify_transport, finished};
use crate::core::limit::State;
use crate::core::outcome::Outcome;
use crate::core::scheduler::{Action, ConfigError, Event, JobSpec, LearnedLane, Load, Notice, OnFull, Scheduler};
use crate::core::time::Timestamp;
use crate::core::tokens::TokenCount;

use super::super::losses::{Cause, Held};
use super::super::provider::{End, Plan};
use super::{Act, Answer, Client, Heard, Job, Setup};

/// A gate: the scheduler, driven as the crate's own client drives it.
#[derive(Debug)]
pub struct Gate {
    scheduler: Scheduler,
    model: &'static str,
    tickets: HashMap<usize, Ticket>,
    numbers: HashMap<Ticket, usize>,
}

impl Gate {
    /// The gate of the `number`-th client of `setup`; `seed` feeds its jitter.
    ///
    /// # Errors
    /// A configuration that makes no sense.
    ///
    /// # Panics
    /// If there is no such client.
    pub fn new(setup: &Setup, number: usize, seed: u64) -> Result<Self, ConfigError> {
        let config = setup.clients[number].clone();
        let mut scheduler = Scheduler::new(config, seed.wrapping_mul(1000).wrapping_add(number as u64))?;
        scheduler.set_notices(number == 0);
        scheduler.restore(Timestamp::ZERO, setup.learned.clone());
        Ok(Self { scheduler, model: setup.model, tickets: HashMap::new(), numbers: HashMap::new() })
    }

    /// What it has learned.
    pub fn learned(&self) -> Vec<LearnedLane> {
        self.scheduler.learned()
    }

    /// How much is going on.
    pub fn load(&self) -> Load {
        self.scheduler.load()
    }
}

impl Client for Gate {
    fn submit(&mut self, now: Timestamp, number: usize, job: &Job) {
        let workload = self.scheduler.workload(if job.workload.is_empty() { "normal" } else { job.workload });
        let spec = JobSpec {
            deadline: job.deadline,
            user_id: job.user_id,
            on_full: OnFull::Wait,
            ..JobSpec::new(if job.model.is_empty() { self.model } else { job.model }, workload)
        };
        let ticket = self.scheduler.submit(now, spec).expect("the gate is open, serves any model and waits for room");
        self.tickets.insert(number, ticket);
        self.numbers.insert(ticket, number);
    }

    fn cancel(&mut self, now: Timestamp, number: usize) -> bool {
        let Some(ticket) = self.tickets.remove(&number) else { return false };
        self.numbers.remove(&ticket);
        self.scheduler.cancel(now, ticket)
    }

    fn on(&mut self, now: Timestamp, number: usize, attempt: u32, heard: Heard<'_>) {
        let Some(&ticket) = self.tickets.get(&number) else { return };
        let attempt = Attempt { ticket, number: attempt };
        match heard {
            Heard::Headers => self.scheduler.on(now, attempt, Event::Headers),
            Heard::KeepAlive => self.scheduler.on(now, attempt, Event::Alive),
            Heard::Content => {
                self.scheduler.on(now, attempt, Event::Content);
                self.scheduler.on(now, attempt, Event::Reading);
            }
            Heard::Answer(answer) => {
                let (outcome, tokens) = outcome_of(answer);
                self.scheduler.on(now, attempt, Event::Ended { outcome, tokens });
            }
        }
    }

    fn poll(&mut self, now: Timestamp) -> Option<Act> {
        loop {
            return Some(match self.scheduler.poll(now)? {
                Action::Send { attempt, .. } => {
                    let Some(&number) = self.numbers.get(&attempt.ticket) else { continue };
                    Act::Send { number, attempt: attempt.number }
                }
                Action::Abort { attempt } => {
                    let Some(&number) = self.numbers.get(&attempt.ticket) else { continue };
                    Act::Abort { number, attempt: attempt.number }
                }
                Action::End { ticket, result } => {
                    let Some(number) = self.numbers.remove(&ticket) else { continue };
                    self.tickets.remove(&number);
                    Act::End { number, result: result.map(|_| ()).map_err(|failure| format!("{failure:?}")) }
                }
                Action::Notify(Notice::Limit { limit, .. }) => Act::Limit(limit),
                Action::Notify(_) => continue,
            });
        }
    }

    fn next_wake(&self) -> Option<Timestamp> {
        self.scheduler.next_wake()
    }

    fn held(&mut self, now: Timestamp) -> Option<Held> {
        let Load { queued: waiting, backing_off, .. } = self.scheduler.load();
        let lane = self.scheduler.only_lane()?;
        let view = lane.ceiling.view();
        let paused = lane.ceiling.pause_until().is_some_and(|until| until > now);
        let full = view.in_flight + view.lingering >= view.window;
        let why = match view.state {
            _ if lane.breaker.opens_at(now) > now || lane.pressure.is_some() => Cause::Outage,
            State::HalfOpen => Cause::Outage,
            _ if paused => Cause::Told,
            _ if lane.quota.opens_at(now, 1) > now => Cause::Pace,
            State::Penalised => Cause::Served,
            State::Retreating => Cause::Fall,
            _ if !full && lane.allowed(now) != [true; 3] => Cause::Kept,
            _ if !full => Cause::Filling,
            State::Climbing if view.rejections == 0 => Cause::Cold,
            State::Climbing => Cause::Climb,
            State::Holding | State::Paused => Cause::Unnoticed,
        };
        Some(Held { waiting, backing_off, leaving: view.lingering, why })
    }
}

/// What a driver makes of an attempt's end.
fn outcome_of(answer: &Answer) -> (Outcome, Option<TokenCount>) {
    match answer {
        Answer::Reset => (classify_transport(TransportFailure::Reset, Phase::BeforeHeaders, None, None), None),
        Answer::Refused(rejected) => {
            let head = Head { status: rejected.status, headers: &rejected.headers };
            (classify(&head, &rejected.body, None), None)
        }
        Answer::Ended { plan, headers } => outcome_of_plan(plan, &Head { status: 200, headers }),
    }
}

fn outcome_of_plan(plan: &Plan, head: &Head<'_>) -> (Outcome, Option<TokenCount>) {
    let broken = |failure| {
        let phase = if plan.delivered > 0 { Phase::AfterContent } else { Phase::BeforeContent };
        classify_transport(failure, phase, Some(200), None)
    };
    let outcome = match plan.end {
        End::Complete => {
            let completion = u64::from(plan.output_tokens);
            let tokens =
                TokenCount { completion, reasoning: u64::from(plan.reasoning_tokens), ..TokenCount::default() };
            return (finished(head, Some("stop"), None), Some(tokens));
        }
        End::Cut => broken(TransportFailure::Reset),
        End::CleanEnd => broken(TransportFailure::ClosedMidStream),
        End::EmptyBody => classify(head, b"", None),
        End::BlankBody => classify(head, b"\n\n\n", None),
        End::Garbage => classify(head, b"<<<", None),
        End::ErrorObject => classify(head, br#"{"error":{"message":"internal error","type":"server_error"}}"#, None),
        End::InsufficientResource => finished(head, Some("insufficient_system_resource"), None),
        End::HangUp => classify_transport(TransportFailure::ClosedBeforeStart, Phase::BeforeContent, Some(200), None),
        // Nothing is heard of it any more.
        End::Stall => classify_transport(TransportFailure::Stalled, Phase::AfterContent, Some(200), None),
    };
    (outcome, None)
}
