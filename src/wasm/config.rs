//! A client's configuration from JSON. The driver has checked types and names by then, in the words its users know; what
//! is still amiss is said by the core's own checks.

use std::time::Duration;

use serde_json::Value;

use crate::core::queue::Class;
use crate::core::quota::QuotaSpec;
use crate::core::route::{ModelSpec, RouteSpec, Strategy};
use crate::core::scheduler::{Config, WorkloadSpec};

/// Reads a configuration. Fields that are absent or of another type keep their defaults. Walking the tree by hand costs
/// a tenth of the code that deriving would.
pub(super) fn read(json: &str) -> Result<Config, String> {
    let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let mut config = Config::new(list(&value, "routes").iter().map(route).collect());
    config.strategy = match text(&value, "strategy") {
        Some("weighted") => Strategy::Weighted,
        Some("round-robin") => Strategy::RoundRobin,
        _ => Strategy::Ordered,
    };
    config.workloads = list(&value, "workloads").iter().map(workload).collect();
    keep(&mut config.max_queued, whole(&value, "max_queued").map(|most| most as usize));
    keep(&mut config.stop_probe, span(&value, "stop_probe"));
    config.deadline = span(&value, "deadline");
    let retry = &mut config.retry;
    keep(&mut retry.max_attempts, count(&value, "max_attempts"));
    keep(&mut retry.base, span(&value, "retry_base"));
    keep(&mut retry.cap, span(&value, "retry_cap"));
    keep(&mut retry.max_elapsed, span(&value, "max_elapsed"));
    keep(&mut config.breaker.failures, count(&value, "breaker_failures"));
    let clocks = &mut config.clocks;
    for (clock, field) in
        [(&mut clocks.headers, "headers"), (&mut clocks.first_content, "first_content"), (&mut clocks.idle, "idle")]
    {
        if let Some(millis) = value.get(field) {
            // `false` turns a clock off.
            *clock = millis.as_f64().map(millis_to_span);
        }
    }
    Ok(config)
}

fn route(value: &Value) -> RouteSpec {
    let name = text(value, "name").unwrap_or_default();
    let mut route = RouteSpec::new(name, text(value, "account").unwrap_or(name));
    keep(&mut route.weight, value.get("weight").and_then(Value::as_f64));
    keep(&mut route.any_model, value.get("any_model").and_then(Value::as_bool));
    keep(&mut route.per_user, value.get("per_user").and_then(Value::as_bool));
    route.max_concurrency = count(value, "max_concurrency");
    route.quota = QuotaSpec {
        requests_per_minute: whole(value, "requests_per_minute"),
        tokens_per_minute: whole(value, "tokens_per_minute"),
        requests_per_day: whole(value, "requests_per_day"),
    };
    route.models = list(value, "models").iter().map(model).collect();
    if route.models.is_empty() && value.get("deepseek") == Some(&Value::Bool(true)) {
        route = route.with_deepseek_models();
    }
    route
}

fn model(value: &Value) -> ModelSpec {
    ModelSpec {
        name: text(value, "name").unwrap_or_default().into(),
        upstream: text(value, "upstream").map(Into::into),
        lane: text(value, "lane").map(Into::into),
        hint: count(value, "hint"),
    }
}

fn workload(value: &Value) -> WorkloadSpec {
    let class = match text(value, "class") {
        Some("interactive") => Class::Interactive,
        Some("background") => Class::Background,
        _ => Class::Normal,
    };
    let mut workload = WorkloadSpec::new(text(value, "name").unwrap_or_default(), class);
    keep(&mut workload.weight, value.get("weight").and_then(Value::as_f64));
    workload.max_concurrency = count(value, "max_concurrency");
    workload
}

fn keep<T>(field: &mut T, found: Option<T>) {
    if let Some(found) = found {
        *field = found;
    }
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field)?.as_str()
}

fn whole(value: &Value, field: &str) -> Option<u64> {
    value.get(field)?.as_u64()
}

fn count(value: &Value, field: &str) -> Option<u32> {
    whole(value, field).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

fn span(value: &Value, field: &str) -> Option<Duration> {
    value.get(field)?.as_f64().map(millis_to_span)
}

fn millis_to_span(millis: f64) -> Duration {
    // The cast saturates.
    Duration::from_micros((millis * 1e3) as u64)
}
