//! One call's dealings with the world: the mechanical loop of sending what the scheduler wants sent and reporting what
//! became of it. No decision is made here.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tracing::Span;
use tracing::field::Empty;

use super::error::Error;
use super::gate::{Call, Gate, Order, Sending};
use super::reply::{Reply, Report};
use crate::core::body::{Arrival, Inspector};
use crate::core::call::{Attempt, Clocks, Failure};
use crate::core::classify::{Phase, TransportFailure, classify, finished};
use crate::core::facts::{Facts, Finish};
use crate::core::outcome::{Outcome, OutcomeKind};
use crate::core::route::RouteId;
use crate::core::scheduler::{Done, Event, JobSpec, OnFull};
use crate::core::tokens::TokenCount;
use crate::runtime::{self, BodyStream};
use crate::transport::{self, ErrorResponse, Opened, Received, Unopened, Wire, words};

/// How one call is to be treated.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOptions {
    pub(crate) workload: Option<String>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) clocks: Option<Clocks>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) on_full: OnFull,
}

impl CallOptions {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.deadline == Some(Duration::ZERO) {
            return Err(Error::invalid("Expected `deadline` to be longer than zero, got 0 s"));
        }
        if self.max_attempts == Some(0) {
            return Err(Error::invalid("Expected `max_attempts` to be at least 1, got 0"));
        }
        if self.workload.as_deref() == Some("") {
            return Err(Error::invalid("Expected `workload` to be a non-empty string, got \"\""));
        }
        self.clocks.as_ref().map_or(Ok(()), |clocks| validate_clocks(clocks).map_err(Error::invalid))
    }
}

pub(crate) fn validate_clocks(clocks: &Clocks) -> Result<(), String> {
    let clocks = [("headers", clocks.headers), ("first_content", clocks.first_content), ("idle", clocks.idle)];
    match clocks.into_iter().find(|(_, span)| *span == Some(Duration::ZERO)) {
        Some((name, _)) => Err(format!("Expected clock `{name}` to be longer than zero, or off, got 0 s")),
        None => Ok(()),
    }
}

/// What the scheduler and the trace must know of a request.
pub(crate) struct Subject {
    /// OpenTelemetry's name of the operation.
    pub(crate) operation: &'static str,
    pub(crate) model: String,
    pub(crate) user_id: Option<String>,
    pub(crate) tokens: u32,
}

/// A call with all that is needed to make it.
pub(crate) struct Prepared {
    pub(crate) gate: Arc<Gate>,
    pub(crate) options: CallOptions,
    pub(crate) subject: Subject,
    pub(crate) wire: Wire,
}

/// A whole answer of some endpoint.
pub(crate) trait Answer: serde::de::DeserializeOwned {
    /// What the scheduler needs to know of it.
    fn facts(&self) -> Facts;
    /// Whether it answers at all.
    fn is_answer(&self) -> bool;
    /// The model that answered.
    fn model(&self) -> Option<&str>;
}

/// A call with its request.
pub(crate) struct Exchange {
    pub(crate) call: Call,
    wire: Wire,
    /// The last answer that was an error.
    response: Option<Box<ErrorResponse>>,
    pub(crate) span: Span,
}

/// Where a call has come to.
pub(crate) enum Turn {
    /// A 2xx head came. It is still to be reported.
    Opened(Attempt, Opened),
    /// The call is over.
    End(Result<Done, Box<Failure>>),
}

