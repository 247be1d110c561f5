//! A bare provider and its clients on a virtual clock: an event heap, no sockets, the same each run.
//!
//! The provider has a cap that moves by a schedule, refuses at once (or late) what exceeds it, and may state its
//! numbers in the body, answer 503 for a while, or punish an excess. Clients share one backlog and hold a [`Ceiling`]
//! each; the oracle holds the schedule itself instead.
#![allow(dead_code, unreachable_pub)] // Each test binary uses a part of this module.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use tidegate::core::limit::{Admission, Ceiling, Evidence, Params, Seq, View};
use tidegate::core::outcome::Told;
use tidegate::core::time::Timestamp;

/// A piecewise constant cap: from each moment (in seconds) on, so many.
#[derive(Clone, Debug)]
pub struct Schedule(Vec<(f64, u32)>);

impl Schedule {
    /// The pieces must be in order and start at 0.
    pub fn new(pieces: impl IntoIterator<Item = (f64, u32)>) -> Self {
        let pieces: Vec<_> = pieces.into_iter().collect();
        assert_eq!(pieces.first().map(|piece| piece.0), Some(0.0));
        assert!(pieces.windows(2).all(|pair| pair[0].0 < pair[1].0));
        Self(pieces)
    }

    pub fn constant(cap: u32) -> Self {
        Self::new([(0.0, cap)])
    }

    pub fn at(&self, time: f64) -> u32 {
        let after = self.0.partition_point(|piece| piece.0 <= time);
        self.0[after.saturating_sub(1)].1
    }

    fn next_change(&self, time: f64) -> Option<f64> {
        self.0.get(self.0.partition_point(|piece| piece.0 <= time)).map(|piece| piece.0)
    }
}

/// An excess multiplies the cap by `share` for `seconds`; a further excess starts them anew.
#[derive(Clone, Copy, Debug)]
pub struct Penalty {
    pub share: f64,
    pub seconds: f64,
    /// From then on, an excess is no longer punished.
    pub until: f64,
}

impl Penalty {
    /// A quarter of the cap for 8 s.
    pub const QUARTER: Self = Self { share: 0.25, seconds: 8.0, until: f64::INFINITY };
}

#[derive(Clone, Debug)]
pub struct Provider {
    pub cap: Schedule,
    /// Every request in these intervals is answered 503.
    pub outages: Vec<(f64, f64)>,
    /// Seconds a 429 is held back.
    pub rejection_delay: f64,
    /// A request that meets a full house waits that long for a slot before it is refused.
    pub waits: bool,
    /// 429 bodies state the account's numbers.
    pub bodies: bool,
    /// Seconds from admission to the head of the answer; `None`: it comes with the end.
    pub headers: Option<f64>,
    pub penalty: Option<Penalty>,
    /// Round trip in seconds.
    pub round_trip: f64,
    /// Seconds a request runs: log-normal around this median, between a sixth of it and 20 sixths.
    pub median: f64,
    /// Seconds until the server notices a cancelled request.
    pub cancel_delay: f64,
    /// Seconds an answered request is still counted.
    pub release_lag: f64,
}

impl Provider {
    pub fn new(cap: Schedule) -> Self {
        Self {
            cap,
            outages: Vec::new(),
            rejection_delay: 0.03,
            waits: false,
            bodies: false,
            headers: None,
            penalty: None,
            round_trip: 0.05,
            median: 6.0,
            cancel_delay: 0.5,
            release_lag: 0.0,
        }
    }

    /// Mean seconds a request runs, estimated from the distribution itself.
    pub fn mean_service(&self) -> f64 {
        let mut rng = fastrand::Rng::with_seed(1);
        (0..20_000).map(|_| self.service(&mut rng)).sum::<f64>() / 20_000.0
    }

    fn service(&self, rng: &mut fastrand::Rng) -> f64 {
        let normal = (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos();
        (self.median * (0.6 * normal).exp()).clamp(self.median / 6.0, self.median * 20.0 / 6.0)
    }

    fn is_out(&self, time: f64) -> bool {
        self.outages.iter().any(|&(from, to)| (from..to).contains(&time))
    }
}

#[derive(Clone, Debug)]
pub struct Load {
    pub jobs: u32,
    pub clients: u32,
    /// Share of attempts that the client gives up after a few seconds, and starts anew.
    pub cancelled: f64,
    pub params: Params,
    /// Each client has its own equal part of the jobs, instead of all taking from one backlog.
    pub own_jobs: bool,
}

impl Load {
    pub fn new(jobs: u32) -> Self {
        Self { jobs, clients: 1, cancelled: 0.0, params: Params::default(), own_jobs: false }
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Seconds until the last job was done.
    pub makespan: f64,
    pub attempts: u64,
    pub rejections: u64,
    pub outages: u64,
    pub cancelled: u64,
    /// The most the provider ever held at once.
    pub peak: u32,
    /// (seconds, cap, active at the server, sum of windows), once a second, if asked for.
    pub trace: Vec<(f64, u32, u32, u32)>,
    /// What the limits looked like at the end.
    pub views: Vec<View>,
}

impl Run {
    /// Share of attempts answered 429.
    pub fn rejected(&self) -> f64 {
        self.rejections as f64 / self.attempts.max(1) as f64
    }

