//! Where the places went that Tidegate left unused and the oracle did not, and what could be had without knowing the
//! future.

use std::time::Duration;

use tidegate::sim::losses::{Cause, Losses};
use tidegate::sim::oracle::{self, Causal};
use tidegate::sim::play::{Gate, Job, Played, Setup, play_clients};
use tidegate::sim::scenario::{Rate, Refill};
use tidegate::sim::tally::Sample;

use crate::cases::{Case, Kind, SEEDS};
use crate::measure;
use crate::table::NAME_WIDTH;

/// What is split, by how the causes belong together: the heads of the columns and what they mean.
const COLUMNS: [(&str, &[Cause], &str); 15] = [
    ("net", &[Cause::Network], "requests and answers under way, beyond what the oracle loses by them"),
    ("refus", &[Cause::Refused], "refusals under way, whose requests still count"),
    ("lag", &[Cause::Lag], "answered requests that still count, as the server may give places back late"),
    ("5xx", &[Cause::Outage], "waiting for an outage to end, and finding out"),
    ("told", &[Cause::Told], "pauses that refusals asked for or led to"),
    ("pace", &[Cause::Pace], "a limit on pace, learned or told"),
    ("cut", &[Cause::Cut], "what the provider took for an excess"),
    ("serve", &[Cause::Served], "the cut is over, and Tidegate waits for that"),
    ("fall", &[Cause::Fall], "refusals in a row: finding how far the cap fell"),
    ("fill", &[Cause::Filling], "the window not full, until what was sent is known to be let in"),
    ("kept", &[Cause::Kept], "places kept for people"),
    ("cold", &[Cause::Cold], "the window full and below the cap, on the first climb"),
    ("climb", &[Cause::Climb], "the same on later climbs"),
    ("hold", &[Cause::Unnoticed], "the same and not looking further: a rise not noticed"),
    ("end", &[Cause::BackingOff, Cause::Idle], "no call ready: the tail of a batch, or all back off"),
];
const WIDTH: usize = 6;

/// One run's split, in shares of what was offered; or the mean of several.
#[derive(Clone, Debug, Default, PartialEq)]
struct Split {
    columns: [f64; COLUMNS.len()],
    /// What was used beyond the oracle's: requests that came to nothing.
    extra: f64,
    /// What the oracle's requests and answers under way took, of what it was offered.
    ideal_net: f64,
    /// One less goodput.
    lost: f64,
    /// The goodput of clients that don't know the future, see [`bound`].
    even: f64,
    best: f64,
}

impl Split {
    fn of(ours: &Losses, ideal: &Losses) -> Self {
        let offered = ours.offered();
        let columns =
            COLUMNS.map(|(_, causes, _)| causes.iter().map(|&cause| ours[cause] - ideal[cause]).sum::<f64>() / offered);
        let (extra, ideal_net) = ((ours.used - ideal.used) / offered, ideal[Cause::Network] / ideal.offered());
        Self { columns, extra, ideal_net, ..Self::default() }
    }

    /// All that was split: what was offered to us and not to the oracle, which was done by then.
    fn sum(&self) -> f64 {
        self.columns.iter().sum::<f64>() + self.extra
    }

    fn mean(splits: &[Self]) -> Self {
        let of = |figure: &dyn Fn(&Self) -> f64| splits.iter().map(figure).sum::<f64>() / splits.len() as f64;
        Self {
            columns: std::array::from_fn(|column| of(&|split| split.columns[column])),
            extra: of(&|split| split.extra),
            ideal_net: of(&|split| split.ideal_net),
            lost: of(&|split| split.lost),
            even: of(&|split| split.even),
            best: of(&|split| split.best),
        }
    }
}

