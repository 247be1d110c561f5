//! What Tidegate wants to reach, and where it does not.

use crate::Row;
use crate::cases::Kind;
use crate::measure::Figures;
use crate::peers::{Peer, TIDEGATE};

/// Seconds a request of the lab runs on average: the service time of one slot.
const SERVICE: f64 = 5.9;

struct Goal {
    what: &'static str,
    /// By how much a scenario misses it: what it came to, and what it should be; `None` where it does not apply.
    figure: fn(&Row<'_>, &Figures) -> Option<f64>,
    holds: fn(f64) -> bool,
    percent: bool,
}

const GOALS: [Goal; 7] = [
    Goal {
        what: "goodput is at least 0.97 of the oracle's",
        figure: |_, f| Some(f.goodput),
        holds: |goodput| goodput >= 0.97,
        percent: false,
    },
    Goal {
        what: "at most 1 % of attempts are rejected while the cap stands still",
        figure: |row, f| (row.case.kind == Kind::Steady).then_some(f.rejected),
        holds: |rejected| rejected <= 0.01,
        percent: true,
    },
    Goal {
        what: "at most 3 % of attempts are rejected while it moves",
        figure: |row, f| (row.case.kind == Kind::Moving).then_some(f.rejected),
        holds: |rejected| rejected <= 0.03,
        percent: true,
    },
    Goal { what: "no job is lost", figure: |_, f| Some(f.lost), holds: |lost| lost == 0.0, percent: true },
    Goal {
        what: "99 of 100 times a person behind a flood waits at most 1.2 services, 7.1 s",
        figure: |_, f| f.wait_p99,
        holds: |wait| wait <= 1.2 * SERVICE,
        percent: false,
    },
    Goal {
        what: "from cold to 90 % of a cap of 2,500 takes at most 5 s",
        figure: |row, f| f.converged.filter(|_| row.case.name.contains("2500")),
        holds: |seconds| seconds <= 5.0,
        percent: false,
    },
    Goal {
        what: "where 429s state numbers, a change of the cap costs at most one of them",
        figure: |row, f| f.per_change.filter(|_| row.case.name.starts_with("numbers")),
        holds: |rejections| rejections <= 1.0,
        percent: false,
    },
];

/// Says which goals hold, and names every miss.
pub(crate) fn print(rows: &[Row<'_>], peers: &[&Peer]) {
    let Some(at) = peers.iter().position(|peer| peer.name == TIDEGATE) else { return };
    println!("\nTidegate's goals");
    for goal in &GOALS {
        let figures = rows.iter().filter_map(|row| Some((row.case.name, (goal.figure)(row, &row.peers[at])?)));
        let (held, missed): (Vec<_>, Vec<_>) = figures.partition(|&(_, figure)| (goal.holds)(figure));
        let verdict = if missed.is_empty() { "holds " } else { "MISSED" };
        println!("  {verdict}  {} ({} of {})", goal.what, held.len(), held.len() + missed.len());
        let shown = missed.iter().map(|&(name, figure)| match goal.percent {
            true => format!("{name} {:.2} %", 100.0 * figure),
            false => format!("{name} {figure:.3}"),
        });
        for line in wrapped(shown, 90) {
            println!("          {line}");
        }
    }
}

/// The items, separated by commas, in lines of at most `width`.
fn wrapped(items: impl Iterator<Item = String>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if line.len() + 2 + item.len() <= width => {
                line.push_str(", ");
                line.push_str(&item);
            }
            _ => lines.push(item),
        }
    }
    lines
}
