//! Clients to compare with, played on the virtual clock: one that knows the cap, and one with a fixed concurrency.
//!
//! Both get the same work as a client measured on the same scenario and seed, for a provider gives its n-th admitted
//! request the same plan whoever asks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use crate::core::queue::Class;
use crate::core::time::Timestamp;

use super::losses::{Cause, Held, Ledger};
use super::play::{Job, Played, Setup};
use super::provider::{Arrival, Decision, End, FlightId, Provider};
use super::scenario::{Scenario, ScenarioError};
use super::tally::{RejectReason, Sample, Tally};

/// Virtual time after which a run is given up: a cap of 0 that repeats for ever would never let it end.
const HORIZON: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is to be done: requests that are all ready at the start.
#[derive(Clone, Debug)]
pub struct Jobs {
    /// How many. Job `i` is tagged with its number.
    pub count: usize,
    /// What each request looks like; its tag is ignored.
    pub request: Arrival<'static>,
    /// How long inference takes for each job, by its number; empty to let the scenario draw.
    pub service: Vec<Duration>,
    /// From the client to the provider and back: so long a slot that came free stays empty, for [`knowing`]. Default: 0.
    pub round_trip: Duration,
}

impl Jobs {
    /// `count` requests like [`Arrival::default`], with service times as the scenario draws them.
    pub fn new(count: usize) -> Self {
        Self { count, request: Arrival::default(), service: Vec::new(), round_trip: Duration::ZERO }
    }

    /// One job for each of these service times.
    pub fn with_service_times(service: Vec<Duration>) -> Self {
        Self { count: service.len(), service, ..Self::new(0) }
    }

    fn arrival<'a>(&self, job: usize, tag: &'a str) -> Arrival<'a> {
        Arrival { tag: Some(tag), service: self.service.get(job).copied(), ..self.request.clone() }
    }
}

/// How a run went.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Jobs answered whole.
    pub completed: usize,
    /// Jobs given up.
    pub lost: usize,
    /// When the last job was answered.
    pub makespan: Duration,
    /// What the provider counted.
    pub tally: Tally,
}

/// What a client does that holds a fixed number of requests and retries with exponential backoff, as guides advise.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedClient {
    /// Requests at once. A worker that backs off keeps its place.
    pub concurrency: usize,
    /// Attempts for a job, the first included. Default: 6.
    pub attempts: u32,
    /// The first backoff; each further one is twice as long. Default: 1 s.
    pub first_backoff: Duration,
    /// The longest backoff. Default: 60 s.
    pub longest_backoff: Duration,
    /// The share of a backoff that is added at random. Default: 0.25.
    pub jitter: f64,
    /// A request of which nothing more comes is given up after this. Default: 120 s.
    pub stall_timeout: Duration,
}

impl FixedClient {
    /// A client with `concurrency` requests at once and the defaults for the rest.
    pub fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            attempts: 6,
            first_backoff: Duration::from_secs(1),
            longest_backoff: Duration::from_secs(60),
            jitter: 0.25,
            stall_timeout: Duration::from_secs(120),
        }
    }

    fn backoff(&self, failed: u32, rng: &mut fastrand::Rng) -> Duration {
        let doubled = self.first_backoff.saturating_mul(2u32.saturating_pow(failed.saturating_sub(1)));
        let backoff = doubled.min(self.longest_backoff);
        let share = if self.jitter.is_nan() { 0.0 } else { self.jitter.clamp(0.0, 1.0) };
        let extra = Duration::try_from_secs_f64(backoff.as_secs_f64() * share * rng.f64());
        backoff.saturating_add(extra.unwrap_or(Duration::ZERO))
    }
}

/// What a client achieves that knows the cap and every outage at each moment: it sends as soon as it will be admitted
/// and never otherwise (but for refusals that strike by chance, which it repeats at
/// once and which cost it nothing). Jobs start in order; a job hit by a fault goes back to the front.
///
/// It is greedy, not the optimum over all orders: with jobs of very different length another order could end sooner.
///
/// # Errors
/// A scenario that makes no sense.
pub fn knowing(scenario: &Scenario, seed: u64, jobs: &Jobs) -> Result<Report, ScenarioError> {
    let mut world = Knowing::new(scenario, seed, jobs.count, jobs.round_trip, Timestamp::ZERO + HORIZON)?;
    let line = world.line(Class::Normal);
    world.lines[line].waiting = (0..jobs.count).collect();
    let tags = tags(jobs.count);
    world.run(&|job| jobs.arrival(job, &tags[job]), &[]);
    Ok(world.done.report(jobs, world.provider.tally(world.now)))
}

