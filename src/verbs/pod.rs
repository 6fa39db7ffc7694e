//! Pods: whose machine a container is in, and how it is found from the host.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

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
/// [`VerbError::NoPod`].
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
    found.ok_or_else(|| VerbError::NoPod { sandbox: id.to_owned() })
}

impl Sandbox {
    /// The pod's network namespace, which is the one that a container in it must ask for.
    ///
    /// # Errors
    /// [`VerbError::NotPodsNetwork`].
    pub(super) fn network(&self, asked: &NetworkNamespace) -> Result<PathBuf, VerbError> {
        let own = PathBuf::from(format!("/proc/{}/ns/net", self.record.vmm.pid));
        let same = |asked: &PathBuf| {
            let (asked, own) = (fs::metadata(asked).ok()?, fs::metadata(&own).ok()?);
            Some((asked.dev(), asked.ino()) == (own.dev(), own.ino()))
        };
        match asked {
            NetworkNamespace::Existing(path) if same(path) == Some(true) => Ok(own),
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
