//! What is said at the end of a batch: for people, or as JSON for programs.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::progress::{Tally, clock, counted, dollars, short};
use super::run::Stop;
use crate::caller::Gauges;

/// How a batch ended, as one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Every line of the input is answered.
    Done,
    /// The end of the input was reached, but some lines have errors.
    Incomplete,
    /// Ctrl-C.
    Interrupted,
    /// Something made it senseless to go on: a full disk, a refused key, no money.
    Stopped,
}

impl Status {
    /// What the process returns: 0 if everything is answered, 1 if some lines have errors, 3 if the batch was stopped
    /// before its end, 130 (as for any program) after Ctrl-C. 2 is for what is found before anything is sent.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Incomplete => 1,
            Self::Stopped => 3,
            Self::Interrupted => 130,
        }
    }

    pub(super) fn of(stop: Option<&Stop>, tally: &Tally) -> Self {
        match stop {
            Some(Stop::Interrupted) => Self::Interrupted,
            Some(_) => Self::Stopped,
            None if tally.failed + tally.bad_lines > 0 => Self::Incomplete,
            None => Self::Done,
        }
    }
}

/// All that is told.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) status: Status,
    /// What stopped the batch, if something did.
    pub(super) reason: Option<String>,
    /// Whether that was that every request was refused in the same words.
    #[serde(skip)]
    pub(super) refused_alike: bool,
    pub(super) elapsed_seconds: f64,
    #[serde(flatten)]
    pub(super) tally: Tally,
    /// Answers that came but could not be written.
    pub(super) lost_answers: usize,
    #[serde(flatten)]
    pub(super) gauges: Gauges,
    pub(super) output: PathBuf,
    /// `None` if there were no errors, and so no file.
    pub(super) errors: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) simulation: Option<Simulation>,
}

/// What the simulated provider saw, and what other clients would have made of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Simulation {
    /// The cap over time, and what we had in flight.
    pub(crate) timeline: Vec<Moment>,
    /// Requests refused because too much was in flight.
    pub(crate) slot_rejections: u64,
    /// Requests refused or broken off for another reason, by the provider's design.
    pub(crate) disturbances: u64,
    /// Requests that were answered twice: paid for twice.
    pub(crate) answered_twice: u64,
    /// Used over offered slot-seconds, 0 to 1.
    pub(crate) utilisation: Option<f64>,
    /// How long a client takes that knows the cap at every instant.
    pub(crate) oracle_seconds: Option<f64>,
    /// What clients with a fixed concurrency make of the same requests.
    pub(crate) fixed: Vec<Fixed>,
}

/// The provider at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Moment {
    /// Seconds since it started.
    pub(crate) at: f64,
    pub(crate) cap: u32,
    pub(crate) in_flight: u32,
}

/// A client with a fixed concurrency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Fixed {
    pub(crate) concurrency: u64,
    pub(crate) seconds: f64,
    /// Requests it gave up.
    pub(crate) lost: u64,
    pub(crate) attempts: u64,
    pub(crate) rejected: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tally, gauges, .. } = self;
        let time = clock(seconds(self.elapsed_seconds));
        let reason = self.reason.as_deref().unwrap_or("stopped");
        match self.status {
            Status::Done => writeln!(f, "Done in {time}.")?,
            Status::Incomplete => writeln!(f, "Done in {time}, with errors.")?,
            Status::Interrupted => writeln!(f, "Interrupted after {time}.")?,
            Status::Stopped => writeln!(f, "Stopped after {time}: {reason}.")?,
        }
        let answered = tally.answered + tally.answered_before;
        let of = tally.total.map_or_else(String::new, |total| format!(" of {}", total.max(tally.done())));
        write!(f, "  answered   {answered}{of}")?;
        if tally.answered_before > 0 {
            write!(f, ", {} of them by earlier runs", tally.answered_before)?;
        }
        writeln!(f, ": {}", self.output.display())?;
        if let Some(errors) = &self.errors {
            let counts = [(tally.failed, "failed"), (tally.bad_lines, "invalid")];
            let told: Vec<String> =
                counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
            writeln!(f, "  errors     {}: {}", told.join(", "), errors.display())?;
        }
        if self.lost_answers > 0 {
            let lost = counted(self.lost_answers as u64, "answer");
            writeln!(f, "  lost       {lost} came but could not be written")?;
        }
        let (attempts, rejected, retries) = (gauges.attempts, gauges.rejected, gauges.retries);
        let share = percent(rejected, attempts);
        writeln!(f, "  requests   {attempts} sent, {rejected} rejected with 429 ({share}), {retries} tried again")?;
        let (prompt, completion) = (short(gauges.prompt_tokens), short(gauges.completion_tokens));
        write!(f, "  tokens     {prompt} in, {completion} out")?;
        match gauges.cost_usd {
            Some(cost) => writeln!(f, ", {}", dollars(cost))?,
            None => writeln!(f)?,
        }
        if let Some(simulation) = &self.simulation {
            simulation.fmt(f, self)?;
        }
        match self.status {
            Status::Done => Ok(()),
            Status::Incomplete if tally.failed == 0 => {
                writeln!(f, "\nMend those lines and run the same command again: what is answered is not asked again.")
            }
            Status::Incomplete => writeln!(f, "\nRun the same command again to try those that failed once more."),
            Status::Stopped if self.refused_alike => writeln!(
                f,
                "\nMend the input, or the options that name the model and the address, and run the command again.\n\
                 With --keep-going every line is asked, whatever is said."
            ),
            Status::Interrupted | Status::Stopped => {
                writeln!(f, "\nRun the same command again to go on: what is answered is not asked again.")
            }
        }
    }
}

