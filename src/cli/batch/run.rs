//! The batch's loop: read ahead, send through the caller, write what ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use super::journal::{Appender, Place, Storage};
use super::progress::{Progress, Tally, counted};
use super::record;
use super::source::Item;
use crate::caller::{CallError, Caller, Failure, Fault, Gauges, Reply};

/// Why a batch ended before its input did.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("interrupted")]
    Interrupted,
    #[error("{file} can't be written: {error}")]
    Unwritable { file: &'static str, error: io::Error },
    #[error("another program has written to {0}, or cut it off, while the batch ran")]
    Changed(&'static str),
    #[error("the output was moved, deleted or replaced while the batch ran")]
    Displaced,
    #[error("the input can't be read: {0}")]
    Unreadable(io::Error),
    #[error("the input ended after {read} of the {total} lines it had: it was cut off while it was read")]
    CutOff { read: u64, total: u64 },
    /// The account, the key or the network is at fault, so that every request would fail.
    #[error("{0}")]
    Provider(String),
    /// Nothing was answered, and there is no sign that anything will be.
    #[error("all {count} requests so far failed in the same words{}: {words}", in_parentheses(*.status))]
    RefusedAlike { count: u64, status: Option<u16>, words: String },
    #[error("a bug in this program ended a request: {0}")]
    Bug(String),
}

fn in_parentheses(status: Option<u16>) -> String {
    status.map_or_else(String::new, |status| format!(" (status {status})"))
}

/// How a batch ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None` if everything in the input is done with.
    pub(super) stop: Option<Stop>,
    pub(super) tally: Tally,
    /// Answers that came but could not be written: they will be asked again.
    pub(super) lost_answers: usize,
}

/// A batch that is ready to run.
pub(super) struct Batch<C, S> {
    pub(super) caller: Arc<C>,
    pub(super) items: Receiver<Item>,
    pub(super) answers: Appender<S>,
    /// Where the answers stand, if others can get at them.
    pub(super) place: Option<Place>,
    pub(super) errors: Appender<S>,
    /// Each is a Ctrl-C: the first lets what is in flight end; one that comes while the batch is stopping doesn't.
    pub(super) interrupts: UnboundedReceiver<()>,
    pub(super) progress: Progress,
    pub(super) total: Option<u64>,
    /// Whether to stop if every request is refused in the same words.
    pub(super) may_give_up: bool,
}

/// Requests handed to the caller are a multiple of what it can have in flight, so that its queue never runs dry, but
/// bounded, so that a long input isn't held in memory.
const READ_AHEAD: usize = 4;
const MIN_READ_AHEAD: usize = 64;
const MAX_READ_AHEAD: usize = 10_000;

/// So many calls in a row that could not reach the provider, each after all its attempts, mean that the network is gone:
/// the rest of the input is not spent on it.
const UNREACHABLE: u32 = 16;

/// How long the provider may be out of reach, every attempt failing for want of a connection. Attempts become rare by
/// then, so counting calls that have spent all of theirs would take hours.
const UNREACHABLE_FOR: Duration = Duration::from_secs(60);

/// So many requests that were refused in the same words, with nothing else having come of any, raise the doubt that all
/// others would be, too: a wrong model, an address without its `/v1`, a field that the provider does not know. Lines that
/// are bad by chance, nine in ten, begin a batch like that once in two hundred times.
const REFUSED_ALIKE: u64 = 50;

/// So many errors are told at once; the rest stand in the error file only.
const ERRORS_TOLD: u64 = 10;

/// How often gauges are read and the progress is shown.
const TICK: Duration = Duration::from_millis(100);

/// Tells a network that is gone from one that stumbles.
#[derive(Default)]
struct Reach {
    /// Attempts that came to an answer of any kind.
    heard: u64,
    cut_off: u64,
    /// Since when every attempt has failed for want of a connection.
    lost_since: Option<Instant>,
}

impl Reach {
    /// Takes note of the counts at `now`; whether the provider has been out of reach for too long.
    fn lost(&mut self, gauges: &Gauges, now: Instant) -> bool {
        let heard = gauges.attempts.saturating_sub(gauges.cut_off).saturating_sub(gauges.in_flight.into());
        if heard > self.heard {
            self.lost_since = None;
        } else if gauges.cut_off > self.cut_off {
            self.lost_since.get_or_insert(now);
        }
        self.heard = self.heard.max(heard);
        self.cut_off = gauges.cut_off;
        // What is in flight may yet be answered.
        gauges.in_flight == 0 && self.lost_since.is_some_and(|since| now.duration_since(since) >= UNREACHABLE_FOR)
    }

    /// Tells a breaker that is open for want of a connection from one that is open for what the service answers.
    fn explain(&self, gauges: &mut Gauges) {
        if let Some(held) = gauges.held.as_mut().filter(|held| held.by == "breaker" && self.lost_since.is_some()) {
            held.by = "network";
        }
    }
}

