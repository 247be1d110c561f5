//! The simulated provider behind an HTTP/1.1 server on real sockets.
//!
//! It answers as `api.deepseek.com` does: `POST /chat/completions` (also under `/v1` and `/beta`), `POST /completions`
//! (fill in the middle, also under `/beta`), `GET /models`, `GET /user/balance`; streams and single objects, keep-alive
//! comments and empty lines while a request waits, and the recorded error bodies. Any origin may call it from a browser.
//!
//! Two request headers are its own: `x-client` names the client in the tally, `x-request-tag` the request (as does
//! `metadata.request_tag` in the body), so that one answered twice is noticed. And it can be looked into and steered:
//!
//! - `GET /__sim/tally`: the [`Tally`] so far, as JSON.
//! - `GET /__sim/completions`: how often each tag was answered whole.
//! - `GET /__sim/scenario`: the scenario in force; `POST` replaces it by the one in the body and starts anew.
//! - `POST /__sim/reset`: starts anew: time zero, an empty tally, all slots free.
//! - `POST /__sim/oracle` with `{"jobs": 500, "round_trip": 0.002}` (seconds; default 0): what a client that knows all
//!   makes of so many plain requests from time zero on, on a virtual clock: `{"completed": 500, "makespan": 41.7}`.
//!
//! ```no_run
//! # async fn example() -> Result<(), tidegate::sim::StartError> {
//! use tidegate::sim::{Scenario, Server};
//!
//! let server = Server::start(Scenario::constant(32), 1, ([127, 0, 0, 1], 0).into()).await?;
//! println!("set the base URL to {}", server.url());
//! // … requests …
//! assert_eq!(server.tally().duplicates.len(), 0);
//! server.kill().await;
//! # Ok(()) }
//! ```

mod connection;
mod script;
mod steering;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::json;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::connection::{accept, listen};
use self::script::{Answer, Script};
use self::steering::steer;
use crate::core::time::Timestamp;

use super::completion::{self, Completion};
use super::errors;
use super::provider::{Admission, Arrival, Decision, End, FlightId, Provider, Rejected};
use super::request::Asked;
use super::scenario::{Scenario, ScenarioError};
use super::tally::{RejectReason, Tally};

/// The longest request body read.
const MAX_BODY: usize = 64 << 20;

/// Why a server could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The scenario makes no sense.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The address is taken or not ours.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// A simulated provider that listens. Dropping it is like [`kill`](Self::kill) without waiting.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    addr: SocketAddr,
    phase: watch::Sender<Phase>,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Running,
    Stopping,
    Killed,
}

impl Server {
    /// Starts a server on `addr` (port 0 lets the system choose) within the current tokio runtime; `seed` fixes
    /// everything random. The scenario's time begins now.
    ///
    /// # Errors
    /// A scenario that makes no sense, or an address that cannot be listened on.
    pub async fn start(scenario: Scenario, seed: u64, addr: SocketAddr) -> Result<Self, StartError> {
        let shared = Arc::new(Shared { world: Mutex::new(World::new(scenario, seed)?), answers: AtomicU64::new(0) });
        let listener = listen(addr).map_err(|source| StartError::Listen { addr, source })?;
        let addr = listener.local_addr().map_err(|source| StartError::Listen { addr, source })?;
        let (phase, follow) = watch::channel(Phase::Running);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), follow));
        Ok(Self { shared, addr, phase, accepting })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL, without a slash at the end, such as `http://127.0.0.1:40123`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What it saw so far.
    pub fn tally(&self) -> Tally {
        self.shared.with(|provider, now| provider.tally(now))
    }

    /// The cap in force for `model` on the account of `key`; see [`Provider::cap`].
    pub fn cap(&self, key: Option<&str>, model: &str) -> u32 {
        self.shared.with(|provider, now| provider.cap(now, key, model))
    }

    /// How often a request with this tag was answered whole.
    pub fn completions_of(&self, tag: &str) -> u32 {
        self.shared.with(|provider, _| provider.completions_of(tag))
    }

    /// Replaces the scenario: time zero, an empty tally, all slots free. Answers under way go on as planned, but no
    /// longer count.
    ///
    /// # Errors
    /// A scenario that makes no sense; the old one then stays.
    pub fn set_scenario(&self, scenario: Scenario) -> Result<(), ScenarioError> {
        self.shared.restart(Some(scenario))
    }

    /// Starts the same scenario anew, as [`set_scenario`](Self::set_scenario) does.
    pub fn reset(&self) {
        // The scenario in force has been checked.
        let _ = self.shared.restart(None);
    }

    /// Stops accepting, lets answers under way end for at most `grace`, then closes every connection. What it saw.
    pub async fn stop(self, grace: Duration) -> Tally {
        self.phase.send_replace(Phase::Stopping);
        let Self { shared, phase, mut accepting, .. } = self;
        if tokio::time::timeout(grace, &mut accepting).await.is_err() {
            phase.send_replace(Phase::Killed);
            let _ = accepting.await;
        }
        shared.with(|provider, now| provider.tally(now))
    }

    /// Dies: every connection is closed at once, mid-answer or not, and the port is free when this returns. What it
    /// saw.
    pub async fn kill(self) -> Tally {
        self.stop(Duration::ZERO).await
    }
}

