//! What the machine of a pod has lent to its further containers: disks in its slots, volumes in its tree.
//!
//! By the container's id: what one was lent is taken back whole, whether it ended well, was killed, or never came to be.

use std::collections::BTreeMap;

use super::{
    cell::{Handle, HandleError},
    control::{Admission, Admitted},
    volumes::{Volumes, VolumesError},
};
use crate::{
    config::DiskConfig,
    host::volumes::source::{Source, SourceError},
};

/// Why one can't be taken in.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdmitError {
    /// It is there already.
    #[error("The pod has a container {container:?} already")]
    Twice {
        /// Its id.
        container: String,
    },
    /// A disk.
    #[error(transparent)]
    Attach(#[from] HandleError),
    /// An image.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A volume.
    #[error(transparent)]
    Volumes(#[from] VolumesError),
}

/// The further containers of a pod.
#[derive(Debug)]
pub(super) struct Members {
    volumes: Volumes,
    lent: BTreeMap<String, Admitted>,
}

impl Members {
    /// None yet; `volumes` serves theirs as well.
    pub(super) fn new(volumes: Volumes) -> Self {
        Self { volumes, lent: BTreeMap::new() }
    }

    /// Lends one what it asks for.
    ///
    /// # Errors
    /// [`AdmitError`]; then it was lent nothing.
    pub(super) fn admit(&mut self, machine: &Handle, asked: &Admission) -> Result<Admitted, AdmitError> {
        if self.lent.contains_key(&asked.container) {
            return Err(AdmitError::Twice { container: asked.container.clone() });
        }
        let mut lent = Admitted::default();
        let done = self.lend(machine, asked, &mut lent);
        // In either case known by now: what is known can be taken back.
        self.lent.insert(asked.container.clone(), lent.clone());
        match done {
            Ok(()) => Ok(lent),
            Err(error) => {
                self.dismiss(machine, &asked.container);
                Err(error)
            }
        }
    }

    fn lend(&mut self, machine: &Handle, asked: &Admission, lent: &mut Admitted) -> Result<(), AdmitError> {
        for disk in &asked.disks {
            lent.disks.push(machine.attach(disk)?);
        }
        for image in &asked.images {
            let source = Source::open_image(&image.source)?;
            let disk = DiskConfig::Raw { path: source.by_descriptor(), read_only: image.read_only };
            lent.images.push(machine.attach(&disk)?);
        }
        lent.volumes = self.volumes.add(&asked.binds)?;
        Ok(())
    }

    /// The disks of one.
    pub(super) fn devices(&self, container: &str) -> Vec<String> {
        let lent = self.lent.get(container);
        lent.map(|lent| lent.disks.iter().chain(&lent.images).cloned().collect()).unwrap_or_default()
    }

    /// Takes back what one was lent, whatever the guest does with it.
    pub(super) fn dismiss(&mut self, machine: &Handle, container: &str) {
        for device in self.devices(container) {
            machine.detach(&device);
        }
        if let Some(lent) = self.lent.remove(container) {
            let numbers: Vec<u32> = lent.volumes.iter().map(|(number, _)| *number).collect();
            if let Err(error) = self.volumes.remove(&numbers) {
                machine.note(&super::chain(&error));
            }
        }
    }
}
