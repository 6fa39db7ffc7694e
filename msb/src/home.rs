//! Where everything is kept: `$MICROSANDBOX_HOME`, else `~/.microsandbox`.
//!
//! ```text
//!  HOME/
//!    images/                  blobs by digest, unpacked layers, which name is which image
//!    namespaces/NS/NAME/      a sandbox: what it is, what it wrote, its log
//!    namespaces/.server.key   what the server's keys are signed with
//!    volumes/NAME/            a volume with a name
//!    run/                     of those that run: msb_runtime's records
//! ```

use std::{
    env,
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::{name::Name, sandbox::Key};

/// The directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

/// There is none.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither variable is set.
    #[error(
        "Neither MICROSANDBOX_HOME nor HOME is set: give the directory for images and sandboxes in the first"
    )]
    Unset,
    /// It can't be made.
    #[error("The directory {} can't be made: give another one in {}", path.display(), Home::VARIABLE)]
    Make {
        /// Which one.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Home {
    /// Environment variable that names it.
    pub const VARIABLE: &str = "MICROSANDBOX_HOME";

    /// The one that the environment names, made if it is not there.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn of_environment() -> Result<Self, HomeError> {
        let given = env::var_os(Self::VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        let usual = || env::var_os("HOME").map(|home| Path::new(&home).join(".microsandbox"));
        Self::at(given.or_else(usual).ok_or(HomeError::Unset)?)
    }

    /// `path`, made if it is not there; only its owner may look into it.
    ///
    /// # Errors
    /// [`HomeError::Make`].
    pub fn at(path: PathBuf) -> Result<Self, HomeError> {
        let made =
            DirBuilder::new().recursive(true).mode(0o700).create(&path).and_then(|()| path.canonicalize());
        made.map(Self).map_err(|source| HomeError::Make { path, source })
    }

    /// Its own path: absolute, without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// All images.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.0.join("images")
    }

    /// All namespaces.
    #[must_use]
    pub fn namespaces(&self) -> PathBuf {
        self.0.join("namespaces")
    }

    /// One sandbox.
    #[must_use]
    pub fn sandbox(&self, key: &Key) -> PathBuf {
        self.namespaces().join(key.namespace.as_str()).join(key.name.as_str())
    }

    /// All volumes that have names.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }

    /// One of them.
    #[must_use]
    pub fn volume(&self, name: &Name) -> PathBuf {
        self.volumes().join(name.as_str())
    }

    /// The records of those that run.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// What the server's keys are signed with.
    #[must_use]
    pub fn server_key(&self) -> PathBuf {
        // No name begins with a dot. Beside the sandboxes, so that it is kept wherever they are.
        self.namespaces().join(".server.key")
    }

    /// The pid of the server that runs.
    #[must_use]
    pub fn server_pid(&self) -> PathBuf {
        self.run().join(".server.pid")
    }

    /// What a server in the background says.
    #[must_use]
    pub fn server_log(&self) -> PathBuf {
        self.run().join(".server.log")
    }
}
