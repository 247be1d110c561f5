//! The client: calls to DeepSeek and any OpenAI-compatible API, through one gate.
//!
//! [`Client::builder`] makes one. Clone it freely: clones share the queue, the limits and the connections. Calls are
//! lazy and cancel-safe: nothing happens before the first poll, and dropping a future or a stream at any point gives its
//! permit back and closes its connection.
//!
//! Natively it runs in any number of tokio runtimes, of any kind, that have timers and I/O (`enable_all`): where one has
//! none, waiting for a call panics, as all of tokio does there. On wasm32 it needs no runtime.

mod account;
mod builder;
mod chat;
mod error;
mod event;
mod exchange;
mod execute;
mod fim;
mod gate;
mod json;
mod options;
mod reply;
mod route;
mod stream;
pub mod tower;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use builder::ClientBuilder;
pub use chat::ChatCall;
pub use error::{AttemptReport, Error, ErrorKind, Partial};
pub use event::Event;
pub use execute::{Body, RequestCall};
pub use fim::FimCall;
pub use json::JsonCall;
pub use reply::{Reply, Report};
pub use route::Route;
pub use stream::{ChatStream, EventStream, FimStream, StreamedChunk};

pub use crate::transport::ErrorResponse;

use crate::core::metrics::MetricsSnapshot;
use crate::core::scheduler::{LearnedLane, Load};
use crate::runtime::Timer;
use crate::types::{Balance, ChatRequest, FimRequest, ModelList};
use gate::Gate;

/// A client of one or more routes. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Client {
    gate: Arc<Gate>,
}

impl Client {
    /// Begins a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A client of DeepSeek by the environment: the key in `DEEPSEEK_API_KEY` and, if set, a base URL in
    /// `DEEPSEEK_BASE_URL`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if either makes no sense, or if the key is missing; only DeepSeek's own address needs one.
    pub fn from_env() -> Result<Self, Error> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let (key, url) = (set("DEEPSEEK_API_KEY"), set("DEEPSEEK_BASE_URL"));
        if key.is_none() && url.is_none() {
            return Err(Error::config("Expected the environment variable `DEEPSEEK_API_KEY` to be set, got none"));
        }
        let mut builder = Self::builder();
        if let Some(key) = key {
            builder = builder.api_key(key);
        }
        if let Some(url) = url {
            builder = builder.base_url(url);
        }
        builder.build()
    }

    /// Begins a chat with `model`.
    pub fn chat(&self, model: impl Into<String>) -> ChatCall {
        self.chat_request(ChatRequest::new(model))
    }

    /// Begins a chat call with a whole request.
    pub fn chat_request(&self, request: ChatRequest) -> ChatCall {
        ChatCall::new(self.gate.clone(), request)
    }

    /// Begins a fill-in-the-middle completion by `model`. With DeepSeek it goes to the beta base URL.
    pub fn fim(&self, model: impl Into<String>) -> FimCall {
        self.fim_request(FimRequest::new(model, ""))
    }

    /// Begins a fill-in-the-middle completion with a whole request.
    pub fn fim_request(&self, request: FimRequest) -> FimCall {
        FimCall::new(self.gate.clone(), request)
    }

    /// The models of the first route's provider. It neither waits for a permit nor counts as a request in flight, for
    /// providers limit generation, not this; it is retried like any call, for 30 s in all (or the client's deadline, if
    /// that is shorter), and is in no metrics.
    ///
    /// # Errors
    /// Any [`ErrorKind`] of a request that was sent; [`ErrorKind::Closed`] after [`close`](Self::close).
    pub async fn models(&self) -> Result<ModelList, Error> {
        account::get(&self.gate, 0, "/models").await
    }

    /// What is left on the first route's account (DeepSeek). Like [`models`](Self::models) it passes by the queue; it
    /// works on an account that is stopped for lack of money, which is when one asks.
    ///
    /// # Errors
    /// Any [`ErrorKind`] of a request that was sent; [`ErrorKind::Closed`] after [`close`](Self::close).
    pub async fn balance(&self) -> Result<Balance, Error> {
        account::get(&self.gate, 0, "/user/balance").await
    }

    /// The same as [`balance`](Self::balance) for the account of the route `name`.
    ///
    /// # Errors
    /// [`ErrorKind::NoRoute`] if there is none of that name, else as `balance`.
    pub async fn balance_of(&self, name: &str) -> Result<Balance, Error> {
        let route = self.gate.endpoints.iter().position(|endpoint| &*endpoint.name == name);
        let route = route.ok_or_else(|| Error::new(ErrorKind::NoRoute, format!("no route is named `{name}`")))?;
        account::get(&self.gate, route, "/user/balance").await
    }

    /// Begins a call with a JSON body of your own to `path` below the route's base, such as `/chat/completions`; see
    /// [`JsonCall`].
    pub fn json(&self, path: impl Into<String>, body: impl Into<Vec<u8>>) -> JsonCall {
        JsonCall::new(self.gate.clone(), path.into(), body.into())
    }

    /// Begins any request through the gate; see [`RequestCall`].
    pub fn request(&self, request: reqwest::Request) -> RequestCall {
        RequestCall::new(self.gate.clone(), request)
    }

    /// Sends any request through the gate; see [`RequestCall`].
    ///
    /// # Errors
    /// As [`RequestCall::send`].
    pub async fn execute(&self, request: reqwest::Request) -> Result<http::Response<Body>, Error> {
        self.request(request).send().await
    }

    /// Everything counted so far, and the state of every limit.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.gate.with(|scheduler, now| scheduler.snapshot(now))
    }

    /// The metrics in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        self.metrics().prometheus()
    }

    /// How much is going on right now. Cheaper than [`metrics`](Self::metrics).
    pub fn load(&self) -> Load {
        self.gate.load()
    }

    /// What was learned of the limits of accounts, to be saved and given to [`restore`](Self::restore) by the next process.
    /// Those of single users and rate limits are not in it.
    pub fn learned(&self) -> Vec<LearnedLane> {
        self.gate.with(|scheduler, _| scheduler.learned())
    }

    /// Takes over what a former process learned of the limits.
    pub fn restore(&self, learned: Vec<LearnedLane>) {
        self.gate.with(|scheduler, now| scheduler.restore(now, learned));
    }

    /// Reopens what was stopped (accounts out of money, routes whose key was refused), closes breakers and forgets the
    /// waits servers asked for: the balance was topped up, the key mended, the outage is over.
    pub fn resume(&self) {
        self.gate.with(|scheduler, now| scheduler.resume(now));
    }

    /// Closes the client: admits nothing more, ends every waiting call with [`ErrorKind::Closed`], lets requests in
    /// flight end for at most `grace`, then aborts them. It returns once nothing is in flight. Closing is not undone by
    /// dropping this future.
    pub async fn close(&self, grace: Duration) {
        let clock = self.gate.clock;
        self.gate.with(|scheduler, now| scheduler.close(now, false));
        let mut timer = Timer::default();
        timer.set(&clock, Some(clock.now() + grace));
        std::future::poll_fn(|cx| {
            if self.gate.poll_drained(cx).is_pending() {
                std::task::ready!(timer.poll(&clock, cx));
            }
            std::task::Poll::Ready(())
        })
        .await;
        self.gate.with(|scheduler, now| scheduler.close(now, true));
    }
}

impl fmt::Debug for Client {
    /// The routes by name and address. No keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes = self.gate.endpoints.iter().map(|endpoint| (&*endpoint.name, endpoint.base.as_str()));
        f.debug_struct("Client").field("routes", &routes.collect::<Vec<_>>()).finish_non_exhaustive()
    }
}
