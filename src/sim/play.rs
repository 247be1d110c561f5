//! Clients played against a provider on a virtual clock: an hour of traffic in milliseconds, the same each run.
//!
//! Any [`Client`] can be played. [`play`] plays gates, the [`Scheduler`](crate::core::scheduler::Scheduler) as a driver
//! would run it; only that sending is a queue of events here, and waiting a jump to the next of them. [`play_clients`]
//! plays whatever else makes requests, to compare it with them: it hears the same at the same moments.

mod gate;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

use slab::Slab;

use crate::core::route::RouteSpec;
use crate::core::scheduler::{Config, ConfigError};
use crate::core::time::Timestamp;

use super::losses::{Held, Ledger, Losses, Wire};
use super::provider::{Arrival, Decision, End, FlightId, Plan, Provider, Rejected};
use super::scenario::{Scenario, ScenarioError};
use super::tally::{Sample, Tally};

pub use self::gate::Gate;

/// Of a stream that goes on for longer, content is reported about so often.
const CONTENT_EVERY: Duration = Duration::from_secs(20);

/// One call to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// When it is submitted.
    pub at: Duration,
    /// Which of the clients makes it.
    pub client: usize,
    /// Its workload; "normal" if empty.
    pub workload: &'static str,
    /// The model it asks for; the setup's if empty.
    pub model: &'static str,
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

    /// What its request looks like when it arrives, under a key of its client's own.
    pub(super) fn arrival<'a>(&self, setup: &Setup, key: &'a str, tag: &'a str) -> Arrival<'a> {
        Arrival {
            key: Some(key),
            model: if self.model.is_empty() { setup.model } else { self.model },
            user_id: self.user_id,
            tag: Some(tag),
            service: self.service,
            ..Arrival::default()
        }
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
    /// What an earlier run learned.
    pub learned: Vec<crate::core::scheduler::LearnedLane>,
    /// Virtual time after which the run is given up.
    pub horizon: Duration,
    /// How often [`Played::samples`] are taken. Default: never.
    pub sample_every: Option<Duration>,
    /// Whether [`Played::losses`] are kept. Default: no.
    pub losses: bool,
}

impl Setup {
    /// `count` clients with the default configuration, 40 ms away.
    pub fn clients(count: usize) -> Self {
        let config = Config { max_queued: usize::MAX, ..Config::new(vec![RouteSpec::new("deepseek", "account")]) };
        Self {
            clients: vec![config; count],
            model: "deepseek-flash",
            round_trip: Duration::from_millis(40),
            learned: Vec::new(),
            horizon: Duration::from_secs(7 * 24 * 3600),
            sample_every: None,
            losses: false,
        }
    }
}

/// How a run went.
#[derive(Debug, Default)]
pub struct Played {
    /// Calls that were answered.
    pub completed: usize,
    /// Calls that failed, by number, with why.
    pub failed: Vec<(usize, String)>,
    /// Calls given up by their caller.
    pub cancelled: usize,
    /// Calls of which nothing was heard before the horizon. Of a run that has none that comes into question, always
    /// zero, or the client is broken.
    pub unaccounted: usize,
    /// When the last call ended.
    pub makespan: Duration,
    /// When each call was answered, by number.
    pub answered: Vec<Option<Duration>>,
    /// What the provider counted.
    pub tally: Tally,
    /// For each workload how long those of its calls that were answered had waited until they were sent the last time,
    /// in the order they ended.
    pub waits: BTreeMap<&'static str, Vec<Duration>>,
    /// (seconds, limit) of the first client's lane whenever it changed.
    pub limits: Vec<(f64, u32)>,
    /// All lanes together, as often as the setup says.
    pub samples: Vec<Sample>,
    /// The first client's lanes at the end, where it is a gate.
    pub learned: Vec<crate::core::scheduler::LearnedLane>,
    /// What became of the places offered, if the setup asks for it and there is one client that can say, with one lane.
    pub losses: Option<Losses>,
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

/// What makes requests: it is told what happens and asked what to do next. It has no clock and waits for nothing.
///
/// Calls are known by their number, attempts at a call by a number of the client's choice.
pub trait Client {
    /// A call is to be made. It ends with an [`Act::End`], or with [`cancel`](Self::cancel).
    fn submit(&mut self, now: Timestamp, number: usize, job: &Job);

