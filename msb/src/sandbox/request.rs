//! What a sandbox is to be: as its caller asked, checked, and kept beside it so that it can be started again.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Failure, Setup, setup::inside};
use crate::{home::Home, image::Credentials, name::Name};

/// A sandbox to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The image's reference, as given.
    pub image: String,
    /// When it is asked for from its registry.
    #[serde(default)]
    pub pull: Pull,
    /// For the image's registry, in place of what `docker login` left. Not kept: who starts the sandbox again has its image.
    #[serde(skip)]
    pub credentials: Option<Credentials>,
    /// In place of the image's; empty: none.
    pub entrypoint: Option<Vec<String>>,
    /// In place of the image's command; none: the image's.
    pub command: Option<Vec<String>>,
    /// No first process but one that waits, whatever the image would run: what runs in it is begun later.
    #[serde(default)]
    pub idle: bool,
    /// `KEY=VALUE`, over the image's.
    #[serde(default)]
    pub env: Vec<String>,
    /// Absolute; none: the image's.
    pub workdir: Option<PathBuf>,
    /// `user[:group]`, names or numbers; none: the image's.
    pub user: Option<String>,
    /// Processors; may be a fraction.
    pub cpus: Option<f64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// What it sees of the host.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// What the host sees of it.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// Whom it can reach.
    #[serde(default)]
    pub network: Network,
    /// Whether its first process has a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// Whether anybody writes to its first process.
    #[serde(default)]
    pub stdin: bool,
    /// Whether all of it goes when it ends.
    #[serde(default)]
    pub remove: bool,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// How long it runs while nobody uses it: no process that was begun in it, no connection to it.
    #[serde(default)]
    pub idle_timeout: Option<Duration>,
    /// What its owner wants to know it by.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether each port that the image names is published at one of the host's that is free.
    #[serde(default)]
    pub publish_all: bool,
    /// Whether it is started again when it ends by itself.
    #[serde(default)]
    pub restart: Restart,
    /// What it is set up with beyond the usual.
    #[serde(default)]
    pub setup: Setup,
}

impl Request {
    /// Of `image`, and all else as the image has it.
    #[must_use]
    pub fn of(image: &str) -> Self {
        Self {
            image: image.to_owned(),
            pull: Pull::default(),
            credentials: None,
            entrypoint: None,
            command: None,
            idle: false,
            env: Vec::new(),
            workdir: None,
            user: None,
            cpus: None,
            memory: None,
            volumes: Vec::new(),
            ports: Vec::new(),
            network: Network::default(),
            terminal: false,
            stdin: false,
            remove: false,
            timeout: None,
            idle_timeout: None,
            labels: BTreeMap::new(),
            publish_all: false,
            restart: Restart::default(),
            setup: Setup::default(),
        }
    }
}

/// What a request may have at most of each thing: each is an open file, a mount, or a part of a record that is read as a whole.
const PORTS: usize = 256;
const MOUNTS: usize = 64;
const WORDS: usize = 4096;

impl Request {
    /// Whether it asks for no more of anything than a sandbox may have.
    ///
    /// # Errors
    /// [`Failure::Bad`]
    pub(super) fn bounded(&self) -> Result<(), Failure> {
        for (count, most, what) in [
            (self.ports.len(), PORTS, "published ports"),
            (self.volumes.len(), MOUNTS, "volumes"),
            (self.setup.tmpfs.len(), MOUNTS, "directories in memory"),
            (self.env.len(), WORDS, "environment variables"),
            (self.labels.len(), WORDS, "labels"),
        ] {
            if count > most {
                let text = format!("A sandbox has at most {most} {what}, and this one is to have {count}");
                return Err(Failure::Bad(text));
            }
        }
        Ok(())
    }

    /// Bytes of memory that its machine gets.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or(super::bundle::MEMORY)
    }

    /// Whether a sandbox of the one is a sandbox of the other. Ports that are left open are as good as those that it got.
    #[must_use]
    pub fn same(&self, asked: &Self) -> bool {
        let ports = self.ports.len() == asked.ports.len()
            && self.ports.iter().zip(&asked.ports).all(|(has, wants)| {
                *has == Port { host: if wants.host == 0 { has.host } else { wants.host }, ..*wants }
            });
        let rest = |of: &Self| Self { ports: Vec::new(), credentials: None, ..of.clone() };
        ports && rest(self) == rest(asked)
    }
}

