//! A DeepSeek-shaped provider with a hidden, moving limit, to test clients against.
//!
//! Three layers, each usable alone:
//!
//! - [`scenario`]: what the provider does over time, as JSON or built in code: the concurrency cap, service times,
//!   outages, rate limits, faults, balance.
//! - [`provider`]: the provider itself as a machine without I/O. It is told the time and each arrival, and answers
//!   *reject, like this* or *admit, with this plan*. It never admits more than the cap, and keeps the exact
//!   [`tally`]. On a virtual clock [`play`] plays clients on it, the scheduler and any other, and [`oracle`] those to
//!   compare them with: one that knows the cap, and one with a fixed concurrency. [`losses`] says what became of the
//!   places that nobody took.
//! - [`server`]: the same machine behind an HTTP/1.1 server on real sockets, with the bodies DeepSeek sends; [`serve()`]
//!   wraps it for a command line.
//!
//! It does *not* model a language model: answers are text that a client can check for integrity (see [`answer`]).

pub mod answer;
mod cap;
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
mod completion;
mod errors;
pub mod losses;
pub mod oracle;
pub(crate) mod pace;
pub mod play;
pub mod provider;
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
mod request;
pub mod scenario;
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub mod server;
pub mod tally;

pub use provider::{Admission, Arrival, Decision, End, FlightId, Plan, Provider, Rejected};
pub use scenario::{Scenario, ScenarioError};
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub use server::{ServeEvent, ServeOptions, Server, StartError, serve};
pub use tally::{RejectReason, Tally};
