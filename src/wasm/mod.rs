//! The core as JavaScript sees it: synchronous calls, flat arguments.
//!
//! Everything that waits (`fetch`, timers, `AbortSignal`) stays in JavaScript, in `js/src`; this is the brain behind it.
//! What crosses the border, and why so:
//!
//! - **Numbers, wherever it can be numbers**: they cross for nothing. A call is its place among those under way and its
//!   serial number, which tells it from others that had the place; an action is a code returned by [`Core::poll`], and its
//!   parts lie where [`Core::out`] says, for JavaScript to read in place. An array handed over would cost an allocation, a
//!   copy and a release each time.
//! - **One string** where there are words, by [`Core::say`] before the call that is about them, set off by NULs: headers as
//!   `name\nvalue\n…`, a JSON document as the lines of [`core::json`](crate::core::json). What is told lies in memory, too.
//!   Reports that people read are numbers and words apart (see `report`): no JSON, and no floating-point number as text, is
//!   written or read in here, for each costs more than all the rest.
//! - **An outcome never crosses.** [`Core::classify`] and its kin keep it here and tell its kind; [`Core::ended`] takes
//!   it. So whatever the scheduler learns from an answer, it learns from the same code as in the Rust client.
//!
//! Times are milliseconds on the caller's monotonic clock.

mod config;
mod report;

use alloc::boxed::Box;
use alloc::string::String;
use core::mem::{replace, take};
use core::time::Duration;

use wasm_bindgen::prelude::wasm_bindgen;

use self::report::Report;
use crate::core::call::{Attempt, Clocks, Ticket};
use crate::core::classify::{
    Body, Head, Phase, TransportFailure, blank, classify_body, classify_event, classify_transport, finished, redact,
};
use crate::core::headers::{Headers, request_id};
use crate::core::json::Json;
use crate::core::limit::Learned;
use crate::core::outcome::{Outcome, OutcomeKind};
use crate::core::queue::WorkloadId;
use crate::core::route::LaneKey;
use crate::core::scheduler::{Action, Event, JobSpec, LearnedLane, OnFull, Scheduler, SubmitError};
use crate::core::text::{Parts, cut, halves};
use crate::core::time::Timestamp;
use crate::core::tokens::TokenCount;

/// What [`Core::poll`] found to do.
mod code {
    pub(super) const NOTHING: u32 = 0;
    pub(super) const SEND: u32 = 1;
    pub(super) const ABORT: u32 = 2;
    pub(super) const DONE: u32 = 3;
    pub(super) const FAILED: u32 = 4;
    pub(super) const NOTICE: u32 = 5;
}

/// The core of one client by its configuration (see `config`), which the driver has made sure makes sense. `seed` feeds its
/// jitter.
#[wasm_bindgen]
#[allow(unreachable_pub, reason = "JavaScript reaches it")]
pub fn make(numbers: &[f64], words: &str, seed: f64) -> Core {
    Core {
        scheduler: Scheduler::of(config::read(numbers, words), seed.to_bits()),
        action: None,
        outcome: Outcome::new(OutcomeKind::Success),
        report: Report::default(),
        words: String::new(),
        user: None,
        out: Box::default(),
    }
}

/// The core of one client.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Core {
    scheduler: Scheduler,
    action: Option<Action>,
    outcome: Outcome,
    report: Report,
    /// What the next call in here is about.
    words: String,
    /// Whom the next call to the provider is for.
    user: Option<String>,
    /// The parts of the last action, or where the last report lies; then when to poll. It stays where it is.
    out: Box<[f64; 6]>,
}

#[wasm_bindgen]
impl Core {
    /// Hands over the words that the next call is about.
    pub fn say(&mut self, words: String) {
        self.words = words;
    }

    /// The number of the model that was said, for calls to it; −1 if no route serves it.
    pub fn model(&mut self) -> f64 {
        self.scheduler.model(&self.words).map_or(-1.0, f64::from)
    }

    /// The number of the workload that was said, for calls of it.
    pub fn workload(&mut self) -> u32 {
        self.scheduler.workload(&self.words).0
    }

    /// The next call is for the end user that was said.
    pub fn user(&mut self) {
        self.user = Some(take(&mut self.words));
    }

