//! The rules: one function each, one variant of [`SpecError`] each.

use std::{collections::HashSet, path::Path};

use oci_spec::runtime::{Hook, Hooks, Linux, LinuxDeviceType, LinuxSchedulerPolicy, Mount, Process, Spec};

use super::{SpecError, process::text};

/// Longest name in bytes that `sethostname(2)` takes (`__NEW_UTS_LEN`).
const HOST_NAME_MAX: usize = 64;

/// `ociVersion` is a version 1.x.y, with whatever a pre-release or a build adds (`1.0.2-dev`).
pub fn version(spec: &Spec) -> Result<&str, SpecError> {
    let version = spec.version().as_str();
    if version.is_empty() {
        return Err(SpecError::NoVersion);
    }
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<Option<u32>> = core.split('.').map(number).collect();
    match numbers[..] {
        [Some(1), Some(_), Some(_)] => Ok(version),
        _ => Err(SpecError::Version { version: version.into() }),
    }
}

/// Digits only: `u32::from_str` would take a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// There is a command and it has a name.
pub fn args(process: &Process) -> Result<&[String], SpecError> {
    let args = process.args().as_deref().unwrap_or_default();
    match args.first() {
        None => Err(SpecError::NoArgs),
        Some(command) if command.is_empty() => Err(SpecError::EmptyCommand),
        Some(_) => {
            for (index, arg) in args.iter().enumerate() {
                no_nul(arg, || format!("process.args[{index}]"))?;
            }
            Ok(args)
        }
    }
}

/// The working directory is absolute.
pub fn cwd(process: &Process) -> Result<&str, SpecError> {
    let cwd = text(process.cwd());
    no_nul(cwd, || "process.cwd".into())?;
    if cwd.starts_with('/') { Ok(cwd) } else { Err(SpecError::Cwd { cwd: cwd.into() }) }
}

/// Each variable has a name and a value.
pub fn env(process: &Process) -> Result<(), SpecError> {
    for (index, variable) in process.env().as_deref().unwrap_or_default().iter().enumerate() {
        no_nul(variable, || format!("process.env[{index}]"))?;
        if variable.find('=').is_none_or(|at| at == 0) {
            return Err(SpecError::Env { index });
        }
    }
    Ok(())
}

/// Each limit once, and soft at most hard.
pub fn rlimits(process: &Process) -> Result<(), SpecError> {
    let mut seen = Vec::new();
    for limit in process.rlimits().as_deref().unwrap_or_default() {
        let name = || limit.typ().to_string();
        if seen.contains(&limit.typ()) {
            return Err(SpecError::RlimitTwice { name: name() });
        }
        if limit.soft() > limit.hard() {
            return Err(SpecError::RlimitOrder { name: name() });
        }
        seen.push(limit.typ());
    }
    Ok(())
}

/// `oom_score_adj` as proc(5) allows it.
pub fn oom_score(process: &Process) -> Result<(), SpecError> {
    match process.oom_score_adj() {
        Some(value) if !(-1000..=1000).contains(&value) => Err(SpecError::OomScore { value }),
        _ => Ok(()),
    }
}

/// The scheduler's values are its policy's (sched(7)).
pub fn scheduler(process: &Process) -> Result<(), SpecError> {
    let Some(scheduler) = process.scheduler() else { return Ok(()) };
    let policy = scheduler.policy();
    let wrong = |field| Err(SpecError::Scheduler { policy: policy.to_string(), field });
    let realtime = matches!(policy, LinuxSchedulerPolicy::SchedFifo | LinuxSchedulerPolicy::SchedRr);
    let deadline = *policy == LinuxSchedulerPolicy::SchedDeadline;
    if scheduler.nice().is_some_and(|nice| !(-20..=19).contains(&nice)) {
        return wrong("nice, which goes from -20 to 19");
    }
    let priority = scheduler.priority().unwrap_or_default();
    if if realtime { !(1..=99).contains(&priority) } else { priority != 0 } {
        return wrong("priority, which goes from 1 to 99 and belongs to SCHED_FIFO and SCHED_RR");
    }
    let times = [scheduler.runtime(), scheduler.deadline(), scheduler.period()];
    if !deadline && times.into_iter().flatten().any(|time| *time != 0) {
        return wrong("runtime, deadline and period, which belong to SCHED_DEADLINE");
    }
    Ok(())
}

/// A level that each class has.
pub fn io_priority(process: &Process) -> Result<(), SpecError> {
    match process.io_priority().map(|priority| priority.priority()) {
        Some(level) if !(0..=7).contains(&level) => Err(SpecError::IoPriority { level }),
        _ => Ok(()),
    }
}