/// How [`serve`] is to run.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// What the provider does.
    pub scenario: Scenario,
    /// Fixes everything random.
    pub seed: u64,
    /// Where to listen; port 0 lets the system choose.
    pub addr: SocketAddr,
    /// The time between progress reports.
    pub report_every: Duration,
    /// How long answers under way may go on at the end.
    pub grace: Duration,
}

impl Default for ServeOptions {
    /// The default scenario on 127.0.0.1 at a port of the system's choice, a report every second, 5 s of grace.
    fn default() -> Self {
        Self {
            scenario: Scenario::default(),
            seed: 0,
            addr: ([127, 0, 0, 1], 0).into(),
            report_every: Duration::from_secs(1),
            grace: Duration::from_secs(5),
        }
    }
}

/// What [`serve`] has to tell.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeEvent<'a> {
    /// It listens; the base URL.
    Listening(&'a str),
    /// What it saw so far.
    Progress(&'a Tally),
}

/// Runs a server until `until` completes (Ctrl-C, say), telling `on_event` how it goes; what it saw at the end.
///
/// # Errors
/// As [`Server::start`].
pub async fn serve(
    options: ServeOptions,
    mut on_event: impl FnMut(ServeEvent<'_>),
    until: impl Future<Output = ()>,
) -> Result<Tally, StartError> {
    let server = Server::start(options.scenario, options.seed, options.addr).await?;
    on_event(ServeEvent::Listening(&server.url()));
    let mut until = pin!(until);
    // An interval of nothing would be an error of tokio's.
    let mut reports = tokio::time::interval(options.report_every.max(Duration::from_millis(1)));
    reports.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut until => break,
            _ = reports.tick() => on_event(ServeEvent::Progress(&server.tally())),
        }
    }
    Ok(server.stop(options.grace).await)
}

/// The provider and the moment its time began.
#[derive(Debug)]
struct World {
    provider: Provider,
    start: Instant,
    /// Counts restarts, so that requests of an earlier world do not touch this one.
    generation: u64,
    seed: u64,
}

impl World {
    fn new(scenario: Scenario, seed: u64) -> Result<Self, ScenarioError> {
        let mut provider = Provider::new(scenario, seed)?;
        provider.set_wall_clock(SystemTime::now());
        Ok(Self { provider, start: Instant::now(), generation: 0, seed })
    }
}

#[derive(Debug)]
struct Shared {
    world: Mutex<World>,
    /// Answers so far, from which their trace ids come.
    answers: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        // The provider's methods do not panic half-way; a poisoned lock only says that some other thread died.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, f: impl FnOnce(&mut Provider, Timestamp) -> T) -> T {
        let world = &mut *self.lock();
        let now = Timestamp::ZERO + world.start.elapsed();
        f(&mut world.provider, now)
    }

    /// The scenario in force and its seed.
    fn followed(&self) -> (Scenario, u64) {
        let world = self.lock();
        (world.provider.scenario().clone(), world.seed)
    }

    fn restart(&self, scenario: Option<Scenario>) -> Result<(), ScenarioError> {
        let mut world = self.lock();
        let scenario = scenario.unwrap_or_else(|| world.provider.scenario().clone());
        let fresh = World::new(scenario, world.seed)?;
        *world = World { generation: world.generation + 1, ..fresh };
        Ok(())
    }
}

