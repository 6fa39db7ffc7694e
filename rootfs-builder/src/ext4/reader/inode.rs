//! An inode's 256 bytes, checked.
//!
//! In: bytes. Out: an [`Inode`] that cannot be of an unknown kind, or have an impossible time, size or device.
//! It must never know where its content is.

use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use super::disk::parse;
use super::error::DiskError;
use super::spec::FLAGS_KNOWN;
use crate::ext4::spec::{EXTENTS_FL, EXTRA_ISIZE, Inode as Raw};
use crate::tree::{Device, PATH_MAX, Time};

/// `i_block` in bytes.
pub(super) const I_BLOCK: usize = 60;
/// The most that an extent tree can address: 32 bits of blocks.
const SIZE_MAX: u64 = 1 << 44;

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Holds names.
    Directory,
    /// Holds data.
    Regular,
    /// Holds a path.
    Symlink,
    /// A character device; overlayfs' whiteout if both numbers are 0.
    CharacterDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A unix socket's name.
    Socket,
}

/// The metadata of a file on a scratch disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub number: u32,
    /// `i_generation`: another one for each file that has had the number.
    pub generation: u32,
    /// What it is.
    pub kind: Kind,
    /// The lower 12 bits of `st_mode`.
    pub permissions: u16,
    /// Owner, as the guest numbers it.
    pub uid: u32,
    /// Group, as the guest numbers it.
    pub gid: u32,
    /// How many names it says it has; never 0.
    pub links: u16,
    /// In bytes; at most 16 TiB.
    pub size: u64,
    /// Of the last read.
    pub atime: Time,
    /// Of the content.
    pub mtime: Time,
    /// Of the inode itself.
    pub ctime: Time,
    /// The extent tree's root, or a short link's target, or a device.
    pub(super) block: [u8; I_BLOCK],
    /// Whether [`Self::block`] has an extent tree.
    pub(super) extents: bool,
    /// The block with more extended attributes; 0 if none.
    pub(super) attributes_at: u64,
    /// What is behind the fields: extended attributes.
    pub(super) rest: Vec<u8>,
}

impl Inode {
    /// Reads inode `number`.
    pub(super) fn parse(number: u32, raw: &Raw) -> Result<Self, DiskError> {
        let broken = |what| DiskError::Inode { inode: number, what };
        if raw.i_links_count.get() == 0 {
            return Err(broken("it has a name, but is deleted"));
        }
        if raw.i_flags.get() & !FLAGS_KNOWN != 0 {
            return Err(broken("it has flags that are not ours"));
        }
        let extra = raw.i_extra_isize.get();
        if !extra.is_multiple_of(4) || !(24..=128).contains(&extra) {
            // Ours and the guest's have EXTRA_ISIZE; less than 24 would not have the times.
            return Err(broken("its extra fields have an impossible size"));
        }
        let size = u64::from(raw.i_size_lo.get()) | u64::from(raw.i_size_high.get()) << 32;
        if size > SIZE_MAX {
            return Err(broken("it is larger than a file can be"));
        }
        let extents = raw.i_flags.get() & EXTENTS_FL != 0;
        let kind = kind(raw).ok_or_else(|| broken("it is of no kind that exists"))?;
        match kind {
            Kind::Regular | Kind::Directory if !extents => {
                return Err(broken("its blocks are not in extents, which our file systems always use"));
            }
            Kind::Symlink if !(1..=length(PATH_MAX)).contains(&size) => {
                return Err(broken("no link has such a length"));
            }
            _ => {}
        }
        let time = |seconds: U32, more: U32| {
            time(seconds.get(), more.get()).ok_or_else(|| broken("a time has too many nanoseconds"))
        };
        let uid = u32::from(raw.i_uid.get()) | u32::from(raw.l_i_uid_high.get()) << 16;
        let gid = u32::from(raw.i_gid.get()) | u32::from(raw.l_i_gid_high.get()) << 16;
        if uid == u32::MAX || gid == u32::MAX {
            // To chown(2) it means "leave it".
            return Err(broken("nobody has the number of its owner"));
        }
        let rest = &raw.as_bytes()[128 + usize::from(extra)..];
        Ok(Self {
            number,
            generation: raw.i_generation.get(),
            kind,
            permissions: raw.i_mode.get() & 0o7777,
            uid,
            gid,
            links: raw.i_links_count.get(),
            size,
            atime: time(raw.i_atime, raw.i_atime_extra)?,
            mtime: time(raw.i_mtime, raw.i_mtime_extra)?,
            ctime: time(raw.i_ctime, raw.i_ctime_extra)?,
            block: parse(raw.i_block.as_bytes()).expect("an extent root has 60 bytes"),
            extents,
            attributes_at: u64::from(raw.i_file_acl_lo.get()) | u64::from(raw.l_i_file_acl_high.get()) << 32,
            rest: rest.to_vec(),
        })
    }

