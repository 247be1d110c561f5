//! What an answer cost, by a price table.
//!
//! DeepSeek doubles its prices at peak times, which exclude Chinese public holidays. The dates of those are announced
//! year by year and are not known here, so on a holiday the peak price is assumed: an upper bound. Money granted by
//! DeepSeek is not told apart from money paid.

use alloc::boxed::Box;
use alloc::vec::Vec;
#[cfg(not(feature = "std"))]
use num_traits::Float as _;

use super::tokens::TokenCount;
use core::fmt;
use core::iter::Sum;
use core::ops::AddAssign;

/// The currency of a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Currency {
    /// US dollar.
    Usd,
    /// Chinese yuan.
    Cny,
}

/// Prices of a million tokens, in millionths of the currency's unit: 150,000 is $0.15 a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Of prompt tokens from the provider's cache.
    pub cache_hit: u64,
    /// Of other prompt tokens.
    pub cache_miss: u64,
    /// Of generated tokens, reasoning included.
    pub output: u64,
}

impl Price {
    /// A price from units of the currency a million tokens, as price lists state it: `(0.003, 0.15, 0.60)`.
    /// Rounded to millionths; `None` for a price that is negative, not a number, or a million units and more.
    pub fn per_million(cache_hit: f64, cache_miss: f64, output: f64) -> Option<Self> {
        let micros = |units: f64| (0.0..1e6).contains(&units).then(|| (units * 1e6).round() as u64);
        Some(Self { cache_hit: micros(cache_hit)?, cache_miss: micros(cache_miss)?, output: micros(output)? })
    }

    /// Twice the price: DeepSeek's at peak times.
    #[must_use]
    pub const fn doubled(self) -> Self {
        let Self { cache_hit, cache_miss, output } = self;
        Self {
            cache_hit: cache_hit.saturating_mul(2),
            cache_miss: cache_miss.saturating_mul(2),
            output: output.saturating_mul(2),
        }
    }

    /// What `tokens` cost.
    pub fn of(self, tokens: TokenCount) -> Cost {
        let line = |count: u64, price: u64| u128::from(count).saturating_mul(u128::from(price));
        // A provider that claims more cached tokens than prompt tokens is not to be paid for the difference.
        let cached = tokens.cached.min(tokens.prompt);
        let lines = [
            line(cached, self.cache_hit),
            line(tokens.uncached(), self.cache_miss),
            line(tokens.completion, self.output),
        ];
        Cost { picos: lines.into_iter().fold(0, u128::saturating_add) }
    }
}

/// An amount of money, exact: whole picounits (10⁻¹²) of a currency. A token's price in millionths a million is
/// just that many picounits, so no sum is ever rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost {
    picos: u128,
}

impl Cost {
    /// Nothing.
    pub const ZERO: Self = Self { picos: 0 };

    /// In 10⁻¹² of the currency's unit.
    pub fn picos(self) -> u128 {
        self.picos
    }

    /// In millionths of the currency's unit.
    pub fn micros(self) -> f64 {
        self.picos as f64 / 1e6
    }

    /// In the currency's unit.
    pub fn units(self) -> f64 {
        self.picos as f64 / 1e12
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.picos = self.picos.saturating_add(other.picos);
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::ZERO, |mut sum, cost| {
            sum += cost;
            sum
        })
    }
}

/// In the currency's unit with six decimals, cut off: `0.000144`.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.picos / 1_000_000;
        write!(f, "{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

/// A model's prices at peak times and otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tariff {
    /// Outside peak times.
    pub off_peak: Price,
    /// At [peak times](is_peak).
    pub peak: Price,
}

impl Tariff {
    /// The same price at all times.
    pub const fn flat(price: Price) -> Self {
        Self { off_peak: price, peak: price }
    }

    /// DeepSeek's way: at peak times exactly double.
    pub const fn doubled_at_peak(off_peak: Price) -> Self {
        Self { off_peak, peak: off_peak.doubled() }
    }
}