/// An admitted request's slot, given back when dropped: what is not finished by then was left by its client.
#[derive(Debug)]
struct Slot {
    shared: Arc<Shared>,
    generation: u64,
    id: FlightId,
    open: bool,
}

impl Slot {
    fn finish(&mut self) {
        self.end(Provider::finish);
    }

    fn end(&mut self, how: fn(&mut Provider, Timestamp, FlightId)) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let world = &mut *self.shared.lock();
        if world.generation == self.generation {
            let now = Timestamp::ZERO + world.start.elapsed();
            how(&mut world.provider, now, self.id);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.end(Provider::disconnect);
    }
}

/// `after` later; what no clock can tell is in a year.
fn moment(arrived: Instant, after: Duration) -> Instant {
    arrived.checked_add(after).unwrap_or_else(|| arrived + Duration::from_secs(365 * 24 * 3600))
}

/// Breaks the connection off instead of answering.
#[derive(Debug, Error)]
#[error("the connection is broken off, as the scenario asks")]
struct BrokenOff;

async fn respond(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    reset: Arc<AtomicBool>,
) -> Result<Response<Answer>, BrokenOff> {
    let allowed_headers = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut response = route(request, &shared, &reset).await?;
    let headers = response.headers_mut();
    let mut trace = fastrand::Rng::with_seed(shared.answers.fetch_add(1, Ordering::Relaxed));
    if let Ok(trace) = HeaderValue::from_str(&format!("{:032x}", trace.u128(..))) {
        headers.insert("x-ds-trace-id", trace);
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    if let Some(allowed) = allowed_headers {
        // A `*` would not cover `authorization` (https://fetch.spec.whatwg.org/#cors-non-wildcard-request-header-name).
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    }
    Ok(response)
}

async fn route(
    request: Request<Incoming>,
    shared: &Arc<Shared>,
    reset: &AtomicBool,
) -> Result<Response<Answer>, BrokenOff> {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Ok(empty(StatusCode::PAYLOAD_TOO_LARGE));
        }
        Err(_) => return Err(BrokenOff),
    };
    let path = parts.uri.path();
    if let Some(control) = path.strip_prefix("/__sim/") {
        return Ok(steer(&parts.method, control, &body, shared));
    }
    let path = path.strip_prefix("/v1").or_else(|| path.strip_prefix("/beta")).unwrap_or(path);
    let from = Caller::of(&parts.headers);
    match (&parts.method, path) {
        (&Method::OPTIONS, _) => Ok(empty(StatusCode::NO_CONTENT)),
        (&Method::POST, "/chat/completions") => complete(&from, Asked::chat(&body), shared, reset).await,
        (&Method::POST, "/completions") => complete(&from, Asked::fim(&body), shared, reset).await,
        (&Method::GET, "/models") => Ok(from.authenticated(shared, |provider| {
            let models: Vec<_> = (provider.scenario().model_names().into_iter())
                .map(|id| json!({"id": id, "object": "model", "owned_by": "deepseek"}))
                .collect();
            json!({"object": "list", "data": models})
        })),
        (&Method::GET, "/user/balance") => Ok(from.authenticated(shared, |provider| {
            // An account whose money never ends shows a round sum.
            let (amount, currency) = provider.balance(from.key).unwrap_or((100.0, "USD"));
            let total = format!("{:.2}", amount.max(0.0));
            json!({"is_available": amount > 0.0, "balance_infos": [{
                "currency": currency, "total_balance": total, "granted_balance": "0.00", "topped_up_balance": total,
            }]})
        })),
        (_, "/chat/completions" | "/completions" | "/models" | "/user/balance") => {
            Ok(empty(StatusCode::METHOD_NOT_ALLOWED))
        }
        _ => Ok(empty(StatusCode::NOT_FOUND)),
    }
}

/// Who calls, as the headers say.
struct Caller<'a> {
    key: Option<&'a str>,
    client: Option<&'a str>,
    tag: Option<&'a str>,
}

impl<'a> Caller<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(header::AUTHORIZATION).and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim()).filter(|key| !key.is_empty())
        });
        Self {
            key: bearer,
            client: text(HeaderName::from_static("x-client")),
            tag: text(HeaderName::from_static("x-request-tag")),
        }
    }

    fn authenticated(
        &self,
        shared: &Shared,
        answer: impl FnOnce(&mut Provider) -> serde_json::Value,
    ) -> Response<Answer> {
        let answer = shared.with(|provider, _| provider.authenticate(self.key).map(|()| answer(provider)));
        match answer {
            Ok(value) => json_response(StatusCode::OK, &value),
            Err(rejected) => refusal(rejected),
        }
    }
}

