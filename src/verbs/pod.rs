//! Pods: whose machine a container is in, and how it is found from the host.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use msb_agent::protocol::{Joined, ProcessId};

use super::VerbError;
use crate::{
    config::{Elsewhere, NetworkNamespace},
    sandbox::control::Control,
    state::{Entry, Id, Record, Status, Store},
};

/// Where a container's processes are.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The sandbox whose machine it is.
    pub control: Control,
    /// What the guest calls the container's first process.
    pub container: ProcessId,
}

/// Where the processes of the container of `entry` are, whose record is `record`.
#[must_use]
pub fn guest(entry: &Entry, record: &Record) -> Guest {
    match &record.pod {
        None => Guest { control: Control::of(entry.directory()), container: ProcessId::INIT },
        Some(pod) => Guest {
            // Containers of one caller are side by side.
            control: Control::of(&entry.directory().with_file_name(pod.sandbox.to_string())),
            container: ProcessId(pod.process),
        },
    }
}

/// A pod's first container, for one that is to come.
#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    /// Its id.
    pub id: Id,
    /// Its directory.
    pub directory: PathBuf,
    record: Record,
}

/// Finds it.
///
/// # Errors
/// [`VerbError::NoPod`], [`VerbError::NoPodOfThat`].
pub(super) fn sandbox(store: &Store, id: &str) -> Result<Sandbox, VerbError> {
    let found = id.parse::<Id>().ok().and_then(|id| {
        let entry = store.look(&id).ok()?;
        let record = entry.record().ok()?;
        let runs = matches!(record.status(), Status::Created | Status::Running);
        (runs && record.pod.is_none()).then(|| Sandbox {
            id,
            directory: entry.directory().to_owned(),
            record,
        })
    });
    match found {
        Some(found) if found.record.takes_in => Ok(found),
        Some(_) => Err(VerbError::NoPodOfThat { sandbox: id.to_owned() }),
        None => Err(VerbError::NoPod { sandbox: id.to_owned() }),
    }
}

/// The id of the container whose machine has the network namespace at `path`, if one of this store has.
pub(super) fn sharing(store: &Store, path: &Path) -> Option<String> {
    let asked = fs::metadata(path).ok()?;
    let records = store.ids().ok()?.into_iter().filter_map(|id| store.look(&id).ok()?.record().ok());
    let firsts = records.filter(|record| record.pod.is_none() && record.status() != Status::Stopped);
    let mut with = firsts.filter(|record| is_network(&asked, record.vmm.pid));
    with.next().map(|record| record.id.to_string())
}

/// Whether process `pid` is in the network namespace `asked`.
fn is_network(asked: &Metadata, pid: i32) -> bool {
    fs::metadata(network_of(pid)).is_ok_and(|own| (own.dev(), own.ino()) == (asked.dev(), asked.ino()))
}

/// The network namespace of a process.
fn network_of(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

impl Sandbox {
    /// The pod's network namespace, which is the one that a container in it must ask for.
    ///
    /// # Errors
    /// [`VerbError::NotPodsNetwork`].
    pub(super) fn network(&self, asked: &NetworkNamespace) -> Result<PathBuf, VerbError> {
        let pid = self.record.vmm.pid;
        let same = |asked: &PathBuf| fs::metadata(asked).is_ok_and(|asked| is_network(&asked, pid));
        match asked {
            NetworkNamespace::Existing(path) if same(path) => Ok(network_of(pid)),
            NetworkNamespace::Existing(_) | NetworkNamespace::New => Err(VerbError::NotPodsNetwork),
        }
    }

    /// The namespaces that are of this pod, as the guest knows them.
    ///
    /// # Errors
    /// [`VerbError::NotOfPod`].
    pub(super) fn joined(&self, store: &Store, all: &[Elsewhere]) -> Result<Vec<Joined>, VerbError> {
        let one = |elsewhere: &Elsewhere| {
            let Elsewhere { namespace, pid } = *elsewhere;
            let of = if pid == self.record.vmm.pid { Some(ProcessId::INIT) } else { self.member(store, pid) };
            Ok(Joined { namespace, of: of.ok_or(VerbError::NotOfPod { pid })? })
        };
        all.iter().map(one).collect()
    }

    fn member(&self, store: &Store, pid: i32) -> Option<ProcessId> {
        let records = store.ids().ok()?.into_iter().filter_map(|id| store.look(&id).ok()?.record().ok());
        let mut members = records.filter_map(|record| Some((record.vmm.pid, record.pod?)));
        let found = members.find(|(other, pod)| *other == pid && pod.sandbox == self.id);
        found.map(|(_, pod)| ProcessId(pod.process))
    }
}
