//! Which shim serves a task: one for all of a group, which is how the containers of a pod come into the same one.

use std::{fs::File, io::BufReader, os::unix::net::UnixStream, path::Path};

use anyhow::Context;
use serde_json::Value;

use crate::{address, flags::Flags};

/// Annotations that name the group, the first that is there; runc's own shim has the same, in the same order.
const LABELS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// The flags of the shim that serves the task of `flags`, whose bundle is `bundle`: without a group, of its own.
pub fn of(flags: &Flags, bundle: &Path) -> anyhow::Result<Flags> {
    let path = bundle.join("config.json");
    if has_sandbox(bundle) {
        return Ok(flags.clone());
    }
    let file = File::open(&path).with_context(|| format!("{} can't be opened", path.display()))?;
    let configuration: Value = serde_json::from_reader(BufReader::new(file))
        .with_context(|| format!("{} can't be understood", path.display()))?;
    let group = named(|label| configuration["annotations"][label].as_str());
    Ok(Flags { id: group.unwrap_or(&flags.id).to_owned(), ..flags.clone() })
}

/// Whether `bundle` is for a pod's sandbox that is to come by containerd's sandbox API: it has no configuration yet.
pub fn has_sandbox(bundle: &Path) -> bool {
    bundle.is_dir() && !bundle.join("config.json").exists()
}

/// The group that a container's annotations name, of which `annotation` tells one.
pub fn named<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Option<&'a str> {
    LABELS.into_iter().find_map(annotation).filter(|group| !group.is_empty())
}

/// Whether a shim listens for the task of `flags`, or for its group.
pub fn is_served(flags: &Flags) -> bool {
    UnixStream::connect(address::socket(flags)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_named_by_runcs_annotation_before_kubernetes() {
        let bundle = tempfile::tempdir().unwrap();
        let flags = Flags { id: "own".into(), namespace: "n".into(), ..Flags::default() };
        assert_eq!(of(&flags, bundle.path()).unwrap(), flags, "a sandbox");
        let group = |text: &str| {
            std::fs::write(bundle.path().join("config.json"), text).unwrap();
            of(&flags, bundle.path()).unwrap()
        };
        assert_eq!(group(r#"{"ociVersion": "1.2.0"}"#), flags);
        assert_eq!(group(r#"{"annotations": {"io.kubernetes.cri.sandbox-id": "pod"}}"#).id, "pod");
        let both =
            r#"{"annotations": {"io.kubernetes.cri.sandbox-id": "pod", "io.containerd.runc.v2.group": "g"}}"#;
        assert_eq!((group(both).id, group(both).namespace), ("g".into(), "n".into()));
        assert_eq!(group(r#"{"annotations": {"io.containerd.runc.v2.group": ""}}"#).id, "own");
        assert!(of(&flags, &bundle.path().join("none")).is_err());
    }
}