/// The same for calls as they are [played](super::play): submitted over time, by several clients, for several models and
/// users. More urgent workloads go first, and those as urgent as each other take turns. Callers have all the patience
/// they need.
///
/// # Errors
/// A scenario that makes no sense.
pub fn knowing_calls(scenario: &Scenario, seed: u64, setup: &Setup, jobs: &[Job]) -> Result<Played, ScenarioError> {
    calls(scenario, seed, setup, jobs, None)
}

/// What a client does to learn the cap that sees the present, and not the future. See [`causal_calls`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Causal {
    /// It looks for rises.
    Probing {
        /// How often it sends one request more than it knows the cap to be.
        every: Duration,
        /// It knows that the cap is never higher, and does not look beyond.
        highest: u32,
    },
    /// It exceeds the cap once, as soon as it is full, for how else would it know that it is; from then on it sees it.
    ExceedingOnce,
}

/// More than any client can achieve that does not know the future and learns the cap as `causal` says, for calls of one
/// client to one model: like [`knowing_calls`], but that the cap rose shows only when one request more than it was known
/// to be is let in, a round trip after that was sent. The tally has those that were not.
///
/// All else it is given: it starts knowing the cap, sees each fall as it happens, knows at once how far the cap rose, and
/// nothing is as late as it may be.
///
/// # Errors
/// A scenario that makes no sense.
pub fn causal_calls(
    scenario: &Scenario,
    seed: u64,
    setup: &Setup,
    jobs: &[Job],
    causal: Causal,
) -> Result<Played, ScenarioError> {
    calls(scenario, seed, setup, jobs, Some(causal))
}

fn calls(
    scenario: &Scenario,
    seed: u64,
    setup: &Setup,
    jobs: &[Job],
    causal: Option<Causal>,
) -> Result<Played, ScenarioError> {
    let horizon = Timestamp::ZERO + setup.horizon.min(HORIZON);
    let mut world = Knowing::new(scenario, seed, jobs.len(), setup.round_trip, horizon)?;
    let keys: Vec<String> =
        (0..=jobs.iter().map(|job| job.client).max().unwrap_or(0)).map(super::play::key_of).collect();
    let mut line_of = BTreeMap::new();
    let mut submissions: Vec<(Timestamp, usize, usize)> = (jobs.iter().enumerate())
        .map(|(number, job)| {
            let class = match job.workload {
                "interactive" => Class::Interactive,
                "background" => Class::Background,
                _ => Class::Normal,
            };
            let of = (job.client, job.model, job.user_id, job.workload);
            let line = *line_of.entry(of).or_insert_with(|| world.line(class));
            (Timestamp::ZERO + job.at, number, line)
        })
        .collect();
    submissions.sort_unstable();
    world.sample_every = setup.sample_every.filter(|every| !every.is_zero());
    world.ledger = setup.losses.then(Ledger::default);
    match causal {
        Some(Causal::Probing { every, highest }) => world.view = Some(View::new(every, highest)),
        Some(Causal::ExceedingOnce) => world.exceeds = true,
        None => {}
    }
    let tags = tags(jobs.len());
    world.run(&|number| jobs[number].arrival(setup, &keys[jobs[number].client], &tags[number]), &submissions);
    let mut played = Played {
        completed: world.done.completed,
        unaccounted: jobs.len() - world.done.completed,
        makespan: world.done.last - Timestamp::ZERO,
        tally: world.provider.tally(world.now),
        samples: world.samples,
        answered: world.done.at,
        losses: world.ledger.map(|ledger| ledger.losses),
        ..Played::default()
    };
    for (job, sent) in jobs.iter().zip(&world.sent) {
        if let Some(sent) = sent {
            played.waits.entry(job.workload).or_default().push(*sent - (Timestamp::ZERO + job.at));
        }
    }
    Ok(played)
}

fn tags(jobs: usize) -> Vec<String> {
    (0..jobs).map(|job| job.to_string()).collect()
}

/// Jobs that are served in order.
#[derive(Debug)]
struct Line {
    class: Class,
    waiting: VecDeque<usize>,
}

/// When a request's end has been noticed, which it is, when it is answered, its job, the job's line, and whether the
/// answer is whole.
type Landing = (Timestamp, FlightId, Timestamp, usize, usize, bool);

