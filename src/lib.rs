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
