//! Keeping a sandbox: from what is stored of it to a machine that runs, and to its end.
//!
//! Each sandbox that runs has a keeper, the parent of its VMM: it mounts the root, lends the network, copies what the first
//! process writes to the log, forwards ports, and when the machine ends brings all of it to rest. A sandbox in the foreground
//! is kept by the command itself, another one by a process of its own ([`detached`]), so that neither a server that is
//! stopped nor a terminal that is closed takes it along.
//!
//! ```text
//!  lock ▸ mount ▸ files ▸ network ▸ streams ▸ create ▸ start ▸ [ready] ▸ wait ▸ delete ▸ network ▸ unmount ▸ stored
//! ```

mod clients;
mod datagrams;
mod deadline;
pub mod detached;
mod files;
mod log;
mod ports;
mod signals;
mod streams;

use std::{
    env, fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use msb_runtime::{
    bundle::Spec,
    verbs::{
        Announce, Context,
        create::{self, Created, Request as Creation},
        delete, rescue, start,
    },
};

pub(super) use log::read as read_log;
pub use signals::{held as held_signals, hold as hold_signals};
pub use streams::Front;

use super::{
    Boot, Failure, InUse, Sandboxes,
    beneath::Beneath,
    bundle, root,
    stored::{Ended, Place, Stored, random_id},
    user,
};
use crate::network;

/// A life of a sandbox, to its end.
#[derive(Debug)]
pub struct Life {
    /// What is stored of it.
    pub stored: Stored,
    /// What it ended with, as a shell tells it.
    pub code: u8,
    /// How long it ran, whoever has set the clock meanwhile.
    pub lasted: Duration,
}

/// What has been done for a sandbox, undone when this goes.
struct Begun<'a> {
    sandboxes: &'a Sandboxes,
    place: &'a Place,
    container: Option<msb_runtime::state::Id>,
    network: Option<network::Attached>,
}

impl Begun<'_> {
    /// In the reverse order; all of it is tried, and the first error told. What it wrote and can't be brought now stays on its
    /// disk, for [`Sandboxes::settle`].
    fn end(&mut self) -> Result<(), Failure> {
        let context = self.sandboxes.context(self.place);
        let deleted = match self.container.take() {
            Some(id) => delete::to_rest(&id, &context).map_err(Failure::from),
            None => Ok(()),
        };
        if let Some(network) = self.network.take() {
            network.detach();
        }
        let unmounted = root::unmount_root(self.place).map_err(Failure::other);
        deleted.and(unmounted)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        // The first failure is the one to tell.
        let _ = self.end();
    }
}

