//! A tree of names in two vectors: directories before what is in them, the names of one directory side by side and sorted.
//!
//! In: names by their parent. Out: children, parents, paths. What is known about a name is the user's.
//! It must never know a disk or a host.

use std::ops::Range;
use std::path::PathBuf;

use crate::tree::{NAME_MAX, PATH_MAX};

/// A name in the tree, and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name<T> {
    /// The root's is itself.
    pub(super) parent: u32,
    start: u32,
    length: u8,
    /// The user's.
    pub(super) value: T,
}

/// Names, each directory's side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names<T> {
    all: Vec<Name<T>>,
    bytes: Vec<u8>,
}

/// A tree would have more names, more bytes or longer paths than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// More than 4 GiB of names, or more than 2^32 of them.
    Names,
    /// Siblings out of order, a name twice, or directories out of order.
    Order,
    /// A name that no directory can have.
    Unlawful,
}

pub(super) const ROOT: u32 = 0;

impl<T> Names<T> {
    /// Only the root.
    pub(super) fn new(root: T) -> Self {
        Self { all: vec![Name { parent: ROOT, start: 0, length: 0, value: root }], bytes: Vec::new() }
    }

    /// Adds a name behind its siblings; all of `parent`'s siblings' names are there already or will not come.
    pub(super) fn add(&mut self, parent: u32, name: &[u8], value: T) -> Result<u32, Full> {
        let number = u32::try_from(self.all.len()).map_err(|_| Full::Names)?;
        let start = u32::try_from(self.bytes.len()).map_err(|_| Full::Names)?;
        let length = u8::try_from(name.len()).map_err(|_| Full::Unlawful)?;
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
            return Err(Full::Unlawful);
        }
        let last = number - 1;
        let before = self.at(last).parent;
        let ordered = parent < number
            && (before < parent || last == ROOT || (before == parent && self.name(last) < name));
        if !ordered {
            return Err(Full::Order);
        }
        self.bytes.extend_from_slice(name);
        self.all.push(Name { parent, start, length, value });
        Ok(number)
    }

    /// How many, with the root.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.all.len()).expect("no more were added")
    }

    /// Bytes of all names.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn at(&self, number: u32) -> &Name<T> {
        &self.all[index(number)]
    }

    pub(super) fn name(&self, number: u32) -> &[u8] {
        let name = self.at(number);
        let start = index(name.start);
        &self.bytes[start..start + usize::from(name.length)]
    }

    /// What is in a directory.
    pub(super) fn children(&self, parent: u32) -> Range<u32> {
        // The root is its own parent, but nobody's child.
        let rest = &self.all[1..];
        let [first, end] = [
            rest.partition_point(|name| name.parent < parent),
            rest.partition_point(|name| name.parent <= parent),
        ]
        .map(|position| u32::try_from(position + 1).expect("no more were added"));
        first..end
    }

    /// The child of that name.
    pub(super) fn child(&self, parent: u32, name: &[u8]) -> Option<u32> {
        let children = self.children(parent);
        let (mut low, mut high) = (children.start, children.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle).cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    /// From the root, without a leading slash; the root's own is empty.
    pub(super) fn path(&self, mut number: u32) -> PathBuf {
        let mut parts = Vec::new();
        while number != ROOT {
            parts.push(number);
            number = self.at(number).parent;
        }
        let mut path = PathBuf::new();
        for number in parts.into_iter().rev() {
            let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(self.name(number));
            path.push(name);
        }
        path
    }
}

impl<T: Clone> Names<T> {
    /// What is in one of them or in both; of those in both, `other`'s.
    pub(super) fn merged(&self, other: &Self) -> Result<Self, Full> {
        let mut merged = Self::new(other.at(ROOT).value.clone());
        let mut sources = vec![(Some(ROOT), Some(ROOT))];
        let mut next = 0;
        while let Some((one, two)) = sources.get(next).copied() {
            let parent = u32::try_from(next).map_err(|_| Full::Names)?;
            let mut left = one.map_or(0..0, |number| self.children(number)).peekable();
            let mut right = two.map_or(0..0, |number| other.children(number)).peekable();
            loop {
                let pair = match (left.peek(), right.peek()) {
                    (None, None) => break,
                    (Some(_), None) => (left.next(), None),
                    (None, Some(_)) => (None, right.next()),
                    (Some(one), Some(two)) => match self.name(*one).cmp(other.name(*two)) {
                        std::cmp::Ordering::Less => (left.next(), None),
                        std::cmp::Ordering::Greater => (None, right.next()),
                        std::cmp::Ordering::Equal => (left.next(), right.next()),
                    },
                };
                let (tree, number) = match pair {
                    (_, Some(two)) => (other, two),
                    (Some(one), None) => (self, one),
                    (None, None) => break,
                };
                merged.add(parent, tree.name(number), tree.at(number).value.clone())?;
                sources.push(pair);
            }
            next += 1;
        }
        Ok(merged)
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("32 bits fit in usize on every supported machine")
}

const _: () = assert!(NAME_MAX == u8::MAX as usize && PATH_MAX > NAME_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and values, a directory's children behind it.
    fn tree(names: &[(u32, &str, u8)]) -> Names<u8> {
        let mut tree = Names::new(0);
        for (parent, name, value) in names {
            tree.add(*parent, name.as_bytes(), *value).unwrap();
        }
        tree
    }

    fn paths(tree: &Names<u8>) -> Vec<(String, u8)> {
        (1..tree.len()).map(|at| (tree.path(at).to_str().unwrap().to_owned(), tree.at(at).value)).collect()
    }

    #[test]
    fn children_are_found() {
        let tree = tree(&[(0, "a", 1), (0, "b", 2), (0, "c", 3), (1, "x", 4), (3, "y", 5), (3, "z", 6)]);
        assert_eq!(tree.children(ROOT), 1..4);
        assert_eq!(tree.children(1), 4..5);
        assert!(tree.children(2).is_empty() && tree.children(6).is_empty());
        assert_eq!(tree.children(3), 5..7);
        assert_eq!(tree.child(3, b"z"), Some(6));
        assert_eq!(tree.child(3, b"a"), None);
        assert_eq!(tree.path(6).to_str(), Some("c/z"));
    }

    #[test]
    fn the_unlawful_is_refused() {
        let mut tree = tree(&[(0, "a", 1), (0, "c", 2), (1, "x", 3)]);
        assert_eq!(tree.add(0, b"d", 0), Err(Full::Order));
        assert_eq!(tree.add(1, b"x", 0), Err(Full::Order));
        assert_eq!(tree.add(1, b"w", 0), Err(Full::Order));
        assert_eq!(tree.add(4, b"w", 0), Err(Full::Order));
        for name in [&b""[..], b".", b"..", b"a/b", b"\0", &[b'n'; 256]] {
            assert_eq!(tree.add(2, name, 0), Err(Full::Unlawful), "{name:?}");
        }
    }

    #[test]
    fn two_trees_become_one() {
        let one = tree(&[(0, "a", 1), (0, "b", 2), (1, "x", 3), (2, "y", 4)]);
        let two = tree(&[(0, "b", 5), (0, "c", 6), (1, "a", 7), (1, "y", 8)]);
        let expected = [("a", 1), ("b", 5), ("c", 6), ("a/x", 3), ("b/a", 7), ("b/y", 8)]
            .map(|(p, v)| (p.to_owned(), v));
        assert_eq!(paths(&one.merged(&two).unwrap()), expected);
        assert_eq!(paths(&one.merged(&one).unwrap()), paths(&one));
        assert_eq!(paths(&tree(&[]).merged(&two).unwrap()), paths(&two));
    }
}