/// When an image is asked for from its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pull {
    /// Each time: there may be a newer one.
    Always,
    /// When it is not here.
    #[default]
    IfMissing,
    /// Not at all.
    Never,
}

/// Whom a sandbox can reach. What is published of it can be reached in each case but the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Nobody: it has no network but its own loopback.
    None,
    /// The Internet. Not the host, its networks, or what a cloud tells of its machines.
    #[default]
    Public,
    /// Whom the host can reach.
    Open,
}

/// Whether a sandbox in the background is started again when it ends by itself. Who stops it has it stay so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// It is not.
    #[default]
    No,
    /// When it fails; not more often than so many times one after the other.
    OnFailure(Option<u32>),
    /// Each time.
    Always,
}

impl Restart {
    /// Whether, after it has ended so for the time `times` one after the other.
    #[must_use]
    pub fn again(self, code: u8, times: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(most) => code != 0 && most.is_none_or(|most| times < most),
            Self::Always => true,
        }
    }
}

impl FromStr for Restart {
    type Err = BadRequest;

    fn from_str(text: &str) -> Result<Self, BadRequest> {
        let bad = || BadRequest::Restart(text.to_owned());
        match text.split_once(':') {
            None if text == "no" => Ok(Self::No),
            None if text == "on-failure" => Ok(Self::OnFailure(None)),
            // No service of ours stops sandboxes and starts them again with the host: the two are the same.
            None if text == "always" || text == "unless-stopped" => Ok(Self::Always),
            Some(("on-failure", times)) => Ok(Self::OnFailure(Some(times.parse().map_err(|_| bad())?))),
            _ => Err(bad()),
        }
    }
}

/// A directory, a file, or a volume of ours, as a sandbox sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Whose it is.
    pub source: Where,
    /// Where it is in the sandbox: absolute, without `..`.
    pub target: PathBuf,
    /// Whether it can't be written to.
    #[serde(default)]
    pub read_only: bool,
}

/// What a volume is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Where {
    /// A path of the host: absolute.
    Host(PathBuf),
    /// A volume with a name.
    Named(Name),
}

impl Where {
    /// On the host.
    pub(super) fn path(&self, home: &Home) -> PathBuf {
        match self {
            Self::Host(path) => path.clone(),
            Self::Named(name) => home.volume(name),
        }
    }
}

/// A port of the host that leads to one of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The host's address; none: the usual one, 127.0.0.1.
    pub address: Option<IpAddr>,
    /// The host's port; 0: a free one.
    pub host: u16,
    /// The sandbox's.
    pub guest: u16,
    /// Of which protocol.
    #[serde(default)]
    pub protocol: Protocol,
}

/// Of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293
    #[default]
    Tcp,
    /// RFC 768
    Udp,
}

/// A part of a request that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// `-v`
    #[error(
        "{0:?} is no volume: give HOST-PATH:PATH or NAME:PATH, with :ro for reading only; PATH begins with `/`"
    )]
    Volume(String),
    /// `-p`
    #[error("{0:?} is no port: give [ADDRESS:]HOST-PORT:PORT, with /udp for UDP; ports are 1 to 65535")]
    Port(String),
    /// `-e`
    #[error("{0:?} is no environment variable: give NAME=VALUE")]
    Env(String),
    /// `-m`
    #[error("{0:?} is no size: give a number with b, k, m or g")]
    Memory(String),
    /// `-c`
    #[error("{0:?} is no number of processors: give one greater than 0")]
    Cpus(String),
    /// `--mount`
    #[error(
        "{0:?} is no mount: give type=bind, volume or tmpfs, source=PATH or NAME, target=PATH, and readonly if it is that"
    )]
    Mount(String),
    /// `--tmpfs`
    #[error("{0:?} is no directory in memory: give PATH[:OPTIONS], as in /run:size=64m,mode=1777")]
    Tmpfs(String),
    /// `--ulimit`
    #[error("{0:?} is no limit: give NAME=SOFT[:HARD], as in nofile=1024:2048; -1 is none")]
    Ulimit(String),
    /// `--hostname`
    #[error("{0:?} is no name of a host: give up to 64 letters, digits, `-`, `_` and `.`")]
    Hostname(String),
    /// `--cap-add`, `--cap-drop`
    #[error("{0:?} is no capability: give one of capabilities(7), as in NET_ADMIN, or ALL")]
    Capability(String),
    /// `--restart`
    #[error("{0:?} is no policy: give no, on-failure[:TIMES], always or unless-stopped")]
    Restart(String),
}

