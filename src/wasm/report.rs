//! What people get to read, as numbers and words: why a call failed, what is worth telling, what was counted.
//!
//! A number that is not known is NaN; words are set off by NULs, and one that is not known is empty. What each place means
//! is said where it is written, and read at the place named there.

use crate::core::call::Failure;
use crate::core::error::ErrorKind;
use crate::core::metrics::{Counters, DISTRIBUTIONS, GAUGES, Scope, Summary};
use crate::core::outcome::{Outcome, OutcomeKind};
use crate::core::route::{LaneId, LaneKey};
use crate::core::scheduler::{LearnedLane, Load, Notice, Scheduler};
use crate::core::time::Timestamp;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// Numbers and words in the making.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) numbers: Vec<f64>,
    pub(super) words: String,
}

/// The names of everything that is told as a number: a line for each list, its words set off by NULs. `js/src/names.ts`
/// reads it. It is put together by the compiler: code that did it, and the places of all the words, would be as large as
/// the words.
pub(super) const NAMES: &str = {
    const WRITTEN: Names = Names::written();
    const TEXT: [u8; WRITTEN.length] = *WRITTEN.text.first_chunk().unwrap();
    match core::str::from_utf8(&TEXT) {
        Ok(text) => text,
        Err(_) => panic!("the words are text"),
    }
};

/// [`NAMES`] in the making.
struct Names {
    text: [u8; 8192],
    length: usize,
}

impl Names {
    const fn written() -> Self {
        let mut names = Self { text: [0; 8192], length: 0 };
        let mut at = 0;
        while at < OutcomeKind::ALL.len() {
            assert!(OutcomeKind::ALL[at] as usize == at, "kinds are told by their numbers");
            names.word(OutcomeKind::ALL[at].name());
            at += 1;
        }
        names.end_line();
        at = 0;
        while at < ErrorKind::ALL.len() {
            let kind = ErrorKind::ALL[at];
            assert!(kind as usize == at, "kinds are told by their numbers");
            names.word(kind.name());
            names.word(kind.what_happened());
            names.word(kind.advice());
            names.word(if kind.is_retryable() { "1" } else { "" });
            at += 1;
        }
        names.list(&Counters::NAMES);
        names.list(&GAUGES);
        names.list(&DISTRIBUTIONS);
        names
    }

    const fn list(&mut self, list: &[(&str, &str)]) {
        self.end_line();
        let mut at = 0;
        while at < list.len() {
            self.word(list[at].0);
            self.word(list[at].1);
            at += 1;
        }
    }

    const fn word(&mut self, word: &str) {
        let mut at = 0;
        while at < word.len() {
            self.byte(word.as_bytes()[at]);
            at += 1;
        }
        self.byte(0);
    }

    const fn end_line(&mut self) {
        self.byte(b'\n');
    }

    const fn byte(&mut self, byte: u8) {
        self.text[self.length] = byte;
        self.length += 1;
    }
}

impl Report {
    fn word(&mut self, word: &str) {
        self.words.push_str(word);
        self.words.push('\0');
    }

    fn maybe(&mut self, word: Option<&str>) {
        self.word(word.unwrap_or_default());
    }

    fn number(&mut self, number: impl Into<f64>) {
        self.numbers.push(number.into());
    }

    /// Why a call failed; `failed` in js/src/errors.ts reads it. Its route is that of the decisive outcome.
    pub(super) fn failure(&mut self, failure: &Failure) {
        let Failure { kind, outcome, route, history, elapsed } = failure;
        self.error(ErrorKind::of(*kind, outcome.as_ref().map(|outcome| outcome.kind)), outcome.as_ref());
        self.number(elapsed.as_secs_f64());
        self.number(history.sent());
        self.number(route.map_or(f64::NAN, |route| route.index() as f64));
        for record in history.records() {
            self.number(record.route.index() as u32);
            self.number(record.sent.as_secs_f64());
            self.number(record.took.as_secs_f64());
            self.number(record.kind as u32);
            self.number(record.status.map_or(f64::NAN, f64::from));
            self.maybe(record.message.as_deref());
            self.maybe(record.request_id.as_deref());
        }
    }

    /// What a single request came to.
    pub(super) fn outcome(&mut self, outcome: &Outcome) {
        self.error(ErrorKind::of_outcome(outcome.kind), Some(outcome));
    }

