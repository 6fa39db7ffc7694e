//! The agent of the virtual KVM host: runs commands there for the harness, over a virtio-serial port.
//!
//! Takes the port's path as its only argument and serves it until the machine stops.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(port) = std::env::args_os().nth(1) else {
        eprintln!("Usage: host-agent PORT");
        return ExitCode::FAILURE;
    };
    match integration::host::agent::serve(port.as_ref()) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("The port {} cannot be opened: {error}", port.display());
            ExitCode::FAILURE
        }
    }
}
