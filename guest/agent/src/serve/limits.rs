//! `Update` and `Statistics`: what the container may use, and what it uses.

use msb_agent::protocol::{Failure, GuestLimits, Reply};

use crate::container::cgroup::{limits, statistics};
use crate::container::made::Made;

/// Holds the container to other limits.
///
/// # Errors
/// [`Failure::Setup`] with the file that the kernel refuses.
pub fn update(made: &Made, new: &GuestLimits) -> Result<Reply, Failure> {
    limits::apply(made.cgroup.files(), new).map(|()| Reply::Done)
}

/// What it uses.
pub fn statistics(made: &Made) -> Reply {
    Reply::Statistics(Box::new(statistics::read_all(made.cgroup.files())))
}
