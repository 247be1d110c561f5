//! The scheduler itself, played against a provider on a virtual clock: an hour of traffic in milliseconds, the same
//! each run.
//!
//! This is a driver like any other, only that sending is a queue of events and waiting is a jump to the next of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

use crate::core::call::{Attempt, Failure, Ticket};
use crate::core::classify::{Head, Phase, TransportFailure, classify, classify_transport, finished};
use crate::core::headers::{self, Headers};
use crate::core::outcome::Outcome;
use crate::core::route::RouteSpec;
use crate::core::scheduler::{Action, Config, ConfigError, Event, JobSpec, OnFull, Scheduler};
use crate::core::time::Timestamp;
use crate::core::tokens::TokenCount;

use super::provider::{Arrival, Decision, End, FlightId, Plan, Provider};
use super::scenario::{Scenario, ScenarioError};
use super::tally::Tally;

/// One call to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// When it is submitted.
    pub at: Duration,
    /// Which of the clients makes it.
    pub client: usize,
    /// Its workload; "normal" if empty.
    pub workload: &'static str,
    /// How long inference takes for it, instead of what the scenario draws.
    pub service: Option<Duration>,
    /// How long after its submission its caller gives it up.
    pub patience: Option<Duration>,
    /// Its deadline.
    pub deadline: Option<Duration>,
    /// For whom it is.
    pub user_id: Option<&'static str>,
}

impl Job {
    /// `count` calls, all submitted at the start.
    pub fn batch(count: usize) -> Vec<Self> {
        vec![Self::default(); count]
    }
}

/// What is played besides the scenario.
#[derive(Clone, Debug)]
pub struct Setup {
    /// One gate for each client; each sends with a key of its own account unless the scenario puts them together.
    pub clients: Vec<Config>,
    /// The model asked for.
    pub model: &'static str,
    /// From a client to the provider and back.
    pub round_trip: Duration,
    /// Whether clients tell the gate how long connections take to be made. The crate's own client does where that says
    /// something of the way to the provider: over plain HTTP without a proxy, so not with DeepSeek's API. Default: false.
    pub tells_connect_times: bool,
    /// What an earlier run learned.
    pub learned: Vec<crate::core::scheduler::LearnedLane>,
    /// Virtual time after which the run is given up.
    pub horizon: Duration,
}

