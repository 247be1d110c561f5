//! Cutting texts at ASCII characters: what the standard library can do with any pattern, and pays for in the size of the
//! npm package. A place beside an ASCII character is always one between two characters.

/// The part of `text` from one place to another; empty if there is none.
#[cfg_attr(target_family = "wasm", inline(never))]
pub(crate) fn part(text: &str, from: usize, to: usize) -> &str {
    text.get(from..to).unwrap_or_default()
}

/// What comes before the first of the ASCII characters `marks`, and what comes after it, if one is there.
pub(crate) fn halves(text: &str, marks: [u8; 2]) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == marks[0] || byte == marks[1])?;
    Some((part(text, 0, at), part(text, at + 1, text.len())))
}

/// The beginning of `text` that is made of ASCII characters of a kind, and the rest.
pub(crate) fn span(text: &str, is: fn(&u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !is(&byte)).unwrap_or(text.len());
    (part(text, 0, end), part(text, end, text.len()))
}

/// The first `limit` bytes of `text`, or less, so that it ends at a character.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    part(text, 0, end)
}

/// The parts of a text that are set off by either of two ASCII characters.
#[derive(Clone, Debug)]
pub(crate) struct Parts<'t> {
    rest: Option<&'t str>,
    marks: [u8; 2],
}

impl<'t> Parts<'t> {
    pub(crate) fn of(text: &'t str, mark: u8) -> Self {
        Self::of_either(text, [mark; 2])
    }

    pub(crate) fn of_either(text: &'t str, marks: [u8; 2]) -> Self {
        Self { rest: Some(text), marks }
    }
}

impl<'t> Iterator for Parts<'t> {
    type Item = &'t str;

    #[cfg_attr(target_family = "wasm", inline(never))]
    fn next(&mut self) -> Option<&'t str> {
        let text = self.rest.take()?;
        Some(match halves(text, self.marks) {
            Some((part, rest)) => {
                self.rest = Some(rest);
                part
            }
            None => text,
        })
    }
}