    fn error(&mut self, kind: ErrorKind, outcome: Option<&Outcome>) {
        self.number(kind as u32);
        self.number(outcome.and_then(|outcome| outcome.status).map_or(f64::NAN, f64::from));
        let delay = outcome.and_then(|outcome| outcome.retry_after);
        self.number(delay.map_or(f64::NAN, |delay| delay.as_secs_f64()));
        let of = |part: fn(&Outcome) -> &Option<Box<str>>| outcome.and_then(|outcome| part(outcome).as_deref());
        self.maybe(of(|outcome| &outcome.message));
        self.maybe(of(|outcome| &outcome.code));
        self.maybe(of(|outcome| &outcome.error_type));
        self.maybe(of(|outcome| &outcome.request_id));
    }

    /// What is worth telling: the event's place in `EVENTS` of js/src/events.ts, then its numbers; the lane's words.
    pub(super) fn notice(&mut self, notice: &Notice, scheduler: &Scheduler) {
        let (event, lane, [a, b, c]) = match *notice {
            Notice::Limit { lane, limit } => (0, Some(lane), [f64::from(limit), 0.0, 0.0]),
            Notice::Pressure { lane } => (1, Some(lane), [0.0; 3]),
            Notice::Recovered { lane } => (2, Some(lane), [0.0; 3]),
            Notice::Breaker { lane, open } => (3, Some(lane), [f64::from(u8::from(open)), 0.0, 0.0]),
            Notice::Retry { attempts, kind, delay, .. } => {
                (4, None, [attempts.into(), f64::from(kind as u32), delay.as_secs_f64()])
            }
            Notice::Failover { from, to, .. } => (5, None, [from.index() as f64, to.index() as f64, 0.0]),
            Notice::LowBalance { lane, limit } => (6, Some(lane), [f64::from(limit), 0.0, 0.0]),
            Notice::Stopped { route, kind } => (7, None, [route.index() as f64, f64::from(kind as u32), 0.0]),
        };
        self.numbers.extend_from_slice(&[f64::from(event), a, b, c]);
        if let Some(lane) = lane {
            self.lane(lane, scheduler);
        }
    }

    fn lane(&mut self, lane: LaneId, scheduler: &Scheduler) {
        if let Some(key) = scheduler.lane(lane) {
            self.lane_key(key);
        }
    }

    /// Which lane: its account and model, and its user, with an `@` before it that tells an empty name from none.
    fn lane_key(&mut self, key: &LaneKey) {
        self.word(&key.account);
        self.word(&key.model);
        if let Some(user) = &key.user_id {
            self.words.push('@');
            self.words.push_str(user);
        }
        self.words.push('\0');
    }

    /// What was learned of the limits.
    pub(super) fn learned(&mut self, lanes: &[LearnedLane]) {
        for LearnedLane { lane, learned } in lanes {
            self.numbers.extend_from_slice(&learned.numbers());
            self.word(&lane.account);
            self.word(&lane.model);
        }
    }

    /// Everything counted, and the state of every lane; `metrics` in js/src/metrics.ts reads it.
    pub(super) fn snapshot(&mut self, scheduler: &mut Scheduler, now: Timestamp) {
        const LISTS: usize = 4;
        let Load { queued, backing_off, in_flight } = scheduler.load();
        let head = [now.as_secs_f64(), queued as f64, backing_off as f64, in_flight as f64];
        self.numbers.extend_from_slice(&head);
        // How long each list is comes first.
        self.numbers.extend_from_slice(&[0.0; 3]);
        self.scope("total", &scheduler.total());
        scheduler.each_scope(&mut |list, name, scope| {
            self.numbers[LISTS + list] += 1.0;
            self.scope(name, scope);
        });
        scheduler.each_lane_state(now, &mut |lane| {
            self.numbers.extend_from_slice(&[
                lane.limit.into(),
                lane.measured.map_or(f64::NAN, f64::from),
                lane.in_flight.into(),
                lane.paused,
                lane.requests_per_minute.unwrap_or(f64::NAN),
                lane.tokens_per_minute.unwrap_or(f64::NAN),
                lane.release_lag,
            ]);
            self.lane_key(lane.key);
            for word in [lane.state, lane.breaker, lane.held_by.unwrap_or_default()] {
                self.word(word);
            }
        });
    }

    fn scope(&mut self, name: &str, scope: &Scope) {
        self.word(name);
        for count in scope.counters.values() {
            self.number(count as f64);
        }
        for histogram in [&scope.queue_wait, &scope.first_content, &scope.duration] {
            let Summary { count, sum, p50, p90, p99, max } = histogram.summary();
            self.numbers.extend_from_slice(&[count as f64, sum, p50, p90, p99, max]);
        }
    }
}
