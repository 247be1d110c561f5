//! Reads the input ahead of the sending, on a thread of its own (standard input may block for long), and never further
//! than two bounds allow: so many requests, which the receiver keeps, and so many bytes, which is kept here.

use std::io::{self, BufRead};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ids::{Admission, Ids};
use super::lines::Lines;
use super::request::{self, LineError, Request};

/// What reading the input brings.
#[derive(Debug)]
pub(super) enum Item {
    /// To be asked. The permit is the request's part of the memory for reading ahead: keep it until its end.
    Request { request: Request, line: u64, memory: OwnedSemaphorePermit },
    /// Answered by an earlier run.
    Answered,
    /// Not a request.
    Bad { line: u64, id: Option<String>, error: LineError },
    /// The input is at its end; nothing follows.
    End,
    /// The input can't be read on; nothing follows.
    Broken(io::Error),
}

/// How the input is read.
#[derive(Clone, Debug)]
pub(super) struct SourceOptions {
    /// Lines over this many bytes are refused.
    pub(super) max_line_bytes: usize,
    /// For lines that name no model.
    pub(super) model: Option<String>,
    /// How many bytes of requests may be read and not yet done.
    pub(super) memory: usize,
}

/// Memory is counted in pieces of this size, as a semaphore counts at most 2²⁹ permits on some machines.
const PIECE: usize = 1 << 10;

/// Starts reading. Needs a tokio runtime around it; ends when the receiver is dropped.
pub(super) fn start<R: BufRead + Send + 'static>(reader: R, mut ids: Ids, options: SourceOptions) -> Receiver<Item> {
    let (items, receiver) = channel(64);
    let runtime = Handle::current();
    let pieces = (options.memory / PIECE).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
    let memory = Arc::new(Semaphore::new(pieces));
    std::thread::spawn(move || {
        let mut lines = Lines::new(reader, options.max_line_bytes);
        let mut line = Vec::new();
        loop {
            let item = match lines.read(&mut line) {
                Ok(None) => Item::End,
                Err(error) => Item::Broken(error),
                Ok(Some(info)) if info.too_long => {
                    let limit = options.max_line_bytes as u64;
                    Item::Bad { line: info.number, id: None, error: LineError::TooLong { bytes: info.bytes, limit } }
                }
                Ok(Some(_)) if line.trim_ascii().is_empty() => continue,
                Ok(Some(info)) => match request::parse(&line, options.model.as_deref()) {
                    Err((id, error)) => Item::Bad { line: info.number, id, error },
                    Ok(request) => match ids.admit(&request.id) {
                        Admission::Answered => Item::Answered,
                        Admission::Duplicate => {
                            let error = LineError::DuplicateId(request::beginning(&request.id));
                            Item::Bad { line: info.number, id: Some(request.id), error }
                        }
                        Admission::New => {
                            let size = request.call.body.len() + request.id.len();
                            // A request larger than all the memory waits until it can have all of it.
                            let wanted = size.div_ceil(PIECE).clamp(1, pieces) as u32;
                            match runtime.block_on(memory.clone().acquire_many_owned(wanted)) {
                                Ok(memory) => Item::Request { request, line: info.number, memory },
                                Err(_) => return,
                            }
                        }
                    },
                },
            };
            let last = matches!(item, Item::End | Item::Broken(_));
            if items.blocking_send(item).is_err() || last {
                return;
            }
        }
    });
    receiver
}

