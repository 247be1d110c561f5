//! Native targets: tokio.

use std::error::Error as _;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tower_layer::Layer;
use tower_service::Service;

use crate::core::classify::TransportFailure;

pub(crate) use tokio::time::Instant;

/// Any future; natively one that can be sent between threads.
pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// A response's body.
pub(crate) type BodyStream = Pin<Box<dyn futures_core::Stream<Item = reqwest::Result<Bytes>> + Send>>;
/// Whether proxies can be chosen.
pub(crate) const HAS_PROXIES: bool = true;
/// Who is told of events.
pub(crate) type Listener = dyn Fn(&crate::client::Event) + Send + Sync;

/// The longest delay tokio's timers take is about two years; a waiter looks again long before.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug)]
pub(crate) struct Sleep(Pin<Box<tokio::time::Sleep>>);

impl Sleep {
    pub(crate) fn new(span: Duration) -> Self {
        Self(Box::pin(tokio::time::sleep(span.min(LONGEST))))
    }

    pub(crate) fn reset(&mut self, span: Duration) {
        self.0.as_mut().reset(Instant::now() + span.min(LONGEST));
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// A seed for jitter, from the system's randomness.
pub(crate) fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

/// The time in seconds since 1970, as far as the system knows.
pub(crate) fn unix_now() -> Option<u64> {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// The settings every connection shares.
///
/// HTTP/1.1 only, a connection to a request: over HTTP/2 all requests would share one connection, whose limit on streams
/// (often 100) would hold back requests that count as sent, and distort what is learned of the provider's limit.
pub(crate) fn configure_http(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    builder
        .http1_only()
        .connect_timeout(Duration::from_secs(10))
        // Load balancers close idle connections after 60 s; a request sent into one that just closed is lost.
        .pool_idle_timeout(Duration::from_secs(30))
        .tcp_keepalive(Duration::from_secs(30))
        // A redirect would carry the key to whoever the answer names.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
}

/// The settings of one route's connections.
pub(crate) fn route_http(
    builder: reqwest::ClientBuilder,
    proxy: Option<&str>,
    connects: &ConnectTime,
) -> Result<reqwest::ClientBuilder, reqwest::Error> {
    let builder = builder.connector_layer(connects.clone());
    Ok(match proxy {
        Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy)?),
        None => builder,
    })
}

/// How long it took to make the newest connection of a route: at least a round trip, which bounds how soon a rejection
/// can arrive.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectTime(Arc<AtomicU64>);

impl ConnectTime {
    /// The time of a connection made since this was last asked.
    pub(crate) fn take(&self) -> Option<Duration> {
        // The usual case, no new connection, must not write to shared memory.
        let micros = match self.0.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.0.swap(0, Ordering::Relaxed),
        };
        (micros > 0).then(|| Duration::from_micros(micros))
    }
}

impl<S> Layer<S> for ConnectTime {
    type Service = TimedConnector<S>;

    fn layer(&self, inner: S) -> TimedConnector<S> {
        TimedConnector { inner, time: self.clone() }
    }
}

/// A connector that notes how long it took.
#[derive(Clone, Debug)]
pub(crate) struct TimedConnector<S> {
    inner: S,
    time: ConnectTime,
}

impl<S, R> Service<R> for TimedConnector<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Boxed<Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, target: R) -> Self::Future {
        let (connecting, time, begun) = (self.inner.call(target), self.time.clone(), Instant::now());
        Box::pin(async move {
            let connected = connecting.await;
            if connected.is_ok() {
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                time.0.store(micros.max(1), Ordering::Relaxed);
            }
            connected
        })
    }
}

/// In which way a request failed, as far as the transport tells.
pub(crate) fn transport_failure(error: &reqwest::Error) -> TransportFailure {
    let mut source = error.source();
    let mut io = None;
    let mut texts = String::new();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            io = io.or(Some(error.kind()));
        }
        texts.push_str(&error.to_string());
        source = error.source();
    }
    let is_tls = || ["certificate", "TLS", "tls", "handshake", "UnknownIssuer"].iter().any(|word| texts.contains(word));
    if error.is_dns() {
        TransportFailure::Dns
    } else if error.is_connect() && error.is_timeout() {
        TransportFailure::ConnectTimedOut
    } else if error.is_connect() {
        if is_tls() { TransportFailure::Tls } else { TransportFailure::Connect }
    } else if error.is_timeout() {
        TransportFailure::TimedOut
    } else if error.is_builder() {
        TransportFailure::Other
    } else {
        use std::io::ErrorKind as K;
        match io {
            Some(K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::NotConnected) => {
                TransportFailure::Reset
            }
            Some(K::InvalidData) if is_tls() => TransportFailure::Tls,
            Some(K::UnexpectedEof) => TransportFailure::Reset,
            _ if texts.contains("invalid HTTP") || texts.contains("invalid chunk") => TransportFailure::Protocol,
            _ if texts.contains("before message completed") || texts.contains("end of file") => TransportFailure::Reset,
            _ => TransportFailure::Other,
        }
    }
}