    /// The caller of a call has given it up; its connection is closed without further report. Returns whether it was
    /// still under way.
    fn cancel(&mut self, now: Timestamp, number: usize) -> bool;

    /// Something of an attempt has reached the client. It may be one that was aborted meanwhile.
    fn on(&mut self, now: Timestamp, number: usize, attempt: u32, heard: Heard<'_>);

    /// The next thing to do; asked until there is nothing.
    fn poll(&mut self, now: Timestamp) -> Option<Act>;

    /// When it wants to be asked again if nothing happens before; never, if `None`.
    fn next_wake(&self) -> Option<Timestamp>;

    /// What it says of the places it leaves unused; `None` if it can't.
    fn held(&mut self, _now: Timestamp) -> Option<Held> {
        None
    }
}

/// What reaches a client of an attempt.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'a> {
    /// The head of an answer, status 200.
    Headers,
    /// A sign of life before content.
    KeepAlive,
    /// The first of the content, and in a long answer more of it from time to time.
    Content,
    /// It is over.
    Answer(&'a Answer),
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It was refused.
    Refused(Rejected),
    /// The connection was reset before an answer.
    Reset,
    /// It was let in, and came to the end of its plan.
    Ended {
        /// What happened to it.
        plan: Plan,
        /// The headers of its answer.
        headers: Vec<(&'static str, String)>,
    },
}

impl Answer {
    /// Whether it is a whole answer.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Ended { plan, .. } if plan.end == End::Complete)
    }

    /// The status of a refusal.
    pub fn refusal(&self) -> Option<u16> {
        match self {
            Self::Refused(rejected) => Some(rejected.status),
            _ => None,
        }
    }
}

/// What a client does.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Sends a request for a call.
    Send {
        /// The call.
        number: usize,
        /// How it will know the attempt.
        attempt: u32,
    },
    /// Closes the connection of an attempt.
    Abort {
        /// The call.
        number: usize,
        /// The attempt.
        attempt: u32,
    },
    /// Is done with a call.
    End {
        /// The call.
        number: usize,
        /// Answered, or why not.
        result: Result<(), String>,
    },
    /// Changes how many requests it holds at most, for the record.
    Limit(u32),
}

#[derive(Debug)]
enum Step {
    Submit(usize),
    GiveUp(usize),
    Wake(usize),
    /// A request reaches the provider.
    Arrive {
        number: usize,
        attempt: u32,
    },
    /// Something reaches the client.
    Report {
        number: usize,
        attempt: u32,
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
enum Report {
    Headers,
    KeepAlive,
    Content,
    Answer(Box<Answer>),
}

struct World<'a, 'c> {
    provider: Provider,
    setup: &'a Setup,
    jobs: &'a [Job],
    clients: &'a mut [&'c mut dyn Client],
    /// The keys of the clients.
    keys: Vec<String>,
    /// When each client is woken next.
    wakes: Vec<Timestamp>,
    /// Calls that have been submitted and have not ended.
    open: Vec<bool>,
    steps: BinaryHeap<Reverse<(Timestamp, u64, usize)>>,
    pending: Slab<Step>,
    serial: u64,
    /// By call and attempt.
    flights: HashMap<(usize, u32), FlightId>,
    /// Of each call the last attempt and when it was sent.
    sent: Vec<(u32, Timestamp)>,
    next_sample: Timestamp,
    /// Only of a single client.
    ledger: Option<Ledger>,
    ended: usize,
    played: Played,
}

/// Plays `jobs` through the gates of `setup` against `scenario`.
///
/// # Errors
/// A scenario or a configuration that makes no sense.
pub fn play(scenario: &Scenario, seed: u64, setup: &Setup, jobs: &[Job]) -> Result<Played, PlayError> {
    let mut gates = Vec::new();
    for number in 0..setup.clients.len() {
        gates.push(Gate::new(setup, number, seed)?);
    }
    let mut clients: Vec<&mut dyn Client> = gates.iter_mut().map(|gate| gate as &mut dyn Client).collect();
    let mut played = play_clients(scenario, seed, setup, &mut clients, jobs)?;
    played.learned = gates.first().map(Gate::learned).unwrap_or_default();
    Ok(played)
}

/// Plays `jobs` through any clients against `scenario`. Of `setup` its gates do not matter.
///
/// # Errors
/// A scenario that makes no sense.
///
/// # Panics
/// If a job is of a client that does not exist.
pub fn play_clients(
    scenario: &Scenario,
    seed: u64,
    setup: &Setup,
    clients: &mut [&mut dyn Client],
    jobs: &[Job],
) -> Result<Played, ScenarioError> {
    let count = clients.len();
    let mut world = World {
        provider: Provider::new(scenario.clone(), seed)?,
        setup,
        jobs,
        clients,
        keys: (0..count).map(key_of).collect(),
        wakes: vec![Timestamp::MAX; count],
        open: vec![false; jobs.len()],
        steps: BinaryHeap::new(),
        pending: Slab::new(),
        serial: 0,
        flights: HashMap::new(),
        sent: vec![(0, Timestamp::ZERO); jobs.len()],
        next_sample: Timestamp::ZERO,
        ledger: (setup.losses && count == 1).then(Ledger::default),
        ended: 0,
        played: Played { answered: vec![None; jobs.len()], ..Played::default() },
    };
    for (number, job) in jobs.iter().enumerate() {
        assert!(job.client < count, "job {number} is of client {}, of {count}", job.client);
        world.at(Timestamp::ZERO + job.at, Step::Submit(number));
    }
    let horizon = Timestamp::ZERO + setup.horizon;
    let mut now = Timestamp::ZERO;
    while let Some(Reverse((at, _, index))) = world.steps.pop() {
        if at > horizon || world.ended == jobs.len() {
            if world.ended < jobs.len() {
                world.charge_until(now, horizon);
            }
            break;
        }
        world.pass(now, at);
        now = at;
        let step = world.pending.remove(index);
        world.step(now, step);
    }
    world.played.unaccounted = jobs.len() - world.ended;
    world.played.tally = world.provider.tally(now);
    world.played.losses = world.ledger.map(|ledger| ledger.losses);
    Ok(world.played)
}

/// The key of the `number`-th client.
pub(super) fn key_of(number: usize) -> String {
    format!("sk-simulated-{number}")
}

impl World<'_, '_> {
    fn at(&mut self, at: Timestamp, step: Step) {
        self.serial += 1;
        let index = self.pending.insert(step);
        self.steps.push(Reverse((at, self.serial, index)));
    }

