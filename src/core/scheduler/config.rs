//! How a gate is configured.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

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
    /// How many calls may wait for the same lanes: to one model, or to several that share a limit, and where accounts limit
    /// each user, of one user. At least 1. Default 10,000.
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
        match self.routes.len() {
            0 => return Err(ConfigError::NoRoute),
            1..=64 => {}
            more => return Err(ConfigError::TooManyRoutes(more)),
        }
        for (at, route) in self.routes.iter().enumerate() {
            route.validate()?;
            if self.routes[..at].iter().any(|other| other.name == route.name) {
                return Err(ConfigError::Twice { kind: "route", name: route.name.clone() });
            }
        }
        for (at, workload) in self.workloads.iter().enumerate() {
            let name = &workload.name;
            let refuse = |field, expected, found| {
                Err(ConfigError::Field { field, kind: "workload", name: name.clone(), expected, found })
            };
            if name.is_empty() {
                return Err(ConfigError::Unnamed { kind: "workload" });
            }
            if !(0.001..=1000.0).contains(&workload.weight) {
                return refuse("weight", "between 0.001 and 1,000", workload.weight);
            }
            if workload.max_concurrency == Some(0) {
                return refuse("max_concurrency", "at least 1", 0.0);
            }
            if self.workloads[..at].iter().any(|other| other.name == *name) {
                return Err(ConfigError::Twice { kind: "workload", name: name.clone() });
            }
        }
        let refuse = |field, expected, found| Err(ConfigError::Setting { field, expected, found });
        if self.max_queued == 0 {
            return refuse("max_queued", "at least 1", 0.0);
        }
        if self.retry.max_attempts == 0 {
            return refuse("max_attempts", "at least 1", 0.0);
        }
        let ratio = self.retry.budget_ratio;
        if !(ratio.is_finite() && ratio >= 0.0) {
            return refuse("budget_ratio", "finite and not negative", ratio);
        }
        Ok(())
    }
}

/// A configuration that makes no sense: what was expected, and what was found.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no route.
    #[error("Expected `routes` to hold at least one route, got none")]
    NoRoute,
    /// There are more routes than can be told apart.
    #[error("Expected `routes` to hold at most 64 routes, got {0}")]
    TooManyRoutes(usize),
    /// A route serves no model.
    #[error("Expected route `{0}` to serve some model, got an empty `models` without `any_model`")]
    NoModel(String),
    /// A route or a workload has no name.
    #[error("Expected a {kind}'s `name` to be a non-empty string, got \"\"")]
    Unnamed {
        /// `route` or `workload`.
        kind: &'static str,
    },
    /// Two have the same name.
    #[error("Expected {kind} names to be unique, got `{name}` twice")]
    Twice {
        /// `route` or `workload`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A number of a route or a workload is out of range.
    #[error("Expected `{field}` of {kind} `{name}` to be {expected}, got {found}")]
    Field {
        /// Which number.
        field: &'static str,
        /// `route` or `workload`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The range.
        expected: &'static str,
        /// The number.
        found: f64,
    },
    /// A number is out of range.
    #[error("Expected `{field}` to be {expected}, got {found}")]
    Setting {
        /// Which number.
        field: &'static str,
        /// The range.
        expected: &'static str,
        /// The number.
        found: f64,
    },
}
