//! CRC-32C and CRC-16 as the kernel computes them, for the metadata of EROFS and ext4.
//!
//! In: a seed and bytes. Out: the shift register as it stands, with no final inversion (`crc32c()` and `crc16()` in
//! `lib/crc/`), so that a checksum can be continued by passing it as the next seed.

/// The Castagnoli polynomial, bits reversed (RFC 3720, section 12.1).
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The seed with which EROFS begins.
pub const SEED: u32 = !0;

/// The polynomial of CRC-16/ARC, bits reversed (`lib/crc/crc16.c`).
const POLYNOMIAL_16: u32 = 0xa001;

const TABLE: [u32; 256] = table(POLYNOMIAL);
const TABLE_16: [u32; 256] = table(POLYNOMIAL_16);

const fn table(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut value: u32 = 0;
    let mut index = 0;
    while index < 256 {
        let mut register = value;
        let mut bit = 0;
        while bit < 8 {
            register = (register >> 1) ^ (polynomial * (register & 1));
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

/// Continues the checksum `seed` over `bytes`.
#[must_use]
pub fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    let register = bytes.iter().fold(u32::from(seed), |register, byte| {
        let [low, ..] = register.to_le_bytes();
        (register >> 8) ^ TABLE_16[usize::from(low ^ byte)]
    });
    let [low, high, ..] = register.to_le_bytes();
    u16::from_le_bytes([low, high])
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

    /// The check value of CRC-16/ARC in the CRC catalogue.
    #[test]
    fn known_answer_of_crc16() {
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
        assert_eq!(crc16(crc16(!0, b"12"), b"34"), crc16(!0, b"1234"));
    }

    #[test]
    fn a_checksum_can_be_continued() {
        assert_eq!(crc32c(crc32c(SEED, b"1234"), b"56789"), crc32c(SEED, b"123456789"));
    }
}
