//! Update: other limits for a container that is there, inside the machine and around it.

use oci_spec::runtime::LinuxResources;

use super::{Lent, VerbError};
use crate::{
    config,
    sandbox::control::Control,
    state::{Entry, StateError, Status},
};

/// Holds the container of a locked entry to other limits.
///
/// # Errors
/// [`StateError::NotRunning`], [`VerbError::Config`]; what the guest refuses, such as less memory than is in use, changes
/// nothing.
pub fn update(entry: &Entry, resources: &LinuxResources) -> Result<(), VerbError> {
    match entry.record()?.status() {
        Status::Created | Status::Running | Status::Paused => {}
        Status::Stopped | Status::Creating => return Err(StateError::NotRunning.into()),
    }
    let lent = Lent::load(entry)?.ok_or(VerbError::NotLent)?;
    let guest = config::guest_limits(resources)?;
    let host = config::Limits::again(resources, lent.room)?;
    Control::of(entry.directory()).update(guest)?;
    // In a pod it is held to them by the guest alone.
    if lent.pod.is_none()
        && let Some(cgroup) = lent.cgroup()?
    {
        cgroup.change(&host)?;
    }
    Ok(())
}