impl Setup {
    /// `count` clients with the default configuration, 40 ms away.
    pub fn clients(count: usize) -> Self {
        let config = Config { max_queued: usize::MAX, ..Config::new(vec![RouteSpec::new("deepseek", "account")]) };
        Self {
            clients: vec![config; count],
            model: "deepseek-flash",
            round_trip: Duration::from_millis(40),
            tells_connect_times: false,
            learned: Vec::new(),
            horizon: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// How a run went.
#[derive(Debug)]
pub struct Played {
    /// Calls that were answered.
    pub completed: usize,
    /// Calls that failed, by number, with why.
    pub failed: Vec<(usize, Failure)>,
    /// Calls given up by their caller.
    pub cancelled: usize,
    /// Calls of which nothing was ever heard again. Always zero, or the scheduler is broken.
    pub unaccounted: usize,
    /// When the last call ended.
    pub makespan: Duration,
    /// What the provider counted.
    pub tally: Tally,
    /// For each workload how long its calls waited until they were sent the last time, in order of submission.
    pub waits: BTreeMap<&'static str, Vec<Duration>>,
    /// (seconds, limit) of the first client's lane whenever it changed.
    pub limits: Vec<(f64, u32)>,
    /// The first client's lanes at the end.
    pub learned: Vec<crate::core::scheduler::LearnedLane>,
}

/// Why nothing was played.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The scenario makes no sense.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A client's configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "steps live in a map, few at a time")]
enum Step {
    Submit(usize),
    GiveUp(usize),
    Wake(usize),
    /// A request reaches the provider.
    Arrive {
        client: usize,
        attempt: Attempt,
        job: usize,
    },
    /// Something reaches the client.
    Report {
        client: usize,
        attempt: Attempt,
        what: Report,
    },
    /// The provider is done with a request.
    Finish {
        flight: FlightId,
    },
    /// The provider notices that a client has gone.
    Gone {
        flight: FlightId,
    },
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the largest is the commonest")]
enum Report {
    Head,
    KeepAlive,
    Content,
    End(Outcome, Option<TokenCount>),
}

struct Client {
    gate: Scheduler,
    calls: HashMap<Ticket, usize>,
    wake: Timestamp,
}

struct World<'a> {
    provider: Provider,
    setup: &'a Setup,
    jobs: &'a [Job],
    clients: Vec<Client>,
    tickets: Vec<Option<Ticket>>,
    steps: BinaryHeap<Reverse<(Timestamp, u64)>>,
    pending: HashMap<u64, Step>,
    serial: u64,
    flights: HashMap<(usize, Attempt), FlightId>,
    sent: Vec<Timestamp>,
    played: Played,
}

/// Plays `jobs` through the gates of `setup` against `scenario`.
///
/// # Errors
/// A scenario or a configuration that makes no sense.
pub fn play(scenario: &Scenario, seed: u64, setup: &Setup, jobs: &[Job]) -> Result<Played, PlayError> {
    let mut world = World {
        provider: Provider::new(scenario.clone(), seed)?,
        setup,
        jobs,
        clients: Vec::new(),
        tickets: vec![None; jobs.len()],
        steps: BinaryHeap::new(),
        pending: HashMap::new(),
        serial: 0,
        flights: HashMap::new(),
        sent: vec![Timestamp::ZERO; jobs.len()],
        played: Played {
            completed: 0,
            failed: Vec::new(),
            cancelled: 0,
            unaccounted: 0,
            makespan: Duration::ZERO,
            tally: Tally::default(),
            waits: BTreeMap::new(),
            limits: Vec::new(),
            learned: Vec::new(),
        },
    };
    for (number, config) in setup.clients.iter().enumerate() {
        let mut gate = Scheduler::new(config.clone(), seed.wrapping_mul(1000).wrapping_add(number as u64))?;
        gate.set_notices(number == 0);
        gate.restore(Timestamp::ZERO, setup.learned.clone());
        world.clients.push(Client { gate, calls: HashMap::new(), wake: Timestamp::MAX });
    }
    for (number, job) in jobs.iter().enumerate() {
        world.at(Timestamp::ZERO + job.at, Step::Submit(number));
    }
    let horizon = Timestamp::ZERO + setup.horizon;
    let mut now = Timestamp::ZERO;
    while let Some(Reverse((at, serial))) = world.steps.pop() {
        if at > horizon || world.ended() == jobs.len() {
            break;
        }
        now = at;
        if let Some(step) = world.pending.remove(&serial) {
            world.step(now, step);
        }
    }
    world.played.unaccounted = jobs.len() - world.ended();
    world.played.tally = world.provider.tally(now);
    if let Some(first) = world.clients.first() {
        world.played.learned = first.gate.learned();
    }
    Ok(world.played)
}

impl World<'_> {
    fn ended(&self) -> usize {
        self.played.completed + self.played.failed.len() + self.played.cancelled
    }

    fn at(&mut self, at: Timestamp, step: Step) {
        self.serial += 1;
        self.pending.insert(self.serial, step);
        self.steps.push(Reverse((at, self.serial)));
    }

    fn step(&mut self, now: Timestamp, step: Step) {
        let client = match step {
            Step::Submit(number) => {
                let job = &self.jobs[number];
                let gate = &mut self.clients[job.client].gate;
                let workload = gate.workload(if job.workload.is_empty() { "normal" } else { job.workload });
                let spec = JobSpec {
                    deadline: job.deadline,
                    user_id: job.user_id,
                    on_full: OnFull::Wait,
                    ..JobSpec::new(self.setup.model, workload)
                };
                let ticket = gate.submit(now, spec).expect("the gate is open, serves any model and waits for room");
                self.clients[job.client].calls.insert(ticket, number);
                self.tickets[number] = Some(ticket);
                if let Some(patience) = job.patience {
                    self.at(now + patience, Step::GiveUp(number));
                }
                job.client
            }
            Step::GiveUp(number) => {
                let client = self.jobs[number].client;
                let Some(ticket) = self.tickets[number].take() else { return };
                self.clients[client].calls.remove(&ticket);
                if self.clients[client].gate.cancel(now, ticket) {
                    self.played.cancelled += 1;
                    self.hang_up(now, client, ticket);
                }
                client
            }
            Step::Wake(client) => {
                if self.clients[client].wake == now {
                    self.clients[client].wake = Timestamp::MAX;
                }
                client
            }
            Step::Arrive { client, attempt, job } => return self.arrive(now, client, attempt, job),
            Step::Report { client, attempt, what } => {
                let event = match what {
                    Report::Head => Event::Headers,
                    Report::KeepAlive => Event::Alive,
                    Report::Content => Event::Content,
                    Report::End(outcome, tokens) => {
                        self.flights.remove(&(client, attempt));
                        Event::Ended { outcome, tokens }
                    }
                };
                let content = matches!(event, Event::Content);
                let gate = &mut self.clients[client].gate;
                gate.on(now, attempt, event);
                if content {
                    gate.on(now, attempt, Event::Reading);
                }
                client
            }
            Step::Finish { flight } => return self.provider.finish(now, flight),
            Step::Gone { flight } => return self.provider.disconnect(now, flight),
        };
        self.drain(now, client);
    }

    fn drain(&mut self, now: Timestamp, client: usize) {
        while let Some(action) = self.clients[client].gate.poll(now) {
            match action {
                Action::Send { attempt, .. } => {
                    let job = self.clients[client].calls[&attempt.ticket];
                    self.sent[job] = now;
                    if attempt.number == 1 && self.setup.tells_connect_times {
                        let event = Event::Connected(self.setup.round_trip);
                        self.clients[client].gate.on(now, attempt, event);
                    }
                    self.at(now + self.setup.round_trip / 2, Step::Arrive { client, attempt, job });
                }
                Action::Abort { attempt } => self.close(now, client, attempt),
                Action::End { ticket, result } => {
                    let Some(number) = self.clients[client].calls.remove(&ticket) else { continue };
                    self.tickets[number] = None;
                    self.played.makespan = self.played.makespan.max(now - Timestamp::ZERO);
                    match result {
                        Ok(_) => self.played.completed += 1,
                        Err(failure) => self.played.failed.push((number, *failure)),
                    }
                    let job = &self.jobs[number];
                    let waited = self.sent[number] - (Timestamp::ZERO + job.at);
                    self.played.waits.entry(job.workload).or_default().push(waited);
                }
                Action::Notify(crate::core::scheduler::Notice::Limit { limit, .. }) => {
                    self.played.limits.push((now.as_secs_f64(), limit));
                }
                Action::Notify(_) => {}
            }
        }
        if let Some(wake) = self.clients[client].gate.next_wake()
            && wake < self.clients[client].wake
        {
            self.clients[client].wake = wake;
            self.at(wake, Step::Wake(client));
        }
    }

    fn hang_up(&mut self, now: Timestamp, client: usize, ticket: Ticket) {
        let attempt = self.flights.keys().find(|(of, attempt)| *of == client && attempt.ticket == ticket).copied();
        if let Some((_, attempt)) = attempt {
            self.close(now, client, attempt);
        }
    }

    fn close(&mut self, now: Timestamp, client: usize, attempt: Attempt) {
        if let Some(flight) = self.flights.remove(&(client, attempt)) {
            self.at(now + self.setup.round_trip / 2, Step::Gone { flight });
        }
    }

    fn arrive(&mut self, now: Timestamp, client: usize, attempt: Attempt, number: usize) {
        let job = &self.jobs[number];
        let gone = self.tickets[number].is_none();
        let (tag, key) = (number.to_string(), format!("sk-simulated-{client}"));
        let arrival = Arrival {
            key: Some(&key),
            model: self.setup.model,
            user_id: job.user_id,
            tag: Some(&tag),
            service: job.service,
            ..Arrival::default()
        };
        let back = now + self.setup.round_trip / 2;
        let report = |what| Step::Report { client, attempt, what };
        match self.provider.arrive(now, &arrival) {
            Decision::Reset => {
                let outcome = classify_transport(TransportFailure::Reset, Phase::BeforeHeaders, None, None);
                self.at(back, report(Report::End(outcome, None)));
            }
            Decision::Reject(rejected) => {
                let headers: Vec<(&str, &str)> =
                    rejected.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let headers: &dyn Headers = &headers.as_slice();
                let head = Head { status: rejected.status, headers };
                let outcome = classify(&head, &rejected.body, None);
                self.at(back + rejected.after, report(Report::End(outcome, None)));
            }
            Decision::Admit(admission) => {
                let (id, plan) = (admission.id, admission.plan);
                if gone {
                    self.at(now, Step::Gone { flight: id });
                    return;
                }
                self.flights.insert((client, attempt), id);
                self.at(back + plan.headers, report(Report::Head));
                if plan.wait > plan.headers {
                    self.at(
                        back + plan.headers + plan.keep_alive.min(plan.wait - plan.headers),
                        report(Report::KeepAlive),
                    );
                }
                if plan.delivered > 0 && !matches!(plan.end, End::HangUp) {
                    self.at(back + plan.first_token, report(Report::Content));
                }
                if let Some(after) = plan.ends_at() {
                    self.at(now + after, Step::Finish { flight: id });
                    let (outcome, tokens) = end_of(&plan);
                    self.at(back + after, report(Report::End(outcome, tokens)));
                }
            }
        }
    }
}

/// What a driver makes of an admitted request's end.
fn end_of(plan: &Plan) -> (Outcome, Option<TokenCount>) {
    let head = Head { status: 200, headers: headers::NONE };
    let broken = |failure| {
        let phase = if plan.delivered > 0 { Phase::AfterContent } else { Phase::BeforeContent };
        classify_transport(failure, phase, Some(200), None)
    };
    let outcome = match plan.end {
        End::Complete => {
            let completion = u64::from(plan.output_tokens);
            let tokens =
                TokenCount { completion, reasoning: u64::from(plan.reasoning_tokens), ..TokenCount::default() };
            return (finished(&head, Some("stop"), None), Some(tokens));
        }
        End::Cut => broken(TransportFailure::Reset),
        End::CleanEnd => broken(TransportFailure::ClosedMidStream),
        End::EmptyBody => classify(&head, b"", None),
        End::BlankBody => classify(&head, b"\n\n\n", None),
        End::Garbage => classify(&head, b"<<<", None),
        End::ErrorObject => classify(&head, br#"{"error":{"message":"internal error","type":"server_error"}}"#, None),
        End::InsufficientResource => finished(&head, Some("insufficient_system_resource"), None),
        End::HangUp => classify_transport(TransportFailure::ClosedBeforeStart, Phase::BeforeContent, Some(200), None),
        // Nothing is heard of it any more.
        End::Stall => classify_transport(TransportFailure::Stalled, Phase::AfterContent, Some(200), None),
    };
    (outcome, None)
}
