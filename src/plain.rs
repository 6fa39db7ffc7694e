//! Words of a guest, an image or a registry, for a person's terminal: what would steer it is taken out.
//!
//! Enters: any text. Leaves: the same with a question mark for each character that a terminal obeys instead of showing it:
//! control characters of both sets (ISO 6429), and those that turn the direction of what follows. Whatever of ours is
//! printed and has another's words in it goes through here; what a container itself writes to its streams does not. JSON
//! stays JSON: programs read from it what was said.

/// In a line: line ends and tabs are taken out too.
#[must_use]
pub fn line(text: &str) -> String {
    text.chars().map(|one| if steers(one) { '?' } else { one }).collect()
}

/// In several lines, which may end as a serial console's do.
#[must_use]
pub fn lines(text: &str) -> String {
    text.replace("\r\n", "\n")
        .chars()
        .map(|one| if steers(one) && !matches!(one, '\n' | '\t') { '?' } else { one })
        .collect()
}

/// JSON, in which serde_json leaves the second set of control characters and the marks as they are.
#[must_use]
pub fn json(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for one in text.chars() {
        // What is left of the first set is between values.
        if steers(one) && !one.is_ascii_whitespace() {
            plain.push_str(&format!("\\u{:04x}", u32::from(one)));
        } else {
            plain.push(one);
        }
    }
    plain
}

fn steers(one: char) -> bool {
    // Unicode, section 23.2: line and paragraph separators, and the marks, embeddings and isolates of bidirectional text.
    let turns = matches!(one, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    one.is_control() || turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown_as_a_question() {
        let text = "a\u{1b}[2J\u{9b}31m\rb\u{7}\u{7f}\u{202e}\u{61c}c\n\tä";
        assert_eq!(line(text), "a?[2J?31m?b????c??ä");
        assert_eq!(lines("one\r\ntwo\rthree"), "one\ntwo?three");
        assert_eq!(lines(text), "a?[2J?31m?b????c\n\tä");
        let value = serde_json::json!({"a\u{9b}": [text, "\u{2029}"]});
        for written in [json(&value.to_string()), json(&format!("{value:#}"))] {
            assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), value);
            assert!(
                written.contains("\\u009b31m") && !written.chars().any(|one| steers(one) && one != '\n'),
                "{written}"
            );
        }
        assert_eq!(line("plain, ßtraight: 1/2"), "plain, ßtraight: 1/2");
    }
}
