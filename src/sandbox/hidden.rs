//! The processes that a sandbox consists of are the program again that made it, with a hidden verb: what each such program
//! does before it looks at anything else.

use msb_agent::protocol::FrameError;

use super::{Log, member, member::MemberError, oom, vmm, vmm::VmmError, volumes};

/// What such a process could not do. It belongs on the container's stderr: its machine is lost, and nobody else can tell.
#[derive(Debug, thiserror::Error)]
pub enum HiddenError {
    /// `vmm`
    #[error(transparent)]
    Vmm(#[from] Box<VmmError>),
    /// `member`
    #[error(transparent)]
    Member(#[from] Box<MemberError>),
    /// `volumes`
    #[error(transparent)]
    Volumes(#[from] FrameError),
}

/// Does what `words` say, a program's arguments without its name, if they are such a verb and its descriptor; then the code
/// that the program ends with. Warnings for which the sandbox was given a log go to `warn`.
#[must_use]
pub fn run(words: &[String], warn: &dyn Fn(&Log, &str)) -> Option<Result<u8, HiddenError>> {
    let (verb, fd) = match words {
        [verb, fd] => (verb.as_str(), fd.parse().ok()?),
        [verb] => (verb.as_str(), -1),
        _ => return None,
    };
    match verb {
        "vmm" => Some(vmm::run(fd, warn).map_err(|error| Box::new(error).into())),
        "member" => Some(member::run(fd, warn).map_err(|error| Box::new(error).into())),
        // That it comes back says that virtiofsd could not take its place.
        "volumes" => Some(volumes::serve(fd).map(|()| 1).map_err(Into::into)),
        "victim" => {
            oom::fall();
            Some(Ok(0))
        }
        _ => None,
    }
}