/// What a client believes of the cap that has to look for its rises.
#[derive(Debug)]
struct View {
    every: Duration,
    highest: u32,
    /// It believes that so many may be in flight.
    believed: u32,
    next_probe: Timestamp,
    /// When it hears that a probe was let in.
    hears: Option<Timestamp>,
}

impl View {
    fn new(every: Duration, highest: u32) -> Self {
        // It begins in the middle between two probes, knowing the cap.
        Self { every, highest, believed: u32::MAX, next_probe: Timestamp::ZERO + every / 2, hears: None }
    }

    /// The cap is `cap` at `now`. Returns how many it believes may be in flight.
    fn look(&mut self, now: Timestamp, cap: u32) -> u32 {
        if self.believed > cap || self.hears.take_if(|at| *at <= now).is_some() {
            self.believed = cap;
        }
        self.believed
    }

    /// Whether one request more is to be sent now, beyond those it believes in.
    fn probes(&mut self, now: Timestamp) -> bool {
        let due = now >= self.next_probe && self.hears.is_none() && self.believed < self.highest;
        if due {
            self.next_probe = now + self.every;
        }
        due
    }

    /// When it looks again if nothing happens.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let probe = Some(self.next_probe).filter(|at| *at > now && self.believed < self.highest);
        [self.hears, probe].into_iter().flatten().min()
    }
}

/// A client that knows all, under way.
struct Knowing {
    provider: Provider,
    round_trip: Duration,
    horizon: Timestamp,
    now: Timestamp,
    lines: Vec<Line>,
    /// The line that was served last.
    turn: usize,
    flying: BinaryHeap<Reverse<Landing>>,
    sent: Vec<Option<Timestamp>>,
    /// Where every request fails, even a client that knows all would try for ever.
    attempts_left: usize,
    sample_every: Option<Duration>,
    next_sample: Timestamp,
    samples: Vec<Sample>,
    ledger: Option<Ledger>,
    /// What it believes of the cap, if it does not know all.
    view: Option<View>,
    /// It is still to exceed the cap.
    exceeds: bool,
    done: Done,
}

impl Knowing {
    fn new(
        scenario: &Scenario,
        seed: u64,
        jobs: usize,
        round_trip: Duration,
        horizon: Timestamp,
    ) -> Result<Self, ScenarioError> {
        Ok(Self {
            provider: Provider::new(scenario.clone(), seed)?,
            round_trip,
            horizon,
            now: Timestamp::ZERO,
            lines: Vec::new(),
            turn: 0,
            flying: BinaryHeap::new(),
            sent: vec![None; jobs],
            attempts_left: jobs.saturating_mul(1000).saturating_add(100_000),
            sample_every: None,
            next_sample: Timestamp::ZERO,
            samples: Vec::new(),
            ledger: None,
            view: None,
            exceeds: false,
            done: Done { at: vec![None; jobs], ..Done::default() },
        })
    }

    fn line(&mut self, class: Class) -> usize {
        self.lines.push(Line { class, waiting: VecDeque::new() });
        self.lines.len() - 1
    }

