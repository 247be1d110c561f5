//! What a simulated provider does over time, as data.
//!
//! A scenario is JSON; every field has a default, and a field that does not exist is an error that names those that
//! do. All times are seconds since the provider started, all probabilities 0 to 1. `{}` is a provider with DeepSeek's
//! published limits and no trouble:
//!
//! ```
//! use tidegate::sim::Scenario;
//!
//! let scenario = Scenario::from_json(
//!     r#"{
//!         "cap": {"steps": {"points": [[0, 64], [60, 16]], "repeat": 120}},
//!         "service": {"time": {"uniform": [1, 20]}},
//!         "windows": [{"status": 503, "from": 30, "to": 40}]
//!     }"#,
//! )?;
//! assert_eq!(scenario.windows[0].status, 503);
//!
//! let error = Scenario::from_json(r#"{"cap": 64, "windows": [{"status": 503, "until": 40}]}"#).unwrap_err();
//! assert!(error.to_string().contains("unknown field `until`, expected one of `status`, `from`, `to`"));
//! # Ok::<(), tidegate::sim::ScenarioError>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// DeepSeek's published concurrency for the flash model
/// (<https://api-docs.deepseek.com/quick_start/rate_limit>, seen 2026-11).
pub const PUBLISHED_FLASH_CAP: u32 = 2500;
/// DeepSeek's published concurrency for the pro model (same page).
pub const PUBLISHED_PRO_CAP: u32 = 500;

/// The models a provider always offers, besides those the scenario names.
pub const DEFAULT_MODELS: [&str; 2] = ["deepseek-flash", "deepseek-v4-pro"];

/// How a simulated provider behaves. See the [module](self) for the JSON form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object with a scenario's fields, such as {\"cap\": 64}")]
pub struct Scenario {
    /// A short name for reports.
    pub name: String,
    /// What the scenario shows, for people.
    pub description: String,
    /// Requests in flight an account may have on each model. Default: what DeepSeek publishes,
    /// [`PUBLISHED_PRO_CAP`] for models with `pro` in their name and [`PUBLISHED_FLASH_CAP`] for all others.
    pub cap: Option<Cap>,
    /// Models with a cap of their own; they are offered besides [`DEFAULT_MODELS`].
    pub models: BTreeMap<String, Cap>,
    /// Requests in flight each `user_id` may have on one account and model, the empty id being one too.
    /// Default: no such limit.
    pub user_cap: Option<u32>,
    /// Accounts by key. Default: none, and every key then belongs to one account.
    pub accounts: Vec<Account>,
    /// Whether a request without a key is refused with 401. Default: true.
    pub require_key: bool,
    /// A balance that falls with use and scales the cap, for accounts without one of their own. Default: no end of
    /// money.
    pub balance: Option<Balance>,
    /// How long answers take and how long they are.
    pub service: Service,
    /// The wait before inference begins.
    pub queue: Queue,
    /// How long the provider still counts a request whose client has gone, in seconds. Default: 0.
    pub linger: f64,
    /// How long the provider still counts a request whose answer has ended, in seconds: servers give a place back a
    /// little after their last byte, and gateways before them later still. Default: 0.
    pub release_lag: Dist,
    /// Times of trouble.
    pub windows: Vec<Window>,
    /// Limits on requests and tokens a minute.
    pub rate: Rate,
    /// How a 429 looks.
    pub rejection: Rejection,
    /// What an excess costs. Default: nothing.
    pub punish: Option<Punish>,
    /// What goes wrong with admitted requests, and how often.
    pub faults: Faults,
    /// The share of prompt tokens reported as context-cache hits (rounded down to whole 64-token units).
    /// Default: 0.
    pub cache_hit: f64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: String::new(),
            description: String::new(),
            cap: None,
            models: BTreeMap::new(),
            user_cap: None,
            accounts: Vec::new(),
            require_key: true,
            balance: None,
            service: Service::default(),
            queue: Queue::default(),
            linger: 0.0,
            release_lag: Dist::Fixed(0.0),
            windows: Vec::new(),
            rate: Rate::default(),
            rejection: Rejection::default(),
            punish: None,
            faults: Faults::default(),
            cache_hit: 0.0,
        }
    }
}

/// The concurrency cap over time. In JSON a number (constant) or an object with one of the names below.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cap {
    /// Always the same.
    Constant(u32),
    /// Jumps at given times: `{"steps": {"points": [[0, 64], [60, 16]], "repeat": 120}}`.
    Steps(Steps),
    /// Climbs evenly and drops, or falls evenly and jumps back.
    Sawtooth(Sawtooth),
    /// Wanders.
    Walk(Walk),
}

/// A cap that jumps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `points`")]
pub struct Steps {
    /// `[seconds, cap]` pairs, by rising time. Before the first, the first's cap holds.
    pub points: Vec<(f64, u32)>,
    /// Start over after this many seconds; must be later than the last point. Default: the last cap stays.
    #[serde(default)]
    pub repeat: Option<f64>,
}

