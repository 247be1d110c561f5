//! The batch's caller: the crate's client.

use crate::args::BatchArgs;
use crate::caller::{Call, CallError, Caller, Gauges, Reply};
use crate::connection::Connection;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("this build of tidegate has no client in it yet")]
    Absent,
}

/// No value of this type exists until the crate has its client.
pub(crate) enum ClientCaller {}

impl Caller for ClientCaller {
    async fn call(&self, _: Call) -> Result<Reply, CallError> {
        match *self {}
    }

    fn gauges(&self) -> Gauges {
        match *self {}
    }

    fn close(&self) {
        match *self {}
    }
}

/// A client with the limits and the workload that the arguments name.
pub(crate) fn connect(_: &Connection, _: &BatchArgs) -> Result<ClientCaller, ClientError> {
    Err(ClientError::Absent)
}
