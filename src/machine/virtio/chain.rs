//! A chain of the driver's buffers, walked once and no further than it goes.
//!
//! Enters: a head of the available ring, and the table that it is in. Leaves: its descriptors in their order, each read once,
//! or what is wrong with the chain: one that breaks off is never taken for a whole one. Not virtio-queue's own walk, for which
//! a bad link is the end, and an indirect table that nobody agreed on as good as any. Must never know what the buffers are for.

use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::DeviceError;

/// Bytes of a descriptor (VIRTIO 1.2, section 2.7.5).
const DESCRIPTOR: u16 = 16;

/// A chain of guest buffers. Every descriptor in it is guest input.
#[derive(Debug)]
pub struct Chain<'m> {
    memory: &'m GuestMemoryMmap,
    head: u16,
    /// Where the descriptors are, and how many.
    table: GuestAddress,
    size: u16,
    /// The next of them; none behind the last.
    next: Option<u16>,
    /// How many can come before it is longer than its queue, or one has come twice.
    left: u16,
    /// Of all so far.
    bytes: u32,
    indirect: bool,
}

impl<'m> Chain<'m> {
    /// The chain that begins with that descriptor of a table of `size`. `indirect`: tables of its own were agreed on.
    pub(crate) fn new(
        memory: &'m GuestMemoryMmap,
        table: GuestAddress,
        size: u16,
        head: u16,
        indirect: bool,
    ) -> Self {
        Self { memory, head, table, size, next: Some(head), left: size, bytes: 0, indirect }
    }

    /// By which it is given back.
    pub fn head_index(&self) -> u16 {
        self.head
    }

    fn step(&mut self, index: u16) -> Result<Descriptor, &'static str> {
        let mut descriptor = self.read(index)?;
        if descriptor.refers_to_indirect_table() {
            self.enter(&descriptor)?;
            descriptor = self.read(0)?;
            if descriptor.refers_to_indirect_table() {
                return Err("an indirect table within another");
            }
        }
        // Section 2.7.5.2.
        self.bytes = self.bytes.checked_add(descriptor.len()).ok_or("a chain of more than 4 GiB")?;
        self.next = descriptor.has_next().then(|| descriptor.next());
        Ok(descriptor)
    }

    fn read(&mut self, index: u16) -> Result<Descriptor, &'static str> {
        if index >= self.size {
            return Err("a descriptor beyond the end of its table");
        }
        self.left = self.left.checked_sub(1).ok_or("a chain without an end, or longer than its queue")?;
        let place = self.table.0.checked_add(u64::from(index) * u64::from(DESCRIPTOR));
        place
            .and_then(|place| self.memory.read_obj(GuestAddress(place)).ok())
            .ok_or("a descriptor outside of memory")
    }

    /// Section 2.7.5.3: what follows is in a table of its own, which ends the chain. All of it is no longer than the queue
    /// (section 2.7.5.3.1), for which the descriptor that names the table does not count: Linux fills a queue's length.
    fn enter(&mut self, descriptor: &Descriptor) -> Result<(), &'static str> {
        if !self.indirect {
            return Err("an indirect table that was not agreed on, or within another");
        }
        if descriptor.has_next() {
            return Err("a descriptor behind an indirect table");
        }
        let whole = descriptor.len().is_multiple_of(DESCRIPTOR.into());
        let size = u16::try_from(descriptor.len() / u32::from(DESCRIPTOR)).ok().filter(|_| whole);
        self.size = size.ok_or("an indirect table of an impossible length")?;
        let left = self.left.saturating_add(1).min(self.size);
        (self.table, self.left, self.indirect) = (descriptor.addr(), left, false);
        Ok(())
    }
}

impl Iterator for Chain<'_> {
    type Item = Result<Descriptor, DeviceError>;

    /// Nothing comes behind an error.
    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next.take()?;
        Some(self.step(index).map_err(|reason| DeviceError::Chain { reason }))
    }
}

