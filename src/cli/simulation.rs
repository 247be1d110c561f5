//! A simulated provider for `--simulate`, and what it saw in the end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate::sim::oracle::{self, FixedClient, Jobs};
use tidegate::sim::server::{Server, StartError};
use tidegate::sim::{Scenario, ScenarioError};
use url::Url;

use crate::batch::{Fixed, Moment, Simulation};
use crate::connection::{self, Connection, Key};

/// The scenario of `--simulate` without `--scenario`: the cap moves five times a minute, and the service storms.
const PRESET: &str = "storm";
/// Every run is the same.
const SEED: u64 = 1;
/// What a client is taken to need from one answer to the next request, on one machine.
const ROUND_TRIP: Duration = Duration::from_millis(1);
/// Longer batches are not played again with other clients.
const MOST_COMPARED: u64 = 20_000;

/// Why there is no simulation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SimulationError {
    #[error(
        "--scenario {path}: {error}; expected a file, JSON such as {{\"cap\": 32}}, or one of {names}",
        path = .path.display(), names = Scenario::preset_names().join(", ")
    )]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{path}: {error}", path = .path.display())]
    Scenario { path: PathBuf, error: ScenarioError },
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A scenario from a file, a built-in one by its name, or one that is written out: no file is named like a JSON object.
pub(crate) fn load(named: Option<&Path>) -> Result<Scenario, SimulationError> {
    let named = named.unwrap_or(Path::new(PRESET));
    let wrong = |error| SimulationError::Scenario { path: named.to_owned(), error };
    if let Some(preset) = named.to_str().filter(|name| Scenario::preset_names().contains(name)) {
        return Scenario::preset(preset).map_err(wrong);
    }
    if let Some(json) = named.to_str().filter(|text| text.trim_start().starts_with('{')) {
        return Scenario::from_json(json)
            .map_err(|error| SimulationError::Scenario { path: "--scenario".into(), error });
    }
    let json = std::fs::read_to_string(named)
        .map_err(|error| SimulationError::Unreadable { path: named.to_owned(), error })?;
    Scenario::from_json(&json).map_err(wrong)
}

/// A provider under way on this machine.
pub(crate) struct Simulated {
    server: Server,
    scenario: Scenario,
}

impl Simulated {
    pub(crate) async fn start(scenario: Option<&Path>) -> Result<Self, SimulationError> {
        let scenario = load(scenario)?;
        let server = Server::start(scenario.clone(), SEED, ([127, 0, 0, 1], 0).into()).await?;
        Ok(Self { server, scenario })
    }

    /// How to reach it.
    pub(crate) fn connection(&self) -> Connection {
        let base_url = Url::parse(&self.server.url()).expect("a socket's address makes a URL");
        let key_name = connection::DEEPSEEK_KEY.to_owned();
        Connection { base_url, key: Some(Key::simulated()), key_name, deepseek: true }
    }

    /// Its time begins now.
    pub(crate) fn begin(&self) {
        self.server.reset();
    }

    /// What it saw, and what other clients would have made of as many requests as were answered (whether or not the
    /// answers could be written), if the batch went to
    /// its end and isn't so long that playing it again takes noticeable time.
    pub(crate) async fn end(self, answered: u64, to_its_end: bool) -> Simulation {
        let tally = self.server.stop(Duration::from_secs(1)).await;
        let busiest = tally.lanes.iter().max_by(|a, b| a.used.total_cmp(&b.used));
        let timeline: Vec<Moment> = busiest.map_or_else(Vec::new, |lane| {
            let during = lane.timeline.iter().filter(|sample| sample.at <= lane.to.ceil());
            during.map(|sample| Moment { at: sample.at, cap: sample.cap, in_flight: sample.in_flight }).collect()
        });
        let jobs = Jobs { round_trip: ROUND_TRIP, ..Jobs::new(usize::try_from(answered).unwrap_or(usize::MAX)) };
        let scenario = self.scenario;
        let caps = timeline.iter().map(|moment| moment.cap).filter(|&cap| cap > 0);
        let mut guesses = vec![3, caps.clone().min().unwrap_or(3), caps.max().unwrap_or(3)];
        guesses.sort_unstable();
        guesses.dedup();
        let compares = to_its_end && (1..=MOST_COMPARED).contains(&answered);
        // Minutes of traffic on the virtual clock take a moment of real time, but not on the thread of the sockets.
        let played = || {
            tokio::task::spawn_blocking(move || {
                let knowing = oracle::knowing(&scenario, SEED, &jobs).ok().map(|report| report.makespan.as_secs_f64());
                let fixed = |&concurrency: &u32| {
                    let client = FixedClient::new(concurrency as usize);
                    let report = oracle::fixed(&scenario, SEED, &jobs, &client).ok()?;
                    Some(Fixed {
                        concurrency: u64::from(concurrency),
                        seconds: report.makespan.as_secs_f64(),
                        lost: report.lost as u64,
                        attempts: report.tally.requests,
                        rejected: report.tally.slot_rejections(),
                    })
                };
                (knowing, guesses.iter().filter_map(fixed).collect::<Vec<_>>())
            })
        };
        let (oracle_seconds, fixed) = if compares { played().await.unwrap_or_default() } else { Default::default() };
        let rejected: u64 = tally.rejected.iter().filter(|(why, _)| !why.is_slot()).map(|(_, count)| count).sum();
        Simulation {
            slot_rejections: tally.slot_rejections(),
            disturbances: rejected + tally.faulted.values().sum::<u64>(),
            answered_twice: tally.completed.saturating_sub(answered),
            utilisation: tally.utilisation(),
            oracle_seconds,
            fixed,
            timeline,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_come_by_name_or_from_a_file() {
        assert!(load(None).is_ok());
        assert!(load(Some(Path::new("sawtooth"))).is_ok());
        let missing = load(Some(Path::new("no/such/file.json"))).unwrap_err().to_string();
        assert!(missing.starts_with("--scenario no/such/file.json: "), "{missing}");
        assert!(missing.contains("storm, sawtooth"), "{missing}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"cap": "many"}"#).unwrap();
        let wrong = load(Some(file.path())).unwrap_err().to_string();
        assert!(wrong.contains("cap"), "{wrong}");
    }
}