/// A cap that moves evenly between two levels, one unit at a time, and jumps back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `low`, `high` and `period`")]
pub struct Sawtooth {
    /// The lowest cap.
    pub low: u32,
    /// The highest cap.
    pub high: u32,
    /// Seconds from one jump to the next.
    pub period: f64,
    /// Fall from `high` to `low` and jump up, instead of climbing and dropping. Default: false.
    #[serde(default)]
    pub falling: bool,
}

/// A cap that wanders: at each step it is multiplied by `exp(spread × a standard normal number)`, within bounds. The
/// walk is fixed by the provider's seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `start`, `low`, `high`, `every` and `spread`")]
pub struct Walk {
    /// Where it starts.
    pub start: u32,
    /// The lowest it goes.
    pub low: u32,
    /// The highest it goes.
    pub high: u32,
    /// Seconds between steps.
    pub every: f64,
    /// Standard deviation of a step, as a share (0.1 is about ten per cent).
    pub spread: f64,
}

impl From<u32> for Cap {
    fn from(cap: u32) -> Self {
        Self::Constant(cap)
    }
}

impl<'de> Deserialize<'de> for Cap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const NAMES: &[&str] = &["constant", "steps", "sawtooth", "walk"];
        struct CapVisitor;
        impl<'de> Visitor<'de> for CapVisitor {
            type Value = Cap;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a cap: a whole number such as 64, or an object with one of `constant`, `steps`, `sawtooth`, `walk`",
                )
            }
            fn visit_u64<E: de::Error>(self, cap: u64) -> Result<Cap, E> {
                u32::try_from(cap)
                    .map(Cap::Constant)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(cap), &self))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cap, A::Error> {
                let cap = match map.next_key::<String>()?.as_deref() {
                    Some("constant") => Cap::Constant(map.next_value()?),
                    Some("steps") => Cap::Steps(map.next_value()?),
                    Some("sawtooth") => Cap::Sawtooth(map.next_value()?),
                    Some("walk") => Cap::Walk(map.next_value()?),
                    Some(other) => return Err(de::Error::unknown_variant(other, NAMES)),
                    None => return Err(de::Error::invalid_length(0, &self)),
                };
                just_one(map, &self)?;
                Ok(cap)
            }
        }
        deserializer.deserialize_any(CapVisitor)
    }
}

/// Refuses a second name where an object has one of several.
fn just_one<'de, A: MapAccess<'de>>(mut map: A, expected: &dyn de::Expected) -> Result<(), A::Error> {
    match map.next_key::<de::IgnoredAny>()? {
        None => Ok(()),
        Some(_) => Err(de::Error::invalid_length(2, expected)),
    }
}

/// A random quantity. In JSON a number (always that), or an object with one of the names below.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dist {
    /// Always the same.
    Fixed(f64),
    /// Evenly between two bounds: `{"uniform": [1, 20]}`.
    Uniform(f64, f64),
    /// Log-normal, as service times are: `{"lognormal": {"median": 3, "sigma": 0.6, "max": 60}}`.
    Lognormal(Lognormal),
}

/// A log-normal quantity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `median` and `sigma`")]
pub struct Lognormal {
    /// Half of the draws are below this.
    pub median: f64,
    /// Standard deviation of the logarithm.
    pub sigma: f64,
    /// Draws above are cut to this. Default: no bound.
    #[serde(default)]
    pub max: Option<f64>,
}

impl From<f64> for Dist {
    fn from(value: f64) -> Self {
        Self::Fixed(value)
    }
}

impl Dist {
    /// One draw; never negative. Always takes two numbers from `rng`, whatever the form, so that changing one
    /// distribution of a scenario leaves the other draws as they were.
    pub fn draw(&self, rng: &mut fastrand::Rng) -> f64 {
        let (u, v) = (rng.f64(), rng.f64());
        let value = match self {
            Self::Fixed(value) => *value,
            Self::Uniform(low, high) => low + (high - low) * u,
            Self::Lognormal(l) => {
                (l.median * (l.sigma * standard_normal(u, v)).exp()).min(l.max.unwrap_or(f64::INFINITY))
            }
        };
        value.max(0.0)
    }
}

