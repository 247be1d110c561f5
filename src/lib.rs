//! Production-safe calls to the DeepSeek API, and to any OpenAI-compatible API, while the provider's limits move.
//!
//! DeepSeek limits requests in flight per account, answers what is too much with an immediate 429, and moves the limit
//! with the load and with the balance. A [`Client`] learns that limit from the answers, keeps just as many requests in
//! flight, queues the rest by priority and fairness, retries what may be retried, fails over where there is another
//! [`Route`], and says precisely what went wrong where it can't. So a program may start a thousand calls at once and
//! forget about limits:
//!
//! ```no_run
//! # #[cfg(feature = "client")]
//! # async fn example(prompts: Vec<String>) -> Result<(), tidegate::Error> {
//! let client = tidegate::Client::from_env()?; // DEEPSEEK_API_KEY
//!
//! // One answer.
//! let reply = client.chat("deepseek-flash").user("Why do tides come twice a day?").send().await?;
//! println!("{}", reply.content().unwrap_or_default());
//!
//! // A stream, ahead of everything that is less urgent.
//! let mut stream = client.chat("deepseek-flash").user("And why not at noon?").workload("interactive").stream().await?;
//! while let Some(chunk) = stream.next().await {
//!     print!("{}", chunk?.content().unwrap_or_default());
//! }
//!
//! // A thousand, at whatever pace the provider allows.
//! for prompt in prompts {
//!     let call = client.chat("deepseek-flash").user(prompt).workload("background");
//!     tokio::spawn(async move { call.send().await });
//! }
//! # Ok(()) }
//! ```
//!
//! - Natively it runs on tokio with rustls; on `wasm32-unknown-unknown` on the host's `fetch` and timers.
//! - Calls are lazy and cancel-safe: dropping a future or a stream at any point gives its permit back and closes its
//!   connection.
//! - An answer that breaks off is never taken for whole, and never silently asked for twice: see
//!   [`ErrorKind::Interrupted`].
//! - Spans and events go to [`tracing`](https://docs.rs/tracing) under OpenTelemetry's names for generative AI; counts to
//!   [`Client::metrics`] and [`Client::prometheus`]. No key appears in any of them.
//!
//! | feature | what |
//! |---|---|
//! | `client` (default) | the client |
//! | `sim` | a DeepSeek-shaped server on real sockets, to test against |
//! | `cli` | the `tidegate` program |
//! | `js` | on wasm32: the core's bindings for the npm package |
//!
//! Without any feature there is [`core`](mod@core), which does no I/O and decides everything, and [`sse`]; it needs no
//! standard library. The feature `std`, which all others but `js` bring, adds [`types`] and the reading of JSON.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod core;
#[cfg(feature = "std")]
pub mod types;

pub use crate::core::sse;

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "client")]
mod runtime;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "client")]
mod transport;
#[cfg(all(feature = "js", target_family = "wasm", target_os = "unknown"))]
mod wasm;

pub use crate::core::backoff::RetryPolicy;
pub use crate::core::breaker::BreakerPolicy;
pub use crate::core::call::Clocks;
pub use crate::core::outcome::OutcomeKind;
pub use crate::core::queue::Class;
pub use crate::core::quota::QuotaSpec;
pub use crate::core::route::{ModelSpec, Strategy};
pub use crate::core::scheduler::WorkloadSpec;
/// What stands in the client's signatures, in the versions it is built with.
#[cfg(feature = "client")]
pub use {http, reqwest};

#[cfg(feature = "client")]
pub use client::{
    ChatStream, Client, ClientBuilder, Error, ErrorKind, Event, EventStream, FimStream, Partial, Reply, Route,
};
