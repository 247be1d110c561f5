//! What happened, counted: by route, model and workload, as a snapshot and as Prometheus text.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
#[cfg(feature = "std")]
use core::fmt::Write as _;
use core::time::Duration;

use serde::Serialize;

#[cfg(not(feature = "std"))]
use num_traits::Float as _;

use super::outcome::OutcomeKind;
use super::route::{LaneKey, RouteId};
use super::time::micros;
use super::tokens::TokenCount;

/// Durations in buckets, eight to an octave: any percentile within an eighth, in at most a few kilobytes.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum_micros: u64,
    max_micros: u64,
}

impl Histogram {
    const SUB_BITS: u32 = 3;

    fn bucket(micros: u64) -> usize {
        if micros < 1 << Self::SUB_BITS {
            return micros as usize;
        }
        let octave = micros.ilog2() - Self::SUB_BITS;
        let sub = (micros >> octave) as usize & ((1 << Self::SUB_BITS) - 1);
        ((octave as usize + 1) << Self::SUB_BITS) + sub
    }

    /// The largest value a bucket holds.
    fn upper(bucket: usize) -> u64 {
        let (octave, sub) = (bucket >> Self::SUB_BITS, bucket & ((1 << Self::SUB_BITS) - 1));
        if octave == 0 {
            return sub as u64;
        }
        let base = ((1u64 << Self::SUB_BITS) + sub as u64) << (octave - 1);
        base + ((1u64 << (octave - 1)) - 1)
    }

    /// Counts `duration`.
    pub fn record(&mut self, duration: Duration) {
        self.record_micros(micros(duration));
    }

    /// The same in microseconds.
    pub(crate) fn record_micros(&mut self, micros: u64) {
        let bucket = Self::bucket(micros);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.sum_micros = self.sum_micros.saturating_add(micros);
        self.max_micros = self.max_micros.max(micros);
    }

    /// Counts all that another has counted.
    fn merge(&mut self, other: &Self) {
        if other.buckets.len() > self.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += more;
        }
        self.count += other.count;
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
        self.max_micros = self.max_micros.max(other.max_micros);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The value that `share` (0 to 1) of all lie at or under; zero when nothing was counted.
    pub fn percentile(&self, share: f64) -> Duration {
        let rank = ((self.count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(Self::upper(bucket).min(self.max_micros));
            }
        }
        Duration::ZERO
    }

    /// Its summary.
    pub fn summary(&self) -> Summary {
        let seconds = |share| self.percentile(share).as_secs_f64();
        Summary {
            count: self.count,
            sum: self.sum_micros as f64 / 1e6,
            p50: seconds(0.5),
            p90: seconds(0.9),
            p99: seconds(0.99),
            max: self.max_micros as f64 / 1e6,
        }
    }
}

/// A histogram in figures; all in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// How many were counted.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The median.
    pub p50: f64,
    /// Nine of ten lie at or under it.
    pub p90: f64,
    /// Ninety-nine of a hundred lie at or under it.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// Everything counted; all since the gate was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Counters {
    /// Calls submitted.
    pub submitted: u64,
    /// Calls that ended with an answer.
    pub completed: u64,
    /// Calls that ended with an error.
    pub failed: u64,
    /// Calls the caller gave up.
    pub cancelled: u64,
    /// Requests sent.
    pub attempts: u64,
    /// Attempts rejected because too many were in flight (429).
    pub slot_rejections: u64,
    /// Attempts rejected because requests or tokens came too fast (429).
    pub rate_rejections: u64,
    /// Attempts that met an overloaded service (503 and its kin).
    pub pressure: u64,
    /// Attempts that met a failing server (500, 408).
    pub server_errors: u64,
    /// Attempts whose connection failed before an answer began.
    pub transport_errors: u64,
    /// Attempts whose first content did not come in time.
    pub first_content_timeouts: u64,
    /// Attempts that broke off after content had come, or whose answer could not be understood.
    pub interrupted: u64,
    /// Attempts the server refused for good (400, 401, 402, 403, 404, 413, 422).
    pub refused: u64,
    /// Attempts after one that failed; those after a rejection for slot or rate are not counted.
    pub retries: u64,
    /// Attempts on another route than the call's last one.
    pub failovers: u64,
    /// Prompt tokens the providers reported.
    pub prompt_tokens: u64,
    /// Of them, those read from the context cache.
    pub cached_tokens: u64,
    /// Completion tokens the providers reported, reasoning among them.
    pub completion_tokens: u64,
    /// Of them, reasoning.
    pub reasoning_tokens: u64,
}

