//! A checked configuration.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{self as oci, Hooks, Linux, Mount};

use super::{Process, SpecError, parse, read, rules};

/// A `config.json` of which every rule holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    root: PathBuf,
    process: Process,
    linux: Linux,
    rest: oci::Spec,
}

impl Spec {
    /// Reads and checks `config.json` in `bundle`, and finds the root.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn load(bundle: &Path) -> Result<Self, SpecError> {
        let spec = parse::spec(&read::config(bundle)?)?;
        rules::version(&spec)?;
        let root = root(bundle, &spec)?;
        Self::check(spec, root)
    }

    /// Checks everything but the root, which is given.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(mut spec: oci::Spec, root: PathBuf) -> Result<Self, SpecError> {
        rules::version(&spec)?;
        let process = spec.process_mut().take().ok_or(SpecError::NoProcess)?;
        let process = Process::check(process)?;
        rules::names(&spec)?;
        rules::mounts(spec.mounts().as_deref().unwrap_or_default())?;
        if let Some(hooks) = spec.hooks() {
            rules::hooks(hooks)?;
        }
        // `linux` may be absent: then there is nothing to apply, which is not what the type's default says.
        let linux = spec.linux_mut().take().unwrap_or_else(nothing);
        rules::namespaces(&linux)?;
        rules::devices(&linux)?;
        rules::sysctls(&linux)?;
        rules::hidden_paths(&linux)?;
        Ok(Self { root, process, linux, rest: spec })
    }

    /// `ociVersion`, 1.x.
    #[must_use]
    pub fn version(&self) -> &str {
        self.rest.version()
    }

    /// The root file system: absolute, without symbolic links, a directory when it was checked.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `root.readonly`
    #[must_use]
    pub fn root_readonly(&self) -> bool {
        self.rest.root().as_ref().and_then(oci::Root::readonly).unwrap_or_default()
    }

    /// `process`
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// `mounts`, in their order.
    #[must_use]
    pub fn mounts(&self) -> &[Mount] {
        self.rest.mounts().as_deref().unwrap_or_default()
    }

    /// The same with other mounts.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn with_mounts(mut self, mounts: Vec<Mount>) -> Result<Self, SpecError> {
        rules::mounts(&mounts)?;
        self.rest.set_mounts(Some(mounts));
        Ok(self)
    }

    /// `hostname`, at most 64 bytes.
    #[must_use]
    pub fn hostname(&self) -> Option<&str> {
        self.rest.hostname().as_deref().filter(|name| !name.is_empty())
    }

    /// `domainname`, at most 64 bytes.
    #[must_use]
    pub fn domainname(&self) -> Option<&str> {
        self.rest.domainname().as_deref().filter(|name| !name.is_empty())
    }

    /// `hooks`
    #[must_use]
    pub fn hooks(&self) -> Option<&Hooks> {
        self.rest.hooks().as_ref()
    }

    /// `annotations`, sorted.
    #[must_use]
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.rest.annotations().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// `linux`
    #[must_use]
    pub fn linux(&self) -> &Linux {
        &self.linux
    }
}

/// A `linux` object that asks for nothing.
fn nothing() -> Linux {
    let mut linux = Linux::default();
    linux.set_resources(None).set_namespaces(None).set_masked_paths(None).set_readonly_paths(None);
    linux
}

