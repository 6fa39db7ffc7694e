//! Bytes → the specification's types.
//!
//! The types themselves refuse names they do not know. That is the quick way, taken by every good configuration.
//! Only when it fails is the JSON looked at as a tree: to drop what runc drops, to fill in what runc's zero values
//! fill in, and to say which rule was broken.

use oci_spec::runtime::{Capability, LinuxNamespaceType, PosixRlimitType};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::SpecError;

/// A whole configuration.
///
/// # Errors
/// [`SpecError::Json`], or the rule that a refused name breaks.
pub fn spec(bytes: &[u8]) -> Result<oci_spec::runtime::Spec, SpecError> {
    quick_or_explained(bytes, |tree: &mut Value| {
        if let Some(process) = tree.get_mut("process") {
            mend_process(process)?;
        }
        namespaces(tree)
    })
}

/// A `process` alone, as `exec --process` is given.
///
/// # Errors
/// As [`spec`].
pub fn process(bytes: &[u8]) -> Result<oci_spec::runtime::Process, SpecError> {
    quick_or_explained(bytes, mend_process)
}

fn quick_or_explained<T: DeserializeOwned>(
    bytes: &[u8],
    mend: impl FnOnce(&mut Value) -> Result<(), SpecError>,
) -> Result<T, SpecError> {
    let refused = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(refused) => refused,
    };
    let mut tree: Value = serde_json::from_slice(bytes).map_err(SpecError::Json)?;
    mend(&mut tree)?;
    // The first error names line and column; the tree has none.
    T::deserialize(tree).map_err(|_| SpecError::Json(refused))
}

/// Drops unknown capabilities, puts a missing user, spells flags as the types do, and names the rule for a bad limit or working directory.
fn mend_process(process: &mut Value) -> Result<(), SpecError> {
    let Some(process) = process.as_object_mut() else { return Ok(()) };
    for name in names(process.get("rlimits"), "type") {
        if name.parse::<PosixRlimitType>().is_err() {
            return Err(SpecError::RlimitName { name: name.into() });
        }
    }
    if process.get("cwd").is_none_or(Value::is_null) {
        return Err(SpecError::Cwd { cwd: String::new() });
    }
    let flags = process.get_mut("scheduler").and_then(|scheduler| scheduler.get_mut("flags"));
    for flag in flags.and_then(Value::as_array_mut).into_iter().flatten() {
        // The type spells these two in its own way.
        match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = Value::from("SCHED_RESET_ON_FORK"),
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = Value::from("SCHED_FLAG_D_L_OVERRUN"),
            _ => {}
        }
    }
    process.entry("user").or_insert_with(|| Value::Object(serde_json::Map::new()));
    if let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) {
        for list in sets.values_mut().filter_map(Value::as_array_mut) {
            list.retain(|name| serde_json::from_value::<Capability>(name.clone()).is_ok());
        }
    }
    Ok(())
}

fn namespaces(tree: &Value) -> Result<(), SpecError> {
    let list = tree.get("linux").and_then(|linux| linux.get("namespaces"));
    for name in names(list, "type") {
        if serde_json::from_value::<LinuxNamespaceType>(Value::from(name)).is_err() {
            return Err(SpecError::NamespaceType { name: name.into() });
        }
    }
    Ok(())
}

/// The strings under `key` in a list of objects.
fn names<'a>(list: Option<&'a Value>, key: &'a str) -> impl Iterator<Item = &'a str> {
    let list = list.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(move |entry| entry.get(key)?.as_str())
}