/// A standard normal number from two uniform ones (Box–Muller).
pub(crate) fn standard_normal(u: f64, v: f64) -> f64 {
    // 1 - u is in (0, 1], so the logarithm is finite.
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

impl<'de> Deserialize<'de> for Dist {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const NAMES: &[&str] = &["fixed", "uniform", "lognormal"];
        struct DistVisitor;
        impl<'de> Visitor<'de> for DistVisitor {
            type Value = Dist;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a quantity: a number of 0 or more such as 1.5, or an object with one of `fixed`, `uniform` ([low, high]), \
                     `lognormal` ({median, sigma, max})",
                )
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Dist, E> {
                Ok(Dist::Fixed(value as f64))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Dist, E> {
                Ok(Dist::Fixed(value))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Dist, A::Error> {
                let dist = match map.next_key::<String>()?.as_deref() {
                    Some("fixed") => Dist::Fixed(map.next_value()?),
                    Some("uniform") => match map.next_value::<Vec<f64>>()?[..] {
                        [low, high] => Dist::Uniform(low, high),
                        ref bounds => return Err(de::Error::invalid_length(bounds.len(), &"two numbers, [low, high]")),
                    },
                    Some("lognormal") => Dist::Lognormal(map.next_value()?),
                    Some(other) => return Err(de::Error::unknown_variant(other, NAMES)),
                    None => return Err(de::Error::invalid_length(0, &self)),
                };
                just_one(map, &self)?;
                Ok(dist)
            }
        }
        deserializer.deserialize_any(DistVisitor)
    }
}

/// How long answers take and how long they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Service {
    /// Seconds from inference to the end of the answer, whatever its length. Default: it follows from the length,
    /// `first_token + output_tokens / tokens_per_second`.
    pub time: Option<Dist>,
    /// Seconds from inference to the first token. Default: 0.4.
    pub first_token: Dist,
    /// Generation speed, used where `time` is not given. Default: 60.
    pub tokens_per_second: f64,
    /// Length of the answer in tokens, reasoning included; the request's `max_tokens` cuts it. Default: log-normal with
    /// median 120, sigma 0.6, at most 2,000.
    pub output_tokens: Dist,
    /// Tokens in one chunk of a stream. Default: 8.
    pub chunk_tokens: u32,
    /// Send the head of the answer at admission instead of with its first byte. Default: false.
    pub early_headers: bool,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            time: None,
            first_token: Dist::Fixed(0.4),
            tokens_per_second: 60.0,
            output_tokens: Dist::Lognormal(Lognormal { median: 120.0, sigma: 0.6, max: Some(2000.0) }),
            chunk_tokens: 8,
            early_headers: false,
        }
    }
}

/// The wait before inference, during which the provider keeps the connection alive: `: keep-alive` comments in a
/// stream, empty lines otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Queue {
    /// Seconds a request waits. Default: 0.
    pub wait: Dist,
    /// The share of requests that wait at all. Default: 1.
    pub probability: f64,
    /// Seconds between signs of life. Default: 10.
    pub keep_alive: f64,
    /// The provider hangs up on a request whose inference has not started after this many seconds. Default: 600, as
    /// DeepSeek documents.
    pub hang_up_after: f64,
}

impl Default for Queue {
    fn default() -> Self {
        Self { wait: Dist::Fixed(0.0), probability: 1.0, keep_alive: 10.0, hang_up_after: 600.0 }
    }
}

/// A time of trouble: arrivals from `from` to `to` are answered with `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `status`")]
pub struct Window {
    /// 503 (overloaded), 500 (failed) or 402 (no balance); any status of 400 and up works.
    pub status: u16,
    /// Start, in seconds. Default: 0.
    #[serde(default)]
    pub from: f64,
    /// End, in seconds. Default: never.
    #[serde(default)]
    pub to: Option<f64>,
    /// The share of arrivals it hits. Default: 1.
    #[serde(default = "one")]
    pub probability: f64,
    /// Seconds until the refusal is sent. Default: 0.2 (one log of DeepSeek's 503 shows 0.21 s).
    #[serde(default = "window_latency")]
    pub latency: f64,
    /// The wait the refusal asks for. Default: none.
    #[serde(default)]
    pub retry_after: RetryAfter,
}

impl Window {
    /// A window in which every arrival gets `status`, from `from` to `to` seconds.
    pub fn new(status: u16, from: f64, to: f64) -> Self {
        Self {
            status,
            from,
            to: Some(to),
            probability: 1.0,
            latency: window_latency(),
            retry_after: RetryAfter::default(),
        }
    }
}

fn one() -> f64 {
    1.0
}

fn window_latency() -> f64 {
    0.2
}

/// Limits on pace, per account and model. Only admitted requests count. A request counts its prompt and the answer it
/// will get.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Rate {
    /// Requests a minute. Default: no limit (DeepSeek publishes none; other providers do).
    pub rpm: Option<u32>,
    /// Tokens a minute. Default: no limit.
    pub tpm: Option<u64>,
    /// How what was spent comes back. Default: each unit after a minute.
    pub refill: Refill,
    /// Whether nothing is said of the limits: no `x-ratelimit-*` headers with any answer. Default: false.
    pub hidden: bool,
}

/// How what was spent of a limit on pace comes back. `x-ratelimit-reset-*` is always the time until all of it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refill {
    /// Each unit a minute after it was spent: no 60 seconds ever hold more than the limit.
    #[default]
    Rolling,
    /// All of it with each full minute of the scenario's time.
    Fixed,
    /// Evenly, a sixtieth of the limit each second, up to the whole: a token bucket, as OpenAI and Groq have it.
    Bucket,
}

/// How a 429 looks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Rejection {
    /// The body. It also sets the dialect of 500, 503 and 402 bodies.
    pub body: BodyStyle,
    /// The wait it asks for. Default: none, for no recorded DeepSeek 429 has one. Where the pace is the reason and a
    /// form is set, the time until the window has room is what is sent.
    pub retry_after: RetryAfter,
    /// Seconds until a 429 is sent, the decision being made at arrival. Default: 0.
    pub latency: f64,
}

