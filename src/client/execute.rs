//! Any request through the gate.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{Error, ErrorKind};
use super::exchange::{CallOptions, Exchange, Prepared, Read, Subject, Turn, poll_read};
use super::gate::{Gate, Order};
use super::options::call_options;
use crate::core::call::Attempt;
use crate::core::classify::{Phase, finished};
use crate::core::outcome::OutcomeKind;
use crate::core::scheduler::Event;
use crate::runtime::{self, BodyStream};
use crate::transport::{Received, Wire, WireHeaders, words};

/// Any request through the gate, from [`Client::request`](super::Client::request).
///
/// The request's URL must lie under the base URL of one of the client's routes. What follows the base is sent to
/// whichever route is chosen, with that route's key, headers and name for the model: so it fails over like any call, and
/// no key of one provider reaches another (an `Authorization` header of the request is not sent). Its body must be in
/// memory, for it may have to be sent again. Errors show none of what its headers hold that are secret by their names
/// (`x-api-key`, `cookie` and the like).
///
/// It is retried until a 2xx head comes. The body after it is the caller's: it is not looked into, and it holds the permit
/// until it has ended or is dropped.
#[must_use = "a call does nothing until `send`"]
pub struct RequestCall {
    gate: Arc<Gate>,
    request: reqwest::Request,
    model: Option<String>,
    options: CallOptions,
}

impl RequestCall {
    pub(super) fn new(gate: Arc<Gate>, request: reqwest::Request) -> Self {
        Self { gate, request, model: None, options: CallOptions::default() }
    }

    /// Sets the model whose limit the request counts against. Default: the field `model` of a JSON body; else what the
    /// request's path begins with below the base URL (`/files`), which then has a limit of its own.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    call_options!();

    /// Sends it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if the URL is under no route's base or the body is a stream; else as
    /// [`ChatCall::send`](super::ChatCall::send). An answer that is no 2xx is an error with its
    /// [`response`](Error::response).
    pub async fn send(self) -> Result<http::Response<Body>, Error> {
        let Self { gate, request, model, options } = self;
        let (wire, found) = wire(&gate, &request)?;
        let model = model.or(found.model).unwrap_or_else(|| first_of(&wire.path).to_owned());
        let subject = Subject { operation: "execute", model, user_id: found.user_id, tokens: 0 };
        let mut exchange = Exchange::submit(Box::new(Prepared { gate, options, subject, wire }))?;
        let (attempt, opened) = loop {
            match exchange.live_turn().await {
                Turn::Opened(attempt, opened) => {
                    exchange.call.report(attempt, Event::Headers);
                    if exchange.call.hand_out(attempt) {
                        break (attempt, opened);
                    }
                }
                Turn::End(Err(failure)) => return Err(exchange.error(*failure)),
                Turn::End(Ok(_)) => return Err(Error::new(ErrorKind::Malformed, "the answer was lost")),
            }
        };
        let mut response = http::Response::new(());
        *response.status_mut() = opened.head.status;
        *response.headers_mut() = opened.head.headers.clone();
        let body = Body {
            body: Some(opened.body),
            head: opened.head,
            attempt,
            told: false,
            phase: Phase::BeforeContent,
            is_over: false,
            exchange,
        };
        Ok(response.map(|()| body))
    }
}

