//! A keeper of its own: this program again, in a session of its own, which tells once how its beginning went.

use std::{
    ffi::OsStr,
    fs::OpenOptions,
    io::{self, BufRead, BufReader, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

use super::Front;
use crate::{
    home::Home,
    sandbox::{Failure, Key, Sandboxes},
};

/// The hidden verb.
pub const VERB: &str = "keep";

/// What a keeper tells.
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    Runs,
    /// It did before.
    Kept,
    Bad(String),
    NoProgram {
        program: String,
        reason: String,
    },
    Other(String),
}

/// Why nothing was told.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("The sandbox's keeper can't be started")]
    Spawn(#[source] io::Error),
    #[error("The sandbox's keeper ended before the sandbox ran: {0} may say why")]
    Silent(String),
    #[error("{0}")]
    Other(String),
}

/// Starts the sandbox `key`, and returns when it runs.
///
/// # Errors
/// Why it could not be started, as its keeper told; [`Failure::Runs`]: it has another keeper.
pub fn start(sandboxes: &Sandboxes, key: &Key) -> Result<(), Failure> {
    let place = sandboxes.place(key);
    let warnings = place.warnings();
    let stderr = OpenOptions::new().create(true).append(true).mode(0o600).open(&warnings);
    let mut child = Command::new("/proc/self/exe")
        .arg0("msb")
        .args([VERB, key.namespace.as_str(), key.name.as_str()])
        .env(Home::VARIABLE, sandboxes.home().path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr.map_err(Failure::other)?)
        .current_dir("/")
        .spawn()
        .map_err(|error| Failure::other(Lost::Spawn(error)))?;
    let mut line = String::new();
    let read = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
    let told = read.and_then(Result::ok).and_then(|_| serde_json::from_str(&line).ok());
    // It lives on where it runs; whoever is the parent of this process by then waits for it.
    let _ = std::thread::Builder::new().name("keeper".into()).spawn(move || child.wait());
    match told {
        Some(Told::Runs) => Ok(()),
        Some(Told::Kept) => Err(Failure::Runs(key.clone())),
        Some(Told::Bad(text)) => Err(Failure::Bad(text)),
        Some(Told::NoProgram { program, reason }) => Err(Failure::NoProgram { program, reason }),
        Some(Told::Other(text)) => Err(Failure::other(Lost::Other(text))),
        None => Err(Failure::other(Lost::Silent(warnings.display().to_string()))),
    }
}

/// What the hidden verb does: keeps the sandbox that `words` name, the namespace and the name.
///
/// # Errors
/// That it could not be kept; told to the parent already where that was before it ran.
pub fn run(words: &[impl AsRef<OsStr>]) -> Result<(), Failure> {
    let word = |at: usize| words.get(at).and_then(|word| word.as_ref().to_str()).unwrap_or_default();
    let name = |at| word(at).parse().map_err(|error: crate::name::BadName| Failure::Bad(error.to_string()));
    let key = Key { namespace: name(0)?, name: name(1)? };
    nix::unistd::setsid().map_err(Failure::other)?;
    let home = Home::of_environment().map_err(Failure::other)?;
    let sandboxes = Sandboxes::new(home);
    let place = sandboxes.place(&key);
    let mut runs = false;
    let kept = sandboxes.keep(&place, Front::Hidden, |_| {
        runs = true;
        tell(&Told::Runs);
    });
    match kept {
        Ok(_) => Ok(()),
        Err(error) if runs => Err(error),
        Err(error) => {
            tell(&match error {
                Failure::Runs(_) => Told::Kept,
                Failure::Bad(text) => Told::Bad(text),
                Failure::NoProgram { program, reason } => Told::NoProgram { program, reason },
                other => Told::Other(other.chain()),
            });
            Ok(())
        }
    }
}

/// Once; then nobody listens any more.
fn tell(told: &Told) {
    let text = serde_json::to_string(told).unwrap_or_default();
    let _ = writeln!(io::stdout(), "{text}");
    // The parent waits for no second line, and must not keep a pipe open for it.
    if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(null);
    }
}
