//! Layers as images have them ([`shapes`]), and as nobody should ([`hostile`]).
//!
//! Whiteouts and owners need root and a file system that has them: where there are none, the tests say so.

mod hostile;
mod shapes;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::*;

/// Layers, each unpacked over those before.
struct Stack {
    directory: TempDir,
    layers: Vec<PathBuf>,
}

impl Stack {
    /// None where no layer can be made, with the reason on the test's output.
    fn new(test: &str) -> Option<Self> {
        // Of the build: a temporary directory of the system may be an overlay or a tmpfs.
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/image-tests");
        fs::create_dir_all(&target).unwrap();
        let directory = TempDir::new_in(target).unwrap();
        let mode = rustix::fs::Mode::empty();
        let kind = rustix::fs::FileType::CharacterDevice;
        let probe = directory.path().join("probe");
        if let Err(error) = rustix::fs::mknodat(rustix::fs::CWD, &probe, kind, mode, 0) {
            integration::dev::test::skipped(
                test,
                &format!("no whiteout can be made here ({error}): run it as root"),
            );
            return None;
        }
        Some(Self { directory, layers: Vec::new() })
    }

    fn add(&mut self, layer: &[u8]) -> Result<PathBuf, UnpackError> {
        self.add_limited(layer, Limits::default())
    }

    fn add_limited(&mut self, layer: &[u8], limits: Limits) -> Result<PathBuf, UnpackError> {
        let into = self.directory.path().join(self.layers.len().to_string());
        let _old = fs::remove_dir_all(&into);
        fs::create_dir(&into).unwrap();
        unpack(layer, Digest::of(layer), &into, &self.layers, limits)?;
        self.layers.push(into.clone());
        Ok(into)
    }
}

/// An archive in the making.
struct Tar(Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn header(name: &str, kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_mtime(1_000_000_000);
        header.set_uid(0);
        header.set_gid(0);
        let field = &mut header.as_gnu_mut().unwrap().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header
    }

    fn raw(mut self, mut header: Header, data: &[u8]) -> Self {
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, name: &str, data: &str) -> Self {
        self.raw(Self::header(name, EntryType::Regular, data.len() as u64), data.as_bytes())
    }

    fn directory(self, name: &str) -> Self {
        self.raw(Self::header(name, EntryType::Directory, 0), &[])
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        let mut header = Self::header(name, kind, 0);
        header.set_link_name_literal(target).unwrap();
        self.raw(header, &[])
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, name, target)
    }

    fn hard(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Link, name, target)
    }

    fn pax(mut self, pairs: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(pairs.iter().copied()).unwrap();
        self
    }

    fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// All of a layer: `w` a whiteout, `o` an opaque directory, `d` another one, `->` a link, else a file's content.
fn listing(layer: &Path) -> BTreeMap<String, String> {
    fn walk(at: &Path, root: &Path, to: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let kind = metadata.file_type();
            let what = if kind.is_dir() {
                walk(&path, root, to);
                if is_opaque(&path) { "o".into() } else { "d".into() }
            } else if kind.is_symlink() {
                format!("-> {}", path.read_link().unwrap().display())
            } else if kind.is_char_device() && metadata.rdev() == 0 {
                "w".into()
            } else if kind.is_file() {
                fs::read_to_string(&path).unwrap()
            } else {
                "?".into()
            };
            to.insert(path.strip_prefix(root).unwrap().display().to_string(), what);
        }
    }
    let mut to = BTreeMap::new();
    walk(layer, layer, &mut to);
    to
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 2];
    rustix::fs::lgetxattr(path, view::OPAQUE, &mut value[..]).is_ok_and(|length| &value[..length] == b"y")
}

fn shows(layer: &Path, wanted: &[(&str, &str)]) {
    let wanted: BTreeMap<String, String> =
        wanted.iter().map(|(path, what)| ((*path).into(), (*what).into())).collect();
    assert_eq!(listing(layer), wanted);
}
