//! What is found by a name.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// Numbers by name, in the order of the names.
///
/// A sorted list: names come and go rarely, so that moving the rest for a new one costs nothing that shows, and a tree or
/// a hash table would cost the npm package several kilobytes.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<(Box<str>, u32)>);

impl Names {
    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| (**other).cmp(name))
    }

    pub(super) fn get(&self, name: &str) -> Option<u32> {
        self.place(name).ok().map(|at| self.0[at].1)
    }

    /// Adds a name; a known one keeps its number.
    pub(super) fn insert(&mut self, name: Box<str>, number: u32) {
        if let Err(at) = self.place(&name) {
            self.0.insert(at, (name, number));
        }
    }

    /// Forgets those whose number is `gone`.
    pub(super) fn forget(&mut self, gone: &dyn Fn(u32) -> bool) {
        self.0.retain(|&(_, number)| !gone(number));
    }

    /// The numbers, in the order of the names.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|&(_, number)| number)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_until_its_number_is_forgotten() {
        let mut names = Names::default();
        for (number, name) in ["b", "a", "", "ab", "c"].into_iter().enumerate() {
            names.insert(name.into(), number as u32);
        }
        assert_eq!(names.numbers().collect::<Vec<_>>(), [2, 1, 3, 0, 4]);
        assert_eq!((names.get("ab"), names.get("abc")), (Some(3), None));
        names.forget(&|number| number == 0 || number == 3);
        assert_eq!((names.get("ab"), names.get("b"), names.get("c"), names.len()), (None, None, Some(4), 3));
    }
}