/// Whether `unix` (seconds since 1970) lies in DeepSeek's peak times: Monday to Friday, 01:00–04:00 and 06:00–10:00 UTC
/// (09:00–12:00 and 14:00–18:00 in Beijing), as its
/// [price list](https://api-docs.deepseek.com/quick_start/pricing) stated it in November 2026. Chinese public holidays
/// are off-peak there, but count as peak here.
pub fn is_peak(unix: u64) -> bool {
    // 1970-01-01 was a Thursday; Monday is 0.
    let weekday = (unix / 86_400 + 3) % 7;
    let hour = unix / 3_600 % 24;
    weekday < 5 && ((1..4).contains(&hour) || (6..10).contains(&hour))
}

/// Prices by model, in one currency.
#[derive(Clone, Debug, PartialEq)]
pub struct PriceTable {
    currency: Currency,
    /// Few enough to be searched in order.
    tariffs: Vec<(Box<str>, Tariff)>,
}

const fn price(cache_hit: u64, cache_miss: u64, output: u64) -> Price {
    Price { cache_hit, cache_miss, output }
}

impl PriceTable {
    /// A table without models.
    pub fn empty(currency: Currency) -> Self {
        Self { currency, tariffs: Vec::new() }
    }

    /// DeepSeek's [prices](https://api-docs.deepseek.com/quick_start/pricing) of November 2026, for calls to DeepSeek
    /// itself: other providers of the same models have their own. Its names `deepseek-v4-flash` and
    /// `deepseek-v4-flash-vision-exp` are billed as `deepseek-flash`.
    pub fn deepseek(currency: Currency) -> Self {
        let (flash, pro) = match currency {
            Currency::Usd => (price(3_000, 150_000, 600_000), price(22_000, 660_000, 1_980_000)),
            Currency::Cny => (price(20_000, 1_000_000, 4_000_000), price(150_000, 4_500_000, 13_500_000)),
        };
        let mut table = Self::empty(currency);
        for model in ["deepseek-flash", "deepseek-v4-flash", "deepseek-v4-flash-vision-exp"] {
            table.set(model, Tariff::doubled_at_peak(flash));
        }
        table.set("deepseek-v4-pro", Tariff::doubled_at_peak(pro));
        table
    }

    /// The currency of all prices of the table.
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// Sets the prices of `model`, in place of those it had.
    pub fn set(&mut self, model: &str, tariff: Tariff) {
        match self.tariffs.iter_mut().find(|(name, _)| **name == *model) {
            Some((_, old)) => *old = tariff,
            None => self.tariffs.push((model.into(), tariff)),
        }
    }

    /// The price of `model` at `unix` (seconds since 1970); `None` for a model without prices, never a guess.
    pub fn price(&self, model: &str, unix: u64) -> Option<Price> {
        let (_, tariff) = self.tariffs.iter().find(|(name, _)| **name == *model)?;
        Some(if is_peak(unix) { tariff.peak } else { tariff.off_peak })
    }