impl Counters {
    /// (name, help) of every counter in Prometheus' format.
    pub const NAMES: [(&'static str, &'static str); 19] = [
        ("calls_submitted", "Calls submitted."),
        ("calls_completed", "Calls that ended with an answer."),
        ("calls_failed", "Calls that ended with an error."),
        ("calls_cancelled", "Calls the caller gave up."),
        ("attempts", "Requests sent."),
        ("slot_rejections", "Attempts rejected because too many were in flight."),
        ("rate_rejections", "Attempts rejected because they came too fast."),
        ("pressure", "Attempts that met an overloaded service."),
        ("server_errors", "Attempts that met a failing server."),
        ("transport_errors", "Attempts whose connection failed before an answer."),
        ("first_content_timeouts", "Attempts without content in time."),
        ("interrupted", "Attempts that broke off after content had come."),
        ("refused", "Attempts refused for good."),
        ("retries", "Attempts after a failed one."),
        ("failovers", "Attempts on another route than the last one."),
        ("prompt_tokens", "Prompt tokens reported."),
        ("cached_tokens", "Prompt tokens read from the context cache."),
        ("completion_tokens", "Completion tokens reported."),
        ("reasoning_tokens", "Reasoning tokens reported."),
    ];

    /// The values, in the order of [`Counters::NAMES`].
    pub fn values(mut self) -> [u64; 19] {
        self.places().map(|value| *value)
    }

    fn merge(&mut self, other: &Self) {
        for (sum, more) in self.places().into_iter().zip(other.values()) {
            *sum = sum.saturating_add(more);
        }
    }

    fn places(&mut self) -> [&mut u64; 19] {
        [
            &mut self.submitted,
            &mut self.completed,
            &mut self.failed,
            &mut self.cancelled,
            &mut self.attempts,
            &mut self.slot_rejections,
            &mut self.rate_rejections,
            &mut self.pressure,
            &mut self.server_errors,
            &mut self.transport_errors,
            &mut self.first_content_timeouts,
            &mut self.interrupted,
            &mut self.refused,
            &mut self.retries,
            &mut self.failovers,
            &mut self.prompt_tokens,
            &mut self.cached_tokens,
            &mut self.completion_tokens,
            &mut self.reasoning_tokens,
        ]
    }
}

/// (name, help) of what is told of the whole and of the lanes at one moment.
pub const GAUGES: [(&str, &str); 10] = [
    ("queued", "Calls waiting for a permit."),
    ("backing_off", "Calls waiting for their backoff to end."),
    ("limit", "The learned limit of requests in flight."),
    ("in_flight", "Requests in flight."),
    ("breaker_closed", "Whether the breaker is closed."),
    ("paused_seconds", "Until the lane sends again."),
    ("requests_per_minute", "Learned limit on requests a minute."),
    ("tokens_per_minute", "Learned limit on tokens a minute."),
    ("release_lag_seconds", "Until an answered request stops counting."),
    ("held", "What keeps more from being sent."),
];

/// (name, help) of every distribution.
pub const DISTRIBUTIONS: [(&str, &str); 3] = [
    ("queue_wait_seconds", "From submission to the first attempt."),
    ("first_content_seconds", "From an attempt's sending to its first content."),
    ("duration_seconds", "From submission to a successful end."),
];

/// One route's, model's or workload's share of what happened, or all of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    pub(crate) counters: Counters,
    pub(crate) queue_wait: Histogram,
    pub(crate) first_content: Histogram,
    pub(crate) duration: Histogram,
}

