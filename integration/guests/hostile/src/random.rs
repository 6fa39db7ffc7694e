//! Numbers that are the same in each run: a failure is to be seen again.

/// Marsaglia's xorshift, with his numbers 13, 7 and 17.
#[derive(Debug, Clone, Copy)]
pub struct Random(u64);

impl Random {
    /// Those that follow from `seed`.
    pub fn of(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// One below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.any() % end
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of `all`, which are some.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let at = usize::try_from(self.below(all.len() as u64)).unwrap_or_default();
        all[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_its_numbers_and_all_are_reached() {
        let numbers = |seed| {
            let mut random = Random::of(seed);
            [random.any(), random.any(), random.any()]
        };
        assert_eq!(numbers(5), numbers(5));
        assert_ne!(numbers(5), numbers(7));
        let mut random = Random::of(0);
        let mut seen = [0; 6];
        for _ in 0..600 {
            seen[usize::try_from(random.below(6)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
    }
}