    /// Follows `submissions` (moment, job, line; in order) to the end.
    fn run<'a>(&mut self, arrival: &dyn Fn(usize) -> Arrival<'a>, submissions: &[(Timestamp, usize, usize)]) {
        let mut submissions = submissions.iter().peekable();
        while self.attempts_left > 0 {
            while let Some(&(_, job, line)) = submissions.next_if(|(at, ..)| *at <= self.now) {
                self.lines[line].waiting.push_back(job);
            }
            let retry = self.send(arrival).then(|| self.now + Duration::from_millis(10));
            let submitted = submissions.peek().map(|(at, ..)| *at);
            let ended = self.flying.peek().map(|Reverse((at, ..))| *at);
            let (mut changed, mut spent) = (None, true);
            for line in &self.lines {
                let Some(&job) = line.waiting.front() else { continue };
                let asked = arrival(job);
                let change = self.provider.next_change(self.now, &asked);
                spent &= change.is_none() && self.provider.closed(self.now, &asked) == Some(RejectReason::Balance);
                changed = [changed, change].into_iter().flatten().min();
            }
            let waiting = self.lines.iter().any(|line| !line.waiting.is_empty());
            let noticed = self.view.as_ref().filter(|_| waiting).and_then(|view| view.next(self.now));
            let Some(next) = [ended, changed, retry, submitted, noticed].into_iter().flatten().min() else { break };
            // Money spent does not come back.
            if next > self.horizon || (waiting && spent && self.flying.is_empty() && submitted.is_none()) {
                self.charge_until(next.min(self.horizon));
                break;
            }
            self.sample_until(next);
            self.charge_until(next);
            self.now = next;
            while let Some(&Reverse((at, id, answered, job, line, whole))) = self.flying.peek() {
                if at > self.now {
                    break;
                }
                self.flying.pop();
                self.provider.finish(at, id);
                if whole {
                    self.done.count(job, answered);
                } else {
                    self.lines[line].waiting.push_front(job);
                }
            }
        }
    }

    /// Whether it would send `asked` if it will be admitted: whoever has to look for rises of the cap holds back, and sends
    /// one too many now and then.
    fn dares(&mut self, asked: &Arrival<'_>) -> bool {
        if self.exceeds && self.provider.closed(self.now, asked) == Some(RejectReason::Slot) {
            self.exceeds = false;
            self.provider.arrive(self.now, asked);
        }
        let Some(view) = &mut self.view else { return true };
        let Some(Sample { cap, .. }) = self.provider.sample(self.now) else { return true };
        if self.flying.len() < view.look(self.now, cap) as usize {
            return true;
        }
        if !view.probes(self.now) {
            return false;
        }
        if self.provider.closed(self.now, asked) == Some(RejectReason::Slot) {
            self.provider.arrive(self.now, asked);
            return false;
        }
        view.hears = Some(self.now + self.round_trip);
        true
    }

    /// Sends all that will be admitted now. Returns whether refusals by chance were so many that it gave up for now.
    fn send<'a>(&mut self, arrival: &dyn Fn(usize) -> Arrival<'a>) -> bool {
        // A refusal by chance is tried again at once, but a chance of nearly 1 must not spin for ever.
        let mut tries = 10_000;
        for class in Class::ALL {
            let mut closed = 0;
            while closed < self.lines.len() {
                self.turn = (self.turn + 1) % self.lines.len();
                let line = &self.lines[self.turn];
                let Some(&job) = line.waiting.front().filter(|_| line.class == class) else {
                    closed += 1;
                    continue;
                };
                let asked = arrival(job);
                if !self.dares(&asked) || self.provider.closed(self.now, &asked).is_some() {
                    closed += 1;
                    continue;
                }
                if tries == 0 || self.attempts_left == 0 {
                    return true;
                }
                tries -= 1;
                self.attempts_left -= 1;
                closed = 0;
                let Decision::Admit(admission) = self.provider.arrive(self.now, &asked) else {
                    // Again, before another line has its turn.
                    self.turn = (self.turn + self.lines.len() - 1) % self.lines.len();
                    continue;
                };
                match admission.plan.ends_at() {
                    Some(after) => {
                        self.lines[self.turn].waiting.pop_front();
                        self.sent[job] = Some(self.now);
                        let whole = admission.plan.end == End::Complete;
                        let answered = self.now + after + self.round_trip;
                        // The way there and back passes while the place is still taken.
                        let lag = self.provider.release_lag(admission.id).min(self.round_trip);
                        let at = self.now + after + (self.round_trip - lag);
                        if let Some(ledger) = &mut self.ledger {
                            ledger.losses.was_network(self.round_trip - lag);
                        }
                        self.flying.push(Reverse((at, admission.id, answered, job, self.turn, whole)));
                    }
                    // It knows a stalled request for what it is.
                    None => self.provider.disconnect(self.now, admission.id),
                }
            }
        }
        false
    }

    fn charge_until(&mut self, at: Timestamp) {
        let waiting = self.lines.iter().map(|line| line.waiting.len() as u64).sum();
        let held = Held { waiting, backing_off: 0, leaving: 0, why: Cause::Unnoticed };
        if let Some(ledger) = &mut self.ledger {
            ledger.charge_until(at, &mut self.provider, &held);
        }
    }

    fn sample_until(&mut self, at: Timestamp) {
        let Some(every) = self.sample_every else { return };
        while self.next_sample < at {
            self.charge_until(self.next_sample);
            self.samples.extend(self.provider.sample(self.next_sample));
            self.next_sample += every;
        }
    }
}

