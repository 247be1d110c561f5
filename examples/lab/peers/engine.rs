//! What all peers have in common: a queue in order of arrival, attempts, and waits before the next try.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use tidegate::core::time::Timestamp;
use tidegate::sim::Rejected;
use tidegate::sim::play::{Act, Answer, Client, Heard, Job};

/// How a policy sees an attempt that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Answered whole.
    Whole,
    /// 429, whatever for.
    Throttled,
    /// Another status that tells of an overloaded or failing service: 5xx.
    Unavailable,
    /// Refused for good, a broken connection, an answer that is none.
    Failed,
}

/// An attempt that ended, as limiters measure it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// When it was sent.
    pub(crate) sent: Timestamp,
    /// Now.
    pub(crate) now: Timestamp,
    /// Attempts under way when it was sent, itself included.
    pub(crate) in_flight: usize,
    /// How it ended.
    pub(crate) ended: Ended,
}

impl Sample {
    /// How long it took.
    pub(crate) fn rtt(&self) -> f64 {
        self.now.secs_since(self.sent)
    }
}

/// What makes one peer differ from another.
pub(crate) trait Policy {
    /// Whether one more attempt may be sent now that `in_flight` are out.
    fn has_room(&mut self, now: Timestamp, in_flight: usize) -> bool;

    /// When there may be room although nothing ended.
    fn room_at(&self) -> Option<Timestamp> {
        None
    }

    /// How many requests it holds at most, for the chart.
    fn limit(&self) -> Option<usize> {
        None
    }

    /// An attempt is sent, a job's `first` or a later one; with it `in_flight` are out.
    fn on_send(&mut self, _now: Timestamp, _in_flight: usize, _first: bool) {}

    /// An attempt ended.
    fn on_end(&mut self, _sample: &Sample) {}

    /// How long to wait after the `failures`-th failure of a job; `None` gives it up.
    fn retry_after(&mut self, failures: u32, failure: &Failure<'_>, rng: &mut fastrand::Rng) -> Option<Duration>;

    /// Whether a job that waits for its next try keeps its place, so that no other is sent instead.
    fn keeps_its_place(&self) -> bool {
        false
    }
}

/// An attempt that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure<'a> {
    /// The refusal, if it was one.
    pub(crate) refused: Option<&'a Rejected>,
    /// Else: the connection was reset before an answer. If not that either, the answer broke off or was none.
    pub(crate) reset: bool,
}