/// Splits what each scenario loses and prints it, in percent of what was offered.
pub(crate) fn print(cases: &[Case]) {
    println!("Where Tidegate's places went that the oracle used, in % of those offered while it ran; means over seeds");
    println!("{SEEDS:?}.\n");
    for (head, _, about) in COLUMNS {
        println!("  {head:<7} {about}");
    }
    for (head, about) in [
        ("extra", "used by more than the oracle's requests: those that came to nothing"),
        ("sum", "all of these: what was offered after the oracle was done"),
        ("lost", "1 - goodput; another than the sum where the cap at the end is not the average, and where goodput"),
        ("", "is a matter of waiting"),
        ("o.net", "what the oracle loses to requests and answers under way"),
        ("even", "goodput of a client that knows the cap but for its rises: for these it probes evenly, as often as"),
        ("", "at most 3 % (steady: 1 %) of attempts rejected allow, and jumps to the cap when one is let in"),
        ("best", "the same of one that knows the highest cap, and wastes no probe there"),
    ] {
        println!("  {head:<7} {about}");
    }
    let heads = COLUMNS.iter().map(|(head, ..)| *head).chain(["extra", "sum", "lost", "o.net", "even", "best"]);
    println!("\n{:<NAME_WIDTH$}{}", "", heads.map(|head| format!("{head:>WIDTH$}")).collect::<String>());
    for case in cases {
        let splits: Option<Vec<Split>> = SEEDS.iter().map(|&seed| split(case, seed)).collect();
        match splits {
            Some(splits) => println!("{:<NAME_WIDTH$}{}", case.name, cells(&Split::mean(&splits))),
            None => println!("{:<NAME_WIDTH$}  not split: no single lane whose requests take a place each", case.name),
        }
    }
}

fn cells(split: &Split) -> String {
    let percent = |share: f64| {
        let text = format!("{:.2}", 100.0 * share);
        // Nothing is nothing, whatever its sign.
        if matches!(&*text, "0.00" | "-0.00") { "-".to_owned() } else { text }
    };
    let shares = split.columns.into_iter().chain([split.extra, split.sum(), split.lost, split.ideal_net]);
    let cells: String = shares.map(|share| format!("{:>WIDTH$}", percent(share))).collect();
    format!("{cells}{:>WIDTH$.3}{:>WIDTH$.3}", split.even, split.best)
}

/// What one run lost; `None` if its places can't be counted.
fn split(case: &Case, seed: u64) -> Option<Split> {
    if case.setup.clients.len() != 1 || case.scenario.user_cap.is_some() {
        return None;
    }
    let jobs = (case.jobs)(seed);
    let setup = Setup { losses: true, ..measure::setup(case, seed) };
    let ideal = oracle::knowing_calls(&case.scenario, seed, &setup, &jobs).expect("the scenario makes sense");
    if !is_slotted(&case.scenario.rate, &ideal) {
        return None;
    }
    let mut gate = Gate::new(&setup, 0, seed).expect("the lab's configurations make sense");
    let ours = play_clients(&case.scenario, seed, &setup, &mut [&mut gate], &jobs).expect("the scenario makes sense");
    let split = Split::of(ours.losses.as_ref()?, ideal.losses.as_ref()?);
    let run = Run { case, seed, setup: &setup, jobs: &jobs, ideal: &ideal };
    let highest = ideal.samples.iter().map(|sample| sample.cap).max().unwrap_or(u32::MAX);
    Some(Split { lost: 1.0 - run.goodput(&ours), even: run.bound(u32::MAX), best: run.bound(highest), ..split })
}

/// Whether there is one lane whose requests take a place each: until they end or, where only pace limits them, for a
/// minute.
fn is_slotted(rate: &Rate, ideal: &Played) -> bool {
    let [lane] = &ideal.tally.lanes[..] else { return false };
    rate.tpm.is_none() && (rate.rpm.is_none() || rate.refill == Refill::Rolling && lane.peak_in_flight < lane.cap)
}

/// A scenario on one seed, and what the oracle makes of it.
struct Run<'a> {
    case: &'a Case,
    seed: u64,
    setup: &'a Setup,
    jobs: &'a [Job],
    ideal: &'a Played,
}