    /// Share of attempts answered 503.
    pub fn unavailable(&self) -> f64 {
        self.outages as f64 / self.attempts.max(1) as f64
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(u32),
    /// The end of a wait for a slot.
    Decide(u32),
    Head(u32),
    Leave(u32),
    /// The place of an answered request is given back.
    Release,
    Done(u32),
    Rejected(u32, Option<(u32, u32)>),
    Unavailable(u32),
    GiveUp(u32),
    Wake(u32),
    Sample,
}

struct Attempt {
    client: u32,
    job: u32,
    seq: Option<Seq>,
    /// At the server.
    active: bool,
    /// The client no longer cares.
    cancelled: bool,
}

/// Runs `load` against `provider`; panics if it makes no progress in a virtual hour.
pub struct Simulation<'a> {
    provider: &'a Provider,
    load: &'a Load,
    now: u64,
    order: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    /// One for all, or one for each client.
    backlogs: Vec<VecDeque<u32>>,
    services: Vec<f64>,
    /// By number; `None` once over.
    attempts: Vec<Option<Attempt>>,
    active: u32,
    punished_until: f64,
    /// Empty: the oracle runs.
    limits: Vec<Ceiling>,
    wakes: Vec<u64>,
    in_flight: u32,
    done: u32,
    rng: fastrand::Rng,
    run: Run,
}

/// The limits' run.
pub fn run(provider: &Provider, load: &Load, seed: u64) -> Run {
    Simulation::new(provider, load, seed, fresh(load)).finish()
}

fn fresh(load: &Load) -> Vec<Ceiling> {
    (0..load.clients).map(|_| Ceiling::new(Timestamp::ZERO, load.params.clone())).collect()
}

/// The same with one limit that was prepared by the caller; it is handed back.
pub fn run_with(provider: &Provider, load: &Load, seed: u64, limit: Ceiling) -> (Run, Ceiling) {
    let mut simulation = Simulation::new(provider, load, seed, vec![limit]);
    simulation.go();
    let limit = simulation.limits.remove(0);
    (simulation.run, limit)
}

/// The same with a sample a second.
pub fn traced(provider: &Provider, load: &Load, seed: u64) -> Run {
    let mut simulation = Simulation::new(provider, load, seed, fresh(load));
    simulation.at(0.0, Event::Sample);
    simulation.finish()
}

/// One client that knows the schedule: over the same network it always has as many in flight as the cap allows, and
/// is never rejected.
pub fn oracle(provider: &Provider, load: &Load, seed: u64) -> Run {
    Simulation::new(provider, load, seed, Vec::new()).finish()
}

impl<'a> Simulation<'a> {
    fn new(provider: &'a Provider, load: &'a Load, seed: u64, limits: Vec<Ceiling>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let services = (0..load.jobs).map(|_| provider.service(&mut rng)).collect();
        let clients = limits.len().max(1);
        let mut simulation = Self {
            provider,
            load,
            now: 0,
            order: 0,
            events: BinaryHeap::new(),
            backlogs: {
                let parts = if load.own_jobs { clients as u32 } else { 1 };
                (0..parts).map(|part| (0..load.jobs).filter(|job| job % parts == part).collect()).collect()
            },
            services,
            attempts: Vec::new(),
            active: 0,
            punished_until: -1.0,
            limits,
            wakes: vec![u64::MAX; clients],
            in_flight: 0,
            done: 0,
            rng,
            run: Run::default(),
        };
        for client in 0..clients {
            simulation.wake(client as u32, 0);
        }
        simulation
    }

    fn backlog(&mut self, client: u32) -> &mut VecDeque<u32> {
        let parts = self.backlogs.len();
        &mut self.backlogs[client as usize % parts]
    }

    fn seconds(&self) -> f64 {
        self.now as f64 / 1e6
    }

