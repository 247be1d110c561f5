//! Streamed answers.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use futures_core::Stream;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{AttemptReport, Error, ErrorKind, Partial};
use super::exchange::{Exchange, Prepared, Read, Turn, poll_read, unreadable};
use super::gate::{Call, Order};
use super::reply::{Reply, Report};
use crate::core::call::Attempt;
use crate::core::classify::{Phase, TransportFailure, blank, classify, classify_error_object, finished};
use crate::core::facts::{Facts, Finish};
use crate::core::outcome::{Outcome, OutcomeKind};
use crate::core::scheduler::Event;
use crate::core::sse::{Item, Parser};
use crate::core::time::Timestamp;
use crate::core::tokens::TokenCount;
use crate::runtime::{self, BodyStream, Boxed, Clock, MaybeSend, Timer};
use crate::transport::{Opened, Received, words};
use crate::types::{ChatAssembler, ChatChunk, ChatCompletion, FimAssembler, FimCompletion, Usage};

/// Once every choice that was asked for has its finish reason, only the usage and `[DONE]` can follow; some servers send
/// neither and keep the connection open.
const AFTER_FINISH: Duration = Duration::from_secs(2);
/// How long the end of a body is waited for after `[DONE]`, to use its connection again.
const AFTER_DONE: Duration = Duration::from_secs(1);
/// How much is kept of a body that is no stream of events, to say what it is.
const STRAY: usize = 64 * 1024;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ChatChunk {}
    impl Sealed for super::FimCompletion {}
}

/// A chunk of a streamed answer: [`ChatChunk`], or [`FimCompletion`] as a chunk. Sealed.
pub trait StreamedChunk: sealed::Sealed + DeserializeOwned + Unpin + MaybeSend + 'static {
    /// The answer that the chunks make.
    type Whole: Clone + fmt::Debug;
    #[doc(hidden)]
    type Assembler: Clone + Default + Unpin + MaybeSend;
    #[doc(hidden)]
    fn facts_of(&self) -> Facts;
    #[doc(hidden)]
    fn is_bare(&self) -> bool;
    #[doc(hidden)]
    fn push(&self, assembler: &mut Self::Assembler);
    /// Whether so many choices have begun, and all that did have ended.
    #[doc(hidden)]
    fn is_finished(assembler: &Self::Assembler, choices: u64) -> bool;
    #[doc(hidden)]
    fn finish(assembler: Self::Assembler) -> Self::Whole;
    #[doc(hidden)]
    fn partial(whole: &Self::Whole) -> Partial;
    #[doc(hidden)]
    fn model(&self) -> Option<&str>;
}

impl StreamedChunk for ChatChunk {
    type Whole = ChatCompletion;
    type Assembler = ChatAssembler;

    fn facts_of(&self) -> Facts {
        self.facts()
    }

    fn is_bare(&self) -> bool {
        self.choices.is_empty() && self.usage.is_none()
    }

    fn push(&self, assembler: &mut ChatAssembler) {
        assembler.push(self);
    }

    fn is_finished(assembler: &ChatAssembler, choices: u64) -> bool {
        assembler.choices() as u64 >= choices && assembler.is_finished()
    }

    fn finish(assembler: ChatAssembler) -> ChatCompletion {
        assembler.finish()
    }

    fn partial(whole: &ChatCompletion) -> Partial {
        let text = whole.message().map(|message| message.text().into_owned()).unwrap_or_default();
        partial(text, whole.reasoning(), whole.usage.as_ref())
    }

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

impl StreamedChunk for FimCompletion {
    type Whole = FimCompletion;
    type Assembler = FimAssembler;

    fn facts_of(&self) -> Facts {
        self.facts()
    }

    fn is_bare(&self) -> bool {
        self.choices.is_empty() && self.usage.is_none()
    }

    fn push(&self, assembler: &mut FimAssembler) {
        assembler.push(self);
    }

    fn is_finished(assembler: &FimAssembler, choices: u64) -> bool {
        assembler.choices() as u64 >= choices && assembler.is_finished()
    }

    fn finish(assembler: FimAssembler) -> FimCompletion {
        assembler.finish()
    }

