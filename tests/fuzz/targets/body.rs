//! A body is blank exactly if its content is empty, and its parts join to the body without its leading white space.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::core::body::{Arrival, Inspection, Inspector, content_of, inspect};

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (size, body) = input;
    let mut inspector = Inspector::new();
    let mut joined = Vec::new();
    for chunk in body.chunks(usize::from(size).max(1)) {
        if let Arrival::Content(content) = inspector.feed(chunk).expect("below the limit") {
            joined.extend_from_slice(content);
        }
    }
    assert_eq!(joined, body.trim_ascii_start());
    assert_eq!(inspector.content_bytes(), joined.len());

    let inspection = inspect(&body);
    assert_eq!(inspection == Inspection::Blank, content_of(&body).is_empty());
    if let Inspection::Error(value) = inspection {
        assert_eq!(serde_json::from_slice::<serde_json::Value>(content_of(&body)).unwrap(), value);
    }
});
