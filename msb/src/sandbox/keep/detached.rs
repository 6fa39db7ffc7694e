//! A keeper of its own: this program again, in a session of its own, which tells once how its beginning went.

use std::{
    ffi::OsStr,
    fs::OpenOptions,
    io::{self, BufRead, BufReader, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Front, Life};
use crate::{
    home::Home,
    sandbox::{Failure, Key, Place, Sandboxes},
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
    let _ = thread::Builder::new().name("keeper".into()).spawn(move || child.wait());
    match told {
        Some(Told::Runs) => Ok(()),
        Some(Told::Kept) => Err(Failure::Runs(key.clone())),
        Some(Told::Bad(text)) => Err(Failure::Bad(text)),
        Some(Told::NoProgram { program, reason }) => Err(Failure::NoProgram { program, reason }),
        Some(Told::Other(text)) => Err(Failure::other(Lost::Other(text))),
        None => Err(Failure::other(Lost::Silent(warnings.display().to_string()))),
    }
}

/// Before one that ended is started again; twice as long each time that it ended soon.
const FIRST: Duration = Duration::from_millis(100);
/// The most of that.
const LAST: Duration = Duration::from_secs(60);
/// One that ran for so long did not end soon.
const LONG: Duration = Duration::from_secs(10);

/// What the hidden verb does: keeps the sandbox that `words` name, the namespace and the name; and where it is started again by
/// this program itself, how often that was.
///
/// # Errors
/// That it could not be kept; told to the parent already where that was before it ran.
pub fn run(words: &[impl AsRef<OsStr>]) -> Result<(), Failure> {
    let word = |at: usize| words.get(at).and_then(|word| word.as_ref().to_str()).unwrap_or_default();
    let name = |at| word(at).parse().map_err(|error: crate::name::BadName| Failure::Bad(error.to_string()));
    let key = Key { namespace: name(0)?, name: name(1)? };
    let times: Option<u32> = word(2).parse().ok();
    match nix::unistd::setsid() {
        // It leads one already: this program has become itself again.
        Err(nix::errno::Errno::EPERM) if times.is_some() => {}
        done => drop(done.map_err(Failure::other)?),
    }
    let home = Home::of_environment().map_err(Failure::other)?;
    let sandboxes = Sandboxes::new(home);
    let place = sandboxes.place(&key);
    let mut runs = false;
    let kept = sandboxes.keep(&place, Front::Hidden, |_| {
        runs = true;
        tell(&Told::Runs);
    });
    match kept {
        Ok(life) => again(&place, &life, times.unwrap_or(0)),
        // Nobody listens to one that is started again.
        Err(error) if runs || times.is_some() => Err(error),
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

/// Starts the sandbox again, if that is what is wanted of one that ended so: as a fresh process, whose ports, threads and
/// descriptors are its own.
fn again(place: &Place, life: &Life, times: u32) -> Result<(), Failure> {
    let Life { stored, code, lasted } = life;
    let times = if *lasted > LONG { 0 } else { times };
    if !stored.request.restart.again(*code, times) || place.is_stopped() {
        return Ok(());
    }
    thread::sleep(pause(times));
    let now = place.load().map_err(Failure::other)?;
    // Somebody has stopped, removed, replaced or started it meanwhile.
    if place.is_stopped() || now.is_none_or(|now| now.id != stored.id) {
        return Ok(());
    }
    let key = &stored.key;
    let words = [VERB, key.namespace.as_str(), key.name.as_str(), &(times + 1).to_string()];
    Err(Failure::other(Command::new("/proc/self/exe").arg0("msb").args(words).exec()))
}

fn pause(times: u32) -> Duration {
    FIRST.saturating_mul(1 << times.min(16)).min(LAST)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_soon_waits_longer_each_time() {
        assert_eq!((pause(0), pause(1), pause(5)), (FIRST, FIRST * 2, FIRST * 32));
        assert_eq!((pause(10), pause(u32::MAX)), (LAST, LAST));
    }
}