    fn partial(whole: &FimCompletion) -> Partial {
        partial(whole.text().unwrap_or_default().to_owned(), None, whole.usage.as_ref())
    }

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

fn partial(text: String, reasoning: Option<&str>, usage: Option<&Usage>) -> Partial {
    Partial { text, reasoning: reasoning.unwrap_or_default().to_owned(), usage: usage.cloned() }
}

/// A streamed chat answer.
pub type ChatStream = EventStream<ChatChunk>;
/// A streamed fill-in-the-middle answer.
pub type FimStream = EventStream<FimCompletion>;

/// A streamed answer: chunk by chunk with [`next`](Self::next) or as a [`Stream`], or put together with
/// [`into_completion`](Self::into_completion).
///
/// It ends with `None` only if the answer is whole: the finish reason of every choice that was asked for came, or `[DONE]`.
/// Otherwise its last item is an [`Error`] of kind [`Interrupted`](ErrorKind::Interrupted), whose
/// [`partial`](Error::partial) has what came; nothing is asked for again once the stream was handed out, unless the call was
/// told to [`resume`](super::ChatCall::resume).
///
/// It holds its permit until the answer has ended. Dropping it closes the connection and gives the permit back. While
/// nobody reads, nothing is read from the connection; a server that waits for a slow reader is not taken for stalled.
pub struct EventStream<C: StreamedChunk> {
    // Dropped in this order: first the connection, then the permit.
    reading: Reading<C>,
    state: State<C>,
    exchange: Exchange,
    continuation: Option<Continuation<C>>,
}

/// How a broken answer is gone on with, and how often it was.
pub(super) struct Continuation<C: StreamedChunk> {
    resume: Box<dyn Resume<C::Whole>>,
    /// When the first call was made.
    begun: Timestamp,
    resumed: u32,
    /// The attempts of the calls before, and how many they were.
    attempts: Vec<AttemptReport>,
    sent: u32,
}

impl<C: StreamedChunk> Continuation<C> {
    pub(super) fn new(resume: Box<dyn Resume<C::Whole>>) -> Self {
        Self { resume, begun: Timestamp::ZERO, resumed: 0, attempts: Vec::new(), sent: 0 }
    }
}

/// Makes the call that asks for the rest of an answer.
pub(super) trait Resume<W>: MaybeSend {
    /// The call, after `elapsed` since the first; `None` if it can't be asked for.
    fn prepare(&self, so_far: &W, elapsed: Duration) -> Option<Box<Prepared>>;
}

enum State<C: StreamedChunk> {
    /// More may come.
    Reading,
    /// The attempt is over; the scheduler says what became of the call.
    Closing,
    /// It broke off, and the rest is being asked for. The error is told if there is none.
    Resuming(Boxed<Result<EventStream<C>, Error>>, Error),
    /// It is over, and told.
    Over(Option<Report>),
}

impl<C: StreamedChunk> EventStream<C> {
    /// Makes the call, for so many choices; goes on until content has come, or the answer has ended.
    pub(super) async fn start(
        prepared: Result<Box<Prepared>, Error>,
        choices: u64,
        mut continuation: Option<Continuation<C>>,
    ) -> Result<Self, Error> {
        let mut exchange = Exchange::submit(prepared?)?;
        if let Some(continuation) = &mut continuation {
            continuation.begun = exchange.call.gate().clock.now();
        }
        let mut answered = None;
        loop {
            let (attempt, opened) = match exchange.live_turn().await {
                Turn::Opened(attempt, opened) => {
                    exchange.call.report(attempt, Event::Headers);
                    (attempt, opened)
                }
                Turn::End(Err(failure)) => return Err(exchange.error(*failure)),
                Turn::End(Ok(done)) => {
                    let reading: Reading<C> =
                        answered.ok_or_else(|| Error::new(ErrorKind::Malformed, "the answer was lost"))?;
                    let report = exchange.report(done, reading.gathered.model.as_deref(), reading.gathered.tokens);
                    return Ok(Self { reading, state: State::Over(Some(report)), exchange, continuation });
                }
            };
            let mut reading = Reading::<C>::new(&exchange.call, attempt, opened, choices);
            loop {
                match poll_fn(|cx| reading.poll_step(&mut exchange.call, cx)).await {
                    Step::Over => break,
                    Step::Progress if reading.gathered.has_content => {
                        if !exchange.call.hand_out(attempt) {
                            // A clock ran out before it was looked at.
                            break;
                        }
                        return Ok(Self { reading, state: State::Reading, exchange, continuation });
                    }
                    Step::Progress => {}
                    Step::Ended(outcome) => {
                        reading.body = None;
                        let tokens = reading.gathered.tokens;
                        if outcome.kind == OutcomeKind::Success {
                            answered = Some(reading);
                        }
                        exchange.ended(attempt, outcome, tokens);
                        break;
                    }
                }
            }
        }
    }

