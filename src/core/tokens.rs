//! Tokens: what an answer used, and what a request will use before anybody counted.

/// The tokens of one answer, for accounting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TokenCount {
    /// All of the prompt, cached or not.
    pub prompt: u64,
    /// The part of the prompt that came from the provider's cache; 0 when the provider does not say.
    pub cached: u64,
    /// All that was generated, reasoning included.
    pub completion: u64,
    /// The part of the completion that was reasoning; 0 when the provider does not say.
    pub reasoning: u64,
}

impl TokenCount {
    /// Prompt and completion together.
    pub fn total(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// The part of the prompt that was not in the cache.
    pub fn uncached(self) -> u64 {
        self.prompt.saturating_sub(self.cached)
    }
}

impl std::ops::AddAssign for TokenCount {
    fn add_assign(&mut self, other: Self) {
        self.prompt = self.prompt.saturating_add(other.prompt);
        self.cached = self.cached.saturating_add(other.cached);
        self.completion = self.completion.saturating_add(other.completion);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
    }
}

/// Tokens of an ASCII character, by DeepSeek's rule of thumb
/// (<https://api-docs.deepseek.com/quick_start/token_usage>).
const ASCII: f64 = 0.3;
/// Tokens of a Chinese character by the same rule. Other scripts outside ASCII are counted the same: rather too many
/// than too few.
const WIDE: f64 = 0.6;

/// The tokens of `text` by DeepSeek's rule of thumb: 0.3 an ASCII character, 0.6 any other.
/// An [`Estimator`] corrects it by what the provider counted.
pub fn estimate(text: &str) -> f64 {
    estimate_bytes(text.as_bytes())
}

/// [`estimate`] over UTF-8 that may be cut anywhere.
pub(crate) fn estimate_bytes(utf8: &[u8]) -> f64 {
    let ascii = utf8.iter().filter(|byte| byte.is_ascii()).count();
    let starts = utf8.iter().filter(|byte| **byte >= 0xC0).count();
    ascii as f64 * ASCII + starts as f64 * WIDE
}

/// Corrects [`estimate`] by what the provider really counted.
///
/// It keeps a moving average of actual tokens over estimated ones. Text of another language, code, or the tokens that
/// a chat template adds all show there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimator {
    ratio: f64,
    seen: u32,
}

impl Estimator {
    /// The share of a new sample once the average has settled: the last 20 answers or so count.
    const ALPHA: f64 = 0.05;
    /// A prompt estimated at fewer tokens teaches nothing: what the chat template adds outweighs its text.
    const MIN_SAMPLE: f64 = 32.0;
    /// One sample counts as at most this far off, either way: a prompt of images, or a nonsense count, must not
    /// spoil the average.
    const MAX_RATIO: f64 = 4.0;

    /// An estimator that trusts the rule of thumb until it learns better.
    pub fn new() -> Self {
        Self { ratio: 1.0, seen: 0 }
    }

    /// Learned actual tokens per estimated token, between 0.25 and 4; 1 at first.
    pub fn ratio(&self) -> f64 {
        self.ratio
    }

    /// `estimated` tokens (from [`estimate`]) corrected by what was learned, rounded up. NaN and negatives give 0.
    pub fn correct(&self, estimated: f64) -> u64 {
        // A float-to-integer cast saturates, and takes NaN to 0.
        (estimated * self.ratio).ceil() as u64
    }

    /// Learns that a text estimated (by [`estimate`], uncorrected) at `estimated` tokens was counted as `actual` by the
    /// provider. Samples that are zero, not finite or too short to tell are ignored.
    pub fn learn(&mut self, estimated: f64, actual: u64) {
        if !estimated.is_finite() || estimated < Self::MIN_SAMPLE || actual == 0 {
            return;
        }
        let sample = (actual as f64 / estimated).clamp(1.0 / Self::MAX_RATIO, Self::MAX_RATIO);
        self.seen = self.seen.saturating_add(1);
        let alpha = f64::from(self.seen).recip().max(Self::ALPHA);
        self.ratio += alpha * (sample - self.ratio);
    }
}

impl Default for Estimator {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn english_costs_three_tenths_a_character_and_chinese_six() {
        assert!(near(estimate("hello world"), 3.3));
        assert!(near(estimate("深度求索"), 2.4));
        assert!(near(estimate("a深"), 0.9));
        assert!(near(estimate(""), 0.0));
    }

    #[test]
    fn the_first_sample_replaces_the_rule_of_thumb_and_later_ones_move_it_slowly() {
        let mut estimator = Estimator::new();
        assert_eq!(estimator.correct(100.0), 100);
        estimator.learn(100.0, 150);
        assert!(near(estimator.ratio(), 1.5));
        for _ in 0..1000 {
            estimator.learn(100.0, 80);
        }
        assert!((estimator.ratio() - 0.8).abs() < 1e-3, "{estimator:?}");
        let before = estimator.ratio();
        estimator.learn(100.0, u64::MAX);
        assert!(estimator.ratio() - before < 0.2, "one absurd count moved the ratio to {}", estimator.ratio());
    }

    #[test]
    fn what_cannot_teach_is_ignored() {
        let mut estimator = Estimator::new();
        for (estimated, actual) in
            [(0.0, 5), (f64::NAN, 5), (f64::INFINITY, 5), (-9.0, 5), (1.0, 20), (100.0, 0), (f64::MAX, 0)]
        {
            estimator.learn(estimated, actual);
        }
        assert_eq!(estimator, Estimator::new());
        assert_eq!(estimator.correct(f64::NAN), 0);
        assert_eq!(estimator.correct(-1.0), 0);
    }

    #[test]
    fn a_count_that_claims_more_cached_than_prompt_does_not_underflow() {
        let count = TokenCount { prompt: 3, cached: 9, completion: u64::MAX, reasoning: 0 };
        assert_eq!((count.uncached(), count.total()), (0, u64::MAX));
    }

    proptest! {
        #[test]
        fn the_estimate_is_that_of_its_characters(text in "\\PC*") {
            let expected: f64 = text.chars().map(|c| if c.is_ascii() { ASCII } else { WIDE }).sum();
            prop_assert!((estimate(&text) - expected).abs() < 1e-6);
        }

        #[test]
        fn the_ratio_stays_within_its_bounds(samples in proptest::collection::vec((any::<f64>(), any::<u64>()), 0..200)) {
            let mut estimator = Estimator::new();
            for (estimated, actual) in samples {
                estimator.learn(estimated, actual);
                prop_assert!((0.25..=4.0).contains(&estimator.ratio()));
            }
        }
    }
}
