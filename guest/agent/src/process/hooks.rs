//! Hooks of the start: programs in the container, run by the helper that is about to become the container's process.
//!
//! In: hooks, in the container's root and namespaces, as its user. Out: nothing, or the first that failed.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use msb_agent::protocol::{Failure, StartHook, StartHooks};

use crate::container::{at, setup};

/// How often a hook with a timeout is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// How much of a failing hook's stderr is told.
const MAX_WORDS: u64 = 4096;
/// How long a failed hook's stderr is waited for: it may have left a child that holds it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs each, with the container's state on its stdin.
///
/// # Errors
/// [`Failure::Setup`] with the hook's path; those after it are not run.
pub fn run(hooks: &StartHooks) -> Result<(), Failure> {
    let [before, after] = &hooks.state;
    let state = format!("{before}{}{after}", std::process::id());
    hooks.hooks.iter().try_for_each(|hook| run_one(hook, state.as_bytes()))
}

fn run_one(hook: &StartHook, state: &[u8]) -> Result<(), Failure> {
    let step = || format!("run the hook {}", hook.path);
    let mut command = Command::new(&hook.path);
    // `args` has the name the program shall see first, as execve has it.
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|pair| pair.split_once('=')));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| setup(step(), &neutral(&error)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its state.
        let _ = stdin.write_all(state);
    }
    let words = child.stderr.take().map(|mut pipe| {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut kept = Vec::new();
            let _ = pipe.by_ref().take(MAX_WORDS).read_to_end(&mut kept);
            let _ = tell.send(String::from_utf8_lossy(&kept).trim_end().to_owned());
            // The rest, so that the hook never blocks.
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        });
        told
    });
    match wait(&mut child, hook.timeout).map_err(at(step))? {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            let words = words.and_then(|told| told.recv_timeout(LAST_WORDS).ok()).unwrap_or_default();
            Err(setup(step(), &format!("it ended with {status}: {words}")))
        }
        None => {
            let seconds = hook.timeout.unwrap_or_default().as_secs();
            Err(setup(step(), &format!("it took longer than its {seconds} s and was killed")))
        }
    }
}

/// The status, or `None` when the time was up and the hook was killed.
fn wait(child: &mut Child, timeout: Option<Duration>) -> std::io::Result<Option<ExitStatus>> {
    let Some(timeout) = timeout else { return child.wait().map(Some) };
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

/// Docker takes the system's words for this as a fault of the container's own command.
fn neutral(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "it is not in the container".into(),
        ErrorKind::PermissionDenied => "the container's user may not run it".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Option<Duration>) -> StartHooks {
        let args = ["hook", "-c", script].map(str::to_owned).to_vec();
        let hook = StartHook { path: "/bin/sh".into(), args, env: vec!["COLOUR=blue".into()], timeout };
        StartHooks { hooks: vec![hook], state: [r#"{"pid":"#.into(), "}".into()] }
    }

    #[test]
    fn a_hook_gets_its_state_and_its_environment() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        run(&shell(&format!("(cat; echo; echo $COLOUR $HOME $0) > {}", out.display()), None)).unwrap();
        let expected = format!("{{\"pid\":{}}}\nblue hook\n", std::process::id());
        assert_eq!(std::fs::read_to_string(out).unwrap(), expected);
    }

    #[test]
    fn a_failure_has_the_hooks_words_and_never_dockers() {
        let told = |hooks: &StartHooks| run(hooks).unwrap_err().to_string();
        let failed = told(&shell("echo no luck >&2; exit 3", None));
        assert!(failed.contains("no luck") && failed.contains('3'), "{failed}");
        let slow = told(&shell("sleep 600", Some(Duration::from_millis(50))));
        assert!(slow.contains("was killed"), "{slow}");
        // A child that holds its stderr does not hold us.
        let left = told(&shell("sleep 5 & exit 4", None));
        assert!(left.contains('4'), "{left}");
        let mut missing = shell("", None);
        missing.hooks[0].path = "/nonexistent/hook".into();
        assert!(!told(&missing).to_lowercase().contains("no such file"), "{}", told(&missing));
    }
}
