//! The scenarios: what the provider does, what work there is, and by what it is measured.
//!
//! Unless said otherwise requests run about 6 s (log-normal, at most 20 s), the round trip is 40 ms, a 429 has no numbers
//! in its body and asks for no wait, the cap is one that nobody published, and the work is one batch, all submitted at the
//! start.

use std::time::Duration;

use tidegate::core::queue::Class;
use tidegate::core::route::RouteSpec;
use tidegate::core::scheduler::{Config, WorkloadSpec};
use tidegate::sim::Scenario;
use tidegate::sim::play::{Job, Setup};
use tidegate::sim::scenario::{
    Balance, BodyStyle, Cap, Dist, Lognormal, Punish, Rate, Refill, Rejection, RetryAfter, RetryAfterForm, Sawtooth,
    Steps, Walk, Window,
};

/// What goodput is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Jobs answered over the time it took, for a batch.
    Batch,
    /// Calls answered until the horizon, for work that never ends.
    Work,
    /// Time from submission to answer, on average: for work that comes over time. Lost jobs count against it.
    Answer,
}

/// Among whom work should be shared evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    Nobody,
    Clients,
    Workloads,
    Users,
}

/// How much may be rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The cap stands still: at most 1 %.
    Steady,
    /// The cap moves: at most 3 %.
    Moving,
    /// What is refused is mostly chance: no more can be asked than that the rest is not.
    Chance,
}

/// One scenario.
pub(crate) struct Case {
    /// What `--scenario` takes and files are named.
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) kind: Kind,
    pub(crate) measure: Measure,
    pub(crate) share: Share,
    pub(crate) scenario: Scenario,
    pub(crate) setup: Setup,
    /// The work, by seed.
    pub(crate) jobs: fn(u64) -> Vec<Job>,
    /// What Tidegate knows at the start it learned from this scenario before.
    pub(crate) learned_on: Option<Scenario>,
    /// Counts the time from cold to 90 % of the cap.
    pub(crate) cold: bool,
    /// People wait for their answers while background work fills every slot.
    pub(crate) people: bool,
}

/// Tuned on the first; the others are held out.
pub(crate) const SEEDS: [u64; 3] = [1, 4201, 4202];

fn scenario(cap: Cap) -> Scenario {
    let time = Dist::Lognormal(Lognormal { median: 5.0, sigma: 0.6, max: Some(20.0) });
    let rejection = Rejection { body: BodyStyle::Plain, ..Rejection::default() };
    Scenario { cap: Some(cap), rejection, ..Scenario::default() }.with_service_time(time)
}

fn constant(cap: u32) -> Scenario {
    scenario(Cap::Constant(cap))
}

fn steps(points: &[(f64, u32)], repeat: Option<f64>) -> Scenario {
    scenario(Cap::Steps(Steps { points: points.to_vec(), repeat }))
}

/// 64 ↔ 16, two minutes each.
fn step() -> Scenario {
    steps(&[(0.0, 64), (120.0, 16)], Some(240.0))
}

/// Seven levels, about a minute each.
fn moving() -> Scenario {
    let points = [(0.0, 48), (60.0, 16), (130.0, 80), (210.0, 36), (280.0, 64), (350.0, 12), (410.0, 48)];
    steps(&points, Some(480.0))
}

fn sawtooth() -> Scenario {
    scenario(Cap::Sawtooth(Sawtooth { low: 16, high: 64, period: 60.0, falling: false }))
}

fn walk(every: f64, spread: f64) -> Scenario {
    scenario(Cap::Walk(Walk { start: 64, low: 16, high: 256, every, spread }))
}

fn late(scenario: Scenario) -> Scenario {
    Scenario { rejection: Rejection { latency: 2.0, ..scenario.rejection }, ..scenario }
}

fn with_numbers(scenario: Scenario) -> Scenario {
    Scenario { rejection: Rejection { body: BodyStyle::DeepseekBalance, ..scenario.rejection }, ..scenario }
}

/// A share of the requests is refused with a 429 that has nothing to do with how many are in flight.
fn random(scenario: Scenario, share: f64) -> Scenario {
    let window =
        Window { to: None, probability: share, latency: scenario.rejection.latency, ..Window::new(429, 0.0, 0.0) };
    Scenario { windows: vec![window], ..scenario }
}

