//! What a process writes, as lines of two streams, in the order in which they came, and not more than so many bytes.

use serde::Serialize;

/// Lines of what a process writes.
#[derive(Debug)]
pub(crate) struct Lines {
    done: Vec<Line>,
    /// What each stream wrote after its last line's end.
    open: [Vec<u8>; 2],
    left: usize,
    cut: bool,
}

/// A line that a process wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// Without its end; what is no UTF-8 is replaced.
    pub text: String,
}

/// Which descriptor it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Out,
    Err,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }
}

/// What a line costs beside its text: otherwise empty ones would be for nothing.
const LINE: usize = 16;

impl Lines {
    /// None yet, and at most `most` bytes of them.
    pub(crate) fn at_most(most: usize) -> Self {
        Self { done: Vec::new(), open: [Vec::new(), Vec::new()], left: most, cut: false }
    }

    /// What was written next. Beyond the limit it is dropped.
    pub(crate) fn write(&mut self, side: Side, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.keep(side, &bytes[..end]);
            self.end(side);
            bytes = &bytes[end + 1..];
        }
        self.keep(side, bytes);
    }

    /// A line of our own.
    pub(crate) fn say(&mut self, side: Side, text: String) {
        self.flush(side);
        self.done.push(Line { stream: side.name(), text });
    }

    /// All lines, and whether there were more.
    pub(crate) fn finish(mut self) -> (Vec<Line>, bool) {
        self.flush(Side::Out);
        self.flush(Side::Err);
        (self.done, self.cut)
    }

    fn keep(&mut self, side: Side, bytes: &[u8]) {
        let kept = bytes.len().min(self.left);
        self.left -= kept;
        self.cut |= kept < bytes.len();
        self.open[side as usize].extend_from_slice(&bytes[..kept]);
    }

    fn end(&mut self, side: Side) {
        let open = std::mem::take(&mut self.open[side as usize]);
        if open.is_empty() && self.left < LINE {
            self.cut = true;
            return;
        }
        self.left = self.left.saturating_sub(LINE);
        let text = String::from_utf8_lossy(&open);
        let text = text.strip_suffix('\r').unwrap_or(&text).to_owned();
        self.done.push(Line { stream: side.name(), text });
    }

    fn flush(&mut self, side: Side) {
        if !self.open[side as usize].is_empty() {
            self.end(side);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(most: usize, writes: &[(Side, &[u8])]) -> (Vec<(&'static str, String)>, bool) {
        let mut lines = Lines::at_most(most);
        for (side, bytes) in writes {
            lines.write(*side, bytes);
        }
        let (lines, cut) = lines.finish();
        (lines.into_iter().map(|line| (line.stream, line.text)).collect(), cut)
    }

    #[test]
    fn streams_keep_their_lines_whole_and_their_order() {
        let written: &[(Side, &[u8])] =
            &[(Side::Out, b"a"), (Side::Err, b"x\r\n"), (Side::Out, b"b\n\nc"), (Side::Err, b"\xff")];
        let expected =
            [("stderr", "x"), ("stdout", "ab"), ("stdout", ""), ("stdout", "c"), ("stderr", "\u{fffd}")];
        assert_eq!(
            lines(1000, written),
            (expected.map(|(side, text)| (side, text.to_owned())).to_vec(), false)
        );
    }

    #[test]
    fn a_flood_is_cut() {
        let (kept, cut) = lines(100, &[(Side::Out, &b"y\n".repeat(1000))]);
        assert!(cut && kept.len() < 10);
        let (kept, cut) = lines(100, &[(Side::Out, &b"\n".repeat(1000))]);
        assert!(cut && kept.len() < 10);
        assert_eq!(lines(3, &[(Side::Out, b"abcdef")]), (vec![("stdout", "abc".into())], true));
    }

    proptest! {
        #[test]
        fn how_it_is_cut_into_writes_does_not_matter(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), any::<u8>()], 0..200),
            at in 0_usize..200,
        ) {
            let at = at.min(text.len());
            prop_assert_eq!(
                lines(1 << 20, &[(Side::Out, &text)]),
                lines(1 << 20, &[(Side::Out, &text[..at]), (Side::Out, &text[at..])])
            );
        }
    }
}
