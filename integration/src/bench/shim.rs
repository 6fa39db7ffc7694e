//! containerd's shims: `ctr run` by runc's and ours, in turns, in instructions; what each keeps of memory; ten at once.

use anyhow::{Context, Result, ensure};

use super::cases::{self, MARKER};
use super::report::{Measured, Report, median};
use crate::host::VirtualHost;

/// The shims: what each is called, the runtime's name for containerd, and its processes of a sandbox that are not its VMM.
const SHIMS: [(&str, &str, &str); 2] = [
    ("runc's shim", "io.containerd.runc.v2", "containerd-shim-runc-v2"),
    ("our shim", "io.containerd.msb.v2", "containerd-shim-msb-v2|msb-runtime volumes"),
];

/// Runs of each case; the first is not counted.
const RUNS: usize = 4;
/// Runs of ten sandboxes, of which the last counts.
const RUNS_MANY: usize = 2;

const PREPARE: &str = "systemctl start containerd; ctr version > /dev/null; sleep 10";

/// One container that stays.
const ONE: &str = "ctr run -d --runtime RUNTIME --env PATH=/bin --rootfs /bench/bundle/rootfs NAME sleep 100000 < /dev/null > /dev/null 2>&1";
const REMOVE: &str = "ctr task rm -f NAME > /dev/null; ctr container rm NAME";

/// Prints the proportional set sizes, in KiB, of all processes of a name, and what the VMM has of memory if there is one.
const MEMORY: &str = r#"
sleep 5
for pid in $(pgrep -f '^(PROCESSES)' | grep -v "^$$\$"); do sed -n 's/^Pss: *\([0-9]*\) kB/\1/p' /proc/$pid/smaps_rollup; done | jq -s add
vmm=$(pgrep -f '^msb-runtime vmm') && host-measure memory $vmm 1024 | jq .overhead_kib || echo 0
"#;

/// Prints how long ten took, each time, in nanoseconds, as a JSON array.
const MANY: &str = r#"
for run in $(seq COUNT); do
    sleep 2; began=$(date +%s%N)
    for i in $(seq 10); do ONE & done; wait
    [ $(ctr task ls | grep -c RUNNING) = 10 ]; echo $(($(date +%s%N) - began))
    for i in $(seq 10); do REMOVE; done
done | jq -cs .
"#;

/// Measures all in `host`, which [`cases::prepare`] has prepared.
///
/// # Errors
/// The first command that can't be run or does not end as it should.
pub fn measure(host: &VirtualHost, report: &mut Report, progress: &dyn Fn(&str)) -> Result<()> {
    let run = |script: &str, what: &str| -> Result<String> {
        let output = host.sh(&format!("set -e\n{script}")).timeout(Some(cases::PATIENCE)).run()?;
        ensure!(output.code == 0, "{what}: {}", output.err());
        Ok(output.out())
    };
    progress("containerd");
    run(PREPARE, "containerd can't be started")?;
    for (name, runtime, _) in SHIMS {
        let case = format!("ctr run, {name}");
        progress(&case);
        let command = format!(
            "ctr run --rm --runtime {runtime} --env PATH=/bin --rootfs /bench/bundle/rootfs bench echo {MARKER}"
        );
        report.add(&case, cases::runs(host, report.runs(RUNS), MARKER, &command)?);
    }
    for (name, runtime, processes) in SHIMS {
        progress(&format!("memory, {name}"));
        let one = ONE.replace("RUNTIME", runtime).replace("NAME", "bench");
        let memory = MEMORY.replace("PROCESSES", processes);
        let told = run(&format!("{one}\n{memory}\n{}", REMOVE.replace("NAME", "bench")), name)?;
        let kib: Result<Vec<u64>, _> = told.lines().map(str::parse).collect();
        let kib = kib.with_context(|| format!("{name} uses {told:?}"))?;
        report.shims_kib.push((name.to_owned(), kib.iter().sum()));
    }
    for (name, runtime, _) in SHIMS {
        let case = format!("ten at once, {name}");
        progress(&case);
        let count = if report.brief { 1 } else { RUNS_MANY };
        let script = MANY
            .replace("ONE", ONE)
            .replace("REMOVE", REMOVE)
            .replace("RUNTIME", runtime)
            .replace("NAME", "bench$i")
            .replace("COUNT", &count.to_string());
        let told = run(&script, &case)?;
        let times: Vec<u64> = serde_json::from_str(&told).with_context(|| format!("{case}: {told}"))?;
        ensure!(times.len() == count, "{case}: {told}");
        let exit_ns = median(times.into_iter().skip(count - 1));
        report.add(&case, Measured { exit_ns, ..Measured::default() });
    }
    Ok(())
}
