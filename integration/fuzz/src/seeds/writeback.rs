//! A disk as it was written, and with one change in each of its blocks.

pub(crate) fn disks() -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    for block in 0..crate::writeback::count() {
        // Eight bytes, at a few places each.
        for at in [0_u16, 24, 64, 1032] {
            let place = [block.to_le_bytes(), at.to_le_bytes()];
            all.push([&place[0][..], &[8], &place[1], &[0xff, 0, 1, 0, 0, 0, 0x80, 7]].concat());
        }
        // Another block in its place.
        all.push([block.to_le_bytes(), [16, 1]].concat());
    }
    all
}
