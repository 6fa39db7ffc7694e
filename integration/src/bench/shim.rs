//! containerd's shims: `ctr run` by runc's and ours, in instructions; what each keeps of memory; many at once.

use anyhow::{Context, Result, ensure};

use super::{
    cases::{self, GUEST_MIB, MARKER},
    report::{Measured, Report},
};
use crate::host::VirtualHost;

/// The shims: what each is called, the runtime's name for containerd, and how the command lines of a sandbox's processes begin
/// that are not its VMM.
const SHIMS: [(&str, &str, &str); 2] = [
    ("runc's shim", "io.containerd.runc.v2", "/usr/bin/containerd-shim-runc-v2"),
    ("our shim", "io.containerd.msb.v2", "containerd-shim-msb-v2|msb-runtime volumes|/usr/libexec/virtiofsd"),
];

/// Runs of each case; the first is not counted.
const RUNS: usize = 4;
/// Sandboxes at once, and where only that it runs is asked.
const MANY: [u32; 2] = [10, 2];

/// What it keeps lies in memory as well: it waits for each of its transactions to be on the disk.
const PREPARE: &str =
    "mount -t tmpfs tmpfs /var/lib/containerd; systemctl start containerd; ctr version > /dev/null; sleep 10";

/// `one ID` makes a container that stays, `gone ID` removes it, `kept` prints what the processes of one keep, in KiB.
const FUNCTIONS: &str = r#"
set -e
one() { ctr run -d --runtime RUNTIME --annotation dev.msb.memory=MIBM --env PATH=/bin --rootfs /bench/bundle/rootfs $1 sleep 100000 < /dev/null > /dev/null; }
gone() { ctr task rm -f $1 > /dev/null; ctr container rm $1; }
kept() {
    for pid in $(pgrep -f '^(PROCESSES)'); do sed -n 's/^Pss: *\([0-9]*\) kB/\1/p' /proc/$pid/smaps_rollup; done
    for pid in $(ps -o ppid= -C msb-vmm); do host-measure memory $pid MIB | jq .overhead_kib; done
}
"#;

/// Prints how long they took, in nanoseconds, once all ran.
const AT_ONCE: &str = r#"
began=$(date +%s%N)
for i in $(seq COUNT); do one many$i & done; wait
[ $(ctr task ls | grep -c RUNNING) = COUNT ]; echo $(($(date +%s%N) - began))
for i in $(seq COUNT); do gone many$i; done
"#;

/// Measures all in `host`, which [`cases::prepare`] has prepared.
///
/// # Errors
/// The first command that can't be run or does not end as it should.
pub fn measure(host: &VirtualHost, report: &mut Report, progress: &dyn Fn(&str)) -> Result<()> {
    let numbers = |script: &str, what: &str| -> Result<Vec<u64>> {
        let output = host.sh(script).timeout(Some(cases::PATIENCE)).run()?;
        ensure!(output.code == 0, "{what}: {}", output.err());
        let told = output.out();
        told.lines().map(|line| line.parse().with_context(|| format!("{what}: {told:?}"))).collect()
    };
    progress("containerd");
    numbers(PREPARE, "containerd can't be started")?;
    for (name, runtime, _) in SHIMS {
        let case = format!("ctr run, {name}");
        progress(&case);
        let command = format!(
            "ctr run --rm --runtime {runtime} --env PATH=/bin --rootfs /bench/bundle/rootfs bench echo {MARKER}"
        );
        report.add(&case, cases::runs(host, report.runs(RUNS), MARKER, &command)?);
    }
    let [whole, brief] = MANY;
    let count = if report.brief { brief } else { whole };
    for (name, runtime, processes) in SHIMS {
        let functions = FUNCTIONS
            .replace("RUNTIME", runtime)
            .replace("PROCESSES", processes)
            .replace("MIB", &GUEST_MIB.to_string());
        let case = format!("memory, {name}");
        progress(&case);
        let kept = numbers(&format!("{functions}\none bench; sleep 5; kept; gone bench"), &case)?;
        ensure!(!kept.is_empty(), "{case}: no processes");
        report.shims_kib.push((name.to_owned(), kept.iter().sum()));
        let case = format!("{count} of ctr run at once, {name}");
        progress(&case);
        let script = AT_ONCE.replace("COUNT", &count.to_string());
        let took = numbers(&format!("{functions}\n{script}"), &case)?;
        let exit_ns = took.first().copied().with_context(|| case.clone())?;
        report.add(&case, Measured { exit_ns, ..Measured::default() });
    }
    Ok(())
}
