//! Rounds of a test against somebody who changes meanwhile what it looks at.

use std::time::{Duration, Instant};

/// How long may pass until it has been a race.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many: `MSB_RACES` of them, or `usual`.
#[must_use]
pub fn rounds(usual: u32) -> u32 {
    std::env::var("MSB_RACES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// So many rounds, and as many more as it takes until `round` says that it has been a race: where much else runs, the other side
/// may not have had its turn by then. Not for ever, so whoever calls it asserts that it was one.
pub fn race(rounds: u32, mut round: impl FnMut() -> bool) {
    let begun = Instant::now();
    let mut done = 0;
    loop {
        let was = round();
        done += 1;
        if done >= rounds && (was || begun.elapsed() > PATIENCE) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_race_has_its_rounds_and_those_that_it_takes() {
        for (rounds, from, expected) in [(5, 1, 5), (5, 9, 9)] {
            let mut done = 0;
            race(rounds, || {
                done += 1;
                done >= from
            });
            assert_eq!(done, expected);
        }
    }
}
