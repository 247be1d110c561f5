//! The list of models.

use super::object::{JsonObject, lossless};

/// Answer of `GET /models`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelList {
    /// `list`.
    pub object: Option<String>,
    /// The models.
    pub data: Vec<Model>,
    /// Everything else (see the [module](super) on `extra`).
    pub extra: JsonObject,
}

lossless!(ModelList { object: string, data: objects });

/// One model.
#[derive(Clone, Debug, Default, PartialEq)]
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

lossless!(Model { id: string, object: string, created: parsed, owned_by: string });