    /// What `tokens` of `model` cost when billed at `unix` (seconds since 1970); `None` for a model without prices.
    ///
    /// An upper bound on Chinese public holidays, and where the provider does not tell which tokens were cached.
    pub fn cost(&self, model: &str, tokens: TokenCount, unix: u64) -> Option<Cost> {
        Some(self.price(model, unix)?.of(tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sunday 2026-11-22 00:00 UTC.
    const SUNDAY: u64 = 1_795_305_600;
    const HOUR: u64 = 3_600;
    const DAY: u64 = 24 * HOUR;

    #[test]
    fn peak_is_seven_hours_of_each_beijing_working_day() {
        let peak_hours =
            |day: u64| (0..24).filter(|hour| is_peak(SUNDAY + day * DAY + hour * HOUR)).collect::<Vec<_>>();
        assert!(peak_hours(0).is_empty(), "Sunday");
        for day in 1..=5 {
            assert_eq!(peak_hours(day), [1, 2, 3, 6, 7, 8, 9], "{day} days after Sunday");
        }
        assert!(peak_hours(6).is_empty(), "Saturday");
    }

    #[test]
    fn peak_begins_and_ends_on_the_second() {
        let monday = SUNDAY + DAY;
        for (begin, end) in [(1, 4), (6, 10)] {
            let (begin, end) = (monday + begin * HOUR, monday + end * HOUR);
            assert_eq!([begin - 1, begin, end - 1, end].map(is_peak), [false, true, true, false]);
        }
        assert!(!is_peak(0));
    }

    #[test]
    fn a_million_of_each_costs_the_list_price_and_double_at_peak() {
        let tokens = TokenCount { prompt: 2_000_000, cached: 1_000_000, completion: 1_000_000, reasoning: 900_000 };
        let cost = |currency, model, unix| {
            PriceTable::deepseek(currency).cost(model, tokens, unix).map(|cost| cost.to_string())
        };
        let peak = SUNDAY + DAY + HOUR;
        for (currency, model, off_peak, at_peak) in [
            (Currency::Usd, "deepseek-flash", "0.753000", "1.506000"),
            (Currency::Usd, "deepseek-v4-flash-vision-exp", "0.753000", "1.506000"),
            (Currency::Usd, "deepseek-v4-pro", "2.662000", "5.324000"),
            (Currency::Cny, "deepseek-v4-flash", "5.020000", "10.040000"),
            (Currency::Cny, "deepseek-v4-pro", "18.150000", "36.300000"),
        ] {
            assert_eq!(cost(currency, model, SUNDAY).as_deref(), Some(off_peak), "{model}");
            assert_eq!(cost(currency, model, peak).as_deref(), Some(at_peak), "{model}");
        }
    }

    #[test]
    fn an_unknown_model_has_no_price_until_it_is_given_one() {
        let mut table = PriceTable::deepseek(Currency::Usd);
        let tokens = TokenCount { prompt: 10, completion: 5, ..TokenCount::default() };
        assert_eq!(table.cost("deepseek-flash-2", tokens, SUNDAY), None);
        assert_eq!(table.cost("", tokens, SUNDAY), None);
        let price = Price::per_million(0.0, 0.5, 2.0).unwrap();
        table.set("deepseek-flash-2", Tariff::flat(price));
        let cost = table.cost("deepseek-flash-2", tokens, SUNDAY + DAY + HOUR).unwrap();
        assert_eq!((cost.picos(), cost.micros()), (15_000_000, 15.0));
        table.set("deepseek-flash-2", Tariff::flat(price.doubled()));
        assert_eq!(table.cost("deepseek-flash-2", tokens, SUNDAY).unwrap().picos(), 30_000_000);
    }

    #[test]
    fn a_price_is_a_finite_number_that_is_not_negative() {
        for bad in [-0.1, f64::NAN, f64::INFINITY, 1e6] {
            assert_eq!(Price::per_million(0.0, bad, 0.0), None, "{bad}");
        }
        assert_eq!(Price::per_million(0.003, 0.15, 0.6), Some(price(3_000, 150_000, 600_000)));
    }

    proptest! {
        #[test]
        fn no_count_overflows_and_no_cached_token_costs_twice(
            prompt: u64, cached: u64, completion: u64, reasoning: u64, hit: u64, miss: u64, output: u64,
        ) {
            let tokens = TokenCount { prompt, cached, completion, reasoning };
            let dear = Price { cache_hit: hit.max(miss), cache_miss: hit.max(miss), output };
            prop_assert!(price(hit, miss, output).of(tokens) <= dear.of(tokens));
            prop_assert!(price(hit, miss, output).of(tokens) <= price(hit, miss, output).doubled().of(tokens));
        }
    }
}
