//! The mounts of the host's files, from the VMM's side: what each source is, and the daemon that serves them.
//!
//! After the hooks have run: what they make or rewrite (Docker's writes `resolv.conf`) is what the container gets.
//! A container whose only bind mounts are the usual small files gets them by content, and no daemon. A root that is shared
//! live is one more entry of the daemon's tree, after those of the mounts.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    time::Duration,
};

use msb_agent::protocol::{Container, FrameError, Mount, MountSource, Process, RootSource, VOLUMES_TAG};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    unistd::{getpid, pipe2},
};

use super::{
    SandboxConfig,
    child::{ChildError, Parent, Starting, Word},
    control,
    images::{Images, ImagesError},
    usual::Usual,
};
use crate::{
    config::{BindMount, FsConfig, PlacedBind},
    host::{
        volumes::{
            Entry, Share,
            copy::{self, CopyError, HostFile},
            daemon::{self, DaemonError},
            later::{self, LaterError},
            seal::{self, SealError},
            source::{Kind, Source, SourceError},
        },
        wait,
    },
};

/// The daemon's socket in the sandbox's directory, from its making to the machine's connection.
const SOCKET: &str = "fs.sock";
/// Of what the daemon says, so much is told in an error, in bytes.
const LAST_WORDS: usize = 1024;
/// How long the end of a process may take to be told, once its descriptors are closed.
const LAST_MOMENTS: Duration = Duration::from_millis(200);
/// So many volumes the further containers of a pod may have at a time.
const ROOM: usize = 4096;
/// Capabilities of the daemon that are of use only to a container that has them.
const RARE: [&str; 2] = ["CAP_MKNOD", "CAP_SETFCAP"];

/// Why the mounts can't be had.
#[derive(Debug, thiserror::Error)]
pub enum VolumesError {
    /// A source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// An image.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// A usual file.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The daemon.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// One that comes or goes later.
    #[error(transparent)]
    Later(#[from] LaterError),
    /// A root that is not to be written.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The process that is to become the daemon.
    #[error("The container's volumes can't be served")]
    Helper(#[from] ChildError),
    /// Its descriptors.
    #[error("The process for the volumes can't be prepared")]
    Prepare(#[source] io::Error),
    /// It came up and ended.
    #[error(
        "{}, which serves the container's volumes, has ended ({status}) and said: {words}; install Debian's package \
         virtiofsd anew, 1.10 or later", program.display()
    )]
    Ended {
        /// Which one.
        program: PathBuf,
        /// How.
        status: ExitStatus,
        /// What it said.
        words: String,
    },
}

/// The mounts, ready for the guest.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The container with all its mounts in their places.
    pub container: Container,
    /// Its disks beside those of the root.
    pub images: Images,
    /// Who serves them, unless all came by content.
    pub volumes: Option<Volumes>,
    /// Those that came by content.
    pub usual: Option<Usual>,
}

/// The daemon of a sandbox. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Volumes {
    helper: Option<Starting>,
    child: Option<Child>,
    words: File,
    socket: PathBuf,
    program: PathBuf,
    /// The number of the next entry that comes later.
    next: u32,
    /// The entry that is not to be written once the guest has its mount points in it.
    sealed: Option<u32>,
}

