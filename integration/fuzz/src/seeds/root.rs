//! Trees with an inode of each kind, links and attributes, alone and above each other: as the bytes that the target reads.

/// Numbers of pieces of names, of kinds and of attributes, as the target draws them.
const DIRECTORY: u8 = 0;
const WHITEOUT: u8 = 3;

/// One inode: its kind with what belongs to it, then attributes (number and value), its time, its owners, its mode.
fn inode(kind: &[u8], attributes: &[(u8, u8)]) -> Vec<u8> {
    let mut bytes = kind.to_vec();
    bytes.push(u8::try_from(attributes.len()).expect("few"));
    attributes.iter().for_each(|(name, value)| bytes.extend([*name, *value]));
    bytes.extend(1_700_000_000_i64.to_le_bytes());
    bytes.extend([5_u32, 1000, 100].map(u32::to_le_bytes).as_flattened());
    bytes.extend(0o755_u16.to_le_bytes());
    bytes
}

/// What a tree has in it: in its root, so that nothing says in which directory.
struct Tree(Vec<u8>, u8, bool);

impl Tree {
    fn new() -> Self {
        Self(Vec::new(), 0, false)
    }

    /// A name of a byte and of pieces, with an inode that is no directory.
    fn file(mut self, name: u8, pieces: &[u8], inode: &[u8]) -> Self {
        self.name(name, pieces);
        if self.2 {
            // It is no link.
            self.0.push(255);
        }
        self.0.extend(inode);
        self.2 = true;
        self
    }

    /// One more name of the first file.
    fn link(mut self, name: u8, files: usize) -> Self {
        self.name(name, &[]);
        self.0.push(0);
        if files > 1 {
            self.0.push(0);
        }
        self
    }

    fn name(&mut self, name: u8, pieces: &[u8]) {
        self.1 += 1;
        self.0.extend([name, u8::try_from(pieces.len()).expect("few")]);
        self.0.extend(pieces);
    }

    /// Its root, how many names, and these.
    fn bytes(self) -> Vec<u8> {
        [inode(&[DIRECTORY], &[]), vec![self.1], self.0].concat()
    }
}

fn all_kinds() -> Tree {
    let attributes = [(7, 0), (8, 150)];
    Tree::new()
        .file(b'a', &[], &inode(&[3, 100, 0], &[]))
        .file(b'b', &[0], &inode(&[4, 0, 32], &attributes))
        .file(b'c', &[], &inode(&[5, 0, 0, 0, 0, 1, 0, 0, 0, 0], &[]))
        .file(b'd', &[], &inode(&[6, 30, 0], &[]))
        .file(b'e', &[], &inode(&[6, 0x68, 0x10], &[]))
        .file(b'f', &[], &inode(&[7, 130, 1, 0, 0, 40, 0, 0], &[]))
        .file(b'g', &[], &inode(&[8, 220, 8, 0, 0, 0, 1, 0, 0, 0], &[]))
        .file(b'h', &[], &inode(&[9, 1], &[]))
        .file(b'i', &[], &inode(&[9, 0], &[(9, 200)]))
        .link(b'j', 9)
}

fn whiteouts() -> Tree {
    Tree::new()
        .file(b'a', &[], &inode(&[7, 0], &[]))
        .file(b'b', &[0], &inode(&[3, 0, 0], &[(1, 0)]))
        .file(b'c', &[WHITEOUT], &inode(&[3, 1, 0], &[(6, 0)]))
        .file(b'd', &[], &inode(&[6, 3, 0], &[(2, 0), (3, 0)]))
}

/// Directories in directories: from the second on it is said in which.
fn deep() -> Vec<u8> {
    let mut bytes = [inode(&[DIRECTORY], &[(0, 0)]), vec![30]].concat();
    for number in 0..30_u8 {
        if number > 0 {
            bytes.push(number);
        }
        bytes.extend([b'a' + number % 3, 1, 2]);
        bytes.extend(inode(&[DIRECTORY], &[(number % 10, 0)]));
    }
    bytes
}

/// So many names that a directory has blocks of its own.
fn wide() -> Vec<u8> {
    let mut tree = Tree::new();
    for name in 0..200 {
        if name != b'/' {
            tree = tree.file(name, &[9, 0], &inode(&[3, 10, name], &[]));
        }
    }
    tree.bytes()
}

pub(crate) fn trees() -> Vec<Vec<u8>> {
    let kinds = [all_kinds().bytes(), whiteouts().bytes(), deep(), wide()];
    let mut all = Vec::new();
    // How many, whose marks, and whether what is hidden is kept.
    for head in [[1, 1], [1, 0], [0, 1], [0, 0]] {
        for (number, tree) in kinds.iter().enumerate() {
            all.push([&[0][..], &head, tree].concat());
            let above = &kinds[(number + 1) % 2];
            all.push([&[1][..], &head, tree, above].concat());
            all.push([&[2][..], &head, above, tree, &kinds[1]].concat());
        }
    }
    all
}