impl Run<'_> {
    fn goodput(&self, played: &Played) -> f64 {
        measure::figures(self.case, self.jobs, played, self.ideal).goodput
    }

    /// The goodput of a client that does not know the future: it probes evenly for rises of the cap, as often as it may
    /// for what is rejected, and knows that the cap is never above `highest`.
    fn bound(&self, highest: u32) -> f64 {
        let makespan = self.ideal.makespan.as_secs_f64();
        if self.case.scenario.punish.is_some() {
            return self.goodput(&self.causal(Causal::ExceedingOnce));
        }
        if self.ideal.samples.iter().all(|sample| sample.cap >= highest) {
            return 1.0;
        }
        let most = match self.case.kind {
            Kind::Steady => 0.01,
            Kind::Moving | Kind::Chance => 0.03,
        };
        // Of what may be rejected goes first what falls cost: all that is sent until a refusal is heard.
        let hears_after = self.setup.round_trip.as_secs_f64() + self.case.scenario.rejection.latency;
        let each = 1.0 + self.jobs.len() as f64 / makespan * hears_after;
        let spent = falls(&self.ideal.samples) as f64 * each;
        let (mut often, mut seldom) = (0.1, makespan);
        let mut goodput = 0.0;
        for _ in 0..10 {
            let interval = (often * seldom).sqrt();
            let played = self.causal(Causal::Probing { every: Duration::from_secs_f64(interval), highest });
            if played.tally.slot_rejections() as f64 + spent <= most * played.tally.requests as f64 {
                seldom = interval;
                goodput = self.goodput(&played);
            } else {
                often = interval;
            }
        }
        goodput
    }

    fn causal(&self, causal: Causal) -> Played {
        oracle::causal_calls(&self.case.scenario, self.seed, self.setup, self.jobs, causal)
            .expect("it made sense before")
    }
}

fn falls(samples: &[Sample]) -> usize {
    samples.windows(2).filter(|pair| pair[1].cap < pair[0].cap).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;
    use tidegate::sim::Scenario;

    fn case(scenario: Scenario) -> Case {
        let mut all = cases::cases();
        let at = all.iter().position(|case| case.name == "step").unwrap();
        Case { scenario, jobs: |_| Job::batch(2000), ..all.swap_remove(at) }
    }

    #[test]
    fn what_is_charged_adds_up_to_what_is_missing() {
        // Of a cap that stands still, what was offered after the oracle was done is what goodput lacks.
        let split = split(&case(Scenario::constant(16).with_service_time(1.0)), 7).unwrap();
        assert!(split.lost > 0.002, "{split:?}");
        assert!((split.sum() - split.lost).abs() < 0.001, "{split:?}");
        assert_eq!((split.even, split.best), (1.0, 1.0));
    }

    #[test]
    fn a_rise_that_nobody_announced_is_what_is_lost_where_the_cap_steps() {
        let split =
            split(&case(Scenario::steps(&[(0.0, 24), (10.0, 4)], Some(20.0)).with_service_time(0.5)), 7).unwrap();
        let of = |wanted: &str| split.columns[COLUMNS.iter().position(|(head, ..)| *head == wanted).unwrap()];
        assert!(of("hold") + of("climb") > 0.5 * split.lost && of("pace") == 0.0 && of("cut") == 0.0, "{split:?}");
        assert!(split.lost > 0.02 && 1.0 - split.lost < split.even && split.even < 1.0, "{split:?}");
    }

    #[test]
    fn an_excess_that_is_punished_is_charged_to_the_cut() {
        let mut case = case(Scenario::constant(32).with_service_time(1.0));
        case.scenario.punish = Some(Default::default());
        let split = split(&case, 7).unwrap();
        let cut = COLUMNS.iter().position(|(head, ..)| *head == "cut").unwrap();
        assert!(split.columns[cut] > 0.5 * split.lost && split.best < 1.0, "{split:?}");
    }

    #[test]
    fn several_lanes_are_not_split() {
        let all = cases::cases();
        let none = all.iter().filter(|case| ["clients-8", "users", "tpm"].contains(&case.name));
        assert!(none.inspect(|case| assert_eq!(split(case, 7), None, "{}", case.name)).count() == 3);
    }
}
