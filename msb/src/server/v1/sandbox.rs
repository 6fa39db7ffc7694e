//! A sandbox as these clients ask for one, and as it is told to them.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use msb_runtime::verbs::clock;
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::{
    sandbox::{Info, Key, Network, Pull, Request, State, Volume, Where},
    server::auth::Caller,
};

/// What a sandbox is to be. What is not known here would be a sandbox that is not what was asked for: it is refused, not
/// dropped.
#[derive(Debug, Deserialize)]
pub(super) struct Create {
    pub name: String,
    #[serde(flatten)]
    root: Root,
    #[serde(default)]
    resources: Resources,
    #[serde(default)]
    runtime: Runtime,
    #[serde(default)]
    env: Vec<Env>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    rlimits: Vec<Value>,
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
    #[serde(default)]
    lifecycle: Lifecycle,
}

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
}

#[derive(Debug, Default, Deserialize)]
struct Runtime {
    workdir: Option<PathBuf>,
    #[serde(default)]
    scripts: BTreeMap<String, String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    user: Option<String>,
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
    #[serde(other)]
    Other,
}

#[derive(Debug, Default, Deserialize)]
struct Options {
    #[serde(default)]
    readonly: bool,
}

#[derive(Debug, Deserialize)]
struct Net {
    #[serde(default = "yes")]
    enabled: bool,
    policy: Option<Rules>,
    secrets: Option<Secrets>,
}

#[derive(Debug, Deserialize)]
struct Rules {
    default_egress: String,
    #[serde(default)]
    rules: Vec<Rule>,
}

/// One of an access list; without a destination it is for all, without protocols or ports for all of those.
#[derive(Debug, Deserialize)]
struct Rule {
    direction: String,
    action: String,
    destination: Value,
    #[serde(default)]
    protocols: Vec<String>,
    #[serde(default)]
    ports: Vec<Ports>,
}

#[derive(Debug, Deserialize)]
struct Ports {
    start: u16,
    end: u16,
}

impl Rules {
    /// Whether they are what 0.7 makes of the profile "public", which it also does when asked for none: names of the host,
    /// and whatever is public.
    fn public(&self) -> bool {
        let to = |rule: &Rule, group: &str| {
            (rule.direction.as_str(), rule.action.as_str()) == ("egress", "allow")
                && rule.destination == json!({ "group": group })
        };
        let names = |rule: &Rule| {
            to(rule, "host")
                && !rule.ports.is_empty()
                && rule.ports.iter().all(|of| (of.start, of.end) == (53, 53))
        };
        let all = |rule: &Rule| to(rule, "public") && rule.ports.is_empty() && rule.protocols.is_empty();
        self.default_egress == "deny"
            && self.rules.iter().any(all)
            && self.rules.iter().all(|rule| names(rule) || all(rule))
    }
}

#[derive(Debug, Deserialize)]
struct Secrets {
    #[serde(default)]
    entries: Vec<Value>,
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
}

fn yes() -> bool {
    true
}

impl Create {
    /// In our own terms.
    pub(super) fn request(self, caller: &Caller) -> Result<Request, Problem> {
        let refuse = |what: &str| Err(Problem::Config(format!("This server's sandboxes have no {what}")));
        let (Root::Nested { image: Image::Oci { reference } } | Root::Flat(Source::Oci { reference })) =
            self.root
        else {
            return refuse("images but those of registries");
        };
        for (there, what) in [
            (!self.rlimits.is_empty(), "rlimits of their own"),
            (!self.patches.is_empty(), "patches"),
            (!self.init.is_null(), "init of their own"),
            (!self.runtime.scripts.is_empty(), "scripts"),
        ] {
            if there {
                return refuse(what);
            }
        }
        let mut request = Request::of(&reference);
        request.cpus = self.resources.vcpus.filter(|&cpus| cpus > 0).map(f64::from);
        request.memory = self.resources.memory_mib.filter(|&mib| mib > 0).map(|mib| u64::from(mib) << 20);
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
            request.env.extend(crate::sandbox::request::env(&text, |_| None)?);
        }
        if caller.only().is_some() && !self.mounts.is_empty() {
            return Err(Problem::Config("A key to one namespace can't mount what is outside of it".into()));
        }
        for mount in self.mounts {
            let (source, target, options) = match mount {
                Mount::Bind { host, guest, options } => (host.to_string_lossy().into_owned(), guest, options),
                Mount::Named { name, guest, options } => (name, guest, options),
                Mount::Other => return refuse("mounts but of directories and named volumes"),
            };
            let text = format!("{source}:{}", target.display());
            let volume = Volume::parse(&text, std::path::Path::new("/"))?;
            if let (Where::Named(_), true) = (&volume.source, source.contains('/')) {
                return refuse("volumes of such a name");
            }
            request.volumes.push(Volume { read_only: options.readonly, ..volume });
        }
        request.network = match self.network {
            None => Network::Public,
            Some(Net { secrets: Some(secrets), .. }) if !secrets.entries.is_empty() => {
                return refuse("secrets");
            }
            Some(Net { enabled: false, .. }) => Network::None,
            Some(Net { policy: None, .. }) => Network::Public,
            Some(Net { policy: Some(policy), .. }) if policy.public() => Network::Public,
            Some(Net { policy: Some(Rules { rules, .. }), .. }) if !rules.is_empty() => {
                return refuse("rules for their network but all, none and the default");
            }
            Some(Net { policy: Some(policy), .. }) if policy.default_egress == "allow" => Network::Open,
            Some(_) => Network::None,
        };
        Ok(request)
    }
}

/// The id of a sandbox: what leads to it in every namespace. A name has no dot.
pub(super) fn id(key: &Key) -> String {
    format!("{}.{}", key.namespace, key.name)
}

/// The sandbox of an id, if its caller may.
pub(super) fn of_id(caller: &Caller, id: &str) -> Result<Key, Problem> {
    let (namespace, name) =
        id.split_once('.').ok_or_else(|| Problem::NotFound(id.chars().take(64).collect()))?;
    Ok(caller.key(Some(namespace.parse()?), name.parse()?)?)
}

/// A sandbox as it is told.
pub(super) fn told(info: &Info) -> Value {
    let (status, failure) = match info.state {
        State::Created => ("created", None),
        State::Running => ("running", None),
        State::Stopped(_) => ("stopped", None::<String>),
    };
    json!({
        "id": id(&info.key),
        "org_id": info.key.namespace,
        "name": info.key.name,
        "slug": info.key.name,
        "status": status,
        "ephemeral": info.request.remove,
        "created_at": at(info.created),
        "started_at": info.started.map(at),
        "stopped_at": info.ended.filter(|_| !info.running()).map(at),
        "last_failure_message": failure,
    })
}

/// RFC 3339.
pub(super) fn at(time: SystemTime) -> String {
    clock::rfc3339(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}
