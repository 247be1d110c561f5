//! What people limit requests with, as clients of the simulated provider: each a small machine that follows its published
//! rule, its constants from the sources named in its file.

pub(crate) mod aws;
pub(crate) mod cubic;
pub(crate) mod engine;
pub(crate) mod fixed;
pub(crate) mod netflix;
pub(crate) mod vector;

use tidegate::core::time::Timestamp;
use tidegate::sim::play::{Act, Client, Gate, Heard, Job, Setup};

use self::engine::{Engine, Policy};

/// What a client may know when it is made.
#[derive(Clone, Copy)]
pub(crate) struct Brief<'a> {
    /// The run, with the configuration of gates.
    pub(crate) setup: &'a Setup,
    /// Which of its clients this is.
    pub(crate) client: usize,
    /// The concurrency that is right on average, for this client alone: what a user can know at best.
    pub(crate) right: usize,
    /// For its randomness.
    pub(crate) seed: u64,
}

impl Brief<'_> {
    fn engine<P: Policy + 'static>(&self, policy: P) -> Box<dyn Client> {
        Box::new(Engine::new(policy, self.seed.wrapping_mul(31).wrapping_add(self.client as u64)))
    }

    fn fixed(&self, concurrency: usize) -> Box<dyn Client> {
        self.engine(fixed::Fixed { concurrency: concurrency.max(1) })
    }
}

/// A way to limit requests.
pub(crate) struct Peer {
    /// What `--peer` takes and the table's head shows.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) about: &'static str,
    make: fn(Brief<'_>) -> Box<dyn Client>,
    /// It knows models itself; of others each model has its own.
    knows_models: bool,
}

/// The one it is all about.
pub(crate) const TIDEGATE: &str = "tide";

/// All of them, Tidegate first.
pub(crate) const PEERS: [Peer; 13] = [
    Peer { knows_models: true, ..peer(TIDEGATE, "Tidegate, with no configuration", gate) },
    peer("fix3", "3 at once, six attempts: the guides' recipe", |b| b.fixed(3)),
    peer("right", "the average cap at once, six attempts: knowing as much as can be known", |b| b.fixed(b.right)),
    peer("twice", "twice the average cap at once, six attempts", |b| b.fixed(2 * b.right)),
    peer("oai", "openai: all at once, two retries", |b| b.engine(fixed::OpenAi)),
    peer("pq10", "p-queue with concurrency 10 around p-retry", |b| b.engine(fixed::PQueue { concurrency: 10 })),
    peer("pqN", "p-queue with the average cap around p-retry", |b| {
        b.engine(fixed::PQueue { concurrency: b.right.max(1) })
    }),
    peer("aimd", "Netflix concurrency-limits, AIMD", |b| {
        b.engine(netflix::Netflix::new(netflix::Aimd::new(), netflix::Aimd::INITIAL, b.seed))
    }),
    peer("grad2", "Netflix concurrency-limits, Gradient2", |b| {
        b.engine(netflix::Netflix::new(netflix::Gradient2::new(), netflix::Gradient2::INITIAL, b.seed))
    }),
    peer("vegas", "Netflix concurrency-limits, Vegas", |b| {
        b.engine(netflix::Netflix::new(netflix::Vegas::new(), netflix::Vegas::INITIAL, b.seed))
    }),
    peer("arc", "Vector's Adaptive Request Concurrency", |b| b.engine(vector::Arc::new())),
    peer("aws", "AWS adaptive retry mode (botocore)", |b| b.engine(aws::AwsAdaptive::new())),
    peer("cubic", "TCP CUBIC (RFC 9438), a 429 being a loss", |b| b.engine(cubic::Cubic::new())),
];

const fn peer(name: &'static str, about: &'static str, make: fn(Brief<'_>) -> Box<dyn Client>) -> Peer {
    Peer { name, about, make, knows_models: false }
}

fn gate(brief: Brief<'_>) -> Box<dyn Client> {
    Box::new(Gate::new(brief.setup, brief.client, brief.seed).expect("the lab's configurations make sense"))
}

impl Peer {
    /// One client of this kind for work on `models`.
    pub(crate) fn client(&self, brief: Brief<'_>, models: &[&'static str]) -> Box<dyn Client> {
        if self.knows_models || models.len() < 2 {
            return (self.make)(brief);
        }
        let right = brief.right.div_ceil(models.len());
        let each = models.iter().map(|&model| (model, (self.make)(Brief { right, ..brief }))).collect();
        Box::new(PerModel { each, model_of: Vec::new() })
    }
}

/// One client for each model: what users of a limiter do who know that limits are by model.
struct PerModel {
    each: Vec<(&'static str, Box<dyn Client>)>,
    /// By number of the call.
    model_of: Vec<usize>,
}

impl Client for PerModel {
    fn submit(&mut self, now: Timestamp, number: usize, job: &Job) {
        let model = self.each.iter().position(|(model, _)| *model == job.model).unwrap_or(0);
        if self.model_of.len() <= number {
            self.model_of.resize(number + 1, 0);
        }
        self.model_of[number] = model;
        self.each[model].1.submit(now, number, job);
    }

    fn cancel(&mut self, now: Timestamp, number: usize) -> bool {
        self.each[self.model_of[number]].1.cancel(now, number)
    }

    fn on(&mut self, now: Timestamp, number: usize, attempt: u32, heard: Heard<'_>) {
        self.each[self.model_of[number]].1.on(now, number, attempt, heard);
    }

    fn poll(&mut self, now: Timestamp) -> Option<Act> {
        self.each.iter_mut().find_map(|(_, client)| client.poll(now))
    }

    fn next_wake(&self) -> Option<Timestamp> {
        self.each.iter().filter_map(|(_, client)| client.next_wake()).min()
    }
}
