//! The gate as a [tower](https://docs.rs/tower) layer, for who sends requests by a client of their own.
//!
//! [`GateLayer`] puts a [`Client`]'s gate around any HTTP service: requests wait for a permit, are sent again where the
//! gate says so, and hold their permit until the response's body has ended or is dropped. Where requests go, with which
//! key, is the service's own affair, so the client should have one route, which then stands for the account whose limit
//! counts.
//!
//! What it does *not* do: look into bodies. A 429 is taken to be about requests in flight unless its headers say
//! otherwise, and an error inside a 200 is not seen. [`Client::request`] does more.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::Client;
use super::error::Error;
use super::exchange::CallOptions;
use super::gate::{Call, Order};
use super::options::call_options;
use crate::core::call::Attempt;
use crate::core::classify::{Phase, TransportFailure, classify, classify_transport, finished};
use crate::core::outcome::{Outcome, OutcomeKind};
use crate::core::scheduler::{Event, JobSpec};
use crate::runtime::{Boxed, MaybeSend};
use crate::transport::Received;

/// Any error that can be sent between threads.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Puts a client's gate around an HTTP service. See the [module](self).
///
/// ```
/// use tidegate::{Client, client::tower::GateLayer};
///
/// let client = Client::builder().base_url("http://127.0.0.1:8000").build()?;
/// let layer = GateLayer::new(&client, "deepseek-flash").workload("background");
/// // tower::ServiceBuilder::new().layer(layer).service(your_http_client)
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GateLayer {
    client: Client,
    model: String,
    options: CallOptions,
}

impl GateLayer {
    /// The gate of `client` for requests that count against the limit of `model`.
    pub fn new(client: &Client, model: impl Into<String>) -> Self {
        Self { client: client.clone(), model: model.into(), options: CallOptions::default() }
    }

    call_options!();
}

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, layer: self.clone() }
    }
}

/// A service behind a gate, made by [`GateLayer`].
///
/// It is always ready: requests wait inside. The last response is returned as it came, whatever its status; an error
/// means that there is none, for the gate refused the request, its deadline passed, or the service itself failed.
#[derive(Clone, Debug)]
pub struct Gated<S> {
    inner: S,
    layer: GateLayer,
}

impl<S, B, R> Service<Request<B>> for Gated<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + MaybeSend + 'static,
    S::Error: Into<BoxError>,
    S::Future: MaybeSend,
    B: Clone + MaybeSend + 'static,
    R: MaybeSend + 'static,
{
    type Response = Response<GatedBody<R>>;
    type Error = Error;
    type Future = Boxed<Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self { inner, layer } = self.clone();
        Box::pin(layer.send(inner, request))
    }
}

impl GateLayer {
    async fn send<S, B, R>(self, service: S, request: Request<B>) -> Result<Response<GatedBody<R>>, Error>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        S::Error: Into<BoxError>,
        B: Clone,
    {
        let Self { client, model, options } = self;
        options.validate()?;
        let mut call = client.gate.clone().submit(options.workload.as_deref(), |workload| JobSpec {
            deadline: options.deadline,
            clocks: options.clocks.clone(),
            max_attempts: options.max_attempts,
            on_full: options.on_full,
            ..JobSpec::new(&model, workload)
        })?;
        let mut last = None;
        loop {
            let attempt = match call.order().await {
                Order::Abort => continue,
                Order::Send(sending) => sending.attempt,
                Order::End(Ok(_)) => return Err(Error::new(super::ErrorKind::Malformed, "the answer was lost")),
                Order::End(Err(failure)) => {
                    let error = Error::of_failure(*failure, &client.gate.endpoints, None);
                    return last.map(|response: Response<R>| response.map(GatedBody::free)).ok_or(error);
                }
            };
            last = None;
            let mut service = service.clone();
            let request = request.clone();
            let sent = {
                let sending = std::pin::pin!(async move {
                    std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
                    service.call(request).await
                });
                call.race(sending).await
            };
            match sent {
                None => {}
                Some(Err(error)) => {
                    let words = error.into().to_string();
                    let outcome = classify_transport(TransportFailure::Other, Phase::BeforeHeaders, None, Some(&words));
                    call.ended(attempt, outcome, None);
                }
                Some(Ok(response)) => {
                    let head = Received { status: response.status(), headers: response.headers().clone() };
                    if head.status.is_success() {
                        call.report(attempt, Event::Headers);
                        if !call.hand_out(attempt) {
                            continue;
                        }
                        let held = Held { call, attempt, head, told: false, phase: Phase::BeforeContent };
                        return Ok(response.map(|body| GatedBody { body: Some(body), held: Some(held) }));
                    }
                    last = Some(response);
                    call.ended(attempt, head.with(|head, now| classify(head, b"", now)), None);
                }
            }
        }
    }
}

