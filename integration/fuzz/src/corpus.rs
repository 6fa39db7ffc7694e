//! A corpus as it is kept: all inputs of a target in one file, each behind its length (four bytes, little endian).

use std::path::{Path, PathBuf};

/// Where the corpus of a target is, in this package's folder.
#[must_use]
pub fn path(package: &Path, target: &str) -> PathBuf {
    package.join("corpus").join(target)
}

/// The inputs in a file; none: it is no corpus.
#[must_use]
pub fn unpack(mut packed: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut inputs = Vec::new();
    while !packed.is_empty() {
        let (length, rest) = packed.split_first_chunk()?;
        let (input, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        inputs.push(input.to_vec());
        packed = rest;
    }
    Some(inputs)
}

/// A file of these inputs; none: one is too long.
#[must_use]
pub fn pack(inputs: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut packed = Vec::new();
    for input in inputs {
        packed.extend(u32::try_from(input.len()).ok()?.to_le_bytes());
        packed.extend(input);
    }
    Some(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_come_back() {
        let inputs = vec![vec![], vec![1, 2, 3], vec![0; 300]];
        let packed = pack(&inputs).unwrap();
        assert_eq!(unpack(&packed), Some(inputs));
        assert_eq!(unpack(&packed[1..]), None);
        assert_eq!(unpack(&[]), Some(vec![]));
    }
}