    /// Takes the samples that are due before `at`, and keeps the books until then. Something last happened at `now`.
    fn pass(&mut self, now: Timestamp, at: Timestamp) {
        let every = self.setup.sample_every.filter(|every| !every.is_zero());
        while let Some(every) = every
            && self.next_sample < at
        {
            self.charge_until(now, self.next_sample);
            self.played.samples.extend(self.provider.sample(self.next_sample));
            self.next_sample += every;
        }
        self.charge_until(now, at);
    }

    fn charge_until(&mut self, now: Timestamp, at: Timestamp) {
        let Some(ledger) = &mut self.ledger else { return };
        if let Some(held) = self.clients[0].held(now) {
            ledger.charge_until(at, &mut self.provider, &held);
        }
    }

    /// Notes what is under way, where books are kept.
    fn on_wire(&mut self, note: impl FnOnce(&mut Wire)) {
        if let Some(ledger) = &mut self.ledger {
            note(&mut ledger.wire);
        }
    }

    fn step(&mut self, now: Timestamp, step: Step) {
        let client = match step {
            Step::Submit(number) => {
                let job = &self.jobs[number];
                self.open[number] = true;
                self.clients[job.client].submit(now, number, job);
                if let Some(patience) = job.patience {
                    self.at(now + patience, Step::GiveUp(number));
                }
                job.client
            }
            Step::GiveUp(number) => {
                let client = self.jobs[number].client;
                if !self.open[number] {
                    return;
                }
                if self.clients[client].cancel(now, number) {
                    self.open[number] = false;
                    self.ended += 1;
                    self.played.cancelled += 1;
                    self.close(now, number, self.sent[number].0);
                }
                client
            }
            Step::Wake(client) => {
                if self.wakes[client] == now {
                    self.wakes[client] = Timestamp::MAX;
                }
                client
            }
            Step::Arrive { number, attempt } => return self.arrive(now, number, attempt),
            Step::Report { number, attempt, what } => {
                let client = self.jobs[number].client;
                let heard = match &what {
                    Report::Headers => Heard::Headers,
                    Report::KeepAlive => Heard::KeepAlive,
                    Report::Content => Heard::Content,
                    Report::Answer(answer) => {
                        self.flights.remove(&(number, attempt));
                        self.on_wire(|wire| match &**answer {
                            Answer::Ended { .. } => wire.back -= 1,
                            Answer::Refused(_) | Answer::Reset => wire.refused -= 1,
                        });
                        Heard::Answer(answer)
                    }
                };
                self.clients[client].on(now, number, attempt, heard);
                client
            }
            Step::Finish { flight } => {
                self.on_wire(|wire| wire.back += 1);
                return self.provider.finish(now, flight);
            }
            Step::Gone { flight } => return self.provider.disconnect(now, flight),
        };
        self.drain(now, client);
    }

