//! `update ID`: other limits for a container that is there, inside the machine and around it.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;
use msb_runtime::{
    state::Id,
    verbs::{Context, update},
};
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

/// Change a container's limits.
#[derive(Debug, Args)]
pub struct Update {
    /// A file with the resources as in a config.json, or - for stdin; the other flags don't count then.
    #[arg(short, long, value_name = "FILE", allow_hyphen_values = true)]
    resources: Option<PathBuf>,
    /// 10 to 1000.
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Microseconds.
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Microseconds of each period; -1: no limit.
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Microseconds that may be saved up.
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_burst: Option<u64>,
    /// Relative to other containers.
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<u64>,
    /// Refused: the guest has no realtime groups.
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    /// Refused: the guest has no realtime groups.
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// 1: only when nothing else runs.
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,
    /// A list of the host's processors.
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// A list of the host's memory nodes.
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Accepted and without effect, as with runc.
    #[arg(long, value_name = "BYTES", hide = true)]
    kernel_memory: Option<String>,
    /// Accepted and without effect, as with runc.
    #[arg(long, value_name = "BYTES", hide = true)]
    kernel_memory_tcp: Option<String>,
    /// Such as 64m; -1: no limit.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory: Option<String>,
    /// Such as 64m.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_reservation: Option<String>,
    /// Memory and swap together; -1: no limit.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// The most processes; -1: no limit.
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Refused: the machine has no such cache to divide.
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Refused: the machine has no such bandwidth to divide.
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// Which container.
    id: String,
}

impl Update {
    /// Changes them.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let id: Id = self.id.parse()?;
        let entry = context.store.lock(&id)?;
        update::update(&entry, &self.resources()?)?;
        Ok(ExitCode::SUCCESS)
    }

    fn resources(&self) -> anyhow::Result<LinuxResources> {
        if let Some(path) = &self.resources {
            let text = read(path).with_context(|| format!("{} can't be read", path.display()))?;
            return serde_json::from_str(&text)
                .with_context(|| format!("{} is not what linux.resources may be", path.display()));
        }
        let refused = [
            (self.cpu_rt_period.is_some(), "--cpu-rt-period", "the guest's kernel has no realtime groups"),
            (self.cpu_rt_runtime.is_some(), "--cpu-rt-runtime", "the guest's kernel has no realtime groups"),
            (self.l3_cache_schema.is_some(), "--l3-cache-schema", "the machine's caches can't be divided"),
            (self.mem_bw_schema.is_some(), "--mem-bw-schema", "the machine's bandwidth can't be divided"),
        ];
        if let Some((_, flag, why)) = refused.into_iter().find(|(given, ..)| *given) {
            bail!("{flag} is not supported: {why}. Leave it out");
        }
        Ok(serde_json::from_value(self.flags()?)?)
    }

    /// The flags as `linux.resources`.
    fn flags(&self) -> anyhow::Result<Value> {
        let object = |pairs: Vec<(&str, Option<Value>)>| -> Value {
            let given = pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
            Value::Object(given.collect::<Map<_, _>>())
        };
        let size = |flag: &str, text: &Option<String>| -> anyhow::Result<Option<Value>> {
            let bytes = text.as_deref().map(|text| {
                bytes(text).with_context(|| format!("{flag} can't be {text:?}: give bytes, 64m, or -1"))
            });
            Ok(bytes.transpose()?.map(Value::from))
        };
        Ok(json!({
            "memory": object(vec![
                ("limit", size("--memory", &self.memory)?),
                ("reservation", size("--memory-reservation", &self.memory_reservation)?),
                ("swap", size("--memory-swap", &self.memory_swap)?),
            ]),
            "cpu": object(vec![
                ("shares", self.cpu_share.map(Value::from)),
                ("quota", self.cpu_quota.map(Value::from)),
                ("period", self.cpu_period.map(Value::from)),
                ("burst", self.cpu_burst.map(Value::from)),
                ("idle", self.cpu_idle.map(Value::from)),
                ("cpus", self.cpuset_cpus.clone().map(Value::from)),
                ("mems", self.cpuset_mems.clone().map(Value::from)),
            ]),
            "blockIO": object(vec![("weight", self.blkio_weight.map(Value::from))]),
            "pids": { "limit": self.pids_limit.unwrap_or_default() },
        }))
    }
}

fn read(path: &Path) -> io::Result<String> {
    if path.as_os_str() != "-" {
        return fs::read_to_string(path);
    }
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text)?;
    Ok(text)
}

/// `64m`, `1g`, plain bytes, or -1: as Docker's and runc's flags have it.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let lower = text.to_ascii_lowercase();
    let plain = lower.strip_suffix('b').unwrap_or(&lower);
    let plain = plain.strip_suffix('i').unwrap_or(plain);
    let (digits, shift) = match plain.chars().last()? {
        'k' => (&plain[..plain.len() - 1], 10),
        'm' => (&plain[..plain.len() - 1], 20),
        'g' => (&plain[..plain.len() - 1], 30),
        't' => (&plain[..plain.len() - 1], 40),
        _ => (plain, 0),
    };
    digits
        .parse::<u32>()
        .ok()
        .map(i64::from)
        .or_else(|| digits.parse::<i64>().ok().filter(|all| *all >= 0))?
        .checked_shl(shift)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        update: Update,
    }

    fn typed(words: &str) -> Update {
        Cli::try_parse_from(format!("update {words}").split(' ')).unwrap().update
    }

    #[test]
    fn flags_are_resources() {
        let resources =
            typed("--memory 64m --memory-swap -1 --cpu-quota -1 --cpuset-cpus 0-1 --pids-limit 7 c")
                .resources()
                .unwrap();
        let memory = resources.memory().as_ref().unwrap();
        assert_eq!((memory.limit(), memory.swap(), memory.reservation()), (Some(64 << 20), Some(-1), None));
        let cpu = resources.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.cpus().as_deref(), cpu.shares()), (Some(-1), Some("0-1"), None));
        assert_eq!(resources.pids().as_ref().unwrap().limit(), 7);
    }

    #[test]
    fn what_can_not_be_had_is_told_by_its_flag() {
        for words in ["--cpu-rt-period 5 c", "--l3-cache-schema x c", "--memory much c"] {
            let flag = words.split(' ').next().unwrap();
            assert!(typed(words).resources().unwrap_err().to_string().starts_with(flag), "{words}");
        }
    }

    #[test]
    fn dockers_file_can_be_given_in_both_ways() {
        assert_eq!(typed("--resources - c").resources, Some("-".into()));
        assert_eq!(typed("--resources=- c").resources, Some("-".into()));
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, r#"{"memory":{"limit":5,"kernel":0},"cpu":{"shares":0},"blockIO":{"weight":0}}"#)
            .unwrap();
        let update = typed(&format!("-r {} c", file.path().display()));
        assert_eq!(update.resources().unwrap().memory().as_ref().unwrap().limit(), Some(5));
    }

    #[test]
    fn sizes() {
        assert_eq!(
            ["64m", "1G", "1gb", "5KiB", "7", "-1", "1.5g", "", "m"].map(bytes),
            [
                Some(64 << 20),
                Some(1 << 30),
                Some(1 << 30),
                Some(5 << 10),
                Some(7),
                Some(-1),
                None,
                None,
                None
            ]
        );
    }
}
