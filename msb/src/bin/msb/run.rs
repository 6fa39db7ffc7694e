//! `run IMAGE [COMMAND…]` and `create`.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use msb::image::ordinary;
use msb::sandbox::{
    Failure, Key, Network, Port, Pull, Request, Volume, Where,
    keep::{self, Front},
    random_id, request,
};
use msb_runtime::host::fds;

use crate::{Scope, default, progress::Bars};

/// What Docker ends with where the program can't be run, and where it is not there.
const CANNOT: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Make a sandbox of an image and run a command in it.
#[derive(Debug, Args)]
pub struct Run {
    /// Leave it running and print its name.
    #[arg(short, long)]
    detach: bool,
    /// Remove it when it ends.
    #[arg(long)]
    rm: bool,
    #[command(flatten)]
    options: Options,
}

/// Make a sandbox of an image, to be started later.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    options: Options,
}

/// What a sandbox is to be.
#[derive(Debug, Args, Default)]
struct Options {
    /// Keep its stdin open.
    #[arg(short, long)]
    interactive: bool,
    /// With a terminal.
    #[arg(short, long)]
    tty: bool,
    /// Its name; otherwise it gets one.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// An environment variable, or the name of one that is passed on.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A file with one such a line.
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// A path of the host or a volume's name, and where it is in the sandbox.
    #[arg(short, long, value_name = "SOURCE:PATH[:ro]")]
    volume: Vec<String>,
    /// A port of the host that leads to one of the sandbox.
    #[arg(short, long, value_name = "[ADDRESS:]HOST:GUEST")]
    publish: Vec<Port>,
    /// Working directory.
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Who runs the command.
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Memory, like 512m or 2g.
    #[arg(short, long, value_name = "SIZE", value_parser = request::memory)]
    memory: Option<u64>,
    /// Processors, like 2 or 0.5.
    #[arg(short, long, value_name = "NUMBER", value_parser = request::cpus)]
    cpus: Option<f64>,
    /// Whom it can reach: nobody, the Internet alone, or all that the host can.
    #[arg(long, default_value = "public", value_name = "none|public|open", value_parser = network)]
    network: Network,
    /// In place of the image's entry point.
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// How long it may run, like 30s, 5m or 2h.
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,
    /// How long it runs while nobody uses it: no command in it, no connection to its ports.
    #[arg(long, value_name = "TIME", value_parser = time)]
    idle_timeout: Option<Duration>,
    /// When the image is asked for from its registry.
    #[arg(long, default_value = "if-missing", value_name = "always|if-missing|never", value_parser = pull)]
    pull: Pull,
    /// Something to know it by.
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// The image; or, as one word with spaces, a command for the shell of the default image.
    image: Option<String>,
    /// What to run, if not what the image says.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

fn network(text: &str) -> Result<Network, String> {
    match text {
        "none" => Ok(Network::None),
        "public" => Ok(Network::Public),
        "open" => Ok(Network::Open),
        _ => Err("give none, public or open".into()),
    }
}

fn pull(text: &str) -> Result<Pull, String> {
    match text {
        "always" => Ok(Pull::Always),
        "if-missing" | "missing" => Ok(Pull::IfMissing),
        "never" => Ok(Pull::Never),
        _ => Err("give always, if-missing or never".into()),
    }
}

/// A number with s, m, h or d; without, of seconds.
pub fn time(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no time: give a number with s, m, h or d");
    let (number, unit) = match text.char_indices().last() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => (&text[..at], unit),
        _ => (text, 's'),
    };
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(seconds).filter(|time| *time > 0).map(Duration::from_secs).ok_or_else(bad)
}

impl Options {
    /// As the library takes it.
    fn request(self, remove: bool) -> anyhow::Result<Request> {
        let current = std::env::current_dir().context("The current directory can't be read")?;
        let (mut volumes, mut workdir) = (volumes(&self.volume, &current)?, self.workdir);
        let by_default = match &self.image {
            Some(line) => line.contains(char::is_whitespace) && self.command.is_empty(),
            None => true,
        };
        if let Some(path) = default::workspace().filter(|_| by_default) {
            work_in(path, &mut volumes, &mut workdir);
        }
        let (image, command) = match (self.image, self.command) {
            // No reference has a space: it is a line for a shell.
            (Some(line), rest) if line.contains(char::is_whitespace) && rest.is_empty() => {
                (default::image(), Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), line]))
            }
            (Some(image), rest) => (image, (!rest.is_empty()).then_some(rest)),
            (None, rest) => (default::image(), (!rest.is_empty()).then_some(rest)),
        };
        let own = |name: &str| std::env::var(name).ok();
        let mut env = Vec::new();
        for path in &self.env_file {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
            {
                env.extend(request::env(line, own)?);
            }
        }
        for text in &self.env {
            env.extend(request::env(text, own)?);
        }
        let label = |text: &String| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            (key.to_owned(), value.to_owned())
        };
        Ok(Request {
            pull: self.pull,
            entrypoint: self.entrypoint.map(|word| if word.is_empty() { vec![] } else { vec![word] }),
            command,
            env,
            workdir,
            user: self.user,
            cpus: self.cpus,
            memory: self.memory,
            volumes,
            ports: self.publish,
            network: self.network,
            terminal: self.tty,
            stdin: self.interactive,
            remove,
            timeout: self.timeout,
            idle_timeout: self.idle_timeout,
            labels: self.label.iter().map(label).collect(),
            ..Request::of(ordinary(&image))
        })
    }

    fn key(&self, scope: &Scope) -> anyhow::Result<Key> {
        Ok(match &self.name {
            Some(name) => scope.key(name)?,
            None => scope.key(&format!("sandbox-{}", &random_id()?[..8]))?,
        })
    }
}