    fn drain(&mut self, now: Timestamp, client: usize) {
        while let Some(act) = self.clients[client].poll(now) {
            match act {
                Act::Send { number, attempt } => {
                    self.sent[number] = (attempt, now);
                    self.on_wire(|wire| wire.out += 1);
                    self.at(now + self.setup.round_trip / 2, Step::Arrive { number, attempt });
                }
                Act::Abort { number, attempt } => self.close(now, number, attempt),
                Act::End { number, result } => {
                    if !std::mem::replace(&mut self.open[number], false) {
                        continue;
                    }
                    self.ended += 1;
                    let (at, played) = (now - Timestamp::ZERO, &mut self.played);
                    played.makespan = played.makespan.max(at);
                    match result {
                        Ok(()) => {
                            played.completed += 1;
                            played.answered[number] = Some(at);
                            let job = &self.jobs[number];
                            let waited = self.sent[number].1 - (Timestamp::ZERO + job.at);
                            played.waits.entry(job.workload).or_default().push(waited);
                        }
                        Err(why) => played.failed.push((number, why)),
                    }
                }
                Act::Limit(limit) if client == 0 => self.played.limits.push((now.as_secs_f64(), limit)),
                Act::Limit(_) => {}
            }
        }
        if let Some(wake) = self.clients[client].next_wake()
            && wake < self.wakes[client]
        {
            self.wakes[client] = wake;
            self.at(wake, Step::Wake(client));
        }
    }

    fn close(&mut self, now: Timestamp, number: usize, attempt: u32) {
        if let Some(flight) = self.flights.remove(&(number, attempt)) {
            self.at(now + self.setup.round_trip / 2, Step::Gone { flight });
        }
    }

    /// Reports a long stream's further content now and then: each piece would only cost time.
    fn stream(&mut self, from: Timestamp, number: usize, attempt: u32, plan: &Plan) {
        if plan.last_token < plan.first_token + CONTENT_EVERY {
            return;
        }
        let mut told = plan.first_token;
        for at in (1..plan.delivered).map(|piece| plan.chunk_at(piece)) {
            if at >= told + CONTENT_EVERY {
                told = at;
                self.at(from + at, Step::Report { number, attempt, what: Report::Content });
            }
        }
    }