/// The dialect of error bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyStyle {
    /// DeepSeek's as recorded: "Your current concurrency is 26, which exceeds your concurrency limit of 25 based on
    /// your remaining balance."
    #[default]
    DeepseekBalance,
    /// DeepSeek's shape without the numbers.
    Deepseek,
    /// `Too Many Requests` as plain text, as proxies send it.
    Plain,
    /// OpenRouter's: `code` is a number, with `metadata.error_type`.
    Openrouter,
    /// SiliconFlow's: flat, without an `error` object.
    Siliconflow,
    /// No body.
    Empty,
}

/// A wait that a refusal asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object with `form` and `seconds`")]
pub struct RetryAfter {
    /// How it is written. Default: not at all.
    pub form: RetryAfterForm,
    /// The wait. Default: 0 s.
    pub seconds: f64,
}

/// The ways a wait is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfterForm {
    /// Not sent.
    #[default]
    None,
    /// `Retry-After: 3`, whole seconds rounded up.
    Seconds,
    /// `Retry-After: 2.500`.
    Float,
    /// `Retry-After: Sun, 22 Nov 2026 01:48:24 GMT`, rounded up to the next whole second.
    HttpDate,
    /// `retry-after-ms: 2500`.
    RetryAfterMs,
}

/// What an excess costs: each arrival above the cap cuts it to a share of itself for a while; an excess over the cut
/// cap starts the while anew. Requests in flight go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Punish {
    /// The share of the cap that remains (never less than one request). Default: 0.25.
    pub to: f64,
    /// For how many seconds after the last excess. Default: 8.
    pub seconds: f64,
}

impl Default for Punish {
    fn default() -> Self {
        Self { to: 0.25, seconds: 8.0 }
    }
}

/// How often an admitted request goes wrong: each field is a probability, at most one fault strikes a request, and the
/// sum may not exceed 1. All default to 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Faults {
    /// The connection breaks after part of the answer.
    pub cut: f64,
    /// After part of the answer nothing more comes, and the connection stays open.
    pub stall: f64,
    /// The answer ends well-formed for HTTP after part of it, without `finish_reason` and `[DONE]`.
    pub clean_end: f64,
    /// 200 with no body at all.
    pub empty_body: f64,
    /// 200 with a body of blank lines.
    pub blank_body: f64,
    /// 200 with something that is neither JSON nor an event stream.
    pub garbage: f64,
    /// An `error` object after part of a stream, or instead of an answer.
    pub error_object: f64,
    /// The answer is broken off with `finish_reason: "insufficient_system_resource"`.
    pub insufficient_resource: f64,
    /// The connection is reset before anything is answered; such a request takes no slot.
    pub reset: f64,
}

/// Money that falls with use. What is left scales the cap, and nothing left is 402.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Balance {
    /// The balance at the start. Default: 2.5.
    pub amount: f64,
    /// What each completed request costs. Default: 0.
    pub cost_per_request: f64,
    /// What a million tokens of completed requests cost, prompt and answer alike. Default: 0.6.
    pub cost_per_million_tokens: f64,
    /// `[below, cap]` pairs: with less than `below` left, the cap is at most `cap`. Default: 39, 25, 17, 7 and 5 below
    /// 2, 1.5, 1, 0.5 and 0.25 (the limits are those seen in recorded 429 bodies, the amounts are made up).
    pub tiers: Vec<(f64, u32)>,
    /// `USD` or `CNY`, for the balance endpoint. Default: USD.
    pub currency: String,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            amount: 2.5,
            cost_per_request: 0.0,
            cost_per_million_tokens: 0.6,
            tiers: vec![(2.0, 39), (1.5, 25), (1.0, 17), (0.5, 7), (0.25, 5)],
            currency: "USD".to_owned(),
        }
    }
}

impl Balance {
    /// The cap that `amount` allows, if it limits at all.
    pub fn cap_at(&self, amount: f64) -> Option<u32> {
        self.tiers.iter().filter(|(below, _)| amount < *below).map(|&(_, cap)| cap).min()
    }
}

/// An account: limits count for all its keys together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `name` and `keys`")]
pub struct Account {
    /// Its name in the tally.
    pub name: String,
    /// Its API keys. A key that no account has gets 401.
    pub keys: Vec<String>,
    /// The cap of each of its models. Default: the scenario's.
    #[serde(default)]
    pub cap: Option<Cap>,
    /// Its balance. Default: the scenario's.
    #[serde(default)]
    pub balance: Option<Balance>,
}

/// What is wrong with a scenario.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// Not JSON, an unknown field or a value of the wrong type.
    #[error("scenario, line {line} column {column}{}: {message}", at_field(.field))]
    Json {
        /// Line of the mistake, from 1.
        line: usize,
        /// Column of the mistake, from 1.
        column: usize,
        /// Path of the field, such as `windows[0].from`; `.` is the whole document, `?` unknown.
        field: String,
        /// What was found and what is expected instead.
        message: String,
    },
    /// A value that makes no sense.
    #[error("scenario, field `{field}`: expected {expected}, got {got}")]
    Value {
        /// Path of the field.
        field: String,
        /// What to write instead.
        expected: &'static str,
        /// What was written.
        got: String,
    },
    /// A name that is no built-in scenario.
    #[error("no built-in scenario is named `{name}`; there are {}", Scenario::preset_names().join(", "))]
    UnknownPreset {
        /// The name asked for.
        name: String,
    },
}