impl Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>, summary: &Summary) -> fmt::Result {
        const WIDTH: usize = 64;
        let caps = self.timeline.iter().map(|moment| moment.cap);
        let (low, high) = (caps.clone().min().unwrap_or(0), caps.max().unwrap_or(0));
        // It was asked nothing.
        if high == 0 {
            return Ok(());
        }
        if low < high {
            writeln!(f, "\nThe simulated provider's cap, which nobody told us, moved between {low} and {high}:")?;
        } else {
            writeln!(f, "\nThe simulated provider's cap, which nobody told us, was {high}:")?;
        }
        let scale = self.timeline.iter().map(|moment| moment.in_flight).max().unwrap_or(0).max(high);
        writeln!(f, "  cap        {}", chart(&self.timeline, WIDTH, scale, |moment| moment.cap))?;
        writeln!(f, "  in flight  {}", chart(&self.timeline, WIDTH, scale, |moment| moment.in_flight))?;
        if let Some(share) = self.utilisation {
            writeln!(f, "  We used {:.0} % of what it offered.", share * 100.0)?;
        }
        if self.disturbances > 0 {
            let requests = counted(self.disturbances, "request");
            write!(f, "  It also broke or refused {requests} for other reasons")?;
            writeln!(f, "{}", if summary.tally.failed == 0 { "; each was tried again." } else { "." })?;
        }
        if self.answered_twice > 0 {
            writeln!(f, "  Answered twice, so paid twice: {}.", counted(self.answered_twice, "request"))?;
        }
        if self.fixed.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n  client                    time    rejected   lost")?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, time: f64, rejected: &str, lost: u64| {
            writeln!(f, "  {name:<22} {:>7} {rejected:>11} {lost:>6}", clock(seconds(time)))
        };
        let ours = percent(self.slot_rejections, summary.gauges.attempts);
        row(f, "tidegate", summary.elapsed_seconds, &ours, summary.tally.failed)?;
        for fixed in &self.fixed {
            let name = format!("fixed at {}", fixed.concurrency);
            row(f, &name, fixed.seconds, &percent(fixed.rejected, fixed.attempts), fixed.lost)?;
        }
        if let Some(oracle) = self.oracle_seconds {
            row(f, "one that knows the cap", oracle, "0 %", 0)?;
        }
        Ok(())
    }
}

