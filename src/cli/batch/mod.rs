//! `tidegate batch`: a file of requests in, a file of answers out, resumable after any end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::args::BatchArgs;
use crate::caller::Caller;
use crate::client;
use crate::connection::{Connection, ConnectionError};
use crate::interrupt;
use crate::simulation::{Simulated, SimulationError};

mod ids;
mod journal;
mod lines;
mod progress;
mod record;
mod request;
mod run;
mod source;
mod summary;

use journal::FileError;
use progress::{Progress, Tally, counted};
use run::{Batch, Ended, Stop};
use source::SourceOptions;
use summary::Summary;
pub(crate) use summary::{Fixed, Moment, Simulation, Status};

/// What is wrong before anything is sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error(transparent)]
    Client(#[from] tidegate::client::Error),
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{path}: {error}", path = .path.display())]
    Input { path: PathBuf, error: io::Error },
    #[error("Ctrl-C can't be listened to: {0}")]
    Signals(io::Error),
    #[error("-o -: answers can't go to standard output, as they are resumed from their file")]
    OutputToStdout,
}

/// For lines that name no model, where DeepSeek (or its simulation) is asked.
const DEFAULT_MODEL: &str = "deepseek-flash";

/// How many bytes of requests may be read and not yet answered. A quarter of a gigabyte holds ten thousand ordinary
/// requests many times over, and sixteen of the largest line that is allowed by default.
const READ_AHEAD_BYTES: usize = 256 << 20;

/// Runs the command to its end.
pub(crate) async fn execute(args: BatchArgs) -> Result<Status, Error> {
    let input = Input::open(&args.input)?;
    if args.output == Path::new("-") {
        return Err(Error::OutputToStdout);
    }
    let errors_path = args.errors.clone().unwrap_or_else(|| errors_beside(&args.output));
    journal::check_paths(input.path.as_deref(), &args.output, &errors_path)?;
    let simulated = match args.simulate {
        true => Some(Simulated::start(args.scenario.as_deref()).await?),
        false => None,
    };
    let connection = match &simulated {
        Some(simulated) => simulated.connection(),
        None => Connection::new(args.base_url.as_deref(), args.api_key_env.as_deref(), |name| std::env::var_os(name))?,
    };
    let caller = Arc::new(client::connect(&connection, &args)?);

    let total = input.count().map_err(|error| Error::Input { path: args.input.clone(), error })?;
    let interrupts = interrupt::listen().map_err(Error::Signals)?;
    let (answers, earlier) = journal::open_answers(&args.output)?;
    let errors = journal::open_errors(&errors_path)?;
    let progress = Progress::new(args.quiet);
    if connection.key.is_none() {
        // Fine with a server of one's own; with any other it explains the 401 that comes next.
        progress.say(&format!("{} is not set: requests go out without a key", connection.key_name));
    }
    if earlier.cut > 0 {
        let (path, cut) = (args.output.display(), counted(earlier.cut, "byte"));
        progress.say(&format!("{path}: cut off {cut} of a torn last line; its request is asked again"));
    }
    if earlier.ids.len() > 0 {
        let (path, answers) = (args.output.display(), counted(earlier.ids.len() as u64, "answer"));
        progress.say(&format!("{path}: holds {answers} already"));
    }
    // Where something has been answered, not everything is wrong.
    let may_give_up = !args.keep_going && earlier.ids.len() == 0;
    let model = args.model.clone().or_else(|| args.base_url.is_none().then(|| DEFAULT_MODEL.to_owned()));
    let options = SourceOptions { max_line_bytes: args.max_line_bytes.get(), model, memory: READ_AHEAD_BYTES };
    let items = source::start(input.reader, earlier.ids, options);
    if let Some(simulated) = &simulated {
        simulated.begin();
    }
    let started = std::time::Instant::now();
    let place = Some(earlier.place);
    let batch =
        Batch { caller: caller.clone(), items, answers, place, errors, interrupts, progress, total, may_give_up };
    let Ended { stop, tally, lost_answers } = batch.run().await;

    let elapsed_seconds = started.elapsed().as_secs_f64();
    let status = Status::of(stop.as_ref(), &tally);
    let simulation = match simulated {
        Some(simulated) => Some(simulated.end(tally.answered + lost_answers as u64, stop.is_none()).await),
        None => None,
    };
    let summary = Summary {
        status,
        refused_alike: matches!(stop, Some(Stop::RefusedAlike { .. })),
        reason: stop.map(|stop| stop.to_string()),
        elapsed_seconds,
        tally,
        lost_answers,
        gauges: caller.gauges(),
        errors: keep_errors(&errors_path, &tally).then_some(errors_path),
        output: args.output,
        simulation,
    };
    tell(&summary, args.json);
    Ok(status)
}

struct Input {
    /// `None` for standard input.
    path: Option<PathBuf>,
    reader: Box<dyn BufRead + Send>,
}

impl Input {
    fn open(path: &Path) -> Result<Self, Error> {
        if path == Path::new("-") {
            return Ok(Self { path: None, reader: Box::new(BufReader::new(io::stdin())) });
        }
        let failed = |error| Error::Input { path: path.to_owned(), error };
        let file = File::open(path).map_err(failed)?;
        // A directory can be opened on some systems, but not read.
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(FileError::Directory(path.to_owned()).into());
        }
        Ok(Self { path: Some(path.to_owned()), reader: Box::new(BufReader::with_capacity(1 << 16, file)) })
    }

    /// How many lines there are, if that can be known without taking them: a pipe can be read only once.
    fn count(&self) -> io::Result<Option<u64>> {
        match &self.path {
            Some(path) if path.metadata()?.is_file() => {
                source::count_lines(BufReader::with_capacity(1 << 16, File::open(path)?)).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// `out.jsonl` has its errors in `out.errors.jsonl`.
fn errors_beside(output: &Path) -> PathBuf {
    match output.extension().and_then(|extension| extension.to_str()) {
        Some("jsonl" | "ndjson" | "json") => output.with_extension("errors.jsonl"),
        _ => {
            let mut name = output.as_os_str().to_owned();
            name.push(".errors.jsonl");
            name.into()
        }
    }
}

/// An error file without errors is taken away again. Whether there is one.
fn keep_errors(path: &Path, tally: &Tally) -> bool {
    let any = tally.failed + tally.bad_lines > 0;
    // A link leads to where someone wants the file.
    let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    // If it can't be removed, an empty file stays: no harm.
    any || !is_file || std::fs::remove_file(path).is_err()
}

fn tell(summary: &Summary, json: bool) {
    // Who closed the pipe doesn't want to know, and the exit code says the rest.
    let _ = if json {
        let text = serde_json::to_string(summary).unwrap_or_default();
        writeln!(io::stdout(), "{text}")
    } else {
        write!(io::stderr(), "{summary}")
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_stand_beside_their_output() {
        let all = [("out.jsonl", "out.errors.jsonl"), ("a/b.json", "a/b.errors.jsonl"), ("a.b", "a.b.errors.jsonl")];
        for (output, errors) in all {
            assert_eq!(errors_beside(Path::new(output)), Path::new(errors));
        }
    }
}
