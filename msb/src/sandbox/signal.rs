//! Signals, by name or number.

use nix::sys::signal::Signal;

/// `SIGTERM`, `TERM` or `15`; none: there is no such signal.
#[must_use]
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    name.parse::<Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_or_number() {
        for text in ["TERM", "sigterm", "15"] {
            assert_eq!(parse(text), Some(15));
        }
        for bad in ["", "0", "65", "-1", "NONE"] {
            assert_eq!(parse(bad), None);
        }
    }
}
