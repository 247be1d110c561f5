//! Server-sent events by the WHATWG standard, as a push parser: bytes in, items out.
//!
//! The rules are those of [the HTML standard, "Interpreting an event stream"][spec]: UTF-8 with replacement characters
//! for what is not, one byte order mark ignored at the very start, lines ended by LF, CR or CRLF wherever the chunks
//! are cut, an event at each blank line if it has data, and an unfinished event at the end of the stream discarded.
//! Beyond the standard, comments are items too, for servers send them to prove that a connection lives.
//!
//! Work is linear in the bytes fed, however they are cut: no byte is looked at twice by the line scan. An event that
//! lies within one chunk is handed on without being copied.
//!
//! What it does *not* do: read, reconnect, or know what `[DONE]` means.
//!
//! ```
//! use tidegate::sse::{Item, Parser};
//!
//! let mut parser = Parser::new();
//! let mut seen = Vec::new();
//! for chunk in [&b": keep-alive\n\nda"[..], b"ta: {\"a\":1}\n\n"] {
//!     parser.feed(chunk, |item| match item {
//!         Item::Event { data, .. } => seen.push(data.to_owned()),
//!         Item::Comment(text) => seen.push(format!("({text})")),
//!         _ => {}
//!     })?;
//! }
//! assert_eq!(seen, ["(keep-alive)", "{\"a\":1}"]);
//! assert_eq!(parser.finish(), None);
//! # Ok::<(), tidegate::sse::TooLarge>(())
//! ```
//!
//! [spec]: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use memchr::memchr2;

/// The byte order mark in UTF-8: ignored once, at the start of a stream.
const BOM: &[u8] = b"\xEF\xBB\xBF";
/// Buffer space kept between events; what a rare large event needed beyond it is given back.
const RETAINED: usize = 64 * 1024;

/// What a stream is made of, borrowed from the parser or from the chunk just fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item<'a> {
    /// A blank line ended an event that has data.
    Event {
        /// Its type: the value of the `event` field, or `message` where there is none.
        event: &'a str,
        /// The values of its `data` fields, joined by line feeds.
        data: &'a str,
        /// The last event id of the stream: that of this event, or of the last one before it that had one; else empty.
        id: &'a str,
    },
    /// A comment, such as DeepSeek's `: keep-alive` or OpenRouter's `: OPENROUTER PROCESSING`, without its colon and
    /// the one space after it. It proves that the connection lives, and nothing more.
    Comment(&'a str),
    /// The server set the reconnection time.
    Retry(Duration),
}

/// A line, or an event's data, outgrew the parser's limit. The parser stays in this state: the stream can't be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {limit} bytes")]
pub struct TooLarge {
    /// The limit, in bytes.
    pub limit: usize,
}

/// What was pending when a stream ended within an event or a line; the standard discards it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The pending event's data, with that of a `data` line that was cut off. Servers that end with `data: [DONE]` and
    /// no blank line after it leave `[DONE]` here.
    pub data: String,
}

