//! Which pages a driver speaks of: the one place where its words are checked.
//!
//! Enters: a chain of buffers. Leaves: [`Pages`], each of them whole and in guest memory, a bounded number per chain.

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::machine::memory::Pages;
use crate::machine::virtio::{Chain, DeviceError};

/// Ranges that one chain may report: Linux has so many (`PAGE_REPORTING_CAPACITY`), and refuses a shorter queue.
pub(super) const MAX_RANGES: u16 = 32;
/// Page numbers that one chain may have: Linux's `VIRTIO_BALLOON_ARRAY_PFNS_MAX`.
const MAX_NUMBERS: usize = 256;
/// Bytes of a page number (section 5.5.6: 32 bits, little-endian).
const NUMBER: usize = 4;

fn broken(reason: &'static str) -> DeviceError {
    DeviceError::Chain { reason }
}

/// The pages whose numbers the driver wrote into the buffers of a chain of the inflate or deflate queue (section 5.5.6).
/// Numbers in a row, upwards or downwards, become one range.
pub(super) fn numbered(memory: &GuestMemoryMmap, chain: Chain<'_>) -> Result<Vec<Pages>, DeviceError> {
    let mut bytes = [0; MAX_NUMBERS * NUMBER];
    let mut length = 0_usize;
    for buffer in chain {
        let buffer = buffer?;
        if buffer.is_write_only() {
            return Err(broken("page numbers in a buffer for the device to write"));
        }
        let wanted = usize::try_from(buffer.len()).ok();
        let part = wanted.and_then(|wanted| bytes.get_mut(length..length.checked_add(wanted)?));
        let part = part.ok_or_else(|| broken("more page numbers than fit"))?;
        memory.read_slice(part, buffer.addr()).map_err(|_| broken("page numbers outside of memory"))?;
        length += part.len();
    }
    let (numbers, rest) = bytes[..length].as_chunks::<NUMBER>();
    if !rest.is_empty() {
        return Err(broken("a part of a page number"));
    }
    runs(numbers.iter().map(|number| u32::from_le_bytes(*number)))
        .into_iter()
        .map(|(first, count)| {
            let start = GuestAddress(u64::from(first) * Pages::SIZE);
            Pages::new(memory, start, count * Pages::SIZE).ok_or_else(|| broken("a page outside of memory"))
        })
        .collect()
}

/// (first, count) of the numbers that are next to each other, in the driver's order.
fn runs(numbers: impl Iterator<Item = u32>) -> Vec<(u32, u64)> {
    let mut runs: Vec<(u32, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((first, count)) if u64::from(*first) + *count == u64::from(number) => *count += 1,
            Some((first, count)) if number.checked_add(1) == Some(*first) => {
                (*first, *count) = (number, *count + 1);
            }
            _ => runs.push((number, 1)),
        }
    }
    runs
}

/// The free pages that the buffers of a chain of the reporting queue are (section 5.5.6.7).
pub(super) fn reported(memory: &GuestMemoryMmap, chain: Chain<'_>) -> Result<Vec<Pages>, DeviceError> {
    let mut ranges = Vec::with_capacity(usize::from(MAX_RANGES));
    for buffer in chain {
        let buffer = buffer?;
        if !buffer.is_write_only() {
            return Err(broken("free pages in a buffer for the device to read"));
        }
        if ranges.len() == usize::from(MAX_RANGES) {
            return Err(broken("more free ranges than a chain may have"));
        }
        let pages = Pages::new(memory, buffer.addr(), u64::from(buffer.len()))
            .ok_or_else(|| broken("free pages that are not whole or outside of memory"))?;
        ranges.push(pages);
    }
    Ok(ranges)
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