    /// Takes a call in. Times are in milliseconds; 0 takes the client's, infinity turns it off. Returns its place,
    /// and puts its serial where [`Core::out`] says; −1 if as many calls wait as may, −2 if the client is closed.
    #[allow(clippy::too_many_arguments, reason = "flat arguments cross the border without an allocation")]
    pub fn submit(
        &mut self,
        now: f64,
        model: u32,
        workload: u32,
        tokens: u32,
        deadline: f64,
        headers: f64,
        first_content: f64,
        idle: f64,
        max_attempts: u32,
        wait_for_room: bool,
    ) -> i32 {
        let user = self.user.take();
        let spec = JobSpec {
            user_id: user.as_deref(),
            tokens,
            deadline: span(deadline),
            clocks: self.clocks([headers, first_content, idle]),
            max_attempts: (max_attempts > 0).then_some(max_attempts),
            on_full: if wait_for_room { OnFull::Wait } else { OnFull::Fail },
            ..JobSpec::new("", WorkloadId(workload))
        };
        let place = match self.scheduler.submit_to(at(now), model, spec) {
            Ok(Ticket { index, serial }) => {
                self.out[0] = serial.into();
                index as i32
            }
            Err(SubmitError::Closed) => -2,
            Err(_) => -1,
        };
        self.note_wake();
        place
    }

    /// Reports what happens to an attempt: 1 its head came, 2 a keep-alive, 3 content, 4 the driver waits for more,
    /// 5 something was handed to the caller, 6 it is a task that nobody can end, so that no deadline may.
    pub fn on(&mut self, now: f64, index: u32, serial: u32, attempt: u32, event: u32) {
        let event = match event {
            1 => Event::Headers,
            2 => Event::Alive,
            3 => Event::Content,
            4 => Event::Reading,
            5 => Event::Delivered,
            6 => return self.scheduler.lift_deadline(Ticket { index, serial }),
            _ => return,
        };
        self.heard(now, index, serial, attempt, event);
    }

    /// Reports that an attempt is over, with the outcome last classified. The counts are the tokens used; a negative
    /// `prompt` says that nothing was told of them.
    #[allow(clippy::too_many_arguments, reason = "flat arguments cross the border without an allocation")]
    pub fn ended(
        &mut self,
        now: f64,
        index: u32,
        serial: u32,
        attempt: u32,
        prompt: f64,
        cached: f64,
        completion: f64,
        reasoning: f64,
    ) {
        let outcome = replace(&mut self.outcome, Outcome::new(OutcomeKind::Success));
        // The casts saturate.
        let tokens = (prompt >= 0.0).then_some(TokenCount {
            prompt: prompt as u64,
            cached: cached as u64,
            completion: completion as u64,
            reasoning: reasoning as u64,
        });
        self.heard(now, index, serial, attempt, Event::Ended { outcome, tokens });
    }

    /// Reports that what the call was for went well, where there was no answer to classify. [`Core::poll`] says nothing
    /// more of it.
    pub fn succeeded(&mut self, now: f64, index: u32, serial: u32, attempt: u32) {
        let outcome = Outcome { status: Some(200), ..Outcome::new(OutcomeKind::Success) };
        self.scheduler.on_succeeded(at(now), Attempt { ticket: Ticket { index, serial }, number: attempt }, outcome);
        self.note_wake();
    }

    /// The caller gave the call up.
    pub fn cancel(&mut self, now: f64, index: u32, serial: u32) {
        self.scheduler.cancel(at(now), Ticket { index, serial });
        self.note_wake();
    }

    /// The next thing to do: 0 nothing, 1 send, 2 abort an attempt, 3 a call was answered, 4 a call failed, 5 something
    /// worth telling happened. Where [`Core::out`] says lie the call's place and serial, the attempt's number, the place of
    /// the route in the configuration, and whether that route has a name of its own for the model. Behind them stands, after
    /// everything that is done in here, when this must be called at the latest: 0 if at once, infinity if not until
    /// something happens.
    pub fn poll(&mut self, now: f64) -> u32 {
        self.action = self.scheduler.poll(at(now));
        self.note_wake();
        let (code, ticket, rest) = match &self.action {
            None => return code::NOTHING,
            Some(Action::Notify(_)) => return code::NOTICE,
            Some(Action::Send { attempt, route, rename }) => {
                let rest = [attempt.number, route.index() as u32, u32::from(rename.is_some())];
                (code::SEND, attempt.ticket, rest)
            }
            Some(Action::Abort { attempt }) => (code::ABORT, attempt.ticket, [attempt.number, 0, 0]),
            Some(Action::End { ticket, result: Ok(_) }) => (code::DONE, *ticket, [0; 3]),
            Some(Action::End { ticket, result: Err(_) }) => (code::FAILED, *ticket, [0; 3]),
        };
        let [attempt, route, renames] = rest.map(f64::from);
        self.out[..5].copy_from_slice(&[ticket.index.into(), ticket.serial.into(), attempt, route, renames]);
        code
    }

