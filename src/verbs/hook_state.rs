//! A container as hooks are told of it, on their stdin (OCI runtime-spec, runtime.md, "State").

use std::path::Path;

use serde_json::json;

use crate::{
    bundle::Spec,
    state::{Id, Record, Status},
};

/// For hooks on the host. A container that has ended has no pid.
pub(super) fn of(record: &Record, status: Status) -> Vec<u8> {
    let mut state = json!({
        "ociVersion": record.oci_version,
        "id": record.id,
        "status": status,
        "bundle": record.bundle,
        "annotations": record.annotations,
    });
    if status != Status::Stopped {
        state["pid"] = record.vmm.pid.into();
    }
    state.to_string().into_bytes()
}

/// For hooks of the start, which run in the container: before its pid there, and after it.
pub(super) fn of_start(spec: &Spec, id: &Id, bundle: &Path) -> [String; 2] {
    let state = json!({
        "ociVersion": spec.version(),
        "id": id,
        "status": Status::Created,
        "bundle": bundle,
        "annotations": spec.annotations(),
    });
    let mut before = state.to_string();
    before.truncate(before.len() - 1);
    before.push_str(",\"pid\":");
    [before, "}".into()]
}