/// The chat and fill-in-the-middle endpoints.
async fn complete(
    from: &Caller<'_>,
    asked: Result<Asked, String>,
    shared: &Arc<Shared>,
    reset: &AtomicBool,
) -> Result<Response<Answer>, BrokenOff> {
    let arrived = Instant::now();
    let asked = match asked {
        Ok(asked) => asked,
        Err(message) => {
            let rejected = shared.with(|provider, now| {
                let rejected = provider.authenticate(from.key).err().unwrap_or_else(|| bad_request(&message));
                provider.count_refused(now, from.client, from.key, rejected.reason);
                rejected
            });
            return Ok(refusal(rejected));
        }
    };
    let (decision, mut slot) = {
        let world = &mut *shared.lock();
        let now = Timestamp::ZERO + world.start.elapsed();
        let decision = world.provider.arrive(
            now,
            &Arrival {
                key: from.key,
                client: from.client,
                model: &asked.model,
                user_id: asked.user_id.as_deref(),
                tag: from.tag.or(asked.tag.as_deref()),
                prompt_tokens: asked.prompt_tokens,
                max_tokens: asked.max_tokens,
                stream: asked.stream,
                thinking: asked.thinking,
                service: None,
            },
        );
        let slot = match &decision {
            Decision::Admit(admission) => {
                Some(Slot { shared: Arc::clone(shared), generation: world.generation, id: admission.id, open: true })
            }
            _ => None,
        };
        (decision, slot)
    };
    let (admission, slot) = match (decision, slot.take()) {
        (Decision::Admit(admission), Some(slot)) => (admission, slot),
        (Decision::Reject(rejected), _) => {
            tokio::time::sleep_until(moment(arrived, rejected.after)).await;
            return Ok(refusal(rejected));
        }
        _ => {
            reset.store(true, Ordering::Relaxed);
            return Err(BrokenOff);
        }
    };
    answer(asked, admission, slot, arrived).await
}

/// Waits for the moment of the answer's head, and makes the body that does the rest.
async fn answer(
    asked: Asked,
    admission: Admission,
    mut slot: Slot,
    arrived: Instant,
) -> Result<Response<Answer>, BrokenOff> {
    let Admission { id, plan, headers } = admission;
    tokio::time::sleep_until(moment(arrived, plan.headers)).await;
    if plan.end == End::HangUp && plan.headers >= plan.wait {
        slot.finish();
        return Err(BrokenOff);
    }
    let (style, cache_hit, seed) = {
        let world = slot.shared.lock();
        let scenario = world.provider.scenario();
        (scenario.rejection.body, scenario.cache_hit, world.seed)
    };
    let mut rng = fastrand::Rng::with_seed(seed ^ id.number().wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let name = completion::uuid(&mut rng);
    let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let stream = asked.stream;
    let completion = Completion::new(&asked, &plan, name, created, cache_hit);
    let script = Script::new(plan, completion, stream, style, arrived, slot);
    let mut response = Response::new(Answer::Script(Box::new(script)));
    let kind = if stream { "text/event-stream; charset=utf-8" } else { "application/json" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if stream {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    put_headers(response.headers_mut(), headers);
    Ok(response)
}

fn put_headers(headers: &mut HeaderMap, values: Vec<(&'static str, String)>) {
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

fn bad_request(message: &str) -> Rejected {
    let body = errors::bad_request(message);
    Rejected {
        reason: RejectReason::BadRequest,
        status: 400,
        content_type: body.content_type,
        headers: Vec::new(),
        body: body.body,
        after: Duration::ZERO,
    }
}

fn refusal(rejected: Rejected) -> Response<Answer> {
    let mut response = Response::new(Answer::Full(Full::new(rejected.body)));
    *response.status_mut() = StatusCode::from_u16(rejected.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(kind) = rejected.content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    put_headers(response.headers_mut(), rejected.headers);
    response
}

fn empty(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer::Full(Full::default()));
    *response.status_mut() = status;
    response
}

fn json_response(status: StatusCode, value: &impl serde::Serialize) -> Response<Answer> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Answer::Full(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
