//! How a client is made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Client;
use super::error::Error;
use super::event::Event;
use super::exchange::validate_clocks;
use super::gate::{Gate, Settings};
use super::route::{MOST_CONCURRENCY, Route};
use crate::core::backoff::RetryPolicy;
use crate::core::breaker::BreakerPolicy;
use crate::core::call::Clocks;
use crate::core::route::Strategy;
use crate::core::scheduler::{Config, Scheduler, WorkloadSpec};
use crate::core::sse::Parser;
use crate::runtime::{self, Listener, MaybeSend, MaybeSync};

/// Builds a [`Client`]. Everything has a default that is right for DeepSeek, but for the key.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Class, Client, Route, WorkloadSpec};
///
/// let client = Client::builder()
///     .api_key("sk-example")
///     .route(Route::new("own").base_url("http://127.0.0.1:8000/v1").account("own"))
///     .workload(WorkloadSpec::new("eval", Class::Background))
///     .deadline(Duration::from_secs(600))
///     .build()?;
/// # Ok::<(), tidegate::Error>(())
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct ClientBuilder {
    api_key: Option<String>,
    base_url: Option<String>,
    routes: Vec<Route>,
    config: Config,
    max_concurrency: Option<u32>,
    max_body: usize,
    max_event: usize,
    connect: Duration,
    http: Option<reqwest::Client>,
    listeners: Vec<Box<Listener>>,
    seed: Option<u64>,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            api_key: None,
            base_url: None,
            routes: Vec::new(),
            config: Config::new(Vec::new()),
            max_concurrency: None,
            max_body: 256 << 20,
            max_event: Parser::DEFAULT_MAX_EVENT_BYTES,
            connect: Duration::from_secs(10),
            http: None,
            listeners: Vec::new(),
            seed: None,
        }
    }
}

impl ClientBuilder {
    /// Sets the key of the default route. With [`base_url`](Self::base_url) it makes the first route, before those added
    /// by [`route`](Self::route).
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Sets the base URL of the default route. Default `https://api.deepseek.com`.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Adds a route. By default calls take the first route that is open; see [`strategy`](Self::strategy).
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Adds routes.
    pub fn routes(mut self, routes: impl IntoIterator<Item = Route>) -> Self {
        self.routes.extend(routes);
        self
    }

    /// Sets how calls choose among routes. Default [`Strategy::Ordered`].
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.config.strategy = strategy;
        self
    }

    /// Makes a workload known. `interactive`, `normal` and `background` always exist, in the classes of their names; any
    /// other name comes into being when first used, in class normal.
    pub fn workload(mut self, workload: WorkloadSpec) -> Self {
        self.config.workloads.push(workload);
        self
    }

    /// Sets a hard ceiling on requests in flight, per account and model, of routes that have none of their own; at most
    /// 1,000,000. Default none: the limit is learned.
    pub fn max_concurrency(mut self, limit: u32) -> Self {
        self.max_concurrency = Some(limit);
        self
    }

    /// Sets the total time a call may take, waiting included, where it brings no deadline of its own. Default none.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.config.deadline = Some(deadline);
        self
    }

    /// Sets how many calls to one model may wait before further ones are refused. Models that share a limit share the
    /// number; where an account limits each user, it holds for each. Default 10,000.
    pub fn max_queued(mut self, calls: usize) -> Self {
        self.config.max_queued = calls;
        self
    }

    /// Sets how failed attempts are retried.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.config.retry = retry;
        self
    }

    /// Sets how many attempts may fail before the call does, the first among them. Those answered 429, 503 or 529 are not
    /// counted; they are tried again until [`RetryPolicy::max_elapsed`], half an hour after the first. Default 5.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.config.retry.max_attempts = attempts;
        self
    }

    /// Sets when a breaker opens.
    pub fn breaker(mut self, breaker: BreakerPolicy) -> Self {
        self.config.breaker = breaker;
        self
    }

    /// Sets the clocks of calls that bring none of their own.
    pub fn clocks(mut self, clocks: Clocks) -> Self {
        self.config.clocks = clocks;
        self
    }

    /// Sets how long a connection may take to be made, TLS included. Default 10 s. In a browser the host decides, and the
    /// time is part of [`Clocks::headers`].
    pub fn connect_timeout(mut self, span: Duration) -> Self {
        self.connect = span;
        self
    }

    /// Sets how long an account without money, or a route whose key was refused, is left alone before one call probes
    /// it. Default 5 min.
    pub fn stop_probe(mut self, span: Duration) -> Self {
        self.config.stop_probe = span;
        self
    }

    /// Sets the largest answer that is read, in bytes, where it is not a stream. Default 256 MiB.
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Sets the largest single event of a stream, in bytes. Default 16 MiB.
    pub fn max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event = bytes;
        self
    }

    /// Sets the HTTP client, for a TLS setup or a resolver of one's own. It replaces Tidegate's settings too: HTTP/1.1
    /// only, 10 s to connect, no redirects. Over HTTP/2 all requests share one connection, whose limit on streams would
    /// hold back requests that count as sent. Routes with a proxy don't use it.
    pub fn http_client(mut self, http: reqwest::Client) -> Self {
        self.http = Some(http);
        self
    }

    /// Calls `listener` with everything worth knowing that happens: limits learned, overload, retries, failovers. It runs
    /// on whichever task drives the client at the moment, so it should be quick; no lock is held.
    pub fn on_event(mut self, listener: impl Fn(&Event) + MaybeSend + MaybeSync + 'static) -> Self {
        self.listeners.push(Box::new(listener));
        self
    }

    /// Fixes the seed of jitter, for runs that can be repeated. Default: from the system's randomness.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Checks everything and makes the client. Nothing is sent.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](super::ErrorKind::Config): no key for DeepSeek, more than 64 routes, one that serves no model, a
    /// URL, key, header or proxy that can't be used, a limit or a duration of zero, weights out of range, names that are
    /// empty or given twice. The message says which field, and never quotes a secret.
    #[allow(clippy::arc_with_non_send_sync, reason = "in a browser there is one thread, and natively it is both")]
    pub fn build(self) -> Result<Client, Error> {
        let Self { api_key, base_url, routes, mut config, max_concurrency, max_body, max_event, connect, http, .. } =
            self;
        check(&config, max_concurrency, max_body, max_event, connect)?;
        let mut all = Vec::with_capacity(routes.len() + 1);
        if api_key.is_some() || base_url.is_some() || routes.is_empty() {
            all.push(default_route(api_key, base_url));
        }
        all.extend(routes);

        let mut shared = http;
        let mut endpoints = Vec::with_capacity(all.len());
        for mut route in all {
            route.default_max_concurrency(max_concurrency);
            let http = match (&route.proxy, &shared) {
                (None, Some(shared)) => shared.clone(),
                (None, None) => shared.insert(http_client(connect, None)?).clone(),
                (Some(proxy), _) => http_client(connect, Some(proxy))?,
            };
            let (spec, endpoint) = route.build(http)?;
            config.routes.push(spec);
            endpoints.push(endpoint);
        }
        let settings = Settings {
            max_body,
            max_event,
            counts_tokens: config.routes.iter().any(|route| route.quota.tokens_per_minute.is_some()),
            retry: config.retry.clone(),
            deadline: config.deadline,
        };
        let seed = self.seed.unwrap_or_else(runtime::seed);
        let scheduler = Scheduler::new(config, seed)?;
        Ok(Client { gate: Arc::new(Gate::new(scheduler, endpoints, settings, self.listeners, !seed)) })
    }
}