fn asking(scenario: Scenario, seconds: f64) -> Scenario {
    let retry_after = RetryAfter { form: RetryAfterForm::Seconds, seconds };
    Scenario { rejection: Rejection { retry_after, ..scenario.rejection }, ..scenario }
}

fn punishing() -> Scenario {
    Scenario { punish: Some(Punish::default()), ..constant(64) }
}

fn outages() -> Scenario {
    let windows = (0..40).map(|n| 120.0 * f64::from(n)).map(|at| Window::new(503, 60.0 + at, 75.0 + at)).collect();
    Scenario { windows, ..constant(64) }
}

/// The cap falls with the balance, 39, 25, 17, 7, 5, and with the last cent comes 402.
fn balance() -> Scenario {
    let balance = Balance {
        amount: 2.0,
        cost_per_request: 0.001,
        cost_per_million_tokens: 0.0,
        tiers: vec![(2.5, 39), (1.5, 25), (1.0, 17), (0.5, 7), (0.25, 5)],
        ..Balance::default()
    };
    Scenario { balance: Some(balance), ..constant(500) }
}

fn paced(scenario: Scenario, rpm: Option<u32>, tpm: Option<u64>) -> Scenario {
    Scenario { rate: Rate { rpm, tpm, ..Rate::default() }, ..scenario }
}

/// The same, but what was spent comes back in another way than a minute later.
fn refilled(scenario: Scenario, refill: Refill) -> Scenario {
    Scenario { rate: Rate { refill, ..scenario.rate }, ..scenario }
}

/// The same, but no header says anything of it, only the words of a 429.
fn hidden(scenario: Scenario) -> Scenario {
    let rejection = Rejection { body: BodyStyle::Siliconflow, ..scenario.rejection };
    Scenario { rate: Rate { hidden: true, ..scenario.rate }, rejection, ..scenario }
}

fn rpm() -> Scenario {
    paced(constant(2500), Some(600), None)
}

fn tpm() -> Scenario {
    paced(constant(2500), None, Some(120_000))
}

fn rpm_and_cap() -> Scenario {
    paced(constant(48), Some(400), None)
}

fn hinted(hint: u32) -> Setup {
    let route = RouteSpec::new("deepseek", "account");
    let mut model = route.clone().with_deepseek_models().models.remove(0);
    model.hint = Some(hint);
    with_route(RouteSpec { models: vec![model], ..route })
}

/// DeepSeek's own caps are published, and so are hints by default; those of other providers are not.
fn deepseek() -> Setup {
    with_route(RouteSpec::new("deepseek", "account").with_deepseek_models())
}

fn with_route(route: RouteSpec) -> Setup {
    let config = Config { max_queued: usize::MAX, ..Config::new(vec![route]) };
    Setup { clients: vec![config], ..Setup::clients(1) }
}

const USERS: [&str; 12] = ["ann", "ben", "cem", "dan", "eva", "fay", "gus", "hal", "ida", "jon", "kim", "lee"];

/// A uniform number for the `n`-th draw of a run.
fn draws(seed: u64, kind: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ kind)
}

/// A day in twenty minutes, two of them: requests come at random at a rate between 1 and 14 a second, and the cap serves
/// 11.
fn diurnal(seed: u64) -> Vec<Job> {
    let mut rng = draws(seed, 1);
    let (mut at, mut jobs) = (0.0, Vec::new());
    while at < 2400.0 {
        // Thinning: candidates at the highest rate, each kept with the share of the present one.
        at += -(1.0 - rng.f64()).ln() / 14.0;
        let rate = 7.5 - 6.5 * (std::f64::consts::TAU * at / 1200.0).cos();
        if rng.f64() < rate / 14.0 {
            jobs.push(Job { at: Duration::from_secs_f64(at), ..Job::default() });
        }
    }
    jobs
}

/// Ten times 300 requests at once, two minutes apart: half of the time there is nothing to do.
fn bursts(_seed: u64) -> Vec<Job> {
    (0..3000).map(|n| Job { at: Duration::from_secs(120 * (n / 300)), ..Job::default() }).collect()
}