/// What `client` achieves on the same scenario and seed.
///
/// # Errors
/// A scenario that makes no sense.
pub fn fixed(scenario: &Scenario, seed: u64, jobs: &Jobs, client: &FixedClient) -> Result<Report, ScenarioError> {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Event {
        Ended { job: usize, failed: u32, id: FlightId, whole: bool },
        GaveUp { job: usize, failed: u32, id: FlightId },
        Refused { job: usize, failed: u32 },
        Send { job: usize, failed: u32 },
    }
    let mut provider = Provider::new(scenario.clone(), seed)?;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut events: BinaryHeap<Reverse<(Timestamp, Event)>> = BinaryHeap::new();
    let mut next_job = 0;
    let mut done = Done::default();
    let mut now = Timestamp::ZERO;
    while next_job < client.concurrency.min(jobs.count) {
        events.push(Reverse((now, Event::Send { job: next_job, failed: 0 })));
        next_job += 1;
    }
    while let Some(Reverse((at, event))) = events.pop() {
        now = at;
        let failure = match event {
            Event::Send { job, failed } => {
                let tag = job.to_string();
                let event = match provider.arrive(now, &jobs.arrival(job, &tag)) {
                    Decision::Reject(rejected) => (now + rejected.after, Event::Refused { job, failed }),
                    Decision::Reset => (now, Event::Refused { job, failed }),
                    Decision::Admit(admission) => {
                        let id = admission.id;
                        match admission.plan.ends_at() {
                            Some(after) => {
                                let whole = admission.plan.end == End::Complete;
                                (now + after, Event::Ended { job, failed, id, whole })
                            }
                            None => {
                                let last = admission.plan.chunk_at(admission.plan.delivered.saturating_sub(1));
                                (now + last + client.stall_timeout, Event::GaveUp { job, failed, id })
                            }
                        }
                    }
                };
                events.push(Reverse(event));
                continue;
            }
            Event::Ended { job, id, whole: true, .. } => {
                provider.finish(now, id);
                done.count(job, now);
                None
            }
            Event::Ended { job, failed, id, whole: false } => {
                provider.finish(now, id);
                Some((job, failed + 1))
            }
            Event::GaveUp { job, failed, id } => {
                provider.disconnect(now, id);
                Some((job, failed + 1))
            }
            Event::Refused { job, failed } => Some((job, failed + 1)),
        };
        match failure {
            Some((job, failed)) if failed < client.attempts => {
                let at = now + client.backoff(failed, &mut rng);
                events.push(Reverse((at, Event::Send { job, failed })));
            }
            // Answered or lost: the worker takes the next job.
            _ if next_job < jobs.count => {
                events.push(Reverse((now, Event::Send { job: next_job, failed: 0 })));
                next_job += 1;
            }
            _ => {}
        }
    }
    Ok(done.report(jobs, provider.tally(now)))
}

#[derive(Default)]
struct Done {
    completed: usize,
    last: Timestamp,
    /// When each job was answered.
    at: Vec<Option<Duration>>,
}

impl Done {
    fn count(&mut self, job: usize, at: Timestamp) {
        self.completed += 1;
        self.last = self.last.max(at);
        if let Some(answered) = self.at.get_mut(job) {
            *answered = Some(at - Timestamp::ZERO);
        }
    }

