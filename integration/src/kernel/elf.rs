//! A `vmlinux` in, the part of it that a VMM loads out: file header, program headers and segments, nothing else.
//!
//! `strip` leaves the segments two megabytes apart in the file, one quarter of it holes. Packed they follow each other on
//! page boundaries. The input comes from our own linker, but is read as if it did not: no panic, no overflow.

use thiserror::Error;

/// `e_ident`: ELF, 64 bit, little endian, version 1 (System V gABI, "ELF Identification").
const IDENT: [u8; 7] = [0x7f, b'E', b'L', b'F', 2, 1, 1];
/// `ET_EXEC` (gABI, "ELF Header").
const ET_EXEC: u16 = 2;
/// `EM_X86_64` (psABI x86-64, "ELF Header").
const EM_X86_64: u16 = 62;
/// `PT_LOAD` (gABI, "Program Header").
const PT_LOAD: u32 = 1;
/// `PT_NOTE` (gABI, "Program Header").
const PT_NOTE: u32 = 4;
/// Size of `Elf64_Ehdr`.
const EHDR: usize = 64;
/// Size of `Elf64_Phdr`.
const PHDR: usize = 56;
/// `XEN_ELFNOTE_PHYS32_ENTRY` (Xen, `public/elfnote.h`): the 32-bit entry point of the PVH boot protocol.
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
/// Segments start on a page, so that they can be mapped as well as read.
const PAGE: usize = 4096;

/// Why a kernel is not one that the VMM can boot.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ElfError {
    /// The file ends within a structure.
    #[error("The kernel is cut off at {what}")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// Not an x86-64 executable.
    #[error("The kernel is not a 64-bit x86 ELF executable")]
    NotExecutable,
    /// No `XEN_ELFNOTE_PHYS32_ENTRY`: built without `CONFIG_PVH`.
    #[error("The kernel has no PVH entry point (CONFIG_PVH)")]
    NoPvhEntry,
    /// The PVH entry point is in none of the loaded segments.
    #[error("The kernel's PVH entry point {entry:#x} is outside of what is loaded")]
    EntryOutside {
        /// Physical address of the entry point.
        entry: u64,
    },
}

/// One program header, as in the file.
#[derive(Debug, Clone, Copy)]
struct Segment {
    kind: u32,
    offset: usize,
    physical: u64,
    file_size: usize,
    /// Where its header is in the file.
    header: usize,
}

/// Packs `vmlinux`, after checking that it is an executable for x86-64 with a PVH entry point inside what is loaded.
///
/// # Errors
/// [`ElfError`], naming what is wrong with the file.
pub fn pack(vmlinux: &[u8]) -> Result<Vec<u8>, ElfError> {
    let segments = segments(vmlinux)?;
    let entry = pvh_entry(vmlinux, &segments)?;
    let inside = |segment: &Segment| {
        entry
            .checked_sub(segment.physical)
            .is_some_and(|at| usize::try_from(at).is_ok_and(|at| at < segment.file_size))
    };
    if !segments.iter().any(|segment| segment.kind == PT_LOAD && inside(segment)) {
        return Err(ElfError::EntryOutside { entry });
    }

    let mut packed = slice(vmlinux, 0, EHDR, "the file header")?.to_vec();
    put(&mut packed, 0x20, &to_u64(EHDR).to_le_bytes()); // e_phoff
    put(&mut packed, 0x28, &[0; 8]); // e_shoff
    put(&mut packed, 0x3c, &[0; 4]); // e_shnum, e_shstrndx
    for segment in &segments {
        packed.extend_from_slice(slice(vmlinux, segment.header, PHDR, "the program headers")?);
    }
    for (index, segment) in segments.iter().enumerate().filter(|(_, segment)| segment.kind == PT_LOAD) {
        packed.resize(packed.len().next_multiple_of(PAGE), 0);
        let offset = packed.len();
        packed.extend_from_slice(slice(vmlinux, segment.offset, segment.file_size, "a segment")?);
        place(&mut packed, index, offset, PAGE);
    }
    for (index, segment) in segments.iter().enumerate().filter(|(_, segment)| segment.kind == PT_NOTE) {
        packed.resize(packed.len().next_multiple_of(4), 0);
        let offset = packed.len();
        packed.extend_from_slice(slice(vmlinux, segment.offset, segment.file_size, "the notes")?);
        place(&mut packed, index, offset, 4);
    }
    Ok(packed)
}

/// Writes `p_offset` and `p_align` of the program header `index`.
fn place(packed: &mut [u8], index: usize, offset: usize, align: usize) {
    let header = EHDR + index * PHDR;
    put(packed, header + 0x08, &to_u64(offset).to_le_bytes());
    put(packed, header + 0x30, &to_u64(align).to_le_bytes());
}

/// The segments that are loaded, and the notes.
fn segments(file: &[u8]) -> Result<Vec<Segment>, ElfError> {
    if !file.starts_with(&IDENT) || u16_at(file, 0x10)? != ET_EXEC || u16_at(file, 0x12)? != EM_X86_64 {
        return Err(ElfError::NotExecutable);
    }
    let table = to_usize(u64_at(file, 0x20)?, "the program headers")?;
    let mut found = Vec::new();
    for index in 0..usize::from(u16_at(file, 0x38)?) {
        let header =
            table.checked_add(index * PHDR).ok_or(ElfError::Truncated { what: "the program headers" })?;
        let entry = slice(file, header, PHDR, "the program headers")?;
        let segment = Segment {
            kind: u32_at(entry, 0)?,
            offset: to_usize(u64_at(entry, 0x08)?, "a segment")?,
            physical: u64_at(entry, 0x18)?,
            file_size: to_usize(u64_at(entry, 0x20)?, "a segment")?,
            header,
        };
        if matches!(segment.kind, PT_LOAD | PT_NOTE) {
            found.push(segment);
        }
    }
    Ok(found)
}