impl Scope {
    /// Counts an attempt's end, with what the provider reported.
    pub(crate) fn on_outcome(&mut self, kind: OutcomeKind, tokens: Option<&TokenCount>) {
        let counters = &mut self.counters;
        if let Some(tokens) = tokens {
            // What a provider reports may be any number.
            let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
            add(&mut counters.prompt_tokens, tokens.prompt);
            add(&mut counters.cached_tokens, tokens.cached);
            add(&mut counters.completion_tokens, tokens.completion);
            add(&mut counters.reasoning_tokens, tokens.reasoning);
        }
        *match kind {
            OutcomeKind::Slot => &mut counters.slot_rejections,
            OutcomeKind::Rate => &mut counters.rate_rejections,
            OutcomeKind::Pressure => &mut counters.pressure,
            OutcomeKind::Server => &mut counters.server_errors,
            OutcomeKind::Transport => &mut counters.transport_errors,
            OutcomeKind::FirstContentTimeout => &mut counters.first_content_timeouts,
            OutcomeKind::Interrupted | OutcomeKind::Malformed => &mut counters.interrupted,
            OutcomeKind::Billing | OutcomeKind::Authentication | OutcomeKind::Forbidden | OutcomeKind::Refused => {
                &mut counters.refused
            }
            OutcomeKind::Success | OutcomeKind::Cancelled => return,
        } += 1;
    }

    pub(crate) fn snapshot(&self, name: &str) -> ScopeSnapshot {
        ScopeSnapshot {
            name: name.to_owned(),
            counters: self.counters,
            queue_wait: self.queue_wait.summary(),
            first_content: self.first_content.summary(),
            duration: self.duration.summary(),
        }
    }
}

/// The calls of one workload to one model, as they are counted: by its number, which each of them keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeriesId(u32);

/// All counters of a gate: a series of scopes for all calls of one workload to one model. Counting touches one scope of
/// them; a snapshot, which is rare, sums up those of each route, model and workload, and of the whole.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// What is counted of calls before they are sent, or after their end, is no route's and stands first; then each route's.
    series: Vec<Vec<Scope>>,
    /// (workload, model), in this order, and their series.
    numbers: Vec<((u32, u32), SeriesId)>,
}

impl Metrics {
    /// Where calls of a workload to a model are counted.
    pub(crate) fn series(&mut self, workload: u32, model: u32) -> SeriesId {
        let at = self.numbers.binary_search_by_key(&(workload, model), |&(labels, _)| labels).unwrap_or_else(|at| {
            self.numbers.insert(at, ((workload, model), SeriesId(self.series.len() as u32)));
            self.series.push(Vec::new());
            at
        });
        self.numbers[at].1
    }

    /// Where to count what concerns a call, and perhaps the route it takes.
    pub(crate) fn scope(&mut self, series: SeriesId, route: Option<RouteId>) -> &mut Scope {
        Self::grown(&mut self.series[series.0 as usize], route.map_or(0, |route| route.index() + 1))
    }

    /// The scope at a place, and room up to there.
    fn grown(scopes: &mut Vec<Scope>, at: usize) -> &mut Scope {
        while scopes.len() <= at {
            scopes.push(Scope::default());
        }
        &mut scopes[at]
    }

    /// The sums of the scopes by the place that their route, if they have one, model and workload give them, if they do. In
    /// one go, for there may be thousands of each.
    fn sums(&self, place: &dyn Fn([Option<usize>; 3]) -> Option<usize>) -> Vec<Scope> {
        let mut sums = Vec::new();
        for &((workload, model), series) in &self.numbers {
            for (at, scope) in self.series[series.0 as usize].iter().enumerate() {
                if let Some(place) = place([at.checked_sub(1), Some(model as usize), Some(workload as usize)]) {
                    let sum = Self::grown(&mut sums, place);
                    sum.counters.merge(&scope.counters);
                    sum.queue_wait.merge(&scope.queue_wait);
                    sum.first_content.merge(&scope.first_content);
                    sum.duration.merge(&scope.duration);
                }
            }
        }
        sums
    }

    /// The sum of all.
    pub(crate) fn total(&self) -> Scope {
        self.sums(&|_| Some(0)).pop().unwrap_or_default()
    }