fn at_field(field: &str) -> String {
    if matches!(field, "." | "?") { String::new() } else { format!(", field `{field}`") }
}

/// The scenarios in `examples/scenarios`, by name.
const PRESETS: [(&str, &str); 10] = [
    ("steady", include_str!("../../examples/scenarios/steady.json")),
    ("step", include_str!("../../examples/scenarios/step.json")),
    ("storm", include_str!("../../examples/scenarios/storm.json")),
    ("sawtooth", include_str!("../../examples/scenarios/sawtooth.json")),
    ("walk", include_str!("../../examples/scenarios/walk.json")),
    ("scale", include_str!("../../examples/scenarios/scale.json")),
    ("rate-limits", include_str!("../../examples/scenarios/rate-limits.json")),
    ("penalty", include_str!("../../examples/scenarios/penalty.json")),
    ("balance-falling", include_str!("../../examples/scenarios/balance-falling.json")),
    ("hard-day", include_str!("../../examples/scenarios/hard-day.json")),
];

impl Scenario {
    /// A provider whose cap never moves.
    pub fn constant(cap: u32) -> Self {
        Self { cap: Some(Cap::Constant(cap)), ..Self::default() }
    }

    /// A provider whose cap jumps at `[seconds, cap]` points, over and over if `repeat` (seconds) is given.
    pub fn steps(points: &[(f64, u32)], repeat: Option<f64>) -> Self {
        Self { cap: Some(Cap::Steps(Steps { points: points.to_vec(), repeat })), ..Self::default() }
    }

    /// The same with every answer taking `time` seconds, however long it is.
    #[must_use]
    pub fn with_service_time(mut self, time: impl Into<Dist>) -> Self {
        self.service.time = Some(time.into());
        self
    }

    /// A built-in scenario: the files of `examples/scenarios`, by name.
    ///
    /// # Errors
    /// [`ScenarioError::UnknownPreset`] names those there are.
    pub fn preset(name: &str) -> Result<Self, ScenarioError> {
        match PRESETS.iter().find(|(known, _)| *known == name) {
            Some((_, json)) => Self::from_json(json),
            None => Err(ScenarioError::UnknownPreset { name: name.to_owned() }),
        }
    }

    /// The names [`preset`](Self::preset) knows.
    pub fn preset_names() -> [&'static str; PRESETS.len()] {
        PRESETS.map(|(name, _)| name)
    }

    /// Reads and checks a scenario.
    ///
    /// # Errors
    /// Says where the mistake is (line, column and path of the field) and what to write instead.
    pub fn from_json(json: &str) -> Result<Self, ScenarioError> {
        // Some editors begin every file with a byte-order mark.
        let json = json.strip_prefix('\u{feff}').unwrap_or(json);
        // A list would pass for the fields in their order.
        if let Some((blank, _)) = json.split_once('[').filter(|(before, _)| before.trim_ascii().is_empty()) {
            return Err(ScenarioError::Json {
                line: blank.matches('\n').count() + 1,
                column: blank.len() - blank.rfind('\n').map_or(0, |end| end + 1) + 1,
                field: ".".to_owned(),
                message: "expected an object with a scenario's fields, such as {\"cap\": 64}, got a list".to_owned(),
            });
        }
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let located = |field: String, error: &serde_json::Error| {
            let text = error.to_string();
            let message = match text.rfind(" at line ") {
                Some(end) if error.line() > 0 => text[..end].to_owned(),
                _ => text,
            };
            ScenarioError::Json { line: error.line(), column: error.column(), field, message }
        };
        let scenario: Self = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| located(error.path().to_string(), error.inner()))?;
        deserializer.end().map_err(|error| located(".".to_owned(), &error))?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Checks that every value makes sense; [`from_json`](Self::from_json) and
    /// [`Provider::new`](super::Provider::new) do so by themselves.
    ///
    /// # Errors
    /// [`ScenarioError::Value`] names the first field that does not.
    pub fn check(&self) -> Result<(), ScenarioError> {
        if let Some(cap) = &self.cap {
            cap.check("cap")?;
        }
        for (model, cap) in &self.models {
            cap.check(&format!("models.{model}"))?;
        }
        if let Some(balance) = &self.balance {
            balance.check("balance")?;
        }
        let mut keys = BTreeSet::new();
        for (i, account) in self.accounts.iter().enumerate() {
            if let Some(cap) = &account.cap {
                cap.check(&format!("accounts[{i}].cap"))?;
            }
            if let Some(balance) = &account.balance {
                balance.check(&format!("accounts[{i}].balance"))?;
            }
            for (k, key) in account.keys.iter().enumerate() {
                if !keys.insert(key) {
                    // The key itself stays out of the message.
                    return Err(value(
                        format!("accounts[{i}].keys[{k}]"),
                        "a key no other account has",
                        "one already given",
                    ));
                }
            }
        }
        let s = &self.service;
        if let Some(time) = &s.time {
            time.check("service.time")?;
        }
        s.first_token.check("service.first_token")?;
        s.output_tokens.check("service.output_tokens")?;
        above_zero("service.tokens_per_second", s.tokens_per_second)?;
        if s.chunk_tokens == 0 {
            return Err(value("service.chunk_tokens", "a whole number of 1 or more", 0));
        }
        self.queue.wait.check("queue.wait")?;
        probability("queue.probability", self.queue.probability)?;
        period("queue.keep_alive", self.queue.keep_alive)?;
        above_zero("queue.hang_up_after", self.queue.hang_up_after)?;
        seconds("linger", self.linger)?;
        self.release_lag.check("release_lag")?;
        for (i, w) in self.windows.iter().enumerate() {
            let field = |name: &str| format!("windows[{i}].{name}");
            if !(400..=599).contains(&w.status) {
                return Err(value(field("status"), "an HTTP status from 400 to 599, such as 503", w.status));
            }
            seconds(field("from"), w.from)?;
            if let Some(to) = w.to {
                seconds(field("to"), to)?;
                if to <= w.from {
                    return Err(value(field("to"), "a time later than `from`", to));
                }
            }
            probability(field("probability"), w.probability)?;
            seconds(field("latency"), w.latency)?;
            seconds(field("retry_after.seconds"), w.retry_after.seconds)?;
        }
        if self.rate.rpm == Some(0) {
            return Err(value("rate.rpm", "a whole number of 1 or more", 0));
        }
        if self.rate.tpm == Some(0) {
            return Err(value("rate.tpm", "a whole number of 1 or more", 0));
        }
        seconds("rejection.latency", self.rejection.latency)?;
        seconds("rejection.retry_after.seconds", self.rejection.retry_after.seconds)?;
        if let Some(punish) = &self.punish {
            probability("punish.to", punish.to)?;
            seconds("punish.seconds", punish.seconds)?;
        }
        let mut sum = 0.0;
        for (name, p) in self.faults.by_name() {
            probability(format!("faults.{name}"), p)?;
            sum += p;
        }
        if sum > 1.0 + 1e-9 {
            return Err(value("faults", "probabilities that sum to at most 1", sum));
        }
        probability("cache_hit", self.cache_hit)
    }

