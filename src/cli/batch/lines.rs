//! Lines of a file, one at a time and with a bound: a line over the limit is measured and skipped, never held.

use std::io::{self, BufRead};

/// What was read besides the line's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineInfo {
    /// Counted from 1; blank lines count.
    pub(super) number: u64,
    /// Length in bytes, without the end of line.
    pub(super) bytes: u64,
    /// Longer than the limit: its bytes were not kept.
    pub(super) too_long: bool,
    /// It ended with a newline rather than with the file.
    pub(super) terminated: bool,
}

/// Reads lines that end with LF or CRLF; a byte-order mark before the first is dropped.
pub(super) struct Lines<R> {
    reader: R,
    limit: usize,
    number: u64,
    offset: u64,
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

impl<R: BufRead> Lines<R> {
    /// Lines of at most `limit` bytes.
    pub(super) fn new(reader: R, limit: usize) -> Self {
        Self { reader, limit, number: 0, offset: 0 }
    }

    /// How many bytes have been consumed, ends of lines included.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Puts the next line into `line` (cleared first; empty if it was too long); `None` at the end of the file.
    pub(super) fn read(&mut self, line: &mut Vec<u8>) -> io::Result<Option<LineInfo>> {
        line.clear();
        let mut bytes = 0u64;
        let mut last = None;
        let mut too_long = false;
        let mut terminated = false;
        while !terminated {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                if bytes == 0 {
                    return Ok(None);
                }
                break;
            }
            let newline = memchr::memchr(b'\n', chunk);
            let part = chunk.get(..newline.unwrap_or(chunk.len())).unwrap_or_default();
            let consumed = part.len() + usize::from(newline.is_some());
            bytes += part.len() as u64;
            last = part.last().copied().or(last);
            // What is dropped again below, a mark of byte order and a carriage return, doesn't count.
            too_long |= bytes > (self.limit as u64).saturating_add(BYTE_ORDER_MARK.len() as u64 + 1);
            if too_long {
                // Freed, so that one huge line doesn't stay allocated for the rest of the file.
                *line = Vec::new();
            } else {
                line.extend_from_slice(part);
            }
            terminated = newline.is_some();
            self.reader.consume(consumed);
            self.offset += consumed as u64;
        }
        self.number += 1;
        if last == Some(b'\r') {
            line.pop();
            bytes -= 1;
        }
        if self.number == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
            bytes -= BYTE_ORDER_MARK.len() as u64;
        }
        too_long |= bytes > self.limit as u64;
        if too_long {
            *line = Vec::new();
        }
        Ok(Some(LineInfo { number: self.number, bytes, too_long, terminated }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::BufReader;

    fn read_all(input: &[u8], limit: usize, buffer: usize) -> Vec<(LineInfo, Vec<u8>)> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, input), limit);
        let mut line = Vec::new();
        let mut all = Vec::new();
        while let Some(info) = lines.read(&mut line).unwrap() {
            all.push((info, line.clone()));
        }
        assert_eq!(lines.offset(), input.len() as u64);
        all
    }

    #[test]
    fn byte_order_mark_and_carriage_returns_are_dropped_and_blank_lines_are_counted() {
        let all = read_all(b"\xEF\xBB\xBF{}\r\n\r\n\nlast", 100, 3);
        let texts: Vec<&[u8]> = all.iter().map(|(_, text)| text.as_slice()).collect();
        assert_eq!(texts, [b"{}".as_slice(), b"", b"", b"last"]);
        let (last, _) = all[3];
        assert_eq!(last, LineInfo { number: 4, bytes: 4, too_long: false, terminated: false });
    }

    #[test]
    fn a_line_of_exactly_the_limit_passes_and_one_more_byte_does_not() {
        for (text, fits) in
            [("abcd\r\n", true), ("abcde\n", false), ("\u{feff}abcd\n", true), ("\u{feff}abcde\n", false)]
        {
            let all = read_all(text.as_bytes(), 4, 2);
            assert_eq!(all[0].0.too_long, !fits, "{text:?}");
            assert_eq!(all[0].1, if fits { b"abcd".to_vec() } else { Vec::new() });
        }
    }

    #[test]
    fn a_huge_line_is_measured_but_never_held() {
        /// A hundred million letters and two short lines, made as they are read.
        struct Huge(u64);
        impl io::Read for Huge {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                const LONG: u64 = 100_000_000;
                const TAIL: &[u8] = b"\nnext\n";
                if self.0 < LONG {
                    let n = buffer.len().min((LONG - self.0) as usize);
                    buffer[..n].fill(b'x');
                    self.0 += n as u64;
                    Ok(n)
                } else {
                    let rest = &TAIL[(self.0 - LONG) as usize..];
                    let n = buffer.len().min(rest.len());
                    buffer[..n].copy_from_slice(&rest[..n]);
                    self.0 += n as u64;
                    Ok(n)
                }
            }
        }
        let mut lines = Lines::new(BufReader::with_capacity(1 << 16, Huge(0)), 1 << 20);
        let mut line = Vec::new();
        let first = lines.read(&mut line).unwrap().unwrap();
        assert_eq!(first, LineInfo { number: 1, bytes: 100_000_000, too_long: true, terminated: true });
        assert_eq!(line.capacity(), 0);
        assert_eq!(lines.read(&mut line).unwrap().unwrap().number, 2);
        assert_eq!(line, b"next");
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_file_is_cut_into_reads(
            text in "[ab\r\n\u{feff}]{0,60}", buffer in 1usize..9, limit in 0usize..8,
        ) {
            prop_assert_eq!(read_all(text.as_bytes(), limit, buffer), read_all(text.as_bytes(), limit, 1000));
        }
    }
}
