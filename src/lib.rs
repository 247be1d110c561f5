//! Production-safe calls to the DeepSeek API, and to any OpenAI-compatible API, while the provider's limits move.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod core;
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

pub use crate::core::backoff::RetryPolicy;
pub use crate::core::breaker::BreakerPolicy;
pub use crate::core::call::Clocks;
pub use crate::core::outcome::OutcomeKind;
pub use crate::core::queue::Class;
pub use crate::core::quota::QuotaSpec;
pub use crate::core::route::{ModelSpec, Strategy};
pub use crate::core::scheduler::WorkloadSpec;
#[cfg(feature = "client")]
pub use client::{
    ChatStream, Client, ClientBuilder, Error, ErrorKind, Event, EventStream, FimStream, Partial, Reply, Route,
};
