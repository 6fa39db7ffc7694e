//! Rescue: what a container wrote whose machine has ended together with its record, or with the mount of its root.
//!
//! A container that is killed alone is brought to rest by its delete. Where all around it went too (the host, or the container
//! that its caller ran in), its disk is left, and is found again by the id alone.

use super::{Context, Lent, VerbError, lent};
use crate::{
    bundle::Spec,
    config::Rights,
    image::{self, Root},
    state::Id,
};

/// Whether container `id` has left a disk.
#[must_use]
pub fn is_left(id: &Id, context: &Context) -> bool {
    lent::disks(&context.store.directory(id)).exists()
}

/// Brings back what container `id` left to the root of `spec`, which has been mounted again since; its disks are gone then.
///
/// # Errors
/// [`VerbError::BringBack`], also while a machine still writes to the disk.
pub fn rescue(id: &Id, spec: &Spec, context: &Context) -> Result<(), VerbError> {
    let root =
        Root::of(spec.root()).map_err(|source| VerbError::Root { path: spec.root().to_owned(), source })?;
    // The record knows of more, if it is there: of what was begun in the container with other rights.
    let record = context.store.look(id).ok().and_then(|entry| Lent::load(&entry).ok()?);
    let rights = record.map_or_else(|| Rights::of(spec), |lent| Ok(lent.rights))?;
    context.warn_all(image::rescue(&lent::disks(&context.store.directory(id)), &root, &rights)?);
    Ok(())
}
