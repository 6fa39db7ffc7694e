//! Reads a scratch disk that we made and that a guest has written, with its journal replayed in memory.
//!
//! In: an image file. Out: inodes, names, links' targets, extended attributes, and where data is; all of it checked.
//! The guest is hostile: it may have written anything anywhere. So nothing is taken from the disk that can be known without
//! it: where the inodes and the journal are follows from the image's size, and the super block and the descriptors only have
//! to agree. Whatever a caller asks for ends, in memory that does not grow with what the guest wrote; bytes are never
//! interpreted beyond their buffer. It must never write, nor know what the files are for.
//!
//! The features must be those that `build` makes; unknown ones, and what only others need (block maps, inline data,
//! attribute inodes, fast commits, an orphan file), are an error. Metadata has no checksums but the group descriptors', which
//! are verified. Inodes on the orphan list are not reachable by a name, or have the size already that they are being cut to:
//! nothing is to be done about them. What the guest's kernel found wrong (`EXT4_ERROR_FS`) is told, not judged: after a host
//! disk was full, the journal is intact, and what had been written is worth having.
//!
//! Written here although there are crates: `ext4-view` 1.0 reads no extended attributes, link counts or device numbers, and
//! applies revocations within one transaction only; its reader would have to be trusted in a place where a mistake
//! is an escape.
//!
//! Format: `Documentation/filesystems/ext4` and `fs/ext4` in the Linux source.

mod attributes;
mod directory;
mod disk;
mod error;
mod extents;
mod inode;
mod journal;
mod spec;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use zerocopy::IntoBytes;

use self::disk::{Disk, parse};
use super::build::{UUID, checksum};
use super::geometry::Geometry;
use super::spec::{
    BLOCK_SIZE, BLOCKS_PER_GROUP, DESC_SIZE, DYNAMIC_REV, FEATURE_COMPAT, FEATURE_INCOMPAT,
    FEATURE_RO_COMPAT, GroupDesc, INODE_SIZE, INODES_PER_GROUP, Inode as RawInode, JOURNAL_INO,
    LOG_BLOCK_SIZE, ROOT_INO, SUPER_MAGIC, SUPER_OFFSET, SuperBlock,
};
use crate::tree::Xattr;

pub use error::DiskError;
pub use extents::{Budget, Extent};
pub use inode::{Inode, Kind};

/// A scratch disk, open for reading.
#[derive(Debug)]
pub struct Scratch {
    disk: Disk,
    geometry: Geometry,
    errors: bool,
    written_at: u32,
}

/// Whether at `path` there is an ext4, of whoever's making, that can be mounted where nothing can be written: its journal, if
/// it has one, has nothing to be replayed.
///
/// # Errors
/// The kernel's, but for what is too short.
pub fn needs_no_recovery(path: &Path) -> io::Result<bool> {
    let mut block: SuperBlock = parse(&[0; size_of::<SuperBlock>()]).expect("as many bytes as it has");
    let offset = u64::try_from(SUPER_OFFSET).expect("a small constant");
    match File::open(path)?.read_exact_at(block.as_mut_bytes(), offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
        Ok(()) => {
            let recover = block.s_feature_incompat.get() & spec::INCOMPAT_RECOVER != 0;
            Ok(block.s_magic.get() == SUPER_MAGIC && !recover)
        }
    }
}

