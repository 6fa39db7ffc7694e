//! Layers of an overlay become one tree, as overlayfs itself would show them.
//!
//! In: a tree for each layer, the lowest first, with overlayfs' notes. Out: one tree; each inode knows its layer, and each
//! path leads to the same file in that layer. It must never touch a file.
//!
//! What is on top hides what has the same name below, but directories on directories are merged, down to the first that is
//! opaque or is not a directory. A directory's own metadata is that of the uppermost.

use std::collections::HashMap;
use std::path::PathBuf;

use super::marks::{self, Marks, Opaque};
use super::{Inode, InodeId, Kind, Tree, TreeError};

/// What becomes of notes for layers further below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// There are none below: what is hidden is gone.
    Visible,
    /// There are some, and an overlay of the guest's will put this tree above them: whiteouts stay as character devices
    /// 0/0, opaque directories as `trusted.overlay.opaque`.
    Hidden,
}

/// Layers that cannot be merged by their names alone.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// `metacopy` or `redirect_dir` was in use when the layer was written.
    #[error("{path:?} in layer {layer} has a part of it elsewhere (overlay's metacopy or redirect)")]
    Moved {
        /// Counted from the lowest.
        layer: usize,
        /// Relative to the layer.
        path: PathBuf,
    },
    /// More layers than overlayfs can have.
    #[error("There are more than 65535 layers, or none")]
    Layers,
    /// What was merged makes no tree.
    #[error("The directory {directory:?} of the merged layers cannot be part of an image")]
    Tree {
        /// Relative to the root.
        directory: PathBuf,
        /// What is wrong.
        source: TreeError,
    },
}

/// Merges `layers`, the lowest first.
///
/// # Errors
/// [`MergeError`].
pub fn merge(layers: &[Tree], marks: Marks, keep: Keep) -> Result<Tree, MergeError> {
    let top = layers.len().checked_sub(1).ok_or(MergeError::Layers)?;
    u16::try_from(layers.len()).map_err(|_| MergeError::Layers)?;
    let root = Found { layer: top, id: InodeId::ROOT };
    let mut merger = Merger { layers, marks, keep, links: HashMap::new(), tree: Tree::new(placeholder()) };
    // The kernel does not ask whether a layer's own root is opaque.
    let sources: Sources = (0..=top).rev().map(|layer| Found { layer, id: InodeId::ROOT }).collect();
    merger.tree = Tree::new(merger.inode(root));
    let mut pending = vec![(InodeId::ROOT, sources)];
    while let Some((directory, sources)) = pending.pop() {
        let from = pending.len();
        merger.directory(directory, &sources, &mut pending)?;
        pending[from..].reverse();
    }
    Ok(merger.tree)
}

/// An inode of one layer.
#[derive(Clone, Copy, Debug)]
struct Found {
    layer: usize,
    id: InodeId,
}

struct Merger<'a> {
    layers: &'a [Tree],
    marks: Marks,
    keep: Keep,
    /// Files with several names.
    links: HashMap<(usize, InodeId), InodeId>,
    tree: Tree,
}

/// The directories of several layers that make one, the uppermost first.
type Sources = Vec<Found>;