fn volumes(all: &[String], current: &Path) -> anyhow::Result<Vec<Volume>> {
    Ok(all.iter().map(|text| Volume::parse(text, current)).collect::<Result<_, _>>()?)
}

/// Shows a directory of the host in the sandbox, at the same path, unless something else is to be there; and begins there,
/// unless somewhere else is asked for.
fn work_in(path: PathBuf, volumes: &mut Vec<Volume>, workdir: &mut Option<PathBuf>) {
    if !volumes.iter().any(|volume| volume.target == path) {
        volumes.push(Volume { source: Where::Host(path.clone()), target: path.clone(), read_only: false });
    }
    workdir.get_or_insert(path);
}

impl Create {
    /// Makes it.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let key = self.options.key(scope)?;
        scope.sandboxes.create(&key, self.options.request(false)?, &Bars::new())?;
        println!("{}", key.name);
        Ok(ExitCode::SUCCESS)
    }
}

impl Run {
    /// A shell in the default image, which is gone when it ends.
    pub fn shell(terminal: bool) -> Self {
        let options =
            Options { interactive: true, tty: terminal, network: Network::Public, ..Options::default() };
        let command = vec!["/bin/sh".to_owned()];
        Self { detach: false, rm: true, options: Options { command, ..options } }
    }

    /// Runs it.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        // What the caller has leaked to this process must not live as long as a machine.
        fds::forget_inherited()
            .context("Inherited descriptors can't be closed: a kernel from 5.11 on is needed")?;
        if self.options.tty && !self.detach && !io::stdin().is_terminal() {
            anyhow::bail!("The input is no terminal: leave -t out");
        }
        let key = self.options.key(scope)?;
        let (sandboxes, detach) = (&scope.sandboxes, self.detach);
        sandboxes.create(&key, self.options.request(self.rm)?, &Bars::new())?;
        let done = if detach {
            sandboxes.start(&key).map(|()| {
                println!("{}", key.name);
                0
            })
        } else {
            keep::hold_signals().context("Signals can't be forwarded")?;
            sandboxes
                .keep(&sandboxes.place(&key), Front::Own, |_| ())
                .map(|(_, ended)| ended.code.unwrap_or(u8::MAX))
        };
        match done {
            Ok(code) => Ok(ExitCode::from(code)),
            Err(failure) => {
                if self.rm || is_new(&scope.sandboxes, &key) {
                    // It was made for this start only. The start's failure is the one to tell.
                    let _ = scope.sandboxes.remove(&key);
                }
                told(failure)
            }
        }
    }
}

/// Whether it never ran.
fn is_new(sandboxes: &msb::sandbox::Sandboxes, key: &Key) -> bool {
    sandboxes.find(key).is_ok_and(|(_, stored)| stored.started.is_none())
}

/// Docker's codes for a program that can't be run.
pub fn told(failure: Failure) -> anyhow::Result<ExitCode> {
    if let Failure::NoProgram { reason, .. } = &failure {
        eprintln!("msb: {}", msb_runtime::plain::lines(&failure.to_string()));
        let missing = reason.contains("not found") || reason.contains("no such file");
        return Ok(ExitCode::from(if missing { NOT_FOUND } else { CANNOT }));
    }
    Err(failure.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time("30"), Ok(Duration::from_secs(30)));
        assert_eq!(time("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "s", "0", "-1", "1y", "99999999999999999999d", "5ä"] {
            time(bad).unwrap_err();
        }
    }

    #[test]
    fn the_workspace_is_there_unless_something_else_is() {
        let workspace = || PathBuf::from("/workspace");
        let (mut volumes, mut workdir) = (vec![], None);
        work_in(workspace(), &mut volumes, &mut workdir);
        let usual = Volume { source: Where::Host(workspace()), target: workspace(), read_only: false };
        assert_eq!((volumes, workdir), (vec![usual], Some(workspace())));
        let own = Volume::parse("/mine:/workspace", Path::new("/")).unwrap();
        let (mut volumes, mut workdir) = (vec![own.clone()], Some("/tmp".into()));
        work_in(workspace(), &mut volumes, &mut workdir);
        assert_eq!((volumes, workdir), (vec![own], Some("/tmp".into())));
    }

    #[test]
    fn a_line_with_spaces_is_for_a_shell() {
        let options = |image: &str, command: &[&str]| Options {
            image: Some(image.into()),
            command: command.iter().map(ToString::to_string).collect(),
            ..Options::default()
        };
        let line = options("echo Hello", &[]).request(false).unwrap();
        assert_eq!(line.command.unwrap(), ["/bin/sh", "-c", "echo Hello"]);
        let image = options("busybox", &["echo", "a b"]).request(true).unwrap();
        assert_eq!((image.image.as_str(), image.command.unwrap().len(), image.remove), ("busybox", 2, true));
    }
}
