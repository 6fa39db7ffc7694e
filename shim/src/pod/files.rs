//! Files that all containers of a pod have. containerd makes none for a pod of the sandbox API, and yet (1.7) mounts where
//! it would have made them, or (2.x) leaves them out: either way each container is given the pod's.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::unistd::gethostname;
use oci_spec::runtime::{Mount, MountBuilder};

use super::config::{Config, Dns};

/// In the sandbox's bundle, which goes with the sandbox.
const DIRECTORY: &str = "pod";

/// Where a container has them, and what they are called here and in containerd's own directory for a pod.
const FILES: [(&str, &str); 3] =
    [("/etc/hostname", "hostname"), ("/etc/hosts", "hosts"), ("/etc/resolv.conf", "resolv.conf")];

/// The memory that they share. Nothing is there on the host: its name is what the guest knows it by.
const MEMORY: (&str, &str) = ("/dev/shm", "shm");

/// A pod's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files(PathBuf);

impl Files {
    /// Makes them, for a pod that is called `hostname`.
    ///
    /// # Errors
    /// The system's.
    pub fn make(bundle: &Path, pod: &Config, hostname: &str) -> io::Result<Self> {
        let files = Self(bundle.join(DIRECTORY));
        fs::create_dir_all(files.root())?;
        fs::write(files.0.join("hostname"), format!("{hostname}\n"))?;
        fs::write(files.0.join("hosts"), host("/etc/hosts")?)?;
        let names = match &pod.dns {
            Some(dns) => resolv_conf(dns),
            None => host("/etc/resolv.conf")?,
        };
        fs::write(files.0.join("resolv.conf"), names)?;
        Ok(files)
    }

    /// Those of the sandbox in `bundle`, if it is one of the sandbox API's.
    pub fn of(bundle: &Path) -> Option<Self> {
        let directory = bundle.join(DIRECTORY);
        directory.is_dir().then_some(Self(directory))
    }

    /// The root of the sandbox's own container: not the bundle's, which containerd removes only as it has made it, empty.
    pub fn root(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    /// What stands for the memory.
    pub fn memory(&self) -> PathBuf {
        self.0.join(MEMORY.1)
    }

    /// The mounts of a container in the sandbox `id`: those that it brings for such a file itself stay.
    pub fn mounts(&self, id: &str, mut mounts: Vec<Mount>) -> Vec<Mount> {
        for (destination, name) in FILES.into_iter().chain([MEMORY]) {
            let ours = self.0.join(name);
            match mounts.iter_mut().find(|mount| same(mount.destination(), destination)) {
                Some(mount) if is_containerds(mount, id, name) => {
                    mount.set_source(Some(ours)).set_typ(Some("bind".into()));
                    let mut options = mount.options().clone().unwrap_or_default();
                    options.retain(|option| !option.contains('=') && option != "bind" && option != "rbind");
                    options.push("rbind".into());
                    mount.set_options(Some(options));
                }
                Some(_) => {}
                None => mounts.push(bind(destination, ours)),
            }
        }
        mounts
    }
}

fn bind(destination: &str, source: PathBuf) -> Mount {
    MountBuilder::default()
        .destination(destination)
        .typ("bind")
        .source(source)
        .options(["rbind", "rprivate", "rw"].map(str::to_owned))
        .build()
        .unwrap_or_default()
}

fn same(one: &Path, other: &str) -> bool {
    one.components().eq(Path::new(other).components())
}

/// Whether it is containerd's: a file of its directory for the pod, or else the usual memory of a container alone.
fn is_containerds(mount: &Mount, id: &str, name: &str) -> bool {
    let of_pod = Path::new("sandboxes").join(id).join(name);
    let alone = name == MEMORY.1 && mount.typ().as_deref() == Some("tmpfs");
    alone || mount.source().as_deref().is_some_and(|source| source.ends_with(of_pod))
}

/// The host's file; one that is not there is empty.
fn host(path: &str) -> io::Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// As resolv.conf(5) has it.
fn resolv_conf(dns: &Dns) -> String {
    let line = |word: &str, values: &[String]| match values {
        [] => String::new(),
        values => format!("{word} {}\n", values.join(" ")),
    };
    let servers: String = dns.servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    [line("search", &dns.searches), servers, line("options", &dns.options)].concat()
}

/// A pod without a name has the host's.
///
/// # Errors
/// The system's.
pub fn hostname(pod: &Config) -> io::Result<String> {
    match pod.hostname.as_str() {
        "" => Ok(gethostname()?.to_string_lossy().into_owned()),
        own => Ok(own.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mounts(list: serde_json::Value) -> Vec<Mount> {
        serde_json::from_value(list).unwrap()
    }

    #[test]
    fn a_container_has_the_pods_files_whatever_containerd_says_of_them() {
        let files = Files("/b/pod".into());
        let all = files.mounts(
            "id",
            mounts(json!([
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "mode=1777", "size=65536k"]},
                {"destination": "/etc/hosts", "type": "bind", "source": "/own/hosts", "options": ["rbind"]},
                {"destination": "/etc/resolv.conf", "type": "bind", "source": "/c/sandboxes/id/resolv.conf", "options": ["rbind", "ro"]},
            ])),
        );
        let of = |destination: &str| {
            let mount = all.iter().find(|mount| mount.destination() == Path::new(destination)).unwrap();
            (mount.source().clone().unwrap().display().to_string(), mount.options().clone().unwrap())
        };
        assert_eq!(of("/dev/shm"), ("/b/pod/shm".into(), vec!["nosuid".into(), "rbind".into()]));
        assert_eq!(of("/etc/hosts").0, "/own/hosts");
        assert_eq!(of("/etc/resolv.conf"), ("/b/pod/resolv.conf".into(), vec!["ro".into(), "rbind".into()]));
        assert_eq!(of("/etc/hostname").0, "/b/pod/hostname");
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn they_are_made_in_the_bundle() {
        let bundle = tempfile::tempdir().unwrap();
        assert_eq!(Files::of(bundle.path()), None);
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let dns =
            Dns { servers: list(&["10.0.0.1", "10.0.0.2"]), searches: list(&["a", "b"]), options: vec![] };
        let pod = Config { dns: Some(dns), ..Config::default() };
        let files = Files::make(bundle.path(), &pod, "name").unwrap();
        assert_eq!(Files::of(bundle.path()), Some(files));
        let read = |name: &str| fs::read_to_string(bundle.path().join("pod").join(name)).unwrap();
        assert_eq!(read("resolv.conf"), "search a b\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n");
        assert_eq!(read("hostname"), "name\n");
    }
}
