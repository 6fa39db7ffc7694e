//! A container as `state` and `list` show it.

use std::{fs, path::Path};

use msb_runtime::{
    plain,
    state::{Record, Status},
};
use serde_json::{Value, json};

/// A container as runc's `list` has it.
pub fn state(record: &Record) -> Value {
    let status = record.status();
    let mut state = json!({
        "ociVersion": record.oci_version,
        "id": record.id,
        "pid": if status == Status::Stopped { 0 } else { record.vmm.pid },
        "status": status,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "owner": owner(record.owner),
    });
    if !record.annotations.is_empty() {
        state["annotations"] = json!(record.annotations);
    }
    state
}

/// The user's name in `/etc/passwd`, which is where runc looks too; a static program has no name service switch.
fn owner(uid: u32) -> String {
    let users = fs::read("/etc/passwd").unwrap_or_default();
    named(&String::from_utf8_lossy(&users), uid).unwrap_or_else(|| format!("#{uid}"))
}

/// The first line of `passwd(5)` with this uid.
fn named(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// JSON as a person reads it.
pub fn pretty(value: &Value) -> String {
    plain::json(&format!("{value:#}"))
}

/// A path in a table.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_named_as_in_passwd() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\nbroken\nnobody:x:65534:65534::/:/bin/false\nagain:x:0:0::/:\n";
        assert_eq!(named(users, 0).as_deref(), Some("root"));
        assert_eq!(named(users, 65534).as_deref(), Some("nobody"));
        assert_eq!(named(users, 7), None);
    }
}