impl<'a> Merger<'a> {
    fn source(&self, found: Found) -> &'a Inode {
        &self.layers[found.layer].node(found.id).inode
    }

    /// The inode as the merged tree has it.
    fn inode(&self, found: Found) -> Inode {
        let source = self.source(found);
        let kind = match &source.kind {
            Kind::Directory(_) => Kind::Directory(Vec::new()),
            other => other.clone(),
        };
        let mut inode = Inode { kind, xattrs: Vec::new(), ..*source };
        if !source.xattrs.is_empty() {
            inode.xattrs = self.marks.visible(&source.xattrs);
        }
        inode.identity.layer = u16::try_from(found.layer).expect("merge has counted the layers");
        inode
    }

    /// Which of the directories `below` (uppermost first) are merged with `top`, and whether they hide the layers under
    /// all of these. What is not a directory, or is one that was hidden, ends it.
    fn sources(&self, top: Found, below: impl Iterator<Item = Found>) -> Result<(Sources, bool), MergeError> {
        let mut sources = Vec::new();
        for found in std::iter::once(top).chain(below) {
            let inode = self.source(found);
            if !matches!(inode.kind, Kind::Directory(_)) {
                return Ok((sources, true));
            }
            if self.marks.moved(inode) {
                return Err(self.moved(found));
            }
            sources.push(found);
            if self.marks.opaque(inode) == Opaque::All {
                return Ok((sources, true));
            }
        }
        Ok((sources, false))
    }

    /// Adds all that is in `directory`; its subdirectories are noted in `pending`.
    fn directory(
        &mut self,
        directory: InodeId,
        sources: &[Found],
        pending: &mut Vec<(InodeId, Sources)>,
    ) -> Result<(), MergeError> {
        let mut names: Vec<(&'a [u8], Found, Opaque)> = Vec::new();
        for source in sources {
            let inode = self.source(*source);
            let opaque = self.marks.opaque(inode);
            if let Kind::Directory(children) = &inode.kind {
                let found = |id| Found { layer: source.layer, id };
                names.extend(children.iter().map(|child| (&*child.name, found(child.inode), opaque)));
            }
        }
        if sources.len() > 1 {
            // Stable: under one name the uppermost stays first.
            names.sort_by_key(|(name, ..)| *name);
        }
        for same in names.chunk_by(|one, next| one.0 == next.0) {
            self.name(directory, same, pending).map_err(|error| match error {
                Refused::Tree(source) => MergeError::Tree { directory: self.tree.path(directory), source },
                Refused::Merge(error) => error,
            })?;
        }
        Ok(())
    }

    /// Adds what `same`, uppermost first, has under one name.
    fn name(
        &mut self,
        directory: InodeId,
        same: &[(&[u8], Found, Opaque)],
        pending: &mut Vec<(InodeId, Sources)>,
    ) -> Result<(), Refused> {
        let (name, top, opaque) = same[0];
        let source = self.source(top);
        if self.marks.whiteout(source, opaque) {
            if self.keep == Keep::Hidden {
                let mut inode = marks::whiteout(source);
                inode.identity.layer = self.inode(top).identity.layer;
                self.tree.add(directory, name, inode)?;
            }
            return Ok(());
        }
        if matches!(source.kind, Kind::Directory(_)) {
            let (sources, hides) = self.sources(top, same[1..].iter().map(|(_, found, _)| *found))?;
            let mut inode = self.inode(top);
            if hides && self.keep == Keep::Hidden {
                marks::make_opaque(&mut inode);
            }
            let id = self.tree.add(directory, name, inode)?;
            pending.push((id, sources));
            return Ok(());
        }
        if self.marks.moved(source) {
            return Err(self.moved(top).into());
        }
        let linked = self.layers[top.layer].node(top.id).links > 1;
        if linked && let Some(known) = self.links.get(&(top.layer, top.id)) {
            return Ok(self.tree.link(directory, name, *known)?);
        }
        let id = self.tree.add(directory, name, self.inode(top))?;
        if linked {
            self.links.insert((top.layer, top.id), id);
        }
        Ok(())
    }

    fn moved(&self, found: Found) -> MergeError {
        MergeError::Moved { layer: found.layer, path: self.layers[found.layer].path(found.id) }
    }
}

/// [`MergeError`] before it is known in which directory.
enum Refused {
    Tree(TreeError),
    Merge(MergeError),
}