/// Looks at every source and, where one needs it, starts the daemon.
pub(super) fn prepare(config: &SandboxConfig) -> Result<Prepared, VolumesError> {
    let images = Images::open(&config.images, config.machine.disks.len())?;
    let mut mounts = images.mounts.clone();
    let sources = config.binds.iter().map(|placed| Source::open(&placed.bind.source));
    let mut sources = sources.collect::<Result<Vec<_>, _>>()?;
    let is_usual = |(placed, source): (&PlacedBind, &Source)| copy::is_usual(&placed.bind, source);
    let (mut volumes, mut usual) = (None, None);
    let mut container = config.container.clone();
    if config.pod || config.shared_root.is_some() || !config.binds.iter().zip(&sources).all(is_usual) {
        for ((number, placed), source) in (0..).zip(&config.binds).zip(&sources) {
            let directory = source.kind() == Kind::Directory;
            mounts.push(mount(placed, MountSource::Volume { number, directory }));
        }
        let mut sealed = None;
        if let Some(root) = &config.shared_root {
            let number = u32::try_from(sources.len()).unwrap_or(u32::MAX);
            sources.push(Source::open(root)?);
            container.root.source = RootSource::Share { number };
            sealed = container.root.readonly.then_some(number);
        }
        volumes = Some(Volumes::start(config, &sources, sealed)?);
    } else if !sources.is_empty() {
        // The agent knows each by its place among the mounts.
        let number = |placed: &PlacedBind| u32::try_from(placed.index).unwrap_or(u32::MAX);
        let files = config.binds.iter().map(number).zip(sources).collect();
        let watched = Usual::watch(files).map_err(prepare_errno)?;
        for (placed, source) in config.binds.iter().zip(watched.sources()) {
            let HostFile { content, mode, uid, gid } = copy::read(source)?;
            mounts.push(mount(placed, MountSource::File { content, mode, uid, gid }));
        }
        usual = Some(watched);
    }
    put_in_place(&mut container, mounts);
    Ok(Prepared { container, images, volumes, usual })
}

/// Gives the container further mounts, each at its index among all.
pub(super) fn put_in_place(container: &mut Container, mut mounts: Vec<(usize, Mount)>) {
    // In the order of their places, each place is right when its turn comes.
    mounts.sort_by_key(|(index, _)| *index);
    for (index, mount) in mounts {
        container.mounts.insert(index.min(container.mounts.len()), mount);
    }
}

/// A bind mount with its index, of what it is in the guest.
pub(super) fn mount(placed: &PlacedBind, source: MountSource) -> (usize, Mount) {
    let BindMount { destination, options, .. } = placed.bind.clone();
    (placed.index, Mount { destination, source, options })
}