    /// Shows the sums of each route, model and workload, by the place of their list and the names given for it.
    pub(crate) fn each<'a>(
        &self,
        names: [&mut dyn Iterator<Item = &'a str>; 3],
        show: &mut dyn FnMut(usize, &str, &Scope),
    ) {
        for (list, names) in names.into_iter().enumerate() {
            let mut sums = self.sums(&|labels| labels[list]);
            for (at, name) in names.enumerate() {
                show(list, name, Self::grown(&mut sums, at));
            }
        }
    }
}

/// Counters and distributions of the whole, or of one route, model or workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScopeSnapshot {
    /// The route's, model's or workload's name; "total" for the whole.
    pub name: String,
    /// What was counted.
    #[serde(flatten)]
    pub counters: Counters,
    /// From submission to the first attempt's sending.
    pub queue_wait: Summary,
    /// From an attempt's sending to its first content.
    pub first_content: Summary,
    /// From submission to a successful end.
    pub duration: Summary,
}

impl ScopeSnapshot {
    /// In the order of [`DISTRIBUTIONS`].
    pub fn distributions(&self) -> [&Summary; 3] {
        [&self.queue_wait, &self.first_content, &self.duration]
    }
}

/// One lane's state, for whoever shows it.
#[derive(Debug)]
pub(crate) struct LaneState<'a> {
    pub(crate) key: &'a LaneKey,
    pub(crate) limit: u32,
    pub(crate) measured: Option<u32>,
    pub(crate) in_flight: u32,
    pub(crate) state: &'static str,
    pub(crate) breaker: &'static str,
    pub(crate) held_by: Option<&'static str>,
    pub(crate) paused: f64,
    pub(crate) requests_per_minute: Option<f64>,
    pub(crate) tokens_per_minute: Option<f64>,
    pub(crate) release_lag: f64,
}

/// One lane's state.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LaneSnapshot {
    /// The account whose limit it is.
    pub account: String,
    /// The model, by the provider's name.
    pub model: String,
    /// The end user, on accounts that limit each; empty for calls without a `user_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The learned limit: how many requests may be in flight.
    pub limit: u32,
    /// The cap as last measured, if ever.
    pub measured: Option<u32>,
    /// Requests in flight.
    pub in_flight: u32,
    /// What the limit is doing: climbing, holding, retreating, penalised, half-open or paused.
    pub state: &'static str,
    /// Whether the breaker is closed, open or half-open.
    pub breaker: &'static str,
    /// What keeps one more request from being sent, if anything does: `breaker` (the service keeps failing), `pause` (it is
    /// overloaded, or a rejection is waited out), `rate` (a limit on requests or tokens by time, or the wait a server asks
    /// for), or `limit` (as many are in flight as may be).
    pub held_by: Option<&'static str>,
    /// Seconds until the lane sends again at the latest, if it is held by a breaker, a pause or a rate; 0 otherwise.
    pub paused: f64,
    /// The requests a minute that can be kept up, as far as the server told it or it was found out; not what was
    /// configured.
    pub requests_per_minute: Option<f64>,
    /// The same for tokens.
    pub tokens_per_minute: Option<f64>,
    /// Seconds for which the server was found to count a request after its answer.
    pub release_lag: f64,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricsSnapshot {
    /// Seconds since the gate was made.
    pub uptime: f64,
    /// Calls waiting for a permit.
    pub queued: u64,
    /// Calls waiting for their backoff to end.
    pub backing_off: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Everything.
    pub total: ScopeSnapshot,
    /// By route.
    pub routes: Vec<ScopeSnapshot>,
    /// By model, as the caller names it.
    pub models: Vec<ScopeSnapshot>,
    /// By workload.
    pub workloads: Vec<ScopeSnapshot>,
    /// The lanes.
    pub lanes: Vec<LaneSnapshot>,
}

