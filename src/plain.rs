//! Words of a guest, an image or a registry, for a person's terminal: what would steer it is taken out.
//!
//! Enters: any text. Leaves: the same with a question mark for each character that a terminal obeys instead of showing it:
//! control characters of both sets (ISO 6429), and those that turn the direction of what follows. Whatever of ours is
//! printed and has another's words in it goes through here; what a container itself writes to its streams does not, and
//! JSON is for programs.

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
        assert_eq!(line("plain, ßtraight: 1/2"), "plain, ßtraight: 1/2");
    }
}
