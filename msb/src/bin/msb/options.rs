//! What a sandbox is to be, by the flags of `run` and `create`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use msb::{
    image::{Images, ordinary},
    sandbox::{
        Key, Mount, Network, Port, Pull, Request, Restart, Setup, Tmpfs, Ulimit, Volume, Where, capability,
        hostname, random_id, request,
    },
};

use crate::{
    Scope, default, env,
    words::{Known, Meant, meant},
};

/// What a sandbox is to be.
#[derive(Debug, Args, Default)]
pub struct Options {
    /// Keep its stdin open.
    #[arg(short, long)]
    pub interactive: bool,
    /// With a terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// Its name; otherwise it gets one.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// An environment variable, or the name of one that is passed on.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A file with one such a line.
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// A path of the host, which is made where nothing is there, or a volume's name, and where it is in the sandbox.
    #[arg(short, long, value_name = "SOURCE:PATH[:ro]")]
    volume: Vec<String>,
    /// The same in so many words; a path of the host must be there.
    #[arg(long, value_name = "type=…,source=…,target=…[,readonly]")]
    mount: Vec<String>,
    /// A directory in memory.
    #[arg(long, value_name = "PATH[:OPTIONS]", value_parser = Tmpfs::parse)]
    tmpfs: Vec<Tmpfs>,
    /// A port of the host that leads to one of the sandbox.
    #[arg(short, long, value_name = "[ADDRESS:]HOST:GUEST")]
    publish: Vec<Port>,
    /// Each port that the image names, at one of the host's that is free.
    #[arg(short = 'P', long)]
    publish_all: bool,
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
    /// The disk for what it writes, like 50g.
    #[arg(long, value_name = "SIZE", value_parser = request::memory)]
    disk_size: Option<u64>,
    /// The same, as Docker writes it.
    #[arg(long, value_name = "size=SIZE", value_parser = storage, conflicts_with = "disk_size")]
    storage_opt: Option<u64>,
    /// /dev/shm, like 256m.
    #[arg(long, value_name = "SIZE", value_parser = request::memory)]
    shm_size: Option<u64>,
    /// What its processes may have of something, like nofile=1024:2048.
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = Ulimit::parse)]
    ulimit: Vec<Ulimit>,
    /// A capability more than the usual, or ALL.
    #[arg(long, value_name = "NAME", value_parser = capability)]
    cap_add: Vec<String>,
    /// One less.
    #[arg(long, value_name = "NAME", value_parser = capability)]
    cap_drop: Vec<String>,
    /// Its root can't be written to.
    #[arg(long)]
    read_only: bool,
    /// The guest's first process, and not the command, takes care of what others leave.
    #[arg(long)]
    init: bool,
    /// What it calls itself, if not its name.
    #[arg(long, value_name = "NAME", value_parser = hostname)]
    hostname: Option<String>,
    /// Whether it is started again when it ends by itself; with -d.
    #[arg(long, default_value = "no", value_name = "no|on-failure[:TIMES]|always")]
    pub restart: Restart,
    /// Whom it can reach: nobody, the Internet alone, or all that the host can.
    #[arg(long, default_value = "public", value_name = "none|public|open", value_parser = network)]
    network: Network,
    /// In place of the image's entry point.
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// How long it may run, like 30s, 5m or 2h.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub timeout: Option<Duration>,
    /// How long it runs while nobody uses it: no command in it, no connection to its ports.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub idle_timeout: Option<Duration>,
    /// When the image is asked for from its registry.
    #[arg(
        long,
        value_name = "always|if-missing|never",
        env = "MICROSANDBOX_PULL",
        default_value = "if-missing",
        value_parser = pull
    )]
    pull: Pull,
    /// Something to know it by.
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// The image, or as one word with spaces a line for the shell of the default image, or a program of that; and behind an
    /// image what to run, if not what it says.
    // One argument: all that follows the first word is the command's, whatever it looks like.
    #[arg(trailing_var_arg = true, value_name = "IMAGE [COMMAND]")]
    words: Vec<String>,
    /// A command for the default image.
    #[arg(skip)]
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

/// When an image is asked for.
pub fn pull(text: &str) -> Result<Pull, String> {
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

/// Of Docker's options of storage, the one that a sandbox has.
fn storage(text: &str) -> Result<u64, String> {
    let size = text.strip_prefix("size=").ok_or("give size=SIZE")?;
    request::memory(size).map_err(|error| error.to_string())
}

/// What this home has of images.
struct Here<'a>(&'a Scope);

impl Known for Here<'_> {
    fn is_here(&self, name: &str) -> bool {
        Images::open(self.0.sandboxes.home()).is_ok_and(|images| images.inspect(name).is_ok())
    }

    fn is_program(&self, name: &str) -> bool {
        let image = Images::open(self.0.sandboxes.home())
            .and_then(|images| images.local(&ordinary(&default::image()), &()));
        image.is_ok_and(|image| image.has_program(name))
    }
}

impl Options {
    /// A shell in the default image.
    pub fn shell(terminal: bool) -> Self {
        let command = vec!["/bin/sh".to_owned()];
        Self { interactive: true, tty: terminal, network: Network::Public, command, ..Self::default() }
    }