/// A request's permit while its response is read.
#[derive(Debug)]
struct Held {
    call: Call,
    attempt: Attempt,
    head: Received,
    told: bool,
    phase: Phase,
}

pin_project! {
    /// A response's body that holds its request's permit until it has ended or is dropped.
    ///
    /// If the gate gives the request up before that (a clock or its deadline runs out, the client is closed), the body ends
    /// with an [`Error`], even if its rest came later.
    #[derive(Debug)]
    pub struct GatedBody<R> {
        // Dropped in this order: first the connection, then the permit.
        #[pin]
        body: Option<R>,
        held: Option<Held>,
    }
}

impl<R> GatedBody<R> {
    fn free(body: R) -> Self {
        Self { body: Some(body), held: None }
    }
}

/// Why the gate has given up an attempt, which is over.
fn given_up(call: &mut Call, cx: &mut Context<'_>) -> Error {
    loop {
        match call.poll_order(cx) {
            Poll::Ready(Order::Abort) => {}
            Poll::Ready(Order::End(Err(failure))) => {
                return Error::of_failure(*failure, &call.gate().endpoints, None);
            }
            _ => return Error::new(super::ErrorKind::Closed, "the response was given up"),
        }
    }
}

impl<R> http_body::Body for GatedBody<R>
where
    R: http_body::Body,
    R::Error: Into<BoxError>,
{
    type Data = R::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<R::Data>, BoxError>>> {
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let polled = body.poll_frame(cx);
        let Some(held) = this.held else { return polled.map(|frame| frame.map(|frame| frame.map_err(Into::into))) };
        let Held { call, attempt, head, told, phase } = held;
        let (outcome, read) = match polled {
            Poll::Ready(Some(Ok(frame))) => {
                let first = frame.data_ref().and_then(|data| data.chunk().trim_ascii_start().first());
                // A blank frame, or one that begins as a comment of an event stream does, is a keep-alive.
                if first.is_some_and(|byte| *byte != b':') {
                    (*told, *phase) = (false, Phase::AfterContent);
                    call.report(*attempt, Event::Content);
                } else {
                    call.report(*attempt, Event::Alive);
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(None) => (head.with(|head, now| finished(head, None, now)), None),
            Poll::Ready(Some(Err(error))) => {
                let error = error.into();
                (head.broken(TransportFailure::Reset, *phase, Some(&error.to_string())), Some(Err(error)))
            }
            Poll::Pending => {
                if !*told {
                    *told = true;
                    call.report(*attempt, Event::Reading);
                }
                std::task::ready!(call.poll_over(cx));
                (Outcome::new(OutcomeKind::Cancelled), None)
            }
        };
        call.ended(*attempt, outcome, None);
        let read = match read {
            // The attempt was over before, perhaps while nobody read: its permit is another's, and its answer void.
            None if call.answered().is_none() => Some(Err(given_up(call, cx).into())),
            read => read,
        };
        this.body.set(None);
        *this.held = None;
        Poll::Ready(read)
    }

    fn is_end_stream(&self) -> bool {
        // While the permit is held the end must be seen by a read.
        self.held.is_none() && self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
