//! Charts as SVG: for each client a panel with the cap as a band, what it had in flight as a line, and a tick for 429s.
//!
//! The colours are in the middle, so that it is readable on light and dark pages alike; nothing is painted behind it.

use std::fmt::Write;

use tidegate::sim::tally::Sample;

use crate::cases::Case;
use crate::measure::{Outcome, Run};
use crate::peers::{Peer, TIDEGATE};

/// Who gets a panel, if it was run.
const SHOWN: [&str; 6] = [TIDEGATE, "right", "oai", "pq10", "aimd", "aws"];
const COLUMNS: usize = 2;
const PANEL: (f64, f64) = (400.0, 120.0);
const GAP: (f64, f64) = (48.0, 58.0);
const MARGIN: (f64, f64) = (44.0, 84.0);
/// No chart shows more seconds than this.
const LONGEST: f64 = 600.0;

const TEXT: &str = "#7a828e";
const CAP: &str = "#8b949e";
const OURS: &str = "#1f9d61";
const THEIRS: &str = "#3b82d6";
const REJECTED: &str = "#e0523f";

/// Draws the first `LONGEST` seconds of a scenario.
pub(crate) fn draw(case: &Case, peers: &[&Peer], outcome: &Outcome) -> String {
    let shown: Vec<(&Peer, &Run)> = SHOWN
        .iter()
        .filter_map(|name| {
            let at = peers.iter().position(|peer| peer.name == *name)?;
            Some((peers[at], &outcome.runs[at]))
        })
        .collect();
    let ideal = &outcome.oracle.samples;
    let seconds = (ideal.last().map_or(1.0, |sample| sample.at) * 1.15).clamp(1.0, LONGEST);
    let highest = ideal.iter().filter(|sample| sample.at <= seconds).map(|sample| sample.cap.max(sample.in_flight));
    let highest = f64::from(highest.max().unwrap_or(1).max(1));
    // Whose run was longest saw most of the cap; where the cap depends on what a client did, the oracle's stands for it.
    let own = case.scenario.punish.is_some() || case.scenario.balance.is_some();
    let longest = outcome.runs.iter().map(|run| &run.samples).max_by_key(|samples| samples.len());
    let caps = longest.filter(|samples| !own && samples.len() > ideal.len()).unwrap_or(ideal);
    let rows = shown.len().div_ceil(COLUMNS);
    let width = 2.0 * MARGIN.0 + COLUMNS as f64 * PANEL.0 + (COLUMNS - 1) as f64 * GAP.0 - 20.0;
    let height = MARGIN.1 + rows as f64 * (PANEL.1 + GAP.1) - 14.0;

    let mut svg = String::new();
    let _ = write!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{title}" font-family="system-ui, -apple-system, 'Segoe UI', sans-serif" font-size="12" fill="{TEXT}">
<title>{title}</title>
<text x="{left}" y="26" font-size="16" font-weight="600">{title}</text>
"#,
        title = escaped(&format!("Requests in flight over time: {}", case.about)),
        left = MARGIN.0,
    );
    legend(&mut svg);
    for (at, (peer, run)) in shown.iter().enumerate() {
        let x = MARGIN.0 + (at % COLUMNS) as f64 * (PANEL.0 + GAP.0);
        let y = MARGIN.1 + (at / COLUMNS) as f64 * (PANEL.1 + GAP.1);
        let scale = Scale { x, y, seconds, highest };
        scale.panel(&mut svg, peer, run, caps, at / COLUMNS + 1 == rows || at + COLUMNS >= shown.len());
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String) {
    let (x, y) = (MARGIN.0, 48.0);
    let (top, mid) = (y - 9.0, y - 4.0);
    let mut at = x;
    let mut entry = |mark: String, width: f64, text: &str, length: f64| {
        let _ = writeln!(
            svg,
            r#"<g transform="translate({at} 0)">{mark}<text x="{}" y="{y}">{text}</text></g>"#,
            width + 6.0
        );
        at += width + 6.0 + length + 18.0;
    };
    let cap = format!(r#"<rect y="{top}" width="18" height="10" fill="{CAP}" fill-opacity=".3"/>"#);
    entry(cap, 18.0, "the provider's cap", 108.0);
    let lines = format!(
        r#"<path d="M0 {mid}h9" stroke="{OURS}" stroke-width="2"/><path d="M10 {mid}h9" stroke="{THEIRS}" stroke-width="2"/>"#
    );
    entry(lines, 19.0, "in flight", 50.0);
    let limit = format!(r#"<path d="M0 {mid}h20" stroke="{TEXT}" stroke-dasharray="3 2.5"/>"#);
    entry(limit, 20.0, "the client's limit", 100.0);
    let tick = format!(r#"<path d="M1 {top}v10" stroke="{REJECTED}" stroke-width="2"/>"#);
    entry(tick, 2.0, "rejected (429)", 90.0);
}

/// Where a panel is and what it spans.
struct Scale {
    x: f64,
    y: f64,
    seconds: f64,
    highest: f64,
}

/// One pixel column of a panel.
#[derive(Clone, Copy, Default)]
struct Column {
    samples: f64,
    cap: f64,
    in_flight: f64,
    rejected: u64,
}

impl Scale {
    fn panel(&self, svg: &mut String, peer: &Peer, run: &Run, caps: &[Sample], last: bool) {
        let (x, y) = (self.x, self.y);
        let (right, bottom) = (x + PANEL.0, y + PANEL.1);
        let figures = &run.figures;
        let ours = peer.name == TIDEGATE;
        let lost = if figures.lost > 0.0 { format!(" · {} lost", percent(figures.lost)) } else { String::new() };
        let _ = writeln!(
            svg,
            r#"<text x="{x}" y="{title}" font-weight="600">{name}</text><text x="{right}" y="{title}" text-anchor="end" font-size="11">{goodput} of ideal · {rejected} rejected{lost}</text>"#,
            title = y - 8.0,
            name = escaped(label(peer)),
            goodput = percent(figures.goodput),
            rejected = percent(figures.rejected),
        );
        let columns = self.columns(&run.samples);
        // The cap goes on when a client has ended.
        let end = run.samples.last().map_or(0.0, |sample| sample.at);
        let after = caps.iter().filter(|sample| sample.at > end);
        let whole: Vec<Sample> = run.samples.iter().chain(after).copied().collect();
        let cap = self.path(&self.columns(&whole), |column| column.cap);
        let flying = self.path(&columns, |column| column.in_flight);
        let (colour, fill) = if ours { (OURS, ".16") } else { (THEIRS, ".14") };
        if !cap.is_empty() {
            let _ = writeln!(
                svg,
                r#"<path d="{cap}V{bottom}H{x}Z" fill="{CAP}" fill-opacity=".3"/>
<path d="{flying}V{bottom}H{x}Z" fill="{colour}" fill-opacity="{fill}"/><path d="{flying}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-linejoin="round"/>"#,
            );
        }
        let limit = self.steps(&run.limits, end);
        if !limit.is_empty() {
            let _ = writeln!(
                svg,
                r#"<path d="{limit}" fill="none" stroke="{colour}" stroke-opacity=".75" stroke-dasharray="3 2.5"/>"#
            );
        }
        let ticks: String = (columns.iter().enumerate())
            .filter(|(_, column)| column.rejected > 0)
            .map(|(at, column)| format!("M{} {bottom}v-{}", x + at as f64 + 0.5, 4 + column.rejected.ilog2().min(6)))
            .collect();
        if !ticks.is_empty() {
            let _ = writeln!(svg, r#"<path d="{ticks}" stroke="{REJECTED}" stroke-width="1"/>"#);
        }
        let _ =
            writeln!(svg, r#"<path d="M{x} {y}V{bottom}H{right}" fill="none" stroke="{TEXT}" stroke-opacity=".6"/>"#);
        for value in marks(self.highest, 3) {
            let at = self.height(value);
            let _ = writeln!(
                svg,
                r#"<text x="{}" y="{}" text-anchor="end" font-size="11">{value}</text>"#,
                x - 5.0,
                at + 4.0
            );
        }
        if last {
            for value in marks(self.seconds, 6) {
                let at = x + value / self.seconds * PANEL.0;
                let _ = writeln!(
                    svg,
                    r#"<text x="{at:.0}" y="{}" text-anchor="middle" font-size="11">{value} s</text>"#,
                    bottom + 15.0
                );
            }
        }
    }

    fn columns(&self, samples: &[Sample]) -> Vec<Column> {
        let mut columns = vec![Column::default(); PANEL.0 as usize];
        let mut before = 0;
        for sample in samples.iter().filter(|sample| sample.at < self.seconds) {
            let at = (sample.at / self.seconds * PANEL.0) as usize;
            if let Some(column) = columns.get_mut(at) {
                column.samples += 1.0;
                column.cap += f64::from(sample.cap);
                column.in_flight += f64::from(sample.in_flight);
                column.rejected += sample.rejected.saturating_sub(before);
            }
            before = sample.rejected;
        }
        columns
    }

    /// A line through the columns' means; empty if there is nothing to show.
    fn path(&self, columns: &[Column], of: fn(&Column) -> f64) -> String {
        let mut path = String::new();
        let mut last = None;
        for (at, column) in columns.iter().enumerate().filter(|(_, column)| column.samples > 0.0) {
            let y = (self.height(of(column) / column.samples) * 10.0).round() / 10.0;
            let x = if path.is_empty() { self.x } else { self.x + at as f64 + 0.5 };
            // A level line needs its ends only.
            match last {
                None => write!(path, "M{x} {y}"),
                Some(before) if before == y => {
                    if let Some(level) = path.rfind('H').filter(|from| !path[*from..].contains(['L', 'V'])) {
                        path.truncate(level);
                    }
                    write!(path, "H{x}")
                }
                Some(_) => write!(path, "L{x} {y}"),
            }
            .expect("writing to a string never fails");
            last = Some(y);
        }
        path
    }

    /// A line that jumps at the given moments, once in a pixel column at most, until `end`.
    fn steps(&self, changes: &[(f64, u32)], end: f64) -> String {
        let column = |at: f64| (at.min(self.seconds).min(end) / self.seconds * PANEL.0).round();
        let mut levels: Vec<(f64, f64)> = Vec::new();
        for &(at, limit) in changes.iter().filter(|(at, _)| *at <= self.seconds.min(end)) {
            let (x, y) = (column(at), (self.height(f64::from(limit)) * 10.0).round() / 10.0);
            match levels.last_mut() {
                Some(last) if last.0 == x => last.1 = y,
                _ => levels.push((x, y)),
            }
        }
        levels.dedup_by(|next, last| next.1 == last.1);
        let Some(&(first, y)) = levels.first() else { return String::new() };
        let mut path = format!("M{} {y}", self.x + first);
        for (x, y) in &levels[1..] {
            let _ = write!(path, "H{}V{y}", self.x + x);
        }
        let _ = write!(path, "H{}", self.x + column(end));
        path
    }

    fn height(&self, value: f64) -> f64 {
        self.y + PANEL.1 * (1.0 - (value / (self.highest * 1.08)).min(1.0))
    }
}

/// Round numbers from 0 to `most`, about `count` steps apart.
fn marks(most: f64, count: u32) -> Vec<f64> {
    let rough = most / f64::from(count);
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * unit).into_iter().find(|step| *step >= rough).unwrap_or(rough);
    (0..).map(|n| f64::from(n) * step).take_while(|mark| *mark <= most).collect()
}

fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent > 0.0 && percent < 9.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

fn label(peer: &Peer) -> &'static str {
    match peer.name {
        TIDEGATE => "Tidegate",
        "right" => "Fixed at the average cap",
        "oai" => "openai, its own retries",
        "pq10" => "p-queue (10) + p-retry",
        "aimd" => "AIMD (Netflix)",
        "aws" => "Adaptive retry mode (AWS)",
        _ => peer.name,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_few() {
        assert_eq!(marks(64.0, 3), [0.0, 50.0]);
        assert_eq!(marks(600.0, 6), [0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0]);
        assert_eq!(marks(2500.0, 3), [0.0, 1000.0, 2000.0]);
    }

    #[test]
    fn a_limit_jumps_once_a_column_and_ends_with_the_run() {
        let scale = Scale { x: 0.0, y: 0.0, seconds: 400.0, highest: 10.0 / 1.08 };
        let changes = [(0.0, 5), (0.1, 10), (100.0, 10), (200.0, 0), (350.0, 7)];
        assert_eq!(scale.steps(&changes, 300.0), "M0 0H200V120H300");
        assert_eq!(scale.steps(&[], 300.0), "");
    }

    #[test]
    fn a_level_line_is_drawn_with_its_ends_only() {
        let scale = Scale { x: 0.0, y: 0.0, seconds: 4.0, highest: 1.0 / 1.08 };
        let column = |value| Column { samples: 1.0, cap: value, ..Column::default() };
        let path = scale.path(&[column(1.0), column(1.0), column(1.0), column(0.0), column(0.0)], |c| c.cap);
        assert_eq!(path, "M0 0H2.5L3.5 120H4.5");
    }
}