#[cfg(test)]
mod tests {
    use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};

    use super::*;

    const TABLE: u64 = 0x1000;
    const OTHER: u64 = 0x2000;
    const SIZE: u16 = 4;

    /// (address, length, flags, next)
    type Row = (u64, u32, u32, u16);

    const LAST: Row = (0x5000, 8, 0, 0);

    /// The addresses of the buffers of the chain that begins with descriptor 0, or what is wrong with it.
    fn walked(table: &[Row], other: &[Row], indirect: bool) -> Result<Vec<u64>, &'static str> {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 16)]).unwrap();
        for (start, rows) in [(TABLE, table), (OTHER, other)] {
            for (at, (address, length, flags, next)) in (0_u64..).zip(rows) {
                let flags = u16::try_from(*flags).unwrap();
                let descriptor = Descriptor::new(*address, *length, flags, *next);
                memory.write_obj(descriptor, GuestAddress(start + at * 16)).unwrap();
            }
        }
        let mut chain = Chain::new(&memory, GuestAddress(TABLE), SIZE, 0, indirect);
        let walked: Result<Vec<u64>, DeviceError> =
            chain.by_ref().map(|descriptor| Ok(descriptor?.addr().0)).collect();
        assert!(chain.next().is_none(), "nothing comes behind an error or the end");
        walked.map_err(|error| match error {
            DeviceError::Chain { reason } => reason,
            other => panic!("{other:?}"),
        })
    }

    fn table_of(bytes: u32) -> Row {
        (OTHER, bytes, VRING_DESC_F_INDIRECT, 0)
    }

    #[test]
    fn a_whole_chain_is_its_buffers() {
        let next = |address, next| (address, 8, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, next);
        assert_eq!(walked(&[LAST], &[], false), Ok(vec![0x5000]));
        let all = [next(1, 3), LAST, next(3, 1), next(2, 2)];
        assert_eq!(walked(&all, &[], false), Ok(vec![1, 2, 3, 0x5000]));
        // A table of its own behind another buffer, and one of all that a queue has room for.
        let long = |count: u16| (1..count).map(|at| next(at.into(), at)).chain([LAST]).collect::<Vec<Row>>();
        assert_eq!(walked(&[next(7, 1), table_of(16 * 3)], &long(3), true), Ok(vec![7, 1, 2, 0x5000]));
        assert_eq!(walked(&[table_of(16 * 4)], &long(4), true), Ok(vec![1, 2, 3, 0x5000]));
        let longer = Err("a chain without an end, or longer than its queue");
        assert_eq!(walked(&[next(7, 1), table_of(16 * 4)], &long(4), true), longer);
        assert_eq!(walked(&[table_of(16 * 5)], &long(5), true), longer);
    }

    #[test]
    fn one_that_breaks_off_is_no_chain() {
        let next = |next| (0x4000, 8, VRING_DESC_F_NEXT, next);
        for (rows, reason) in [
            (&[next(0)][..], "a chain without an end, or longer than its queue"),
            (&[next(1), next(2), next(1)], "a chain without an end, or longer than its queue"),
            (&[next(SIZE)], "a descriptor beyond the end of its table"),
            (&[next(u16::MAX)], "a descriptor beyond the end of its table"),
            (&[(0, u32::MAX, VRING_DESC_F_NEXT, 1), (0, 1, 0, 0)], "a chain of more than 4 GiB"),
        ] {
            assert_eq!(walked(rows, &[], true), Err(reason), "{rows:?}");
        }
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 12)]).unwrap();
        let outside = Chain::new(&memory, GuestAddress(1 << 12), SIZE, 0, false).next();
        assert!(matches!(
            outside,
            Some(Err(DeviceError::Chain { reason: "a descriptor outside of memory" }))
        ));
        let none = Chain::new(&memory, GuestAddress(0), SIZE, SIZE, false).next();
        assert!(matches!(none, Some(Err(DeviceError::Chain { .. }))));
    }

    #[test]
    fn an_indirect_table_is_one_that_was_agreed_on_and_the_last() {
        let within = [table_of(16)];
        for (row, other, reason) in [
            (table_of(15), &[LAST][..], "an indirect table of an impossible length"),
            (table_of(0x10_0000), &[LAST], "an indirect table of an impossible length"),
            (table_of(0), &[LAST], "a descriptor beyond the end of its table"),
            (table_of(16), &within, "an indirect table within another"),
            (table_of(16), &[(1, 8, VRING_DESC_F_NEXT, 1)], "a descriptor beyond the end of its table"),
            (
                table_of(32),
                &[(1, 8, VRING_DESC_F_NEXT, 0)],
                "a chain without an end, or longer than its queue",
            ),
            ((1 << 16, 16, VRING_DESC_F_INDIRECT, 0), &[LAST], "a descriptor outside of memory"),
            ((u64::MAX - 7, 16, VRING_DESC_F_INDIRECT, 0), &[LAST], "a descriptor outside of memory"),
            (
                (OTHER, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1),
                &[LAST],
                "a descriptor behind an indirect table",
            ),
        ] {
            assert_eq!(walked(&[row], other, true), Err(reason), "{row:?}");
        }
        // In the middle of one, too.
        let middle = [(1, 8, VRING_DESC_F_NEXT, 1), table_of(16)];
        assert!(walked(&[table_of(32)], &middle, true).unwrap_err().contains("within another"));
        assert_eq!(walked(&[table_of(16)], &[LAST], true), Ok(vec![0x5000]));
        assert!(walked(&[table_of(16)], &[LAST], false).unwrap_err().contains("not agreed on"));
    }
}
