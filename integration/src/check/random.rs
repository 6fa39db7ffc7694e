//! Numbers that follow from a seed, so that a failure can be seen again.

/// xorshift64; the seed must not be 0.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next, below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// One of `names`, which are some.
    pub fn of<'a>(&mut self, names: &[&'a str]) -> &'a str {
        let length = u64::try_from(names.len()).expect("a short list");
        names[usize::try_from(self.below(length)).expect("below its length")]
    }
}