/// A parser of one event stream after another. Feed it the chunks as they come.
///
/// A chunk that yields no item (part of a line, blank lines) is still a sign of life; who needs it sees it in
/// [`position`](Self::position).
#[derive(Clone, Debug)]
pub struct Parser {
    /// The pending event's data, in `data`, and after it the line begun in earlier chunks.
    buf: Vec<u8>,
    data: Range<usize>,
    /// Whether there was a `data` line: `data` alone can't tell, a line without a value counts.
    has_data: bool,
    event: String,
    /// The id as the fields set it; it becomes the stream's at the next blank line.
    id: String,
    id_set: bool,
    last_id: String,
    /// How much of the byte order mark was seen; beyond its length once the start of the stream is past.
    bom: usize,
    /// The last chunk ended with CR: an LF that comes next belongs to it.
    after_cr: bool,
    overgrown: bool,
    max_event_bytes: usize,
    position: u64,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl Parser {
    /// The default for the largest event: 16 MiB.
    pub const DEFAULT_MAX_EVENT_BYTES: usize = 16 << 20;

    /// A parser at the start of a stream, with the default limit.
    pub fn new() -> Self {
        Self::with_max_event_bytes(Self::DEFAULT_MAX_EVENT_BYTES)
    }

    /// The same with a limit of its own, in bytes: an event's data and type with the line being read (its field name
    /// counts, its line end doesn't) may not exceed it. Memory stays below about twice this plus the last event id.
    pub fn with_max_event_bytes(max_event_bytes: usize) -> Self {
        Self {
            buf: Vec::new(),
            data: 0..0,
            has_data: false,
            event: String::new(),
            id: String::new(),
            id_set: false,
            last_id: String::new(),
            bom: 0,
            after_cr: false,
            overgrown: false,
            max_event_bytes,
            position: 0,
        }
    }

    /// How many bytes of this stream were fed.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The stream's last event id, empty if it never had one: what a reconnect sends as `Last-Event-ID`.
    pub fn last_event_id(&self) -> &str {
        &self.last_id
    }

    /// Reads `chunk` and calls `on` with each item it completes.
    ///
    /// # Errors
    /// [`TooLarge`] if the event outgrows the limit, after `on` had all items before it; and for every chunk thereafter.
    pub fn feed(&mut self, chunk: &[u8], mut on: impl FnMut(Item<'_>)) -> Result<(), TooLarge> {
        if self.overgrown {
            return Err(TooLarge { limit: self.max_event_bytes });
        }
        self.position += chunk.len() as u64;
        let result = self.read(chunk, &mut on);
        if result.is_err() {
            self.overgrown = true;
            self.buf = Vec::new();
            self.data = 0..0;
            self.has_data = false;
        }
        result
    }

    /// Ends the stream: the standard discards an event without its blank line, and here is what was discarded, if
    /// anything was pending. Afterwards the parser is at the start of a new stream; the last event id stays.
    pub fn finish(&mut self) -> Option<Cut> {
        let in_bom = (1..BOM.len()).contains(&self.bom);
        let cut = self.has_data || !self.event.is_empty() || self.id_set || in_bom || self.buf.len() > self.data.end;
        let cut = cut.then(|| {
            let mut data = self.buf.get(self.data.clone()).unwrap_or_default().to_vec();
            if let Field::Data(value) = Field::of(self.buf.get(self.data.end..).unwrap_or_default()) {
                if self.has_data {
                    data.push(b'\n');
                }
                data.extend_from_slice(value);
            }
            Cut { data: String::from_utf8_lossy(&data).into_owned() }
        });
        *self =
            Self { last_id: core::mem::take(&mut self.last_id), ..Self::with_max_event_bytes(self.max_event_bytes) };
        cut
    }

    fn read(&mut self, chunk: &[u8], on: &mut impl FnMut(Item<'_>)) -> Result<(), TooLarge> {
        let mut rest = chunk;
        if self.bom <= BOM.len() {
            rest = self.skip_bom(rest);
        }
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        if self.buf.len() > self.data.end {
            let Some(end) = line_end(rest) else {
                self.check(self.buf.len() - self.data.start + rest.len())?;
                self.buf.extend_from_slice(rest);
                return Ok(());
            };
            self.check(self.buf.len() - self.data.start + end)?;
            self.buf.extend_from_slice(&rest[..end]);
            self.end_buffered_line(on);
            rest = self.after_line(rest, end);
        }
        // The first data line of an event stays in the chunk for as long as no second one needs to be joined to it.
        let mut lent: Option<&[u8]> = None;
        while let Some(&first) = rest.first() {
            if first == b'\n' || first == b'\r' {
                self.dispatch(lent.take(), on);
                rest = self.after_line(rest, 0);
                continue;
            }
            let pending = lent.map_or(self.data.len(), <[u8]>::len);
            let Some(end) = line_end(rest) else {
                self.check(pending + rest.len())?;
                break;
            };
            self.check(pending + end)?;
            let line = &rest[..end];
            match Field::of(line) {
                Field::Data(value) if !self.has_data && lent.is_none() => lent = Some(value),
                Field::Data(value) => {
                    self.keep(lent.take());
                    self.buf.push(b'\n');
                    self.buf.extend_from_slice(value);
                    self.data.end = self.buf.len();
                }
                field => self.take_field(field, on),
            }
            rest = self.after_line(rest, end);
        }
        self.keep(lent);
        self.buf.extend_from_slice(rest);
        Ok(())
    }

    /// What of `chunk` comes after the byte order mark, or all of it. The part of a mark that turns out to be none
    /// becomes the beginning of the first line.
    fn skip_bom<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let wanted = BOM.get(self.bom..).unwrap_or_default();
        let same = wanted.iter().zip(chunk).take_while(|(a, b)| a == b).count();
        let rest = &chunk[same..];
        self.bom += same;
        if self.bom == BOM.len() {
            self.bom = BOM.len() + 1;
        } else if !rest.is_empty() {
            self.buf.extend_from_slice(&BOM[..self.bom]);
            self.bom = BOM.len() + 1;
        }
        rest
    }

    /// `rest` behind the line end at `end`, which may be of two bytes, the second in a chunk still to come.
    fn after_line<'a>(&mut self, rest: &'a [u8], end: usize) -> &'a [u8] {
        match rest.get(end..) {
            Some([b'\r', b'\n', rest @ ..]) => rest,
            Some([b'\r']) => {
                self.after_cr = true;
                &[]
            }
            Some([_, rest @ ..]) => rest,
            _ => &[],
        }
    }