    /// The next chunk; `None` at the end of a whole answer. Cancel-safe: nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`] if the answer broke off, [`ErrorKind::Deadline`] or [`ErrorKind::Closed`] if it was
    /// aborted; nothing follows it.
    pub async fn next(&mut self) -> Option<Result<C, Error>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Reads to the end and puts the answer together, chunks that were read before included.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn into_completion(mut self) -> Result<Reply<C::Whole>, Error> {
        while let Some(chunk) = self.next().await {
            chunk?;
        }
        let report = match &mut self.state {
            State::Over(report) => report.take().unwrap_or_default(),
            _ => Report::default(),
        };
        let Self { mut reading, .. } = self;
        Ok(Reply::new(C::finish(std::mem::take(&mut reading.gathered.assembler)), report))
    }

    /// How many keep-alives (comments) came so far: the server has the request, and nothing to say yet.
    pub fn keep_alives(&self) -> u64 {
        self.reading.gathered.keep_alives
    }

    /// The server's id of the request, for its support.
    pub fn request_id(&self) -> Option<String> {
        self.reading.head.with(|head, _| crate::core::headers::request_id(head.headers).map(str::to_owned))
    }

    /// How the answer came about, once it has ended.
    pub fn report(&self) -> Option<&Report> {
        match &self.state {
            State::Over(report) => report.as_ref(),
            _ => None,
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<C, Error>>> {
        loop {
            // What has ended gives its permit back before its last chunks are handed out.
            if let State::Closing = self.state {
                match std::task::ready!(self.exchange.call.poll_order(cx)) {
                    Order::Abort => continue,
                    Order::End(Ok(done)) => {
                        let Gathered { model, tokens, .. } = &self.reading.gathered;
                        let mut report = self.exchange.report(done, model.as_deref(), *tokens);
                        if let Some(continuation) = &self.continuation {
                            continuation.complete(&mut report, self.exchange.call.gate().clock.now());
                        }
                        self.state = State::Over(Some(report));
                    }
                    Order::End(Err(failure)) => {
                        let error = self.exchange.error(*failure);
                        self.fail(error);
                    }
                    // Something was delivered, so there is no second attempt.
                    Order::Send(sending) => {
                        self.exchange.ended(sending.attempt, Outcome::new(OutcomeKind::Cancelled), None);
                        continue;
                    }
                }
            }
            if let Some(chunk) = self.reading.gathered.ready.pop_front() {
                return Poll::Ready(Some(Ok(chunk)));
            }
            match &mut self.state {
                State::Over(_) => return Poll::Ready(self.reading.gathered.failed.take().map(Err)),
                State::Resuming(starting, _) => {
                    let started = std::task::ready!(starting.as_mut().poll(cx));
                    self.go_on(started);
                    continue;
                }
                State::Reading | State::Closing => {}
            }
            match std::task::ready!(self.reading.poll_step(&mut self.exchange.call, cx)) {
                Step::Progress => {}
                Step::Over => {
                    self.reading.body = None;
                    self.state = State::Closing;
                }
                Step::Ended(outcome) => {
                    self.reading.body = None;
                    self.state = State::Closing;
                    self.exchange.ended(self.reading.attempt, outcome, self.reading.gathered.tokens);
                }
            }
        }
    }
}

impl<C: StreamedChunk> EventStream<C> {
    /// The call failed: the rest is asked for, if that is wanted and can be.
    fn fail(&mut self, error: Error) {
        let gathered = &mut self.reading.gathered;
        let mut error = error;
        if let Some(continuation) = &mut self.continuation {
            // What the calls before came to belongs to the history.
            error = error.with_earlier(&continuation.attempts, continuation.sent);
            let gate = self.exchange.call.gate();
            let may = error.kind() == ErrorKind::Interrupted && continuation.resumed < gate.settings.retry.max_attempts;
            let so_far = C::finish(gathered.assembler.clone());
            let elapsed = gate.clock.now() - continuation.begun;
            if let Some(prepared) = may.then(|| continuation.resume.prepare(&so_far, elapsed)).flatten() {
                continuation.resumed += 1;
                continuation.attempts = error.attempts().to_vec();
                continuation.sent = error.attempts_made();
                tracing::debug!(parent: &self.exchange.span, "resuming");
                let starting = Box::pin(Self::start(Ok(prepared), 1, None));
                self.state = State::Resuming(starting, error.with_partial(C::partial(&so_far)));
                return;
            }
        }
        let whole = C::finish(std::mem::take(&mut gathered.assembler));
        gathered.failed = Some(error.with_partial(C::partial(&whole)));
        self.state = State::Over(None);
    }

    /// The rest has begun to come, or can't be had.
    fn go_on(&mut self, started: Result<Self, Error>) {
        let State::Resuming(_, error) = std::mem::replace(&mut self.state, State::Over(None)) else { return };
        let mut next = match started {
            Ok(next) => next,
            Err(why) => {
                tracing::debug!(parent: &self.exchange.span, error.r#type = why.kind().name(), "not resumed");
                self.reading.gathered.failed = Some(error);
                return;
            }
        };
        let before = &mut self.reading.gathered;
        let after = &mut next.reading.gathered;
        for chunk in &after.ready {
            chunk.push(&mut before.assembler);
        }
        after.assembler = std::mem::take(&mut before.assembler);
        after.keep_alives += before.keep_alives;
        after.model = before.model.take().or(after.model.take());
        std::mem::swap(&mut before.ready, &mut after.ready);
        after.ready.append(&mut before.ready);
        next.continuation = self.continuation.take();
        *self = next;
        if let State::Over(Some(report)) = &mut self.state
            && let Some(continuation) = &self.continuation
        {
            continuation.complete(report, self.exchange.call.gate().clock.now());
        }
    }
}

impl<C: StreamedChunk> Continuation<C> {
    /// Makes the report of the last call one of all.
    fn complete(&self, report: &mut Report, now: Timestamp) {
        if self.resumed > 0 {
            report.resumed = self.resumed;
            report.elapsed = now - self.begun;
            report.attempts_made += self.sent;
            report.attempts.splice(0..0, self.attempts.iter().cloned());
        }
    }
}

impl<C: StreamedChunk> Stream for EventStream<C> {
    type Item = Result<C, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx)
    }
}

impl<C: StreamedChunk> fmt::Debug for EventStream<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Reading => "reading",
            State::Closing => "closing",
            State::Resuming(..) => "resuming",
            State::Over(_) => "over",
        };
        f.debug_struct("EventStream")
            .field("state", &state)
            .field("keep_alives", &self.keep_alives())
            .finish_non_exhaustive()
    }
}

