//! Reading and writing JSON objects without loss.
//!
//! Providers add fields, send `null` where the protocol says a string, leave out what it requires, and put arrays where
//! it says text. None of that may fail a call or be dropped. So one rule holds for every typed object: **what its typed
//! fields cannot represent exactly stays in `extra` under its own name**: unknown fields, `null`s, empty lists, empty
//! finish reasons and values of an unexpected type. Absence, and nothing else, is represented by `None` and an empty
//! `extra`.
//! When an object is written, a typed field that is set wins over a field of the same name in `extra`.

use super::message::Content;
use serde::de::DeserializeOwned;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

/// A JSON object; it keeps the order of its keys.
pub type JsonObject = Map<String, Value>;

/// How a struct with a field `extra` is read from JSON and written: its typed fields in the order of sending, each with
/// the kind of its value, which names a method of [`Reader`] and one of [`Writer`]. `field as "key": kind` is for keys
/// that are no name in Rust.
macro_rules! lossless {
    ($type:ident { $($field:ident $(as $key:literal)?: $kind:ident),+ $(,)? }) => {
        impl From<$crate::types::JsonObject> for $type {
            fn from(object: $crate::types::JsonObject) -> Self {
                let mut fields = $crate::types::object::Reader::new(object);
                Self { $($field: fields.$kind(lossless!(@key $field $($key)?)),)+ extra: fields.rest() }
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$crate::types::JsonObject as serde::Deserialize>::deserialize(deserializer).map(Self::from)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut fields = $crate::types::object::Writer::new(serializer, &self.extra)?;
                $(fields.$kind(lossless!(@key $field $($key)?), &self.$field)?;)+
                fields.end()
            }
        }
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
}
pub(crate) use lossless;

/// Takes typed fields out of an object; what is left in the end is `extra`.
pub(crate) struct Reader(JsonObject);

impl Reader {
    pub(crate) fn new(object: JsonObject) -> Self {
        Self(object)
    }

    /// What no typed field took.
    pub(crate) fn rest(self) -> JsonObject {
        self.0
    }

    pub(crate) fn string(&mut self, key: &str) -> Option<String> {
        match self.take_if(key, Value::is_string)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Any value but `null`.
    pub(crate) fn value(&mut self, key: &str) -> Option<Value> {
        self.take_if(key, |value| !value.is_null())
    }

    pub(crate) fn object<T: From<JsonObject>>(&mut self, key: &str) -> Option<T> {
        match self.take_if(key, Value::is_object)? {
            Value::Object(object) => Some(object.into()),
            _ => None,
        }
    }

    /// A list of objects. An empty list is left where it is, so that an empty `Vec` means absence.
    pub(crate) fn objects<T: From<JsonObject>>(&mut self, key: &str) -> Vec<T> {
        let is_filled = |value: &Value| value.as_array().is_some_and(|items| !items.is_empty());
        match self.take_if(key, |value| is_filled(value) && is_objects(value)) {
            Some(value) => into_objects(value),
            None => Vec::new(),
        }
    }

    /// Text that is never left out when it is written, and empty if it is absent.
    pub(crate) fn required_string(&mut self, key: &str) -> String {
        self.string(key).unwrap_or_default()
    }

    /// A list of objects that is never left out when it is written, and empty if it is absent.
    pub(crate) fn required_objects<T: From<JsonObject>>(&mut self, key: &str) -> Vec<T> {
        self.objects(key)
    }

    /// One text or a list of them. An empty list is left where it is, as above.
    pub(crate) fn texts(&mut self, key: &str) -> Vec<String> {
        if let Some(text) = self.string(key) {
            return vec![text];
        }
        let is_filled = |value: &Value| {
            value.as_array().is_some_and(|texts| !texts.is_empty() && texts.iter().all(Value::is_string))
        };
        let texts = self.take_if(key, is_filled).unwrap_or_default();
        texts.as_array().into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
    }

    /// What a message says: text, or a list of parts.
    pub(crate) fn content(&mut self, key: &str) -> Option<Content> {
        match self.take_if(key, |value| value.is_string() || is_objects(value))? {
            Value::String(text) => Some(Content::Text(text)),
            parts => Some(Content::Parts(into_objects(parts))),
        }
    }

    /// Numbers, flags, words: whatever serde reads and writes back as it was.
    pub(crate) fn parsed<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let value = self.0.get(key).filter(|value| !value.is_null())?;
        let parsed = T::deserialize(value).ok()?;
        self.0.shift_remove(key);
        Some(parsed)
    }

    /// The same for a word that servers send empty where there is none; an empty one is left where it is.
    pub(crate) fn word<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let is_empty = self.0.get(key).and_then(Value::as_str) == Some("");
        if is_empty { None } else { self.parsed(key) }
    }

    fn take_if(&mut self, key: &str, fits: impl FnOnce(&Value) -> bool) -> Option<Value> {
        self.0.get(key).filter(|value| fits(value))?;
        self.0.shift_remove(key)
    }
}

