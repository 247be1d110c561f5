//! What is left on a DeepSeek account.

use super::object::{JsonObject, Reader, Writer};
use serde::{Deserialize, Serialize, Serializer};

/// Answer of DeepSeek's `GET /user/balance`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "JsonObject")]
pub struct Balance {
    /// Whether the balance suffices for calls.
    pub is_available: Option<bool>,
    /// The balance in each currency the account has.
    pub balance_infos: Vec<BalanceInfo>,
    /// Everything else (see the [module](super) on `extra`).
    pub extra: JsonObject,
}

impl Balance {
    /// The balance in `currency` (`CNY` or `USD`).
    pub fn in_currency(&self, currency: &str) -> Option<&BalanceInfo> {
        self.balance_infos.iter().find(|info| info.currency.as_deref() == Some(currency))
    }
}

impl From<JsonObject> for Balance {
    fn from(object: JsonObject) -> Self {
        let mut fields = Reader::new(object);
        Self {
            is_available: fields.parsed("is_available"),
            balance_infos: fields.objects("balance_infos"),
            extra: fields.rest(),
        }
    }
}

impl Serialize for Balance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = Writer::new(serializer, &self.extra)?;
        fields.some("is_available", &self.is_available)?;
        fields.filled("balance_infos", &self.balance_infos)?;
        fields.end()
    }
}

/// The balance in one currency. Amounts are decimal text (`"110.00"`), as sent, so that none is rounded. Granted money
/// is spent before topped-up money.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "JsonObject")]
pub struct BalanceInfo {
    /// `CNY` or `USD`.
    pub currency: Option<String>,
    /// All there is.
    pub total_balance: Option<String>,
    /// The part that was granted and has not expired.
    pub granted_balance: Option<String>,
    /// The part that was paid in.
    pub topped_up_balance: Option<String>,
    /// Everything else.
    pub extra: JsonObject,
}

impl BalanceInfo {
    /// All there is, as a number for comparing and showing; `None` if it is not a number.
    pub fn total(&self) -> Option<f64> {
        self.total_balance.as_ref()?.parse().ok().filter(|total: &f64| total.is_finite())
    }
}

impl From<JsonObject> for BalanceInfo {
    fn from(object: JsonObject) -> Self {
        let mut fields = Reader::new(object);
        Self {
            currency: fields.string("currency"),
            total_balance: fields.string("total_balance"),
            granted_balance: fields.string("granted_balance"),
            topped_up_balance: fields.string("topped_up_balance"),
            extra: fields.rest(),
        }
    }
}

impl Serialize for BalanceInfo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = Writer::new(serializer, &self.extra)?;
        fields.some("currency", &self.currency)?;
        fields.some("total_balance", &self.total_balance)?;
        fields.some("granted_balance", &self.granted_balance)?;
        fields.some("topped_up_balance", &self.topped_up_balance)?;
        fields.end()
    }
}
