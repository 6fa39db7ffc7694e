//! Hooks: programs of the host that run at moments of the container's life, with its state on their stdin.

use std::{
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::{
    netns::{self, NetnsError},
    wait,
};
use crate::config::Hook;

/// How much of a failing hook's stderr is told.
const MAX_WORDS: u64 = 4096;

/// How long a failed hook's stderr is waited for: it may have left a child that holds it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a hook stops the container.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The container's network can't be entered.
    #[error("A hook can't be run in the container's network namespace")]
    Network(#[source] NetnsError),
    /// It can't be started.
    #[error("The hook {} can't be run", path.display())]
    Spawn {
        /// `hooks.*[].path`
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("The hook {} ended with {status}: {stderr}", path.display())]
    Failed {
        /// `hooks.*[].path`
        path: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The beginning of what it said.
        stderr: String,
    },
    /// It took longer than `timeout`.
    #[error("The hook {} took longer than its {} s and was killed", path.display(), timeout.as_secs())]
    Timeout {
        /// `hooks.*[].path`
        path: PathBuf,
        /// `hooks.*[].timeout`
        timeout: Duration,
    },
}

/// Runs hooks one after the other in `bundle`, each with `state` on its stdin.
///
/// # Errors
/// The first that fails; those after it are not run.
pub fn run(hooks: &[Hook], state: &[u8], bundle: &Path) -> Result<(), HookError> {
    hooks.iter().try_for_each(|hook| run_one(hook, state, bundle))
}

/// The same in the network namespace of process `pid`. Everything else is the caller's, the file system among it: a hook's
/// path is the host's, and the container's mounts are made in the guest, where no program of the host can be.
///
/// # Errors
/// As [`run`], and [`HookError::Network`].
pub fn run_beside(pid: u32, hooks: &[Hook], state: &[u8], bundle: &Path) -> Result<(), HookError> {
    if hooks.is_empty() {
        return Ok(());
    }
    let network = PathBuf::from(format!("/proc/{pid}/ns/net"));
    thread::scope(|scope| {
        // A child is in the namespaces of the thread that made it.
        let thread = thread::Builder::new().spawn_scoped(scope, || {
            netns::join(&network).map_err(HookError::Network)?;
            run(hooks, state, bundle)
        });
        let path = hooks[0].path.clone();
        let thread = thread.map_err(|source| HookError::Spawn { path, source })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs all hooks, whatever comes of them.
#[must_use = "what failed is to be told"]
pub fn run_all(hooks: &[Hook], state: &[u8], bundle: &Path) -> Vec<HookError> {
    hooks.iter().filter_map(|hook| run_one(hook, state, bundle).err()).collect()
}

fn run_one(hook: &Hook, state: &[u8], bundle: &Path) -> Result<(), HookError> {
    let spawn = |source| HookError::Spawn { path: hook.path.clone(), source };
    let mut command = Command::new(&hook.path);
    // `args` has the name the program shall see first, as execve has it.
    if let Some((name, rest)) = hook.args.split_first() {
        std::os::unix::process::CommandExt::arg0(&mut command, name);
        command.args(rest);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|pair| pair.split_once('=')));
    command.current_dir(bundle).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(spawn)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its state; the pipe holds more than a state has.
        let _ = stdin.write_all(state);
    }
    let words = child.stderr.take().map(|pipe| {
        let (tell, told) = mpsc::channel();
        // Without a thread there are no words of it.
        let _ = thread::Builder::new().spawn(move || beginning(pipe, &tell));
        told
    });
    let status = wait(&mut child, hook.timeout).map_err(spawn)?;
    match (status, hook.timeout) {
        (Some(status), _) if status.success() => Ok(()),
        (Some(status), _) => {
            let stderr = words.and_then(|told| told.recv_timeout(LAST_WORDS).ok()).unwrap_or_default();
            Err(HookError::Failed { path: hook.path.clone(), status, stderr })
        }
        (None, timeout) => {
            Err(HookError::Timeout { path: hook.path.clone(), timeout: timeout.unwrap_or_default() })
        }
    }
}

/// The status, or `None` when the time was up and the hook was killed.
fn wait(child: &mut Child, timeout: Option<Duration>) -> io::Result<Option<ExitStatus>> {
    let Some(timeout) = timeout else { return child.wait().map(Some) };
    let ended = wait::within(child, timeout)?;
    if ended.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(ended)
}

/// Tells the beginning, and reads all, so that the hook never blocks.
fn beginning(mut pipe: impl io::Read, tell: &mpsc::Sender<String>) {
    let mut kept = Vec::new();
    // An error ends it as an end does.
    let _ = pipe.by_ref().take(MAX_WORDS).read_to_end(&mut kept);
    let _ = tell.send(String::from_utf8_lossy(&kept).trim_end().to_owned());
    let _ = io::copy(&mut pipe, &mut io::sink());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Option<Duration>) -> Hook {
        let args = ["hook", "-c", script].map(str::to_owned).to_vec();
        Hook { path: "/bin/sh".into(), args, env: vec!["COLOUR=blue".into()], timeout }
    }

    #[test]
    fn a_hook_gets_its_state_its_environment_and_the_bundle() {
        let bundle = tempfile::tempdir().unwrap();
        let hook = shell("cat > state; echo $COLOUR $HOME $0 > env", None);
        run(&[hook], br#"{"pid":7}"#, bundle.path()).unwrap();
        assert_eq!(std::fs::read(bundle.path().join("state")).unwrap(), br#"{"pid":7}"#);
        assert_eq!(std::fs::read_to_string(bundle.path().join("env")).unwrap(), "blue hook\n");
    }

    #[test]
    fn a_failing_hook_is_told_with_its_words_and_stops_the_rest() {
        let bundle = tempfile::tempdir().unwrap();
        let hooks = [shell("echo no luck >&2; exit 3", None), shell("touch second", None)];
        let error = run(&hooks, b"", bundle.path()).unwrap_err().to_string();
        assert!(error.contains("no luck") && error.contains('3'), "{error}");
        assert!(!bundle.path().join("second").exists());
    }

    #[test]
    fn a_hook_that_hangs_is_killed() {
        let hook = shell("sleep 600", Some(Duration::from_millis(50)));
        let error = run(&[hook], b"", Path::new("/")).unwrap_err();
        assert!(matches!(error, HookError::Timeout { .. }));
    }

    #[test]
    fn a_hook_beside_a_process_is_in_its_network() {
        if !nix::unistd::geteuid().is_root() {
            return test_skips::skip("only root makes a network namespace");
        }
        let bundle = tempfile::tempdir().unwrap();
        let mut beside = Command::new("unshare").args(["--net", "sleep", "60"]).spawn().unwrap();
        let network = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        while network(beside.id()) == network(std::process::id()) {
            thread::sleep(Duration::from_millis(2));
        }
        let hook = shell("/bin/readlink /proc/self/ns/net > net", None);
        let ran = run_beside(beside.id(), &[hook], b"", bundle.path());
        let expected = network(beside.id());
        beside.kill().unwrap();
        beside.wait().unwrap();
        ran.unwrap();
        let found = std::fs::read_to_string(bundle.path().join("net")).unwrap();
        assert_eq!(found.trim(), expected.to_str().unwrap());
    }

    #[test]
    fn a_failed_hooks_child_holds_nobody_up() {
        let started = std::time::Instant::now();
        let error = run(&[shell("sleep 30 & exit 4", None)], b"", Path::new("/")).unwrap_err();
        assert!(matches!(error, HookError::Failed { .. }) && started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn all_are_run_where_no_failure_counts() {
        let bundle = tempfile::tempdir().unwrap();
        let hooks = [shell("exit 3", None), shell("touch second", None)];
        assert_eq!(run_all(&hooks, b"", bundle.path()).len(), 1);
        assert!(bundle.path().join("second").exists());
    }

    #[test]
    fn a_missing_hook_names_its_path() {
        let hook = Hook { path: "/nonexistent/hook".into(), args: vec![], env: vec![], timeout: None };
        assert!(run(&[hook], b"", Path::new("/")).unwrap_err().to_string().contains("/nonexistent/hook"));
    }
}
