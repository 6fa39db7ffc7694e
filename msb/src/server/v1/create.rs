//! A sandbox as these clients ask for one: read, and turned into our own terms.
//!
//! In: a body of `POST /v1/sandboxes`, in the form of 0.6 or of 0.7. Out: a [`Request`]. What it asks for and would not get is
//! refused with its name; a field that nobody knows here, too. Only what changes nothing about a sandbox is dropped: how much
//! its agent logs, and the shell of scripts that it can't have.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{network::Net, problem::Problem};
use crate::{
    image::Credentials,
    sandbox::{Network, Pull, Request, Tmpfs, Ulimit, Volume, Where, request},
    server::auth::Caller,
};

/// What a sandbox is to be.
#[derive(Debug, Deserialize)]
pub(super) struct Create {
    pub name: String,
    #[serde(flatten)]
    root: Root,
    slug: Option<String>,
    #[serde(default)]
    resources: Resources,
    #[serde(default)]
    runtime: Runtime,
    #[serde(default)]
    env: Vec<Env>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    rlimits: Vec<Limit>,
    #[serde(default)]
    mounts: Vec<Mount>,
    #[serde(default)]
    patches: Vec<Value>,
    #[serde(default)]
    network: Option<Net>,
    #[serde(default)]
    init: Value,
    #[serde(default)]
    pull_policy: Policy,
    security_profile: Option<String>,
    registry: Option<Registry>,
    #[serde(default)]
    lifecycle: Lifecycle,
}

/// All that is known of the above, and what 0.7 puts beside it: a body with more asks for what is not done.
const FIELDS: [&str; 19] = [
    "name",
    "slug",
    "image",
    "source",
    "reference",
    "resources",
    "runtime",
    "env",
    "labels",
    "rlimits",
    "mounts",
    "patches",
    "network",
    "init",
    "pull_policy",
    "security_profile",
    "registry",
    "lifecycle",
    "type",
];

/// What it begins as, in the form of 0.6 and in that of 0.7.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Root {
    Nested { image: Image },
    Flat(Source),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
