//! Create: the root is mounted, the container made, and its end awaited.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
};

use containerd_shim_protos::{
    events::task::{TaskCreate, TaskIO},
    types::mount::Mount,
};
use msb_runtime::{
    bundle::Spec,
    config::Wishes,
    image::RootImage,
    process::attach::DRAIN,
    sandbox::child::Released,
    state::Id,
    verbs::{
        Announce, Context, VerbError,
        create::{self, Created, Request},
    },
};

use super::{Process, Shim, Task, stand_by::StandBy, take_over, watch::Life};
use crate::{
    failure::Failure,
    mounts,
    pod::Files,
    stdio::{Paths, Streams},
};

/// A task to be made.
#[derive(Debug)]
pub struct NewTask {
    /// The container's id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// What its root is made of; none: it is there.
    pub rootfs: Vec<Mount>,
    /// The first process's streams.
    pub paths: Paths,
    /// The file with the host's settings, if not the usual one.
    pub settings: Option<PathBuf>,
}

impl Shim {
    /// Makes a task; returns the pid of what stands for it: the VMM, or in a pod another process.
    pub fn create(self: &Arc<Self>, new: NewTask) -> Result<u32, Failure> {
        let id: Id = new.id.parse().map_err(VerbError::from)?;
        if self.tasks().contains_key(&new.id) {
            return Err(Failure::Exists { what: "task", id: new.id });
        }
        let bundle = fs::canonicalize(&new.bundle)
            .map_err(|error| Failure::wrong("The bundle can't be opened", error))?;
        let root = bundle.join(mounts::ROOT);
        let watcher = StandBy::new("watch").map_err(Failure::Thread)?;
        let spec = Spec::load(&bundle).map_err(VerbError::from).map_err(Failure::oci("create"))?;
        let spec = self.with_pods_files(spec)?;
        // It is shared from where it is mounted.
        let image = match Wishes::share_root(&spec.annotations()) {
            true => None,
            false => mounts::image(&new.rootfs, spec.root_readonly())?,
        };
        match &image {
            // What containerd has made already, for who looks for it.
            Some(_) => mounts::make(&root)?,
            None => mounts::mount_all(&new.rootfs, &root)?,
        }
        let made = self.make(id, &bundle, spec, image, &new);
        if made.is_err() && !new.rootfs.is_empty() {
            // The first failure is the one to tell.
            let _ = mounts::unmount_all(&root);
        }
        let (task, process) = made?;
        let task = Arc::new(task);
        self.tasks().insert(new.id.clone(), Arc::clone(&task));
        let event = TaskCreate {
            container_id: new.id,
            bundle: bundle.display().to_string(),
            rootfs: new.rootfs,
            io: Some(io(&new.paths)).into(),
            pid: task.pid,
            ..TaskCreate::default()
        };
        self.tell(&task, &event);
        let (shim, pid) = (Arc::clone(self), task.pid);
        watcher.begin(move || shim.watch(&task, Life::Child(process)));
        Ok(pid)
    }

    fn make(
        &self,
        id: Id,
        bundle: &Path,
        spec: Spec,
        image: Option<RootImage>,
        new: &NewTask,
    ) -> Result<(Task, Released), Failure> {
        let systemd = spec.linux().cgroups_path().as_deref().is_some_and(in_systemds_form);
        let paths = Paths { terminal: spec.process().terminal(), ..new.paths.clone() };
        let Streams { descriptors, has_stdin, input } = paths.open(&self.owner(&id))?;
        let context = Context { settings: new.settings.clone(), ..self.context(systemd) };
        let request = Request {
            id: id.clone(),
            bundle: bundle.to_owned(),
            spec,
            image,
            stdio: descriptors.map(Stdio::from),
            stdin: has_stdin,
            drain: Some(DRAIN),
            announce: Announce::default(),
        };
        let Created { entry, process, record, .. } =
            create::create(request, &context).map_err(Failure::oci("create"))?;
        // For a shim that may have to take it over; without, it has its container all the same.
        let _ = entry.save(take_over::STREAMS, &paths);
        let init = Process::new(paths);
        init.keep_input(input);
        let task = Task {
            id,
            bundle: bundle.to_owned(),
            pods: record.takes_in,
            is_told: Files::of(bundle).is_none(),
            pid: process.pid(),
            init,
            execs: Mutex::new(BTreeMap::new()),
            directory: entry.directory().to_owned(),
        };
        Ok((task, process))
    }
}

/// `slice:prefix:name`. Of `cgroupsPath` in that form no other meaning is possible: a path has slashes.
fn in_systemds_form(path: &Path) -> bool {
    let text = path.to_string_lossy();
    !text.contains('/') && text.split(':').count() == 3
}

fn io(paths: &Paths) -> TaskIO {
    TaskIO {
        stdin: paths.stdin.clone(),
        stdout: paths.stdout.clone(),
        stderr: paths.stderr.clone(),
        terminal: paths.terminal,
        ..TaskIO::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_form_is_told_from_a_path() {
        assert!(in_systemds_form(Path::new("system.slice:docker:abc")));
        assert!(!in_systemds_form(Path::new("/default/abc")));
        assert!(!in_systemds_form(Path::new("/a:b:c")));
    }
}
