//! One device, driven at random: features that were not offered, rings anywhere, chains of any shape that change while they are
//! worked on, requests that look nearly right, registers read and written in every width, and resets in the middle.

use crate::Memory;
use crate::random::Random;
use crate::registers::*;

/// Queues that are tried; more than any device has.
const QUEUES: u64 = 10;
/// Descriptors of each of our rings, if the device takes so many.
const SIZE: u64 = 64;
/// Of the guest's memory, for one queue's three rings.
const RINGS: u64 = 0x3000;
/// Of the guest's memory, for one buffer.
const BUFFER: u64 = 0x1000;
/// Buffers.
const BUFFERS: u64 = 64;

/// The guest's memory that an attack has for itself, in bytes from its `arena`.
pub const ARENA: u64 = QUEUES * RINGS + BUFFERS * BUFFER;

/// What became of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How often it was set up, driven and reset.
    pub rounds: u32,
    /// In how many of them it said that it needs a reset.
    pub needed_reset: u32,
    /// How many chains it has used.
    pub used: u64,
}

/// Attacks the device whose registers are at `base`, `rounds` times, with [`ARENA`] bytes at `arena`.
pub fn device(memory: &mut impl Memory, base: u64, arena: u64, random: &mut Random, rounds: u32) -> Seen {
    let kind = memory.read(base + DEVICE_ID, 4);
    let mut attack = Attack { memory, base, arena, random, kind, care: 1 };
    let mut seen = Seen { rounds, needed_reset: 0, used: 0 };
    for _ in 0..rounds {
        attack.care = attack.random.one_of(&[1, 8, 64, 512]);
        attack.set_up();
        for _ in 0..8 {
            attack.offer();
            attack.touch();
        }
        let status = attack.memory.read(base + STATUS, 4);
        seen.needed_reset += u32::from(status & NEEDS_RESET != 0);
        seen.used += attack.used();
    }
    attack.memory.write(base + STATUS, 4, 0);
    seen
}

struct Attack<'a, M> {
    memory: &'a mut M,
    base: u64,
    arena: u64,
    random: &'a mut Random,
    kind: u64,
    /// How seldom something is wrong: who is wrong at once is shut out at once.
    care: u64,
}

