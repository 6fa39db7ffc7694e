//! `config.json`, to the machine: the text itself, or one of those that callers write with some of its values changed.

use std::fs;
use std::path::{Path, PathBuf};

use arbitrary::{Arbitrary, Result, Unstructured};
use msb_agent::protocol::{Container, decode, encode};
use msb_runtime::bundle::Spec;
use msb_runtime::config::{Config, DiskConfig, FileSystem, RootDisks, Settings};
use serde_json::{Map, Value};

use crate::place::Place;

/// What callers write.
pub(crate) const GIVEN: [&str; 4] = [
    include_str!("../../../src/config/fixtures/docker.json"),
    include_str!("../../../src/config/fixtures/podman.json"),
    include_str!("../../../src/config/fixtures/ctr.json"),
    include_str!("../../../src/config/fixtures/runc.json"),
];
/// Values that a configuration may have somewhere, and keys that not every caller's has.
pub(crate) const WORDS: [&str; 40] = [
    "",
    "/",
    "..",
    "/proc",
    "/dev/shm",
    "bind",
    "tmpfs",
    "cgroup2",
    "ro",
    "rshared",
    "size=64m",
    "mode=1777",
    "user",
    "pid",
    "network",
    "ipc",
    "time",
    "uts",
    "mount",
    "/proc/1/ns/net",
    "SCMP_ACT_ERRNO",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_ARCH_X86",
    "RLIMIT_NOFILE",
    "SCHED_DEADLINE",
    "IOPRIO_CLASS_RT",
    "a *:* rwm",
    "CAP_SYS_ADMIN",
    "1.0.2",
    "dev.msb.memory",
    "dev.msb.disk-size",
    "dev.msb.network",
    "io.kubernetes.cri.container-type",
    "128M",
    "0-3,7",
    "rootfsPropagation",
    "timeOffsets",
    "ioPriority",
    "uidMappings",
    "unified",
];
const NUMBERS: [i64; 12] =
    [0, 1, -1, 2, 31, 1023, 1024, 65_536, i32::MAX as i64, u32::MAX as i64, i64::MIN, i64::MAX];
/// Changes in one configuration.
const CHANGES: usize = 24;

thread_local! {
    static BUNDLE: (Place, PathBuf) = {
        let place = Place::new();
        let bundle = place.fresh("bundle");
        fs::create_dir(bundle.join("rootfs")).expect("a directory can be made");
        (place, bundle)
    };
}

pub(crate) fn run(bytes: &[u8]) {
    let made;
    let text = match bytes.split_first() {
        Some((0, text)) => text,
        _ => {
            let Ok(value) = changed(&mut Unstructured::new(bytes)) else { return };
            made = value.to_string();
            made.as_bytes()
        }
    };
    BUNDLE.with(|(_, bundle)| check(bundle, text));
}

fn check(bundle: &Path, text: &[u8]) {
    fs::write(bundle.join("config.json"), text).expect("a file can be written");
    let Ok(spec) = Spec::load(bundle) else { return };
    let Ok(config) = Config::new(&spec, &Settings::default(), true, |_| None) else { return };
    let size = config.size;
    assert!((1..=32).contains(&size.vcpus) && size.memory_mib >= 64, "{size:?}");
    let container = completed(config);
    // What is too long to be sent is refused then.
    if let Ok(frame) = encode(&container) {
        assert_eq!(decode::<Container>(&frame[4..]).expect("what was written can be read"), container);
    }
}

/// What the agent is told.
fn completed(config: Config) -> Container {
    let disk = |path: &str, read_only| DiskConfig::Raw { path: path.into(), read_only };
    let disks = RootDisks {
        layers: vec![(disk("root", true), FileSystem::Erofs)],
        scratch: disk("scratch", false),
        read_only: false,
    };
    config.plan.complete(Some(&disks), |_| None).0
}

/// What callers write, with a root that there is, and with or without their filters of system calls.
pub(crate) fn given(text: &str, filtered: bool) -> Value {
    let mut value: Value = serde_json::from_str(text).expect("the examples are JSON");
    value["root"]["path"] = "rootfs".into();
    if !filtered && let Some(linux) = value.get_mut("linux").and_then(Value::as_object_mut) {
        linux.remove("seccomp");
    }
    value
}

/// The containers of these, as the agent is told.
pub(crate) fn containers() -> Vec<Container> {
    BUNDLE.with(|(_, bundle)| {
        let one = |text| {
            let text = given(text, false).to_string();
            fs::write(bundle.join("config.json"), text).expect("a file can be written");
            let spec = Spec::load(bundle).ok()?;
            Some(completed(Config::new(&spec, &Settings::default(), true, |_| None).ok()?))
        };
        GIVEN.into_iter().filter_map(one).collect()
    })
}

fn changed(from: &mut Unstructured<'_>) -> Result<Value> {
    let text = from.choose(&GIVEN)?;
    // The callers' filters have hundreds of system calls: most of the time would go there.
    let filtered = u8::arbitrary(from)? >= 192;
    let mut value = given(text, filtered);
    for _ in 0..CHANGES {
        if from.is_empty() {
            break;
        }
        let count = nodes(&value);
        let mut at = usize::from(u16::arbitrary(from)?) % count;
        change(&mut value, &mut at, from)?;
    }
    Ok(value)
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(nodes).sum(),
        Value::Object(map) => map.values().map(nodes).sum(),
        _ => 0,
    }
}

/// Changes the node that is `at` in order.
fn change(value: &mut Value, at: &mut usize, from: &mut Unstructured<'_>) -> Result<()> {
    if *at == 0 {
        return put(value, from);
    }
    *at -= 1;
    let children: Vec<&mut Value> = match value {
        Value::Array(list) => list.iter_mut().collect(),
        Value::Object(map) => map.values_mut().collect(),
        _ => Vec::new(),
    };
    for child in children {
        let inside = nodes(child);
        if *at < inside {
            return change(child, at, from);
        }
        *at -= inside;
    }
    Ok(())
}

fn put(value: &mut Value, from: &mut Unstructured<'_>) -> Result<()> {
    match from.int_in_range(0..=9)? {
        0 => *value = Value::Null,
        1 => *value = Value::from(*from.choose(&NUMBERS)?),
        2 => *value = Value::from(i64::arbitrary(from)?),
        3 => *value = Value::from(*from.choose(&WORDS)?),
        4 => {
            let length = from.int_in_range(0..=24)?.min(from.len());
            *value = Value::from(String::from_utf8_lossy(from.bytes(length)?));
        }
        5 => *value = Value::Bool(bool::arbitrary(from)?),
        6 => *value = Value::Array(vec![value.clone(), value.take()]),
        7 => {
            let key = from.choose(&WORDS)?;
            let mut map = Map::new();
            map.insert((*key).to_owned(), value.take());
            *value = Value::Object(map);
        }
        8 => match value {
            Value::Array(list) if !list.is_empty() => {
                let copied = list[from.choose_index(list.len())?].clone();
                list.push(copied);
            }
            Value::Object(map) => {
                let word = *from.choose(&WORDS)?;
                let other = Value::from(*from.choose(&WORDS)?);
                map.insert(word.to_owned(), other);
            }
            _ => {}
        },
        _ => match value {
            Value::Array(list) if !list.is_empty() => drop(list.remove(from.choose_index(list.len())?)),
            Value::Object(map) if !map.is_empty() => {
                let key = map.keys().nth(from.choose_index(map.len())?).cloned();
                key.map(|key| map.remove(&key));
            }
            _ => {}
        },
    }
    Ok(())
}