impl Volume {
    /// From what Docker's `-v` takes: `SOURCE:TARGET[:OPTIONS]`. A path that is relative or begins with `~` is taken for
    /// what it says to a shell; everything else without a slash is a volume's name.
    ///
    /// # Errors
    /// [`BadRequest::Volume`].
    pub fn parse(text: &str, current: &Path) -> Result<Self, BadRequest> {
        let bad = || BadRequest::Volume(text.to_owned());
        let mut parts = text.split(':');
        let (source, target) = (parts.next().ok_or_else(bad)?, parts.next().ok_or_else(bad)?);
        let mut read_only = false;
        for option in parts.next().map(|options| options.split(',')).into_iter().flatten() {
            match option {
                "ro" => read_only = true,
                // Labels of SELinux, of which the guest has none, and what each mount is anyway.
                "rw" | "z" | "Z" | "rprivate" | "private" | "consistent" | "cached" | "delegated"
                | "nocopy" => {}
                _ => return Err(bad()),
            }
        }
        let target = inside(target).ok_or_else(bad)?;
        if parts.next().is_some() || source.is_empty() || text.contains('\0') {
            return Err(bad());
        }
        let source = if source.starts_with(['/', '.']) {
            Where::Host(current.join(source))
        } else {
            Where::Named(source.parse().map_err(|_| bad())?)
        };
        Ok(Self { source, target, read_only })
    }
}

impl FromStr for Port {
    type Err = BadRequest;

    fn from_str(text: &str) -> Result<Self, BadRequest> {
        let bad = || BadRequest::Port(text.to_owned());
        let (ports, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return Err(bad()),
        };
        let (rest, guest) = ports.rsplit_once(':').unwrap_or(("0", ports));
        let (address, host) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((address, host)) => {
                let bare =
                    address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
                (Some(bare.parse().map_err(|_| bad())?), host)
            }
        };
        let guest: u16 = guest.parse().map_err(|_| bad())?;
        let host = host.parse().map_err(|_| bad())?;
        if guest == 0 {
            return Err(bad());
        }
        Ok(Self { address, host, guest, protocol })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        match self.address {
            Some(IpAddr::V6(address)) => write!(to, "[{address}]:")?,
            Some(IpAddr::V4(address)) => write!(to, "{address}:")?,
            None => {}
        }
        write!(to, "{}:{}/{protocol}", self.host, self.guest)
    }
}

/// `NAME=VALUE`, or the NAME of a variable of the caller's whose value it gets, as with Docker; one that the caller has not
/// is left out.
///
/// # Errors
/// [`BadRequest::Env`].
pub fn env(text: &str, own: impl Fn(&str) -> Option<String>) -> Result<Option<String>, BadRequest> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    if name.is_empty() || text.contains('\0') {
        return Err(BadRequest::Env(text.to_owned()));
    }
    Ok(match value {
        Some(_) => Some(text.to_owned()),
        None => own(name).map(|value| format!("{name}={value}")),
    })
}

/// Bytes, as Docker's `-m` takes them: a number with b, k, m or g for powers of 1024.
///
/// # Errors
/// [`BadRequest::Memory`].
pub fn memory(text: &str) -> Result<u64, BadRequest> {
    let bad = || BadRequest::Memory(text.to_owned());
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (number, shift) = match lower.bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 10),
        Some(b'm') => (&lower[..lower.len() - 1], 20),
        Some(b'g') => (&lower[..lower.len() - 1], 30),
        Some(b't') => (&lower[..lower.len() - 1], 40),
        _ => (lower, 0),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(bad)
}