/// `root.path`, resolved against the bundle.
fn root(bundle: &Path, spec: &oci::Spec) -> Result<PathBuf, SpecError> {
    let path = match spec.root() {
        Some(root) if !root.path().as_os_str().is_empty() => bundle.join(root.path()),
        _ => return Err(SpecError::NoRoot),
    };
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(SpecError::Nul { field: "root.path".into() });
    }
    let found = match path.canonicalize() {
        Ok(found) => found,
        Err(source) if source.kind() == ErrorKind::NotADirectory => {
            return Err(SpecError::RootNotDirectory { path });
        }
        Err(source) => return Err(SpecError::RootMissing { path, source }),
    };
    if found.is_dir() { Ok(found) } else { Err(SpecError::RootNotDirectory { path }) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "ociVersion": "1.0.2-dev",
            "root": { "path": "rootfs" },
            "process": { "args": ["true"], "cwd": "/", "user": { "uid": 0, "gid": 0 } },
        })
    }

    fn load(config: &str) -> Result<Spec, SpecError> {
        let bundle = tempfile::tempdir().unwrap();
        fs::create_dir(bundle.path().join("rootfs")).unwrap();
        fs::write(bundle.path().join("file"), "").unwrap();
        fs::write(bundle.path().join("config.json"), config).unwrap();
        Spec::load(bundle.path())
    }

    /// The good configuration with one value replaced, at a JSON pointer whose parents exist or are made.
    fn with(pointer: &str, value: Value) -> Result<Spec, SpecError> {
        let mut config = good();
        let mut place = &mut config;
        for key in pointer.split('/').skip(1) {
            place = &mut place[key];
        }
        *place = value;
        load(&config.to_string())
    }

    #[test]
    fn a_small_configuration_is_enough() {
        let spec = load(&good().to_string()).unwrap();
        assert_eq!(spec.version(), "1.0.2-dev");
        assert!(spec.root().is_absolute() && spec.root().ends_with("rootfs"));
        assert_eq!(spec.process().args(), ["true"]);
        assert!(spec.linux().masked_paths().is_none(), "no linux, nothing masked");
    }

    #[test]
    fn what_docker_leaves_null_is_absent() {
        let spec = with("/annotations", Value::Null).unwrap();
        assert!(spec.annotations().is_empty());
    }

    #[test]
    fn a_place_in_broken_json_is_named() {
        for text in ["{\n,}", "{\n\"hostname\": 3\n}"] {
            let Err(SpecError::Json(source)) = load(text) else { panic!("accepted") };
            assert_eq!(source.line(), 2, "{text}");
        }
    }

    #[test]
    fn versions() {
        for version in ["1.0.0", "1.0.2-dev", "1.2.0", "1.3.0-rc.1+dev"] {
            assert!(with("/ociVersion", version.into()).is_ok(), "{version}");
        }
        for version in ["2.0.0", "0.9.0", "1", "1.0", "1.x.0", "1.0.0.0", "+1.0.0", "v1.0.0"] {
            let error = with("/ociVersion", version.into());
            assert!(matches!(error, Err(SpecError::Version { .. })), "{version}");
        }
        assert!(matches!(with("/ociVersion", "".into()), Err(SpecError::NoVersion)));
    }

    #[test]
    fn each_rule_has_its_error() {
        macro_rules! refused {
            ($pointer:literal, $value:tt, $error:pat) => {{
                let result = with($pointer, json!($value));
                assert!(matches!(result, Err($error)), "{}: {result:?}", $pointer);
            }};
        }
        refused!("/root", null, SpecError::NoRoot);
        refused!("/root/path", "", SpecError::NoRoot);
        refused!("/root/path", "absent", SpecError::RootMissing { .. });
        refused!("/root/path", "file", SpecError::RootNotDirectory { .. });
        refused!("/root/path", "file/below", SpecError::RootNotDirectory { .. });
        refused!("/root/path", "a\0b", SpecError::Nul { .. });
        refused!("/process", null, SpecError::NoProcess);
        refused!("/process/args", null, SpecError::NoArgs);
        refused!("/process/args", [], SpecError::NoArgs);
        refused!("/process/args", [""], SpecError::EmptyCommand);
        refused!("/process/args", ["true", "a\0b"], SpecError::Nul { .. });
        refused!("/process/cwd", null, SpecError::Cwd { .. });
        refused!("/process/cwd", "relative", SpecError::Cwd { .. });
        refused!("/process/env", ["A=1", "B"], SpecError::Env { index: 1 });
        refused!("/process/env", ["=1"], SpecError::Env { index: 0 });
        refused!("/process/rlimits", [{"type": "RLIMIT_X"}], SpecError::RlimitName { .. });
        refused!("/process/rlimits", [{"type": "RLIMIT_AS"}, {"type": "RLIMIT_AS"}], SpecError::RlimitTwice { .. });
        refused!("/process/rlimits", [{"type": "RLIMIT_AS", "soft": 2, "hard": 1}], SpecError::RlimitOrder { .. });
        refused!("/process/oomScoreAdj", 1001, SpecError::OomScore { .. });
        refused!("/process/scheduler", {"policy": "SCHED_OTHER", "nice": 20}, SpecError::Scheduler { .. });
        refused!("/process/scheduler", {"policy": "SCHED_BATCH", "priority": 1}, SpecError::Scheduler { .. });
        refused!("/process/scheduler", {"policy": "SCHED_FIFO"}, SpecError::Scheduler { .. });
        refused!("/process/scheduler", {"policy": "SCHED_RR", "priority": 1, "period": 1}, SpecError::Scheduler { .. });
        refused!("/process/ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}, SpecError::IoPriority { level: 8 });
        refused!("/process/consoleSize", {"height": 25, "width": 65536}, SpecError::ConsoleSize { length: 65536 });
        refused!("/hostname", ("h".repeat(65)), SpecError::NameTooLong { field: "hostname" });
        refused!("/domainname", "d\0", SpecError::Nul { .. });
        refused!("/mounts", [{"destination": "tmp"}], SpecError::MountDestination { index: 0, .. });
        refused!("/mounts", [{"destination": ""}], SpecError::MountDestination { .. });
        refused!("/hooks/prestart", [{"path": "hook"}], SpecError::HookPath { kind: "prestart", .. });
        refused!("/hooks/poststop", [{"path": "/hook", "timeout": 0}], SpecError::HookTimeout { .. });
        refused!("/linux/namespaces", [{"type": "cpu"}], SpecError::NamespaceType { .. });
        refused!("/linux/namespaces", [{"type": "pid"}, {"type": "pid"}], SpecError::NamespaceTwice { .. });
        refused!("/linux/namespaces", [{"type": "pid", "path": "ns"}], SpecError::NamespacePath { .. });
        refused!("/linux/devices", [{"path": "fuse", "type": "c"}], SpecError::DevicePath { .. });
        refused!("/linux/devices", [{"path": "/dev/x", "type": "a"}], SpecError::DeviceNode { .. });
        refused!("/linux/devices", [{"path": "/dev/x", "type": "c", "major": -1}], SpecError::DeviceNode { .. });
        refused!("/linux/sysctl", {"net/../../x": "1"}, SpecError::Sysctl { .. });
        refused!("/linux/sysctl", {"net..x": "1"}, SpecError::Sysctl { .. });
        refused!("/linux/sysctl", {"plain": "1"}, SpecError::Sysctl { .. });
        refused!("/linux/maskedPaths", ["proc"], SpecError::HiddenPath { field: "maskedPaths", .. });
    }

    #[test]
    fn unknown_capabilities_are_dropped_as_runc_drops_them() {
        let names = json!({ "bounding": ["CAP_CHOWN", "CAP_OF_THE_FUTURE"] });
        let spec = with("/process/capabilities", names).unwrap();
        let sets = spec.process().capabilities().unwrap();
        assert_eq!(sets.bounding().as_ref().map(std::collections::HashSet::len), Some(1));
    }

    #[test]
    fn flags_of_the_scheduler_as_the_specification_spells_them() {
        for flag in ["RESET_ON_FORK", "RECLAIM", "DL_OVERRUN", "KEEP_POLICY", "KEEP_PARAMS", "UTIL_CLAMP_MIN"]
        {
            let flags = json!([format!("SCHED_FLAG_{flag}")]);
            let spec =
                with("/process/scheduler", json!({ "policy": "SCHED_OTHER", "flags": flags })).unwrap();
            let flags = spec.process().scheduler().unwrap().flags();
            assert_eq!(flags.as_ref().map(Vec::len), Some(1), "{flag}");
        }
    }

    #[test]
    fn a_missing_user_is_root() {
        let mut config = good();
        config["process"].as_object_mut().unwrap().remove("user");
        assert_eq!(load(&config.to_string()).unwrap().process().user().uid(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_a_spec(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse::spec(&bytes);
            let _ = parse::process(&bytes);
        }

        #[test]
        fn any_version_is_decided(version in ".{0,12}") {
            let _ = with("/ociVersion", version.into());
        }
    }
}