impl Exchange {
    /// Submits a call.
    // This, and whatever else takes room, is kept apart from the futures' `poll`, on whose stack the sending of a request
    // stands: the less is between, the less of it has left the processor's cache.
    #[inline(never)]
    pub(crate) fn submit(prepared: Box<Prepared>) -> Result<Self, Error> {
        let Prepared { gate, options, subject, wire } = *prepared;
        options.validate()?;
        let workload = options.workload.as_deref();
        let Subject { operation, model, user_id, tokens } = &subject;
        let span = tracing::info_span!(
            "gen_ai.call",
            otel.name = format_args!("{operation} {model}"),
            otel.kind = "client",
            gen_ai.operation.name = operation,
            gen_ai.request.model = &**model,
            gen_ai.response.model = Empty,
            gen_ai.usage.input_tokens = Empty,
            gen_ai.usage.output_tokens = Empty,
            error.r#type = Empty,
            tidegate.workload = workload.unwrap_or("normal"),
            tidegate.route = Empty,
            tidegate.attempts = Empty,
        );
        let call = gate.submit(workload, |workload| JobSpec {
            user_id: user_id.as_deref(),
            tokens: *tokens,
            deadline: options.deadline,
            clocks: options.clocks,
            max_attempts: options.max_attempts,
            on_full: options.on_full,
            ..JobSpec::new(model, workload)
        })?;
        Ok(Self { call, wire, response: None, span })
    }

    /// Goes on until a 2xx head comes, or the call is over. The attempt may be over by then, too: its answer counts only if
    /// the call is [`answered`](Call::answered) once the attempt has ended.
    pub(crate) async fn turn(&mut self) -> Turn {
        loop {
            let sending = match self.call.order().await {
                Order::Send(sending) => sending,
                Order::End(end) => return Turn::End(end),
                Order::Abort => continue,
            };
            let Sending { attempt, route, rename } = sending;
            let answer = {
                let endpoint = self.call.gate().endpoint(route);
                tracing::debug!(
                    parent: &self.span, server.address = endpoint.base.host_str(), tidegate.route = &*endpoint.name,
                    tidegate.attempt = attempt.number, "sending"
                );
                let sent = transport::send(endpoint, &self.wire, rename.as_deref());
                self.call.drive(std::pin::pin!(sent)).await
            };
            match answer.map(|answer| transport::opened(route, answer)) {
                Some(Ok(opened)) => return Turn::Opened(attempt, opened),
                Some(Err(unopened)) => self.refused(attempt, route, unopened).await,
                // The attempt was aborted: one of its clocks ran out, or the client is closing.
                None => {}
            }
        }
    }

    /// The same for whoever hands an answer out before it has ended: its attempt is not over.
    pub(crate) async fn live_turn(&mut self) -> Turn {
        loop {
            match self.turn().await {
                Turn::Opened(..) if self.call.is_over() => {}
                turn => return turn,
            }
        }
    }

    /// Reports an attempt that came to nothing. Boxed: it is large, and most calls come without.
    #[inline(never)]
    fn refused(
        &mut self,
        attempt: Attempt,
        route: RouteId,
        unopened: Box<Unopened>,
    ) -> Pin<Box<impl Future<Output = ()>>> {
        Box::pin(async move {
            let gate = self.call.gate().clone();
            let refusal = {
                let reading = transport::refusal(gate.endpoint(route), &self.wire, *unopened, &gate.clock);
                self.call.race(std::pin::pin!(reading)).await
            };
            if let Some(refusal) = refusal {
                self.response = refusal.response;
                self.ended(attempt, refusal.outcome, None);
            }
        })
    }

    /// Reports the end of an attempt.
    pub(crate) fn ended(&mut self, attempt: Attempt, mut outcome: Outcome, tokens: Option<TokenCount>) {
        if outcome.kind != OutcomeKind::Success {
            outcome = self.wire.scrub(self.call.gate().scrub(outcome));
            tracing::debug!(
                parent: &self.span, tidegate.attempt = attempt.number, tidegate.outcome = ?outcome.kind,
                http.response.status_code = outcome.status, message = outcome.message.as_deref(),
            );
        }
        self.call.ended(attempt, outcome, tokens);
    }