    /// Checks an event of `bytes` besides its type against the limit.
    fn check(&self, bytes: usize) -> Result<(), TooLarge> {
        if bytes + self.event.len() > self.max_event_bytes {
            return Err(TooLarge { limit: self.max_event_bytes });
        }
        Ok(())
    }

    /// Copies the first data line out of the chunk that is about to go away.
    fn keep(&mut self, lent: Option<&[u8]>) {
        if let Some(value) = lent {
            self.buf.clear();
            self.buf.extend_from_slice(value);
            self.data = 0..value.len();
            self.has_data = true;
        }
    }

    /// Takes the line at the end of the buffer, now complete.
    fn end_buffered_line(&mut self, on: &mut impl FnMut(Item<'_>)) {
        let start = self.data.end;
        match Field::of(&self.buf[start..]) {
            Field::Data(value) => {
                let value = self.buf.len() - value.len()..self.buf.len();
                if self.has_data {
                    // The line feed and the value fit where the line was: the field's name is longer.
                    self.data.end = start + 1 + value.len();
                    self.buf[start] = b'\n';
                    self.buf.copy_within(value, start + 1);
                    self.buf.truncate(self.data.end);
                } else {
                    self.has_data = true;
                    self.data = value;
                }
            }
            Field::Ignored => self.buf.truncate(start),
            _ => {
                // Rare and short: comments, `event`, `id`, `retry`.
                let line = self.buf.split_off(start);
                self.take_field(Field::of(&line), on);
            }
        }
    }

    /// Takes any field but `data`.
    fn take_field(&mut self, field: Field<'_>, on: &mut impl FnMut(Item<'_>)) {
        match field {
            Field::Event(value) => {
                self.event.clear();
                self.event.push_str(&String::from_utf8_lossy(value));
            }
            Field::Id(value) if !value.contains(&0) => {
                self.id.clear();
                self.id.push_str(&String::from_utf8_lossy(value));
                self.id_set = true;
            }
            Field::Retry(value) if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let add = |ms: u64, digit: &u8| ms.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
                on(Item::Retry(Duration::from_millis(value.iter().fold(0, add))));
            }
            Field::Comment(value) => on(Item::Comment(&String::from_utf8_lossy(value))),
            Field::Id(_) | Field::Retry(_) | Field::Data(_) | Field::Ignored => {}
        }
    }

    /// A blank line: hands on the event, whose data is in `lent` or in the buffer, if it has any.
    fn dispatch(&mut self, lent: Option<&[u8]>, on: &mut impl FnMut(Item<'_>)) {
        if self.id_set {
            self.id_set = false;
            core::mem::swap(&mut self.id, &mut self.last_id);
        }
        let data = match lent {
            None if self.has_data => self.buf.get(self.data.clone()),
            lent => lent,
        };
        if let Some(data) = data {
            // `from_utf8_lossy` would look at valid data in pieces; one check of the whole is several times quicker.
            let data = core::str::from_utf8(data).map_or_else(|_| String::from_utf8_lossy(data), Cow::Borrowed);
            let event = if self.event.is_empty() { "message" } else { &self.event };
            on(Item::Event { event, data: &data, id: &self.last_id });
        }
        self.event.clear();
        if self.has_data {
            self.has_data = false;
            self.data = 0..0;
            self.buf.clear();
            if self.buf.capacity() > RETAINED {
                self.buf.shrink_to(RETAINED);
            }
        }
    }
}

