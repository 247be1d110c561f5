//! A JSON document as a host hands it over: parsed by the host's own parser, written as lines.
//!
//! Natively serde_json parses, in JavaScript `JSON.parse` does, and what decides on the document reads it in here, so that
//! there is one policy and no parser in the npm package. One value is one line, or begins and ends with one:
//!
//! ```text
//! "text          a string, its control characters as spaces
//! ~text          a string that is itself a JSON object or array, with that as the value after it
//! null, true, false, 1.5
//! [ … ]          a list: its values between
//! { … }          an object: `:key` before each value
//! ```

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::text::{Parts, part};

/// A JSON value, borrowed from the lines it was read from.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Number(&'a str),
    /// A string.
    Text(&'a str),
    /// A string that is itself a JSON document, and that document.
    Embedded(&'a str, Box<Json<'a>>),
    /// An array.
    List(Vec<Json<'a>>),
    /// An object, in the order of its fields.
    Object(Vec<(&'a str, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Levels below which a document is cut off: `null` stands for what lies deeper.
    pub const DEPTH: usize = 10;

    /// Reads lines, as the [module](self) says. `None` if they hold no value; what is cut short is read as far as it goes.
    pub fn read(lines: &'a str) -> Option<Self> {
        Self::next(&mut Parts::of(lines, b'\n'), Self::DEPTH)
    }

    fn next(lines: &mut Parts<'a>, depth: usize) -> Option<Self> {
        let line = lines.next()?;
        let rest = part(line, 1, line.len());
        Some(match line.bytes().next()? {
            b'"' => Self::Text(rest),
            b'~' => Self::Embedded(rest, Box::new(Self::next(lines, depth.checked_sub(1)?)?)),
            b'[' => {
                let depth = depth.checked_sub(1)?;
                let mut items = Vec::new();
                // The closing bracket is no value.
                while let Some(item) = Self::next(lines, depth) {
                    items.push(item);
                }
                Self::List(items)
            }
            b'{' => {
                let depth = depth.checked_sub(1)?;
                let mut fields = Vec::new();
                while let Some(key) = lines.next()?.strip_prefix(":") {
                    fields.push((key, Self::next(lines, depth)?));
                }
                Self::Object(fields)
            }
            b'n' => Self::Null,
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            b'-' | b'0'..=b'9' => Self::Number(line),
            _ => return None,
        })
    }

    /// A field of an object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.iter().find(|(key, _)| *key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The value at a path of field names, such as `metadata/headers`. `0` is the first of a list.
    pub fn at(&self, path: &str) -> Option<&Self> {
        Parts::of(path, b'/').try_fold(self, |value, step| match value {
            Self::List(list) if step == "0" => list.first(),
            _ => value.get(step),
        })
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) | Self::Embedded(text, _) => Some(text),
            _ => None,
        }
    }

    /// A string or a number as text.
    pub fn scalar(&self) -> Option<&'a str> {
        match self {
            Self::Number(text) => Some(text),
            other => other.text(),
        }
    }

    /// The values of a list; none of anything else.
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }
}

/// Writes a document as the lines that [`Json::read`] reads.
#[cfg(feature = "std")]
pub fn lines(value: &serde_json::Value) -> String {
    let mut out = String::new();
    write(&mut out, value, Json::DEPTH);
    out
}

#[cfg(feature = "std")]
fn write(out: &mut String, value: &serde_json::Value, depth: usize) {
    use serde_json::Value;
    let line = |out: &mut String, tag: &str, text: &str| {
        out.push_str(tag);
        out.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
        out.push('\n');
    };
    match value {
        Value::String(text) => {
            let inner = text.trim_start().starts_with(['{', '[']).then(|| serde_json::from_str(text).ok()).flatten();
            match inner.filter(|_| depth > 1) {
                Some(inner) => {
                    line(out, "~", text);
                    write(out, &inner, depth - 1);
                }
                None => line(out, "\"", text),
            }
        }
        Value::Array(list) if depth > 1 => {
            out.push_str("[\n");
            list.iter().for_each(|value| write(out, value, depth - 1));
            out.push_str("]\n");
        }
        Value::Object(fields) if depth > 1 => {
            out.push_str("{\n");
            for (key, value) in fields {
                line(out, ":", key);
                write(out, value, depth - 1);
            }
            out.push_str("}\n");
        }
        Value::Array(_) | Value::Object(_) => out.push_str("null\n"),
        other => line(out, "", &other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// What was read, as serde_json has it.
    fn again(json: &Json<'_>) -> Value {
        match json {
            Json::Null => Value::Null,
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Number(text) => serde_json::from_str(text).unwrap(),
            Json::Text(text) | Json::Embedded(text, _) => Value::from(*text),
            Json::List(list) => list.iter().map(again).collect(),
            Json::Object(fields) => fields.iter().map(|(key, value)| (key.to_string(), again(value))).collect(),
        }
    }

    #[test]
    fn fields_are_found_by_their_path() {
        let lines = lines(&json!({"a": {"b": ["x", {"c": 1.5}], "raw": "{\"error\":[true]}"}, "n": null}));
        let json = Json::read(&lines).unwrap();
        assert_eq!(json.at("a/b/0").and_then(Json::text), Some("x"));
        assert_eq!(json.at("a/b").unwrap().list()[1].get("c").and_then(Json::scalar), Some("1.5"));
        assert_eq!(json.get("n"), Some(&Json::Null));
        assert_eq!(json.at("a/0"), None);
        let Some(Json::Embedded(text, inner)) = json.at("a/raw") else { panic!("{json:?}") };
        assert_eq!(*text, r#"{"error":[true]}"#);
        assert_eq!(inner.at("error/0"), Some(&Json::Bool(true)));
    }

    #[test]
    fn what_holds_no_value_is_no_document() {
        for lines in ["", "{\n:a\n", "~x", "]\n", "?"] {
            assert_eq!(Json::read(lines), None, "{lines:?}");
        }
        assert!(matches!(Json::read(&"[\n".repeat(1_000_000)), Some(Json::List(_))), "however deep it claims to be");
    }

    #[test]
    fn what_lies_too_deep_is_left_out() {
        let mut value = json!("x");
        for _ in 0..100 {
            value = json!([value]);
        }
        assert!(Json::read(&lines(&value)).is_some());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[^\\p{Cc}]{0,8}|[\\[{\\]}:\"~]{1,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let key = "[^\\p{Cc}]{0,4}";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(key, inner, 0..4).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again(value in any_json()) {
            let lines = lines(&value);
            prop_assert_eq!(again(&Json::read(&lines).unwrap()), value);
        }

        #[test]
        fn nothing_that_is_read_does_harm(lines in "([\\[{\\]}:\"~ntf0-9-]?[a-z]{0,2}\n){0,40}") {
            let _ = Json::read(&lines);
        }
    }
}
