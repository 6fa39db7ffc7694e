//! The hidden verbs: the processes that a sandbox consists of, which are this program again ([`msb_runtime::sandbox`]).

use std::process::ExitCode;

use msb_runtime::sandbox::{Log, member, oom, vmm, volumes};

/// Does what `words` say if they are such a verb and its descriptor.
pub fn run(words: &[String]) -> Option<ExitCode> {
    let (verb, fd) = match words {
        [verb, fd] => (verb.as_str(), fd.parse().ok()?),
        [verb] => (verb.as_str(), -1),
        _ => return None,
    };
    let done = match verb {
        "vmm" => vmm::run(fd, &warn).map(ExitCode::from).map_err(anyhow::Error::from),
        "member" => member::run(fd, &warn).map(ExitCode::from).map_err(anyhow::Error::from),
        "volumes" => volumes::serve(fd).map(|_| ExitCode::FAILURE).map_err(anyhow::Error::from),
        "victim" => {
            oom::fall();
            Ok(ExitCode::SUCCESS)
        }
        _ => return None,
    };
    Some(done.unwrap_or_else(|error| {
        // On the container's stderr: its machine is lost, and nobody else can tell.
        eprintln!("{}", msb_runtime::verbs::words::chain(error.as_ref()));
        ExitCode::from(255)
    }))
}

/// No log is given to a VMM that a shim starts.
fn warn(_: &Log, _: &str) {}
