//! Where a shim listens, and where it keeps what it knows of its containers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::flags::Flags;

/// containerd's directory of the sockets of shims.
const SOCKETS: &str = "/run/containerd/s";

/// Beneath it, one directory for each namespace of containerd: two namespaces may have containers of one id.
const STATE: &str = "/run/containerd/msb";

/// The socket of the shim of a task: a name that is short enough, and the same for the same task of the same containerd.
pub fn socket(flags: &Flags) -> PathBuf {
    let named = Path::new(&flags.address).join(&flags.namespace).join(&flags.id);
    let hash = Sha256::digest(named.as_os_str().as_encoded_bytes());
    Path::new(SOCKETS).join(hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// The containers of a namespace.
pub fn state(flags: &Flags) -> PathBuf {
    Path::new(STATE).join(&flags.namespace)
}

/// Removes a shim's socket; it may have gone.
pub fn forget(socket: &Path) {
    let _ = fs::remove_file(socket);
}
