//! What will happen to a request that was let in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Arrival;
use crate::sim::scenario::{Faults, Scenario};

/// What will happen to an admitted request. All times count from its arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// When inference starts. Until then only signs of life are sent.
    pub wait: Duration,
    /// The time between signs of life while waiting.
    pub keep_alive: Duration,
    /// When the head of the answer (status 200 and headers) is sent.
    pub headers: Duration,
    /// When the first token comes.
    pub first_token: Duration,
    /// When the last token comes, if nothing goes wrong.
    pub last_token: Duration,
    /// Pieces of content the whole answer has, at least 1 (2 with reasoning).
    pub chunks: u32,
    /// Pieces that are delivered before the [`end`](Self::end); all of them in a whole answer, none in an empty one.
    pub delivered: u32,
    /// Length of the whole answer in tokens, reasoning included.
    pub output_tokens: u32,
    /// Of these reasoning.
    pub reasoning_tokens: u32,
    /// The answer was cut at the request's `max_tokens` (`finish_reason: "length"`).
    pub length: bool,
    /// How it ends.
    pub end: End,
}

/// How an admitted request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum End {
    /// With its whole answer.
    Complete,
    /// The connection breaks mid-way.
    Cut,
    /// Nothing more comes, and the connection stays open.
    Stall,
    /// HTTP ends well, but without `finish_reason` and `[DONE]`.
    CleanEnd,
    /// 200 and no body.
    EmptyBody,
    /// 200 and blank lines only.
    BlankBody,
    /// 200 and something unreadable.
    Garbage,
    /// An `error` object in a 200.
    ErrorObject,
    /// `finish_reason: "insufficient_system_resource"`.
    InsufficientResource,
    /// Inference did not start in time, so the provider hung up (the 10-minute rule).
    HangUp,
}

impl Plan {
    /// What happens to an admitted request. Every plan takes the same draws in the same order.
    pub(super) fn draw(scenario: &Scenario, mut rng: fastrand::Rng, arrival: &Arrival<'_>) -> Self {
        let (service, queue) = (&scenario.service, &scenario.queue);
        let wanted = (service.output_tokens.draw(&mut rng).round() as u32).max(1);
        let first = service.first_token.draw(&mut rng);
        let drawn = service.time.as_ref().map(|time| time.draw(&mut rng));
        let waits = rng.f64() < queue.probability;
        let wait = queue.wait.draw(&mut rng);
        let (fault, depth) = (rng.f64(), rng.f64());

        let output_tokens = wanted.min(arrival.max_tokens.max(1));
        let time = match (arrival.service, drawn) {
            (Some(time), _) => whole_micros(time),
            (None, Some(drawn)) => duration(drawn),
            (None, None) => duration(first + f64::from(output_tokens) / service.tokens_per_second),
        };
        let wait = if waits { duration(wait) } else { Duration::ZERO };
        let hang_up_after = duration(queue.hang_up_after);
        let keep_alive = duration(queue.keep_alive);
        let first_token = wait.saturating_add(duration(first).min(time));
        let last_token = wait.saturating_add(time);
        // Reasoning and answer have a piece each at least.
        let chunks = output_tokens.div_ceil(service.chunk_tokens.max(1)).max(1 + u32::from(arrival.thinking));
        let end = if wait > hang_up_after { End::HangUp } else { planned_end(&scenario.faults, fault) };
        let delivered = match end {
            End::Complete => chunks,
            End::EmptyBody | End::BlankBody | End::Garbage | End::HangUp => 0,
            // At least the first piece, and never the last unless it is the only one.
            _ => 1 + (depth * f64::from(chunks.saturating_sub(1))) as u32,
        };
        let wait = wait.min(hang_up_after);
        let mut plan = Self {
            wait,
            keep_alive,
            headers: Duration::ZERO,
            first_token,
            last_token,
            chunks,
            delivered,
            output_tokens,
            reasoning_tokens: if arrival.thinking { output_tokens / 3 } else { 0 },
            length: wanted > output_tokens,
            end,
        };
        let first_byte = match end {
            End::HangUp => wait,
            _ if arrival.stream => first_token,
            // A single object comes when it is complete; of one that stalls, half comes early.
            _ => plan.ends_at().unwrap_or(first_token),
        };
        if !service.early_headers {
            plan.headers = if wait >= keep_alive { keep_alive } else { first_byte };
        }
        plan
    }

    /// When piece `index` (from 0) of the content is sent: the first with the first token, the last with the last.
    pub fn chunk_at(&self, index: u32) -> Duration {
        let span = self.last_token.saturating_sub(self.first_token);
        match self.chunks {
            0 | 1 => self.last_token,
            n if index >= n - 1 => self.last_token,
            n => {
                let share = span.as_micros() * u128::from(index) / u128::from(n - 1);
                self.first_token.saturating_add(Duration::from_micros(u64::try_from(share).unwrap_or(u64::MAX)))
            }
        }
    }

    /// When it ends and its slot is free; `None` if it stalls, and ends only when the client goes away.
    pub fn ends_at(&self) -> Option<Duration> {
        match self.end {
            End::Complete => Some(self.last_token),
            End::Cut | End::CleanEnd | End::ErrorObject | End::InsufficientResource => {
                Some(self.chunk_at(self.delivered.saturating_sub(1)))
            }
            End::EmptyBody | End::BlankBody | End::Garbage => Some(self.first_token),
            End::HangUp => Some(self.headers.max(self.wait)),
            End::Stall => None,
        }
    }
}

/// The fault that a draw from [0, 1) picks.
fn planned_end(faults: &Faults, draw: f64) -> End {
    let mut below = 0.0;
    for (probability, end) in [
        (faults.cut, End::Cut),
        (faults.stall, End::Stall),
        (faults.clean_end, End::CleanEnd),
        (faults.empty_body, End::EmptyBody),
        (faults.blank_body, End::BlankBody),
        (faults.garbage, End::Garbage),
        (faults.error_object, End::ErrorObject),
        (faults.insufficient_resource, End::InsufficientResource),
    ] {
        below += probability;
        if draw < below {
            return end;
        }
    }
    End::Complete
}

fn whole_micros(d: Duration) -> Duration {
    Duration::from_micros(u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

pub(super) fn duration(secs: f64) -> Duration {
    // Cut to the microsecond, the clock's unit; absurd lengths are the longest.
    whole_micros(Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX))
}
