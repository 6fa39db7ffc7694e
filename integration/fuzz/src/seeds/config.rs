//! Each caller's configuration: as a text, and as the bytes that change nothing, or one thing, in it.

use crate::config::{GIVEN, WORDS, given};

pub(crate) fn configurations() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (number, text) in (1..).zip(GIVEN) {
        let value = given(text, false);
        all.push([&[0][..], value.to_string().as_bytes()].concat());
        let index = number % 4;
        // The whole of it, filter and all, and without that.
        all.extend([vec![index + 4, 255], vec![index + 4, 0]]);
        // One word put in the place of each of its first nodes, and each word and pair of words at its top.
        for node in 0..160_u8 {
            all.push(vec![index + 4, 0, node, 0, 3, node % 40]);
        }
        for word in 0..40 {
            all.push(vec![index + 4, 0, 0, 0, 8, word, (word + 7) % 40]);
        }
    }
    debug_assert_eq!(WORDS.len(), 40);
    all
}
