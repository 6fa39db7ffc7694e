//! `/proc/PID/mountinfo`, see proc_pid_mountinfo(5).
//!
//! In: its text. Out: the mounts; a line that is none is left out. It must never touch a file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// `stx_mnt_id`.
    pub(super) id: u64,
    /// Major and minor number.
    pub(super) device: (u32, u32),
    /// Which directory of the file system is mounted.
    pub(super) root: PathBuf,
    /// Where.
    pub(super) point: PathBuf,
    /// Of the mount, with commas between them.
    options: Vec<u8>,
    /// Such as `ext4`.
    pub(super) filesystem: String,
    /// Such as a device.
    pub(super) source: OsString,
    /// Of the file system, with commas between them, and still with the kernel's escapes.
    pub(super) super_options: Vec<u8>,
}

impl Mount {
    /// Whether the mount has an option.
    pub(super) fn has(&self, option: &[u8]) -> bool {
        self.options.split(|byte| *byte == b',').any(|other| other == option)
    }

    /// Whether the file system has an option.
    pub(super) fn has_super(&self, option: &[u8]) -> bool {
        self.super_options.split(|byte| *byte == b',').any(|other| other == option)
    }
}

/// All mounts in `text`.
pub(super) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let _parent = fields.next()?;
    let mut device = fields.next()?.splitn(2, |byte| *byte == b':');
    let device = (u32::try_from(number(device.next()?)?).ok()?, u32::try_from(number(device.next()?)?).ok()?);
    let root = path(fields.next()?);
    let point = path(fields.next()?);
    let options = fields.next()?.to_vec();
    // Any number of optional fields.
    fields.by_ref().find(|field| *field == b"-")?;
    let filesystem = String::from_utf8(unescape(fields.next()?)).ok()?;
    let source = OsString::from_vec(unescape(fields.next()?));
    let super_options = fields.next()?.to_vec();
    Some(Mount { id, device, root, point, options, filesystem, source, super_options })
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

/// Undoes `mangle()` and `seq_escape()` of the kernel: a backslash and three octal digits for a byte.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| *first == b'\\');
        let octal = digits.and_then(|digits| {
            digits.iter().try_fold(0_u32, |value, digit| Some(value * 8 + char::from(*digit).to_digit(8)?))
        });
        if let Some(Ok(byte)) = octal.map(u8::try_from) {
            out.push(byte);
            rest = &behind[3..];
        } else {
            out.push(*first);
            rest = behind;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_become_mounts() {
        let text = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue\n\
            nonsense\n72 63 0:43 / /m rw,relatime,idmapped - overlay o\\134p rw,lowerdir=a\\134:b\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].id, mounts[0].device), (36, (98, 0)));
        assert_eq!(
            (mounts[0].root.as_path(), mounts[0].point.as_path()),
            (Path::new("/mnt1"), Path::new("/mnt 2"))
        );
        assert!(
            mounts[0].has(b"noatime") && !mounts[0].has(b"atime") && mounts[0].has_super(b"errors=continue")
        );
        assert!(mounts[1].has(b"idmapped"));
        assert_eq!(mounts[1].source, "o\\p");
        assert_eq!(mounts[1].super_options, b"rw,lowerdir=a\\134:b");
    }

    #[test]
    fn escapes() {
        let cases: [(&[u8], &[u8]); 5] = [
            (b"\\040", b" "),
            (b"a\\134b", b"a\\b"),
            (b"\\", b"\\"),
            (b"\\09", b"\\09"),
            (b"\\777", b"\\777"),
        ];
        for (text, bytes) in cases {
            assert_eq!(unescape(text), bytes, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_harmless(text: Vec<u8>, lines in "([0-9:/ \\\\,=a-]{0,20}[ \n]){0,30}") {
            parse(&text);
            parse(lines.as_bytes());
        }
    }
}