/// One attempt's stream.
struct Reading<C: StreamedChunk> {
    body: Option<BodyStream>,
    attempt: Attempt,
    head: Received,
    /// How many choices were asked for.
    choices: u64,
    parser: Parser,
    gathered: Gathered<C>,
    /// The scheduler knows that we wait for content.
    told: bool,
    /// The start of a body in which no event has come yet.
    stray: BytesMut,
    clock: Clock,
    /// Runs once every choice has its finish reason.
    linger: Timer,
}

/// What came so far.
struct Gathered<C: StreamedChunk> {
    ready: VecDeque<C>,
    assembler: C::Assembler,
    has_content: bool,
    /// Content came since this was last set to `false`.
    fresh: bool,
    events: u64,
    keep_alives: u64,
    tokens: Option<TokenCount>,
    /// The model that answers.
    model: Option<Box<str>>,
    finish: Option<Finish>,
    ended: Option<Ended>,
    /// How the stream failed, to be told after the last chunk.
    failed: Option<Error>,
}

enum Ended {
    Done,
    Failed(Outcome),
}

enum Step {
    /// Something came.
    Progress,
    /// The attempt ended by itself.
    Ended(Outcome),
    /// The attempt was ended.
    Over,
}

impl<C: StreamedChunk> Reading<C> {
    fn new(call: &Call, attempt: Attempt, opened: Opened, choices: u64) -> Self {
        let gate = call.gate();
        Self {
            body: Some(opened.body),
            attempt,
            head: opened.head,
            choices,
            parser: Parser::with_max_event_bytes(gate.settings.max_event),
            gathered: Gathered {
                ready: VecDeque::new(),
                assembler: C::Assembler::default(),
                has_content: false,
                fresh: false,
                events: 0,
                keep_alives: 0,
                tokens: None,
                model: None,
                finish: None,
                ended: None,
                failed: None,
            },
            told: false,
            stray: BytesMut::new(),
            clock: gate.clock,
            linger: Timer::default(),
        }
    }