enum Source {
    Oci {
        reference: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Image {
    Oci {
        reference: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug, Default, Deserialize)]
struct Resources {
    vcpus: Option<u8>,
    memory_mib: Option<u32>,
    disk_size_mib: Option<u32>,
    #[serde(flatten)]
    more: More,
}

#[derive(Debug, Default, Deserialize)]
struct Runtime {
    workdir: Option<PathBuf>,
    #[serde(default)]
    scripts: BTreeMap<String, String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    user: Option<String>,
    #[serde(rename = "shell")]
    _shell: Option<Value>,
    #[serde(rename = "log_level")]
    _log_level: Option<Value>,
    #[serde(flatten)]
    more: More,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Env {
    Pair { key: String, value: String },
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Mount {
    Bind {
        host: PathBuf,
        guest: PathBuf,
        #[serde(default)]
        options: Options,
    },
    Named {
        name: String,
        guest: PathBuf,
        #[serde(default)]
        options: Options,
    },
    Tmpfs {
        guest: String,
        size_mib: Option<u32>,
        #[serde(default)]
        options: Memory,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug, Default, Deserialize)]
struct Options {
    #[serde(default)]
    readonly: bool,
    #[serde(flatten)]
    more: More,
}

/// Options of a directory in memory.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools, reason = "as mount(8) has them, and the protocol")]
struct Memory {
    readonly: bool,
    noexec: bool,
    nosuid: bool,
    nodev: bool,
}

/// A limit of setrlimit(2).
#[derive(Debug, Deserialize)]
struct Limit {
    resource: String,
    soft: u64,
    hard: u64,
}

/// Who asks for the image.
#[derive(Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
enum Registry {
    /// As who this server is, which may be nobody.
    Anonymous,
    Inline {
        username: String,
        password: String,
    },
    #[serde(other)]
    Other,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        to.write_str("Registry")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Policy {
    #[default]
    IfMissing,
    Always,
    Never,
}

#[derive(Debug, Default, Deserialize)]
struct Lifecycle {
    #[serde(default)]
    ephemeral: bool,
    max_duration_secs: Option<u64>,
    idle_timeout_secs: Option<u64>,
    #[serde(flatten)]
    more: More,
}

/// Fields that nobody knows here.
#[derive(Debug, Default, Deserialize)]
pub(super) struct More(Map<String, Value>);

impl More {
    /// The first of them that says something: what is null, false, 0, or empty asks for nothing.
    pub(super) fn asks(&self) -> Option<&str> {
        self.0.iter().find(|(_, value)| asks(value)).map(|(name, _)| name.as_str())
    }
}

fn asks(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => all.iter().any(asks),
        Value::Object(all) => all.values().any(asks),
    }
}

/// What a sandbox can't have here.
pub(super) fn none(what: &str) -> Problem {
    Problem::Config(format!("This server's sandboxes have no {what}"))
}

fn known(more: &More, of: &str) -> Result<(), Problem> {
    match more.asks() {
        None => Ok(()),
        Some(name) => Err(none(&format!("{of}.{}", name.escape_debug()))),
    }
}

impl Create {
    /// Of a body.
    pub(super) fn of(body: Value) -> Result<Self, Problem> {
        if let Some((name, _)) = body.as_object().and_then(|body| {
            body.iter().find(|(name, value)| !FIELDS.contains(&name.as_str()) && asks(value))
        }) {
            return Err(none(&name.escape_debug().to_string()));
        }
        serde_json::from_value(body)
            .map_err(|error| Problem::Request(format!("This is no sandbox's configuration: {error}")))
    }

    /// In our own terms.
    pub(super) fn request(self, caller: &Caller) -> Result<Request, Problem> {
        let (Root::Nested { image: Image::Oci { reference } } | Root::Flat(Source::Oci { reference })) =
            self.root
        else {
            return Err(none("images but those of registries"));
        };
        let profile = self.security_profile.as_deref();
        for (there, what) in [
            (!self.patches.is_empty(), "patches"),
            (asks(&self.init), "init of their own"),
            (!self.runtime.scripts.is_empty(), "scripts"),
            (self.slug.is_some_and(|slug| slug != self.name), "handle but their name"),
            (profile.is_some_and(|profile| profile != "default"), "security profile but the default"),
        ] {
            if there {
                return Err(none(what));
            }
        }
        known(&self.resources.more, "resources")?;
        known(&self.runtime.more, "runtime")?;
        known(&self.lifecycle.more, "lifecycle")?;
        let mut request = Request::of(&reference);
        request.credentials = match self.registry {
            None | Some(Registry::Anonymous) => None,
            Some(Registry::Inline { username, password }) => Some(Credentials { user: username, password }),
            Some(Registry::Other) => return Err(none("credentials but those that come with them")),
        };
        request.cpus = self.resources.vcpus.filter(|&cpus| cpus > 0).map(f64::from);
        request.memory = self.resources.memory_mib.filter(|&mib| mib > 0).map(|mib| u64::from(mib) << 20);
        request.setup.disk =
            self.resources.disk_size_mib.filter(|&mib| mib > 0).map(|mib| u64::from(mib) << 20);
        for Limit { resource, soft, hard } in self.rlimits {
            request.setup.ulimits.push(Ulimit::parse(&format!("{resource}={soft}:{hard}"))?);
        }
        request.workdir = self.runtime.workdir;
        request.entrypoint = self.runtime.entrypoint;
        request.command = self.runtime.cmd;
        request.user = self.runtime.user;
        request.labels = self.labels;
        request.stdin = true;
        request.remove = self.lifecycle.ephemeral;
        let seconds = |number: Option<u64>| number.filter(|&number| number > 0).map(Duration::from_secs);
        request.timeout = seconds(self.lifecycle.max_duration_secs);
        request.idle_timeout = seconds(self.lifecycle.idle_timeout_secs);
        request.pull = match self.pull_policy {
            Policy::IfMissing => Pull::IfMissing,
            Policy::Always => Pull::Always,
            Policy::Never => Pull::Never,
        };
        for env in self.env {
            let text = match env {
                Env::Pair { key, value } => format!("{key}={value}"),
                Env::Text(text) => text,
            };
            request.env.extend(request::env(&text, |_| None)?);
        }
        for mount in self.mounts {
            match mount {
                Mount::Tmpfs { guest, size_mib, options } => {
                    request.setup.tmpfs.push(memory(&guest, size_mib, &options)?);
                }
                mount => request.volumes.push(volume(mount)?),
            }
        }
        caller.mounts(&request.volumes).map_err(|refused| Problem::Config(refused.to_string()))?;
        request.network = self.network.map_or(Ok(Network::Public), Net::network)?;
        caller
            .reaches(request.network, &request.ports)
            .map_err(|refused| Problem::Config(refused.to_string()))?;
        Ok(request)
    }
}

fn memory(guest: &str, size: Option<u32>, options: &Memory) -> Result<Tmpfs, Problem> {
    let word = |no: bool, word: &str| format!("{}{word}", if no { "no" } else { "" });
    let mut words =
        vec![word(options.noexec, "exec"), word(options.nosuid, "suid"), word(options.nodev, "dev")];
    words.extend(options.readonly.then(|| "ro".to_owned()));
    words.extend(size.filter(|&mib| mib > 0).map(|mib| format!("size={mib}m")));
    Ok(Tmpfs::parse(&format!("{guest}:{}", words.join(",")))?)
}

fn volume(mount: Mount) -> Result<Volume, Problem> {
    let (source, target, options) = match mount {
        Mount::Bind { host, guest, options } => (host.to_string_lossy().into_owned(), guest, options),
        Mount::Named { name, guest, options } => (name, guest, options),
        Mount::Tmpfs { .. } | Mount::Other => {
            return Err(none("mounts but of directories, named volumes and memory"));
        }
    };
    known(&options.more, "mounts.options")?;
    let text = format!("{source}:{}", target.display());
    let volume = Volume::parse(&text, Path::new("/"))?;
    if let (Where::Named(_), true) = (&volume.source, source.contains('/')) {
        return Err(none("volumes of such a name"));
    }
    Ok(Volume { read_only: options.readonly, ..volume })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(more: &Value) -> Result<Request, String> {
        let mut body = json!({ "name": "a", "image": { "type": "oci", "reference": "alpine" } });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let wanted = Create::of(body).and_then(|wanted| wanted.request(&Caller::everywhere()));
        wanted.map_err(|problem| problem.to_string())
    }

    #[test]
    fn what_can_not_be_had_is_refused_by_its_name() {
        for (more, named) in [
            (json!({ "resources": { "gpus": 1 } }), "resources.gpus"),
            (json!({ "security_profile": "restricted" }), "security profile"),
            (json!({ "slug": "b" }), "handle"),
            (json!({ "registry": { "mode": "vault" } }), "credentials"),
            (json!({ "network": { "max_connections": 10 } }), "max_connections"),
            (json!({ "network": { "dns": { "block": ["x"] } } }), "network.dns"),
            (json!({ "runtime": { "hostname": "x" } }), "runtime.hostname"),
            (json!({ "runtime": { "scripts": { "a": "b" } } }), "scripts"),
            (json!({ "rlimits": [{ "resource": "wishes", "soft": 1, "hard": 1 }] }), "wishes"),
            (
                json!({ "mounts": [{ "type": "disk_image", "host": "/x", "guest": "/y", "format": "raw" }] }),
                "mounts",
            ),
            (json!({ "mounts": [{ "type": "tmpfs", "guest": "y" }] }), "y:"),
            (
                json!({ "mounts": [{ "type": "bind", "host": "/x", "guest": "/y", "options": { "noexec": true } }] }),
                "noexec",
            ),
            (json!({ "lifecycle": { "restart": "always" } }), "lifecycle.restart"),
            (json!({ "ports": [80] }), "ports"),
            (json!({ "init": { "path": "/sbin/init" } }), "init"),
        ] {
            let refused = request(&more).unwrap_err();
            assert!(refused.contains(named), "{more}: {refused}");
        }
    }

    #[test]
    fn sizes_limits_and_directories_in_memory_are_ours() {
        let more = json!({
            "resources": { "disk_size_mib": 9000 },
            "rlimits": [{ "resource": "nofile", "soft": 64, "hard": 128 }],
            "mounts": [{ "type": "tmpfs", "guest": "/scratch", "size_mib": 16, "options": { "noexec": true } }],
        });
        let setup = request(&more).unwrap().setup;
        assert_eq!(setup.disk, Some(9000 << 20));
        assert_eq!(setup.ulimits, [Ulimit { name: "nofile".into(), soft: 64, hard: 128 }]);
        assert_eq!(setup.tmpfs[0].target, Path::new("/scratch"));
        assert_eq!(setup.tmpfs[0].options, ["noexec", "suid", "dev", "size=16m"]);
    }

    #[test]
    fn what_asks_for_nothing_or_the_usual_is_no_matter() {
        for more in [
            json!({ "security_profile": "default", "slug": "a", "init": null, "ports": [], "secrets": {} }),
            json!({ "registry": { "mode": "anonymous" }, "rlimits": [], "patches": [] }),
            json!({ "runtime": { "shell": "/bin/bash", "log_level": "debug", "hostname": null } }),
            json!({ "resources": { "disk_size_mib": 0, "max_vcpus": null } }),
            json!({ "network": { "enabled": true, "max_connections": null } }),
            json!({ "network": { "enabled": true, "strict": true } }),
        ] {
            request(&more).unwrap();
        }
        let given = json!({ "registry": { "mode": "inline", "username": "u", "password": "secret" } });
        let request = request(&given).unwrap();
        assert_eq!(request.credentials.as_ref().unwrap().password, "secret");
        assert!(!format!("{request:?}").contains("secret"));
        assert!(!serde_json::to_string(&request).unwrap().contains("secret"), "it is not kept");
    }
}