/// Where the first line end of `bytes` is.
fn line_end(bytes: &[u8]) -> Option<usize> {
    /// `memchr2` sets itself up for tens of bytes; a delta of a token or two that comes alone is shorter.
    const SHORT: usize = 32;
    if bytes.len() > SHORT {
        return memchr2(b'\n', b'\r', bytes);
    }
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let (words, tail) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        if has_line_end(u64::from_le_bytes(*word)) {
            return word.iter().position(is_end).map(|at| 8 * i + at);
        }
    }
    tail.iter().position(is_end).map(|at| 8 * words.len() + at)
}

/// Whether one of the eight bytes of `word` is LF or CR. A byte is zero exactly if taking one from it sets its top bit
/// while that was not set before (Mycroft's test, <https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord>);
/// what a borrow adds above such a byte changes nothing, for one is enough.
fn has_line_end(word: u64) -> bool {
    const ONES: u64 = u64::MAX / 255;
    let has_zero = |x: u64| x.wrapping_sub(ONES) & !x & (ONES << 7);
    has_zero(word ^ (ONES * 0x0A)) | has_zero(word ^ (ONES * 0x0D)) != 0
}

/// A line, split at its colon.
#[derive(Clone, Copy)]
enum Field<'a> {
    Data(&'a [u8]),
    Event(&'a [u8]),
    Id(&'a [u8]),
    Retry(&'a [u8]),
    Comment(&'a [u8]),
    Ignored,
}

impl<'a> Field<'a> {
    fn of(line: &'a [u8]) -> Self {
        /// The value, if what follows the field's name is one: nothing, or a colon with an optional space.
        fn value(rest: &[u8]) -> Option<&[u8]> {
            match rest {
                [] => Some(rest),
                [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
                _ => None,
            }
        }
        let (of, rest): (fn(&'a [u8]) -> Self, _) = match line {
            [b'd', b'a', b't', b'a', rest @ ..] => (Self::Data, rest),
            [b'e', b'v', b'e', b'n', b't', rest @ ..] => (Self::Event, rest),
            [b'i', b'd', rest @ ..] => (Self::Id, rest),
            [b'r', b'e', b't', b'r', b'y', rest @ ..] => (Self::Retry, rest),
            [b':', ..] => (Self::Comment, line),
            _ => return Self::Ignored,
        };
        value(rest).map_or(Self::Ignored, of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Owned {
        Event(String, String, String),
        Comment(String),
        Retry(u64),
    }

    fn own(item: Item<'_>) -> Owned {
        match item {
            Item::Event { event, data, id } => Owned::Event(event.into(), data.into(), id.into()),
            Item::Comment(text) => Owned::Comment(text.into()),
            Item::Retry(time) => Owned::Retry(u64::try_from(time.as_millis()).unwrap()),
        }
    }

    fn message(data: &str) -> Owned {
        Owned::Event("message".into(), data.into(), String::new())
    }

    type Parsed = (Vec<Owned>, Result<(), TooLarge>, Option<Cut>, String);

    fn parse_with(mut parser: Parser, chunks: &[&[u8]]) -> Parsed {
        let mut items = Vec::new();
        let mut result = Ok(());
        for chunk in chunks {
            result = result.and(parser.feed(chunk, |item| items.push(own(item))));
        }
        let cut = parser.finish();
        (items, result, cut, parser.last_event_id().to_owned())
    }

    fn parse(chunks: &[&[u8]]) -> Parsed {
        parse_with(Parser::new(), chunks)
    }

    /// The items of `input`, which must be the same for every way to cut it in two, and bytewise.
    fn items(input: &[u8]) -> Vec<Owned> {
        let whole = parse(&[input]);
        for at in 0..=input.len() {
            let (a, b) = input.split_at(at);
            assert_eq!(parse(&[a, b]), whole, "cut at {at}");
            assert_eq!(parse(&[a, b"", b]), whole, "cut at {at}, with an empty chunk");
        }
        assert_eq!(parse(&input.chunks(1).collect::<Vec<_>>()), whole, "bytewise");
        whole.0
    }

    #[test]
    fn every_line_end_ends_a_line_and_may_be_mixed() {
        for end in ["\n", "\r", "\r\n"] {
            let input = format!("data: a{end}data: b{end}{end}data: c{end}{end}");
            assert_eq!(items(input.as_bytes()), [message("a\nb"), message("c")], "{end:?}");
        }
        assert_eq!(items(b"data: a\r\ndata: b\ndata: c\r\rdata: d\n\r"), [message("a\nb\nc"), message("d")]);
    }

    #[test]
    fn an_event_is_dispatched_by_cr_without_waiting_for_what_follows() {
        let mut parser = Parser::new();
        let mut seen = 0;
        parser.feed(b"data: x\r\r", |_| seen += 1).unwrap();
        assert_eq!(seen, 1);
        parser.feed(b"\ndata: y\r\n\r", |_| seen += 1).unwrap();
        assert_eq!(seen, 2);
    }

    #[test]
    fn one_space_after_the_colon_is_not_part_of_the_value() {
        assert_eq!(items(b"data:a\n\ndata:  b\n\ndata:\tc\n\n"), [message("a"), message(" b"), message("\tc")]);
    }

    #[test]
    fn a_data_field_without_a_value_still_makes_an_event() {
        assert_eq!(items(b"data\n\ndata\ndata\n\ndata:\n\n"), [message(""), message("\n"), message("")]);
        assert_eq!(items(b"data:\ndata: x\ndata\n\n"), [message("\nx\n")]);
    }

    #[test]
    fn an_event_without_data_is_not_dispatched_and_its_type_is_forgotten() {
        assert_eq!(items(b"event: ping\n\ndata: x\n\n"), [message("x")]);
    }

    #[test]
    fn the_last_of_several_event_fields_names_the_type() {
        let input = b"event: a\nevent: delta\ndata: x\n\ndata: y\n\nevent: z\nevent\ndata: w\n\n";
        let named = Owned::Event("delta".into(), "x".into(), String::new());
        assert_eq!(items(input), [named, message("y"), message("w")]);
    }

    #[test]
    fn names_are_matched_whole_and_by_case() {
        assert_eq!(items(b"Data: a\ndatax: b\n data: c\ndat: d\neventual: e\ndata : f\n\n"), []);
    }

    #[test]
    fn an_id_stays_until_another_comes_and_one_with_nul_is_ignored() {
        let event = |data: &str, id: &str| Owned::Event("message".into(), data.into(), id.into());
        let input = b"id: 1\ndata: a\n\ndata: b\n\nid: x\0y\ndata: c\n\nid\ndata: d\n\n";
        assert_eq!(items(input), [event("a", "1"), event("b", "1"), event("c", "1"), event("d", "")]);
    }

    #[test]
    fn an_id_counts_from_the_blank_line_on_even_without_data() {
        assert_eq!(parse(&[b"id: 7\n\n"]).3, "7");
        assert_eq!(parse(&[b"id: 7\n\nid: 8\ndata: cut off\n"]).3, "7");
    }

    #[test]
    fn retry_takes_ascii_digits_only() {
        let input = "retry: 1500\nretry:7\nretry: 1s\nretry: -1\nretry\nretry: \nretry: 1.5\nretry: ٣\n";
        assert_eq!(items(input.as_bytes()), [Owned::Retry(1500), Owned::Retry(7)]);
        let mut most = None;
        let input = b"retry: 99999999999999999999999\n";
        Parser::new().feed(input, |item| most = Some(own(item))).unwrap();
        assert_eq!(most, Some(Owned::Retry(u64::MAX)));
    }

    #[test]
    fn comments_are_items_and_leave_the_event_around_them_whole() {
        let comment = |text: &str| Owned::Comment(text.into());
        let input = b": OPENROUTER PROCESSING\n\n:\ndata: a\n:keep-alive\ndata: b\n\n:  two\n";
        let expected =
            [comment("OPENROUTER PROCESSING"), comment(""), comment("keep-alive"), message("a\nb"), comment(" two")];
        assert_eq!(items(input), expected);
    }

    #[test]
    fn only_the_first_byte_order_mark_is_ignored() {
        assert_eq!(items(b"\xEF\xBB\xBFdata: a\n\n\xEF\xBB\xBFdata: b\n\ndata: c\n\n"), [message("a"), message("c")]);
        assert_eq!(items(b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\n"), []);
        assert_eq!(items(b"\xEF\xBBdata: a\n\ndata: \xEF\xBB\xBFb\n\n"), [message("\u{FEFF}b")]);
    }

    #[test]
    fn what_is_not_utf8_becomes_replacement_characters() {
        let input = b"event: \xFF\ndata: \xE8\xB1\n\n: \xF0\x9F\n\ndata: \xF0\x9F\x8C\x8A\ndata: \xC0\xAF\n\n";
        let odd = Owned::Event("\u{FFFD}".into(), "\u{FFFD}".into(), String::new());
        let expected = [odd, Owned::Comment("\u{FFFD}".into()), message("🌊\n\u{FFFD}\u{FFFD}")];
        assert_eq!(items(input), expected);
    }

    #[test]
    fn an_event_cut_off_by_the_end_is_discarded_but_told() {
        let cut = |input: &[u8]| (parse(&[input]).0.len(), parse(&[input]).2.map(|cut| cut.data));
        assert_eq!(cut(b""), (0, None));
        assert_eq!(cut(b"\n\r\n: hi\n\n\r"), (1, None));
        assert_eq!(cut(b"data: a\n\n"), (1, None));
        assert_eq!(cut(b"data: a\n\ndata: [DONE]\n"), (1, Some("[DONE]".into())));
        assert_eq!(cut(b"data: [DONE]"), (0, Some("[DONE]".into())));
        assert_eq!(cut(b"data: a\ndata: b"), (0, Some("a\nb".into())));
        assert_eq!(cut(b"data: a\nid: b"), (0, Some("a".into())));
        assert_eq!(cut(b": keep-al"), (0, Some(String::new())));
        assert_eq!(cut(b"event: x\n"), (0, Some(String::new())));
        assert_eq!(cut(b"\xEF\xBB"), (0, Some(String::new())));
    }

    #[test]
    fn a_finished_parser_starts_a_new_stream_with_the_last_id() {
        let mut parser = Parser::new();
        parser.feed(b"id: 3\ndata: a\n\nevent: x\ndata: half", |_| {}).unwrap();
        assert!(parser.finish().is_some());
        assert_eq!((parser.position(), parser.last_event_id()), (0, "3"));
        let mut items = Vec::new();
        parser.feed(b"\xEF\xBB\xBFdata: b\n\n", |item| items.push(own(item))).unwrap();
        assert_eq!(items, [Owned::Event("message".into(), "b".into(), "3".into())]);
    }

    #[test]
    fn blank_lines_show_in_the_position_only() {
        let mut parser = Parser::new();
        parser.feed(b"\n\r\n\n", |item| panic!("{item:?}")).unwrap();
        assert_eq!(parser.position(), 4);
    }

    #[test]
    fn an_event_beyond_the_limit_is_an_error_for_good() {
        let input: &[u8] = b"data: small\n\ndata: 0123456789abcdef\n\ndata: after\n\n";
        for size in 1..=input.len() {
            let chunks: Vec<&[u8]> = input.chunks(size).collect();
            let (items, result, cut, _) = parse_with(Parser::with_max_event_bytes(16), &chunks);
            assert_eq!(items, [message("small")], "chunks of {size}");
            assert_eq!((result, cut), (Err(TooLarge { limit: 16 }), None), "chunks of {size}");
        }
        assert_eq!(parse_with(Parser::with_max_event_bytes(22), &[input]).1, Ok(()));
    }

    #[test]
    fn many_small_lines_of_one_event_count_together_but_comments_do_not() {
        let lines = b"data: 0123456789\n".repeat(10);
        assert!(parse_with(Parser::with_max_event_bytes(100), &[&lines]).1.is_err());
        let comments = b": 0123456789\n".repeat(100);
        assert_eq!(parse_with(Parser::with_max_event_bytes(20), &[&comments]).1, Ok(()));
    }

    #[test]
    fn memory_a_large_event_needed_is_given_back() {
        let mut parser = Parser::new();
        let mut seen = 0;
        for chunk in [&b"data: "[..], &vec![b'x'; 1 << 20], b"\n\n"] {
            parser.feed(chunk, |_| seen += 1).unwrap();
        }
        assert_eq!(seen, 1);
        assert!(parser.buf.capacity() <= RETAINED);
    }

    #[test]
    fn an_event_within_one_chunk_is_borrowed_from_it() {
        let chunk = b"event: e\ndata: {\"a\":1}\n\n";
        let mut inside = false;
        Parser::new()
            .feed(chunk, |item| {
                if let Item::Event { data, .. } = item {
                    inside = chunk.as_ptr_range().contains(&data.as_ptr());
                }
            })
            .unwrap();
        assert!(inside);
    }

    /// Streams out of pieces that matter to the grammar, and bytes that are none.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            prop::sample::select(vec![
                &b"data"[..],
                b":",
                b": ",
                b" ",
                b"\n",
                b"\n",
                b"\r",
                b"\r\n",
                b"\n\n",
                b"event",
                b"id",
                b"retry",
                b"42",
                b"\0",
                b"\xEF\xBB\xBF",
                b"\xEF",
                b"\xF0\x9F\x8C\x8A",
                b"\xF0\x9F",
                b"data: {\"x\":1}\n\n",
                b"x",
            ])
            .prop_map(<[u8]>::to_vec),
            prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_chunking_gives_what_one_chunk_gives(
            input in streams(),
            sizes in prop::collection::vec(0usize..9, 1..20),
            limit in prop_oneof![Just(usize::MAX), 0usize..40],
        ) {
            let mut chunks = Vec::new();
            let mut rest = &input[..];
            for size in sizes.iter().cycle().take(2 * input.len() + sizes.len()) {
                let (chunk, tail) = rest.split_at(rest.len().min(*size));
                chunks.push(chunk);
                rest = tail;
            }
            chunks.push(rest);
            let whole = parse_with(Parser::with_max_event_bytes(limit), &[&input]);
            prop_assert_eq!(parse_with(Parser::with_max_event_bytes(limit), &chunks), whole);
        }
    }
}