impl From<TreeError> for Refused {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

impl From<MergeError> for Refused {
    fn from(error: MergeError) -> Self {
        Self::Merge(error)
    }
}

/// Stands for the root until that is known.
fn placeholder() -> Inode {
    Inode {
        kind: Kind::Directory(Vec::new()),
        permissions: 0,
        uid: 0,
        gid: 0,
        mtime: super::Time::default(),
        xattrs: Vec::new(),
        identity: super::Identity::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Device, Identity, Time, Xattr};
    use super::*;

    fn inode(kind: Kind) -> Inode {
        Inode {
            kind,
            permissions: 0o755,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: vec![],
            identity: Identity::default(),
        }
    }

    fn marked(kind: Kind, name: &str, value: &[u8]) -> Inode {
        let xattrs = vec![Xattr { name: name.into(), value: value.to_vec() }];
        Inode { xattrs, ..inode(kind) }
    }

    fn directory() -> Inode {
        inode(Kind::Directory(vec![]))
    }

    fn whiteout() -> Inode {
        inode(Kind::CharacterDevice(Device { major: 0, minor: 0 }))
    }

    /// A layer from paths in order; the parents come first.
    fn layer(paths: &[(&str, Inode)]) -> Tree {
        let mut tree = Tree::new(directory());
        let mut known = HashMap::from([("", InodeId::ROOT)]);
        for (path, inode) in paths {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let id = tree.add(known[parent], name.as_bytes(), inode.clone()).unwrap();
            known.insert(path, id);
        }
        tree
    }

    /// Paths with their layer, `o` for an opaque directory and `w` for a whiteout.
    fn shown(tree: &Tree) -> Vec<String> {
        let mut all: Vec<String> = tree
            .nodes()
            .skip(1)
            .map(|(id, node)| {
                let path = tree.path(id).display().to_string();
                let note = match &node.inode.kind {
                    Kind::CharacterDevice(Device { major: 0, minor: 0 }) => "w",
                    _ if !node.inode.xattrs.is_empty() => "o",
                    _ => "",
                };
                format!("{path} {}{note}", node.inode.identity.layer)
            })
            .collect();
        all.sort();
        all
    }

    fn merged(layers: &[Tree], keep: Keep) -> Vec<String> {
        shown(&merge(layers, Marks::Trusted, keep).unwrap())
    }

    #[test]
    fn the_upper_hides_and_directories_merge() {
        let file = || inode(Kind::Regular(1));
        let low = layer(&[
            ("d", directory()),
            ("d/a", file()),
            ("d/b", file()),
            ("f", file()),
            ("g", directory()),
            ("g/x", file()),
        ]);
        let high = layer(&[
            ("d", directory()),
            ("d/b", file()),
            ("d/c", file()),
            ("f", directory()),
            ("f/y", file()),
            ("g", file()),
        ]);
        let both = [low, high];
        assert_eq!(merged(&both, Keep::Visible), ["d 1", "d/a 0", "d/b 1", "d/c 1", "f 1", "f/y 1", "g 1"]);
        // What is under a directory that replaced a file must stay hidden.
        assert_eq!(merged(&both, Keep::Hidden), ["d 1", "d/a 0", "d/b 1", "d/c 1", "f 1o", "f/y 1", "g 1"]);
    }

    #[test]
    fn whiteouts_and_opaque_directories_hide() {
        let file = || inode(Kind::Regular(1));
        let opaque = || marked(Kind::Directory(vec![]), "trusted.overlay.opaque", b"y");
        let layers = [
            layer(&[("a", file()), ("d", directory()), ("d/x", file()), ("e", directory()), ("e/x", file())]),
            layer(&[("a", whiteout()), ("d", opaque()), ("d/y", file()), ("e", whiteout())]),
            layer(&[("d", directory()), ("d/z", file()), ("e", directory()), ("e/z", file())]),
        ];
        assert_eq!(merged(&layers, Keep::Visible), ["d 2", "d/y 1", "d/z 2", "e 2", "e/z 2"]);
        assert_eq!(merged(&layers, Keep::Hidden), ["a 1w", "d 2o", "d/y 1", "d/z 2", "e 2o", "e/z 2"]);
    }

    #[test]
    fn whiteouts_by_attribute_need_their_directory_to_say_so() {
        let file = |value: &[u8]| marked(Kind::Regular(0), "trusted.overlay.whiteout", value);
        let low = || layer(&[("d", directory()), ("d/a", inode(Kind::Regular(1)))]);
        let high = |value| {
            layer(&[
                ("d", marked(Kind::Directory(vec![]), "trusted.overlay.opaque", value)),
                ("d/a", file(b"y")),
            ])
        };
        assert_eq!(merged(&[low(), high(b"x")], Keep::Visible), ["d 1"]);
        assert_eq!(merged(&[low(), high(b"x")], Keep::Hidden), ["d 1", "d/a 1w"]);
        assert_eq!(merged(&[low(), high(b"z")], Keep::Visible), ["d 1", "d/a 1"]);
    }

    #[test]
    fn files_with_a_part_elsewhere_are_refused() {
        for (kind, mark) in [
            (Kind::Directory(vec![]), "trusted.overlay.redirect"),
            (Kind::Regular(5), "trusted.overlay.metacopy"),
            (Kind::Regular(5), "trusted.overlay.redirect"),
        ] {
            let layers = [layer(&[]), layer(&[("d", directory()), ("d/m", marked(kind, mark, b"/x"))])];
            let error = merge(&layers, Marks::Trusted, Keep::Visible).unwrap_err();
            assert_eq!(error, MergeError::Moved { layer: 1, path: "d/m".into() });
            assert!(merge(&layers, Marks::User, Keep::Visible).is_ok());
        }
    }

    #[test]
    fn hard_links_stay_within_their_layer() {
        let mut low = layer(&[("a", inode(Kind::Regular(1)))]);
        let a = match &low.node(InodeId::ROOT).inode.kind {
            Kind::Directory(children) => children[0].inode,
            _ => unreachable!(),
        };
        low.link(InodeId::ROOT, b"b", a).unwrap();
        low.link(InodeId::ROOT, b"c", a).unwrap();
        let tree =
            merge(&[low, layer(&[("a", inode(Kind::Regular(2)))])], Marks::Trusted, Keep::Visible).unwrap();
        assert_eq!(tree.nodes().map(|(_, node)| node.links).collect::<Vec<_>>(), [2, 1, 2]);
        assert_eq!(shown(&tree), ["a 1", "b 0"]);
    }

    #[test]
    fn own_attributes_are_taken_off_and_escaped_ones_kept() {
        let names = [
            "security.capability",
            "trusted.overlay.origin",
            "trusted.overlay.overlay.opaque",
            "trusted.x",
            "user.overlay.a",
            "user.overlay.overlay.b",
        ];
        let xattrs = names.map(|name| Xattr { name: name.into(), value: vec![] }).to_vec();
        let layers = [layer(&[("f", Inode { xattrs, ..inode(Kind::Regular(1)) })])];
        let visible = |marks| {
            let tree = merge(&layers, marks, Keep::Visible).unwrap();
            let (_, node) = tree.nodes().last().unwrap();
            node.inode
                .xattrs
                .iter()
                .map(|xattr| String::from_utf8(xattr.name.clone()).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(visible(Marks::Trusted), [names[0], names[2], names[3], names[4], names[5]]);
        assert_eq!(visible(Marks::User), [names[0], names[3], "user.overlay.b"]);
    }
}
