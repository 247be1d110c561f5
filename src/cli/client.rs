//! The batch's caller: the crate's client.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Deserialize as _;
use tidegate::client::{Client, Error, ErrorKind};
use tidegate::core::cost::{Currency, PriceTable};
use tidegate::core::metrics::LaneSnapshot;
use tidegate::core::queue::Class;
use tidegate::core::scheduler::WorkloadSpec;
use tidegate::types::{JsonObject, Usage};

use crate::args::BatchArgs;
use crate::caller::{Call, CallError, Caller, Failure, Fault, Gauges, Held, Reply};
use crate::connection::Connection;

/// Calls wait for room behind the batch's own read-ahead, so the client's queue need not be the bound.
const MAX_QUEUED: usize = 100_000;

/// What the answers cost so far.
#[derive(Clone, Copy)]
enum Spent {
    /// US dollars.
    Dollars(f64),
    /// Some model has no known price, so no sum is told.
    Unknown,
}

/// The crate's client, with what a batch counts besides.
pub(crate) struct ClientCaller {
    client: Client,
    workload: String,
    prices: PriceTable,
    spent: Mutex<Spent>,
}

/// A client with the limits and the workload that the arguments name.
pub(crate) fn connect(connection: &Connection, args: &BatchArgs) -> Result<ClientCaller, Error> {
    let mut builder = Client::builder()
        .base_url(connection.base_url.as_str())
        .workload(WorkloadSpec::new(&args.workload, Class::Normal))
        .max_queued(MAX_QUEUED)
        .max_attempts(args.max_attempts.get());
    if let Some(key) = &connection.key {
        builder = builder.api_key(key.expose());
    }
    if let Some(limit) = args.max_concurrency {
        builder = builder.max_concurrency(limit.get());
    }
    Ok(ClientCaller {
        client: builder.build()?,
        workload: args.workload.clone(),
        // Other providers of the same models have prices of their own.
        prices: match connection.deepseek {
            true => PriceTable::deepseek(Currency::Usd),
            false => PriceTable::empty(Currency::Usd),
        },
        spent: Mutex::new(match connection.deepseek {
            true => Spent::Dollars(0.0),
            false => Spent::Unknown,
        }),
    })
}

impl ClientCaller {
    /// Adds what an answer cost, by the prices of the model that gave it.
    fn count_cost(&self, answer: &JsonObject) {
        let tokens = answer.get("usage").and_then(|usage| Usage::deserialize(usage).ok()).map(|usage| usage.count());
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let model = answer.get("model").and_then(|model| model.as_str()).unwrap_or_default();
        let cost = tokens.and_then(|tokens| self.prices.cost(model, tokens, unix));
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        *spent = match (*spent, cost) {
            (Spent::Dollars(sum), Some(cost)) => Spent::Dollars(sum + cost.units()),
            _ => Spent::Unknown,
        };
    }
}

impl Caller for ClientCaller {
    async fn call(&self, call: Call) -> Result<Reply, CallError> {
        let sent =
            self.client.json(call.endpoint.path(), call.body).workload(&self.workload).wait_for_room().send().await;
        let answer = sent.map_err(failed)?;
        self.count_cost(&answer);
        let request_id = answer.request_id().map(str::to_owned);
        let body = serde_json::to_vec(&*answer).unwrap_or_default();
        Ok(Reply { status: 200, request_id, body: body.into() })
    }

    fn gauges(&self) -> Gauges {
        let metrics = self.client.metrics();
        let counters = metrics.total.counters;
        let whole = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        // The lane that sends again first.
        let first = metrics.lanes.iter().min_by(|a, b| a.paused.total_cmp(&b.paused));
        let held = first.and_then(|lane| Some(Held { by: lane.held_by?, seconds: lane.paused }));
        let least = |rate: fn(&LaneSnapshot) -> Option<f64>| metrics.lanes.iter().filter_map(rate).reduce(f64::min);
        Gauges {
            // Each model has a limit of its own, and what is in flight is counted over all of them.
            limit: metrics.lanes.iter().map(|lane| lane.limit).reduce(u32::saturating_add),
            in_flight: whole(metrics.in_flight),
            queued: whole(metrics.queued + metrics.backing_off),
            held: held.filter(|held| held.seconds > 0.0),
            requests_per_minute: least(|lane| lane.requests_per_minute),
            tokens_per_minute: least(|lane| lane.tokens_per_minute),
            attempts: counters.attempts,
            rejected: counters.slot_rejections + counters.rate_rejections,
            cut_off: counters.transport_errors,
            retries: counters.retries,
            prompt_tokens: counters.prompt_tokens,
            completion_tokens: counters.completion_tokens,
            cost_usd: match *self.spent.lock().unwrap_or_else(PoisonError::into_inner) {
                Spent::Dollars(sum) => Some(sum),
                Spent::Unknown => None,
            },
        }
    }

