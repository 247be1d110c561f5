//! The list of models.

use super::object::{JsonObject, Reader, Writer};
use serde::{Deserialize, Serialize, Serializer};

/// Answer of `GET /models`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "JsonObject")]
pub struct ModelList {
    /// `list`.
    pub object: Option<String>,
    /// The models.
    pub data: Vec<Model>,
    /// Everything else (see the [module](super) on `extra`).
    pub extra: JsonObject,
}

impl From<JsonObject> for ModelList {
    fn from(object: JsonObject) -> Self {
        let mut fields = Reader::new(object);
        Self { object: fields.string("object"), data: fields.objects("data"), extra: fields.rest() }
    }
}

impl Serialize for ModelList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = Writer::new(serializer, &self.extra)?;
        fields.some("object", &self.object)?;
        fields.filled("data", &self.data)?;
        fields.end()
    }
}

/// One model.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "JsonObject")]
pub struct Model {
    /// The name to ask for it by.
    pub id: Option<String>,
    /// `model`.
    pub object: Option<String>,
    /// When it came out, in Unix seconds; DeepSeek does not tell.
    pub created: Option<u64>,
    /// Whose it is.
    pub owned_by: Option<String>,
    /// Everything else.
    pub extra: JsonObject,
}

impl From<JsonObject> for Model {
    fn from(object: JsonObject) -> Self {
        let mut fields = Reader::new(object);
        Self {
            id: fields.string("id"),
            object: fields.string("object"),
            created: fields.parsed("created"),
            owned_by: fields.string("owned_by"),
            extra: fields.rest(),
        }
    }
}

impl Serialize for Model {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = Writer::new(serializer, &self.extra)?;
        fields.some("id", &self.id)?;
        fields.some("object", &self.object)?;
        fields.some("created", &self.created)?;
        fields.some("owned_by", &self.owned_by)?;
        fields.end()
    }
}
