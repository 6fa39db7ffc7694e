//! containerd's shims: `ctr run` by runc's and ours, in instructions.

use anyhow::{Result, ensure};

use super::cases::{self, MARKER};
use super::report::Report;
use crate::host::VirtualHost;

/// The shims: what each is called, and the runtime's name for containerd.
const SHIMS: [(&str, &str); 2] =
    [("runc's shim", "io.containerd.runc.v2"), ("our shim", "io.containerd.msb.v2")];

/// Runs of each case; the first is not counted.
const RUNS: usize = 4;

const PREPARE: &str = "systemctl start containerd; ctr version > /dev/null; sleep 10";

/// Measures them in `host`, which [`cases::prepare`] has prepared.
///
/// # Errors
/// The first command that can't be run or does not end as it should.
pub fn measure(host: &VirtualHost, report: &mut Report, progress: &dyn Fn(&str)) -> Result<()> {
    progress("containerd");
    let prepared = host.sh(PREPARE).timeout(Some(cases::PATIENCE)).run()?;
    ensure!(prepared.code == 0, "containerd can't be started: {}", prepared.err());
    for (name, runtime) in SHIMS {
        let case = format!("ctr run, {name}");
        progress(&case);
        let command = format!(
            "ctr run --rm --runtime {runtime} --env PATH=/bin --rootfs /bench/bundle/rootfs bench echo {MARKER}"
        );
        report.add(&case, cases::runs(host, report.runs(RUNS), MARKER, &command)?);
    }
    Ok(())
}