    fn close(&self) {
        let client = self.client.clone();
        // What is in flight may take as long as it does; a second Ctrl-C gives it up.
        tokio::spawn(async move { client.close(Duration::MAX).await });
    }
}

fn failed(error: Error) -> CallError {
    if error.kind() == ErrorKind::Closed {
        return CallError::Closed;
    }
    CallError::Failed(Failure {
        fault: fault(error.kind(), error.attempts_made()),
        code: error.kind().name().to_owned(),
        message: for_the_command_line(&error.to_string()).to_owned(),
        words: common_words(error.message().unwrap_or_default(), error.request_id()),
        status: error.status(),
        request_id: error.request_id().map(str::to_owned),
        body: error.response().map(|response| Bytes::clone(&response.body)),
    })
}

fn fault(kind: ErrorKind, attempts_made: u32) -> Fault {
    match kind {
        ErrorKind::Authentication | ErrorKind::InsufficientBalance => Fault::Account,
        // One 403 may be of the request; after some in a row the client refuses the others by itself.
        ErrorKind::Forbidden if attempts_made == 0 => Fault::Account,
        ErrorKind::Connection => Fault::Network,
        // What answers nonsense to all is not the API: a site's front page, say.
        ErrorKind::Refused | ErrorKind::Malformed => Fault::Refusal,
        _ => Fault::Request,
    }
}

/// What a server may say of other requests, too: without this one's id, and without where in its body the mistake stands
/// (as in "missing field `role` at line 1 column 59").
fn common_words(message: &str, request_id: Option<&str>) -> String {
    let words = match message.rsplit_once(" at line ") {
        Some((words, place)) if place.chars().all(|c| c.is_ascii_digit() || " column.".contains(c)) => words,
        _ => message,
    };
    match request_id {
        Some(id) if !id.is_empty() => words.replace(id, "…"),
        _ => words.to_owned(),
    }
}

/// Without the advice that only a program which goes on running can follow.
fn for_the_command_line(message: &str) -> &str {
    message.strip_suffix(", then call resume()").unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Key;
    use clap::Parser;

    #[test]
    fn advice_for_programs_is_left_out() {
        let told = for_the_command_line("no money (status 402): Oh; top up the account, then call resume()");
        assert_eq!(told, "no money (status 402): Oh; top up the account");
        assert_eq!(for_the_command_line("try again later"), "try again later");
    }

    #[test]
    fn what_would_befall_every_request_is_told_from_what_befell_one() {
        use ErrorKind as K;
        for (kind, attempts_made, expected) in [
            (K::Refused, 1, Fault::Refusal),
            (K::Malformed, 5, Fault::Refusal),
            (K::Forbidden, 1, Fault::Request),
            (K::Forbidden, 0, Fault::Account),
            (K::Authentication, 1, Fault::Account),
            (K::InsufficientBalance, 0, Fault::Account),
            (K::Connection, 5, Fault::Network),
            (K::Server, 5, Fault::Request),
        ] {
            assert_eq!(fault(kind, attempts_made), expected, "{kind:?}");
        }
    }

    #[test]
    fn what_is_one_requests_alone_is_no_part_of_the_common_words() {
        for (message, words) in [
            ("Model Not Exist", "Model Not Exist"),
            ("missing field `role` at line 1 column 59", "missing field `role`"),
            ("missing field `role` at line 1 column 1234.", "missing field `role`"),
            ("Wait at line 3 of the queue", "Wait at line 3 of the queue"),
            ("no such model (request id: r-17)", "no such model (request id: …)"),
            ("you asked for 70123 tokens", "you asked for 70123 tokens"),
        ] {
            assert_eq!(common_words(message, Some("r-17")), words);
        }
        assert_eq!(common_words("oh", Some("")), "oh");
        assert_eq!(common_words("r-17", None), "r-17");
    }

    #[tokio::test]
    async fn only_deepseeks_prices_are_known_before_anything_was_answered() {
        let line = ["tidegate", "batch", "in", "-o", "out"];
        let crate::args::Command::Batch(args) = crate::args::Cli::parse_from(line).command else { panic!() };
        for (deepseek, cost) in [(true, Some(0.0)), (false, None)] {
            let base_url = "http://127.0.0.1:9".parse().unwrap();
            let key_name = "DEEPSEEK_API_KEY".to_owned();
            let connection = Connection { base_url, key: Some(Key::simulated()), key_name, deepseek };
            let caller = connect(&connection, &args).unwrap();
            assert_eq!(caller.gauges().cost_usd, cost);
        }
    }
}