/// Tells a batch that can only fail from one with bad lines in it.
struct Refusals {
    /// Something else than that one refusal has come, or who started the batch wants it all asked.
    settled: bool,
    count: u64,
    status: Option<u16>,
    words: String,
}

impl Refusals {
    fn new(may_give_up: bool) -> Self {
        Self { settled: !may_give_up, count: 0, status: None, words: String::new() }
    }

    /// Takes note of a refusal.
    fn refused(&mut self, failure: &Failure) {
        if self.count == 0 {
            self.status = failure.status;
            self.words.clone_from(&failure.words);
        }
        self.count += 1;
        self.settled |= self.status != failure.status || self.words != failure.words;
    }

    /// Whether to wait for what is under way before anything else is sent. A refusal comes at once and an answer takes
    /// its time, so the first ends say little of what is in flight; what is in flight tells.
    fn doubt(&self) -> bool {
        !self.settled && self.count >= REFUSED_ALIKE
    }

    fn stop(&self) -> Stop {
        let words = match self.words.trim_end_matches('.') {
            "" => "the server says nothing more".to_owned(),
            words => words.to_owned(),
        };
        Stop::RefusedAlike { count: self.count, status: self.status, words }
    }
}

struct Finished {
    id: String,
    line: u64,
    result: Result<Reply, CallError>,
    /// Given back when the answer has been written.
    _memory: OwnedSemaphorePermit,
}

struct State<C, S> {
    caller: Arc<C>,
    answers: Appender<S>,
    place: Option<Place>,
    errors: Appender<S>,
    progress: Progress,
    tally: Tally,
    stop: Option<Stop>,
    calls: JoinSet<Finished>,
    refusals: Refusals,
    /// Lines of the input that were taken.
    taken: u64,
    /// Whether it has no more.
    at_end: bool,
    /// Calls in a row that failed because the provider could not be reached.
    unreachable: u32,
    /// What the last of them said.
    last_unreachable: String,
}

impl<C: Caller, S: Storage> Batch<C, S> {
    /// Runs to the end of the input, or until something stops it. Cancel-safe only by way of `interrupts`.
    pub(super) async fn run(self) -> Ended {
        let Self { caller, mut items, answers, place, errors, mut interrupts, progress, total, may_give_up } = self;
        let tally = Tally { total, ..Tally::default() };
        let calls = JoinSet::new();
        let mut state = State {
            caller,
            answers,
            place,
            errors,
            progress,
            tally,
            stop: None,
            calls,
            refusals: Refusals::new(may_give_up),
            taken: 0,
            at_end: false,
            unreachable: 0,
            last_unreachable: String::new(),
        };
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reach = Reach::default();
        let mut read_ahead = MIN_READ_AHEAD;
        let mut reading = true;
        while reading || !state.calls.is_empty() {
            tokio::select! {
                biased;
                Some(()) = interrupts.recv() => {
                    if state.stop.is_some() {
                        break;
                    }
                    state.interrupt();
                }
                Some(finished) = state.calls.join_next() => state.finish(finished),
                _ = ticks.tick() => {
                    let mut gauges = state.caller.gauges();
                    let lost = reach.lost(&gauges, Instant::now());
                    reach.explain(&mut gauges);
                    let window = gauges.limit.map_or(0, |limit| limit as usize);
                    read_ahead = window.saturating_mul(READ_AHEAD).clamp(MIN_READ_AHEAD, MAX_READ_AHEAD);
                    state.progress.update(&state.tally, &gauges);
                    if state.place.as_ref().is_some_and(Place::is_left) {
                        state.stop_aloud(Stop::Displaced);
                    }
                    if lost {
                        let seconds = UNREACHABLE_FOR.as_secs();
                        state.stop(Stop::Provider(format!("the provider could not be reached for {seconds} seconds")));
                    }
                }
                item = items.recv(), if reading && state.calls.len() < state.room(read_ahead) => {
                    reading = state.take(item);
                }
            }
            reading &= state.stop.is_none();
        }
        while let Some(finished) = state.calls.try_join_next() {
            state.finish(finished);
        }
        // After a second Ctrl-C this closes the connections; their requests will be asked again.
        state.calls.shutdown().await;
        state.end()
    }
}

impl<C: Caller, S: Storage> State<C, S> {
    /// Sends nothing more; what is in flight is paid for, so it may end. The first reason is the one that is told.
    fn stop(&mut self, stop: Stop) {
        if self.stop.is_none() {
            self.caller.close();
            self.stop = Some(stop);
        }
    }

    /// The same, said at once: what is in flight may take a while, and someone is at work on the files.
    fn stop_aloud(&mut self, stop: Stop) {
        if self.stop.is_none() {
            self.progress.say(&format!("Stopping: {stop}. What is in flight is waited for."));
        }
        self.stop(stop);
    }

