//! What is left on a DeepSeek account.

use super::object::{JsonObject, lossless};

/// Answer of DeepSeek's `GET /user/balance`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Balance {
    /// Whether the balance suffices for calls.
    pub is_available: Option<bool>,
    /// The balance in each currency the account has.
    pub balance_infos: Vec<BalanceInfo>,
    /// Everything else (see the [module](super) on `extra`).
    pub extra: JsonObject,
}

lossless!(Balance { is_available: parsed, balance_infos: objects });

impl Balance {
    /// The balance in `currency` (`CNY` or `USD`).
    pub fn in_currency(&self, currency: &str) -> Option<&BalanceInfo> {
        self.balance_infos.iter().find(|info| info.currency.as_deref() == Some(currency))
    }
}

/// The balance in one currency. Amounts are decimal text (`"110.00"`), as sent, so that none is rounded. Granted money
/// is spent before topped-up money.
#[derive(Clone, Debug, Default, PartialEq)]
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

lossless!(BalanceInfo { currency: string, total_balance: string, granted_balance: string, topped_up_balance: string });

impl BalanceInfo {
    /// All there is, as a number for comparing and showing; `None` if it is not a number.
    pub fn total(&self) -> Option<f64> {
        self.total_balance.as_ref()?.parse().ok().filter(|total: &f64| total.is_finite())
    }
}