impl fmt::Debug for ClientBuilder {
    /// Without keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("has_key", &self.api_key.is_some())
            .field("routes", &self.routes)
            .field("config", &self.config)
            .field("max_concurrency", &self.max_concurrency)
            .finish_non_exhaustive()
    }
}

/// A route by nothing but key and base URL. It is named `deepseek`, or by its host and port.
fn default_route(key: Option<String>, base_url: Option<String>) -> Route {
    let host = base_url.as_deref().and_then(|url| {
        let url = url::Url::parse(url).ok()?;
        let host = url.host_str()?;
        Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    });
    let name = match host {
        Some(host) if host != "api.deepseek.com" => host,
        _ => "deepseek".into(),
    };
    let mut route = Route::new(name);
    if let Some(key) = key {
        route = route.api_key(key);
    }
    if let Some(url) = base_url {
        route = route.base_url(url);
    }
    route
}

/// How a proxy may be spoken to.
const PROXIES: [&str; 6] = ["http", "https", "socks5", "socks5h", "socks4", "socks4a"];

fn http_client(connect: Duration, proxy: Option<&str>) -> Result<reqwest::Client, Error> {
    let builder = runtime::configure_http(reqwest::Client::builder(), connect);
    // What is wrong with a proxy's URL is said without quoting it: it may hold a password.
    let fail = |what: &str| Error::config(format!("Expected `proxy` to be a URL of a proxy{what}"));
    // Another scheme would have the proxy passed by in silence.
    let is_known = |proxy: &str| match proxy.split_once("://") {
        Some((scheme, _)) => PROXIES.iter().any(|known| known.eq_ignore_ascii_case(scheme.trim_start())),
        None => true,
    };
    let builder = match proxy {
        Some(_) if cfg!(all(target_family = "wasm", target_os = "unknown")) => {
            return Err(fail(", and to be set natively only: a browser chooses its own"));
        }
        Some(proxy) if !is_known(proxy) => {
            return Err(fail(&format!(
                " that begins with one of {}",
                PROXIES.map(|known| [known, "://"].concat()).join(", ")
            )));
        }
        Some(proxy) => runtime::route_http(builder, Some(proxy)).map_err(|_| fail(""))?,
        None => builder,
    };
    builder
        .build()
        .map_err(|error| Error::config(format!("the HTTP client can't be made: {}", crate::transport::words(error))))
}

/// What the scheduler does not check.
fn check(
    config: &Config,
    max_concurrency: Option<u32>,
    max_body: usize,
    max_event: usize,
    connect: Duration,
) -> Result<(), Error> {
    let fail = |message: String| Err(Error::config(message));
    if let Some(limit) = max_concurrency
        && !(1..=MOST_CONCURRENCY).contains(&limit)
    {
        return fail(format!("Expected `max_concurrency` to be between 1 and 1,000,000, got {limit}"));
    }
    if config.deadline == Some(Duration::ZERO) {
        return fail("Expected `deadline` to be longer than zero, got 0 s".into());
    }
    if config.retry.budget_floor == 0 {
        return fail("Expected `budget_floor` to be at least 1, got 0".into());
    }
    if connect == Duration::ZERO {
        return fail("Expected `connect_timeout` to be longer than zero, got 0 s".into());
    }
    if config.stop_probe == Duration::ZERO {
        return fail("Expected `stop_probe` to be longer than zero, got 0 s".into());
    }
    if let Err(message) = validate_clocks(&config.clocks) {
        return fail(message);
    }
    // Every answer is larger than this, and every event.
    for (field, bytes) in [("max_body_bytes", max_body), ("max_event_bytes", max_event)] {
        if bytes < 1024 {
            return fail(format!("Expected `{field}` to be at least 1,024, got {bytes}"));
        }
    }
    Ok(())
}