impl Scratch {
    /// Opens an image and replays its journal in memory. The image is not changed, and must not change.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(image: &Path) -> Result<Self, DiskError> {
        let open = |source| DiskError::Open { path: image.to_owned(), source };
        let file = File::open(image).map_err(open)?;
        let size = file.metadata().map_err(open)?.len();
        let geometry = Geometry::of(size).ok_or(DiskError::Size { size })?;
        let mut disk = Disk { file, blocks: geometry.blocks, logged: std::collections::BTreeMap::new() };
        let before = super_block(&disk, &geometry)?;
        let needed = before.s_feature_incompat.get() & spec::INCOMPAT_RECOVER != 0;
        disk.logged = journal::replay(&disk, &geometry, needed)?;
        // The replayed one counts.
        let after = super_block(&disk, &geometry)?;
        let errors = [before, after].iter().any(|block| block.s_state.get() & spec::ERROR_FS != 0);
        Ok(Self { disk, geometry, errors, written_at: after.s_wtime.get() })
    }

    /// Whether the guest's kernel noted that something was wrong with the disk.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors
    }

    /// When the guest's kernel last wrote the super block, as a freeze and an unmount do: seconds since the epoch, by the
    /// guest's clock.
    #[must_use]
    pub fn written_at(&self) -> u32 {
        self.written_at
    }

    /// What all files together may use, counted down by [`Self::extents`] and [`Self::names`].
    #[must_use]
    pub fn budget(&self) -> Budget {
        Budget::new(self.geometry.blocks)
    }

    /// The root directory.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn root(&self) -> Result<Inode, DiskError> {
        self.inode(ROOT_INO)
    }

    /// The inode of that number, as found in a directory.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn inode(&self, number: u32) -> Result<Inode, DiskError> {
        let group = u64::from(number.wrapping_sub(1) / INODES_PER_GROUP);
        // Reserved ones but the root have no names.
        if number == 0
            || group >= self.geometry.groups
            || (number < super::spec::FIRST_INO && number != ROOT_INO)
        {
            return Err(DiskError::Inode { inode: number, what: "there is none with this number" });
        }
        self.check_group(group)?;
        let position = u64::from((number - 1) % INODES_PER_GROUP) * u64::from(INODE_SIZE);
        let mut bytes = [0; size_of::<RawInode>()];
        self.disk.read(self.geometry.inode_table(group), position, &mut bytes)?;
        Inode::parse(number, &parse(&bytes).expect("all of its bytes are there"))
    }

    /// Shows each name in `directory`, with its inode's number, to `each`: lawful names, not `.` nor `..`, in no order, and
    /// perhaps twice.
    ///
    /// # Errors
    /// [`DiskError`], and what `each` gives.
    pub fn names<E: From<DiskError>>(
        &self,
        directory: &Inode,
        budget: &mut Budget,
        each: &mut impl FnMut(&[u8], u32) -> Result<(), E>,
    ) -> Result<(), E> {
        if directory.kind != Kind::Directory {
            return Err(DiskError::Inode { inode: directory.number, what: "it is not a directory" }.into());
        }
        directory::walk(&self.disk, directory, budget, each)
    }

    /// Shows the written pieces of the regular file `file` to `each`, in order; between them are holes. Pieces can reach
    /// beyond the file's size.
    ///
    /// # Errors
    /// [`DiskError`], and what `each` gives.
    pub fn extents<E: From<DiskError>>(
        &self,
        file: &Inode,
        budget: &mut Budget,
        each: &mut impl FnMut(Extent) -> Result<(), E>,
    ) -> Result<(), E> {
        extents::walk(&self.disk, file, budget, each)
    }

    /// Where a symbolic link leads: 1 to 4095 bytes without NUL.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn target(&self, link: &Inode) -> Result<Vec<u8>, DiskError> {
        let broken = |what| DiskError::Inode { inode: link.number, what };
        if link.kind != Kind::Symlink {
            return Err(broken("it is not a link"));
        }
        let size = usize::try_from(link.size).map_err(|_| broken("no link has such a length"))?;
        let mut target = if link.is_short_link() {
            link.block.to_vec()
        } else {
            let mut found = None;
            let mut budget = Budget::new(1);
            extents::walk(&self.disk, link, &mut budget, &mut |extent: Extent| {
                found = Some(extent);
                Ok::<(), DiskError>(())
            })?;
            let extent = found.filter(|extent| extent.file == 0);
            let extent = extent.ok_or_else(|| broken("a link has no target"))?;
            self.disk.block(extent.disk)?.to_vec()
        };
        target.truncate(size);
        if target.contains(&0) { Err(broken("a link's target has a NUL")) } else { Ok(target) }
    }

    /// The extended attributes of a file of any kind, sorted by name.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn attributes(&self, inode: &Inode) -> Result<Vec<Xattr>, DiskError> {
        attributes::read(&self.disk, inode)
    }

    /// Fills `bytes` with data of `extent`, from `offset` bytes in it on. The caller stays within the extent.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn read(&self, extent: Extent, offset: u64, bytes: &mut [u8]) -> Result<(), DiskError> {
        self.disk.read(extent.disk, offset, bytes)
    }

    /// The image, if an extent's data is in it as it is: then at `extent.disk` times 4096.
    #[must_use]
    pub fn plain(&self, extent: Extent) -> Option<BorrowedFd<'_>> {
        self.disk.is_plain(extent.disk, extent.count).then(|| self.disk.file.as_fd())
    }

    /// The group's descriptor has a right checksum and says what we know.
    fn check_group(&self, group: u64) -> Result<(), DiskError> {
        let broken = |what| DiskError::Group { group, what };
        let mut bytes = [0; size_of::<GroupDesc>()];
        self.disk.read(1, group * u64::from(DESC_SIZE), &mut bytes)?;
        let descriptor: GroupDesc = parse(&bytes).expect("all of its bytes are there");
        let table = u64::from(descriptor.bg_inode_table_lo.get())
            | u64::from(descriptor.bg_inode_table_hi.get()) << 32;
        if checksum(&descriptor, group) != descriptor.bg_checksum.get() {
            return Err(broken("its checksum is wrong"));
        }
        if table != self.geometry.inode_table(group) { Err(broken("its inodes have moved")) } else { Ok(()) }
    }
}

