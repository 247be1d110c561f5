//! How a gate is configured.

use std::time::Duration;

use crate::core::backoff::RetryPolicy;
use crate::core::breaker::BreakerPolicy;
use crate::core::call::Clocks;
use crate::core::queue::Class;
use crate::core::route::{RouteSpec, Strategy};

/// A named stream of work.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadSpec {
    /// Its name in calls and metrics.
    pub name: String,
    /// Its priority class.
    pub class: Class,
    /// Its share within the class, relative to the others'. Default 1; between 0.001 and 1,000.
    pub weight: f64,
    /// A cap of its own on requests in flight. Default none.
    pub max_concurrency: Option<u32>,
}

impl WorkloadSpec {
    /// A workload of weight 1 without a cap of its own.
    pub fn new(name: impl Into<String>, class: Class) -> Self {
        Self { name: name.into(), class, weight: 1.0, max_concurrency: None }
    }
}

/// How a gate works. [`Config::new`] with a route is good as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The ways to reach models, at least one, at most 64.
    pub routes: Vec<RouteSpec>,
    /// How calls choose among them.
    pub strategy: Strategy,
    /// Workloads known beforehand. `interactive`, `normal` and `background` always exist, in the classes of their names;
    /// any other name comes into being when first used, in class normal.
    pub workloads: Vec<WorkloadSpec>,
    /// How many calls may wait per set of lanes. Default 10,000.
    pub max_queued: usize,
    /// How failed attempts are retried.
    pub retry: RetryPolicy,
    /// When a lane's breaker opens.
    pub breaker: BreakerPolicy,
    /// The clocks of calls that bring none of their own.
    pub clocks: Clocks,
    /// The total time a call may take, queueing included, where it brings no deadline of its own. Default none: a batch
    /// waits as long as it takes.
    pub deadline: Option<Duration>,
    /// How long an account without money, or a route whose key is refused, stays closed before one call probes it.
    /// Default 5 min.
    pub stop_probe: Duration,
}

impl Config {
    /// The defaults over `routes`.
    pub fn new(routes: Vec<RouteSpec>) -> Self {
        Self {
            routes,
            strategy: Strategy::default(),
            workloads: Vec::new(),
            max_queued: 10_000,
            retry: RetryPolicy::default(),
            breaker: BreakerPolicy::default(),
            clocks: Clocks::default(),
            deadline: None,
            stop_probe: Duration::from_secs(300),
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let fail = |message: String| Err(ConfigError(message));
        match self.routes.len() {
            0 => return fail("Expected `routes` to hold at least one route, got none".into()),
            1..=64 => {}
            more => return fail(format!("Expected `routes` to hold at most 64 routes, got {more}")),
        }
        for (at, route) in self.routes.iter().enumerate() {
            route.validate().map_err(ConfigError)?;
            if self.routes[..at].iter().any(|other| other.name == route.name) {
                return fail(format!("Expected route names to be unique, got `{}` twice", route.name));
            }
        }
        for (at, workload) in self.workloads.iter().enumerate() {
            let name = &workload.name;
            if name.is_empty() {
                return fail("Expected a workload's `name` to be a non-empty string, got \"\"".into());
            }
            if !(0.001..=1000.0).contains(&workload.weight) {
                return fail(format!(
                    "Expected `weight` of workload `{name}` to be between 0.001 and 1,000, got {}",
                    workload.weight
                ));
            }
            if workload.max_concurrency == Some(0) {
                return fail(format!("Expected `max_concurrency` of workload `{name}` to be at least 1, got 0"));
            }
            if self.workloads[..at].iter().any(|other| other.name == *name) {
                return fail(format!("Expected workload names to be unique, got `{name}` twice"));
            }
        }
        if self.max_queued == 0 {
            return fail("Expected `max_queued` to be at least 1, got 0".into());
        }
        if self.retry.max_attempts == 0 {
            return fail("Expected `max_attempts` to be at least 1, got 0".into());
        }
        if !(self.retry.budget_ratio.is_finite() && self.retry.budget_ratio >= 0.0) {
            return fail(format!(
                "Expected `budget_ratio` to be finite and not negative, got {}",
                self.retry.budget_ratio
            ));
        }
        Ok(())
    }
}

/// A configuration that makes no sense; the message says what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(super) String);