impl Volumes {
    fn start(config: &SandboxConfig, sources: &[Source], sealed: Option<u32>) -> Result<Self, VolumesError> {
        daemon::check(&config.virtiofsd)?;
        let socket = config.dir.join(SOCKET);
        let listener = listen(&config.dir).map_err(VolumesError::Prepare)?;
        let entries = config.binds.iter().zip(sources).map(|(placed, source)| {
            Entry::new(&placed.bind, source.number(), source.kind() == Kind::Directory)
        });
        let root = sources.get(config.binds.len()).map(|source| Entry::root(source.number()));
        let share = Share {
            entries: entries.chain(root).collect(),
            room: if config.pod { ROOM } else { 0 },
            place: config.dir.clone(),
            listener: listener.as_raw_fd(),
            program: config.virtiofsd.clone(),
            denied: denied(&config.container.init),
            parent: getpid().as_raw(),
        };
        for descriptor in sources.iter().map(AsFd::as_fd).chain([listener.as_fd()]) {
            // Inherited by the one process that is started next, and closed here right after.
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())).map_err(prepare_errno)?;
        }
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(prepare_errno)?;
        let stdio = [Stdio::null(), Stdio::null(), Stdio::from(writer)];
        let helper = Starting::spawn("volumes", &share, stdio)?;
        Ok(Self {
            helper: Some(helper),
            child: None,
            words: File::from(reader),
            socket,
            program: share.program,
            next: u32::try_from(sources.len()).unwrap_or(u32::MAX),
            sealed,
        })
    }

    /// What the machine is told of it.
    pub(super) fn config(&self) -> FsConfig {
        FsConfig { tag: VOLUMES_TAG.to_owned(), socket: self.socket.clone() }
    }

    /// The machine is connected: nobody else may be. Waits until the helper has become the daemon.
    pub(super) fn connected(&mut self) -> Result<(), VolumesError> {
        let _ = fs::remove_file(&self.socket);
        if let Some(helper) = self.helper.take() {
            self.child = Some(helper.replaced()?);
        }
        Ok(())
    }

    /// The guest has made its mount points, and only its agent has run so far: from now on it can't write to a root that is
    /// not to be written.
    pub(super) fn seal(&self) -> Result<(), VolumesError> {
        let Some(number) = self.sealed else { return Ok(()) };
        let daemon =
            self.child.as_ref().ok_or_else(|| SealError::Served(io::ErrorKind::NotConnected.into()))?;
        Ok(seal::read_only(daemon.id(), number)?)
    }

    /// Serves these as well from now on; the number of each, and whether it is a directory.
    ///
    /// # Errors
    /// [`VolumesError`]; then none is served.
    pub(super) fn add(&mut self, binds: &[BindMount]) -> Result<Vec<(u32, bool)>, VolumesError> {
        let sources =
            binds.iter().map(|bind| Source::open(&bind.source)).collect::<Result<Vec<_>, SourceError>>()?;
        let mut entries = Vec::new();
        for (bind, source) in binds.iter().zip(&sources) {
            let entry = Entry::new(bind, source.number(), source.kind() == Kind::Directory);
            entries.push((self.next, entry));
            self.next = self.next.checked_add(1).ok_or_else(|| prepare_errno(Errno::EOVERFLOW))?;
        }
        if !entries.is_empty() {
            later::put(self.daemon()?, &entries)?;
        }
        Ok(entries.iter().map(|(number, entry)| (*number, entry.directory)).collect())
    }

    /// Serves them no more.
    ///
    /// # Errors
    /// [`VolumesError`].
    pub(super) fn remove(&self, numbers: &[u32]) -> Result<(), VolumesError> {
        if numbers.is_empty() { Ok(()) } else { Ok(later::take(self.daemon()?, numbers)?) }
    }

    fn daemon(&self) -> Result<u32, LaterError> {
        let gone = || LaterError::Served(io::ErrorKind::NotConnected.into());
        Ok(self.child.as_ref().ok_or_else(gone)?.id())
    }

    /// Something failed that may come of the daemon's end: why it has ended, if it has. A connection that it had is lost
    /// some moments before it can be waited for.
    pub(super) fn ended(&mut self) -> Option<VolumesError> {
        if let Some(helper) = self.helper.take() {
            match helper.replaced() {
                Ok(child) => self.child = Some(child),
                Err(error) => return Some(error.into()),
            }
        }
        let status = wait::within(self.child.as_mut()?, LAST_MOMENTS).ok()??;
        let mut words = vec![0; LAST_WORDS];
        let length = self.words.read(&mut words).unwrap_or(0);
        words.truncate(length);
        let words = String::from_utf8_lossy(&words).trim().replace('\n', "; ");
        let words = if words.is_empty() { "nothing".to_owned() } else { words };
        Some(VolumesError::Ended { program: self.program.clone(), status, words })
    }

    /// As [`Self::ended`], once a guest has been connected: a guest that ends for a reason of its own takes the daemon with
    /// it, which then ends well.
    pub(super) fn broken(&mut self) -> Option<VolumesError> {
        self.ended().filter(|error| match error {
            VolumesError::Ended { status, .. } => !status.success(),
            _ => true,
        })
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn prepare_errno(errno: Errno) -> VolumesError {
    VolumesError::Prepare(errno.into())
}

/// Only this process and the daemon reach the socket: the sandbox's directory is root's.
fn listen(dir: &Path) -> io::Result<OwnedFd> {
    control::at(dir, SOCKET, |path| UnixListener::bind(path)).map(OwnedFd::from)
}

/// As virtiofsd names them.
fn denied(init: &Process) -> Vec<String> {
    let bounding = init.capabilities.as_ref().map(|sets| sets.bounding.as_slice()).unwrap_or_default();
    let lacks = RARE.into_iter().filter(|name| !bounding.iter().any(|has| has == name));
    lacks.map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect()
}

/// The hidden verb `volumes`: becomes the daemon. Returns only when that failed, which the parent has been told.
///
/// # Errors
/// When it was called by hand.
pub fn serve(fd: RawFd) -> Result<(), FrameError> {
    let (mut parent, share) = Parent::take::<Share>(fd)?;
    let error = daemon::become_daemon(&share);
    parent.say(&Word::Failed(super::chain(&error)));
    Ok(())
}
