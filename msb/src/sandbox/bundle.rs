//! From what was asked and what the image says to a `config.json` that the runtime takes, as Docker would write it.

use std::path::Path;

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Key, Network, Request,
    stored::{Place, Stored},
    user::User,
};
use crate::{home::Home, network};

/// Of who sets none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Files of the kernel that tell of more than the container.
const MASKED: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/sys/firmware",
];
/// Those that change more than the container.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Length of the period of a limit of processors, in microseconds, as Docker has it.
const PERIOD: u32 = 100_000;
/// Of who asks for no memory: what a sandbox of the published clients gets.
pub const MEMORY: u64 = 512 << 20;

/// What an image says of how it is run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Defaults {
    /// Before the command.
    pub entrypoint: Vec<String>,
    /// Where none is given.
    pub command: Vec<String>,
    /// `KEY=VALUE`
    pub env: Vec<String>,
    /// Empty: `/`.
    pub workdir: String,
    /// Empty: root.
    pub user: String,
    /// A name or a number; empty: SIGTERM.
    pub stop_signal: String,
    /// Ports that it serves, as in `80/tcp`.
    #[serde(default)]
    pub exposed: Vec<String>,
}

impl Defaults {
    /// Of an image's configuration.
    #[must_use]
    pub fn of(image: &ImageConfiguration) -> Self {
        let Some(config) = image.config() else { return Self::default() };
        Self {
            entrypoint: config.entrypoint().clone().unwrap_or_default(),
            command: config.cmd().clone().unwrap_or_default(),
            env: config.env().clone().unwrap_or_default(),
            workdir: config.working_dir().clone().unwrap_or_default(),
            user: config.user().clone().unwrap_or_default(),
            stop_signal: config.stop_signal().clone().unwrap_or_default(),
            exposed: config.exposed_ports().clone().unwrap_or_default(),
        }
    }
}

/// What to run: with an entry point of its own a request does not get the image's command, as with Docker. Empty: nothing.
#[must_use]
pub fn arguments(request: &Request, image: &Defaults) -> Vec<String> {
    if request.idle {
        return msb_agent::protocol::IDLE.map(str::to_owned).to_vec();
    }
    let (entrypoint, fallback) = match &request.entrypoint {
        Some(own) => (own, &[][..]),
        None => (&image.entrypoint, image.command.as_slice()),
    };
    let command = request.command.as_deref().unwrap_or(fallback);
    entrypoint.iter().chain(command).cloned().collect()
}

/// The time zone that is told here, the image's variables, and over them those of the request; the last of a name counts.
fn environment(
    request: &Request,
    image: &Defaults,
    user: &User,
    key: &Key,
    zone: Option<&str>,
) -> Vec<String> {
    let mut all: Vec<String> = vec![PATH.into(), format!("HOSTNAME={}", hostname(request, key))];
    if request.terminal {
        all.push("TERM=xterm".into());
    }
    all.extend(zone.map(|zone| format!("TZ={zone}")));
    all.push(format!("HOME={}", user.home.as_deref().unwrap_or("/")));
    let mut merged: Vec<String> = Vec::new();
    for variable in all.iter().chain(&image.env).chain(&request.env) {
        let name = variable.split('=').next().unwrap_or_default();
        merged.retain(|old| old.split('=').next() != Some(name));
        merged.push(variable.clone());
    }
    merged
}

/// What a sandbox calls itself.
#[must_use]
pub fn hostname<'a>(request: &'a Request, key: &'a Key) -> &'a str {
    request.setup.hostname.as_deref().unwrap_or(key.name.as_str())
}

/// Whether its HOME is the one of its user, and not one that its image or its request says.
#[must_use]
pub fn has_users_home(request: &Request, image: &Defaults) -> bool {
    !image.env.iter().chain(&request.env).any(|variable| variable.starts_with("HOME="))
}

/// The whole `config.json`; `zone`: the time zone, where one is set.
#[must_use]
pub fn config(stored: &Stored, user: &User, home: &Home, place: &Place, zone: Option<&str>) -> Value {
    let Stored { request, defaults: image, key, .. } = stored;
    let workdir = match &request.workdir {
        Some(own) => own.clone(),
        None if image.workdir.is_empty() => "/".into(),
        None => Path::new("/").join(&image.workdir),
    };
    let setup = &request.setup;
    let of_request = setup.mounts().into_iter().chain(volumes(request, home));
    let mounts: Vec<Value> = fixed_mounts(setup.shm()).into_iter().chain(of_request).collect();
    let capabilities = setup.capabilities();
    let of_network = match request.network {
        Network::None => json!({ "type": "network" }),
        Network::Public | Network::Open => json!({ "type": "network", "path": network::path(&stored.id) }),
    };
    let mut namespaces = vec![
        json!({ "type": "ipc" }),
        json!({ "type": "uts" }),
        json!({ "type": "mount" }),
        json!({ "type": "cgroup" }),
        of_network,
    ];
    // Without pids of its own its orphans come to the machine's first process, our agent, which reaps them; and its own first
    // process is one as others, whom signals end.
    if !setup.init {
        namespaces.push(json!({ "type": "pid" }));
    }
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": request.terminal,
            "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
            "args": arguments(request, image),
            "env": environment(request, image, user, key, zone),
            "cwd": workdir,
            "capabilities": {
                "bounding": capabilities,
                // A program of an unprivileged user has none that it did not get from its file.
                "effective": if user.uid == 0 { &capabilities[..] } else { &[] },
                "permitted": if user.uid == 0 { &capabilities[..] } else { &[] },
            },
            "rlimits": setup.rlimits(),
            "oomScoreAdj": 0,
        },
        "root": { "path": place.root(), "readonly": setup.read_only },
        "hostname": hostname(request, key),
        "mounts": mounts,
        "annotations": annotations(request),
        "linux": {
            "resources": resources(request),
            "namespaces": namespaces,
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    })
}