/// 97 of 100 take 50 ms, the others ten minutes.
fn mixed(seed: u64) -> Vec<Job> {
    let mut rng = draws(seed, 2);
    let service = |rng: &mut fastrand::Rng| if rng.f64() < 0.03 { 600.0 } else { 0.05 };
    (0..20_000).map(|_| Job { service: Some(Duration::from_secs_f64(service(&mut rng))), ..Job::default() }).collect()
}

/// More background work than can be done, and a person a second.
fn flood(_seed: u64) -> Vec<Job> {
    let background = (0..6000).map(|_| Job { workload: "background", ..Job::default() });
    let people = (30..500).map(|at| Job { at: Duration::from_secs(at), workload: "interactive", ..Job::default() });
    background.chain(people).collect()
}

fn impatient(_seed: u64) -> Vec<Job> {
    let patience = |n: u64| (n.is_multiple_of(5)).then(|| Duration::from_millis(100 * n));
    (0..6000).map(|n| Job { patience: patience(n), ..Job::default() }).collect()
}

/// Three workloads on two models. The first has most to do, but none runs out.
fn models(_seed: u64) -> Vec<Job> {
    const WORKLOADS: [&str; 6] = ["chat", "rag", "eval", "chat", "chat", "chat"];
    const MODELS: [&str; 2] = ["deepseek-flash", "deepseek-v4-pro"];
    (0..30_000).map(|n| Job { workload: WORKLOADS[n / 2 % 6], model: MODELS[n % 2], ..Job::default() }).collect()
}

/// Twelve users, the first with ten times the work of any other.
fn users(_seed: u64) -> Vec<Job> {
    let user = |n: usize| USERS[(n % 21).saturating_sub(9)];
    (0..21_000).map(|n| Job { user_id: Some(user(n)), ..Job::default() }).collect()
}

fn split<const CLIENTS: usize, const JOBS: usize>(_seed: u64) -> Vec<Job> {
    (0..JOBS).map(|n| Job { client: n % CLIENTS, ..Job::default() }).collect()
}

fn batch<const JOBS: usize>(_seed: u64) -> Vec<Job> {
    Job::batch(JOBS)
}

fn case(name: &'static str, about: &'static str, kind: Kind, scenario: Scenario, jobs: fn(u64) -> Vec<Job>) -> Case {
    let setup = Setup { sample_every: Some(Duration::from_millis(500)), ..Setup::clients(1) };
    let (measure, share) = (Measure::Batch, Share::Nobody);
    Case { name, about, kind, measure, share, scenario, setup, jobs, learned_on: None, cold: false, people: false }
}

impl Case {
    /// Stopped after so many seconds; what counts is the work done by then.
    fn until(mut self, seconds: u64) -> Self {
        self.setup.horizon = Duration::from_secs(seconds);
        self.measure = Measure::Work;
        self
    }

    fn by_answers(self) -> Self {
        Self { measure: Measure::Answer, ..self }
    }

    fn among(self, share: Share) -> Self {
        Self { share, ..self }
    }

    fn with(self, setup: Setup) -> Self {
        let sample_every = self.setup.sample_every;
        Self { setup: Setup { sample_every, ..setup }, ..self }
    }

    fn starting_cold(mut self) -> Self {
        self.setup.sample_every = Some(Duration::from_millis(50));
        Self { cold: true, ..self }
    }

    fn with_people(self) -> Self {
        Self { people: true, ..self }
    }

    fn after(self, scenario: Scenario) -> Self {
        Self { learned_on: Some(scenario), ..self }
    }
}