    /// Reports what a whole body came to. `None`: the call is not answered by it.
    #[inline(never)]
    fn conclude<T: Answer>(
        &mut self,
        attempt: Attempt,
        route: RouteId,
        head: Received,
        body: Bytes,
    ) -> Option<Reply<T>> {
        let answer = transport::parse::<T>(&body);
        let (outcome, tokens) = judge(&head, &body, &answer);
        if outcome.kind != OutcomeKind::Success {
            self.response = Some(self.call.gate().endpoint(route).error_response(&self.wire, head, body));
        }
        self.ended(attempt, outcome, tokens);
        // Unless the attempt was over before, which makes its answer void.
        let done = self.call.answered()?;
        let answer = answer.ok()?;
        let report = self.report(done, answer.model(), tokens);
        Some(Reply::new(answer, report))
    }

    /// How a call that was answered came about.
    pub(crate) fn report(&self, done: Done, model: Option<&str>, tokens: Option<TokenCount>) -> Report {
        let report = Report::of(done, self.call.gate());
        if !self.span.is_disabled() {
            self.span.record("tidegate.route", &*report.route);
            self.span.record("tidegate.attempts", report.attempts_made);
            if let Some(model) = model {
                self.span.record("gen_ai.response.model", model);
            }
            if let Some(tokens) = tokens {
                self.span.record("gen_ai.usage.input_tokens", tokens.prompt);
                self.span.record("gen_ai.usage.output_tokens", tokens.completion);
            }
        }
        report
    }

    /// The error of a call that failed.
    pub(crate) fn error(&mut self, failure: Failure) -> Error {
        let error = Error::of_failure(failure, &self.call.gate().endpoints, self.response.take());
        self.span.record("error.type", error.kind().name());
        error
    }
}

/// What reading a body came to.
pub(crate) enum Read {
    Chunk(Bytes),
    End,
    Failed(reqwest::Error),
    /// The attempt is over, whatever the body would have said.
    Over,
}

