//! The server's sandboxes are those of a home, the same as the command line's.

use std::{os::fd::OwnedFd, sync::Arc};

use crate::{
    name::Name,
    sandbox::{
        Connection, Exec, Exit, Failure, Files, GRACE, Info, Key, Logs, NamedVolume, Request, Running,
        Sandboxes, Since, Usage,
    },
    server::engine,
};

impl engine::Engine for Sandboxes {
    fn create(&self, key: &Key, request: Request) -> Result<(), Failure> {
        Self::create(self, key, served(request), &())
    }

    fn start(&self, key: &Key, request: Option<Request>) -> Result<(), Failure> {
        let Some(request) = request.map(served) else { return Self::start(self, key) };
        let there = match self.info(key) {
            Err(Failure::NoSandbox(_) | Failure::NoNamespace(_)) => None,
            found => Some(found?),
        };
        if there.as_ref().is_some_and(|info| info.running() && info.request.same(&request)) {
            return Ok(());
        }
        // What takes long, and what is asked for that can't be, comes before anything that runs is ended.
        let wanted = self.prepare(request, &())?;
        let Some(there) = there else {
            self.create_of(key, wanted)?;
            return Self::start(self, key).inspect_err(|_| {
                // What was not there before is not there then; the first failure is the one to tell.
                let _ = Self::remove(self, key);
            });
        };
        if there.running() {
            Self::stop(self, key, GRACE)?;
            if matches!(self.find(key), Err(Failure::NoSandbox(_))) {
                // It was to go when it ended.
                self.create_of(key, wanted)?;
                return Self::start(self, key).inspect_err(|_| {
                    // As above.
                    let _ = Self::remove(self, key);
                });
            }
        }
        let before = self.remake(key, wanted)?;
        Self::start(self, key).inspect_err(|_| {
            // And what was there is there as it was.
            if self.put_back(key, &before).is_ok() && there.running() {
                let _ = Self::start(self, key);
            }
        })
    }

    fn stop(&self, key: &Key) -> Result<(), Failure> {
        Self::stop(self, key, GRACE)
    }

    fn remove(&self, key: &Key) -> Result<(), Failure> {
        Self::remove(self, key)
    }

    fn list(&self, namespace: Option<&Name>) -> Result<Vec<Info>, Failure> {
        Self::list(self, namespace)
    }

    fn info(&self, key: &Key) -> Result<Info, Failure> {
        Self::info(self, key)
    }

    fn usage(&self, key: &Key) -> Result<Usage, Failure> {
        Self::usage(self, key)
    }

    fn logs(&self, key: &Key, since: Since) -> Result<Logs, Failure> {
        Self::logs(self, key, since)
    }

    fn rename(&self, key: &Key, name: Name) -> Result<(), Failure> {
        Self::rename(self, key, name)
    }

    fn touch(&self, key: &Key) -> Result<(), Failure> {
        Self::touch(self, key)
    }

    fn connect(&self, key: &Key, port: u16) -> Result<Connection, Failure> {
        Self::connect(self, key, port)
    }

    fn volumes(&self) -> Result<Vec<NamedVolume>, Failure> {
        Self::volumes(self)
    }

    fn create_volume(&self, name: Name) -> Result<NamedVolume, Failure> {
        Self::create_volume(self, name)
    }

    fn remove_volume(&self, name: Name) -> Result<(), Failure> {
        Self::remove_volume(self, name)
    }

    fn volume_used(&self, name: Name) -> Result<u64, Failure> {
        Self::volume_used(self, name)
    }

    fn volume_files(&self, name: Name) -> Result<Files, Failure> {
        Self::volume_files(self, name)
    }

    fn exec(&self, key: &Key, exec: &Exec, stdio: [OwnedFd; 3]) -> Result<Arc<dyn engine::Running>, Failure> {
        Ok(Arc::new(self.begin(key, exec, stdio, true, None)?))
    }
}

/// Clients of the server begin what runs in a sandbox themselves: it is there until it is stopped, also where its image would
/// run something that ends.
fn served(request: Request) -> Request {
    let idle = request.command.is_none() && request.entrypoint.is_none();
    Request { idle, ..request }
}

impl engine::Running for Running {
    fn signal(&self, number: i32) {
        Self::signal(self, number);
    }

    fn pid(&self) -> u32 {
        Self::pid(self)
    }

    fn kill(&self) {
        Self::kill(self);
    }

    fn resize(&self, rows: u16, columns: u16) {
        Self::resize(self, rows, columns);
    }

    fn at_end(&self, then: Box<dyn FnOnce(Exit) + Send>) {
        Self::at_end(self, then);
    }
}
