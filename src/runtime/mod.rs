//! What differs between native targets and the browser: the clock, timers, randomness, and whether futures are `Send`.
//!
//! Natively it is tokio. On `wasm32-unknown-unknown` it is the JavaScript host: `performance.now`, `setTimeout` and
//! `Math.random`. This is the only place that asks which target it is compiled for.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::core::time::Timestamp;

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
mod native;
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
use native as host;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
mod web;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
use web as host;

pub(crate) use host::{
    BodyStream, Boxed, Home, Listener, configure_http, home, route_http, seed, spawn, transport_failure, unix_now,
};

/// `Send`, where futures may move between threads: everywhere but in the browser.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub trait MaybeSend: Send {}
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
impl<T: Send + ?Sized> MaybeSend for T {}
/// `Send`, where futures may move between threads: everywhere but in the browser.
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub trait MaybeSend {}
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
impl<T: ?Sized> MaybeSend for T {}

/// `Sync`, where values may be shared between threads: everywhere but in the browser.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub trait MaybeSync: Sync {}
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
impl<T: Sync + ?Sized> MaybeSync for T {}
/// `Sync`, where values may be shared between threads: everywhere but in the browser.
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub trait MaybeSync {}
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
impl<T: ?Sized> MaybeSync for T {}

/// A monotonic clock that begins at zero when it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    zero: host::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { zero: host::Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.zero.elapsed()
    }
}

/// An alarm that can be set again and again; it costs nothing until it is first set.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    sleep: Option<host::Sleep>,
    at: Option<Timestamp>,
}

impl Timer {
    /// One that is off, of the runtime that polls us.
    pub(crate) fn off() -> Self {
        Self { sleep: Some(host::Sleep::new(Duration::ZERO)), at: None }
    }

    /// Sets it to `at`, or off.
    pub(crate) fn set(&mut self, clock: &Clock, at: Option<Timestamp>) {
        if self.at == at {
            return;
        }
        self.at = at;
        if let Some(at) = at {
            let from_now = at - clock.now();
            match &mut self.sleep {
                Some(sleep) => sleep.reset(from_now),
                None => self.sleep = Some(host::Sleep::new(from_now)),
            }
        }
    }

    /// Whether it is set, and to when.
    pub(crate) fn at(&self) -> Option<Timestamp> {
        self.at
    }

    /// Ready once its time has come; it is off from then on. Pending for ever while it is off.
    pub(crate) fn poll(&mut self, clock: &Clock, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(at), Some(sleep)) = (self.at, &mut self.sleep) else { return Poll::Pending };
        loop {
            std::task::ready!(sleep.poll(cx));
            let now = clock.now();
            if now >= at {
                self.at = None;
                return Poll::Ready(());
            }
            // Hosts cut long delays, and round short ones down.
            sleep.reset(at - now);
        }
    }
}

/// Waits for `span`.
pub(crate) async fn sleep(clock: &Clock, span: std::time::Duration) {
    let mut timer = Timer::default();
    timer.set(clock, Some(clock.now() + span));
    std::future::poll_fn(|cx| timer.poll(clock, cx)).await;
}
