//! A plain reading of the WHATWG event-stream rules, as unlike the real parser as can be: it takes the whole stream as
//! text, in one piece, and follows the standard's steps to the letter. Slow, and the oracle for the quick one.

/// An item of a stream: (type, data, last event id), a comment, or a reconnection time in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Event(String, String, String),
    Comment(String),
    Retry(u64),
}

/// The items of the stream `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Vec<Item> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(&text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    // What follows the last line end is an unfinished line.
    lines.pop();

    let mut items = Vec::new();
    let (mut data, mut event, mut id) = (String::new(), String::new(), String::new());
    for line in lines {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        if line.is_empty() {
            let kind = if event.is_empty() { "message" } else { &event };
            if let Some(data) = data.strip_suffix('\n') {
                items.push(Item::Event(kind.to_owned(), data.to_owned(), id.clone()));
            }
            data.clear();
            event.clear();
        } else if line.starts_with(':') {
            items.push(Item::Comment(value.to_owned()));
        } else if field == "event" {
            event = value.to_owned();
        } else if field == "data" {
            data += value;
            data += "\n";
        } else if field == "id" && !value.contains('\0') {
            id = value.to_owned();
        } else if field == "retry" && !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            items.push(Item::Retry(value.parse().unwrap_or(u64::MAX)));
        }
    }
    items
}
