//! What people get to read, as JSON: how a call came about, why it failed, what is worth telling.

use crate::core::call::{AttemptRecord, Failure, FailureKind, History};
use crate::core::outcome::{Outcome, OutcomeKind};
use crate::core::route::LaneId;
use crate::core::scheduler::{Done, Notice, Scheduler};

/// An outcome's kind as a number; its place in this list is its name's.
const KINDS: [(OutcomeKind, &str); 14] = [
    (OutcomeKind::Success, "success"),
    (OutcomeKind::Slot, "slot"),
    (OutcomeKind::Rate, "rate"),
    (OutcomeKind::Pressure, "pressure"),
    (OutcomeKind::Server, "server"),
    (OutcomeKind::Transport, "transport"),
    (OutcomeKind::FirstContentTimeout, "first_content_timeout"),
    (OutcomeKind::Interrupted, "interrupted"),
    (OutcomeKind::Billing, "billing"),
    (OutcomeKind::Authentication, "authentication"),
    (OutcomeKind::Forbidden, "forbidden"),
    (OutcomeKind::Refused, "refused"),
    (OutcomeKind::Malformed, "malformed"),
    (OutcomeKind::Cancelled, "cancelled"),
];

/// An outcome's kind as a number. 0 is success.
pub(super) fn kind(kind: OutcomeKind) -> u32 {
    KINDS.iter().position(|(other, _)| *other == kind).unwrap_or(KINDS.len()) as u32
}

fn name(kind: OutcomeKind) -> &'static str {
    KINDS.iter().find(|(other, _)| *other == kind).map_or("unknown", |(_, name)| name)
}

fn failure_name(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Refused => "refused",
        FailureKind::Authentication => "authentication",
        FailureKind::Forbidden => "forbidden",
        FailureKind::InsufficientBalance => "insufficient_balance",
        FailureKind::Exhausted => "exhausted",
        FailureKind::Deadline => "deadline",
        FailureKind::Interrupted => "interrupted",
        FailureKind::Closed => "closed",
    }
}

/// One JSON object in the making. Written by hand: what deriving would generate for these types is larger than all of
/// this.
pub(super) struct Report<'a> {
    scheduler: &'a Scheduler,
    out: String,
}

impl<'a> Report<'a> {
    pub(super) fn new(scheduler: &'a Scheduler) -> Self {
        Self { scheduler, out: "{".into() }
    }

    pub(super) fn finish(mut self) -> String {
        self.out.push('}');
        self.out
    }

    pub(super) fn done(&mut self, done: &Done) {
        self.text("route", Some(&self.scheduler.route(done.route).name));
        self.number("elapsed", Some(done.elapsed.as_secs_f64()));
        self.history(&done.history);
    }

    pub(super) fn failure(&mut self, failure: &Failure) {
        self.text("failure", Some(failure_name(failure.kind)));
        self.number("elapsed", Some(failure.elapsed.as_secs_f64()));
        self.history(&failure.history);
        if let Some(outcome) = &failure.outcome {
            self.outcome(outcome);
        }
    }

    pub(super) fn outcome(&mut self, outcome: &Outcome) {
        self.text("outcome", Some(name(outcome.kind)));
        self.number("status", outcome.status.map(f64::from));
        self.text("message", outcome.message.as_deref());
        self.text("code", outcome.code.as_deref());
        self.text("error_type", outcome.error_type.as_deref());
        self.number("retry_after", outcome.retry_after.map(|span| span.as_secs_f64()));
        self.text("request_id", outcome.request_id.as_deref());
    }

    pub(super) fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Limit { lane, limit } => {
                self.kind_of("limit", Some(*lane));
                self.number("limit", Some(f64::from(*limit)));
            }
            Notice::Pressure { lane } => self.kind_of("pressure", Some(*lane)),
            Notice::Recovered { lane } => self.kind_of("recovered", Some(*lane)),
            Notice::Breaker { lane, open } => {
                self.kind_of("breaker", Some(*lane));
                self.raw("open", if *open { "true" } else { "false" });
            }
            Notice::Retry { attempts, kind, delay, .. } => {
                self.kind_of("retry", None);
                self.number("attempts", Some(f64::from(*attempts)));
                self.text("cause", Some(name(*kind)));
                self.number("delay", Some(delay.as_secs_f64()));
            }
            Notice::Failover { from, to, .. } => {
                self.kind_of("failover", None);
                self.text("from", Some(&self.scheduler.route(*from).name));
                self.text("to", Some(&self.scheduler.route(*to).name));
            }
            Notice::LowBalance { lane, limit } => {
                self.kind_of("low-balance", Some(*lane));
                self.number("limit", Some(f64::from(*limit)));
            }
            Notice::Stopped { route, kind } => {
                self.kind_of("stopped", None);
                self.text("route", Some(&self.scheduler.route(*route).name));
                self.text("cause", Some(name(*kind)));
            }
        }
    }

    fn kind_of(&mut self, kind: &str, lane: Option<LaneId>) {
        self.text("type", Some(kind));
        if let Some(lane) = lane.and_then(|lane| self.scheduler.lane(lane)) {
            self.text("account", Some(&lane.account));
            self.text("model", Some(&lane.model));
            self.text("user_id", lane.user_id.as_deref());
        }
    }

    fn history(&mut self, history: &History) {
        self.number("sent", Some(f64::from(history.sent())));
        self.key("attempts");
        self.out.push('[');
        for (at, record) in history.records().iter().enumerate() {
            self.out.push_str(if at == 0 { "{" } else { ",{" });
            self.record(record);
            self.out.push('}');
        }
        self.out.push(']');
    }

    fn record(&mut self, record: &AttemptRecord) {
        self.text("route", Some(&self.scheduler.route(record.route).name));
        self.number("sent", Some(record.sent.as_secs_f64()));
        self.number("took", Some(record.took.as_secs_f64()));
        self.text("outcome", Some(name(record.kind)));
        self.number("status", record.status.map(f64::from));
        self.text("message", record.message.as_deref());
        self.text("request_id", record.request_id.as_deref());
    }

    fn key(&mut self, key: &str) {
        if !self.out.ends_with('{') {
            self.out.push(',');
        }
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
    }

    fn raw(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push_str(value);
    }

    fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(quoted) = value.and_then(|value| serde_json::to_string(value).ok()) {
            self.raw(key, &quoted);
        }
    }

    fn number(&mut self, key: &str, value: Option<f64>) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            self.raw(key, &value.to_string());
        }
    }
}