/// Every scenario.
pub(crate) fn cases() -> Vec<Case> {
    use Kind::{Chance, Moving, Steady};
    let dip = || steps(&[(0.0, 64), (60.0, 16), (120.0, 64)], None);
    let quick_step = steps(&[(0.0, 64), (60.0, 16)], Some(120.0)).with_service_time(0.5);
    let mut two_models = constant(64);
    two_models.models = [("deepseek-v4-pro".to_owned(), Cap::Constant(16))].into();
    two_models.models.insert("deepseek-flash".to_owned(), Cap::Constant(64));
    let workloads = ["chat", "rag", "eval"].map(|name| WorkloadSpec::new(name, Class::Normal)).to_vec();
    let mut shared = Setup::clients(1);
    shared.clients[0].workloads = workloads;
    let per_user = with_route(RouteSpec { per_user: true, ..RouteSpec::new("deepseek", "account") });
    vec![
        case("const-8", "a cap of 8", Steady, constant(8), batch::<800>),
        case("const-64", "a cap of 64", Steady, constant(64), batch::<6000>),
        case("const-500", "a cap of 500", Steady, constant(500), batch::<25_000>),
        case("const-2500", "a cap of 2,500", Steady, constant(2500), batch::<40_000>).starting_cold(),
        case("short", "64, requests of 50 ms", Steady, constant(64).with_service_time(0.05), batch::<30_000>),
        case("mixed", "64, 50 ms and ten minutes mixed", Steady, constant(64), mixed).until(1200),
        case("dip", "a batch while 64 → 16 → 64", Moving, dip(), batch::<2000>),
        case("step", "64 ↔ 16 every two minutes", Moving, step(), batch::<8000>),
        case("moving", "a cap that moves every minute", Moving, moving(), batch::<3500>),
        case("step-quick", "64 ↔ 16 every minute, requests of 0.5 s", Moving, quick_step, batch::<20_000>),
        case("sawtooth", "16 → 64 within a minute, over and over", Moving, sawtooth(), batch::<8000>),
        case("walk", "wanders between 16 and 256, every 10 s", Moving, walk(10.0, 0.06), batch::<12_000>),
        case("walk-far", "wanders between 16 and 256, far every minute", Moving, walk(60.0, 0.3), batch::<12_000>),
        case("outages", "64, 503 for 15 s in every two minutes", Steady, outages(), batch::<6000>),
        case("storm", "five caps a minute, 503s, broken streams", Moving, storm(), batch::<3000>),
        case("cold-500", "a short batch on 500", Steady, constant(500), batch::<2500>).starting_cold(),
        case("cold-500-hint", "the same with the right hint", Steady, constant(500), batch::<2500>)
            .with(hinted(500))
            .starting_cold(),
        case("cold-500-wrong", "the same with a hint of 2,500", Steady, constant(500), batch::<2500>)
            .with(hinted(2500))
            .starting_cold(),
        case("cold-2500", "a short batch on 2,500", Steady, constant(2500), batch::<20_000>).starting_cold(),
        case("cold-2500-hint", "the same with the right hint", Steady, constant(2500), batch::<20_000>)
            .with(hinted(2500))
            .starting_cold(),
        case("restart", "500 again, after a restart with a snapshot", Steady, constant(500), batch::<2500>)
            .after(constant(500))
            .starting_cold(),
        case("restart-moved", "64, after a restart with a snapshot of 160", Moving, constant(64), batch::<1200>)
            .after(constant(160)),
        case("punish", "64, excess costs three quarters for 8 s; an hour", Steady, punishing(), batch::<35_000>),
        case("punish-short", "the same, a batch of two minutes", Steady, punishing(), batch::<1200>),
        case(
            "balance",
            "39 → 25 → 17 → 7 → 5 → 402, numbers in the body",
            Moving,
            with_numbers(balance()),
            batch::<2500>,
        )
        .with(deepseek()),
        case("balance-plain", "the same without numbers", Moving, balance(), batch::<2500>),
        case("numbers", "64 ↔ 16, numbers in the body", Moving, with_numbers(step()), batch::<8000>).with(deepseek()),
        case("numbers-saw", "16 → 64 sawtooth, numbers in the body", Moving, with_numbers(sawtooth()), batch::<8000>)
            .with(deepseek()),
        case("retry-after", "64 ↔ 16, Retry-After: 2", Moving, asking(step(), 2.0), batch::<8000>),
        case("late", "64, 429s come 2 s late", Steady, late(constant(64)), batch::<6000>),
        case("late-step", "64 ↔ 16, 429s come 2 s late", Moving, late(step()), batch::<8000>),
        case(
            "random-2",
            "64, and 2 of 100 refused whatever is in flight",
            Chance,
            random(constant(64), 0.02),
            batch::<6000>,
        ),
        case("random-10", "64, and 10 of 100", Chance, random(constant(64), 0.1), batch::<6000>),
        case("random-30", "64, and 30 of 100", Chance, random(constant(64), 0.3), batch::<6000>),
        case("random-step", "64 ↔ 16, and 10 of 100", Chance, random(step(), 0.1), batch::<8000>),
        case(
            "random-quick",
            "64, requests of 0.1 s, 5 of 100",
            Chance,
            random(constant(64), 0.05).with_service_time(0.1),
            batch::<40_000>,
        ),
        case("rpm", "600 requests in any minute, no other limit", Steady, rpm(), batch::<4000>),
        case("rpm-after", "the same, and 429s say how long", Steady, asking(rpm(), 0.0), batch::<4000>),
        case("rpm-fixed", "600 in each minute of the clock", Steady, refilled(rpm(), Refill::Fixed), batch::<4000>),
        case("rpm-bucket", "600 a minute, refilled evenly", Steady, refilled(rpm(), Refill::Bucket), batch::<4000>),
        case("rpm-hidden", "600 in any minute, and no header tells", Steady, hidden(rpm()), batch::<4000>),
        case(
            "hidden-bucket",
            "600 refilled evenly, and no header tells",
            Steady,
            hidden(refilled(rpm(), Refill::Bucket)),
            batch::<4000>,
        ),
        case("tpm", "120,000 tokens in any minute", Steady, tpm(), batch::<3000>),
        case("tpm-bucket", "the same, refilled evenly", Steady, refilled(tpm(), Refill::Bucket), batch::<3000>),
        case("rpm-and-cap", "400 requests a minute and a cap of 48", Steady, rpm_and_cap(), batch::<3000>),
        case("lag-8", "8, 20 ms, places 5 ms late", Steady, lagging(constant(8), 0.02, 0.005), batch::<20_000>)
            .with(near()),
        case("lag-2", "2, 20 ms, places 5 ms late", Steady, lagging(constant(2), 0.02, 0.005), batch::<5000>)
            .with(near()),
        case("lag-64", "64, 2 s, places 100 ms late", Steady, lagging(constant(64), 2.0, 0.1), batch::<10_000>),
        case("lag-step", "64 ↔ 16, 0.5 s, places 50 ms late", Moving, lagging(step(), 0.5, 0.05), batch::<40_000>)
            .with(near()),
        case("clients-8", "8 processes on 64, ten minutes", Steady, constant(64), split::<8, 12_800>)
            .with(Setup::clients(8))
            .until(600)
            .among(Share::Clients),
        case("clients-20", "20 processes on 500, five minutes", Steady, constant(500), split::<20, 60_000>)
            .with(Setup::clients(20))
            .until(300)
            .among(Share::Clients),
        case("models", "three workloads on two models, 64 and 16", Steady, two_models, models)
            .with(shared)
            .until(600)
            .among(Share::Workloads),
        case(
            "users",
            "64, and 8 for each of twelve users",
            Steady,
            Scenario { user_cap: Some(8), ..constant(64) },
            users,
        )
        .with(per_user)
        .until(300)
        .among(Share::Users),
        case("diurnal", "64, load that comes and goes like days", Steady, constant(64), diurnal).by_answers(),
        case("bursts", "64, 300 at once every two minutes", Steady, constant(64), bursts).by_answers(),
        case(
            "bursts-moved",
            "the same while 64 ↔ 24 when idle",
            Moving,
            steps(&[(0.0, 64), (110.0, 24)], Some(240.0)),
            bursts,
        )
        .by_answers(),
        case("flood", "64, people wait behind a flood of batch work", Steady, constant(64), flood).with_people(),
        case("flood-step", "64 ↔ 16, people wait behind a flood", Moving, step(), flood).with_people(),
        case("impatient", "64, a fifth gives up while waiting", Steady, constant(64), impatient).until(480),
    ]
}

/// A provider near by whose requests run about `median` seconds and give their place back `lag` late.
fn lagging(cap: Scenario, median: f64, lag: f64) -> Scenario {
    let time = Dist::Lognormal(Lognormal { median, sigma: 0.5, max: Some(5.0 * median) });
    Scenario { release_lag: lag.into(), ..cap }.with_service_time(time)
}

fn near() -> Setup {
    Setup { round_trip: Duration::from_millis(1), ..Setup::clients(1) }
}

fn storm() -> Scenario {
    Scenario::preset("storm").expect("it is built in")
}