    fn arrive(&mut self, now: Timestamp, number: usize, attempt: u32) {
        let job = &self.jobs[number];
        let tag = number.to_string();
        let arrival = job.arrival(self.setup, &self.keys[job.client], &tag);
        let back = now + self.setup.round_trip / 2;
        let report = |what| Step::Report { number, attempt, what };
        let answer = |answer| report(Report::Answer(Box::new(answer)));
        let decision = self.provider.arrive(now, &arrival);
        self.on_wire(|wire| {
            wire.out -= 1;
            wire.refused += u64::from(!matches!(decision, Decision::Admit(_)));
        });
        match decision {
            Decision::Reset => self.at(back, answer(Answer::Reset)),
            Decision::Reject(rejected) => self.at(back + rejected.after, answer(Answer::Refused(rejected))),
            Decision::Admit(admission) => {
                let (id, plan) = (admission.id, admission.plan);
                if !self.open[number] {
                    self.at(now, Step::Gone { flight: id });
                    return;
                }
                self.flights.insert((number, attempt), id);
                self.at(back + plan.headers, report(Report::Headers));
                if plan.wait > plan.headers {
                    let until_alive = plan.keep_alive.min(plan.wait - plan.headers);
                    self.at(back + plan.headers + until_alive, report(Report::KeepAlive));
                }
                if plan.delivered > 0 && !matches!(plan.end, End::HangUp) {
                    self.at(back + plan.first_token, report(Report::Content));
                    self.stream(back, number, attempt, &plan);
                }
                if let Some(after) = plan.ends_at() {
                    self.at(now + after, Step::Finish { flight: id });
                    self.at(back + after, answer(Answer::Ended { plan, headers: admission.headers }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::losses::Cause;
    use super::*;

    /// Sends one request at a time, in order, and repeats what is refused a second later.
    #[derive(Default)]
    struct OneByOne {
        waiting: std::collections::VecDeque<usize>,
        busy: bool,
        attempts: u32,
        not_before: Timestamp,
        ends: Vec<Act>,
    }

    impl Client for OneByOne {
        fn submit(&mut self, _now: Timestamp, number: usize, _job: &Job) {
            self.waiting.push_back(number);
        }

        fn cancel(&mut self, _now: Timestamp, number: usize) -> bool {
            let before = self.waiting.len();
            self.waiting.retain(|waiting| *waiting != number);
            self.waiting.len() < before
        }

        fn on(&mut self, now: Timestamp, number: usize, attempt: u32, heard: Heard<'_>) {
            let Heard::Answer(answer) = heard else { return };
            assert_eq!((self.busy, attempt), (true, self.attempts));
            self.busy = false;
            if answer.is_whole() {
                self.ends.push(Act::End { number, result: Ok(()) });
            } else {
                self.waiting.push_front(number);
                self.not_before = now + Duration::from_secs(1);
            }
        }

        fn poll(&mut self, now: Timestamp) -> Option<Act> {
            if let Some(end) = self.ends.pop() {
                return Some(end);
            }
            if self.busy || now < self.not_before {
                return None;
            }
            let number = self.waiting.pop_front()?;
            self.busy = true;
            self.attempts += 1;
            Some(Act::Send { number, attempt: self.attempts })
        }

        fn next_wake(&self) -> Option<Timestamp> {
            (!self.busy && !self.waiting.is_empty()).then_some(self.not_before)
        }
    }

    fn setup() -> Setup {
        Setup { sample_every: Some(Duration::from_millis(500)), ..Setup::clients(1) }
    }

    #[test]
    fn any_client_can_be_played() {
        // No slot for the first three seconds, then one; two jobs of two seconds and two round trips of 40 ms.
        let scenario = Scenario::steps(&[(0.0, 0), (3.0, 1)], None).with_service_time(2.0);
        let (setup, mut client) = (setup(), OneByOne::default());
        let played = play_clients(&scenario, 1, &setup, &mut [&mut client], &Job::batch(2)).unwrap();
        assert_eq!((played.completed, played.failed.len(), played.unaccounted), (2, 0, 0));
        // Refused at 0.02, 1.06 and 2.10 s; sent again at 3.12, which is answered at 5.16, and the other at 7.2.
        assert_eq!(played.tally.slot_rejections(), 3);
        assert_eq!(played.answered, [Some(Duration::from_millis(5160)), Some(Duration::from_millis(7200))]);
        assert_eq!(played.waits[""], [Duration::from_millis(3120), Duration::from_millis(5160)]);
        let at = |seconds: f64| played.samples.iter().find(|sample| sample.at == seconds).unwrap();
        assert_eq!((at(2.0).cap, at(2.0).in_flight, at(2.0).rejected), (0, 0, 2));
        assert_eq!((at(4.0).cap, at(4.0).in_flight, at(4.0).rejected), (1, 1, 3));
    }

    #[test]
    fn every_place_offered_is_used_or_charged_to_a_cause() {
        let mut scenario = Scenario::steps(&[(0.0, 20), (10.0, 5), (30.0, 20)], None).with_service_time(1.0);
        scenario.windows.push(crate::sim::scenario::Window::new(503, 40.0, 45.0));
        let setup = Setup { losses: true, ..setup() };
        let played = play(&scenario, 1, &setup, &Job::batch(800)).unwrap();
        let (lane, losses) = (&played.tally.lanes[0], played.losses.unwrap());
        assert!((losses.used - lane.used).abs() < 0.01, "{losses:?} {lane:?}");
        // Nothing is offered in an outage but the places that were taken when it began, to the end of their requests.
        let (until, outage) = (played.makespan.as_secs_f64(), 5.0 * 20.0);
        let offered = 10.0 * 20.0 + 20.0 * 5.0 + (until - 30.0) * 20.0 - outage;
        assert!((losses.offered() - offered).abs() < 20.0, "{} of {offered}", losses.offered());
        let of = |cause| losses[cause];
        assert!([Cause::Network, Cause::Outage, Cause::Unnoticed, Cause::Climb].map(of).iter().all(|lost| *lost > 1.0));
        assert_eq!([Cause::Pace, Cause::Cut, Cause::Served, Cause::Kept].map(of), [0.0; 4], "{losses:?}");
        // Who keeps no books has none.
        assert_eq!(play(&scenario, 1, &Setup { losses: false, ..setup }, &Job::batch(9)).unwrap().losses, None);
    }

    #[test]
    fn a_caller_that_gives_up_is_counted_and_its_slot_comes_free() {
        let scenario = Scenario::constant(1).with_service_time(10.0);
        let mut jobs = Job::batch(2);
        jobs[0].patience = Some(Duration::from_secs(2));
        let played = play(&scenario, 1, &setup(), &jobs).unwrap();
        assert_eq!((played.completed, played.cancelled, played.failed.len()), (1, 1, 0));
        assert_eq!(played.tally.disconnected, 1);
    }

    #[test]
    fn an_answer_that_streams_for_ten_minutes_is_not_taken_for_one_that_stalls() {
        let scenario = Scenario::constant(1).with_service_time(600.0);
        let played = play(&scenario, 1, &setup(), &Job::batch(1)).unwrap();
        assert_eq!((played.completed, &played.failed[..]), (1, &[][..]));
    }

    #[test]
    fn each_job_asks_for_its_own_model() {
        let mut scenario = Scenario::constant(2).with_service_time(1.0);
        scenario.models.insert("other".to_owned(), 1.into());
        let mut jobs = Job::batch(4);
        jobs[3].model = "other";
        let played = play(&scenario, 1, &setup(), &jobs).unwrap();
        let lanes: Vec<_> = played.tally.lanes.iter().map(|lane| (lane.model.as_str(), lane.peak_in_flight)).collect();
        assert_eq!(lanes, [("deepseek-flash", 2), ("other", 1)]);
    }
}