/// The super block, which must be ours.
fn super_block(disk: &Disk, geometry: &Geometry) -> Result<SuperBlock, DiskError> {
    let mut block: SuperBlock = parse(&[0; size_of::<SuperBlock>()]).expect("as many bytes as it has");
    let offset = u64::try_from(SUPER_OFFSET).expect("a small constant");
    disk.read(0, offset, block.as_mut_bytes())?;
    let wide = |lo: zerocopy::little_endian::U32, hi: zerocopy::little_endian::U32| {
        u64::from(lo.get()) | u64::from(hi.get()) << 32
    };
    let inodes = geometry.groups * u64::from(INODES_PER_GROUP);
    let facts = [
        ("s_magic", block.s_magic.get() == SUPER_MAGIC),
        ("s_uuid", block.s_uuid == UUID),
        ("s_rev_level", block.s_rev_level.get() == DYNAMIC_REV),
        ("s_log_block_size", block.s_log_block_size.get() == LOG_BLOCK_SIZE),
        ("s_first_data_block", block.s_first_data_block.get() == 0),
        ("s_blocks_count", wide(block.s_blocks_count_lo, block.s_blocks_count_hi) == geometry.blocks),
        ("s_blocks_per_group", u64::from(block.s_blocks_per_group.get()) == BLOCKS_PER_GROUP),
        ("s_inodes_per_group", block.s_inodes_per_group.get() == INODES_PER_GROUP),
        ("s_inodes_count", u64::from(block.s_inodes_count.get()) == inodes),
        ("s_inode_size", block.s_inode_size.get() == INODE_SIZE),
        ("s_desc_size", block.s_desc_size.get() == DESC_SIZE),
        ("s_journal_inum", block.s_journal_inum.get() == JOURNAL_INO),
    ];
    if let Some((field, _)) = facts.iter().find(|(_, holds)| !holds) {
        return Err(DiskError::SuperBlock { field });
    }
    let [compat, incompat, ro_compat] =
        [block.s_feature_compat, block.s_feature_incompat, block.s_feature_ro_compat].map(|set| set.get());
    if compat != FEATURE_COMPAT
        || incompat & !spec::INCOMPAT_RECOVER != FEATURE_INCOMPAT
        || ro_compat != FEATURE_RO_COMPAT
    {
        return Err(DiskError::Features { compat, incompat, ro_compat });
    }
    Ok(block)
}

const _: () = assert!(BLOCK_SIZE == 4096);