    /// Where the numbers of [`Core::poll`] and [`Core::tell`] lie in memory: six of 64 bits.
    pub fn out(&self) -> u32 {
        self.out.as_ptr() as u32
    }

    /// Tells all about something: 0 the last action, if a call failed by it or it is worth telling, 1 everything counted
    /// and the state of every lane, 2 what was learned of the limits: for each as many numbers, its account and its model,
    /// 3 the outcome last classified, 4 what the route to send by calls the model, if not as the caller does, 5 the names
    /// of what is told as numbers. Where [`Core::out`] says lie the place and the number of the numbers, then of the words'
    /// bytes; they stay there until something else is told.
    pub fn tell(&mut self, what: u32, now: f64) {
        self.report = Report::default();
        match (what, &self.action) {
            (0, Some(Action::End { result: Err(failure), .. })) => self.report.failure(failure),
            (0, Some(Action::Notify(notice))) => self.report.notice(notice, &self.scheduler),
            (1, _) => self.report.snapshot(&mut self.scheduler, at(now)),
            // Not as one list: what makes copies for that is downloaded, too.
            (2, _) => {
                for lanes in [self.scheduler.learned_before(), &self.scheduler.learned_here()] {
                    self.report.learned(lanes);
                }
            }
            (3, _) => self.report.outcome(&self.outcome),
            (4, Some(Action::Send { rename: Some(rename), .. })) => self.report.words.push_str(rename),
            (5, _) => self.report.words.push_str(report::NAMES),
            _ => {}
        }
        let Report { numbers, words } = &self.report;
        let places = [numbers.as_ptr() as u32, numbers.len() as u32, words.as_ptr() as u32, words.len() as u32];
        self.out[..4].copy_from_slice(&places.map(f64::from));
    }

    /// Whether notices are wanted. Not at first.
    pub fn set_notices(&mut self, wanted: bool) {
        self.scheduler.set_notices(wanted);
    }

    /// How many requests are in flight.
    pub fn in_flight(&self) -> f64 {
        self.scheduler.load().in_flight as f64
    }

    /// Stops admissions and ends waiting calls; with `abort` those in flight, too.
    pub fn close(&mut self, now: f64, abort: bool) {
        self.scheduler.close(at(now), abort);
        self.note_wake();
    }

    /// Reopens what was stopped: the balance was topped up, the key mended.
    pub fn resume(&mut self, now: f64) {
        self.scheduler.resume(at(now));
        self.note_wake();
    }

    /// Takes over what was told of one limit; its account and its model were said. Returns whether it could be read.
    pub fn restore(&mut self, now: f64, numbers: &[f64]) -> bool {
        let learned = Learned::from_numbers(numbers);
        let (account, model) = parted(&self.words);
        let lane = LaneKey { account: account.into(), model: model.into(), user_id: None };
        learned.is_some_and(|learned| {
            self.scheduler.restore_lane(at(now), LearnedLane { lane, learned });
            self.note_wake();
            true
        })
    }

    // ---- what an answer came to; each returns the outcome's kind ----
    //
    // Its headers were said, and what comes after them. `unix` is the time in seconds.

    /// Classifies a whole answer that is no stream. After the headers come its body's JSON as lines, if it is JSON; why it
    /// is none; its text, if it is an error or no JSON.
    pub fn classify(&mut self, status: u16, unix: f64) -> u32 {
        self.judge(status, unix, |head, rest, unix| {
            let (lines, rest) = parted(rest);
            let (why, text) = parted(rest);
            Some(classify_body(head, &Body { json: Json::read(lines), text, why }, unix))
        })
    }

    /// Classifies an answer that came whole, by its finish reason, if it had one.
    pub fn finished(&mut self, status: u16, unix: f64) -> u32 {
        self.judge(status, unix, |head, reason, unix| Some(finished(head, Some(reason), unix)))
    }

    /// Classifies a 2xx answer without a body.
    pub fn blank(&mut self, status: u16, unix: f64) -> u32 {
        self.judge(status, unix, |head, _, unix| Some(blank(head, unix)))
    }

