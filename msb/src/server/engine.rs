//! What the server needs of sandboxes. It knows nothing else of them: neither how they are run nor where they are kept.
//!
//! All of it blocks, and is called from threads that may.

use std::{os::fd::OwnedFd, sync::Arc};

use crate::{
    name::Name,
    sandbox::{Connection, Exec, Exit, Failure, Files, Info, Key, Logs, NamedVolume, Request, Since, Usage},
};

/// Who has sandboxes.
pub trait Engine: Send + Sync + 'static {
    /// Makes a sandbox and does not start it.
    ///
    /// # Errors
    /// [`Failure::Exists`], or that it can't be made; nothing is left then.
    fn create(&self, key: &Key, request: Request) -> Result<(), Failure>;

    /// With a request: makes the sandbox anew, as one of this name or as what takes the place of one; the writable layer of
    /// one that was there stays. Without: the sandbox as it was made. Starts it; one that runs as it is asked for is left
    /// alone. Returns when processes can be begun in it.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`] without a request, or that it can't be started: what was not there before is not there then,
    /// and nothing of it runs.
    fn start(&self, key: &Key, request: Option<Request>) -> Result<(), Failure>;

    /// Ends what runs in it; its writable layer and its request stay. One that does not run is left alone.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`], [`Failure::NoNamespace`], or that it can't be stopped.
    fn stop(&self, key: &Key) -> Result<(), Failure>;

    /// Stops it, and removes all that is its own.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`], [`Failure::NoNamespace`], or that it can't be removed.
    fn remove(&self, key: &Key) -> Result<(), Failure>;

    /// All sandboxes, or those of a namespace, by namespace and name.
    ///
    /// # Errors
    /// [`Failure::NoNamespace`], or that they can't be read.
    fn list(&self, namespace: Option<&Name>) -> Result<Vec<Info>, Failure>;

    /// One of them.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`], [`Failure::NoNamespace`], or that it can't be read.
    fn info(&self, key: &Key) -> Result<Info, Failure>;

    /// What it uses. Asked for often, so it should take no longer than to read a few small files.
    ///
    /// # Errors
    /// As for [`Engine::info`].
    fn usage(&self, key: &Key) -> Result<Usage, Failure>;

    /// What its first process wrote, now and before. Returns at once: who follows asks again.
    ///
    /// # Errors
    /// As for [`Engine::info`].
    fn logs(&self, key: &Key, since: Since) -> Result<Logs, Failure>;

    /// Gives one that does not run another name.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`], [`Failure::Runs`], [`Failure::Exists`], or that it can't be renamed.
    fn rename(&self, key: &Key, name: Name) -> Result<(), Failure>;

    /// It is in use at this moment, whatever it does.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`].
    fn touch(&self, key: &Key) -> Result<(), Failure>;

    /// A connection to what serves `port` at its localhost.
    ///
    /// # Errors
    /// [`Failure::NotRunning`], or that nobody serves there.
    fn connect(&self, key: &Key, port: u16) -> Result<Connection, Failure>;

    /// All volumes that have names.
    ///
    /// # Errors
    /// That they can't be read.
    fn volumes(&self) -> Result<Vec<NamedVolume>, Failure>;

    /// Makes one.
    ///
    /// # Errors
    /// [`Failure::VolumeExists`], or that it can't be made.
    fn create_volume(&self, name: Name) -> Result<NamedVolume, Failure>;

    /// Removes one, with all that is in it.
    ///
    /// # Errors
    /// [`Failure::NoVolume`], [`Failure::VolumeUsed`], or that it can't be removed.
    fn remove_volume(&self, name: Name) -> Result<(), Failure>;

    /// Bytes that one takes on the disk.
    ///
    /// # Errors
    /// [`Failure::NoVolume`].
    fn volume_used(&self, name: Name) -> Result<u64, Failure>;

    /// What is in one.
    ///
    /// # Errors
    /// [`Failure::NoVolume`].
    fn volume_files(&self, name: Name) -> Result<Files, Failure>;

    /// Begins a process in it, whose stdin, stdout and stderr these are.
    ///
    /// # Errors
    /// [`Failure::NotRunning`], [`Failure::NoProgram`], [`Failure::NoSandbox`], or that it can't be begun.
    fn exec(&self, key: &Key, exec: &Exec, stdio: [OwnedFd; 3]) -> Result<Arc<dyn Running>, Failure>;
}

/// A process in a sandbox. Who drops it leaves it running.
pub trait Running: Send + Sync {
    /// Sends it a signal; one that ended gets none.
    fn signal(&self, number: i32);

    /// Its number there, for people.
    fn pid(&self) -> u32;

    /// Kills it, and all that came of it; of one that ended by itself, what it left goes on.
    fn kill(&self);

    /// Tells its terminal how large it is.
    fn resize(&self, rows: u16, columns: u16);

    /// Says, once, how it ended: when all that it wrote is written to its descriptors; at once where it has ended. `then` is
    /// called by whoever sees that end, and must not take long.
    fn at_end(&self, then: Box<dyn FnOnce(Exit) + Send>);
}