#[cfg(feature = "std")]
impl MetricsSnapshot {
    /// The snapshot in the Prometheus text format, version 0.0.4
    /// (<https://prometheus.io/docs/instrumenting/exposition_formats/>). Counters end in `_total`, durations are summaries
    /// in seconds; everything begins with `tidegate_`. The lane of calls without a `user_id`, on an account that limits each
    /// user, has the label `user_id="(empty)"`: an empty label would be none, and so the account's. No user of DeepSeek is
    /// called so, for its ids hold no parentheses.
    pub fn prometheus(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        let scopes: Vec<(&str, &ScopeSnapshot)> = core::iter::empty()
            .chain(self.routes.iter().map(|scope| ("route", scope)))
            .chain(self.models.iter().map(|scope| ("model", scope)))
            .chain(self.workloads.iter().map(|scope| ("workload", scope)))
            .collect();
        // Writing to a String cannot fail.
        let mut gauge = |name: &str, help: &str, rows: &[(String, f64)]| {
            let _ = writeln!(out, "# HELP tidegate_{name} {help}\n# TYPE tidegate_{name} gauge");
            for (labels, value) in rows {
                let _ = writeln!(out, "tidegate_{name}{labels} {value}");
            }
        };
        let one = |value: u64| vec![(String::new(), value as f64)];
        // Of what isn't known there is no row.
        let known = |value: fn(&LaneSnapshot) -> Option<f64>| -> Vec<_> {
            self.lanes.iter().filter_map(|lane| Some((lane_labels(lane, None), value(lane)?))).collect()
        };
        let lanes = |value: fn(&LaneSnapshot) -> f64| -> Vec<_> {
            self.lanes.iter().map(|lane| (lane_labels(lane, None), value(lane))).collect()
        };
        let rows = [
            one(self.queued),
            one(self.backing_off),
            lanes(|lane| f64::from(lane.limit)),
            lanes(|lane| f64::from(lane.in_flight)),
            lanes(|lane| f64::from(lane.breaker == "closed")),
            lanes(|lane| lane.paused),
            known(|lane| lane.requests_per_minute),
            known(|lane| lane.tokens_per_minute),
            lanes(|lane| lane.release_lag),
            self.lanes.iter().filter_map(|lane| Some((lane_labels(lane, Some(lane.held_by?)), 1.0))).collect(),
        ];
        for ((name, help), rows) in GAUGES.into_iter().zip(&rows) {
            gauge(name, help, rows);
        }
        for (at, (name, help)) in Counters::NAMES.into_iter().enumerate() {
            let _ = writeln!(out, "# HELP tidegate_{name}_total {help}\n# TYPE tidegate_{name}_total counter");
            for (label, scope) in &scopes {
                let value = scope.counters.values()[at];
                let _ = writeln!(out, "tidegate_{name}_total{{{label}=\"{}\"}} {value}", escape(&scope.name));
            }
        }
        for (at, (name, help)) in DISTRIBUTIONS.into_iter().enumerate() {
            let _ = writeln!(out, "# HELP tidegate_{name} {help}\n# TYPE tidegate_{name} summary");
            for (label, scope) in &scopes {
                let (summary, id) = (scope.distributions()[at], escape(&scope.name));
                for (quantile, value) in [("0.5", summary.p50), ("0.9", summary.p90), ("0.99", summary.p99)] {
                    let _ = writeln!(out, "tidegate_{name}{{{label}=\"{id}\",quantile=\"{quantile}\"}} {value}");
                }
                let _ = writeln!(out, "tidegate_{name}_sum{{{label}=\"{id}\"}} {}", summary.sum);
                let _ = writeln!(out, "tidegate_{name}_count{{{label}=\"{id}\"}} {}", summary.count);
            }
        }
        out
    }
}

#[cfg(feature = "std")]
fn lane_labels(lane: &LaneSnapshot, by: Option<&str>) -> String {
    let mut labels = format!("{{account=\"{}\",model=\"{}\"", escape(&lane.account), escape(&lane.model));
    if let Some(user) = &lane.user_id {
        let user = if user.is_empty() { "(empty)" } else { user };
        let _ = write!(labels, ",user_id=\"{}\"", escape(user));
    }
    if let Some(by) = by {
        let _ = write!(labels, ",by=\"{by}\"");
    }
    labels + "}"
}

