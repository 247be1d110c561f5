//! The command line.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Production-safe calls to the DeepSeek API, and to any OpenAI-compatible API, while the provider's limits move.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Batch(BatchArgs),
    Sim(SimArgs),
}

/// Serve a simulated DeepSeek whose limit moves, for your own tests.
///
/// It has no model: answers are text that a client can check for integrity. Any key is taken. What it saw so far is at
/// /__sim/tally.
#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    /// What the provider does over time: a JSON file, JSON itself, such as '{"cap": 32}', or one of the built-in scenarios
    /// (steady, step, storm, sawtooth, walk, scale, rate-limits, penalty, balance-falling, hard-day)
    #[arg(long, value_name = "FILE|JSON|NAME", default_value = "storm")]
    pub(crate) scenario: PathBuf,

    /// Where to listen; port 0 lets the system choose
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8787", value_parser = address)]
    pub(crate) listen: SocketAddr,

    /// Fixes everything random
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,

    /// Print what it saw as one JSON object to standard output at the end
    #[arg(long)]
    pub(crate) json: bool,
}

/// Send a file of requests, as fast as the provider's limit allows; run it again to go on where it ended.
///
/// Input lines are OpenAI batch lines, {"custom_id", "method", "url", "body"}, or short ones, {"id", "prompt"}, to which
/// "system", "model", "max_tokens" and any other parameter may be added. Output lines have OpenAI's batch output form
/// and come in the order in which the answers do.
///
/// The key is read from DEEPSEEK_API_KEY; with --base-url and another host, from OPENAI_API_KEY if that is set. Without
/// --base-url, an address in DEEPSEEK_BASE_URL takes the place of DeepSeek's.
///
/// Exit status: 0 everything is answered; 1 some lines have errors; 2 nothing was sent, as something is wrong with the
/// arguments, files or key; 3 stopped before the end (disk full, key refused, no balance, no network, every request so far
/// refused in the same words, or another program at work on the files); 130 interrupted.
#[derive(Debug, Args)]
pub(crate) struct BatchArgs {
    /// Requests, one JSON object a line; `-` reads standard input
    #[arg(value_name = "IN.jsonl")]
    pub(crate) input: PathBuf,

    /// Where answers go. What it holds already is not asked again
    #[arg(short, long, value_name = "OUT.jsonl")]
    pub(crate) output: PathBuf,

    /// Where errors go, written anew by each run [default: OUT.errors.jsonl]
    #[arg(long, value_name = "FILE")]
    pub(crate) errors: Option<PathBuf>,

    /// An OpenAI-compatible API instead of DeepSeek's, up to and with `/v1` if it has one
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,

    /// The environment variable that holds the key
    #[arg(long, value_name = "NAME")]
    pub(crate) api_key_env: Option<String>,

    /// For lines that name no model [default: deepseek-flash, or none with --base-url]
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,

    /// The name under which this work is queued and counted
    #[arg(long, value_name = "NAME", default_value = "batch")]
    pub(crate) workload: String,

    /// Send to a simulated DeepSeek on this machine whose limit moves and storms; needs no key
    #[arg(long, conflicts_with_all = ["base_url", "api_key_env"])]
    pub(crate) simulate: bool,

    /// What the simulated provider does over time: a JSON file, JSON itself, such as '{"cap": 32}', or the name of a
    /// built-in scenario [default: storm]
    #[arg(long, value_name = "FILE|JSON|NAME", requires = "simulate")]
    pub(crate) scenario: Option<PathBuf>,

    /// Never have more requests in flight than this
    #[arg(long, value_name = "N")]
    pub(crate) max_concurrency: Option<NonZeroU32>,

    /// How often a request may fail before it is given up; answers 429, 503 and 529 don't count
    #[arg(long, value_name = "N", default_value = "5")]
    pub(crate) max_attempts: NonZeroU32,

    /// Ask every line, even if nothing is answered and 50 requests were refused in the same words
    #[arg(long)]
    pub(crate) keep_going: bool,

    /// Refuse longer lines
    #[arg(long, value_name = "BYTES", default_value = "16777216")]
    pub(crate) max_line_bytes: NonZeroUsize,

    /// Print a summary as one JSON object to standard output
    #[arg(long)]
    pub(crate) json: bool,

    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// An address to listen on. No names are looked up, but the one that everybody types.
fn address(text: &str) -> Result<SocketAddr, &'static str> {
    let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    named.as_deref().unwrap_or(text).parse().map_err(|_| "expected an IP address and a port, such as 127.0.0.1:8787")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn an_address_to_listen_on_may_be_localhost() {
        assert_eq!(address("localhost:0"), Ok(SocketAddr::from(([127, 0, 0, 1], 0))));
        assert_eq!(address("[::1]:80").map(|address| address.port()), Ok(80));
        for wrong in ["8787", ":8787", "localhost", "example.com:80", "127.0.0.1:x"] {
            assert!(address(wrong).is_err_and(|told| told.contains("127.0.0.1:8787")), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn absurd_numbers_are_refused() {
        for (option, value) in [
            ("--max-concurrency", "0"),
            ("--max-concurrency", "-3"),
            ("--max-concurrency", "NaN"),
            ("--max-attempts", "0"),
            ("--max-attempts", "4294967296"),
            ("--max-line-bytes", "0"),
        ] {
            let line = ["tidegate", "batch", "in", "-o", "out", &format!("{option}={value}")].map(str::to_owned);
            assert!(Cli::try_parse_from(line).is_err(), "{option} {value}");
        }
    }
}