    /// How many calls may be under way for another to be taken from the input.
    fn room(&self, read_ahead: usize) -> usize {
        if self.refusals.doubt() { 1 } else { read_ahead }
    }

    fn interrupt(&mut self) {
        let in_flight = counted(self.caller.gauges().in_flight.into(), "request");
        self.progress.say(&format!("Stopping: waiting for {in_flight} in flight. Ctrl-C again to end without."));
        self.stop(Stop::Interrupted);
    }

    /// Takes what was read; `false` if nothing follows.
    fn take(&mut self, item: Option<Item>) -> bool {
        self.taken += u64::from(matches!(item, Some(Item::Request { .. } | Item::Answered | Item::Bad { .. })));
        match item {
            // It would be the first behind nothing but refusals.
            Some(Item::Request { .. }) if self.refusals.doubt() => self.stop(self.refusals.stop()),
            Some(Item::Request { request, line, memory }) => {
                let caller = self.caller.clone();
                self.calls.spawn(async move {
                    let result = caller.call(request.call).await;
                    Finished { id: request.id, line, result, _memory: memory }
                });
            }
            Some(Item::Answered) => self.tally.answered_before += 1,
            Some(Item::Bad { line, id, error }) => {
                self.tally.bad_lines += 1;
                self.tell(line, &error.to_string());
                self.record_error(record::bad_line(id.as_deref(), line, error.code(), &error.to_string()));
            }
            Some(Item::End) => {
                self.at_end = true;
                return false;
            }
            Some(Item::Broken(error)) => self.stop(Stop::Unreadable(error)),
            // It says `End` when it ends.
            None => self.stop(Stop::Bug("the reader ended early".to_owned())),
        }
        true
    }

    fn finish(&mut self, finished: Result<Finished, JoinError>) {
        match finished {
            Ok(Finished { id, result: Ok(reply), .. }) => {
                self.unreachable = 0;
                self.refusals.settled = true;
                let had_room = self.answers.unwritten() == 0;
                match self.answers.append(record::answer(&id, &reply)) {
                    Ok(()) => {}
                    Err(error) => {
                        if had_room {
                            let message = "The disk is full or gone; answers still in flight are kept until the end.";
                            self.progress.say(message);
                        }
                        self.stop(Stop::Unwritable { file: "the output", error });
                    }
                }
                if self.answers.changed() {
                    self.stop_aloud(Stop::Changed("the output"));
                }
                self.tally.answered += 1;
            }
            Ok(Finished { id, line, result: Err(CallError::Failed(failure)), .. }) => {
                self.tally.failed += 1;
                match failure.fault {
                    Fault::Refusal => self.refusals.refused(&failure),
                    _ => self.refusals.settled = true,
                }
                self.unreachable = if failure.fault == Fault::Network { self.unreachable + 1 } else { 0 };
                if failure.fault == Fault::Account || self.unreachable >= UNREACHABLE {
                    self.stop(Stop::Provider(failure.message.clone()));
                }
                if failure.fault == Fault::Network {
                    self.last_unreachable.clone_from(&failure.message);
                }
                // What stops the batch is told at its end.
                if self.stop.is_none() {
                    self.tell(line, &failure.message);
                }
                self.record_error(record::failure(&id, line, &failure));
            }
            Ok(Finished { result: Err(CallError::Closed), .. }) => {
                if self.stop.is_none() {
                    self.stop(Stop::Bug("the client closed by itself".to_owned()));
                }
            }
            Err(error) => self.stop(Stop::Bug(error.to_string())),
        }
    }

    /// Tells of the first errors as they come.
    fn tell(&self, line: u64, error: &str) {
        let errors = self.tally.failed + self.tally.bad_lines;
        if errors <= ERRORS_TOLD {
            self.progress.say(&format!("line {line}: {error}"));
        } else if errors == ERRORS_TOLD + 1 {
            self.progress.say("Further errors stand in the error file only.");
        }
    }

    fn record_error(&mut self, line: Vec<u8>) {
        if let Err(error) = self.errors.append(line) {
            self.stop(Stop::Unwritable { file: "the error file", error });
        }
    }

