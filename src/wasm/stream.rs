//! The parser of event streams for JavaScript.

use alloc::string::String;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::core::sse::{Item, Parser};

/// Parses one event stream: bytes in, one string of items out.
#[wasm_bindgen]
#[derive(Debug)]
pub struct SseParser {
    parser: Parser,
    overgrown: bool,
}

#[wasm_bindgen]
impl SseParser {
    /// A parser that takes events of at most so many bytes.
    #[wasm_bindgen(constructor)]
    pub fn new(max_event_bytes: u32) -> Self {
        Self { parser: Parser::with_max_event_bytes(max_event_bytes as usize), overgrown: false }
    }

    /// The items that `chunk` completes, each followed by a carriage return, which the standard keeps out of every field:
    /// `d` and the data of an event, `e`, the event's type, a line feed and the data where it has a type of its own, or
    /// `c` for a comment. So a chunk costs one copy in and one string out, however many events it brings.
    pub fn feed(&mut self, chunk: &[u8]) -> String {
        let mut items = String::with_capacity(chunk.len());
        let fed = self.parser.feed(chunk, |item| {
            match item {
                Item::Event { event: "message", data, .. } => {
                    items.push('d');
                    items.push_str(data);
                }
                Item::Event { event, data, .. } => {
                    items.push('e');
                    items.push_str(event);
                    items.push('\n');
                    items.push_str(data);
                }
                Item::Comment(_) => items.push('c'),
                Item::Retry(_) => return,
            }
            items.push('\r');
        });
        self.overgrown |= fed.is_err();
        items
    }

    /// Whether an event outgrew the limit: the stream can't be read on.
    #[wasm_bindgen(getter)]
    pub fn overgrown(&self) -> bool {
        self.overgrown
    }

    /// Ends the stream; returns the data of an event that lacks its blank line.
    pub fn finish(&mut self) -> Option<String> {
        self.parser.finish().map(|cut| cut.data)
    }
}