    fn report(self, jobs: &Jobs, tally: Tally) -> Report {
        Report {
            completed: self.completed,
            lost: jobs.count.saturating_sub(self.completed),
            makespan: self.last - Timestamp::ZERO,
            tally,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{Balance, Faults, Punish, Rate, Refill, Window};
    use super::*;

    fn secs(report: &Report) -> f64 {
        report.makespan.as_secs_f64()
    }

    #[test]
    fn the_oracle_fills_a_constant_cap() {
        let scenario = Scenario::constant(4).with_service_time(2.0);
        let report = knowing(&scenario, 1, &Jobs::new(10)).unwrap();
        // Three rounds of four slots.
        assert_eq!((report.completed, report.lost, secs(&report)), (10, 0, 6.0));
        assert_eq!((report.tally.rejected_total(), report.tally.lanes[0].peak_in_flight), (0, 4));
        assert_eq!(report.tally.lanes[0].offered, 24.0);
        assert_eq!(report.tally.lanes[0].used, 20.0);
    }

    #[test]
    fn the_oracle_uses_a_slot_the_moment_the_cap_rises() {
        let scenario = Scenario::steps(&[(0.0, 1), (5.0, 3)], None).with_service_time(10.0);
        let report = knowing(&scenario, 1, &Jobs::new(3)).unwrap();
        assert_eq!((report.completed, secs(&report)), (3, 15.0));
    }

    #[test]
    fn who_does_not_know_the_future_finds_a_rise_by_the_next_probe() {
        let scenario = Scenario::steps(&[(0.0, 1), (5.0, 3)], None).with_service_time(10.0);
        let setup = Setup { round_trip: Duration::from_secs(1), losses: true, ..Setup::clients(1) };
        let play = |causal| causal_calls(&scenario, 1, &setup, &Job::batch(4), causal).unwrap();
        // Probes at 1 and 3 s are refused, the one at 5 s is let in, which is heard a second later; those at 7 and 9 s
        // are refused again.
        let played = play(Causal::Probing { every: Duration::from_secs(2), highest: 9 });
        let answered: Vec<_> = played.answered.iter().flatten().map(Duration::as_secs).collect();
        assert_eq!((answered, played.tally.slot_rejections()), (vec![11, 16, 17, 22], 4));
        let losses = played.losses.unwrap();
        // One place for a second, and those of the answers under way.
        assert_eq!((losses[Cause::Unnoticed], losses[Cause::Network], losses.used), (1.0, 4.0, 40.0));
        // None of that where it knows that the cap is never higher.
        let played = play(Causal::Probing { every: Duration::from_secs(2), highest: 1 });
        assert_eq!((played.tally.slot_rejections(), played.makespan.as_secs()), (0, 44));
    }

    #[test]
    fn who_must_exceed_the_cap_once_is_punished_once() {
        let mut scenario = Scenario::constant(4).with_service_time(2.0);
        scenario.punish = Some(Punish::default());
        let setup = Setup { round_trip: Duration::ZERO, losses: true, ..Setup::clients(1) };
        let played = causal_calls(&scenario, 1, &setup, &Job::batch(100), Causal::ExceedingOnce).unwrap();
        assert_eq!(played.tally.slot_rejections(), 1);
        // Three of four places, for eight seconds less the two in which they were still taken.
        assert_eq!(played.losses.unwrap()[Cause::Cut], 18.0);
    }

    #[test]
    fn given_service_times_are_kept() {
        let service = [3.0, 1.0, 1.0].map(Duration::from_secs_f64).to_vec();
        let report = knowing(&Scenario::constant(2), 1, &Jobs::with_service_times(service)).unwrap();
        assert_eq!(secs(&report), 3.0);
    }

    #[test]
    fn the_oracle_waits_out_an_outage_and_a_rate_limit() {
        let mut scenario = Scenario::constant(8).with_service_time(1.0);
        scenario.windows.push(Window::new(503, 0.0, 7.0));
        assert_eq!(secs(&knowing(&scenario, 1, &Jobs::new(8)).unwrap()), 8.0);
        scenario.windows.clear();
        scenario.rate = Rate { rpm: Some(5), ..Rate::default() };
        let report = knowing(&scenario, 1, &Jobs::new(11)).unwrap();
        assert_eq!((secs(&report), report.tally.rejected_total()), (121.0, 0));
        // Five at once, and six more at twelve seconds each.
        scenario.rate.refill = Refill::Bucket;
        let report = knowing(&scenario, 1, &Jobs::new(11)).unwrap();
        assert_eq!((secs(&report).round(), report.tally.rejected_total()), (73.0, 0));
    }

    #[test]
    fn the_oracle_repeats_what_a_fault_struck() {
        let mut scenario = Scenario::constant(8).with_service_time(1.0);
        scenario.faults = Faults { cut: 0.2, stall: 0.1, reset: 0.1, ..Faults::default() };
        let report = knowing(&scenario, 1, &Jobs::new(200)).unwrap();
        assert_eq!((report.completed, report.lost), (200, 0));
        assert_eq!((report.tally.distinct_completed, report.tally.duplicates.len()), (200, 0));
        assert!(report.tally.faulted[&End::Cut] > 0);
    }

    #[test]
    fn the_oracle_stops_where_nothing_can_be_done() {
        let mut scenario = Scenario::constant(8).with_service_time(1.0);
        scenario.balance = Some(Balance {
            amount: 1.0,
            cost_per_request: 0.25,
            cost_per_million_tokens: 0.0,
            tiers: Vec::new(),
            ..Balance::default()
        });
        let report = knowing(&scenario, 1, &Jobs::new(50)).unwrap();
        // Four would have emptied the balance, but all eight in flight end.
        assert_eq!((report.completed, report.lost), (8, 42));
        assert_eq!(knowing(&Scenario::constant(0), 1, &Jobs::new(3)).unwrap().lost, 3);
        let mut stalling = Scenario::constant(8);
        stalling.faults.stall = 1.0;
        assert_eq!(knowing(&stalling, 1, &Jobs::new(3)).unwrap().lost, 3);
        let blinking = Scenario::steps(&[(0.0, 0), (50.0, 0)], Some(100.0));
        assert_eq!(knowing(&blinking, 1, &Jobs::new(3)).unwrap().lost, 3);
    }

    #[test]
    fn calls_of_all_kinds_are_served_as_soon_as_they_can_be_the_urgent_first() {
        let mut scenario = Scenario::constant(1).with_service_time(2.0);
        scenario.models.insert("other".to_owned(), 1.into());
        let setup = Setup { round_trip: Duration::ZERO, ..Setup::clients(2) };
        let background = Job { workload: "background", ..Job::default() };
        let jobs = [
            background.clone(),
            background.clone(),
            Job { at: Duration::from_secs(1), workload: "interactive", client: 1, ..Job::default() },
            Job { model: "other", ..background.clone() },
            Job { at: Duration::from_secs(9), ..background },
        ];
        let played = knowing_calls(&scenario, 1, &setup, &jobs).unwrap();
        let answered: Vec<_> = played.answered.iter().flatten().map(Duration::as_secs).collect();
        assert_eq!(answered, [2, 6, 4, 2, 11]);
        assert_eq!(played.waits["interactive"], [Duration::from_secs(1)]);
        assert_eq!((played.completed, played.tally.rejected_total()), (5, 0));
    }

    #[test]
    fn lines_as_urgent_as_each_other_take_turns() {
        let mut scenario = Scenario::constant(2).with_service_time(1.0);
        scenario.user_cap = Some(1);
        let setup = Setup { horizon: Duration::from_secs(10), round_trip: Duration::ZERO, ..Setup::clients(1) };
        let user = |n: usize| ["one", "one", "one", "two", "three"][n % 5];
        let jobs: Vec<_> = (0..200).map(|n| Job { user_id: Some(user(n)), ..Job::default() }).collect();
        let played = knowing_calls(&scenario, 1, &setup, &jobs).unwrap();
        let done =
            |of| jobs.iter().zip(&played.answered).filter(|(j, at)| j.user_id == Some(of) && at.is_some()).count();
        let shares = ["one", "two", "three"].map(done);
        assert_eq!(shares.iter().sum::<usize>(), 20);
        assert!(shares.iter().all(|share| (6..=7).contains(share)), "{shares:?}");
    }

    #[test]
    fn a_fixed_client_below_the_cap_wastes_it_and_above_it_loses_jobs() {
        let scenario = Scenario::constant(32).with_service_time(2.0);
        let jobs = Jobs::new(400);
        let oracle = knowing(&scenario, 3, &jobs).unwrap();
        let small = fixed(&scenario, 3, &jobs, &FixedClient::new(4)).unwrap();
        let large = fixed(&scenario, 3, &jobs, &FixedClient::new(400)).unwrap();
        assert_eq!((small.completed, secs(&small), secs(&oracle)), (400, 200.0, 26.0));
        assert!(large.lost > 0 && large.completed + large.lost == 400, "{large:?}");
        assert!(large.tally.slot_rejections() > 1000, "{}", large.tally.slot_rejections());
        // The same work for everyone: nothing is admitted that the cap does not allow.
        assert_eq!(large.tally.lanes[0].peak_in_flight, 32);
    }

    #[test]
    fn runs_are_the_same_for_the_same_seed() {
        let mut scenario = Scenario::preset("hard-day").unwrap();
        scenario.punish = Some(Punish::default());
        let run = |seed| fixed(&scenario, seed, &Jobs::new(150), &FixedClient::new(40)).unwrap();
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }

    #[test]
    fn every_preset_can_be_finished_by_the_oracle() {
        for name in Scenario::preset_names() {
            let report = knowing(&Scenario::preset(name).unwrap(), 2, &Jobs::new(300)).unwrap();
            assert_eq!((report.completed, report.lost), (300, 0), "{name}");
        }
    }
}
