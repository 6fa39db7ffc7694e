//! Layers become a composition: walk each, merge, lay out, write.
//!
//! In: directories, the lowest first. Out: a composition under its name, complete, or nothing there. No file of a layer is
//! opened but its directories. It must never know where the layers come from, nor who keeps the composition.

use std::fs::{self, File};
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::read::{Composition, CompositionError};
use super::write::{LayerRoot, write};
use crate::erofs::{Layout, LayoutError};
use crate::output::{Durability, Output, OutputError};
use crate::tree::{
    Content, InodeId, Keep, Marks, MergeError, OwnDirectory, Tree, WalkError, Walked, merge, walk_as,
    walk_layer,
};

/// What the directories are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One directory that shows a whole root, itself a merged one perhaps. Mounts below it are part of it.
    Plain,
    /// All lowest layers of an overlay. Nobody writes to them.
    Chain(Marks),
    /// Layers of an overlay with others below them. Names in them may go while the composition is in use.
    Top(Marks),
}

/// No composition could be made of these layers.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// A layer's directory has no name.
    #[error("Cannot find the layer {layer:?}: check that it exists")]
    Layer {
        /// Its directory.
        layer: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Reading names and metadata.
    #[error("Cannot read the layer {layer:?}")]
    Walk {
        /// Its directory.
        layer: PathBuf,
        /// What failed.
        source: WalkError,
    },
    /// Overlayfs would not show what is mounted in a layer.
    #[error("Something is mounted at {path:?} in the layer {layer:?}")]
    Mounted {
        /// The layer's directory.
        layer: PathBuf,
        /// Relative to it.
        path: PathBuf,
    },
    /// Making one tree of the layers.
    #[error("Cannot merge the layers")]
    Merge(#[from] MergeError),
    /// Finding a place for everything.
    #[error("Cannot lay out the merged layers")]
    Layout(#[from] LayoutError),
    /// Making or naming the file.
    #[error("Cannot store the composition")]
    Output(#[from] OutputError),
    /// Writing it.
    #[error("Cannot write the composition {path:?}: check the free space")]
    Write {
        /// Where it was to be.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Reading it back.
    #[error("Cannot open the composition {path:?}")]
    Open {
        /// Where it is.
        path: PathBuf,
        /// What failed.
        source: CompositionError,
    },
}

impl ComposeError {
    /// The layers are sound, but only the kernel can merge them: what it shows can be composed, as [`Kind::Plain`].
    #[must_use]
    pub fn wants_plain(&self) -> bool {
        matches!(self, Self::Mounted { .. } | Self::Merge(MergeError::Moved { .. }))
    }
}

/// A composition under its name.
#[derive(Debug)]
pub struct Composed {
    /// Where it is.
    pub path: PathBuf,
    /// The same, open.
    pub composition: Composition,
    /// The directories that its files are beneath, the lowest first, without symbolic links in their paths:
    /// [`Checked::layer`](super::Checked::layer) counts in these.
    pub layers: Vec<PathBuf>,
}

/// Composes `layers`, the lowest first, to the file `out`. None, and no file, if a [`Kind::Top`] holds nothing: no name, and
/// nothing hidden.
///
/// # Errors
/// [`ComposeError`]; `out` is then as it was before.
pub fn compose(
    layers: &[PathBuf],
    kind: Kind,
    out: &Path,
    durability: Durability,
) -> Result<Option<Composed>, ComposeError> {
    if layers.is_empty() && matches!(kind, Kind::Top(_)) {
        return Ok(None);
    }
    let layers: Vec<PathBuf> = layers
        .iter()
        .map(|layer| {
            fs::canonicalize(layer).map_err(|source| ComposeError::Layer { layer: layer.clone(), source })
        })
        .collect::<Result<_, _>>()?;
    let (tree, roots) = read(&layers, kind)?;
    if matches!(kind, Kind::Top(_)) && tree.inodes() == 1 {
        return Ok(None);
    }
    let layout = Layout::plan(&tree)?;
    let roots: Vec<LayerRoot<'_>> =
        layers.iter().zip(roots).map(|(path, identity)| LayerRoot { path, identity }).collect();
    let output = Output::create(out)?;
    let written = write(output.file(), &tree, &layout, &roots, !matches!(kind, Kind::Chain(_)));
    written.map_err(|source| ComposeError::Write { path: out.to_owned(), source })?;
    output.commit(durability)?;
    let opened = File::open(out).map_err(CompositionError::Read).and_then(Composition::open);
    let composition = opened.map_err(|source| ComposeError::Open { path: out.to_owned(), source })?;
    Ok(Some(Composed { path: out.to_owned(), composition, layers }))
}

/// The tree that the layers make, and what their directories are.
fn read(layers: &[PathBuf], kind: Kind) -> Result<(Tree, Vec<crate::tree::Identity>), ComposeError> {
    let (marks, keep) = match kind {
        Kind::Plain => {
            let ([layer], Some(walked)) = (layers, walk_all(layers, Content::Root).pop()) else {
                return Err(MergeError::Layers.into());
            };
            let walked = walked.map_err(|source| ComposeError::Walk { layer: layer.clone(), source })?;
            let identity = identity(&walked.tree);
            return Ok((walked.tree, vec![identity]));
        }
        Kind::Chain(marks) => (marks, Keep::Visible),
        Kind::Top(marks) => (marks, Keep::Hidden),
    };
    let walked = match keep {
        Keep::Visible => walk_all(layers, Content::Layer),
        // There is next to nothing in them.
        Keep::Hidden => layers.iter().map(|layer| walk_layer(layer)).collect(),
    };
    let mut trees = Vec::with_capacity(layers.len());
    for (layer, walked) in layers.iter().zip(walked) {
        let walked = walked.map_err(|source| ComposeError::Walk { layer: layer.clone(), source })?;
        if let Some(id) = walked.mount_points.first() {
            return Err(ComposeError::Mounted { layer: layer.clone(), path: walked.tree.path(*id) });
        }
        trees.push(walked.tree);
    }
    let roots = trees.iter().map(identity).collect();
    Ok((merge(&trees, marks, keep)?, roots))
}

fn identity(tree: &Tree) -> crate::tree::Identity {
    tree.node(InodeId::ROOT).inode.identity
}

/// Walks all layers, as many at once as there are processors: most have one large layer and many small ones. In threads made
/// for it, which can have working directories of their own; where the host has no room for one, in this one.
fn walk_all(layers: &[PathBuf], content: Content) -> Vec<Result<Walked, WalkError>> {
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get).min(layers.len());
    let next = AtomicUsize::new(0);
    let walked: Vec<Mutex<Option<Result<Walked, WalkError>>>> =
        layers.iter().map(|_| Mutex::new(None)).collect();
    let work = |own: Option<&OwnDirectory>| {
        while let Some(index) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < layers.len()) {
            let done = walk_as(content, &layers[index], own);
            *walked[index].lock().expect("nobody panics with it") = Some(done);
        }
    };
    std::thread::scope(|scope| {
        let mut begun = 0;
        for _ in 0..workers {
            let thread = std::thread::Builder::new();
            begun += usize::from(thread.spawn_scoped(scope, || work(OwnDirectory::take().as_ref())).is_ok());
        }
        if begun == 0 {
            work(None);
        }
    });
    let done = |place: Mutex<Option<_>>| place.into_inner().expect("nobody panicked with it");
    walked.into_iter().map(|place| done(place).expect("each was walked")).collect()
}