/// Lengths that the kernel's `struct winsize` holds.
pub fn console_size(process: &Process) -> Result<(), SpecError> {
    let lengths = process.console_size().map(|size| [size.height(), size.width()]);
    let long = lengths.into_iter().flatten().find(|length| u16::try_from(*length).is_err());
    long.map_or(Ok(()), |length| Err(SpecError::ConsoleSize { length }))
}

/// Host and domain name fit.
pub fn names(spec: &Spec) -> Result<(), SpecError> {
    for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        let Some(name) = name else { continue };
        no_nul(name, || field.into())?;
        if name.len() > HOST_NAME_MAX {
            return Err(SpecError::NameTooLong { field });
        }
    }
    Ok(())
}

/// Each mount has an absolute destination.
pub fn mounts(mounts: &[Mount]) -> Result<(), SpecError> {
    for (index, mount) in mounts.iter().enumerate() {
        let destination = text(mount.destination());
        no_nul(destination, || format!("mounts[{index}].destination"))?;
        if !destination.starts_with('/') {
            return Err(SpecError::MountDestination { index, destination: destination.into() });
        }
        for option in mount.options().as_deref().unwrap_or_default() {
            no_nul(option, || format!("mounts[{index}].options"))?;
        }
        if let Some(source) = mount.source() {
            no_nul(text(source), || format!("mounts[{index}].source"))?;
        }
    }
    Ok(())
}

/// Each hook has an absolute path and a timeout that can be kept.
pub fn hooks(hooks: &Hooks) -> Result<(), SpecError> {
    let prestart = hooks.prestart();
    let lists: [(&'static str, &Option<Vec<Hook>>); 6] = [
        ("prestart", prestart),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (kind, list) in lists {
        for hook in list.as_deref().unwrap_or_default() {
            let path = text(hook.path());
            if !path.starts_with('/') {
                return Err(SpecError::HookPath { kind, path: path.into() });
            }
            if hook.timeout().is_some_and(|seconds| seconds <= 0) {
                return Err(SpecError::HookTimeout { kind, path: path.into() });
            }
            let words = hook.args().iter().chain(hook.env()).flatten();
            for word in words.map(String::as_str).chain([path]) {
                no_nul(word, || format!("hooks.{kind}"))?;
            }
        }
    }
    Ok(())
}

/// Each namespace once, with an absolute path if any.
pub fn namespaces(linux: &Linux) -> Result<(), SpecError> {
    let mut seen = HashSet::new();
    for namespace in linux.namespaces().as_deref().unwrap_or_default() {
        if !seen.insert(namespace.typ()) {
            return Err(SpecError::NamespaceTwice { name: namespace.typ().to_string() });
        }
        let path = namespace.path().as_deref().map(text).unwrap_or_default();
        no_nul(path, || "linux.namespaces".into())?;
        if !path.is_empty() && !path.starts_with('/') {
            return Err(SpecError::NamespacePath { path: path.into() });
        }
    }
    Ok(())
}

/// Each device has an absolute path, a type that a node can have, and numbers.
pub fn devices(linux: &Linux) -> Result<(), SpecError> {
    for device in linux.devices().as_deref().unwrap_or_default() {
        let path = text(device.path());
        no_nul(path, || "linux.devices".into())?;
        if !path.starts_with('/') {
            return Err(SpecError::DevicePath { path: path.into() });
        }
        let numbered = [device.major(), device.minor()].iter().all(|number| u32::try_from(*number).is_ok());
        if device.typ() == LinuxDeviceType::A || !numbered {
            return Err(SpecError::DeviceNode { path: path.into() });
        }
    }
    Ok(())
}

/// Each key is words joined by dots or slashes, and leads nowhere else.
pub fn sysctls(linux: &Linux) -> Result<(), SpecError> {
    for (key, value) in linux.sysctl().iter().flatten() {
        let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte));
        let separator = if key.contains('/') { '/' } else { '.' };
        let words = key.split(separator).all(|word| !matches!(word, "" | "." | ".."));
        if !plain || !words || !key.contains(separator) {
            return Err(SpecError::Sysctl { key: key.clone() });
        }
        no_nul(value, || format!("linux.sysctl {key}"))?;
    }
    Ok(())
}

/// Masked and read-only paths are absolute.
pub fn hidden_paths(linux: &Linux) -> Result<(), SpecError> {
    for (field, list) in [("maskedPaths", linux.masked_paths()), ("readonlyPaths", linux.readonly_paths())] {
        for path in list.iter().flatten() {
            no_nul(path, || format!("linux.{field}"))?;
            if !Path::new(path).is_absolute() {
                return Err(SpecError::HiddenPath { field, path: path.clone() });
            }
        }
    }
    Ok(())
}

/// No NUL byte, which JSON can carry and no system call can.
fn no_nul(text: &str, field: impl FnOnce() -> String) -> Result<(), SpecError> {
    if text.contains('\0') { Err(SpecError::Nul { field: field() }) } else { Ok(()) }
}
