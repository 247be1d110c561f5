//! Any bytes in any chunks give what a plain reading of the standard gives for the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::sse::{Item, Parser};

#[path = "../../reference/sse.rs"]
mod reference;

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (sizes, stream) = input;
    let mut items = Vec::new();
    let mut parser = Parser::new();
    let mut rest = &stream[..];
    let sizes = sizes.iter().map(|size| usize::from(*size)).chain(std::iter::repeat(usize::MAX));
    for size in sizes {
        let (chunk, tail) = rest.split_at(size.min(rest.len()));
        rest = tail;
        let on = |item: Item<'_>| {
            items.push(match item {
                Item::Event { event, data, id } => reference::Item::Event(event.into(), data.into(), id.into()),
                Item::Comment(text) => reference::Item::Comment(text.into()),
                Item::Retry(time) => reference::Item::Retry(u64::try_from(time.as_millis()).unwrap()),
                other => panic!("an item of an unknown kind: {other:?}"),
            });
        };
        parser.feed(chunk, on).expect("below the limit");
        if size == usize::MAX {
            break;
        }
    }
    assert_eq!(parser.position(), stream.len() as u64);
    parser.finish();
    assert_eq!(items, reference::parse(&stream));
});