    /// As the library takes it, and what to say where its image can't be had. A line or a shell in the default image that is
    /// `watched` until it ends, and that has no name by which it could be found again, is nothing to be kept.
    pub fn request(
        self,
        scope: &Scope,
        remove: bool,
        watched: bool,
    ) -> anyhow::Result<(Request, Option<String>)> {
        let current = std::env::current_dir().context("The current directory can't be read")?;
        let Meant { image, command, by_default, doubt } = {
            let (first, rest) = split(self.words, self.command);
            meant(first, rest, &Here(scope))?
        };
        let label = |text: &String| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            (key.to_owned(), value.to_owned())
        };
        let (mut volumes, mut workdir) = (volumes(&self.volume, &current)?, self.workdir);
        let mut tmpfs = self.tmpfs;
        for text in &self.mount {
            match Mount::parse(text, &current)? {
                Mount::Volume(volume) => volumes.push(there(volume)?),
                Mount::Tmpfs(one) => tmpfs.push(one),
            }
        }
        let remove = remove || (watched && by_default && self.name.is_none());
        if let Some(path) = default::workspace().filter(|_| by_default) {
            work_in(path, &mut volumes, &mut workdir);
        }
        let setup = Setup {
            hostname: self.hostname,
            tmpfs,
            read_only: self.read_only,
            shm_size: self.shm_size,
            ulimits: self.ulimit,
            init: self.init,
            cap_add: self.cap_add,
            cap_drop: self.cap_drop,
            disk: self.disk_size.or(self.storage_opt),
        };
        let request = Request {
            pull: self.pull,
            entrypoint: self.entrypoint.map(|word| if word.is_empty() { vec![] } else { vec![word] }),
            command,
            env: env::read(&self.env_file, &self.env)?,
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
            publish_all: self.publish_all,
            restart: self.restart,
            setup,
            ..Request::of(&ordinary(&image))
        };
        Ok((request, doubt))
    }

    /// Whether nothing says yet of which image, or what to run.
    pub fn is_bare(&self) -> bool {
        self.words.is_empty()
    }

    /// A command for the default image, and no image before it.
    pub fn set_command(&mut self, command: &[String]) {
        self.command = command.to_vec();
    }

    /// The image and the command, as they were read.
    #[cfg(test)]
    pub fn read(self) -> (Option<String>, Vec<String>) {
        split(self.words, self.command)
    }

    /// What it is called.
    pub fn key(&self, scope: &Scope) -> anyhow::Result<Key> {
        Ok(match &self.name {
            Some(name) => scope.key(name)?,
            None => scope.key(&format!("sandbox-{}", &random_id()?[..8]))?,
        })
    }
}

/// The first word, and what follows it, with dashes between them or without; or the command alone.
fn split(words: Vec<String>, command: Vec<String>) -> (Option<String>, Vec<String>) {
    let mut words = words.into_iter().peekable();
    let Some(first) = words.next() else { return (None, command) };
    words.next_if(|word| word == "--");
    (Some(first), words.collect())
}

/// As with Docker, a path of the host where nothing is becomes a directory.
fn volumes(all: &[String], current: &Path) -> anyhow::Result<Vec<Volume>> {
    let mut volumes = Vec::with_capacity(all.len());
    for text in all {
        let volume = Volume::parse(text, current)?;
        if let Where::Host(path) = &volume.source
            && fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        {
            fs::create_dir_all(path).with_context(|| format!("{} can't be made", path.display()))?;
        }
        volumes.push(volume);
    }
    Ok(volumes)
}

/// Shows a directory of the host in the sandbox, at the same path, unless something else is to be there; and begins there,
/// unless somewhere else is asked for.
fn work_in(path: PathBuf, volumes: &mut Vec<Volume>, workdir: &mut Option<PathBuf>) {
    if !volumes.iter().any(|volume| volume.target == path) {
        volumes.push(Volume { source: Where::Host(path.clone()), target: path.clone(), read_only: false });
    }
    workdir.get_or_insert(path);
}

fn there(volume: Volume) -> anyhow::Result<Volume> {
    if let Where::Host(path) = &volume.source {
        fs::metadata(path).with_context(|| {
            format!("{} can't be mounted: make it first, or give -v, which makes a directory", path.display())
        })?;
    }
    Ok(volume)
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
    fn sizes_of_disks_as_docker_writes_them() {
        assert_eq!(storage("size=2g"), Ok(2 << 30));
        for bad in ["2g", "size=", "size=x", "inodes=1"] {
            storage(bad).unwrap_err();
        }
    }

    #[test]
    fn a_volume_is_made_and_a_mount_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let given = ["new/sub:/x".to_owned(), "./new/sub:/x:z".to_owned()];
        volumes(&given[..1], directory.path()).unwrap_err();
        volumes(&given[1..], directory.path()).unwrap();
        assert!(directory.path().join("new/sub").is_dir());
        let Ok(Mount::Volume(volume)) = Mount::parse("type=bind,source=none,target=/x", directory.path())
        else {
            panic!("it is one");
        };
        let error = there(volume).unwrap_err().to_string();
        assert!(error.contains("none can't be mounted"), "{error}");
        assert!(!directory.path().join("none").exists());
    }
}