    fn end(mut self) -> Ended {
        // Too short a batch for `UNREACHABLE`, but nothing else came of it.
        if self.unreachable > 0 && self.tally.answered == 0 && self.tally.failed == u64::from(self.unreachable) {
            let message = std::mem::take(&mut self.last_unreachable);
            self.stop(Stop::Provider(message));
        }
        for (file, result) in [("the error file", self.errors.finish()), ("the output", self.answers.finish())] {
            if let Err(error) = result {
                self.stop(Stop::Unwritable { file, error });
            }
        }
        // Only now: what was read is asked in any case.
        if let Some(total) = self.tally.total.filter(|&total| self.at_end && self.taken < total) {
            self.stop(Stop::CutOff { read: self.taken, total });
        }
        if let Some(mut place) = self.place.take_if(|place| place.is_left()) {
            self.stop(Stop::Displaced);
            match place.rescue() {
                Ok(path) => self.progress.say(&format!(
                    "All answers stand in {} now. The next run knows those that it finds in its --output.",
                    path.display()
                )),
                Err(error) => self.progress.say(&format!("The answers can't be written to another place: {error}")),
            }
        }
        let lost_answers = self.answers.unwritten();
        self.tally.answered -= lost_answers as u64;
        self.progress.finish();
        Ended { stop: self.stop, tally: self.tally, lost_answers }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::Ids;
    use super::super::journal;
    use super::super::source::{self, SourceOptions};
    use super::*;
    use crate::caller::{Call, Held};
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::fs::{self, File};
    use std::io::Cursor;
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
    use tokio::sync::{Semaphore, watch};

    /// A client with a limit, that answers each prompt with itself, or fails as the prompt says.
    struct Fake {
        slots: Semaphore,
        limit: u32,
        in_flight: AtomicU32,
        waiting: AtomicU32,
        most_waiting: AtomicU32,
        asked: Mutex<HashMap<String, u32>>,
        closed: watch::Sender<bool>,
        /// Answers come only while this is open.
        service: watch::Sender<bool>,
        /// The prompt "slow" is answered only while this is open.
        slow: watch::Sender<bool>,
        /// Whether an attempt has failed for want of a connection.
        unreachable: AtomicBool,
    }

    impl Fake {
        fn new(limit: u32) -> Arc<Self> {
            Arc::new(Self {
                slots: Semaphore::new(limit as usize),
                limit,
                in_flight: AtomicU32::new(0),
                waiting: AtomicU32::new(0),
                most_waiting: AtomicU32::new(0),
                asked: Mutex::default(),
                closed: watch::channel(false).0,
                service: watch::channel(true).0,
                slow: watch::channel(true).0,
                unreachable: AtomicBool::new(false),
            })
        }

        fn asked(&self) -> HashMap<String, u32> {
            self.asked.lock().unwrap().clone()
        }

        async fn until_in_flight(&self, wanted: u32) {
            while self.in_flight.load(Ordering::SeqCst) != wanted {
                tokio::task::yield_now().await;
            }
        }
    }

    fn failed(fault: Fault, code: &str) -> CallError {
        let status = match fault {
            Fault::Request | Fault::Refusal => Some(400),
            Fault::Account => Some(402),
            Fault::Network => None,
        };
        let (message, words) = (format!("{code}!"), format!("{code}."));
        CallError::Failed(Failure { fault, code: code.into(), message, words, status, request_id: None, body: None })
    }

    impl Caller for Fake {
        async fn call(&self, call: Call) -> Result<Reply, CallError> {
            let body: serde_json::Value = serde_json::from_slice(&call.body).unwrap();
            let prompt = body["messages"][0]["content"].as_str().unwrap().to_owned();
            let mut closed = self.closed.subscribe();
            let waiting = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_waiting.fetch_max(waiting, Ordering::SeqCst);
            let slot = tokio::select! {
                biased;
                _ = closed.wait_for(|closed| *closed) => None,
                slot = self.slots.acquire() => slot.ok(),
            };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            let Some(_slot) = slot else { return Err(CallError::Closed) };
            *self.asked.lock().unwrap().entry(prompt.clone()).or_default() += 1;
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            self.service.subscribe().wait_for(|open| *open).await.unwrap();
            if prompt == "slow" {
                self.slow.subscribe().wait_for(|open| *open).await.unwrap();
            }
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            match prompt.as_str() {
                "refuse" => Err(failed(Fault::Refusal, "refused")),
                "refuse too" => Err(failed(Fault::Refusal, "refused too")),
                "fail" => Err(failed(Fault::Request, "server")),
                "broke" => Err(failed(Fault::Account, "insufficient_balance")),
                "cut off" => Err(failed(Fault::Network, "connection")),
                "panic" => panic!("this panic is part of a test"),
                _ => Ok(Reply {
                    status: 200,
                    request_id: None,
                    body: Bytes::from(format!("{{\n\"echo\":\"{prompt}\"}}")),
                }),
            }
        }

        fn gauges(&self) -> Gauges {
            let cut_off = self.unreachable.load(Ordering::SeqCst).into();
            let in_flight = self.in_flight.load(Ordering::SeqCst);
            Gauges { limit: Some(self.limit), in_flight, attempts: cut_off, cut_off, ..Gauges::default() }
        }

        fn close(&self) {
            self.closed.send_replace(true);
        }
    }

    fn lines(prompts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
        let line = |(n, prompt): (usize, _)| format!("{{\"id\":\"{n}\",\"prompt\":\"{}\"}}\n", AsRef::as_ref(&prompt));
        prompts.into_iter().enumerate().map(line).collect()
    }

    fn options() -> SourceOptions {
        SourceOptions { max_line_bytes: 1 << 20, model: Some("m".into()), memory: 1 << 20 }
    }

    fn batch(dir: &Path, input: String, caller: &Arc<Fake>) -> (Batch<Fake, File>, UnboundedSender<()>) {
        let (answers, earlier) = journal::open_answers(&dir.join("out")).unwrap();
        let errors = journal::open_errors(&dir.join("errors")).unwrap();
        let items = source::start(Cursor::new(input), earlier.ids, options());
        let (sender, interrupts) = unbounded_channel();
        let progress = Progress::new(true);
        let caller = caller.clone();
        let place = Some(earlier.place);
        (Batch { caller, items, answers, place, errors, interrupts, progress, total: None, may_give_up: true }, sender)
    }

    /// The ids in a file, sorted as numbers; every line has to be whole.
    fn ids(dir: &Path, file: &str) -> Vec<u64> {
        let text = fs::read_to_string(dir.join(file)).unwrap();
        let id = |line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["custom_id"].as_str().unwrap().parse().unwrap()
        };
        let mut ids: Vec<u64> = text.lines().map(id).collect();
        ids.sort();
        ids
    }

