//! Where a run of code ends, in what its interpreter writes.

use serde::Deserialize;

/// What an interpreter says of a run when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Word {
    /// Whether nothing went wrong.
    pub good: bool,
    /// What it ends with itself, where the code asked for that.
    pub end: Option<i64>,
    /// Whether it took too long.
    #[serde(default)]
    pub late: bool,
}

/// Looks for the end of a run in what comes in pieces.
pub(super) struct Marker {
    mark: Vec<u8>,
    /// What may be the beginning of the mark, or is after it.
    held: Vec<u8>,
    found: bool,
}

/// What a piece was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// What the code wrote.
    pub text: Vec<u8>,
    /// What was said at the end, if that was seen, and what came after it.
    pub end: Option<(Word, Vec<u8>)>,
}

/// A word is a short line: something longer is none.
const LONGEST_WORD: usize = 256;

impl Marker {
    pub(super) fn of(token: &str) -> Self {
        Self { mark: format!("\n{token}").into_bytes(), held: Vec::new(), found: false }
    }

    /// What is in the next piece.
    pub(super) fn look(&mut self, piece: &[u8]) -> Seen {
        self.held.extend_from_slice(piece);
        let mut text = Vec::new();
        if !self.found {
            let at = self.held.windows(self.mark.len()).position(|window| window == self.mark);
            self.found = at.is_some();
            let until = at.unwrap_or_else(|| self.held.len() - self.beginning());
            text = self.held.drain(..until).collect();
            if !self.found {
                return Seen { text, end: None };
            }
            self.held.drain(..self.mark.len());
        }
        let Some(end) = self.held.iter().position(|&byte| byte == b'\n') else {
            if self.held.len() > LONGEST_WORD {
                // Not of our driver. Nothing more can be made of it.
                self.held.truncate(LONGEST_WORD);
            }
            return Seen { text, end: None };
        };
        let word =
            serde_json::from_slice(&self.held[..end]).unwrap_or(Word { good: false, end: None, late: false });
        let after = self.held.split_off(end + 1);
        self.held.clear();
        Seen { text, end: Some((word, after)) }
    }

    /// How many bytes at the end of what is held the mark may begin with.
    fn beginning(&self) -> usize {
        let longest = self.held.len().min(self.mark.len() - 1);
        (1..=longest).rev().find(|&length| self.held.ends_with(&self.mark[..length])).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(pieces: &[&[u8]]) -> (Vec<u8>, Option<(Word, Vec<u8>)>) {
        let mut marker = Marker::of("TOKEN");
        let mut text = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            let seen = marker.look(piece);
            text.extend(seen.text);
            if let Some((word, mut after)) = seen.end {
                after.extend(pieces[at + 1..].concat());
                return (text, Some((word, after)));
            }
        }
        (text, None)
    }

    #[test]
    fn the_line_end_before_the_mark_is_the_marks() {
        let word = Word { good: true, end: None, late: false };
        let (text, end) = all(&[b"part\nTOKEN{\"good\":true,\"end\":null}\nlate"]);
        assert_eq!((text, end), (b"part".to_vec(), Some((word, b"late".to_vec()))));
        let (text, end) = all(&[b"TOKEN\nTOKE\nno"]);
        assert_eq!((text, end), (b"TOKEN\nTOKE\nno".to_vec(), None));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            text in "[\nTOKEN]{0,40}", after in "[a-z\n]{0,10}", cuts in proptest::collection::vec(0_usize..100, 0..4),
        ) {
            prop_assume!(!text.contains("\nTOKEN"));
            let whole = format!("{text}\nTOKEN{{\"good\":false,\"end\":3}}\n{after}").into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
            cuts.sort_unstable();
            cuts.push(whole.len());
            let mut from = 0;
            let pieces: Vec<&[u8]> =
                cuts.iter().map(|&to| { let piece = &whole[from..to]; from = to; piece }).collect();
            let (seen, end) = all(&pieces);
            prop_assert_eq!(seen, text.into_bytes());
            prop_assert_eq!(end, Some((Word { good: false, end: Some(3), late: false }, after.into_bytes())));
        }
    }
}