/// As Docker's `--cpus` and `--memory`, which size the machine as well.
fn resources(request: &Request) -> Value {
    let mut resources = json!({
        "devices": [{ "allow": false, "access": "rwm" }],
        "memory": { "limit": request.memory.unwrap_or(MEMORY) },
    });
    if let Some(cpus) = request.cpus {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "checked to be finite and positive; a huge one is cut"
        )]
        let quota = (cpus * f64::from(PERIOD)) as i64;
        resources["cpu"] = json!({ "quota": quota.max(1000), "period": PERIOD });
    }
    resources
}

fn annotations(request: &Request) -> Value {
    let mut annotations = json!({});
    if request.network == Network::Public {
        annotations["dev.msb.network"] = format!("public,{}", network::RESOLVER).into();
    }
    if let Some(bytes) = request.setup.disk {
        annotations["dev.msb.disk-size"] = bytes.to_string().into();
    }
    annotations
}

fn fixed_mounts(shm: u64) -> Vec<Value> {
    let shm = format!("size={shm}");
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", &shm]),
    ]
}

fn volumes(request: &Request, home: &Home) -> Vec<Value> {
    let volume = |volume: &super::Volume| {
        let source = volume.source.path(home);
        let access = if volume.read_only { "ro" } else { "rw" };
        json!({ "destination": volume.target, "type": "bind", "source": source, "options": ["rbind", "rprivate", access] })
    };
    request.volumes.iter().map(volume).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> User {
        User { uid: 0, gid: 0, groups: vec![], home: Some("/root".into()) }
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn entry_points_and_commands_as_with_docker() {
        let image =
            Defaults { entrypoint: words("/entry"), command: words("serve -a"), ..Defaults::default() };
        let request = Request::of("i");
        assert_eq!(arguments(&request, &image), words("/entry serve -a"));
        let own = Request { command: Some(words("x y")), ..request.clone() };
        assert_eq!(arguments(&own, &image), words("/entry x y"));
        let entry = Request { entrypoint: Some(words("sh")), ..request.clone() };
        assert_eq!(arguments(&entry, &image), words("sh"));
        let none = Request { entrypoint: Some(vec![]), command: Some(words("x")), ..request };
        assert_eq!(arguments(&none, &image), words("x"));
    }

    #[test]
    fn the_last_of_a_variable_counts() {
        let image = Defaults { env: words("PATH=/image A=1"), ..Defaults::default() };
        let request = Request { env: words("A=2 B=3"), ..Request::of("i") };
        let key = Key::of("box".parse().unwrap());
        let found = environment(&request, &image, &user(), &key, None);
        assert_eq!(found, words("HOSTNAME=box HOME=/root PATH=/image A=2 B=3"));
        let zoned = |image: &Defaults| environment(&request, image, &user(), &key, Some("UTC"));
        assert!(zoned(&image).contains(&"TZ=UTC".to_owned()));
        let own = Defaults { env: words("TZ=Asia/Tokyo"), ..Defaults::default() };
        assert_eq!(
            zoned(&own).iter().filter(|set| set.starts_with("TZ=")).collect::<Vec<_>>(),
            ["TZ=Asia/Tokyo"]
        );
    }

    #[test]
    fn the_runtime_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().to_owned()).unwrap();
        let place = Place(dir.path().to_owned());
        std::fs::create_dir(place.root()).unwrap();
        let setup = crate::sandbox::Setup {
            hostname: Some("web.example".into()),
            tmpfs: vec![crate::sandbox::Tmpfs::parse("/scratch:size=1m").unwrap()],
            read_only: true,
            shm_size: Some(1 << 20),
            ulimits: vec![crate::sandbox::Ulimit::parse("nofile=64").unwrap()],
            init: true,
            cap_add: vec!["NET_ADMIN".into()],
            cap_drop: vec!["ALL".into()],
            disk: Some(1 << 30),
        };
        let request = Request {
            setup,
            cpus: Some(1.5),
            command: Some(words("true")),
            volumes: vec![super::super::Volume::parse("/etc:/host:ro", Path::new("/")).unwrap()],
            ..Request::of("i")
        };
        let key = Key::of("box".parse().unwrap());
        let stored = Stored::new(key, request, String::new(), vec![], Defaults::default()).unwrap();
        let config = config(&stored, &user(), &home, &place, Some("UTC"));
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let spec = msb_runtime::bundle::Spec::load(dir.path()).unwrap();
        let settings = msb_runtime::config::Settings::default();
        let config = msb_runtime::config::Config::new(&spec, &settings, false, |_| None).unwrap();
        assert_eq!(config.size.vcpus, 2);
        let told = spec.process().as_oci();
        let limit = &told.rlimits().as_ref().unwrap()[0];
        assert_eq!((limit.soft(), limit.hard()), (64, 64));
        let of_root = told.capabilities().as_ref().unwrap().effective().as_ref().unwrap();
        assert_eq!(of_root.len(), 1);
        let text = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        for part in ["web.example", "/scratch", "\"size=1048576\"", "\"readonly\":true", "\"1073741824\""] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains("\"pid\""));
    }
}
