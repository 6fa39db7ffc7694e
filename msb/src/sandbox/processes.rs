//! What runs in a sandbox, as its own machine has it.

use msb_agent::protocol::ProcessInfo;
use msb_runtime::{sandbox::control::Control, verbs::exec};

use super::{Failure, Key, Sandboxes, failure::not_running};

impl Sandboxes {
    /// Its processes, the first one first. What they say of themselves is the guest's word.
    ///
    /// # Errors
    /// [`Failure::NotRunning`], [`Failure::NoSandbox`]
    pub fn processes(&self, key: &Key) -> Result<Vec<ProcessInfo>, Failure> {
        let (place, stored) = self.find(key)?;
        let entry = self.reach(&place, &stored)?;
        exec::ready(&entry, false).map_err(|error| not_running(error, key))?;
        Control::of(entry.directory()).processes().map_err(Failure::other)
    }
}
