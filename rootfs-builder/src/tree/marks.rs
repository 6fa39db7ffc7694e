//! What overlayfs notes on the files of a layer: `Documentation/filesystems/overlayfs.rst` and `fs/overlayfs/` of Linux 6.12.
//!
//! In: an inode of a layer, with all its attributes. Out: what the notes say, and the attributes that the merged file has.
//! It must never know the other layers.

use super::{Device, Inode, Kind, Xattr};

/// `OVL_XATTR_TRUSTED_PREFIX`.
const TRUSTED: &[u8] = b"trusted.overlay.";
/// `OVL_XATTR_USER_PREFIX`.
const USER: &[u8] = b"user.overlay.";
/// `OVL_XATTR_ESCAPE_PREFIX`, behind one of the above: an attribute of a file that is itself in a layer of an overlay which
/// is inside of this overlay. It is shown without this part.
const ESCAPE: &[u8] = b"overlay.";
/// `OVL_XATTR_OPAQUE_POSTFIX`.
const OPAQUE: &[u8] = b"opaque";
/// `OVL_XATTR_XWHITEOUT_POSTFIX`.
const WHITEOUT: &[u8] = b"whiteout";
/// `OVL_XATTR_REDIRECT_POSTFIX`.
const REDIRECT: &[u8] = b"redirect";
/// `OVL_XATTR_METACOPY_POSTFIX`.
const METACOPY: &[u8] = b"metacopy";
/// `WHITEOUT_DEV`.
const WHITEOUT_DEVICE: Device = Device { major: 0, minor: 0 };

/// Where an overlay keeps its notes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Marks {
    /// `trusted.overlay.*`
    #[default]
    Trusted,
    /// `user.overlay.*`: the mount option `userxattr`.
    User,
}

/// How much of what is below a directory hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opaque {
    /// Nothing.
    No,
    /// Everything.
    All,
    /// Nothing, but empty files in it can be whiteouts by their attribute.
    Names,
}

impl Marks {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Trusted => TRUSTED,
            Self::User => USER,
        }
    }

    fn value<'a>(self, inode: &'a Inode, mark: &[u8]) -> Option<&'a [u8]> {
        let found = inode.xattrs.iter().find(|xattr| xattr.name.strip_prefix(self.prefix()) == Some(mark));
        found.map(|xattr| xattr.value.as_slice())
    }

    pub(super) fn opaque(self, directory: &Inode) -> Opaque {
        match self.value(directory, OPAQUE) {
            Some(b"y") => Opaque::All,
            Some(b"x") => Opaque::Names,
            _ => Opaque::No,
        }
    }

    /// Whether the inode is no file but says that there is none; `directory` is what its directory says.
    pub(super) fn whiteout(self, inode: &Inode, directory: Opaque) -> bool {
        match inode.kind {
            Kind::CharacterDevice(device) => device == WHITEOUT_DEVICE,
            Kind::Regular(0) => directory == Opaque::Names && self.value(inode, WHITEOUT).is_some(),
            _ => false,
        }
    }

    /// Whether a part of the file is elsewhere: its data under the same or another path, or a directory's content.
    pub(super) fn moved(self, inode: &Inode) -> bool {
        self.value(inode, REDIRECT).is_some() || self.value(inode, METACOPY).is_some()
    }

    /// The attributes that the file has in the merged tree, for a guest whose own overlay has its notes in
    /// `trusted.overlay.*`: it takes the escape off `trusted.overlay.overlay.*` itself.
    pub(super) fn visible(self, xattrs: &[Xattr]) -> Vec<Xattr> {
        let mut visible = Vec::with_capacity(xattrs.len());
        for xattr in xattrs {
            match (self, xattr.name.strip_prefix(self.prefix())) {
                (_, None) if !xattr.name.starts_with(TRUSTED) => visible.push(xattr.clone()),
                (Self::Trusted, Some(rest)) if rest.starts_with(ESCAPE) => visible.push(xattr.clone()),
                (Self::User, Some(rest)) if rest.starts_with(ESCAPE) => {
                    let name = [USER, &rest[ESCAPE.len()..]].concat();
                    visible.push(Xattr { name, value: xattr.value.clone() });
                }
                _ => {}
            }
        }
        visible.sort_unstable();
        visible
    }
}

/// A whiteout in the form that every overlay understands, in the place of `inode`.
pub(super) fn whiteout(inode: &Inode) -> Inode {
    Inode {
        kind: Kind::CharacterDevice(WHITEOUT_DEVICE),
        permissions: 0,
        xattrs: Vec::new(),
        ..inode.clone()
    }
}

/// Marks a directory of the merged tree as opaque, for an overlay in a guest.
pub(super) fn make_opaque(inode: &mut Inode) {
    inode.xattrs.push(Xattr { name: [TRUSTED, OPAQUE].concat(), value: b"y".to_vec() });
    inode.xattrs.sort_unstable();
}