    fn poll_step(&mut self, call: &mut Call, cx: &mut Context<'_>) -> Poll<Step> {
        let Some(body) = &mut self.body else { return Poll::Ready(Step::Over) };
        match poll_read(call, self.attempt, body, &mut self.told, cx) {
            Poll::Pending => {
                if self.is_finished() {
                    if self.linger.at().is_none() {
                        self.linger.set(&self.clock, Some(self.clock.now() + AFTER_FINISH));
                    }
                    std::task::ready!(self.linger.poll(&self.clock, cx));
                    return Poll::Ready(Step::Ended(self.done()));
                }
                Poll::Pending
            }
            Poll::Ready(Read::Over) => Poll::Ready(Step::Over),
            Poll::Ready(Read::End) => Poll::Ready(Step::Ended(self.at_end())),
            Poll::Ready(Read::Failed(error)) => Poll::Ready(Step::Ended(self.broken(error))),
            Poll::Ready(Read::Chunk(chunk)) => {
                let ended = self.feed(&chunk);
                if let Some(Ended::Done) = ended {
                    self.leave(cx);
                }
                if std::mem::take(&mut self.gathered.fresh) {
                    self.told = false;
                    call.report(self.attempt, Event::Content);
                } else {
                    call.report(self.attempt, Event::Alive);
                }
                Poll::Ready(match ended {
                    None => Step::Progress,
                    Some(Ended::Done) => Step::Ended(self.done()),
                    Some(Ended::Failed(outcome)) => Step::Ended(outcome),
                })
            }
        }
    }

    /// The last event has come. What ends the body may still be on its way: a connection is used again only if that is
    /// read, which the caller need not wait for.
    fn leave(&mut self, cx: &mut Context<'_>) {
        let Some(mut body) = self.body.take() else { return };
        if let Poll::Pending = body.as_mut().poll_next(cx)
            && let Some(home) = runtime::home()
        {
            let clock = self.clock;
            let rest = async move {
                let mut timer = Timer::default();
                timer.set(&clock, Some(clock.now() + AFTER_DONE));
                poll_fn(|cx| match body.as_mut().poll_next(cx) {
                    // Nothing should follow, so nothing is waited for after what does.
                    Poll::Ready(_) => Poll::Ready(()),
                    Poll::Pending => timer.poll(&clock, cx),
                })
                .await;
            };
            runtime::spawn(home, rest);
        }
    }

    /// Takes what came; says so if that ends the stream.
    fn feed(&mut self, chunk: &[u8]) -> Option<Ended> {
        let Self { parser, gathered, head, stray, .. } = self;
        if gathered.events == 0 {
            stray.extend_from_slice(&chunk[..chunk.len().min(STRAY - stray.len().min(STRAY))]);
        }
        let fed = parser.feed(chunk, |item| match item {
            Item::Event { event, data, .. } => gathered.take(head, event, data),
            Item::Comment(_) => gathered.keep_alives += 1,
            Item::Retry(_) => {}
        });
        if gathered.events > 0 {
            *stray = BytesMut::new();
        }
        let too_large = fed.err().map(|too_large| Ended::Failed(unreadable(head, &too_large.to_string())));
        gathered.ended.take().or(too_large)
    }

