//! A checked `process`, of a configuration or of an `exec`.

use std::{ffi::OsStr, path::Path};

use oci_spec::runtime::{self as oci, LinuxCapabilities, LinuxIOPriority, PosixRlimit, Scheduler, User};

use super::{SpecError, parse, read, rules};

/// A process of which every rule holds: there is a command, an absolute working directory, `NAME=value`
/// everywhere in the environment, known limits once each, and no NUL byte in what the kernel is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    args: Vec<String>,
    cwd: String,
    rest: oci::Process,
}

impl Process {
    /// Reads and checks the file that `exec --process` names.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn load(path: &Path) -> Result<Self, SpecError> {
        Self::check(parse::process(&read::process(path)?)?)
    }

    /// Checks one.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(process: oci::Process) -> Result<Self, SpecError> {
        let args = rules::args(&process)?.to_vec();
        let cwd = rules::cwd(&process)?.to_owned();
        rules::env(&process)?;
        rules::rlimits(&process)?;
        rules::oom_score(&process)?;
        rules::scheduler(&process)?;
        rules::io_priority(&process)?;
        rules::console_size(&process)?;
        Ok(Self { args, cwd, rest: process })
    }

    /// As the specification's type: for an `exec` that starts from the container's own process.
    #[must_use]
    pub fn as_oci(&self) -> &oci::Process {
        &self.rest
    }

    /// Never empty, and neither is the first.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// Absolute.
    #[must_use]
    pub fn cwd(&self) -> &str {
        &self.cwd
    }

    /// `NAME=value` each.
    #[must_use]
    pub fn env(&self) -> &[String] {
        self.rest.env().as_deref().unwrap_or_default()
    }

    /// As whom it runs.
    #[must_use]
    pub fn user(&self) -> &User {
        self.rest.user()
    }

    /// What it may do.
    #[must_use]
    pub fn capabilities(&self) -> Option<&LinuxCapabilities> {
        self.rest.capabilities().as_ref()
    }

    /// Each kind at most once, soft at most hard.
    #[must_use]
    pub fn rlimits(&self) -> &[PosixRlimit] {
        self.rest.rlimits().as_deref().unwrap_or_default()
    }

    /// `noNewPrivileges`.
    #[must_use]
    pub fn no_new_privileges(&self) -> bool {
        self.rest.no_new_privileges().unwrap_or_default()
    }

    /// -1000 to 1000.
    #[must_use]
    pub fn oom_score_adj(&self) -> Option<i32> {
        self.rest.oom_score_adj()
    }

    /// `scheduler`: only with values that its policy has.
    #[must_use]
    pub fn scheduler(&self) -> Option<&Scheduler> {
        self.rest.scheduler().as_ref()
    }

    /// `ioPriority`: a level from 0 to 7.
    #[must_use]
    pub fn io_priority(&self) -> Option<&LinuxIOPriority> {
        self.rest.io_priority().as_ref()
    }

    /// `execCPUAffinity.final`. `initial` is where the runtime runs on the host until the process is in its cgroup.
    #[must_use]
    pub fn cpu_affinity(&self) -> Option<&str> {
        self.rest.exec_cpu_affinity().as_ref()?.cpu_affinity_final().as_deref()
    }

    /// `apparmorProfile`; empty for none.
    #[must_use]
    pub fn apparmor_profile(&self) -> &str {
        self.rest.apparmor_profile().as_deref().unwrap_or_default()
    }

    /// `selinuxLabel`; empty for none.
    #[must_use]
    pub fn selinux_label(&self) -> &str {
        self.rest.selinux_label().as_deref().unwrap_or_default()
    }

    /// Whether it gets a terminal.
    #[must_use]
    pub fn terminal(&self) -> bool {
        self.rest.terminal().unwrap_or_default()
    }

    /// Rows and columns of that terminal; 0×0 where the configuration leaves them open.
    #[must_use]
    pub fn console_size(&self) -> (u16, u16) {
        let fit = |length| u16::try_from(length).unwrap_or_default();
        self.rest.console_size().map_or((0, 0), |size| (fit(size.height()), fit(size.width())))
    }
}

/// The path as text. Paths here come from JSON, which is UTF-8.
pub(super) fn text(path: &(impl AsRef<OsStr> + ?Sized)) -> &str {
    path.as_ref().to_str().unwrap_or_default()
}