/// Reads on. `told` says whether the scheduler knows that we wait for content; whoever gets content sets it to `false`.
pub(crate) fn poll_read(
    call: &mut Call,
    attempt: Attempt,
    body: &mut BodyStream,
    told: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Read> {
    let read = poll_body(body, cx);
    if read.is_pending() { wait_to_read(call, attempt, told, cx) } else { read }
}

/// What has come. It counts, even if a clock ran out while nobody looked.
fn poll_body(body: &mut BodyStream, cx: &mut Context<'_>) -> Poll<Read> {
    body.as_mut().poll_next(cx).map(|next| match next {
        Some(Ok(chunk)) => Read::Chunk(chunk),
        Some(Err(error)) => Read::Failed(error),
        None => Read::End,
    })
}

/// Nothing has come: the scheduler is told that we wait.
fn wait_to_read(call: &mut Call, attempt: Attempt, told: &mut bool, cx: &mut Context<'_>) -> Poll<Read> {
    if !*told {
        *told = true;
        call.report(attempt, Event::Reading);
    }
    call.poll_over(cx).map(|()| Read::Over)
}

/// Sends a request and reads the whole of its answer. The future is boxed: it is large, and what it is a part of is moved
/// several times on its way into a task. It is no `async fn`, for that would keep its argument twice: thousands may wait,
/// and each that goes on has to be fetched from memory.
pub(crate) fn ask<T: Answer>(
    prepared: Result<Box<Prepared>, Error>,
) -> Pin<Box<impl Future<Output = Result<Reply<T>, Error>>>> {
    Box::pin(async move {
        let mut exchange = Exchange::submit(prepared?)?;
        loop {
            let (attempt, opened) = match exchange.turn().await {
                Turn::Opened(attempt, opened) => (attempt, opened),
                Turn::End(Ok(_)) => return Err(Error::new(super::ErrorKind::Malformed, "the answer was lost")),
                Turn::End(Err(failure)) => return Err(exchange.error(*failure)),
            };
            let Opened { route, head, body } = opened;
            match read_whole(&mut exchange.call, attempt, &head, body).await {
                None => {}
                Some(Err(outcome)) => exchange.ended(attempt, outcome, None),
                Some(Ok(body)) => {
                    if let Some(reply) = exchange.conclude(attempt, route, head, body) {
                        return Ok(reply);
                    }
                }
            }
        }
    })
}

/// What came and has not been reported yet.
enum Owed {
    Headers,
    Content,
}

/// A whole body, or how it failed. `None`: the attempt is over.
async fn read_whole(
    call: &mut Call,
    attempt: Attempt,
    head: &Received,
    mut body: BodyStream,
) -> Option<Result<Bytes, Outcome>> {
    let mut inspector = Inspector::with_max_content_bytes(call.gate().settings.max_body);
    // Most answers come in one piece, which need not be copied.
    let (mut first, mut more) = (Bytes::new(), BytesMut::new());
    // Before content it makes no difference that we wait.
    let mut told = true;
    // What came is reported once there is more to wait for: most answers come in one piece, and their end says it all.
    let mut owed = Some(Owed::Headers);
    loop {
        let read = poll_fn(|cx| {
            let read = poll_body(&mut body, cx);
            if !read.is_pending() {
                return read;
            }
            match owed.take() {
                Some(Owed::Headers) => call.report(attempt, Event::Headers),
                Some(Owed::Content) => call.report(attempt, Event::Content),
                None => {}
            }
            wait_to_read(call, attempt, &mut told, cx)
        });
        match read.await {
            Read::Over => return None,
            Read::End => return Some(Ok(if more.is_empty() { first } else { more.freeze() })),
            Read::Failed(error) => {
                let phase = if inspector.is_blank() { Phase::BeforeContent } else { Phase::AfterContent };
                return Some(Err(broke_off(head, phase, error)));
            }
            Read::Chunk(chunk) => match inspector.feed(&chunk) {
                Ok(Arrival::Alive) => call.report(attempt, Event::Alive),
                Ok(Arrival::Content(content)) => {
                    if first.is_empty() {
                        first = chunk.slice_ref(content);
                    } else {
                        if more.is_empty() {
                            more.extend_from_slice(&first);
                        }
                        more.extend_from_slice(content);
                    }
                    told = false;
                    owed = Some(Owed::Content);
                }
                Err(too_large) => return Some(Err(unreadable(head, &too_large.to_string()))),
            },
        }
    }
}

/// A body that failed.
#[cold]
fn broke_off(head: &Received, phase: Phase, error: reqwest::Error) -> Outcome {
    head.broken(runtime::transport_failure(&error), phase, Some(&words(error)))
}

/// An answer that we refuse to read on; it would be no smaller another time.
#[cold]
pub(crate) fn unreadable(head: &Received, why: &str) -> Outcome {
    let mut outcome = head.broken(TransportFailure::Protocol, Phase::BeforeContent, Some(why));
    outcome.should_retry = Some(false);
    outcome
}

/// What a whole body, which was parsed as `answer`, comes to, with the tokens it counts.
fn judge<T: Answer>(
    head: &Received,
    body: &[u8],
    answer: &Result<T, serde_json::Error>,
) -> (Outcome, Option<TokenCount>) {
    let facts = answer.as_ref().ok().filter(|answer| answer.is_answer()).map(T::facts);
    // Nearly always the answer itself says that it is whole; only what does not is read once more for what it is.
    let is_whole =
        facts.as_ref().is_some_and(|facts| facts.error.is_none() && facts.finish.is_some_and(Finish::is_complete));
    let outcome = head.with(|head, now| if is_whole { finished(head, None, now) } else { classify(head, body, now) });
    if outcome.kind != OutcomeKind::Success {
        return (outcome, None);
    }
    let why = match (answer, facts) {
        (Ok(_), Some(facts)) => return (outcome, facts.usage),
        (Ok(_), None) => "the answer has no choices".into(),
        (Err(error), _) => format!("the answer has another shape than expected: {error}"),
    };
    (Outcome { kind: OutcomeKind::Malformed, ..outcome }.with_message(&why), None)
}
