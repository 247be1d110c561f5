//! `wasm32-unknown-unknown`: the JavaScript host, be it a browser, Node, Deno, Bun or a worker.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use gloo_timers::future::TimeoutFuture;

use crate::core::classify::TransportFailure;

pub(crate) use web_time::Instant;

/// Any future; there is one thread.
pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;
/// A response's body.
pub(crate) type BodyStream = Pin<Box<dyn futures_core::Stream<Item = reqwest::Result<Bytes>>>>;
/// Who is told of events.
pub(crate) type Listener = dyn Fn(&crate::client::Event);

#[derive(Debug)]
pub(crate) struct Sleep(TimeoutFuture);

impl Sleep {
    pub(crate) fn new(span: Duration) -> Self {
        // `setTimeout` takes a longer delay for none at all
        // (https://developer.mozilla.org/docs/Web/API/Window/setTimeout#maximum_delay_value).
        let millis = span.as_micros().div_ceil(1000).min(i32::MAX as u128) as u32;
        Self(TimeoutFuture::new(millis))
    }

    pub(crate) fn reset(&mut self, span: Duration) {
        *self = Self::new(span);
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// There is none: workers forbid a request to wait for what another one's timer does, so each call looks out for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {}

/// See [`Home`].
pub(crate) fn home() -> Option<Home> {
    None
}

/// See [`Home`].
pub(crate) fn spawn(home: Home, _task: impl Future<Output = ()> + 'static) {
    match home {}
}

/// A seed for jitter, from the host's randomness.
pub(crate) fn seed() -> u64 {
    let half = || (js_sys::Math::random() * 4_294_967_296.0) as u64;
    half() << 32 | half()
}

/// The time in seconds since 1970, as far as the host knows.
pub(crate) fn unix_now() -> Option<u64> {
    Some((js_sys::Date::now() / 1e3) as u64)
}

/// The host makes the connections; nothing can be set.
pub(crate) fn configure_http(builder: reqwest::ClientBuilder, _connect: Duration) -> reqwest::ClientBuilder {
    builder
}

/// The host makes the connections; nothing can be set.
pub(crate) fn route_http(
    builder: reqwest::ClientBuilder,
    _proxy: Option<&str>,
) -> Result<reqwest::ClientBuilder, reqwest::Error> {
    Ok(builder)
}

/// `fetch` does not tell why it failed.
pub(crate) fn transport_failure(error: &reqwest::Error) -> TransportFailure {
    if error.is_timeout() { TransportFailure::TimedOut } else { TransportFailure::Connect }
}
