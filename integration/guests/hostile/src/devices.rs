//! Where the devices are: Linux's `virtio_mmio.device=<size>@<address>:<irq>` on the command line.

/// Introduces one.
const WORD: &[u8] = b"virtio_mmio.device=";

/// The addresses of all registers that `line` names.
pub fn of(line: &[u8]) -> impl Iterator<Item = u64> {
    line.split(|byte| *byte == b' ').filter_map(|word| {
        let place = word.strip_prefix(WORD)?;
        let at = place.iter().position(|byte| *byte == b'@')?;
        let digits = place.get(at + 1..)?.strip_prefix(b"0x")?;
        let end = digits.iter().position(|byte| *byte == b':')?;
        let digits = core::str::from_utf8(digits.get(..end)?).ok()?;
        u64::from_str_radix(digits, 16).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_is_found() {
        let line =
            b"console=ttyS0 virtio_mmio.device=512@0xd0000000:5 quiet virtio_mmio.device=512@0xd0000200:6 \
                     virtio_mmio.device=512@d:7 virtio_mmio.device=512";
        assert!(of(line).eq([0xd000_0000, 0xd000_0200]));
        assert_eq!(of(b"").count(), 0);
    }
}