    /// Classifies the error in an event of a stream, its JSON as lines. 0 (success) if there is none.
    pub fn error_event(&mut self, status: u16, unix: f64) -> u32 {
        self.judge(status, unix, |head, event, unix| classify_event(head, &Json::read(event)?, unix))
    }

    /// Classifies a broken transport, by its own words. `failure`: 0 connect, 1 reset, 2 closed before the answer began,
    /// 3 closed within it, 4 what came can't be read. `phase`: 0 before the head, 1 before content, 2 after it. `status` is
    /// 0 before the head.
    pub fn broken(&mut self, failure: u32, phase: u32, status: u16) {
        let failure = match failure {
            0 => TransportFailure::Connect,
            1 => TransportFailure::Reset,
            2 => TransportFailure::ClosedBeforeStart,
            3 => TransportFailure::ClosedMidStream,
            4 => TransportFailure::Protocol,
            _ => TransportFailure::Other,
        };
        let phase = match phase {
            0 => Phase::BeforeHeaders,
            1 => Phase::BeforeContent,
            _ => Phase::AfterContent,
        };
        let (headers, words) = parted(&self.words);
        self.outcome = classify_transport(failure, phase, (status > 0).then_some(status), Some(words));
        self.outcome.request_id = request_id(&Lines(headers)).map(Into::into);
    }

    /// Makes the outcome last classified one that could not be understood, or with `server` a failure of the server, by
    /// what was said.
    pub fn malformed(&mut self, server: bool) {
        self.outcome.kind = if server { OutcomeKind::Server } else { OutcomeKind::Malformed };
        self.outcome.message = Some(cut(&redact(&self.words), Outcome::MESSAGE_LIMIT).into());
    }

    /// Says of the outcome last classified that it would be no better another time.
    pub fn final_(&mut self) {
        self.outcome.should_retry = Some(false);
    }
}

impl Core {
    #[inline(never)]
    fn heard(&mut self, now: f64, index: u32, serial: u32, attempt: u32, event: Event) {
        self.scheduler.on(at(now), Attempt { ticket: Ticket { index, serial }, number: attempt }, event);
        self.note_wake();
    }

    #[inline(never)]
    fn note_wake(&mut self) {
        self.scheduler.drop_stale_timers();
        self.out[5] = match self.scheduler.next_wake() {
            // Not the time itself: as milliseconds it might be a little later.
            Some(wake) if wake <= self.scheduler.now() => 0.0,
            Some(wake) => wake.as_micros() as f64 / 1e3,
            None => f64::INFINITY,
        };
    }

    /// Keeps what an answer came to by its head and what else was said of it. Returns its kind, 0 if it came to nothing.
    fn judge(&mut self, status: u16, unix: f64, by: fn(&Head<'_>, &str, Option<u64>) -> Option<Outcome>) -> u32 {
        // A whole answer's, perhaps: not to be kept.
        let words = take(&mut self.words);
        let (headers, rest) = parted(&words);
        let outcome = by(&Head { status, headers: &Lines(headers) }, rest, Some(unix as u64));
        outcome.map_or(0, |outcome| {
            let kind = outcome.kind as u32;
            self.outcome = outcome;
            kind
        })
    }

    /// A call's own clocks, if it has any.
    fn clocks(&self, millis: [f64; 3]) -> Option<Clocks> {
        if millis == [0.0; 3] {
            return None;
        }
        let mut clocks = self.scheduler.clocks().clone();
        config::set_clocks(&mut clocks, millis);
        Some(clocks)
    }
}

/// So many milliseconds, if they are a time at all.
#[inline(never)]
fn span(millis: f64) -> Option<Duration> {
    (millis > 0.0 && millis.is_finite()).then(|| Duration::from_micros((millis * 1e3) as u64))
}

fn at(millis: f64) -> Timestamp {
    Timestamp::from_secs_f64(millis / 1e3)
}

/// The words before the first NUL, and those after it.
#[inline(never)]
fn parted(words: &str) -> (&str, &str) {
    halves(words, [0; 2]).unwrap_or((words, ""))
}

/// Headers as `name\nvalue\n…`, names in lower case, as `Headers` of the web gives them.
struct Lines<'a>(&'a str);

impl Headers for Lines<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let mut lines = Parts::of(self.0, b'\n');
        while let (Some(found), Some(value)) = (lines.next(), lines.next()) {
            if found == name {
                return Some(value);
            }
        }
        None
    }
}