#[cfg(feature = "std")]
fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_are_contiguous_and_hold_what_they_say() {
        let mut last = 0;
        for micros in (0..5_000).chain([u64::MAX / 3, u64::MAX]) {
            let bucket = Histogram::bucket(micros);
            assert!(bucket == last || bucket == last + 1 || micros > 5_000, "{micros}");
            last = bucket;
            assert!(Histogram::upper(bucket) >= micros);
            assert!(Histogram::upper(bucket) as f64 <= micros as f64 * 1.125 + 1.0, "{micros}");
        }
    }

    #[test]
    fn what_attempts_came_to_is_counted_under_its_name() {
        use OutcomeKind as K;
        for (name, kinds) in [
            ("slot_rejections", &[K::Slot][..]),
            ("rate_rejections", &[K::Rate]),
            ("pressure", &[K::Pressure]),
            ("server_errors", &[K::Server]),
            ("transport_errors", &[K::Transport]),
            ("first_content_timeouts", &[K::FirstContentTimeout]),
            ("interrupted", &[K::Interrupted, K::Malformed]),
            ("refused", &[K::Billing, K::Authentication, K::Forbidden, K::Refused]),
        ] {
            for &kind in kinds {
                let mut scope = Scope::default();
                scope.on_outcome(kind, None);
                let counted = Counters::NAMES.iter().zip(scope.counters.values()).filter(|(_, value)| *value > 0);
                assert_eq!(
                    counted.map(|((name, _), value)| (*name, value)).collect::<Vec<_>>(),
                    [(name, 1)],
                    "{kind:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn percentiles_are_at_most_an_eighth_above_the_truth_and_halves_add_up_to_the_whole(
            mut micros in prop::collection::vec(prop_oneof![0u64..100, 0u64..10_000_000, any::<u64>()], 1..60),
            cut in any::<prop::sample::Index>(),
            share in 0.0f64..=1.0,
        ) {
            let of = |all: &[u64]| {
                let mut histogram = Histogram::default();
                all.iter().for_each(|&micros| histogram.record_micros(micros));
                histogram
            };
            let (left, right) = micros.split_at(cut.index(micros.len()));
            let mut whole = of(left);
            whole.merge(&of(right));
            prop_assert_eq!(whole.summary(), of(&micros).summary());
            micros.sort_unstable();
            let rank = ((micros.len() as f64 * share).ceil() as usize).max(1);
            let (exact, got) = (u128::from(micros[rank - 1]), whole.percentile(share).as_micros());
            prop_assert!(exact <= got && got <= exact + exact / 8, "{} for {}", got, exact);
        }
    }

    #[test]
    fn no_percentile_is_above_the_largest() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_micros(1_000_001));
        assert_eq!(histogram.percentile(0.5), Duration::from_micros(1_000_001));
    }

    #[test]
    fn percentiles_are_within_an_eighth() {
        let mut histogram = Histogram::default();
        for ms in 1..=1000 {
            histogram.record(Duration::from_millis(ms));
        }
        for (share, exact) in [(0.0, 0.001), (0.5, 0.5), (0.9, 0.9), (0.99, 0.99), (1.0, 1.0), (f64::NAN, 0.001)] {
            let got = histogram.percentile(share).as_secs_f64();
            assert!(got >= exact && got <= exact * 1.126, "{share}: {got}");
        }
        assert_eq!(Histogram::default().percentile(0.5), Duration::ZERO);
    }

    fn lists<N: Iterator<Item = &'static str>>(metrics: &Metrics, names: fn() -> N) -> [Vec<ScopeSnapshot>; 3] {
        let mut lists = [const { Vec::new() }; 3];
        let names: [&mut dyn Iterator<Item = &str>; 3] = [&mut names(), &mut names(), &mut names()];
        metrics.each(names, &mut |list, name, scope| lists[list].push(scope.snapshot(name)));
        lists
    }

    #[test]
    fn each_route_model_and_workload_is_told_its_share_and_the_whole_is_their_sum() {
        let mut metrics = Metrics::default();
        for (workload, model, route, count) in
            [(1, 0, None, 1), (1, 0, Some(1), 2), (0, 1, Some(1), 4), (0, 0, Some(0), 8)]
        {
            let series = metrics.series(workload, model);
            let scope = metrics.scope(series, route.map(RouteId));
            scope.counters.attempts += count;
            scope.duration.record(Duration::from_secs(count));
        }
        let names = || ["a", "b", "c"].into_iter();
        let total = metrics.total().snapshot("total");
        let [routes, models, workloads] = lists(&metrics, names);
        let attempts = |scopes: Vec<ScopeSnapshot>| [0, 1, 2].map(|at: usize| scopes[at].counters.attempts);
        assert_eq!((total.counters.attempts, total.duration.count, total.duration.sum), (15, 4, 15.0));
        assert_eq!(
            (total.duration.p50, total.duration.max),
            (Histogram::upper(Histogram::bucket(2_000_000)) as f64 / 1e6, 8.0)
        );
        assert_eq!((workloads[0].name.as_str(), workloads[0].duration.max), ("a", 8.0));
        assert_eq!([attempts(routes), attempts(models), attempts(workloads)], [[8, 6, 0], [11, 4, 0], [12, 3, 0]]);
    }

    #[test]
    fn absurd_counts_of_tokens_do_no_harm() {
        let mut metrics = Metrics::default();
        let tokens = TokenCount { prompt: u64::MAX, cached: u64::MAX, completion: u64::MAX, reasoning: u64::MAX };
        for workload in [0, 0, 1] {
            let series = metrics.series(workload, 0);
            metrics.scope(series, None).on_outcome(OutcomeKind::Success, Some(&tokens));
        }
        let Counters { prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, .. } =
            metrics.total().counters;
        assert_eq!([prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens], [u64::MAX; 4]);
    }

    fn lane(user_id: Option<&str>) -> LaneSnapshot {
        LaneSnapshot {
            account: "acct".into(),
            model: "m".into(),
            user_id: user_id.map(Into::into),
            limit: 8,
            measured: None,
            in_flight: 1,
            state: "climbing",
            breaker: "closed",
            held_by: Some("rate"),
            paused: 12.5,
            requests_per_minute: Some(60.0),
            tokens_per_minute: None,
            release_lag: 0.0,
        }
    }

    #[test]
    fn prometheus_text_escapes_labels_and_has_every_counter() {
        let mut metrics = Metrics::default();
        let series = metrics.series(0, 0);
        metrics.scope(series, Some(RouteId(0))).counters.attempts += 3;
        let [routes, models, workloads] = lists(&metrics, || ["a\"b\\c\nd"].into_iter());
        let snapshot = MetricsSnapshot {
            uptime: 1.0,
            queued: 2,
            backing_off: 0,
            in_flight: 1,
            total: metrics.total().snapshot("total"),
            routes,
            models,
            workloads,
            lanes: [None, Some(""), Some("u(\"1\")")].map(lane).into(),
        };
        let text = snapshot.prometheus();
        assert!(text.contains("tidegate_attempts_total{route=\"a\\\"b\\\\c\\nd\"} 3\n"), "{text}");
        assert!(text.contains("tidegate_limit{account=\"acct\",model=\"m\"} 8\n"));
        assert!(text.contains("tidegate_paused_seconds{account=\"acct\",model=\"m\"} 12.5\n"));
        assert!(text.contains("tidegate_requests_per_minute{account=\"acct\",model=\"m\"} 60\n"));
        assert!(!text.contains("tidegate_tokens_per_minute{"), "there is none: {text}");
        assert!(
            text.contains("tidegate_limit{account=\"acct\",model=\"m\",user_id=\"(empty)\"} 8\n"),
            "none twice: {text}"
        );
        assert!(text.contains("tidegate_limit{account=\"acct\",model=\"m\",user_id=\"u(\\\"1\\\")\"} 8\n"), "{text}");
        assert!(text.contains("tidegate_held{account=\"acct\",model=\"m\",by=\"rate\"} 1\n"));
        assert!(text.contains("tidegate_queue_wait_seconds_count{workload="));
        assert_eq!(text.matches("# TYPE").count(), 10 + 19 + 3);
        assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("tidegate_")));
    }
}
