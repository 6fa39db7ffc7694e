//! Moments, as `--since` takes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use msb_runtime::verbs::clock::rfc3339;

use crate::options;

/// A time of RFC 3339, seconds since 1970, or how long ago.
///
/// # Errors
/// What to give instead.
pub fn moment(text: &str) -> Result<SystemTime, String> {
    let bad = || format!("{text:?} is no time: give one like 2026-01-31T12:00:00Z, or like 10m");
    if let Some(since) = written(text) {
        return UNIX_EPOCH.checked_add(since).ok_or_else(bad);
    }
    // Without a unit it would be a number of seconds ago, and is one since 1970.
    if let Ok(seconds) = text.parse() {
        return UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or_else(bad);
    }
    let ago = options::time(text).map_err(|_| bad())?;
    SystemTime::now().checked_sub(ago).ok_or_else(bad)
}

/// Since 1970, of a time as RFC 3339 writes it. A fraction of a second is left out.
fn written(text: &str) -> Option<Duration> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let numbers = |text: &str, by: char| -> Option<[u64; 3]> {
        let parts: Vec<u64> = text.split(by).map(str::parse).collect::<Result<_, _>>().ok()?;
        parts.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let (clock, offset) = match rest.strip_suffix(['Z', 'z']) {
        Some(clock) => (clock, 0),
        None => {
            let at = rest.rfind(['+', '-'])?;
            let (hours, minutes) = rest[at + 1..].split_once(':')?;
            let seconds = (hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?).checked_mul(60)?;
            (&rest[..at], if rest[at..].starts_with('-') { -seconds } else { seconds })
        }
    };
    let [hour, minute, second] = numbers(clock.split('.').next()?, ':')?;
    if !(1970..10_000).contains(&year)
        || !(1..=12).contains(&month)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    // Years begin with March, so that the leap day is the last: the other way round in `rfc3339`.
    let (year, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * from_march + 2) / 5 + day;
    let midnight = Duration::from_secs(days.checked_sub(719_469)? * 86_400);
    // A day that no month has would become one of the next.
    if !rfc3339(midnight).starts_with(date) {
        return None;
    }
    let local = i64::try_from(midnight.as_secs() + hour * 3600 + minute * 60 + second).ok()?;
    local.checked_sub(offset)?.try_into().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_as_docker_takes_them() {
        let at = |seconds| Ok(UNIX_EPOCH + Duration::from_secs(seconds));
        for (text, seconds) in [
            ("1700000000", 1_700_000_000),
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-02T01:00:00+01:00", 86_400),
            ("2000-02-29T00:00:00.5Z", 951_782_400),
            ("2024-02-29T18:59:59-05:00", 1_709_251_199),
            ("2025-01-01T00:00:00Z", 1_735_689_600),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(moment(text), at(seconds), "{text}");
        }
        let ago = moment("10m").unwrap().elapsed().unwrap().as_secs();
        assert!((600..660).contains(&ago), "{ago}");
        for bad in [
            "",
            "yesterday",
            "10x",
            "2026-01-31",
            "99999999999999999999",
            "2026-02-31T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "1970-01-01T00:00:00+01:00",
            "2026-1-1T00:00:00Z",
            "2026-01-01T00:00:00",
        ] {
            moment(bad).unwrap_err();
        }
    }
}
