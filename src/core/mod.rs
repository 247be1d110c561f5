//! The brain: it decides everything and touches nothing.
//!
//! No clock, no socket, no `async`, no lock and no randomness of its own: every method takes `now`, jitter comes from
//! a generator the caller seeds, and what must be done in the world comes out as an [`Action`](scheduler::Action).
//! That is what lets one brain serve every runtime, and hours of traffic be tested in milliseconds.
//!
//! What it does *not* do: open connections, hold request bodies, sleep, or know an API key.

pub mod backoff;
pub mod body;
pub mod breaker;
pub mod call;
pub mod classify;
pub mod cost;
pub mod error;
#[cfg(feature = "std")]
pub mod facts;
pub mod headers;
pub mod json;
pub mod limit;
pub mod metrics;
pub mod outcome;
pub mod queue;
pub mod quota;
pub mod route;
pub mod scheduler;
pub mod sse;
pub(crate) mod text;
pub mod time;
pub mod tokens;
