//! What one sees while a batch runs: two live lines on a terminal, a line every few seconds elsewhere.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::caller::Gauges;
use crate::say;

/// How often plain lines come.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// The rate is that of the last so many seconds: long enough to be calm, short enough to follow a cap that moves.
const RATE_WINDOW: Duration = Duration::from_secs(15);

/// What has become of the input's lines so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Tally {
    /// Lines in the input that aren't blank, if it could be counted.
    pub(super) total: Option<u64>,
    /// Answered by this run.
    pub(super) answered: u64,
    /// Answered by an earlier run.
    pub(super) answered_before: u64,
    /// Asked, and failed for good.
    pub(super) failed: u64,
    /// Not requests at all.
    pub(super) bad_lines: u64,
}

impl Tally {
    /// Lines that are done with.
    pub(super) fn done(&self) -> u64 {
        self.answered + self.answered_before + self.failed + self.bad_lines
    }

    /// Requests that this run has ended.
    fn ended(&self) -> u64 {
        self.answered + self.failed
    }
}

/// Requests a second over the last stretch.
struct Rate(VecDeque<(Duration, u64)>);

impl Rate {
    fn new() -> Self {
        Self(VecDeque::from([(Duration::ZERO, 0)]))
    }

    /// Takes note that `ended` requests have ended `at` after the start; returns the rate.
    fn update(&mut self, at: Duration, ended: u64) -> f64 {
        while self.0.len() > 1 && self.0.get(1).is_some_and(|(then, _)| at.saturating_sub(*then) >= RATE_WINDOW) {
            self.0.pop_front();
        }
        // Four samples a second are enough for any window.
        if self.0.back().is_none_or(|(last, _)| at.saturating_sub(*last) >= Duration::from_millis(250)) {
            self.0.push_back((at, ended));
        }
        match self.0.front() {
            Some((then, before)) if at > *then => {
                ended.saturating_sub(*before) as f64 / at.saturating_sub(*then).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

enum View {
    Live(ProgressBar),
    Plain { next: Duration },
    Quiet,
}

/// Shows how far a batch is, on standard error.
pub(super) struct Progress {
    view: View,
    started: Instant,
    rate: Rate,
}

impl Progress {
    /// A view that suits where standard error goes.
    pub(super) fn new(quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let view = if quiet {
            View::Quiet
        } else if bar.is_hidden() {
            // No terminal, or one that can't take lines away (TERM=dumb): there the bar would swallow what is said.
            View::Plain { next: PLAIN_EVERY }
        } else {
            // The templates are constants; should one be wrong, the default style shows the same numbers.
            if let Ok(style) = ProgressStyle::with_template("{wide_bar:.cyan/black.bright} {msg}\n{prefix:.dim}") {
                bar.set_style(style.progress_chars("━━─"));
            }
            View::Live(bar)
        };
        Self { view, started: Instant::now(), rate: Rate::new() }
    }

    /// Since the batch began.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Shows the state, if it is time to.
    pub(super) fn update(&mut self, tally: &Tally, gauges: &Gauges) {
        let elapsed = self.elapsed();
        let rate = self.rate.update(elapsed, tally.ended());
        match &mut self.view {
            View::Live(bar) => {
                if let Some(total) = tally.total {
                    bar.set_length(total.max(tally.done()));
                }
                bar.set_position(tally.done());
                bar.set_message(headline(tally, elapsed, rate));
                bar.set_prefix(gate_line(gauges));
            }
            View::Plain { next } if elapsed >= *next => {
                *next = elapsed + PLAIN_EVERY;
                say(format_args!("{} · {}", headline(tally, elapsed, rate), gate_line(gauges)));
            }
            View::Plain { .. } | View::Quiet => {}
        }
    }

    /// Says something between the updates.
    pub(super) fn say(&self, message: &str) {
        match &self.view {
            View::Live(bar) => bar.println(message),
            View::Plain { .. } | View::Quiet => say(message),
        }
    }

    /// Takes the live lines away.
    pub(super) fn finish(&self) {
        if let View::Live(bar) = &self.view {
            bar.finish_and_clear();
        }
    }
}

/// "123/300 41% · 12.3/s · 0:10, 0:14 left · 2 failed".
fn headline(tally: &Tally, elapsed: Duration, rate: f64) -> String {
    let done = tally.done();
    let mut text = match tally.total {
        Some(total) if total > 0 => {
            format!("{done}/{total} {}%", (u128::from(done) * 100 / u128::from(total)).min(100))
        }
        _ => format!("{done} done"),
    };
    text += &format!(" · {rate:.1}/s · {}", clock(elapsed));
    if let Some(total) = tally.total
        && rate > 0.0
        && total > done
    {
        text += &format!(
            ", {} left",
            clock(Duration::try_from_secs_f64((total - done) as f64 / rate).unwrap_or(Duration::MAX))
        );
    }
    if tally.failed > 0 {
        text += &format!(" · {} failed", tally.failed);
    }
    if tally.bad_lines > 0 {
        text += &format!(" · {}", counted(tally.bad_lines, "bad line"));
    }
    text
}

/// "in flight 48 of 50 · queued 120 · 429s 3 · retries 1 · 5.2k tokens · $0.0021 · 60 requests/min · rate limit, 12 s left".
fn gate_line(gauges: &Gauges) -> String {
    let limit = gauges.limit.map_or_else(|| "?".to_owned(), |limit| limit.to_string());
    let mut text = format!(
        "in flight {} of {limit} · queued {} · 429s {} · retries {} · {} tokens",
        gauges.in_flight,
        gauges.queued,
        gauges.rejected,
        gauges.retries,
        short(gauges.prompt_tokens.saturating_add(gauges.completion_tokens)),
    );
    if let Some(cost) = gauges.cost_usd {
        text += &format!(" · {}", dollars(cost));
    }
    for (rate, what) in [(gauges.requests_per_minute, "requests"), (gauges.tokens_per_minute, "tokens")] {
        if let Some(rate) = rate {
            text += &format!(" · {} {what}/min", short(rate as u64));
        }
    }
    // What is shorter is the pace itself.
    if let Some(held) = gauges.held.filter(|held| held.seconds >= 1.0) {
        let why = match held.by {
            "breaker" => "the service keeps failing",
            "network" => "the provider can't be reached",
            "rate" => "rate limit",
            _ => "pausing",
        };
        text += &format!(" · {why}, {:.0} s left", held.seconds);
    }
    text
}

/// "0:05", "12:34", "1:02:03"; days as hours.
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        1..10_000 => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => "ages".to_owned(),
    }
}

/// "1 request", "2 requests".
pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A count in at most five characters: "999", "5.2k", "120k", "3.4M".
pub(super) fn short(count: u64) -> String {
    let value = count as f64;
    for (unit, name) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value >= unit {
            let scaled = value / unit;
            // Rounded down, so that 999,999 isn't "1000k".
            return if scaled < 10.0 {
                format!("{:.1}{name}", (scaled * 10.0).floor() / 10.0)
            } else {
                format!("{}{name}", scaled.floor())
            };
        }
    }
    count.to_string()
}

/// Dollars with as many digits as say something.
pub(super) fn dollars(amount: f64) -> String {
    if amount < 0.1 { format!("${amount:.4}") } else { format!("${amount:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Held;

    #[test]
    fn the_headline_tells_done_rate_time_left_and_troubles() {
        let mut tally = Tally { total: Some(300), answered: 100, answered_before: 20, failed: 2, bad_lines: 1 };
        let text = headline(&tally, Duration::from_secs(10), 12.34);
        assert_eq!(text, "123/300 41% · 12.3/s · 0:10, 0:14 left · 2 failed · 1 bad line");
        tally = Tally { total: None, answered: 5, ..Tally::default() };
        assert_eq!(headline(&tally, Duration::from_secs(3700), 0.0), "5 done · 0.0/s · 1:01:40");
        tally.total = Some(3);
        assert_eq!(headline(&tally, Duration::ZERO, 1.0), "5/3 100% · 1.0/s · 0:00");
        tally.total = Some(u64::MAX);
        assert!(headline(&tally, Duration::ZERO, 1e-9).contains("ages left"));
    }

    #[test]
    fn the_gate_line_tells_the_limit_and_what_it_cost() {
        let mut gauges =
            Gauges { limit: Some(50), in_flight: 48, queued: 120, rejected: 3, retries: 1, ..Gauges::default() };
        gauges.prompt_tokens = 5_000;
        gauges.completion_tokens = 250;
        assert_eq!(gate_line(&gauges), "in flight 48 of 50 · queued 120 · 429s 3 · retries 1 · 5.2k tokens");
        gauges.cost_usd = Some(0.0021);
        assert!(gate_line(&gauges).ends_with(" · $0.0021"));
        gauges.requests_per_minute = Some(60.4);
        gauges.tokens_per_minute = Some(1_500_000.0);
        gauges.held = Some(Held { by: "rate", seconds: 0.3 });
        assert!(gate_line(&gauges).ends_with(" · $0.0021 · 60 requests/min · 1.5M tokens/min"));
        let network = ("network", "the provider can't be reached");
        for (by, words) in
            [("rate", "rate limit"), ("breaker", "the service keeps failing"), network, ("pause", "pausing")]
        {
            gauges.held = Some(Held { by, seconds: 12.3 });
            assert!(gate_line(&gauges).ends_with(&format!(" · {words}, 12 s left")));
        }
        gauges.limit = None;
        assert!(gate_line(&gauges).starts_with("in flight 48 of ? "));
    }

    #[test]
    fn numbers_stay_short() {
        let all = [(0, "0"), (999, "999"), (1000, "1.0k"), (5249, "5.2k"), (999_999, "999k"), (3_400_000, "3.4M")];
        for (count, text) in all {
            assert_eq!(short(count), text);
        }
        assert_eq!(clock(Duration::from_secs(754)), "12:34");
        assert_eq!(dollars(12.345), "$12.35");
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::new();
        assert_eq!(rate.update(Duration::ZERO, 0), 0.0);
        for second in 1..=60 {
            rate.update(Duration::from_secs(second), 10 * second.min(30));
        }
        // Nothing has ended for thirty seconds.
        assert_eq!(rate.update(Duration::from_secs(60), 300), 0.0);
        assert!((rate.update(Duration::from_secs(61), 316) - 1.0).abs() < 0.1);
        assert!(rate.0.len() < 100);
    }
}