impl fmt::Debug for RequestCall {
    /// Without headers and body: they may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestCall")
            .field("method", self.request.method())
            .field("path", &self.request.url().path())
            .field("model", &self.model)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What the scheduler wants to know of a body.
#[derive(Default, Deserialize)]
struct Found {
    model: Option<String>,
    user_id: Option<String>,
}

/// A path's first part. Those behind it may be ids, and each limit is kept.
fn first_of(path: &str) -> &str {
    path.match_indices('/').nth(1).map_or(path, |(end, _)| &path[..end])
}

fn wire(gate: &Gate, request: &reqwest::Request) -> Result<(Wire, Found), Error> {
    let url = request.url();
    let below = |base: &url::Url| {
        let same = base.scheme() == url.scheme()
            && base.host() == url.host()
            && base.port_or_known_default() == url.port_or_known_default();
        let rest = url.path().strip_prefix(base.path().trim_end_matches('/'))?;
        (same && rest.starts_with('/')).then(|| rest.to_owned())
    };
    // The beta base may lie below the base.
    let beta = gate.endpoints.iter().filter(|to| to.beta != to.base).find_map(|to| below(&to.beta));
    let plain = || gate.endpoints.iter().find_map(|to| below(&to.base));
    let is_beta = beta.is_some();
    let Some(path) = beta.or_else(plain) else {
        let (host, path) = (url.host_str().unwrap_or_default(), url.path());
        return Err(Error::invalid(format!("Expected a URL under the base URL of a route, got one at `{host}{path}`")));
    };
    let body = match request.body() {
        None => Bytes::new(),
        Some(body) => match body.as_bytes() {
            Some(bytes) => Bytes::copy_from_slice(bytes),
            None => return Err(Error::invalid("Expected a body in memory, got a stream: it could not be sent again")),
        },
    };
    let found = serde_json::from_slice(&body).unwrap_or_default();
    let mut headers = request.headers().clone();
    for name in [AUTHORIZATION, HOST, CONTENT_LENGTH] {
        headers.remove(name);
    }
    let query = url.query().map(Into::into);
    let (method, path) = (request.method().clone(), path.into());
    Ok((Wire { method, path, query, beta: is_beta, headers: WireHeaders::Own(Box::new(headers)), body }, found))
}

/// A response's body. It holds the request's permit until it has ended or is dropped; dropping it closes the connection.
///
/// It is a [`Stream`] of chunks and an [`http_body::Body`].
pub struct Body {
    // Dropped in this order: first the connection, then the permit.
    body: Option<BodyStream>,
    head: Received,
    attempt: Attempt,
    told: bool,
    phase: Phase,
    is_over: bool,
    exchange: Exchange,
}

impl Body {
    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`] if it broke off, [`ErrorKind::Deadline`] or [`ErrorKind::Closed`] if it was aborted;
    /// nothing follows it.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Error>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The whole body, at most as large as [`max_body_bytes`](super::ClientBuilder::max_body_bytes) allows.
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk), and [`ErrorKind::Malformed`] if it is larger.
    pub async fn bytes(mut self) -> Result<Bytes, Error> {
        let limit = self.exchange.call.gate().settings.max_body;
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await {
            let chunk = chunk?;
            if whole.len().saturating_add(chunk.len()) > limit {
                return Err(Error::new(ErrorKind::Malformed, format!("the body is larger than {limit} bytes")));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// The whole body as JSON.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), and [`ErrorKind::Malformed`] if it is not JSON of that shape.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let bytes = self.bytes().await?;
        crate::transport::parse(&bytes).map_err(|error| {
            Error::new(ErrorKind::Malformed, format!("the body has another shape than expected: {error}"))
        })
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            if self.is_over {
                return Poll::Ready(None);
            }
            let Some(body) = &mut self.body else {
                match std::task::ready!(self.exchange.call.poll_order(cx)) {
                    Order::Abort => continue,
                    Order::Send(sending) => {
                        let outcome = crate::core::outcome::Outcome::new(OutcomeKind::Cancelled);
                        self.exchange.ended(sending.attempt, outcome, None);
                        continue;
                    }
                    Order::End(end) => {
                        self.is_over = true;
                        return Poll::Ready(match end {
                            Ok(done) => {
                                self.exchange.report(done, None, None);
                                None
                            }
                            Err(failure) => Some(Err(self.exchange.error(*failure))),
                        });
                    }
                }
            };
            let outcome =
                match std::task::ready!(poll_read(&mut self.exchange.call, self.attempt, body, &mut self.told, cx)) {
                    Read::Chunk(chunk) => {
                        // A blank chunk, or one that begins as a comment of an event stream does, is a keep-alive.
                        let content = chunk.trim_ascii_start().first().is_some_and(|byte| *byte != b':');
                        if content {
                            self.phase = Phase::AfterContent;
                            self.told = false;
                        }
                        let event = if content { Event::Content } else { Event::Alive };
                        self.exchange.call.report(self.attempt, event);
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                    Read::Over => None,
                    Read::End => Some(self.head.with(|head, now| finished(head, None, now))),
                    Read::Failed(error) => {
                        let failure = runtime::transport_failure(&error);
                        Some(self.head.broken(failure, self.phase, Some(&words(error))))
                    }
                };
            self.body = None;
            if let Some(outcome) = outcome {
                self.exchange.ended(self.attempt, outcome, None);
            }
        }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Error>>> {
        self.poll_chunk(cx).map(|chunk| chunk.map(|chunk| chunk.map(http_body::Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("status", &self.head.status)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}
