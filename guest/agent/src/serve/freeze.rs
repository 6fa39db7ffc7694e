//! `Freeze` and `Thaw`: the container stands still, with all that it wrote on its disks.

use std::time::Duration;

use msb_agent::protocol::{Failure, Reply};

use crate::container::made::Made;
use crate::{clock, log};

/// Stops the processes, then writes back. A container whose writes can't be brought to the disk is not left frozen.
///
/// # Errors
/// [`Failure::Setup`] for what the kernel refuses.
pub fn freeze(made: &Made) -> Result<Reply, Failure> {
    made.cgroup.freeze()?;
    if let Err(failure) = made.root.sync() {
        made.cgroup.thaw()?;
        return Err(failure);
    }
    Ok(Reply::Done)
}

/// Lets them go on, with the clock at the host's `realtime`; no error if they do already.
///
/// # Errors
/// As [`freeze`].
pub fn thaw(made: &Made, realtime: Duration) -> Result<Reply, Failure> {
    // A container with a wrong clock is better than one that stays frozen.
    if let Err(errno) = clock::follow(realtime) {
        log::failure("set the clock", &errno);
    }
    made.cgroup.thaw().map(|()| Reply::Done)
}
