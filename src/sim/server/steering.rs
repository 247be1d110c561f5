//! The control endpoints under `/__sim/`: looking into the provider, and setting what it does.

use std::time::Duration;

use http::{Method, Response, StatusCode};
use serde_json::json;

use super::script::Answer;
use super::{Shared, empty, json_response};
use crate::sim::oracle::{self, Jobs};
use crate::sim::scenario::Scenario;

/// Answers a request to `/__sim/` and `path`.
pub(super) fn steer(method: &Method, path: &str, body: &[u8], shared: &Shared) -> Response<Answer> {
    match (method, path) {
        (&Method::OPTIONS, _) => empty(StatusCode::NO_CONTENT),
        (&Method::GET, "tally") => json_response(StatusCode::OK, &shared.with(|provider, now| provider.tally(now))),
        (&Method::GET, "completions") => {
            shared.with(|provider, _| json_response(StatusCode::OK, &provider.completions()))
        }
        (&Method::GET, "scenario") => shared.with(|provider, _| json_response(StatusCode::OK, provider.scenario())),
        (&Method::POST, "scenario") => {
            let scenario = std::str::from_utf8(body)
                .map_err(|error| error.to_string())
                .and_then(|json| Scenario::from_json(json).map_err(|error| error.to_string()))
                .and_then(|scenario| shared.restart(Some(scenario)).map_err(|error| error.to_string()));
            match scenario {
                Ok(()) => empty(StatusCode::NO_CONTENT),
                Err(message) => json_response(StatusCode::BAD_REQUEST, &json!({"error": {"message": message}})),
            }
        }
        (&Method::POST, "reset") => match shared.restart(None) {
            Ok(()) => empty(StatusCode::NO_CONTENT),
            Err(error) => {
                json_response(StatusCode::INTERNAL_SERVER_ERROR, &json!({"error": {"message": error.to_string()}}))
            }
        },
        (&Method::POST, "oracle") => {
            let answer = serde_json::from_slice::<Task>(body).map_err(|error| error.to_string()).and_then(|task| {
                let (scenario, seed) = shared.followed();
                task.by_the_oracle(&scenario, seed)
            });
            match answer {
                Ok(answer) => json_response(StatusCode::OK, &answer),
                Err(message) => json_response(StatusCode::BAD_REQUEST, &json!({"error": {"message": message}})),
            }
        }
        (_, "tally" | "completions" | "scenario" | "reset" | "oracle") => empty(StatusCode::METHOD_NOT_ALLOWED),
        _ => empty(StatusCode::NOT_FOUND),
    }
}

/// Work to be done by one that knows all.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    jobs: usize,
    #[serde(default)]
    round_trip: f64,
}

impl Task {
    /// More would keep the server from its other work for longer than a moment.
    const MOST: usize = 20_000;

    fn by_the_oracle(&self, scenario: &Scenario, seed: u64) -> Result<serde_json::Value, String> {
        if self.jobs > Self::MOST {
            return Err(format!("Expected `jobs` to be at most {}, got {}", Self::MOST, self.jobs));
        }
        let round_trip = Duration::try_from_secs_f64(self.round_trip)
            .map_err(|_| format!("Expected `round_trip` to be seconds of 0 or more, got {}", self.round_trip))?;
        let jobs = Jobs { round_trip, ..Jobs::new(self.jobs) };
        let report = oracle::knowing(scenario, seed, &jobs).map_err(|error| error.to_string())?;
        Ok(json!({"completed": report.completed, "makespan": report.makespan.as_secs_f64()}))
    }
}