    #[tokio::test]
    async fn every_request_is_asked_once_and_its_answer_written() {
        let dir = tempfile::tempdir().unwrap();
        let caller = Fake::new(3);
        let input = lines((0..200).map(|n| format!("prompt {n}")));
        let (batch, _interrupts) = batch(dir.path(), input, &caller);
        let ended = batch.run().await;
        assert!(ended.stop.is_none());
        assert_eq!(ended.tally, Tally { answered: 200, ..Tally::default() });
        assert_eq!(ids(dir.path(), "out"), (0..200).collect::<Vec<_>>());
        assert!(caller.asked().values().all(|&times| times == 1));
        assert!(caller.most_waiting.load(Ordering::SeqCst) <= MIN_READ_AHEAD as u32);
    }

    #[tokio::test]
    async fn failures_go_to_the_error_file_and_are_tried_again_by_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let mut input = lines(["good", "refuse", "good too"]);
        input.push_str("not JSON\n");
        let caller = Fake::new(3);
        let (first, _interrupts) = batch(dir.path(), input, &caller);
        let ended = first.run().await;
        assert_eq!(ended.tally, Tally { answered: 2, failed: 1, bad_lines: 1, ..Tally::default() });
        assert_eq!(ids(dir.path(), "out"), [0, 2]);
        let errors = fs::read_to_string(dir.path().join("errors")).unwrap();
        assert!(errors.contains("\"code\":\"refused\"") && errors.contains("\"line\":4"), "{errors}");

