//! The text a simulated provider answers with, made so that a client can tell whether all of it arrived.
//!
//! An answer opens with the beginning of the prompt in quotes, goes on with words (some Chinese, some emoji, so that
//! characters of every UTF-8 length are split across chunks), and closes with a checksum over everything before.
//! It depends on the prompt and the length alone.
//!
//! ```
//! use tidegate::sim::answer::{Verdict, compose, verify};
//!
//! let text = compose("Why is the sky blue?", 40);
//! assert_eq!(verify("Why is the sky blue?", &text), Verdict::Whole);
//! assert_eq!(verify("Why is the sky blue?", &text[..text.len() - 9]), Verdict::Broken);
//! assert_eq!(verify("Why is grass green?", &text), Verdict::Foreign);
//! ```

/// What an answer turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Complete, and the answer to this prompt.
    Whole,
    /// It begins as the answer to this prompt, but something is missing or altered.
    Broken,
    /// The answer to another prompt, or none of the simulator's.
    Foreign,
}

/// How much of the prompt an answer quotes, in characters.
const QUOTED: usize = 48;

const WORDS: [&str; 40] = [
    "tide", "harbour", "water", "signal", "河流", "measure", "gate", "slowly", "light", "and", "then", "evening", "海",
    "rises", "falls", "quiet", "🌊", "channel", "number", "keeps", "between", "stone", "潮汐", "window", "paper",
    "answer", "because", "often", "north", "wind", "naïve", "façade", "below", "above", "moon", "🌙", "counts", "each",
    "boat", "slot",
];

/// Tokens of the opening and the closing, roughly.
const FRAME_TOKENS: u32 = 12;

/// The answer to `prompt`, of about `tokens` tokens (a word is taken for one).
pub fn compose(prompt: &str, tokens: u32) -> String {
    compose_words(prompt, tokens.saturating_sub(FRAME_TOKENS))
}

/// What is to follow `begun`, the beginning of an answer to `prompt` that was broken off, so that both together are a
/// whole answer: what a model does with DeepSeek's chat prefix completion. About `tokens` tokens; an answer of its own
/// if `begun` is not such a beginning.
pub fn resume(prompt: &str, begun: &str, tokens: u32) -> String {
    let spaces = begun.strip_prefix(&opening(prompt)).map_or(0, |rest| rest.matches(' ').count());
    let spaces = u32::try_from(spaces).unwrap_or(u32::MAX);
    // Cut among the words, any longer answer goes on alike; cut within the closing, only the same length does.
    [spaces.saturating_add(tokens.saturating_sub(FRAME_TOKENS)), spaces.saturating_sub(1)]
        .into_iter()
        .find_map(|words| compose_words(prompt, words).strip_prefix(begun).map(str::to_owned))
        .unwrap_or_else(|| compose(prompt, tokens))
}

fn compose_words(prompt: &str, words: u32) -> String {
    let mut text = opening(prompt);
    let mut rng = fastrand::Rng::with_seed(checksum(prompt.as_bytes()));
    for _ in 0..words {
        text.push(' ');
        text.push_str(rng.choice(WORDS).unwrap_or_default());
    }
    text.push_str(&closing(&text));
    text
}

/// Whether `text` is the whole answer to `prompt`.
pub fn verify(prompt: &str, text: &str) -> Verdict {
    if !text.starts_with(&opening(prompt)) {
        return Verdict::Foreign;
    }
    match text.rfind(" #").and_then(|end| text.split_at_checked(end)) {
        Some((before, mark)) if closing(before) == mark => Verdict::Whole,
        _ => Verdict::Broken,
    }
}

fn opening(prompt: &str) -> String {
    let mut text = String::from("“");
    text.extend(prompt.chars().take(QUOTED));
    text.push('”');
    text
}

fn closing(before: &str) -> String {
    format!(" #{:016x}", checksum(before.as_bytes()))
}

/// The last character boundary of `text` at or before `at` (`str::floor_char_boundary` is younger than our Rust).
#[cfg(any(test, not(all(target_family = "wasm", target_os = "unknown"))))]
pub(crate) fn floor_char(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>).
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_answer_is_about_as_long_as_asked() {
        let text = compose("hello", 200);
        assert_eq!(text, compose("hello", 200));
        assert!((185..=200).contains(&text.split(' ').count()));
        assert!(text.chars().any(|c| c.len_utf8() == 3) && text.chars().any(|c| c.len_utf8() == 4));
    }

    proptest! {
        #[test]
        fn an_answer_cut_anywhere_can_be_resumed(prompt in "\\PC{0,60}", tokens in 0u32..80, cut in 0usize..400, more in 0u32..80) {
            let text = compose(&prompt, tokens);
            let begun = &text[..floor_char(&text, cut)];
            prop_assume!(begun.len() >= opening(&prompt).len());
            let resumed = format!("{begun}{}", resume(&prompt, begun, more));
            prop_assert_eq!(verify(&prompt, &resumed), Verdict::Whole);
        }

        #[test]
        fn an_answer_is_whole_only_when_nothing_is_missing(prompt in "\\PC{0,80}", tokens in 0u32..300, cut in 0usize..400) {
            let text = compose(&prompt, tokens);
            prop_assert_eq!(verify(&prompt, &text), Verdict::Whole);
            let cut = floor_char(&text, cut);
            if cut < text.len() {
                prop_assert_ne!(verify(&prompt, &text[..cut]), Verdict::Whole);
            }
            // A piece lost in the middle is noticed as well.
            let open = opening(&prompt).len();
            let lost = floor_char(&text, cut.max(open));
            if lost > open {
                let text = format!("{}{}", &text[..open], &text[lost..]);
                prop_assert_eq!(verify(&prompt, &text), Verdict::Broken);
            }
        }
    }
}
