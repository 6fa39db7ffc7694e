//! A KVM that only emulates, which no virtual host has: shown on this machine itself, where it is such a one.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use integration::dev::Project;
use integration::dev::products::Build;
use integration::dev::test::skipped;

/// What `doctor` and `create` say of such a KVM.
const RECOGNISED: &str = "/dev/kvm only emulates";

fn run(build: &Build, folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(&build.runtime);
    command.args(arguments).current_dir(folder).envs(build.variables());
    command.output().expect("the runtime can be started")
}

#[cfg(test)]
mod msb {
    use super::*;

    #[test]
    fn doctor_and_create_recognise_it() {
        let build = Project::here().build().expect("the programs under test can be built");
        let folder = tempfile::tempdir().expect("a folder");
        let doctor = run(&build, folder.path(), &["doctor"]);
        let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
        if text.contains("FAIL  user") {
            return skipped("doctor_and_create_recognise_it", "only root can create a container");
        }
        if !text.contains(RECOGNISED) {
            return skipped("doctor_and_create_recognise_it", "this machine has no KVM that only emulates");
        }
        assert_eq!(doctor.status.code(), Some(1), "{text}");

        let made = run(&build, folder.path(), &["spec"]);
        assert_eq!(made.status.code(), Some(0), "{made:?}");
        fs::create_dir(folder.path().join("rootfs")).expect("a root");
        let path = folder.path().join("config.json");
        let config = fs::read_to_string(&path).expect("what spec wrote");
        fs::write(path, config.replace("\"terminal\": true", "\"terminal\": false")).expect("a bundle");
        let before = cgroups();
        let create = run(
            &build,
            folder.path(),
            &["--root", "state", "--log", "log", "--log-format", "json", "create", "msb-emulated"],
        );
        assert_eq!(create.status.code(), Some(1), "{create:?}");
        assert!(create.stdout.is_empty(), "{create:?}");
        assert!(String::from_utf8_lossy(&create.stderr).contains(RECOGNISED), "{create:?}");
        let log = fs::read_to_string(folder.path().join("log")).expect("a log");
        let line: serde_json::Value =
            serde_json::from_str(log.lines().last().unwrap_or_default()).expect("a line of JSON");
        assert_eq!(line["level"], "error", "{log}");
        let message = line["msg"].as_str().unwrap_or_default();
        assert!(message.contains(RECOGNISED), "{log}");
        assert!(message.contains("use a host with"), "it says what to do: {log}");
        let left: Vec<_> = fs::read_dir(folder.path().join("state")).expect("the state").collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        assert_eq!(cgroups(), before);
    }

    /// The cgroups that a container of this test would have, by their name.
    fn cgroups() -> String {
        let found = Command::new("find").args(["/sys/fs/cgroup", "-name", "*msb-emulated*"]).output();
        String::from_utf8_lossy(&found.expect("find can be started").stdout).into_owned()
    }
}
