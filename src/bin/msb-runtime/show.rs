//! A container as `state` and `list` show it, and as hooks are told of it.

use std::path::Path;

use msb_runtime::state::{Record, Status};
use nix::unistd::{Uid, User};
use serde_json::{Value, json};

/// runc's `state` object.
pub fn state(record: &Record) -> Value {
    let status = record.status();
    let owner = User::from_uid(Uid::from_raw(record.owner)).ok().flatten();
    json!({
        "ociVersion": record.oci_version,
        "id": record.id,
        "pid": if status == Status::Stopped { 0 } else { record.vmm.pid },
        "status": status,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "annotations": record.annotations,
        "owner": owner.map_or_else(|| format!("#{}", record.owner), |user| user.name),
    })
}

/// JSON as a person reads it.
pub fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// A path in a table.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}

/// What a hook reads on its stdin (OCI runtime-spec, runtime.md, "State").
pub fn for_hooks(record: &Record, status: Status) -> Vec<u8> {
    let state = json!({
        "ociVersion": record.oci_version,
        "id": record.id,
        "status": status,
        "pid": record.vmm.pid,
        "bundle": record.bundle,
        "annotations": record.annotations,
    });
    state.to_string().into_bytes()
}
