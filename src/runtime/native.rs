//! Native targets: tokio.

use std::error::Error as _;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::core::classify::TransportFailure;

pub(crate) use tokio::time::Instant;

/// Any future; natively one that can be sent between threads.
pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// A response's body.
pub(crate) type BodyStream = Pin<Box<dyn futures_core::Stream<Item = reqwest::Result<Bytes>> + Send>>;
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

/// A runtime: calls wait in it, and a task of it looks out for them.
pub(crate) type Home = tokio::runtime::Id;

/// The runtime that polls us.
pub(crate) fn home() -> Option<Home> {
    tokio::runtime::Handle::try_current().ok().map(|handle| handle.id())
}

/// Runs `task` in the runtime that polls us, which is `home`.
pub(crate) fn spawn(_home: Home, task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
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
pub(crate) fn configure_http(builder: reqwest::ClientBuilder, connect: Duration) -> reqwest::ClientBuilder {
    builder
        .http1_only()
        .connect_timeout(connect)
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
) -> Result<reqwest::ClientBuilder, reqwest::Error> {
    Ok(match proxy {
        Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy)?),
        None => builder,
    })
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