impl Failure<'_> {
    /// The status of a refusal.
    pub(crate) fn status(&self) -> Option<u16> {
        self.refused.map(|refused| refused.status)
    }

    /// The wait asked for in `retry-after-ms` or `retry-after` (in seconds; dates play no part on a virtual clock).
    pub(crate) fn asked_wait(&self) -> Option<Duration> {
        let header = |wanted: &str| {
            let headers = self.refused.map_or(&[][..], |refused| &refused.headers);
            headers.iter().find(|(name, _)| *name == wanted).and_then(|(_, value)| value.parse::<f64>().ok())
        };
        let seconds = header("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| header("retry-after"))?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Whether another try can help: not after 400, 401, 402 and the like.
    pub(crate) fn is_transient(&self) -> bool {
        self.status().is_none_or(|status| status == 408 || status == 409 || status == 429 || status >= 500)
    }
}

/// A job under way.
#[derive(Debug)]
struct Call {
    attempts: u32,
    sent: Timestamp,
    in_flight: usize,
    flying: bool,
}

/// A client that follows a [`Policy`]; jobs start in the order they came, whatever their workload.
pub(crate) struct Engine<P> {
    policy: P,
    rng: fastrand::Rng,
    waiting: VecDeque<usize>,
    /// Jobs whose wait is over: they go first.
    again: VecDeque<usize>,
    backing_off: BinaryHeap<Reverse<(Timestamp, usize)>>,
    calls: HashMap<usize, Call>,
    in_flight: usize,
    ends: VecDeque<Act>,
    limit: Option<usize>,
}

impl<P: Policy> Engine<P> {
    pub(crate) fn new(policy: P, seed: u64) -> Self {
        Self {
            policy,
            rng: fastrand::Rng::with_seed(seed),
            waiting: VecDeque::new(),
            again: VecDeque::new(),
            backing_off: BinaryHeap::new(),
            calls: HashMap::new(),
            in_flight: 0,
            ends: VecDeque::new(),
            limit: None,
        }
    }

    fn end(&mut self, number: usize, result: Result<(), String>) {
        self.calls.remove(&number);
        self.ends.push_back(Act::End { number, result });
    }
}

impl<P: Policy> Client for Engine<P> {
    fn submit(&mut self, now: Timestamp, number: usize, _job: &Job) {
        self.calls.insert(number, Call { attempts: 0, sent: now, in_flight: 0, flying: false });
        self.waiting.push_back(number);
    }

    fn cancel(&mut self, _now: Timestamp, number: usize) -> bool {
        // Lines keep the number; they skip calls that are gone.
        let Some(call) = self.calls.remove(&number) else { return false };
        if call.flying {
            self.in_flight -= 1;
        }
        true
    }

    fn on(&mut self, now: Timestamp, number: usize, attempt: u32, heard: Heard<'_>) {
        let Heard::Answer(answer) = heard else { return };
        let Some(call) = self.calls.get_mut(&number).filter(|call| call.flying && call.attempts == attempt) else {
            return;
        };
        call.flying = false;
        self.in_flight -= 1;
        let refused = match answer {
            Answer::Refused(rejected) => Some(rejected),
            _ => None,
        };
        let failure = Failure { refused, reset: matches!(answer, Answer::Reset) };
        let ended = match failure.status() {
            Some(429) => Ended::Throttled,
            Some(500..) => Ended::Unavailable,
            None if answer.is_whole() => Ended::Whole,
            _ => Ended::Failed,
        };
        self.policy.on_end(&Sample { sent: call.sent, now, in_flight: call.in_flight, ended });
        if ended == Ended::Whole {
            return self.end(number, Ok(()));
        }
        let failures = call.attempts;
        let wait = match failure.is_transient() {
            true => self.policy.retry_after(failures, &failure, &mut self.rng),
            false => None,
        };
        match wait {
            Some(wait) => self.backing_off.push(Reverse((now + wait, number))),
            None => {
                let why = failure.status().map_or_else(|| "broken off".to_owned(), |status| status.to_string());
                self.end(number, Err(format!("{why} after {failures} attempts")));
            }
        }
    }

    fn poll(&mut self, now: Timestamp) -> Option<Act> {
        if let Some(end) = self.ends.pop_front() {
            return Some(end);
        }
        while let Some(&Reverse((at, number))) = self.backing_off.peek() {
            if at > now {
                break;
            }
            self.backing_off.pop();
            self.again.push_back(number);
        }
        let limit = self.policy.limit();
        if limit != self.limit {
            self.limit = limit;
            if let Some(limit) = limit {
                return Some(Act::Limit(u32::try_from(limit).unwrap_or(u32::MAX)));
            }
        }
        let next = loop {
            let line = if self.again.is_empty() { &mut self.waiting } else { &mut self.again };
            let &number = line.front()?;
            if self.calls.contains_key(&number) {
                break number;
            }
            line.pop_front();
        };
        let again = !self.again.is_empty();
        let keeps = self.policy.keeps_its_place();
        let held = self.in_flight + if keeps { self.backing_off.len() + self.again.len() } else { 0 };
        // A job that kept its place takes that very place.
        let free = (keeps && again) || self.policy.has_room(now, held);
        if !free {
            return None;
        }
        let line = if again { &mut self.again } else { &mut self.waiting };
        line.pop_front();
        self.in_flight += 1;
        let call = self.calls.get_mut(&next)?;
        self.policy.on_send(now, if keeps && again { held } else { held + 1 }, call.attempts == 0);
        call.attempts += 1;
        call.sent = now;
        call.in_flight = self.in_flight;
        call.flying = true;
        Some(Act::Send { number: next, attempt: call.attempts })
    }

    fn next_wake(&self) -> Option<Timestamp> {
        let retry = self.backing_off.peek().map(|Reverse((at, _))| *at);
        let pending = !self.waiting.is_empty() || !self.again.is_empty();
        [retry, self.policy.room_at().filter(|_| pending)].into_iter().flatten().min()
    }
}

/// `first` doubling with each failure up to `longest`, less up to `jitter` of itself.
pub(crate) fn exponential(failures: u32, first: f64, longest: f64, jitter: f64, rng: &mut fastrand::Rng) -> Duration {
    let doubled = first * 2f64.powi(i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX));
    Duration::from_secs_f64(doubled.min(longest) * (1.0 - jitter * rng.f64()))
}

