//! Extended attributes as they stand behind an inode.
//!
//! In: attributes with whole names. Out: the bytes, a multiple of four, and `i_xattr_icount`.
//! It must never know whose attributes they are.

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use super::spec::{XATTR_PREFIXES, XattrEntry, XattrIbodyHeader};
use crate::tree::Xattr;

/// Attributes that have no place in this format.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum XattrError {
    /// A value longer than `e_value_size` can say: 65,535 bytes.
    Value,
    /// More in all than `i_xattr_icount` can say: about 256 KiB.
    Total,
}

/// Appends the attributes to `out`. Those without a prefix of this format are left out. Nothing at all when none is left.
pub(super) fn encode(xattrs: &[Xattr], out: &mut Vec<u8>) -> Result<(), XattrError> {
    let start = out.len();
    for xattr in xattrs {
        let Some((index, suffix)) = split(&xattr.name) else { continue };
        // The kernel's own limit for a name is 255 bytes with the prefix.
        let Ok(name_length) = u8::try_from(suffix.len()) else { continue };
        let value_size = u16::try_from(xattr.value.len()).map_err(|_| XattrError::Value)?;
        if out.len() == start {
            let header =
                XattrIbodyHeader { h_name_filter: U32::ZERO, h_shared_count: 0, h_reserved2: [0; 7] };
            out.extend_from_slice(header.as_bytes());
        }
        let entry =
            XattrEntry { e_name_len: name_length, e_name_index: index, e_value_size: U16::new(value_size) };
        out.extend_from_slice(entry.as_bytes());
        out.extend_from_slice(suffix);
        out.extend_from_slice(&xattr.value);
        out.resize(start + (out.len() - start).next_multiple_of(4), 0);
        icount(out.len() - start).ok_or(XattrError::Total)?;
    }
    Ok(())
}

/// `i_xattr_icount` for so many bytes of [`encode`] (`erofs_xattr_ibody_size`), if it can be said.
pub(super) fn icount(length: usize) -> Option<u16> {
    match length.checked_sub(size_of::<XattrIbodyHeader>()) {
        None => Some(0),
        Some(entries) => u16::try_from(entries / size_of::<XattrEntry>() + 1).ok(),
    }
}

/// The prefix's index and what follows it.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    XATTR_PREFIXES.iter().find_map(|(index, prefix)| {
        let suffix = name.strip_prefix(*prefix)?;
        // The two access control lists are whole names, all others have something after the dot.
        (prefix.ends_with(b".") != suffix.is_empty()).then_some((*index, suffix))
    })
}