/// Processors, as Docker's `--cpus` takes them.
///
/// # Errors
/// [`BadRequest::Cpus`].
pub fn cpus(text: &str) -> Result<f64, BadRequest> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| BadRequest::Cpus(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_as_docker_writes_them() {
        let parse = |text| Volume::parse(text, Path::new("/here"));
        let volume = parse("/data:/srv:ro").unwrap();
        assert_eq!(
            volume,
            Volume { source: Where::Host("/data".into()), target: "/srv".into(), read_only: true }
        );
        assert!(parse("/data:/srv:z,ro").unwrap().read_only && !parse("/data:/srv:Z").unwrap().read_only);
        assert_eq!(parse("./x:/srv").unwrap().source, Where::Host("/here/./x".into()));
        assert_eq!(parse("cache:/srv").unwrap().source, Where::Named("cache".parse().unwrap()));
        for bad in [
            "",
            "/data",
            "/data:srv",
            "/data:/a/../b",
            "a/b:/x",
            "/d:/x:rx",
            "/d:/x:ro:z",
            ":/x",
            "/d:/x:ro,rx",
        ] {
            parse(bad).unwrap_err();
        }
    }

    #[test]
    fn there_is_a_most_of_everything() {
        let mut request = Request::of("busybox");
        request.ports = vec!["80".parse().unwrap(); PORTS];
        request.env = vec!["A=b".to_owned(); WORDS];
        request.bounded().unwrap();
        request.ports.push("80".parse().unwrap());
        let failure = request.bounded().unwrap_err();
        assert!(
            matches!(&failure, Failure::Bad(text) if text.contains("256 published ports")),
            "{failure:?}"
        );
        request.ports.clear();
        request.env.push("A=b".to_owned());
        assert!(matches!(request.bounded(), Err(Failure::Bad(text)) if text.contains("4097")));
    }

    #[test]
    fn ports_as_docker_writes_them() {
        let port: Port = "8080:80".parse().unwrap();
        assert_eq!((port.address, port.host, port.guest, port.protocol), (None, 8080, 80, Protocol::Tcp));
        for text in ["127.0.0.1:53:53/udp", "[::1]:8080:80/tcp", "0:80/tcp"] {
            assert_eq!(text.parse::<Port>().unwrap().to_string(), text);
        }
        assert_eq!("80".parse::<Port>().unwrap().host, 0);
        for bad in ["", "a:b", "80:0", "1:2:3:4", "70000:1", "1.2.3:80:80", "80:80/sctp"] {
            bad.parse::<Port>().unwrap_err();
        }
    }

    #[test]
    fn policies_of_restarting() {
        let times: Restart = "on-failure:2".parse().unwrap();
        assert!(times.again(1, 0) && times.again(1, 1) && !times.again(1, 2) && !times.again(0, 0));
        assert!("unless-stopped".parse::<Restart>().unwrap().again(0, 9));
        assert!(!Restart::default().again(1, 0));
        for bad in ["", "sometimes", "always:3", "on-failure:x"] {
            bad.parse::<Restart>().unwrap_err();
        }
    }

    #[test]
    fn sizes_and_fractions() {
        assert_eq!(memory("512m"), Ok(512 << 20));
        assert_eq!(memory("1GiB"), Ok(1 << 30));
        assert_eq!(memory("64"), Ok(64));
        for bad in ["", "m", "-1", "0", "99999999999t", "1x"] {
            memory(bad).unwrap_err();
        }
        assert_eq!(cpus("1.5"), Ok(1.5));
        for bad in ["0", "-1", "nan", "inf", "x"] {
            cpus(bad).unwrap_err();
        }
    }

    #[test]
    fn variables_are_given_or_the_callers() {
        let own = |name: &str| (name == "HOME").then(|| "/h".to_owned());
        assert_eq!(env("A=b=c", own), Ok(Some("A=b=c".into())));
        assert_eq!(env("HOME", own), Ok(Some("HOME=/h".into())));
        assert_eq!(env("NONE", own), Ok(None));
        env("=x", own).unwrap_err();
    }
}