/// How those wait who use a bare limiter and put a rejected job back into their queue themselves: half a second doubling
/// to eight, jittered, or what the server asks if that is longer; without an end, so that nothing is lost.
pub(crate) fn requeue(failures: u32, failure: &Failure<'_>, rng: &mut fastrand::Rng) -> Option<Duration> {
    let backoff = exponential(failures, 0.5, 8.0, 0.5, rng);
    Some(failure.asked_wait().map_or(backoff, |asked| asked.max(backoff)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate::sim::RejectReason;

    /// One at a time, again after a second, three attempts.
    struct Single {
        keeps: bool,
    }

    impl Policy for Single {
        fn has_room(&mut self, _now: Timestamp, in_flight: usize) -> bool {
            in_flight < 1
        }

        fn retry_after(&mut self, failures: u32, failure: &Failure<'_>, _rng: &mut fastrand::Rng) -> Option<Duration> {
            (failures < 3).then(|| failure.asked_wait().unwrap_or(Duration::from_secs(1)))
        }

        fn keeps_its_place(&self) -> bool {
            self.keeps
        }
    }

    fn refused(status: u16, headers: Vec<(&'static str, String)>) -> Answer {
        Answer::Refused(Rejected {
            reason: RejectReason::Slot,
            status,
            content_type: None,
            headers,
            body: bytes::Bytes::new(),
            after: Duration::ZERO,
        })
    }

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_secs_f64(seconds)
    }

    /// Two jobs, of which the first has just been sent.
    fn started(keeps: bool) -> Engine<Single> {
        let mut engine = Engine::new(Single { keeps }, 1);
        for number in 0..2 {
            engine.submit(at(0.0), number, &Job::default());
        }
        assert_eq!(engine.poll(at(0.0)), Some(Act::Send { number: 0, attempt: 1 }));
        assert_eq!(engine.poll(at(0.0)), None);
        engine
    }

    #[test]
    fn a_job_that_keeps_its_place_lets_no_other_start() {
        let mut engine = started(true);
        engine.on(at(0.1), 0, 1, Heard::Answer(&refused(429, Vec::new())));
        assert_eq!((engine.poll(at(0.1)), engine.next_wake()), (None, Some(at(1.1))));
        assert_eq!(engine.poll(at(1.1)), Some(Act::Send { number: 0, attempt: 2 }));
    }

    #[test]
    fn a_job_that_does_not_makes_room_and_comes_back_before_those_that_wait() {
        let mut engine = started(false);
        engine.submit(at(0.0), 2, &Job::default());
        engine.on(at(0.1), 0, 1, Heard::Answer(&refused(429, Vec::new())));
        assert_eq!(engine.poll(at(0.1)), Some(Act::Send { number: 1, attempt: 1 }));
        engine.on(at(1.2), 1, 1, Heard::Answer(&refused(503, Vec::new())));
        assert_eq!(engine.poll(at(1.2)), Some(Act::Send { number: 0, attempt: 2 }));
    }

    #[test]
    fn waits_that_are_asked_for_are_seen_and_the_milliseconds_first() {
        let mut engine = started(true);
        let headers = vec![("retry-after", "9".to_owned()), ("retry-after-ms", "2500".to_owned())];
        engine.on(at(0.5), 0, 1, Heard::Answer(&refused(429, headers)));
        assert_eq!(engine.next_wake(), Some(at(3.0)));
    }

    #[test]
    fn what_no_retry_can_help_and_what_was_tried_enough_is_lost() {
        let mut engine = started(true);
        engine.on(at(0.1), 0, 1, Heard::Answer(&refused(402, Vec::new())));
        assert_eq!(engine.poll(at(0.1)), Some(Act::End { number: 0, result: Err("402 after 1 attempts".to_owned()) }));
        for attempt in 1..=3 {
            let now = at(f64::from(attempt) * 2.0);
            assert_eq!(engine.poll(now), Some(Act::Send { number: 1, attempt }));
            engine.on(now, 1, attempt, Heard::Answer(&Answer::Reset));
        }
        let lost = Act::End { number: 1, result: Err("broken off after 3 attempts".to_owned()) };
        assert_eq!(engine.poll(at(9.0)), Some(lost));
    }
}
