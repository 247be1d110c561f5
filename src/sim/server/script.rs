//! Response bodies: those that are there at once, and those that carry out a plan as time passes.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::time::{Instant, Sleep};

use super::{BrokenOff, Slot, moment};
use crate::sim::completion::{self, Completion};
use crate::sim::provider::{End, Plan};
use crate::sim::scenario::BodyStyle;

/// A frame of a body is sent on when it has grown to this, even if more is due.
const FRAME_SIZE: usize = 16 << 10;

/// What was written before a connection breaks gets this long to be sent: hyper drops what it still buffers.
const FLUSH_TIME: Duration = Duration::from_millis(10);

/// A response body.
pub(super) enum Answer {
    Full(Full<Bytes>),
    Script(Box<Script>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Full(full) => Pin::new(full).poll_frame(cx).map_err(|never: Infallible| match never {}),
            Self::Script(script) => script.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(full) => full.is_end_stream(),
            // Told by `poll_frame` only, which must run for the slot to be given back.
            Self::Script(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(full) => full.size_hint(),
            Self::Script(_) => SizeHint::default(),
        }
    }
}

/// The body of an admitted request: it carries out the plan as time passes.
#[derive(Debug)]
pub(super) struct Script {
    plan: Plan,
    completion: Completion,
    stream: bool,
    style: BodyStyle,
    arrived: Instant,
    /// One timer for all acts, set anew for each.
    timer: Pin<Box<Sleep>>,
    next: Act,
    out: BytesMut,
    /// When the connection breaks, at the end of an answer that is cut off.
    breaks: Option<Instant>,
    slot: Slot,
}

/// What a body does next.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// The n-th sign of life, from 1.
    KeepAlive(u32),
    /// The first chunk.
    Start,
    /// A piece of content.
    Piece(u32),
    /// What the plan's end asks for.
    End,
    /// Nothing any more.
    Ended,
}

impl Act {
    fn first(plan: &Plan) -> Self {
        Self::KeepAlive(1).unless_over(plan)
    }

    /// Signs of life end when inference starts.
    fn unless_over(self, plan: &Plan) -> Self {
        match self {
            Self::KeepAlive(n) if plan.keep_alive.saturating_mul(n) <= plan.wait && !plan.keep_alive.is_zero() => self,
            _ if plan.end == End::HangUp => Self::End,
            _ => Self::Start,
        }
    }
}

impl Script {
    /// Carries out `plan` of a request that came at `arrived` and has `slot`.
    pub(super) fn new(
        plan: Plan,
        completion: Completion,
        stream: bool,
        style: BodyStyle,
        arrived: Instant,
        slot: Slot,
    ) -> Self {
        Self {
            timer: Box::pin(tokio::time::sleep_until(arrived)),
            arrived,
            stream,
            style,
            completion,
            next: Act::first(&plan),
            plan,
            out: BytesMut::new(),
            breaks: None,
            slot,
        }
    }

    /// When the next act is due, counted from the arrival; `None` for never.
    fn due(&self) -> Option<Duration> {
        match self.next {
            Act::KeepAlive(n) => Some(self.plan.keep_alive.saturating_mul(n)),
            Act::Start => Some(self.plan.first_token),
            Act::Piece(index) => Some(self.plan.chunk_at(index)),
            Act::End => self.plan.ends_at(),
            Act::Ended => Some(Duration::ZERO),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if self.out.len() >= FRAME_SIZE {
                return self.send();
            }
            if matches!(self.next, Act::Ended) {
                if !self.out.is_empty() {
                    return self.send();
                }
                let Some(at) = self.breaks else { return Poll::Ready(None) };
                if Instant::now() < at {
                    self.timer.as_mut().reset(at);
                    ready!(self.timer.as_mut().poll(cx));
                }
                self.breaks = None;
                return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::ConnectionAborted, BrokenOff))));
            }
            let Some(due) = self.due() else {
                // A stall: only the client's going away ends it, which drops this body.
                return if self.out.is_empty() { Poll::Pending } else { self.send() };
            };
            let due = moment(self.arrived, due);
            if Instant::now() < due {
                if !self.out.is_empty() {
                    return self.send();
                }
                self.timer.as_mut().reset(due);
                ready!(self.timer.as_mut().poll(cx));
            }
            self.act();
        }
    }

    fn send(&mut self) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(Some(Ok(Frame::data(self.out.split().freeze()))))
    }

    /// Does what is due, and sets what comes next.
    fn act(&mut self) {
        let (plan, out) = (&self.plan, &mut self.out);
        self.next = match self.next {
            Act::KeepAlive(n) => {
                out.put_slice(if self.stream { b": keep-alive\n\n" } else { b"\n" });
                Act::KeepAlive(n.saturating_add(1)).unless_over(plan)
            }
            Act::Start => {
                if self.stream && plan.delivered > 0 {
                    self.completion.write_start(out);
                }
                if self.stream && plan.delivered > 0 { Act::Piece(0) } else { Act::End }
            }
            Act::Piece(index) => {
                self.completion.write_piece(out, index);
                if index + 1 < plan.delivered { Act::Piece(index + 1) } else { Act::End }
            }
            Act::End => {
                self.slot.finish();
                self.next = Act::Ended;
                return self.end();
            }
            Act::Ended => Act::Ended,
        };
        // Of a single object half comes, and then nothing more.
        if matches!(self.next, Act::End) && !self.stream && plan.end == End::Stall {
            self.write_half();
        }
    }

    fn end(&mut self) {
        let out = &mut self.out;
        match (self.plan.end, self.stream) {
            (End::Complete | End::InsufficientResource, true) => self.completion.write_finish(out),
            (End::Complete | End::InsufficientResource, false) => {
                out.put(self.completion.object(self.plan.delivered));
            }
            (End::CleanEnd | End::Cut, false) => self.write_half(),
            (End::ErrorObject, stream) => {
                let error = completion::error_object(self.style);
                if stream {
                    out.put_slice(b"data: ");
                    out.put(error);
                    out.put_slice(b"\n\n");
                } else {
                    out.put(error);
                }
            }
            (End::BlankBody, _) => out.put_slice(completion::BLANK),
            (End::Garbage, _) => out.put_slice(completion::GARBAGE),
            (End::CleanEnd | End::Cut, true) | (End::EmptyBody | End::HangUp | End::Stall, _) => {}
        }
        if matches!(self.plan.end, End::Cut | End::HangUp) {
            self.breaks = Some(Instant::now() + FLUSH_TIME);
        }
    }

    /// The first half of the object.
    fn write_half(&mut self) {
        let object = self.completion.object(self.plan.delivered);
        self.out.put(object.slice(..object.len() / 2));
    }
}
