//! The table, no wider than 100 columns.

use serde_json::json;

use crate::Row;
use crate::cases::SEEDS;
use crate::measure::Figures;
use crate::peers::Peer;

pub(crate) const NAME_WIDTH: usize = 16;
const WIDTH: usize = 6;

type Figure = fn(&Figures) -> Option<f64>;

/// One figure for every scenario and peer.
struct Block {
    title: &'static str,
    figure: Figure,
    decimals: usize,
    /// The oracle has something to say, too.
    oracle: bool,
}

const BLOCKS: [Block; 8] = [
    Block { title: "Goodput over the oracle's", figure: |f| Some(f.goodput), decimals: 3, oracle: false },
    Block { title: "Attempts rejected, %", figure: |f| Some(100.0 * f.rejected), decimals: 2, oracle: false },
    Block { title: "Jobs lost, %", figure: |f| Some(100.0 * f.lost), decimals: 1, oracle: false },
    Block { title: "A person's wait behind a flood, median s", figure: |f| f.wait_median, decimals: 2, oracle: true },
    Block { title: "A person's wait behind a flood, 99 of 100, s", figure: |f| f.wait_p99, decimals: 2, oracle: true },
    Block { title: "Fairness, Jain's index", figure: |f| f.fairness, decimals: 3, oracle: true },
    Block { title: "From cold to 90 % of the cap, s", figure: |f| f.converged, decimals: 1, oracle: true },
    Block { title: "429s within 10 s of a change of the cap", figure: |f| f.per_change, decimals: 1, oracle: false },
];

pub(crate) fn print(rows: &[Row<'_>], peers: &[&Peer]) {
    println!("Tidegate and what people use instead, on a virtual clock; means over seeds {SEEDS:?}.");
    println!("`ideal` is the oracle, which knows every cap at every moment. Waits are those of answered requests;");
    println!("who has no priorities serves in order of arrival.\n");
    for peer in peers {
        println!("  {:<7} {}", peer.name, peer.about);
    }
    for block in &BLOCKS {
        let has = |row: &&Row<'_>| (block.figure)(&row.oracle).is_some();
        let with: Vec<_> = rows.iter().filter(has).collect();
        if with.is_empty() {
            continue;
        }
        println!("\n{}", block.title);
        let heads = peers.iter().map(|peer| peer.name).chain(block.oracle.then_some("ideal"));
        println!("{:<NAME_WIDTH$}{}", "", heads.map(|head| format!("{head:>WIDTH$}")).collect::<String>());
        for row in with {
            let figures = row.peers.iter().chain(block.oracle.then_some(&row.oracle));
            let cells: String = figures.map(|figures| cell((block.figure)(figures), block.decimals)).collect();
            println!("{:<NAME_WIDTH$}{cells}", row.case.name);
        }
    }
    if rows.len() > 1 {
        summary(rows, peers);
    }
}

/// What the first three blocks come to over all scenarios.
fn summary(rows: &[Row<'_>], peers: &[&Peer]) {
    type Fold = fn(&[f64]) -> f64;
    let mean: Fold = |figures| figures.iter().sum::<f64>() / figures.len() as f64;
    let least: Fold = |figures| figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most: Fold = |figures| figures.iter().copied().fold(0.0, f64::max);
    let [goodput, rejected, lost, ..] = &BLOCKS;
    println!("\nOver all {} scenarios", rows.len());
    println!("{:<NAME_WIDTH$}{}", "", peers.iter().map(|peer| format!("{:>WIDTH$}", peer.name)).collect::<String>());
    for (label, block, fold) in [
        ("goodput, mean", goodput, mean),
        ("goodput, worst", goodput, least),
        ("rejected %, mean", rejected, mean),
        ("rejected %, most", rejected, most),
        ("lost %, mean", lost, mean),
        ("lost %, most", lost, most),
    ] {
        let over = |peer: usize| rows.iter().filter_map(|row| (block.figure)(&row.peers[peer])).collect::<Vec<_>>();
        let cells = (0..peers.len()).map(|peer| cell(Some(fold(&over(peer))), block.decimals));
        println!("{label:<NAME_WIDTH$}{}", cells.collect::<String>());
    }
}

fn cell(figure: Option<f64>, decimals: usize) -> String {
    let text = match figure {
        None => "-".to_owned(),
        Some(figure) if figure.is_infinite() => "never".to_owned(),
        Some(figure) if figure.abs() < 1e-9 => "0".to_owned(),
        // Fewer decimals where the number is long.
        Some(figure) => {
            let digits = figure.abs().max(1.0).log10() as usize + 1;
            format!("{figure:.*}", decimals.min((WIDTH - 1).saturating_sub(digits + 1)))
        }
    };
    format!("{text:>WIDTH$}")
}

pub(crate) fn json(rows: &[Row<'_>], peers: &[&Peer]) -> String {
    let scenarios: Vec<_> = rows
        .iter()
        .map(|row| {
            let figures: serde_json::Map<_, _> =
                peers.iter().zip(&row.peers).map(|(peer, figures)| (peer.name.to_owned(), json!(figures))).collect();
            json!({"name": row.case.name, "about": row.case.about, "oracle": row.oracle, "peers": figures})
        })
        .collect();
    format!("{:#}", json!({"seeds": SEEDS, "scenarios": scenarios}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_always_as_wide_as_a_column() {
        let figures = [None, Some(f64::INFINITY), Some(0.0), Some(0.97), Some(12.345), Some(123.4), Some(99_999.0)];
        let cells: Vec<_> = figures.into_iter().map(|figure| cell(figure, 3)).collect();
        assert_eq!(cells, ["     -", " never", "     0", " 0.970", " 12.35", " 123.4", " 99999"]);
    }
}