    /// The models on offer, sorted.
    pub fn model_names(&self) -> BTreeSet<&str> {
        DEFAULT_MODELS.into_iter().chain(self.models.keys().map(String::as_str)).collect()
    }
}

impl Faults {
    /// Each fault's name and probability; the reset comes first, for it strikes before admission.
    fn by_name(&self) -> [(&'static str, f64); 9] {
        [
            ("reset", self.reset),
            ("cut", self.cut),
            ("stall", self.stall),
            ("clean_end", self.clean_end),
            ("empty_body", self.empty_body),
            ("blank_body", self.blank_body),
            ("garbage", self.garbage),
            ("error_object", self.error_object),
            ("insufficient_resource", self.insufficient_resource),
        ]
    }
}

impl Cap {
    fn check(&self, field: &str) -> Result<(), ScenarioError> {
        match self {
            Self::Constant(_) => Ok(()),
            Self::Steps(steps) => {
                let field = format!("{field}.steps");
                if steps.points.is_empty() {
                    return Err(value(format!("{field}.points"), "at least one [seconds, cap] pair", "[]"));
                }
                let mut last = f64::NEG_INFINITY;
                for (i, &(at, _)) in steps.points.iter().enumerate() {
                    seconds(format!("{field}.points[{i}][0]"), at)?;
                    if at <= last {
                        return Err(value(format!("{field}.points[{i}][0]"), "a time later than the point before", at));
                    }
                    last = at;
                }
                match steps.repeat {
                    Some(repeat) if !(repeat.is_finite() && repeat > last && repeat >= MIN_PERIOD) => {
                        Err(value(format!("{field}.repeat"), "seconds, more than the last point's time", repeat))
                    }
                    _ => Ok(()),
                }
            }
            Self::Sawtooth(saw) => {
                period(format!("{field}.sawtooth.period"), saw.period)?;
                ordered(format!("{field}.sawtooth.low"), saw.low, saw.high)
            }
            Self::Walk(walk) => {
                period(format!("{field}.walk.every"), walk.every)?;
                seconds(format!("{field}.walk.spread"), walk.spread)?;
                ordered(format!("{field}.walk.low"), walk.low, walk.high)
            }
        }
    }
}

/// Caps that move faster than this (seconds) would only cost time: a request lives longer.
const MIN_PERIOD: f64 = 0.001;

impl Dist {
    fn check(&self, field: &str) -> Result<(), ScenarioError> {
        match self {
            Self::Fixed(v) => seconds(field, *v),
            Self::Uniform(low, high) => {
                seconds(format!("{field}.uniform[0]"), *low)?;
                seconds(format!("{field}.uniform[1]"), *high)?;
                if high < low {
                    return Err(value(format!("{field}.uniform"), "[low, high] with low not above high", high));
                }
                Ok(())
            }
            Self::Lognormal(l) => {
                above_zero(format!("{field}.lognormal.median"), l.median)?;
                seconds(format!("{field}.lognormal.sigma"), l.sigma)?;
                seconds(format!("{field}.lognormal.max"), l.max.unwrap_or(0.0))
            }
        }
    }
}

impl Balance {
    fn check(&self, field: &str) -> Result<(), ScenarioError> {
        seconds(format!("{field}.amount"), self.amount)?;
        seconds(format!("{field}.cost_per_request"), self.cost_per_request)?;
        seconds(format!("{field}.cost_per_million_tokens"), self.cost_per_million_tokens)?;
        for (i, &(below, _)) in self.tiers.iter().enumerate() {
            seconds(format!("{field}.tiers[{i}][0]"), below)?;
        }
        Ok(())
    }
}

fn value(field: impl Into<String>, expected: &'static str, got: impl fmt::Display) -> ScenarioError {
    ScenarioError::Value { field: field.into(), expected, got: got.to_string() }
}

fn seconds(field: impl Into<String>, v: f64) -> Result<(), ScenarioError> {
    if v.is_finite() && v >= 0.0 { Ok(()) } else { Err(value(field, "a finite number of 0 or more", v)) }
}

fn above_zero(field: impl Into<String>, v: f64) -> Result<(), ScenarioError> {
    if v.is_finite() && v > 0.0 { Ok(()) } else { Err(value(field, "a finite number above 0", v)) }
}

fn period(field: impl Into<String>, v: f64) -> Result<(), ScenarioError> {
    if v.is_finite() && v >= MIN_PERIOD { Ok(()) } else { Err(value(field, "seconds, at least 0.001", v)) }
}

fn probability(field: impl Into<String>, v: f64) -> Result<(), ScenarioError> {
    if (0.0..=1.0).contains(&v) { Ok(()) } else { Err(value(field, "a number from 0 to 1", v)) }
}

fn ordered(field: String, low: u32, high: u32) -> Result<(), ScenarioError> {
    if low <= high { Ok(()) } else { Err(value(field, "a cap not above `high`", low)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(json: &str) -> String {
        Scenario::from_json(json).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_object_is_the_default_scenario() {
        assert_eq!(Scenario::from_json("{}").unwrap(), Scenario::default());
        assert_eq!(Scenario::from_json("\u{feff}{}\r\n").unwrap(), Scenario::default());
    }

    #[test]
    fn every_form_of_a_cap_is_read() {
        for (json, cap) in [
            ("64", Cap::Constant(64)),
            (r#"{"constant": 64}"#, Cap::Constant(64)),
            (
                r#"{"steps": {"points": [[0, 64], [6.5, 16]]}}"#,
                Cap::Steps(Steps { points: vec![(0.0, 64), (6.5, 16)], repeat: None }),
            ),
            (
                r#"{"sawtooth": {"low": 8, "high": 64, "period": 60}}"#,
                Cap::Sawtooth(Sawtooth { low: 8, high: 64, period: 60.0, falling: false }),
            ),
            (
                r#"{"walk": {"start": 32, "low": 8, "high": 64, "every": 5, "spread": 0.2}}"#,
                Cap::Walk(Walk { start: 32, low: 8, high: 64, every: 5.0, spread: 0.2 }),
            ),
        ] {
            let scenario = Scenario::from_json(&format!(r#"{{"cap": {json}}}"#)).unwrap();
            assert_eq!(scenario.cap, Some(cap));
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for name in Scenario::preset_names() {
            let scenario = Scenario::preset(name).unwrap();
            assert_eq!(scenario.name, name);
            assert!(!scenario.description.is_empty(), "{name} says what it shows");
            let json = serde_json::to_string(&scenario).unwrap();
            assert_eq!(Scenario::from_json(&json).unwrap(), scenario);
        }
    }

    #[test]
    fn every_example_is_a_preset() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/scenarios");
        let mut files: Vec<_> = (std::fs::read_dir(folder).unwrap())
            .filter_map(|entry| {
                entry.unwrap().file_name().into_string().unwrap().strip_suffix(".json").map(str::to_owned)
            })
            .collect();
        files.sort();
        let mut names = Scenario::preset_names();
        names.sort_unstable();
        assert_eq!(files, names);
    }

    #[test]
    fn errors_say_where_and_what_to_write_instead() {
        for (json, parts) in [
            ("", vec!["line 1 column 0: EOF"]),
            ("{\"cap\": 1", vec!["line 1 column 9: EOF"]),
            ("{\n  \"capp\": 1\n}", vec!["line 2 column 8", "unknown field `capp`", "`cap`"]),
            (r#"{"cap": "64"}"#, vec!["field `cap`", "a whole number such as 64"]),
            (r#"{"cap": -1}"#, vec!["field `cap`", "a whole number such as 64"]),
            (r#"{"cap": 1e99}"#, vec!["field `cap`", "a whole number such as 64"]),
            (r#"{"cap": {"step": []}}"#, vec!["unknown variant `step`", "`steps`"]),
            (r#"{"cap": {"steps": {"points": [[0, "x"]]}}}"#, vec!["cap", "points[0]", "u32"]),
            (r#"{"cap": {"steps": {"points": []}}}"#, vec!["cap.steps.points", "at least one"]),
            (
                r#"{"cap": {"steps": {"points": [[5, 1], [5, 2]]}}}"#,
                vec!["points[1][0]", "later than the point before"],
            ),
            (r#"{"cap": {"steps": {"points": [[5, 1]], "repeat": 4}}}"#, vec!["repeat", "more than the last"]),
            (r#"{"cap": {"sawtooth": {"low": 9, "high": 8, "period": 1}}}"#, vec!["sawtooth.low", "not above `high`"]),
            (r#"{"cap": {"sawtooth": {"low": 1, "high": 8, "period": 0}}}"#, vec!["sawtooth.period", "0.001"]),
            (r#"{"service": {"time": {"uniform": [3, 1]}}}"#, vec!["service.time.uniform", "low not above high"]),
            (r#"{"service": {"time": -2}}"#, vec!["service.time", "0 or more", "-2"]),
            (r#"{"service": {"tokens_per_second": 0}}"#, vec!["service.tokens_per_second", "above 0"]),
            (r#"{"windows": [{"status": 200}]}"#, vec!["windows[0].status", "503"]),
            (r#"{"windows": [{"status": 503, "from": 9, "to": 8}]}"#, vec!["windows[0].to", "later than `from`"]),
            (r#"{"windows": [{"from": 9}]}"#, vec!["windows[0]", "missing field `status`"]),
            (r#"{"faults": {"cut": 0.7, "stall": 0.7}}"#, vec!["`faults`", "sum"]),
            (r#"{"faults": {"cut": 1.5}}"#, vec!["faults.cut", "0 to 1"]),
            (r#"{"rate": {"rpm": 0}}"#, vec!["rate.rpm", "1 or more"]),
            (r#"{"rate": {"tpm": 0}}"#, vec!["rate.tpm", "1 or more"]),
            (r#"{"rate": {"refill": "leaky"}}"#, vec!["rate.refill", "`leaky`", "`bucket`"]),
            (r#"{"rejection": {"body": "deep"}}"#, vec!["rejection.body", "`deepseek_balance`"]),
            (r#"{} {}"#, vec!["line 1", "trailing characters"]),
            (r#""storm""#, vec!["line 1", "an object with a scenario's fields"]),
            ("\n  [64]", vec!["line 2 column 3", "an object with a scenario's fields", "got a list"]),
            (r#"{"cap": {}}"#, vec!["field `cap`", "one of `constant`, `steps`"]),
            (
                r#"{"cap": {"steps": {"points": [[0, 1]]}, "constant": 2}}"#,
                vec!["field `cap`", "invalid length 2", "one of `constant`, `steps`"],
            ),
            (r#"{"cap": {"steps": 1}}"#, vec!["field `cap.steps`", "an object with `points`"]),
            (r#"{"service": {"time": {}}}"#, vec!["field `service.time`", "one of `fixed`, `uniform`"]),
            (r#"{"service": {"time": {"uniform": [1]}}}"#, vec!["field `service.time`", "[low, high]"]),
            (r#"{"service": {"time": {"uniform": [1, 2, 3]}}}"#, vec!["field `service.time`", "[low, high]"]),
            (r#"{"service": {"time": {"uniform": [1, 2], "fixed": 3}}}"#, vec!["service.time", "invalid length 2"]),
            (r#"{"windows": [{"status": 503, "retry_after": 3}]}"#, vec!["windows[0].retry_after", "`form`"]),
        ] {
            let error = error_of(json);
            for part in parts {
                assert!(error.contains(part), "{json}: `{error}` lacks `{part}`");
            }
        }
    }

    #[test]
    fn a_key_given_twice_is_refused_without_being_quoted() {
        let error =
            error_of(r#"{"accounts": [{"name": "a", "keys": ["sk-secret"]}, {"name": "b", "keys": ["sk-secret"]}]}"#);
        assert!(error.contains("accounts[1].keys[0]") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn an_unknown_preset_names_those_there_are() {
        let error = Scenario::preset("strom").unwrap_err().to_string();
        assert!(error.contains("`strom`") && error.contains("storm"), "{error}");
    }

    #[test]
    fn draws_follow_their_distribution() {
        let mut rng = fastrand::Rng::with_seed(7);
        let uniform = Dist::Uniform(1.0, 20.0);
        let normal = Dist::Lognormal(Lognormal { median: 3.0, sigma: 0.5, max: Some(30.0) });
        let n = 20_000;
        let mean = (0..n).map(|_| uniform.draw(&mut rng)).sum::<f64>() / f64::from(n);
        assert!((mean - 10.5).abs() < 0.2, "{mean}");
        let below = (0..n).filter(|_| normal.draw(&mut rng) < 3.0).count();
        assert!((9_700..10_300).contains(&below), "{below} of {n} below the median");
        assert_eq!(Dist::Fixed(2.0).draw(&mut rng), 2.0);
    }
}