/// How many requests an input holds at most: its lines that aren't blank. Quick: nothing is parsed.
pub(super) fn count_lines<R: BufRead>(mut reader: R) -> io::Result<u64> {
    let mut lines = 0;
    let mut blank = true;
    loop {
        let chunk = match reader.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            return Ok(lines + u64::from(!blank));
        }
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            blank &= line.trim_ascii().is_empty();
            lines += u64::from(!blank);
            blank = true;
            rest = after.get(1..).unwrap_or_default();
        }
        blank &= rest.trim_ascii().is_empty();
        let used = chunk.len();
        reader.consume(used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{BufReader, Cursor};

    fn options() -> SourceOptions {
        SourceOptions { max_line_bytes: 200, model: Some("m".into()), memory: 1 << 20 }
    }

    async fn read(input: String, ids: Ids) -> Vec<String> {
        let mut items = start(Cursor::new(input), ids, options());
        let mut all = Vec::new();
        while let Some(item) = items.recv().await {
            all.push(match item {
                Item::Request { request, line, .. } => format!("{line} ask {}", request.id),
                Item::Answered => "answered".to_owned(),
                Item::Bad { line, id, error } => format!("{line} {} {id:?}", error.code()),
                Item::End => "end".to_owned(),
                Item::Broken(error) => error.to_string(),
            });
        }
        all
    }

    #[tokio::test]
    async fn a_bad_line_is_told_by_its_number_and_does_not_stop_the_rest() {
        let mut ids = Ids::default();
        ids.answered("done");
        let long = "x".repeat(1000);
        let input = format!(
            "\u{feff}{{\"id\":\"a\",\"prompt\":\"1\"}}\r\n\n{{oops\n{long}\n{{\"id\":\"a\",\"prompt\":\"2\"}}\n\
             {{\"prompt\":\"3\"}}\n{{\"id\":\"done\",\"prompt\":\"4\"}}\n  \n{{\"id\":\"z\",\"prompt\":\"5\"}}"
        );
        let expected = [
            "1 ask a",
            "3 invalid_json None",
            "4 line_too_long None",
            "5 duplicate_id Some(\"a\")",
            "6 missing_id None",
            "answered",
            "9 ask z",
            "end",
        ];
        assert_eq!(count_lines(input.as_bytes()).unwrap(), 7);
        assert_eq!(read(input, ids).await, expected);
    }

    #[tokio::test]
    async fn an_input_that_breaks_is_not_taken_for_one_that_ends() {
        struct Breaks;
        impl io::Read for Breaks {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is gone"))
            }
        }
        let mut items = start(BufReader::new(Breaks), Ids::default(), options());
        assert!(matches!(items.recv().await, Some(Item::Broken(_))));
        assert!(items.recv().await.is_none());
    }

    #[tokio::test]
    async fn reading_ahead_stops_at_its_memory_and_goes_on_when_some_is_free() {
        let line = |n: usize| format!("{{\"id\":\"{n}\",\"prompt\":\"{}\"}}\n", "x".repeat(5000));
        let input: String = (0..10).map(line).collect();
        // Room for two requests of 5 kB.
        let options = SourceOptions { max_line_bytes: 10_000, memory: 12 * PIECE, ..options() };
        let mut items = start(Cursor::new(input), Ids::default(), options);
        let mut held = std::collections::VecDeque::new();
        let mut most = 0;
        for n in 0..10 {
            if held.len() == 2 {
                // The reader can't have another one ready: its memory is all handed out.
                assert!(matches!(items.try_recv(), Err(tokio::sync::mpsc::error::TryRecvError::Empty)));
                held.pop_front();
            }
            match items.recv().await {
                Some(Item::Request { request, memory, .. }) => {
                    assert_eq!(request.id, n.to_string());
                    held.push_back(memory);
                }
                other => panic!("{other:?}"),
            }
            most = most.max(held.len());
        }
        assert_eq!(most, 2);
    }

    proptest! {
        #[test]
        fn counting_lines_does_not_depend_on_the_buffer(text in "[a \\r\\n]{0,40}", buffer in 1usize..6) {
            let expected = text.split('\n').filter(|line| !line.trim_ascii().is_empty()).count() as u64;
            prop_assert_eq!(count_lines(BufReader::with_capacity(buffer, text.as_bytes())).unwrap(), expected);
        }
    }
}