    /// Whether a link's target is in the inode.
    pub(super) fn is_short_link(&self) -> bool {
        self.kind == Kind::Symlink && !self.extents && self.size < length(I_BLOCK)
    }
}

fn length(value: usize) -> u64 {
    u64::try_from(value).expect("a length fits in 64 bits")
}

/// By `S_IFMT` of `i_mode`.
fn kind(raw: &Raw) -> Option<Kind> {
    Some(match raw.i_mode.get() & 0o170_000 {
        0o040_000 => Kind::Directory,
        0o100_000 => Kind::Regular,
        0o120_000 => Kind::Symlink,
        0o020_000 => Kind::CharacterDevice(device(raw)),
        0o060_000 => Kind::BlockDevice(device(raw)),
        0o010_000 => Kind::Fifo,
        0o140_000 => Kind::Socket,
        _ => return None,
    })
}

/// `old_decode_dev()` of the first word if there is one, else `new_decode_dev()` of the second.
fn device(raw: &Raw) -> Device {
    let block = raw.i_block.as_bytes();
    let word = |position: usize| parse::<U32>(&block[position..]).map_or(0, U32::get);
    match word(0) {
        0 => {
            let number = word(4);
            Device { major: (number >> 8) & 0xfff, minor: (number & 0xff) | ((number >> 12) & 0xf_ff00) }
        }
        number => Device { major: (number >> 8) & 0xff, minor: number & 0xff },
    }
}

/// 32 bits of seconds that are signed, two more in `more` (`EXT4_EPOCH_BITS`), and nanoseconds above them.
fn time(seconds: u32, more: u32) -> Option<Time> {
    let nanoseconds = more >> 2;
    let base = i64::from(seconds.cast_signed());
    (nanoseconds < 1_000_000_000).then_some(Time { seconds: base + (i64::from(more & 3) << 32), nanoseconds })
}

const _: () = assert!(EXTRA_ISIZE >= 24);

#[cfg(test)]
mod tests {
    use zerocopy::FromBytes;
    use zerocopy::little_endian::U16;

    use super::*;

    fn raw() -> Raw {
        let mut raw = Raw::read_from_bytes(&[0; 256]).unwrap();
        raw.i_mode = U16::new(0o100_644);
        raw.i_links_count = U16::new(1);
        raw.i_flags = U32::new(EXTENTS_FL);
        raw.i_extra_isize = U16::new(EXTRA_ISIZE);
        raw
    }

    #[test]
    fn times_reach_from_1901_to_2446() {
        let at = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        assert_eq!(time(0x8000_0000, 0), at(-0x8000_0000, 0));
        assert_eq!(time(0xffff_ffff, 999_999_999 << 2), at(-1, 999_999_999));
        assert_eq!(time(0x8000_0000, 1), at(0x8000_0000, 0));
        assert_eq!(time(0x7fff_ffff, 3), at(0x3_7fff_ffff, 0));
        assert_eq!(time(0, 1_000_000_000 << 2), None);
    }

    #[test]
    fn devices_of_both_encodings() {
        let mut raw = raw();
        raw.i_mode = U16::new(0o020_666);
        raw.i_block.eh_magic = U16::new(0x0103);
        assert_eq!(
            Inode::parse(20, &raw).unwrap().kind,
            Kind::CharacterDevice(Device { major: 1, minor: 3 })
        );
        raw.i_block.eh_magic = U16::new(0);
        // 4095:1048575, as `new_encode_dev()` packs it.
        raw.i_block.eh_max = U16::new(0xffff);
        raw.i_block.eh_depth = U16::new(0xffff);
        let device = Device { major: 4095, minor: 1_048_575 };
        assert_eq!(Inode::parse(20, &raw).unwrap().kind, Kind::CharacterDevice(device));
    }

    #[test]
    fn the_impossible_is_refused() {
        let wrong: [fn(&mut Raw); 9] = [
            |raw| raw.i_links_count = U16::new(0),
            |raw| raw.i_mode = U16::new(0o644),
            |raw| raw.i_flags = U32::new(EXTENTS_FL | 0x1000_0000),
            |raw| raw.i_flags = U32::new(0),
            |raw| raw.i_extra_isize = U16::new(132),
            |raw| raw.i_extra_isize = U16::new(0),
            |raw| raw.i_size_high = U32::new(0x1001),
            |raw| raw.i_mtime_extra = U32::new(!0),
            |raw| (raw.i_gid, raw.l_i_gid_high) = (U16::new(!0), U16::new(!0)),
        ];
        assert!(Inode::parse(12, &raw()).is_ok());
        for (index, change) in wrong.iter().enumerate() {
            let mut raw = raw();
            change(&mut raw);
            assert!(Inode::parse(12, &raw).is_err(), "{index}");
        }
    }
}
