//! Connections into a sandbox that runs: to a port at its localhost, whether it has a network or not.

use std::os::unix::net::UnixStream;

use msb_agent::protocol::{STREAM_PORT, StreamHello};
use msb_runtime::{
    sandbox::{control::Control, forward},
    verbs::exec,
};

use super::{Failure, InUse, Key, Sandboxes, failure::not_running};

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// Both ways.
    pub stream: UnixStream,
    /// For as long as it is there.
    pub in_use: Option<InUse>,
}

impl Sandboxes {
    /// To what serves `port` there.
    ///
    /// # Errors
    /// [`Failure::NotRunning`], [`Failure::NoSandbox`], or that nobody serves there.
    pub fn connect(&self, key: &Key, port: u16) -> Result<Connection, Failure> {
        let (place, stored) = self.find(key)?;
        let entry = self.reach(&place, &stored)?;
        exec::ready(&entry, false).map_err(|error| not_running(error, key))?;
        let in_use = InUse::begin(&place).map_err(Failure::other)?;
        let mut stream = Control::of(entry.directory()).open(STREAM_PORT).map_err(Failure::other)?;
        forward::ask(&mut stream, &StreamHello::Port(port)).map_err(Failure::other)?;
        Ok(Connection { stream, in_use: Some(in_use) })
    }

    /// It is in use at this moment, whatever it does.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`], or that this can't be noted.
    pub fn touch(&self, key: &Key) -> Result<(), Failure> {
        let (place, _) = self.find(key)?;
        InUse::begin(&place).map(drop).map_err(Failure::other)
    }
}
