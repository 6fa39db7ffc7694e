//! Whether a device still does what it is for: one request as a driver makes it, after all that was none.

use crate::Memory;
use crate::registers::*;

/// Times that the answer is looked for.
const PATIENCE: u32 = 50_000_000;
/// `VIRTIO_BLK_T_GET_ID`, which has an answer for any disk (section 5.2.6).
const GET_ID: u64 = 8;
/// Bytes of that answer.
const ID: u64 = 20;

/// How it stands with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It did what it was asked.
    Right,
    /// It did not.
    None,
    /// It can't be reset.
    Stuck,
    /// Only a reset was asked of it.
    Reset,
}

/// Resets the device at `base` and asks disks and the source of random bytes for something; `arena` has room for a queue.
pub fn device(memory: &mut impl Memory, base: u64, arena: u64) -> Answer {
    memory.write(base + STATUS, 4, 0);
    if memory.read(base + STATUS, 4) != 0 || memory.read(base + MAGIC_VALUE, 4) != MAGIC {
        return Answer::Stuck;
    }
    let kind = memory.read(base + DEVICE_ID, 4);
    let (head, answer) = (arena + 0x3000, arena + 0x4000);
    let chain: &[(u64, u64, u64)] = match kind {
        BLOCK => &[(head, 16, NEXT), (answer, ID, NEXT | WRITE), (answer + 0x100, 1, WRITE)],
        ENTROPY => &[(answer, 16, WRITE)],
        _ => return Answer::Reset,
    };
    memory.write(head, 8, GET_ID);
    memory.write(head + 8, 8, 0);
    memory.write(answer + 0x100, 1, 0xff);
    for (number, (address, length, flags)) in (0_u64..).zip(chain) {
        let at = arena + number * 16;
        memory.write(at, 8, *address);
        memory.write(at + 8, 4, *length);
        memory.write(at + 12, 2, *flags);
        memory.write(at + 14, 2, number + 1);
    }
    // No flags; one chain, whose head is descriptor 0; nothing used.
    memory.write(arena + 0x1000, 8, 1 << 16);
    memory.write(arena + 0x2000, 8, 0);
    for status in [ACKNOWLEDGE, ACKNOWLEDGE | DRIVER] {
        memory.write(base + STATUS, 4, status);
    }
    for (word, features) in [(0, 0), (1, VERSION_1)] {
        memory.write(base + DRIVER_FEATURES_SEL, 4, word);
        memory.write(base + DRIVER_FEATURES, 4, features);
    }
    memory.write(base + STATUS, 4, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    memory.write(base + QUEUE_SEL, 4, 0);
    memory.write(base + QUEUE_NUM, 4, 8);
    for (register, address) in
        [(QUEUE_DESC, arena), (QUEUE_DRIVER, arena + 0x1000), (QUEUE_DEVICE, arena + 0x2000)]
    {
        memory.write(base + register, 4, address & 0xffff_ffff);
        memory.write(base + register + 4, 4, address >> 32);
    }
    memory.write(base + QUEUE_READY, 4, 1);
    memory.write(base + STATUS, 4, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    memory.write(base + QUEUE_NOTIFY, 4, 0);
    let came = (0..PATIENCE).any(|_| memory.read(arena + 0x2002, 2) == 1);
    let right = came && (kind != BLOCK || memory.read(answer + 0x100, 1) == 0);
    memory.write(base + STATUS, 4, 0);
    if right { Answer::Right } else { Answer::None }
}