/// The physical address in the note `XEN_ELFNOTE_PHYS32_ENTRY`.
fn pvh_entry(file: &[u8], segments: &[Segment]) -> Result<u64, ElfError> {
    for segment in segments.iter().filter(|segment| segment.kind == PT_NOTE) {
        let notes = slice(file, segment.offset, segment.file_size, "the notes")?;
        let mut at = 0_usize;
        while at + 12 <= notes.len() {
            let name_size = to_usize(u64::from(u32_at(notes, at)?), "a note")?;
            let size = to_usize(u64::from(u32_at(notes, at + 4)?), "a note")?;
            let name = at + 12;
            let content = name + name_size.next_multiple_of(4);
            if u32_at(notes, at + 8)? == XEN_ELFNOTE_PHYS32_ENTRY
                && slice(notes, name, name_size, "a note")? == b"Xen\0"
            {
                // The kernel writes the width of its own words.
                return if size == 4 {
                    u32_at(notes, content).map(u64::from)
                } else {
                    u64_at(notes, content)
                };
            }
            at = content + size.next_multiple_of(4);
        }
    }
    Err(ElfError::NoPvhEntry)
}

fn slice<'a>(bytes: &'a [u8], at: usize, len: usize, what: &'static str) -> Result<&'a [u8], ElfError> {
    at.checked_add(len).and_then(|end| bytes.get(at..end)).ok_or(ElfError::Truncated { what })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], ElfError> {
    let what = "a header";
    slice(bytes, at, N, what)?.try_into().map_err(|_| ElfError::Truncated { what })
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, ElfError> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, ElfError> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, ElfError> {
    array(bytes, at).map(u64::from_le_bytes)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// A length in memory always fits.
fn to_u64(value: usize) -> u64 {
    u64::try_from(value).expect("usize has at most 64 bits")
}

fn to_usize(value: u64, what: &'static str) -> Result<usize, ElfError> {
    usize::try_from(value).map_err(|_| ElfError::Truncated { what })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One loaded segment of 16 bytes at 1 MiB, far out in the file, and one note.
    fn vmlinux(note: u32, entry: u32) -> Vec<u8> {
        let mut file = vec![0; EHDR + 2 * PHDR];
        put(&mut file, 0, &IDENT);
        put(&mut file, 0x10, &ET_EXEC.to_le_bytes());
        put(&mut file, 0x12, &EM_X86_64.to_le_bytes());
        put(&mut file, 0x20, &64_u64.to_le_bytes());
        put(&mut file, 0x38, &2_u16.to_le_bytes());
        for (index, kind, offset, physical, size) in
            [(0, PT_LOAD, 0x20_0000_u64, 0x10_0000_u64, 16_u64), (1, PT_NOTE, 0x100, 0, 20)]
        {
            let header = EHDR + index * PHDR;
            put(&mut file, header, &kind.to_le_bytes());
            put(&mut file, header + 0x08, &offset.to_le_bytes());
            put(&mut file, header + 0x18, &physical.to_le_bytes());
            put(&mut file, header + 0x20, &size.to_le_bytes());
        }
        file.resize(0x100, 0);
        for word in [4, 4, note, u32::from_le_bytes(*b"Xen\0"), entry] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.resize(0x20_0000, 0);
        file.extend_from_slice(b"the loaded bytes");
        file
    }

    #[test]
    fn segments_keep_their_content_and_lose_the_holes() {
        let packed = pack(&vmlinux(18, 0x10_0004)).unwrap();
        assert!(packed.len() < 3 * PAGE, "{} bytes", packed.len());
        let segments = segments(&packed).unwrap();
        assert_eq!(&packed[segments[0].offset..][..16], b"the loaded bytes");
        assert_eq!(segments[0].offset % PAGE, 0);
        assert_eq!(pvh_entry(&packed, &segments), Ok(0x10_0004));
        assert_eq!(pack(&packed).unwrap(), packed, "packing twice changes nothing");
    }

    #[test]
    fn each_fault_has_its_name() {
        assert_eq!(pack(b"MZ"), Err(ElfError::NotExecutable));
        assert_eq!(pack(&vmlinux(17, 0x10_0000)), Err(ElfError::NoPvhEntry));
        assert_eq!(pack(&vmlinux(18, 0x10_0010)), Err(ElfError::EntryOutside { entry: 0x10_0010 }));
        let whole = vmlinux(18, 0x10_0000);
        assert_eq!(pack(&whole[..whole.len() - 1]), Err(ElfError::Truncated { what: "a segment" }));
        assert_eq!(pack(&whole[..0x80]), Err(ElfError::Truncated { what: "the program headers" }));
    }

    proptest! {
        #[test]
        fn no_input_panics(at in 0_usize..0x120, value in any::<u64>(), cut in 0_usize..0x20_0010) {
            let mut file = vmlinux(18, 0x10_0000);
            let end = file.len().min(at + 8);
            file[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
            file.truncate(cut.max(0x40));
            let _ = pack(&file);
        }
    }
}