        let again = Fake::new(3);
        let (second, _interrupts) = batch(dir.path(), lines(["good", "fine now", "good too"]), &again);
        let ended = second.run().await;
        assert_eq!(ended.tally, Tally { answered: 1, answered_before: 2, ..Tally::default() });
        assert_eq!(again.asked().into_keys().collect::<Vec<_>>(), ["fine now"]);
        assert_eq!(ids(dir.path(), "out"), [0, 1, 2]);
        assert_eq!(fs::read_to_string(dir.path().join("errors")).unwrap(), "");
    }

    #[tokio::test]
    async fn the_first_interrupt_drains_what_is_in_flight_and_sends_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let input = lines((0..50).map(|n| format!("prompt {n}")));
        let caller = Fake::new(4);
        caller.service.send_replace(false);
        let (batch, interrupts) = batch(dir.path(), input.clone(), &caller);
        let run = tokio::spawn(batch.run());
        caller.until_in_flight(4).await;
        interrupts.send(()).unwrap();
        caller.closed.subscribe().wait_for(|closed| *closed).await.unwrap();
        caller.service.send_replace(true);
        let ended = run.await.unwrap();
        assert!(matches!(ended.stop, Some(Stop::Interrupted)));
        assert_eq!(ended.tally.answered, 4);
        assert_eq!(ids(dir.path(), "out").len(), 4);

        let again = Fake::new(4);
        let (rest, _interrupts) = self::batch(dir.path(), input, &again);
        assert_eq!(rest.run().await.tally, Tally { answered: 46, answered_before: 4, ..Tally::default() });
        assert_eq!(ids(dir.path(), "out"), (0..50).collect::<Vec<_>>());
        assert!(
            again.asked().keys().all(|prompt| !caller.asked().contains_key(prompt)),
            "an answered id was asked again"
        );
    }

    #[tokio::test]
    async fn the_second_interrupt_gives_up_what_is_in_flight() {
        let dir = tempfile::tempdir().unwrap();
        let caller = Fake::new(4);
        caller.service.send_replace(false);
        let (batch, interrupts) = batch(dir.path(), lines(["a", "b"]), &caller);
        let run = tokio::spawn(batch.run());
        caller.until_in_flight(2).await;
        interrupts.send(()).unwrap();
        interrupts.send(()).unwrap();
        let ended = run.await.unwrap();
        assert!(matches!(ended.stop, Some(Stop::Interrupted)));
        assert_eq!(ended.tally, Tally::default());
        assert_eq!(ids(dir.path(), "out"), [0; 0]);
    }

    #[tokio::test]
    async fn an_account_without_money_stops_the_batch_instead_of_failing_every_line() {
        let dir = tempfile::tempdir().unwrap();
        let caller = Fake::new(1);
        let prompts = ["good".to_owned(), "broke".to_owned()].into_iter().chain((0..500).map(|n| n.to_string()));
        let (batch, _interrupts) = batch(dir.path(), lines(prompts), &caller);
        let ended = batch.run().await;
        assert!(matches!(&ended.stop, Some(Stop::Provider(message)) if message == "insufficient_balance!"));
        assert!(caller.asked().len() < 10, "went on sending: {}", caller.asked().len());
        assert_eq!(ended.tally.failed, 1);
    }

    #[tokio::test]
    async fn a_batch_too_short_to_tell_is_stopped_by_a_lost_network_if_nothing_was_answered() {
        for (prompts, stops) in [
            (&["cut off"][..], true),
            (&["cut off"; 15], true),
            (&["cut off", "refuse", "cut off"], false),
            (&["good", "cut off", "cut off"], false),
            (&[], false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (batch, _interrupts) = batch(dir.path(), lines(prompts), &Fake::new(1));
            let ended = batch.run().await;
            let stopped = matches!(&ended.stop, Some(Stop::Provider(message)) if message == "connection!");
            assert_eq!(stopped, stops, "{prompts:?}: {ended:?}");
            assert_eq!(ended.tally.answered + ended.tally.failed, prompts.len() as u64);
        }
    }

    #[tokio::test]
    async fn a_lost_network_stops_the_batch_but_a_few_lost_calls_do_not() {
        let few = (0..100).map(|n| if n % 10 == 0 { "good" } else { "cut off" });
        let many = (0..100).map(|n| if n < 20 { "good" } else { "cut off" });
        for (prompts, stops) in [(few.collect::<Vec<_>>(), false), (many.collect(), true)] {
            let dir = tempfile::tempdir().unwrap();
            let (batch, _interrupts) = batch(dir.path(), lines(prompts), &Fake::new(1));
            let ended = batch.run().await;
            assert_eq!(matches!(ended.stop, Some(Stop::Provider(_))), stops, "{ended:?}");
            assert_eq!(ended.tally.answered + ended.tally.failed == 100, !stops);
        }
    }

    #[tokio::test]
    async fn a_batch_whose_every_request_is_refused_alike_stops_and_is_asked_again_by_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let (first, _interrupts) = batch(dir.path(), lines(["refuse"; 500]), &Fake::new(3));
        let ended = first.run().await;
        let Some(Stop::RefusedAlike { count, .. }) = ended.stop else { panic!("{ended:?}") };
        assert!((REFUSED_ALIKE..REFUSED_ALIKE + MIN_READ_AHEAD as u64).contains(&count), "{count}");
        let told = ended.stop.unwrap().to_string();
        assert_eq!(told, format!("all {count} requests so far failed in the same words (status 400): refused"));
        assert_eq!(ended.tally, Tally { failed: count, ..Tally::default() });
        assert_eq!(ids(dir.path(), "errors"), (0..count).collect::<Vec<_>>());

        let (second, _interrupts) = batch(dir.path(), lines(["mended"; 500]), &Fake::new(3));
        assert_eq!(second.run().await.tally, Tally { answered: 500, ..Tally::default() });
        assert_eq!(ids(dir.path(), "out"), (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn a_refusal_without_words_is_still_told_as_a_sentence() {
        let CallError::Failed(failure) = failed(Fault::Refusal, "refused") else { panic!() };
        let mut refusals = Refusals::new(true);
        refusals.refused(&Failure { words: String::new(), ..failure });
        assert!(refusals.stop().to_string().ends_with("(status 400): the server says nothing more"));
    }

    #[tokio::test]
    async fn any_other_end_of_a_request_and_any_answer_let_the_refused_ones_be() {
        for other in ["good", "refuse too", "fail"] {
            // At the latest the fiftieth: how many more are under way when there is doubt depends on the reader.
            for place in [0, 20, 49] {
                let dir = tempfile::tempdir().unwrap();
                let prompts = (0..300).map(|n| if n == place { other } else { "refuse" });
                let (batch, _interrupts) = batch(dir.path(), lines(prompts), &Fake::new(3));
                let ended = batch.run().await;
                assert!(ended.stop.is_none(), "{other} {place}: {ended:?}");
                assert_eq!(ended.tally.answered + ended.tally.failed, 300);
            }
        }
    }

    #[tokio::test]
    async fn refusals_come_faster_than_answers_so_what_is_in_flight_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let caller = Fake::new(2);
        caller.slow.send_replace(false);
        let prompts = (0..300).map(|n| if n == 0 { "slow" } else { "refuse" });
        let (batch, _interrupts) = batch(dir.path(), lines(prompts), &caller);
        let run = tokio::spawn(batch.run());
        // All that may be taken has ended, but for the slow one.
        while caller.asked().get("refuse").is_none_or(|&asked| u64::from(asked) < REFUSED_ALIKE)
            || caller.in_flight.load(Ordering::SeqCst) > 1
            || caller.waiting.load(Ordering::SeqCst) > 0
        {
            tokio::task::yield_now().await;
        }
        caller.slow.send_replace(true);
        let ended = run.await.unwrap();
        assert!(ended.stop.is_none(), "{ended:?}");
        assert_eq!(ended.tally, Tally { answered: 1, failed: 299, ..Tally::default() });
    }

    #[tokio::test]
    async fn a_batch_goes_on_whatever_is_refused_if_it_was_told_to_or_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let (mut told, _interrupts) = batch(dir.path(), lines(["refuse"; 300]), &Fake::new(3));
        told.may_give_up = false;
        let ended = told.run().await;
        assert!(ended.stop.is_none() && ended.tally.failed == 300, "{ended:?}");

        let (short, _interrupts) = batch(dir.path(), lines(["refuse"; REFUSED_ALIKE as usize]), &Fake::new(3));
        let ended = short.run().await;
        assert!(ended.stop.is_none() && ended.tally.failed == REFUSED_ALIKE, "{ended:?}");
    }

    #[test]
    fn a_provider_out_of_reach_for_a_minute_is_lost_but_not_one_that_answers_in_between() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let gauges = |attempts, cut_off, in_flight| Gauges { attempts, cut_off, in_flight, ..Gauges::default() };
        let mut reach = Reach::default();
        // Long silence is no loss; nor are failures beside answers.
        assert!(!reach.lost(&gauges(4, 0, 4), at(0)));
        assert!(!reach.lost(&gauges(4, 0, 4), at(500)));
        assert!(!reach.lost(&gauges(8, 2, 4), at(501)));
        // From here nothing is heard.
        let why = |reach: &Reach, by| {
            let mut gauges = Gauges { held: Some(Held { by, seconds: 1.0 }), ..Gauges::default() };
            reach.explain(&mut gauges);
            gauges.held.unwrap().by
        };
        assert_eq!(why(&reach, "breaker"), "breaker");
        assert!(!reach.lost(&gauges(8, 6, 0), at(510)));
        assert_eq!(["breaker", "pause"].map(|by| why(&reach, by)), ["network", "pause"]);
        assert!(!reach.lost(&gauges(9, 7, 0), at(569)));
        assert!(!reach.lost(&gauges(10, 7, 1), at(570)));
        assert!(reach.lost(&gauges(10, 8, 0), at(571)));
        // One answer, and the minute begins anew.
        assert!(!reach.lost(&gauges(11, 8, 0), at(572)));
        assert!(!reach.lost(&gauges(12, 9, 0), at(600)));
        assert!(!reach.lost(&gauges(13, 10, 0), at(659)));
        assert!(reach.lost(&gauges(13, 10, 0), at(660)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_lost_for_a_minute_stops_the_batch_though_no_call_has_spent_its_attempts() {
        let dir = tempfile::tempdir().unwrap();
        let caller = Fake::new(4);
        caller.unreachable.store(true, Ordering::SeqCst);
        // Holds every slot, so that calls wait as behind an open breaker.
        let _all = caller.slots.acquire_many(4).await.unwrap();
        let (batch, _interrupts) = batch(dir.path(), lines(["a", "b"]), &caller);
        let ended = batch.run().await;
        assert!(matches!(&ended.stop, Some(Stop::Provider(message)) if message.contains("60 seconds")), "{ended:?}");
        assert_eq!(ended.tally, Tally::default());
    }

    /// How a batch of fifty ends whose last request is in flight while `trouble` befalls its folder.
    #[cfg(unix)]
    async fn run_with_trouble(dir: &Path, trouble: impl FnOnce()) -> Ended {
        let caller = Fake::new(4);
        let prompts = (0..50).map(|n| if n == 0 { "slow".to_owned() } else { n.to_string() });
        caller.slow.send_replace(false);
        let (batch, _interrupts) = batch(dir, lines(prompts), &caller);
        let run = tokio::spawn(batch.run());
        while fs::read(dir.join("out")).unwrap().iter().filter(|&&byte| byte == b'\n').count() < 49 {
            tokio::task::yield_now().await;
        }
        trouble();
        caller.slow.send_replace(true);
        run.await.unwrap()
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn an_output_that_is_deleted_meanwhile_is_written_once_more_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let ended = run_with_trouble(dir.path(), || fs::remove_file(dir.path().join("out")).unwrap()).await;
        assert!(matches!(ended.stop, Some(Stop::Displaced)), "{ended:?}");
        assert_eq!((ended.tally.answered, ended.lost_answers), (50, 0));
        assert_eq!(ids(dir.path(), "out"), (0..50).collect::<Vec<_>>());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn an_output_that_is_emptied_meanwhile_is_said_and_goes_on_from_there() {
        let dir = tempfile::tempdir().unwrap();
        let ended = run_with_trouble(dir.path(), || fs::write(dir.path().join("out"), "").unwrap()).await;
        assert!(matches!(ended.stop, Some(Stop::Changed("the output"))), "{ended:?}");
        // The answer stands behind an empty line.
        assert_eq!(fs::read_to_string(dir.path().join("out")).unwrap().trim().lines().count(), 1);
        let (again, _interrupts) = batch(dir.path(), lines((0..50).map(|n| n.to_string())), &Fake::new(4));
        assert_eq!(again.run().await.tally, Tally { answered: 49, answered_before: 1, ..Tally::default() });
    }

    #[tokio::test]
    async fn an_input_that_is_cut_off_while_it_is_read_is_not_taken_for_done() {
        for (total, stops) in [(3, false), (2, false), (4, true)] {
            let dir = tempfile::tempdir().unwrap();
            let (mut batch, _interrupts) = batch(dir.path(), lines(["good", "good", "good"]), &Fake::new(4));
            batch.total = Some(total);
            let ended = batch.run().await;
            assert_eq!(matches!(ended.stop, Some(Stop::CutOff { read: 3, total: 4 })), stops, "{ended:?}");
            assert_eq!(ended.tally.answered, 3);
        }
    }

    #[tokio::test]
    async fn a_request_that_panics_does_not_pass_for_done() {
        let dir = tempfile::tempdir().unwrap();
        let (batch, _interrupts) = batch(dir.path(), lines(["panic"]), &Fake::new(1));
        assert!(matches!(batch.run().await.stop, Some(Stop::Bug(_))));
    }

    /// A disk with room for so many bytes.
    struct Disk {
        kept: Arc<Mutex<Vec<u8>>>,
        room: usize,
    }

    impl Storage for Disk {
        fn end(&mut self) -> io::Result<u64> {
            Ok(self.kept.lock().unwrap().len() as u64)
        }

        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
            let mut kept = self.kept.lock().unwrap();
            assert_eq!(offset, kept.len() as u64);
            let n = bytes.len().min(self.room - kept.len());
            kept.extend_from_slice(&bytes[..n]);
            if n == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(n) }
        }

        fn truncate(&mut self, len: u64) -> io::Result<()> {
            self.kept.lock().unwrap().truncate(len as usize);
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    async fn run_on_small_disk(room: usize) -> (Ended, Vec<u8>) {
        let caller = Fake::new(2);
        let items = source::start(Cursor::new(lines((0..40).map(|n| n.to_string()))), Ids::default(), options());
        let kept = Arc::new(Mutex::new(Vec::new()));
        let answers = Appender::new(Disk { kept: kept.clone(), room }, 0);
        let errors = Appender::new(Disk { kept: Arc::default(), room: 1000 }, 0);
        let (_sender, interrupts) = unbounded_channel();
        let progress = Progress::new(true);
        let (place, total) = (None, None);
        let batch = Batch { caller, items, answers, place, errors, interrupts, progress, total, may_give_up: true };
        let ended = batch.run().await;
        let bytes = kept.lock().unwrap().clone();
        (ended, bytes)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_disk_that_fills_up_stops_the_batch_with_whole_lines(room in 0usize..7_000) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let (ended, bytes) = runtime.block_on(run_on_small_disk(room));
            let lines = bytes.split_inclusive(|&b| b == b'\n');
            let whole = lines.map(|line| record::answered_id(line).unwrap()).collect::<Vec<_>>().len();
            prop_assert_eq!(whole as u64, ended.tally.answered);
            match ended.stop {
                None => prop_assert_eq!((whole, ended.lost_answers), (40, 0)),
                Some(Stop::Unwritable { .. }) => prop_assert!(ended.lost_answers > 0 && whole < 40),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
