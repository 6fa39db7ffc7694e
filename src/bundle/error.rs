//! Everything that can be wrong with a bundle: one variant per rule, and what to do about it.
//!
//! Docker turns some words of an error text into the exit codes 126 and 127, which mean the container's command.
//! None of the texts here holds them.

use std::{io, path::PathBuf};

/// Why a bundle, or a process given to `exec`, can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The bundle itself.
    #[error("The bundle {} can't be opened: give its directory with --bundle", path.display())]
    Bundle {
        /// As given.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// No `config.json`.
    #[error("The bundle {} has no config.json: write one, for example with `msb-runtime spec`", bundle.display())]
    NoConfig {
        /// The bundle.
        bundle: PathBuf,
    },
    /// A directory, a device, a fifo, a symbolic link.
    #[error("{} is not a regular file: put the configuration itself there", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// Longer than [`super::MAX_CONFIG`].
    #[error("{} is longer than the {limit} bytes allowed: shorten it", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// [`super::MAX_CONFIG`].
        limit: u64,
    },
    /// It can't be opened or read.
    #[error("{} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Not JSON, or not the JSON of a configuration. The source names line and column.
    #[error("The configuration is not valid: correct it at the place named")]
    Json(#[source] serde_json::Error),
    /// `ociVersion` isn't there.
    #[error("ociVersion is missing: set it to the specification's version, such as \"1.2.0\"")]
    NoVersion,
    /// `ociVersion` is no version, or not 1.x.
    #[error("ociVersion {version:?} is not supported: this runtime knows 1.x, such as \"1.2.0\"")]
    Version {
        /// As given.
        version: String,
    },
    /// No `root`, or an empty path.
    #[error("root.path is missing: set it to the directory of the root file system")]
    NoRoot,
    /// `root.path` leads nowhere.
    #[error("The root {} can't be found: create it or correct root.path", path.display())]
    RootMissing {
        /// Resolved against the bundle.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// `root.path` is a file.
    #[error("The root {} must be a folder: correct root.path", path.display())]
    RootNotDirectory {
        /// Resolved against the bundle.
        path: PathBuf,
    },
    /// No `process`.
    #[error("process is missing: say there what to run")]
    NoProcess,
    /// `process.args` is absent or empty.
    #[error("process.args is empty: name at least the command")]
    NoArgs,
    /// `process.args[0]` is empty.
    #[error("process.args[0] is empty: name the command")]
    EmptyCommand,
    /// `process.cwd` is absent, empty or relative.
    #[error("process.cwd {cwd:?} must be an absolute path: \"/\" will do")]
    Cwd {
        /// As given.
        cwd: String,
    },
    /// `process.env` holds something else than `NAME=value`.
    #[error("process.env[{index}] must look like NAME=value")]
    Env {
        /// Which one.
        index: usize,
    },
    /// A string with a NUL byte: the kernel would cut it there.
    #[error("{field} holds a NUL byte: remove it")]
    Nul {
        /// Where, as a path in the JSON.
        field: String,
    },
    /// `process.rlimits[].type` is none that Linux has.
    #[error("process.rlimits: there is no limit {name:?}: use a name such as RLIMIT_NOFILE")]
    RlimitName {
        /// As given.
        name: String,
    },
    /// The same limit twice, which the specification forbids.
    #[error("process.rlimits: {name} is given twice: keep one")]
    RlimitTwice {
        /// Which one.
        name: String,
    },
    /// A soft limit above its hard limit.
    #[error("process.rlimits: {name} has a soft limit above its hard limit: lower it")]
    RlimitOrder {
        /// Which one.
        name: String,
    },
    /// `process.oomScoreAdj` out of range.
    #[error("process.oomScoreAdj {value} must be from -1000 to 1000")]
    OomScore {
        /// As given.
        value: i32,
    },
    /// `process.scheduler` with values that its policy does not have.
    #[error("process.scheduler: {policy} can't have this {field}: correct it")]
    Scheduler {
        /// As given.
        policy: String,
        /// Which, and what it may be.
        field: &'static str,
    },
    /// `process.ioPriority.priority` out of range.
    #[error("process.ioPriority.priority {level} must be from 0 to 7")]
    IoPriority {
        /// As given.
        level: i64,
    },
    /// `process.consoleSize` with a length that no terminal has.
    #[error("process.consoleSize: a terminal has at most 65535 rows and columns, not {length}")]
    ConsoleSize {
        /// As given.
        length: u64,
    },
    /// `hostname` or `domainname` longer than the kernel takes.
    #[error("{field} is longer than the 64 bytes that Linux allows: shorten it")]
    NameTooLong {
        /// `hostname` or `domainname`.
        field: &'static str,
    },
    /// `mounts[].destination` is empty or relative.
    #[error("mounts[{index}].destination {destination:?} must be an absolute path")]
    MountDestination {
        /// Which one.
        index: usize,
        /// As given.
        destination: String,
    },
    /// `hooks.*[].path` is relative.
    #[error("hooks.{kind}: the path {path:?} must be absolute")]
    HookPath {
        /// Which list.
        kind: &'static str,
        /// As given.
        path: String,
    },
    /// `hooks.*[].timeout` is zero or negative.
    #[error("hooks.{kind}: the timeout of {path:?} must be at least one second")]
    HookTimeout {
        /// Which list.
        kind: &'static str,
        /// Of which hook.
        path: String,
    },
    /// `linux.namespaces[].type` is none that Linux has.
    #[error(
        "linux.namespaces: there is no namespace {name:?}: use pid, network, mount, ipc, uts, cgroup, user or time"
    )]
    NamespaceType {
        /// As given.
        name: String,
    },
    /// The same namespace twice, which the specification forbids.
    #[error("linux.namespaces: {name} is given twice: keep one")]
    NamespaceTwice {
        /// Which one.
        name: String,
    },
    /// `linux.namespaces[].path` is relative.
    #[error("linux.namespaces: the path {path:?} must be absolute")]
    NamespacePath {
        /// As given.
        path: String,
    },
    /// `linux.devices[].path` is relative.
    #[error("linux.devices: the path {path:?} must be absolute")]
    DevicePath {
        /// As given.
        path: String,
    },
    /// `linux.devices[]` with a type that no node can have, or numbers out of range.
    #[error("linux.devices: {path:?} needs a type of b, c, u or p and numbers of at least 0")]
    DeviceNode {
        /// Which one.
        path: String,
    },
    /// `linux.sysctl` has a key that is no path of words.
    #[error("linux.sysctl: {key:?} is no name of a kernel parameter: write it like net.ipv4.ip_forward")]
    Sysctl {
        /// As given.
        key: String,
    },
    /// `linux.maskedPaths` or `linux.readonlyPaths` with a relative path.
    #[error("linux.{field}: the path {path:?} must be absolute")]
    HiddenPath {
        /// Which list.
        field: &'static str,
        /// As given.
        path: String,
    },
}
