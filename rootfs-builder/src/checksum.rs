//! CRC-32C as the kernel computes it, for the metadata of EROFS and ext4.
//!
//! In: a seed and bytes. Out: the shift register as it stands, with no final inversion (`crc32c()` in `lib/crc/`),
//! so that a checksum can be continued by passing it as the next seed.

/// The Castagnoli polynomial, bits reversed (RFC 3720, section 12.1).
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The seed with which both file systems begin.
pub const SEED: u32 = !0;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut value: u32 = 0;
    let mut index = 0;
    while index < 256 {
        let mut register = value;
        let mut bit = 0;
        while bit < 8 {
            register = (register >> 1) ^ (POLYNOMIAL * (register & 1));
            bit += 1;
        }
        table[index] = register;
        index += 1;
        value += 1;
    }
    table
}

/// Continues the checksum `seed` over `bytes`.
#[must_use]
pub fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |register, byte| {
        let [low, ..] = register.to_le_bytes();
        (register >> 8) ^ TABLE[usize::from(low ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4, and the check value of the CRC catalogue.
    #[test]
    fn known_answers() {
        assert_eq!(!crc32c(SEED, b"123456789"), 0xe306_9283);
        assert_eq!(!crc32c(SEED, &[0; 32]), 0x8a91_36aa);
        assert_eq!(!crc32c(SEED, &[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn a_checksum_can_be_continued() {
        assert_eq!(crc32c(crc32c(SEED, b"1234"), b"56789"), crc32c(SEED, b"123456789"));
    }
}