    /// The outcome of a stream that came to its end as it should.
    fn done(&self) -> Outcome {
        if self.gathered.events == 0 {
            return self.head.with(blank);
        }
        let reason = match self.gathered.finish {
            Some(Finish::InsufficientSystemResource) => Some("insufficient_system_resource"),
            Some(Finish::Aborted) => Some("aborted"),
            Some(Finish::Error) => Some("error"),
            _ => None,
        };
        self.head.with(|head, now| finished(head, reason, now))
    }

    /// The outcome of a body that ended without `[DONE]`.
    fn at_end(&mut self) -> Outcome {
        let cut = self.parser.finish();
        let is_done = cut.is_some_and(|cut| cut.data.trim() == "[DONE]");
        let Gathered { events, keep_alives, has_content, finish, .. } = &self.gathered;
        let has_failed = finish.is_some_and(|finish| !finish.is_complete());
        if has_failed || self.is_finished() || (is_done && *events > 0) {
            return self.done();
        }
        if *events > 0 {
            return match has_content {
                true => self.head.broken(TransportFailure::ClosedMidStream, Phase::AfterContent, None),
                false => self.head.broken(TransportFailure::ClosedBeforeStart, Phase::BeforeContent, None),
            };
        }
        if *keep_alives > 0 {
            return self.head.broken(TransportFailure::ClosedBeforeStart, Phase::BeforeContent, None);
        }
        let outcome = self.head.with(|head, now| classify(head, &self.stray, now));
        match outcome.kind {
            OutcomeKind::Success => Outcome { kind: OutcomeKind::Malformed, ..outcome }
                .with_message("expected a stream of events, got one JSON document"),
            _ => outcome,
        }
    }

    /// Whether all that was asked for has ended.
    fn is_finished(&self) -> bool {
        C::is_finished(&self.gathered.assembler, self.choices)
    }

    fn broken(&self, error: reqwest::Error) -> Outcome {
        if self.is_finished() {
            return self.done();
        }
        let phase = if self.gathered.has_content { Phase::AfterContent } else { Phase::BeforeContent };
        let failure = runtime::transport_failure(&error);
        self.head.broken(failure, phase, Some(&words(error)))
    }
}

impl<C: StreamedChunk> Gathered<C> {
    /// Takes an event.
    fn take(&mut self, head: &Received, event: &str, data: &str) {
        let data = data.trim();
        // Some servers send `event: ping` with data of no meaning.
        if self.ended.is_some() || data.is_empty() || event == "ping" {
            return;
        }
        self.events += 1;
        if data == "[DONE]" {
            // Alone it is an empty answer, as from a server that has nothing to give.
            self.events -= u64::from(self.events == 1);
            self.ended = Some(Ended::Done);
            return;
        }
        let is_error = event == "error";
        let chunk = match serde_json::from_str::<C>(data) {
            Ok(chunk) => chunk,
            Err(error) => {
                let start: String = data.chars().take(200).collect();
                let (kind, message) = match is_error {
                    true => (OutcomeKind::Server, start),
                    false => (OutcomeKind::Malformed, format!("an event is not JSON ({error}): {start}")),
                };
                let outcome = head.with(|head, now| finished(head, None, now));
                let message = crate::core::classify::redact(&message).into_owned();
                self.ended = Some(Ended::Failed(Outcome { kind, ..outcome }.with_message(&message)));
                return;
            }
        };
        let facts = chunk.facts_of();
        if is_error || facts.error.is_some() || chunk.is_bare() {
            let value = serde_json::from_str::<Value>(data).unwrap_or_default();
            let failed = head.with(|head, now| classify_error_object(head, &value, now));
            let failed = failed.or_else(|| {
                let outcome = head.with(|head, now| finished(head, None, now));
                let message = crate::core::classify::redact(data).into_owned();
                is_error.then(|| Outcome { kind: OutcomeKind::Server, ..outcome }.with_message(&message))
            });
            if let Some(outcome) = failed {
                self.ended = Some(Ended::Failed(outcome));
                return;
            }
        }
        self.tokens = facts.usage.or(self.tokens);
        if self.model.is_none() {
            self.model = chunk.model().map(Into::into);
        }
        self.finish = facts.finish.or(self.finish);
        self.has_content |= facts.has_content;
        self.fresh |= facts.has_content;
        chunk.push(&mut self.assembler);
        self.ready.push_back(chunk);
    }
}
