//! Quoting what a server said: in one line, without markup and without keys.

use alloc::borrow::{Cow, ToOwned};
use alloc::string::String;

use super::TEXT_LIMIT;
use super::words::{behind, starts_with};
use crate::core::text::{cut, halves, part, span};

/// Strikes out what looks like an API key: tokens that begin as keys do (`sk-`, `gsk_`, `xai-`, `AIza` …), a long one
/// behind `Bearer`, and what a server quotes as the wrong key, masked by it or not.
pub fn redact(text: &str) -> Cow<'_, str> {
    /// How a key begins or is introduced, and how long what follows must be to be one.
    const MARKS: [(&str, usize); 14] = [
        ("sk-", 5),
        ("sk_", 5),
        ("pk-", 5),
        ("gsk_", 5),
        ("hf_", 5),
        ("xai-", 5),
        ("nvapi-", 5),
        ("AIza", 5),
        ("Bearer ", 16),
        ("bearer ", 16),
        ("key provided: ", 1),
        ("api key: ", 1),
        ("API key: ", 1),
        ("api_key=", 1),
    ];
    let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_*.~+/".contains(byte);
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    let mut before = b' ';
    while let Some(&byte) = text.as_bytes().get(at) {
        let tail = part(text, at, text.len());
        let mark = MARKS.iter().find(|(mark, _)| !before.is_ascii_alphanumeric() && tail.starts_with(mark));
        before = byte;
        at += 1;
        let Some((mark, shortest)) = mark else { continue };
        let (mut token, _) = span(part(tail, mark.len(), tail.len()), in_token);
        while let Some(shorter) = token.strip_suffix(".") {
            token = shorter;
        }
        if token.len() >= *shortest {
            let start = at - 1;
            let introduction = if mark.ends_with(" ") || mark.ends_with("=") { mark.len() } else { 0 };
            out.push_str(part(text, copied, start + introduction));
            out.push_str("[redacted]");
            at = start + mark.len() + token.len();
            copied = at;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(part(text, copied, text.len()));
    Cow::Owned(out)
}

/// Texts, one behind the other.
pub(super) fn joined(parts: &[&str]) -> String {
    parts.concat()
}

/// `text` in one line and without keys.
pub(super) fn clean(text: &str) -> String {
    let text = cut(text, TEXT_LIMIT);
    let mut line = String::with_capacity(text.len());
    let mut gap = false;
    for c in text.chars() {
        if is_blank(c) {
            gap = !line.is_empty();
        } else {
            if gap {
                line.push(' ');
            }
            gap = false;
            line.push(c);
        }
    }
    redact(&line).into_owned()
}

/// Whether it is white space or a control character; without the tables of all of Unicode.
fn is_blank(c: char) -> bool {
    matches!(c, '\0'..=' ' | '\u{7F}'..='\u{A0}' | '\u{1680}' | '\u{2000}'..='\u{200A}' | '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{202F}' | '\u{205F}' | '\u{3000}')
}

/// The text of a body that is no JSON error: itself, or what can be read of an HTML page.
pub(super) fn plain_text(body: &str) -> String {
    let text = cut(body, 4 * TEXT_LIMIT);
    if !text.starts_with('<') {
        return text.into();
    }
    let title = behind(text, "<title").and_then(|rest| {
        let (title, _) = halves(behind(rest, ">")?, *b"<<")?;
        Some(title.trim_ascii()).filter(|title| !title.is_empty())
    });
    let words = title.map_or_else(|| without_tags(text), str::to_owned);
    let words = cut(words.trim_ascii(), 200);
    if words.is_empty() { "HTML error page".into() } else { joined(&["HTML error page: ", words]) }
}

/// The text between tags, without that of scripts and styles.
fn without_tags(html: &str) -> String {
    let mut out = String::new();
    let mut rest = html;
    while let Some((text, tag)) = halves(rest, *b"<<") {
        out.push_str(text);
        out.push(' ');
        let skipped = [("script", "</script"), ("style", "</style"), ("!--", "--")].into_iter();
        let end = skipped.filter(|(start, _)| starts_with(tag, start)).map(|(_, end)| end).next();
        let inner = end.map_or(Some(tag), |end| behind(tag, end));
        match inner.and_then(|inner| halves(inner, *b">>")) {
            Some((_, after)) => rest = after,
            None => return out,
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_struck_out_and_nothing_else() {
        for (text, expected) in [
            ("Incorrect API key provided: sk-abcdef123456. You can", "Incorrect API key provided: [redacted]. You can"),
            ("Incorrect API key provided: test. You can", "Incorrect API key provided: [redacted]. You can"),
            ("Your api key: ****-key is invalid", "Your api key: [redacted] is invalid"),
            ("bad token sk-or-v1-0123456789abcdef!", "bad token [redacted]!"),
            ("(sk-proj-a_b-c1234,gsk_12345678)", "([redacted],[redacted])"),
            ("Authorization: Bearer abcdefghijklmnop0123", "Authorization: Bearer [redacted]"),
            ("key AIzaSyA-1234567 and xai-123456789", "key [redacted] and [redacted]"),
            ("héllo “sk-0123456789” wörld", "héllo “[redacted]” wörld"),
        ] {
            assert_eq!(redact(text), expected);
        }
        for text in
            ["Missing Authentication header", "task-based risk-free", "sk-", "Bearer token", "", "disk-0123456789"]
        {
            assert!(matches!(redact(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }
    proptest! {
        #[test]
        fn no_key_survives_in_any_surrounding(
            before in "[ -~é]{0,20}[ \"(]", key in "sk-[A-Za-z0-9_-]{5,40}", after in "[ \"),][ -~]{0,20}",
        ) {
            let text = format!("{before}{key}{after}");
            let redacted = redact(&text);
            prop_assert!(!redacted.contains(&key), "{redacted}");
        }
    }
}