    fn at(&mut self, seconds: f64, event: Event) {
        self.order += 1;
        self.events.push(Reverse(((seconds * 1e6).round() as u64, self.order, event)));
    }

    fn after(&mut self, seconds: f64, event: Event) {
        self.at(self.seconds() + seconds, event);
    }

    fn finish(mut self) -> Run {
        self.go();
        self.run.views = self.limits.iter().map(Ceiling::view).collect();
        self.run
    }

    fn go(&mut self) {
        let mut progress = (0, 0);
        while self.done < self.load.jobs {
            let Some(Reverse((time, _, event))) = self.events.pop() else {
                panic!("stuck at {} s: nothing will ever happen again", self.seconds())
            };
            self.now = self.now.max(time);
            self.happen(event);
            if self.done > progress.0 {
                progress = (self.done, self.now);
            }
            assert!(self.now - progress.1 < 3_600_000_000, "stuck at {} s: no job done in an hour", self.seconds());
        }
        self.run.makespan = self.seconds();
    }

    fn cap(&self) -> u32 {
        let cap = self.provider.cap.at(self.seconds());
        match self.provider.penalty {
            Some(penalty) if self.seconds() < self.punished_until => ((f64::from(cap) * penalty.share) as u32).max(1),
            _ => cap,
        }
    }

    fn happen(&mut self, event: Event) {
        let one_way = self.provider.round_trip / 2.0;
        match event {
            Event::Sample => {
                let windows = self.limits.iter().map(|limit| limit.view().window).sum();
                self.run.trace.push((self.seconds(), self.cap(), self.active, windows));
                self.after(1.0, Event::Sample);
            }
            Event::Wake(client) => {
                if self.wakes[client as usize] == self.now {
                    self.wakes[client as usize] = u64::MAX;
                    self.pump(client);
                }
            }
            Event::Arrive(id) => self.arrive(id, one_way, self.provider.waits),
            Event::Decide(id) => self.arrive(id, one_way, false),
            Event::Head(id) => {
                if let Some((client, seq)) = self.live(id) {
                    self.limits[client as usize].on_admitted(Timestamp::from_micros(self.now), seq, Evidence::Headers);
                    self.pump(client);
                }
            }
            Event::Leave(id) => {
                if let Some(attempt) = self.attempts[id as usize].as_mut()
                    && std::mem::take(&mut attempt.active)
                {
                    let lag = if attempt.cancelled { 0.0 } else { self.provider.release_lag };
                    // The oracle hears of an answer when it can use its place.
                    let oracle = self.limits.is_empty();
                    if oracle || lag == 0.0 {
                        self.active -= 1;
                    } else {
                        self.after(lag, Event::Release);
                    }
                    if self.attempts[id as usize].as_ref().is_some_and(|attempt| attempt.cancelled) {
                        self.attempts[id as usize] = None;
                    } else {
                        let told = if oracle { one_way.max(lag - one_way) } else { one_way };
                        self.after(told, Event::Done(id));
                    }
                }
            }
            Event::Release => self.active -= 1,
            Event::Done(id) => self.end(id, |simulation, attempt| {
                simulation.done += 1;
                if let Some(seq) = attempt.seq {
                    simulation.limits[attempt.client as usize].on_done(Timestamp::from_micros(simulation.now), seq);
                }
            }),
            Event::Rejected(id, numbers) => self.end(id, |simulation, attempt| {
                simulation.run.rejections += 1;
                simulation.backlog(attempt.client).push_front(attempt.job);
                let told = numbers.map(|(current, limit)| Told { current, limit });
                if let Some(seq) = attempt.seq {
                    simulation.limits[attempt.client as usize].on_slot_rejected(
                        Timestamp::from_micros(simulation.now),
                        seq,
                        told,
                        None,
                        &mut simulation.rng,
                    );
                }
            }),
            Event::Unavailable(id) => self.end(id, |simulation, attempt| {
                simulation.run.outages += 1;
                simulation.backlog(attempt.client).push_front(attempt.job);
                if let Some(seq) = attempt.seq {
                    simulation.limits[attempt.client as usize].on_unavailable(
                        Timestamp::from_micros(simulation.now),
                        seq,
                        None,
                        &mut simulation.rng,
                    );
                }
            }),
            Event::GiveUp(id) => self.give_up(id, one_way),
        }
    }

