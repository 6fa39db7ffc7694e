//! Buffers of guest memory, as system calls take them.
//!
//! Enters: a checked slice of guest memory. Leaves: its address and length, for as long as the kernel works on it.
#![allow(unsafe_code)] // guest memory is not a Rust slice: the kernel is told its address

use vm_memory::VolatileSlice;

/// A buffer of guest memory, by its address, so that it can be kept while the kernel works on it.
///
/// Guest memory is never unmapped while a device may hold one of these (see `machine::memory`), and nobody forms
/// references into it.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Vector(libc::iovec);

// SAFETY: an address of guest memory, which is shared by all threads of the process and of the guest anyway.
unsafe impl Send for Vector {}

impl Vector {
    /// The buffer's address and length.
    pub fn of(slice: &VolatileSlice<'_>) -> Self {
        Self(libc::iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: slice.len() })
    }

    /// Bytes.
    pub fn len(self) -> usize {
        self.0.iov_len
    }

    /// `count` bytes of it from `skip` on; as many as there are.
    pub fn part(self, skip: usize, count: usize) -> Self {
        let skip = skip.min(self.0.iov_len);
        let length = (self.0.iov_len - skip).min(count);
        Self(libc::iovec { iov_base: self.0.iov_base.wrapping_byte_add(skip), iov_len: length })
    }

    fn slice(self) -> VolatileSlice<'static> {
        // SAFETY: an address and a length of guest memory: see the type.
        unsafe { VolatileSlice::new(self.0.iov_base.cast(), self.0.iov_len) }
    }

    /// Makes it zeros.
    pub fn zero(self) {
        const ZEROS: [u8; 4096] = [0; 4096];
        let slice = self.slice();
        let mut at = 0;
        while at < slice.len()
            && let Ok(rest) = slice.offset(at)
        {
            at += ZEROS.len();
            rest.copy_from(&ZEROS[..]);
        }
    }
}

/// Bytes `skip` to `skip + count` of some buffers, taken together.
pub fn cut(vectors: &[Vector], mut skip: usize, mut count: usize) -> Vec<Vector> {
    let mut parts = Vec::with_capacity(vectors.len());
    for vector in vectors {
        if skip >= vector.len() {
            skip -= vector.len();
            continue;
        }
        let part = vector.part(skip, count);
        (skip, count) = (0, count - part.len());
        parts.push(part);
        if count == 0 {
            break;
        }
    }
    parts
}

/// Copies bytes into some buffers taken together, from `skip` on; as many as fit.
pub fn store(vectors: &[Vector], mut skip: usize, mut bytes: &[u8]) {
    for vector in vectors {
        let place = vector.part(skip, bytes.len());
        skip = skip.saturating_sub(vector.len());
        let (now, later) = bytes.split_at(place.len());
        place.slice().copy_from(now);
        bytes = later;
        if bytes.is_empty() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

    use super::*;

    proptest! {
        /// A cut is what a cut of the joined buffers would be.
        #[test]
        fn a_cut_is_a_cut_of_the_whole(
            lengths in prop::collection::vec(1_usize..9, 1..6), skip in 0_usize..40, count in 1_usize..40,
        ) {
            let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 4096)]).unwrap();
            let slices = lengths.iter().enumerate().map(|(index, length)| {
                memory.get_slice(GuestAddress(u64::try_from(index).unwrap() * 64), *length).unwrap()
            });
            let vectors: Vec<Vector> = slices.map(|slice| Vector::of(&slice)).collect();
            let bytes = |vectors: &[Vector]| -> Vec<usize> {
                vectors.iter().flat_map(|vector| {
                    let start = vector.0.iov_base.addr();
                    start..start + vector.len()
                }).collect()
            };
            let whole = bytes(&vectors);
            let expected: Vec<usize> = whole.into_iter().skip(skip).take(count).collect();
            prop_assert_eq!(bytes(&cut(&vectors, skip, count)), expected);
        }
    }

    #[test]
    fn bytes_are_stored_across_borders_and_no_further() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 4096)]).unwrap();
        let vectors = [3, 1, 2].map(|length| {
            Vector::of(
                &memory.get_slice(GuestAddress(length * 64), usize::try_from(length).unwrap()).unwrap(),
            )
        });
        store(&vectors, 2, &[1, 2, 3, 4, 5, 6]);
        let read = |address| memory.read_obj::<[u8; 4]>(GuestAddress(address)).unwrap();
        assert_eq!((read(192), read(64), read(128)), ([0, 0, 1, 0], [2, 0, 0, 0], [3, 4, 0, 0]));
    }
}