impl<M: Memory> Attack<'_, M> {
    /// True once in `times` in a round without care.
    fn slip(&mut self, times: u64) -> bool {
        self.random.once_in(times * self.care)
    }

    fn register(&mut self, register: u64, value: u64) {
        self.memory.write(self.base + register, 4, value);
    }

    /// Reset, features, queues, go: mostly in the order that the specification has.
    fn set_up(&mut self) {
        if !self.slip(8) {
            self.register(STATUS, 0);
        }
        self.register(STATUS, ACKNOWLEDGE | DRIVER);
        for word in 0..2 {
            self.register(DEVICE_FEATURES_SEL, word);
            let offered = self.memory.read(self.base + DEVICE_FEATURES, 4);
            let mut taken = match self.random.below(6 * self.care) {
                0 => self.random.any(),
                1 | 2 => offered & self.random.any(),
                _ => offered,
            };
            if word == 1 && !self.slip(10) {
                taken |= VERSION_1;
            }
            self.register(DRIVER_FEATURES_SEL, word);
            self.register(DRIVER_FEATURES, taken);
        }
        if !self.slip(10) {
            self.register(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        }
        for queue in 0..QUEUES {
            self.clear(queue);
            self.register(QUEUE_SEL, queue);
            let most = self.memory.read(self.base + QUEUE_NUM_MAX, 4);
            let size = if self.slip(12) {
                self.random.one_of(&[0, 3, most, most + 1, 0x8000, 0xffff, u64::from(u32::MAX)])
            } else {
                SIZE.min(most)
            };
            self.register(QUEUE_NUM, size);
            let rings = self.rings(queue);
            for (register, offset) in [(QUEUE_DESC, 0), (QUEUE_DRIVER, 0x1000), (QUEUE_DEVICE, 0x2000)] {
                let address = if self.slip(20) { self.anywhere() } else { rings + offset };
                self.register(register, address & 0xffff_ffff);
                self.register(register + 4, address >> 32);
            }
            if !self.slip(20) {
                self.register(QUEUE_READY, 1);
            }
        }
        if !self.slip(12) {
            self.register(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        }
    }

    /// Fills a queue with chains, tells the device, and changes some while it looks.
    fn offer(&mut self) {
        let queue = self.random.below(4);
        let rings = self.rings(queue);
        for descriptor in 0..SIZE {
            self.describe(rings + descriptor * 16, descriptor);
        }
        let available = rings + 0x1000;
        let index = self.memory.read(available + 2, 2);
        let new = if self.slip(16) { self.random.any() } else { 1 + self.random.below(8) };
        for at in 0..new.min(SIZE) {
            let head = if self.slip(24) { self.random.any() } else { self.random.below(SIZE / 3) * 3 };
            self.memory.write(available + 4 + (index + at) % SIZE * 2, 2, head);
        }
        // Flags, and the index of the event that is waited for.
        let flags = self.random.below(4);
        self.memory.write(available, 2, flags);
        let event = self.random.any();
        self.memory.write(available + 4 + SIZE * 2, 2, event);
        self.memory.write(available + 2, 2, index.wrapping_add(new));
        let told = if self.slip(16) { self.random.any() } else { queue };
        self.register(QUEUE_NOTIFY, told);
        for _ in 0..self.random.below(200) {
            let descriptor = self.random.below(SIZE);
            self.describe(rings + descriptor * 16, descriptor);
        }
    }

    /// One descriptor: a request's head, more of it or room for the answer; or anything.
    fn describe(&mut self, at: u64, number: u64) {
        let address = if self.slip(24) {
            self.anywhere()
        } else {
            let buffer = self.buffers() + self.random.below(BUFFERS) * BUFFER;
            self.request(buffer);
            buffer
        };
        // A head, what belongs to it, and a last byte for the outcome: as a disk has them, and others by chance.
        let (usual, flags) = match number % 3 {
            0 => (
                self.random.one_of(&[16, 16, 12, 44, 40, 512]),
                self.random.one_of(&[NEXT, NEXT, NEXT, 0, WRITE]),
            ),
            1 => (self.random.one_of(&[512, 512, 4096, 20, 64]), self.random.one_of(&[NEXT, NEXT | WRITE])),
            _ => (self.random.one_of(&[1, 1, 4096]), WRITE),
        };
        let length = match self.random.below(12 * self.care) {
            0 => self.random.any(),
            1 => self.random.one_of(&[0, 1, 15, 17, 4095, 0x7fff_ffff, 0xffff_ffff]),
            _ => usual,
        };
        let flags = if self.slip(16) { self.random.any() } else { flags };
        let next = if self.slip(16) { self.random.any() } else { (number + 1) % SIZE };
        self.memory.write(at, 8, address);
        self.memory.write(at + 8, 4, length);
        self.memory.write(at + 12, 2, flags);
        self.memory.write(at + 14, 2, next);
    }

    /// The first words of a request as this device has them, nearly.
    fn request(&mut self, buffer: u64) {
        let small = self.random.below(32);
        let large = self.random.any();
        match self.kind {
            // virtio_blk_req: type, reserved, sector.
            BLOCK => {
                let kind = self.random.one_of(&[0, 1, 4, 8, 11, 13, small]);
                let sector = self.random.one_of(&[0, small, u64::MAX, u64::MAX - small, large]);
                self.memory.write(buffer, 8, kind);
                self.memory.write(buffer + 8, 8, sector);
            }
            // virtio_net_hdr: flags, type of segmentation, length of headers, of a segment, start of a checksum and its place.
            NET => {
                let kind = self.random.one_of(&[0, 0, 1, 3, 4, 0x81, small]);
                self.memory.write(buffer, 2, (kind << 8) | (small % 4));
                self.memory.write(buffer + 2, 8, large);
            }
            // virtio_vsock_hdr: who to whom, ports, length, type, operation, flags, credit.
            VSOCK => {
                let ports = [1023, 1024, 1025, 1026, 1027, small, large & 0xffff_ffff];
                let (from, to) = (self.random.one_of(&ports), self.random.one_of(&ports));
                let peer = self.random.one_of(&[2, 2, 2, 0, 1, 3, large]);
                let own = self.random.one_of(&[3, 3, 3, large]);
                self.memory.write(buffer, 8, own);
                self.memory.write(buffer + 8, 8, peer);
                self.memory.write(buffer + 16, 4, from);
                self.memory.write(buffer + 20, 4, to);
                let length = self.random.one_of(&[0, small, 4096, large]);
                self.memory.write(buffer + 24, 4, length);
                let operation = self.random.below(9);
                self.memory.write(buffer + 28, 4, operation << 16 | 1);
                self.memory.write(buffer + 32, 4, small);
                let credit = self.random.one_of(&[0, 0x4_0000, large]);
                self.memory.write(buffer + 36, 8, credit);
            }
            // fuse_in_header: length, operation, a number, a node, who asks.
            FS => {
                let length = self.random.one_of(&[40, 56, 104, small, large]);
                let operation = self.random.below(54);
                self.memory.write(buffer, 4, length);
                self.memory.write(buffer + 4, 4, operation);
                self.memory.write(buffer + 8, 8, large);
                let node = self.random.one_of(&[1, 1, 1, 2, large]);
                self.memory.write(buffer + 16, 8, node);
                self.memory.write(buffer + 40, 8, small);
            }
            _ => self.memory.write(buffer, 8, large),
        }
    }

    /// Registers and the device's own configuration, in every width, in and out of order.
    fn touch(&mut self) {
        let width = self.random.one_of(&[1, 2, 4, 8]);
        let at = self.base + self.random.below(WINDOW - 8);
        self.memory.read(at, width);
        let value = self.random.any();
        match self.random.below(8 * self.care.min(64)) {
            0 => self.memory.write(at, width, value),
            1 => {
                let offset = self.random.below(64);
                self.memory.write(self.base + CONFIG + offset, width, value);
            }
            2 => self.register(INTERRUPT_ACK, value),
            3 => {
                // While it runs.
                let queue = self.random.below(QUEUES);
                self.register(QUEUE_SEL, queue);
                let register = self.random.one_of(&[QUEUE_NUM, QUEUE_READY, QUEUE_DESC, QUEUE_DEVICE]);
                self.register(register, value);
            }
            4 => self.register(STATUS, value & 0xff),
            _ => {}
        }
    }

    /// Where nothing of a queue's should be: registers, no memory at all, beyond every address, our own rings.
    fn anywhere(&mut self) -> u64 {
        let any = self.random.any();
        let rings = self.rings(any % QUEUES);
        self.random.one_of(&[
            0,
            self.base,
            0xffff_f000,
            0xfee0_0000,
            u64::MAX,
            u64::MAX - 0xfff,
            any,
            any & 0xff_ffff_ffff,
            rings,
            rings + 0x1001,
            rings + 0x2000,
        ])
    }

    /// Empties a queue's rings.
    fn clear(&mut self, queue: u64) {
        let rings = self.rings(queue);
        for at in (0x1000..RINGS).step_by(0x1000) {
            self.memory.write(rings + at, 8, 0);
        }
    }

    /// How many chains the device says that it has used since the last [`Self::clear`].
    fn used(&mut self) -> u64 {
        (0..4).map(|queue| self.memory.read(self.arena + queue * RINGS + 0x2002, 2)).sum()
    }

    fn rings(&self, queue: u64) -> u64 {
        self.arena + queue * RINGS
    }

    fn buffers(&self) -> u64 {
        self.arena + QUEUES * RINGS
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const BASE: u64 = 0xd000_0000;
    const MINE: u64 = 0x200_0000;

    /// Registers that remember, in memory that is nothing but what was written.
    #[derive(Default)]
    struct Plain {
        bytes: BTreeMap<u64, u8>,
        written: Vec<u64>,
    }

    impl Memory for Plain {
        fn read(&mut self, address: u64, width: u8) -> u64 {
            match address {
                at if at == BASE + DEVICE_ID => BLOCK,
                at if at == BASE + QUEUE_NUM_MAX => 256,
                _ => (0..u64::from(width)).fold(0, |value, at| {
                    value | u64::from(self.bytes.get(&(address + at)).copied().unwrap_or(0)) << (8 * at)
                }),
            }
        }

        fn write(&mut self, address: u64, width: u8, value: u64) {
            self.written.push(address);
            for (at, byte) in (0..u64::from(width)).zip(value.to_le_bytes()) {
                self.bytes.insert(address + at, byte);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn it_writes_to_its_own_memory_and_to_the_device_alone(seed: u64) {
            let mut memory = Plain::default();
            let seen = device(&mut memory, BASE, MINE, &mut Random::of(seed), 2);
            prop_assert_eq!(seen.rounds, 2);
            let outside = memory.written.iter().find(|at| {
                !(BASE..BASE + WINDOW).contains(*at) && !(MINE..MINE + ARENA).contains(*at)
            });
            prop_assert_eq!(outside, None);
            // It ends with a reset.
            prop_assert_eq!(memory.written.last(), Some(&(BASE + STATUS)));
            prop_assert!(memory.written.contains(&(BASE + QUEUE_NOTIFY)));
        }
    }
}