    fn arrive(&mut self, id: u32, one_way: f64, may_wait: bool) {
        let (now, cap) = (self.seconds(), self.cap());
        let Some(attempt) = self.attempts[id as usize].as_mut() else { return };
        if attempt.cancelled {
            self.attempts[id as usize] = None;
        } else if self.provider.is_out(now) {
            self.after(0.2 + one_way, Event::Unavailable(id));
        } else if self.active >= cap && may_wait {
            self.after(self.provider.rejection_delay, Event::Decide(id));
        } else if self.active >= cap {
            let numbers = self.provider.bodies.then_some((self.active + 1, cap));
            if let Some(penalty) = self.provider.penalty.filter(|penalty| now < penalty.until) {
                self.punished_until = now + penalty.seconds;
            }
            let delay = if self.provider.waits { 0.0 } else { self.provider.rejection_delay };
            self.after(delay + one_way, Event::Rejected(id, numbers));
        } else {
            attempt.active = true;
            let service = self.services[attempt.job as usize];
            self.active += 1;
            self.run.peak = self.run.peak.max(self.active);
            if let Some(head) = self.provider.headers.filter(|&head| head < service) {
                self.after(head + one_way, Event::Head(id));
            }
            self.after(service, Event::Leave(id));
        }
    }

    fn give_up(&mut self, id: u32, one_way: f64) {
        let Some((client, seq)) = self.live(id) else { return };
        self.run.cancelled += 1;
        let Some(attempt) = self.attempts[id as usize].as_mut() else { return };
        attempt.cancelled = true;
        let job = attempt.job;
        self.backlog(client).push_back(job);
        self.in_flight -= 1;
        self.limits[client as usize].on_cancelled(Timestamp::from_micros(self.now), seq);
        self.after(one_way + self.provider.cancel_delay, Event::Leave(id));
        self.pump(client);
    }

    fn live(&self, id: u32) -> Option<(u32, Seq)> {
        let attempt = self.attempts[id as usize].as_ref().filter(|attempt| !attempt.cancelled)?;
        Some((attempt.client, attempt.seq?))
    }

    fn end(&mut self, id: u32, tell: impl FnOnce(&mut Self, &Attempt)) {
        let Some(attempt) = self.attempts[id as usize].take() else { return };
        if attempt.cancelled {
            return;
        }
        self.in_flight -= 1;
        tell(self, &attempt);
        self.pump(attempt.client);
    }

    fn wake(&mut self, client: u32, at: u64) {
        if at < self.wakes[client as usize] {
            self.wakes[client as usize] = at;
            self.order += 1;
            self.events.push(Reverse((at, self.order, Event::Wake(client))));
        }
    }

    fn pump(&mut self, client: u32) {
        if self.limits.is_empty() {
            return self.pump_oracle();
        }
        let now = Timestamp::from_micros(self.now);
        while let Some(&job) = self.backlog(client).front() {
            if self.limits[client as usize].admission(now, &mut self.rng) == Admission::No {
                break;
            }
            self.backlog(client).pop_front();
            let seq = self.limits[client as usize].on_send(now);
            self.send(client, job, Some(seq));
        }
        let demand = !self.backlog(client).is_empty();
        if let Some(at) = self.limits[client as usize].next_wake(now, demand) {
            assert!(at > now, "a wake in the past");
            self.wake(client, at.as_micros());
        }
    }

    fn pump_oracle(&mut self) {
        let arrival = self.seconds() + self.provider.round_trip / 2.0;
        while self.in_flight < self.provider.cap.at(arrival) && !self.provider.is_out(arrival) {
            let Some(job) = self.backlogs.iter_mut().find_map(VecDeque::pop_front) else { return };
            self.send(0, job, None);
        }
        let reopening = self.provider.outages.iter().filter(|outage| outage.1 > arrival).map(|outage| outage.1);
        let change = self.provider.cap.next_change(arrival).into_iter().chain(reopening).fold(f64::INFINITY, f64::min);
        if change.is_finite() {
            let at = ((change - self.provider.round_trip / 2.0) * 1e6).ceil() as u64;
            self.wake(0, at.max(self.now + 1));
        }
    }

    fn send(&mut self, client: u32, job: u32, seq: Option<Seq>) {
        let id = self.attempts.len() as u32;
        self.run.attempts += 1;
        self.in_flight += 1;
        self.attempts.push(Some(Attempt { client, job, seq, active: false, cancelled: false }));
        self.after(self.provider.round_trip / 2.0, Event::Arrive(id));
        if seq.is_some() && self.load.cancelled > 0.0 && self.rng.f64() < self.load.cancelled {
            let patience = 0.2 + 4.0 * self.rng.f64();
            self.after(patience, Event::GiveUp(id));
        }
    }
}