/// A curve of `width` characters; a column shows the highest value of its time, in eighths of `scale`.
fn chart(timeline: &[Moment], width: usize, scale: u32, value: impl Fn(&Moment) -> u32) -> String {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (Some(first), Some(last)) = (timeline.first(), timeline.last()) else { return String::new() };
    let span = (last.at - first.at).max(f64::MIN_POSITIVE);
    let mut columns = vec![None; width];
    for moment in timeline {
        let column = ((moment.at - first.at) / span * width as f64) as usize;
        if let Some(column) = columns.get_mut(column.min(width - 1)) {
            *column = Some(value(moment).max(column.unwrap_or(0)));
        }
    }
    let mut held = 0;
    let eighth = |value: u32| {
        // Rounded up: anything in flight is seen.
        let eighths = (u64::from(value) * 8).div_ceil(u64::from(scale.max(1)));
        EIGHTHS.get(eighths as usize).copied().unwrap_or('█')
    };
    columns
        .into_iter()
        .map(|column| {
            held = column.unwrap_or(held);
            eighth(held)
        })
        .collect()
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 || part == 0 {
        return "0 %".to_owned();
    }
    let share = part as f64 / whole as f64 * 100.0;
    if share < 10.0 { format!("{share:.1} %") } else { format!("{share:.0} %") }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            status: Status::Incomplete,
            reason: None,
            refused_alike: false,
            elapsed_seconds: 63.2,
            tally: Tally { total: Some(300), answered: 285, answered_before: 12, failed: 2, bad_lines: 1 },
            lost_answers: 0,
            gauges: Gauges {
                limit: Some(48),
                attempts: 312,
                rejected: 9,
                retries: 3,
                prompt_tokens: 12_345,
                completion_tokens: 45_000,
                cost_usd: Some(0.0289),
                ..Gauges::default()
            },
            output: "out.jsonl".into(),
            errors: Some("out.errors.jsonl".into()),
            simulation: None,
        }
    }

    #[test]
    fn a_person_reads_what_became_of_the_lines_and_what_to_do() {
        let expected = "\
Done in 1:03, with errors.
  answered   297 of 300, 12 of them by earlier runs: out.jsonl
  errors     2 failed, 1 invalid: out.errors.jsonl
  requests   312 sent, 9 rejected with 429 (2.9 %), 3 tried again
  tokens     12k in, 45k out, $0.0289

Run the same command again to try those that failed once more.
";
        assert_eq!(summary().to_string(), expected);
    }

    #[test]
    fn a_stop_says_why_and_how_to_go_on() {
        let reason = Some("the output can't be written: no space left on device".to_owned());
        let stopped = Summary { status: Status::Stopped, reason, lost_answers: 3, ..summary() }.to_string();
        assert!(stopped.starts_with("Stopped after 1:03: the output can't be written: no space left on device.\n"));
        assert!(stopped.contains("  lost       3 answers came but could not be written\n"));
        assert!(stopped.ends_with("Run the same command again to go on: what is answered is not asked again.\n"));
    }

    #[test]
    fn after_nothing_but_refusals_the_same_command_alone_is_not_what_is_advised() {
        let reason = Some("all 64 requests so far failed in the same words (status 400): Oh".to_owned());
        let stopped = Summary { status: Status::Stopped, reason, refused_alike: true, ..summary() };
        let text = stopped.to_string();
        assert!(text.contains("Mend the input") && text.contains("--keep-going"), "{text}");
        assert!(!text.contains("Run the same command again"), "{text}");
        assert!(serde_json::to_value(stopped).unwrap().get("refused_alike").is_none(), "programs read `reason`");
    }

    #[test]
    fn a_simulation_is_told_with_its_curve_and_what_others_would_have_made_of_it() {
        let moment = |at: u32| Moment { at: at.into(), cap: if at < 30 { 64 } else { 16 }, in_flight: at.min(16) };
        let simulation = Simulation {
            timeline: (0..60).map(moment).collect(),
            slot_rejections: 9,
            disturbances: 4,
            answered_twice: 0,
            utilisation: Some(0.957),
            oracle_seconds: Some(58.0),
            fixed: vec![Fixed { concurrency: 64, seconds: 101.0, lost: 7, attempts: 700, rejected: 400 }],
        };
        let text = Summary { simulation: Some(simulation), ..summary() }.to_string();
        assert!(text.contains("moved between 16 and 64:\n  cap        ████████"), "{text}");
        assert!(text.contains("█▂▂▂"), "{text}");
        assert!(text.contains("We used 96 % of what it offered."), "{text}");
        assert!(text.contains("refused 4 requests for other reasons.\n"), "two of them were not tried again: {text}");
        assert!(text.contains("  tidegate                  1:03       2.9 %      2\n"), "{text}");
        assert!(text.contains("  fixed at 64               1:41        57 %      7\n"), "{text}");
        assert!(text.contains("  one that knows the cap    0:58         0 %      0\n"), "{text}");
    }

    #[test]
    fn a_simulation_that_saw_nothing_is_not_told_of() {
        let text = Summary { simulation: Some(Simulation::default()), ..summary() }.to_string();
        assert_eq!(text, summary().to_string());
    }

    #[test]
    fn a_program_reads_one_flat_object() {
        let value = serde_json::to_value(summary()).unwrap();
        assert_eq!(value["status"], "incomplete");
        assert_eq!(value["answered"], 285);
        assert_eq!(value["rejected"], 9);
        assert_eq!(value["cost_usd"], 0.0289);
        assert_eq!(value["errors"], "out.errors.jsonl");
        assert!(value.get("simulation").is_none());
    }

    #[test]
    fn the_exit_code_tells_done_from_incomplete_stopped_and_interrupted() {
        let clean = Tally { answered: 3, ..Tally::default() };
        let all = [
            (None, &clean, 0),
            (None, &summary().tally, 1),
            (Some(Stop::Provider("402".into())), &clean, 3),
            (Some(Stop::Interrupted), &clean, 130),
        ];
        for (stop, tally, code) in all {
            assert_eq!(Status::of(stop.as_ref(), tally).exit_code(), code);
        }
    }
}