impl Sandboxes {
    /// Starts the sandbox at `place` and stays until it has ended. `front`: its streams are also this process's. `ready` is
    /// called when it runs; a failure before that is the result.
    ///
    /// # Errors
    /// Why it could not be started, or be brought to rest.
    pub fn keep(&self, place: &Place, front: Front, ready: impl FnOnce(&Stored)) -> Result<Life, Failure> {
        let lock = match place.lock() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(place)),
            lock => lock.map_err(Failure::other)?,
        };
        let Some(kept) = place.keep().map_err(Failure::other)? else {
            let stored = place.load().map_err(Failure::other)?.ok_or_else(|| missing(place))?;
            return Err(Failure::Runs(stored.key));
        };
        let mut stored = place.load().map_err(Failure::other)?.ok_or_else(|| missing(place))?;
        self.settle(place, &stored)?;
        // The machine of an earlier life may have left something by its name.
        stored.id = random_id().map_err(Failure::other)?;
        place.save(&stored).map_err(Failure::other)?;

        let mut begun = Begun { sandboxes: self, place, container: None, network: None };
        root::mount_root(self.home().path(), place, &stored.layers).map_err(Failure::other)?;
        let beneath = Beneath::new(&place.root()).map_err(Failure::other)?;
        let name = stored.request.user.as_deref().unwrap_or(&stored.defaults.user);
        let user = user::find(&beneath, name).map_err(|error| Failure::Bad(error.to_string()))?;
        let namespace = network::path(&stored.id);
        begun.network = network::attach(stored.request.network, &namespace).map_err(Failure::other)?;
        files::write(&beneath, bundle::hostname(&stored.request, &stored.key), begun.network.as_ref())
            .map_err(Failure::other)?;
        // Whoever has it open keeps the root mounted.
        drop(beneath);
        let zone = env::var("TZ").ok().filter(|zone| !zone.is_empty());
        let config = bundle::config(&stored, &user, self.home(), place, zone.as_deref());
        fs::write(place.bundle().join("config.json"), config.to_string()).map_err(Failure::other)?;
        self.make_volumes(&stored.request).map_err(Failure::other)?;

        let moments = Arc::default();
        let context = self.context_of(place, Arc::clone(&moments));
        let log = log::Log::open(&place.log()).map_err(Failure::other)?;
        let streams = streams::Streams::open(&stored.request, front, log).map_err(Failure::other)?;
        let (stdio, joined) = streams.split();
        let ports = ports::usual()
            .and_then(|usual| ports::Listeners::bind(&mut stored.request.ports, usual))
            .map_err(|error| Failure::Bad(error.to_string()))?;
        let id = stored.id().map_err(Failure::other)?;
        begun.container = Some(id.clone());
        let created = create_and_start(place, id.clone(), stdio, &context)?;
        let began = Instant::now();
        stored.started = Some(SystemTime::now());
        stored.ended = None;
        stored.boot = moments.get().map(Boot::of);
        stored.confinement = Some(created.confinement);
        place.save(&stored).map_err(Failure::other)?;
        drop(lock);

        let Created { entry, process, .. } = created;
        let directory = entry.directory().to_owned();
        // It was locked so far.
        drop(entry);
        let entry = self.store().look(&id).map_err(Failure::other)?;
        let front = joined.serve(process.pid(), entry).map_err(Failure::other)?;
        // From now on it is used or not.
        drop(InUse::begin(place).map_err(Failure::other)?);
        ports.serve(&directory, place).map_err(Failure::other)?;
        if let Some(time) = stored.request.timeout {
            deadline::after(time, id.clone(), self.store().clone());
        }
        if let Some(time) = stored.request.idle_timeout {
            deadline::when_idle(time, place.clone(), id, self.store().clone());
        }
        ready(&stored);
        let code = process.wait().map_err(Failure::other)?;
        let lasted = began.elapsed();
        let clients = front.finish();

        let _lock = place.lock().map_err(Failure::other)?;
        let ended = Ended { code: Some(code), at: SystemTime::now() };
        let rested = match begun.end() {
            // What it wrote is not wanted.
            Err(_) if stored.request.remove => self.discard(place, &stored),
            rested => rested,
        };
        drop(begun);
        stored.ended = Some(ended);
        rested.and(place.save(&stored).map_err(Failure::other))?;
        drop(kept);
        clients.end(code);
        if stored.request.remove {
            place.remove().map_err(Failure::other)?;
        }
        Ok(Life { stored, code, lasted })
    }

    /// Brings to rest what a keeper that was killed, or could not, has left of an earlier life. Nobody keeps the sandbox.
    ///
    /// # Errors
    /// What can't be brought to rest.
    pub(super) fn settle(&self, place: &Place, stored: &Stored) -> Result<(), Failure> {
        let id = stored.id().map_err(Failure::other)?;
        let context = self.context(place);
        // The host went down, or the container that all of it was in: the mount with it, and perhaps the record.
        if rescue::is_left(&id, &context) && !root::is_mounted(place) {
            root::mount_root(self.home().path(), place, &stored.layers).map_err(Failure::other)?;
            let spec = Spec::load(place.bundle()).map_err(msb_runtime::verbs::VerbError::from)?;
            rescue::rescue(&id, &spec, &context)?;
        }
        delete::to_rest(&id, &context)?;
        leave(place, stored)
    }

    /// Removes what there is of an earlier life, where what it wrote is not wanted. Nobody keeps the sandbox.
    ///
    /// # Errors
    /// What can't be removed.
    pub(super) fn discard(&self, place: &Place, stored: &Stored) -> Result<(), Failure> {
        delete::discard(&stored.id().map_err(Failure::other)?, &self.context(place))?;
        leave(place, stored)
    }
}

/// What it had beside its container.
fn leave(place: &Place, stored: &Stored) -> Result<(), Failure> {
    network::forget(&network::path(&stored.id));
    root::unmount_root(place).map_err(Failure::other)
}

fn missing(place: &Place) -> Failure {
    let path: PathBuf = place.0.clone();
    Failure::Bad(format!("There is no sandbox in {}: it was removed meanwhile", path.display()))
}

fn create_and_start(
    place: &Place,
    id: msb_runtime::state::Id,
    stdio: streams::Stdio,
    context: &Context,
) -> Result<Created, Failure> {
    let spec = Spec::load(place.bundle()).map_err(msb_runtime::verbs::VerbError::from)?;
    let creation = Creation {
        id,
        bundle: place.bundle().to_owned(),
        spec,
        image: None,
        stdio: stdio.descriptors,
        stdin: stdio.has_input,
        // Whoever keeps it reads, or leaves the reading to the pipe that it is in itself.
        drain: None,
        announce: Announce::default(),
    };
    let created = create::create(creation, context)?;
    start::start(&created.entry, created.record.clone(), context)?;
    Ok(created)
}

/// At which of the host's addresses ports are that are published without one.
///
/// # Errors
/// That the environment names none that is one.
pub fn usual_address() -> io::Result<std::net::IpAddr> {
    ports::usual().map_err(io::Error::other)
}

/// A thread of which nobody needs the end.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.into()).stack_size(256 << 10).spawn(work).map(drop)
}