fn is_objects(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().all(Value::is_object))
}

/// The objects of a list that [`is_objects`].
fn into_objects<T: From<JsonObject>>(value: Value) -> Vec<T> {
    let Value::Array(items) = value else { return Vec::new() };
    let objects = items.into_iter().filter_map(|item| match item {
        Value::Object(object) => Some(object.into()),
        _ => None,
    });
    objects.collect()
}

/// Writes typed fields in the order they are put, then what of `extra` they do not shadow.
pub(crate) struct Writer<'a, M> {
    map: M,
    extra: &'a JsonObject,
    shadowed: Vec<&'static str>,
}

impl<'a, M: SerializeMap> Writer<'a, M> {
    pub(crate) fn new<S: Serializer<SerializeMap = M>>(serializer: S, extra: &'a JsonObject) -> Result<Self, S::Error> {
        Ok(Self { map: serializer.serialize_map(None)?, extra, shadowed: Vec::new() })
    }

    fn always(&mut self, key: &'static str, value: &(impl Serialize + ?Sized)) -> Result<(), M::Error> {
        if self.extra.contains_key(key) {
            self.shadowed.push(key);
        }
        self.map.serialize_entry(key, value)
    }

    pub(crate) fn string(&mut self, key: &'static str, value: &Option<String>) -> Result<(), M::Error> {
        self.some(key, value)
    }

    pub(crate) fn value(&mut self, key: &'static str, value: &Option<Value>) -> Result<(), M::Error> {
        self.some(key, value)
    }

    pub(crate) fn object(&mut self, key: &'static str, value: &Option<impl Serialize>) -> Result<(), M::Error> {
        self.some(key, value)
    }

    pub(crate) fn objects(&mut self, key: &'static str, value: &[impl Serialize]) -> Result<(), M::Error> {
        self.filled(key, value)
    }

    pub(crate) fn parsed(&mut self, key: &'static str, value: &Option<impl Serialize>) -> Result<(), M::Error> {
        self.some(key, value)
    }

    pub(crate) fn word(&mut self, key: &'static str, value: &Option<impl Serialize>) -> Result<(), M::Error> {
        self.some(key, value)
    }

    pub(crate) fn content(&mut self, key: &'static str, value: &Option<Content>) -> Result<(), M::Error> {
        self.some(key, value)
    }

    pub(crate) fn texts(&mut self, key: &'static str, value: &[String]) -> Result<(), M::Error> {
        self.filled(key, value)
    }

    pub(crate) fn required_string(&mut self, key: &'static str, value: &String) -> Result<(), M::Error> {
        self.required(key, value, value.is_empty())
    }

    pub(crate) fn required_objects(&mut self, key: &'static str, value: &Vec<impl Serialize>) -> Result<(), M::Error> {
        self.required(key, value, value.is_empty())
    }

    /// Nothing if there is no value.
    fn some(&mut self, key: &'static str, value: &Option<impl Serialize>) -> Result<(), M::Error> {
        value.as_ref().map_or(Ok(()), |value| self.always(key, value))
    }

    /// Nothing if the list is empty.
    fn filled(&mut self, key: &'static str, list: &[impl Serialize]) -> Result<(), M::Error> {
        if list.is_empty() { Ok(()) } else { self.always(key, list) }
    }

    /// A field that is left out only where `extra` has what the typed one, being empty, could not hold.
    fn required(&mut self, key: &'static str, value: &impl Serialize, is_empty: bool) -> Result<(), M::Error> {
        if is_empty && self.extra.contains_key(key) { Ok(()) } else { self.always(key, value) }
    }

    pub(crate) fn end(mut self) -> Result<M::Ok, M::Error> {
        for (key, value) in self.extra {
            if !self.shadowed.contains(&key.as_str()) {
                self.map.serialize_entry(key, value)?;
            }
        }
        self.map.end()
    }
}
