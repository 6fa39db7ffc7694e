//! What a user of Docker waits for, and a process's streams: runc and ours, in turns, in instructions.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::cases::{self, MARKER};

use super::report::{Measured, Report, median};
use crate::host::VirtualHost;

/// Runs of each case; the first is not counted.
const RUNS: usize = 3;

/// Runs of what is quick, so.
const RUNS_QUICK: usize = 6;

/// Runs of what takes longest, so.
const RUNS_STOP: usize = 2;

/// Docker again, which the cases before have stopped, and a container of each runtime to go into.
const PREPARE: &str = r#"
set -eu
systemctl start containerd docker
for runtime in runc msb; do
    docker run -d --name in-$runtime --network none --runtime=$runtime busybox sleep 100000 > /dev/null
    docker create --name stop-$runtime --network none --runtime=$runtime busybox \
        sh -c 'trap "exit 0" TERM; while :; do sleep 1000 & wait; done' > /dev/null
done
for way in none in out; do
    mkdir -p /bench/stdio/$way
    case $way in
        none) work=true ;;
        in) work='cat > /dev/null' ;;
        out) work='dd if=/dev/zero bs=64k count=128 2> /dev/null' ;;
    esac
    jq --arg work "echo container-speaks; $work" '.process.args = ["sh", "-c", $work] | .root.path = "/bench/bundle/rootfs"' \
        /bench/bundle/config.json > /bench/stdio/$way/config.json
done
head -c 8M /dev/zero > /bench/stdio/8M
docker save busybox | MICROSANDBOX_HOME=/bench/home msb load > /dev/null
mkdir -p /bench/exec; jq '.process.args = ["sleep", "100000"] | .root.path = "/bench/bundle/rootfs"' /bench/bundle/config.json > /bench/exec/config.json
msb-runtime --root /run/bench run --detach --bundle /bench/exec bench < /dev/null > /dev/null 2>&1
runc --root /run/bench-runc run --detach --bundle /bench/exec bench < /dev/null > /dev/null 2>&1
sleep 30
"#;

/// What a container writes, or reads, behind its first word.
const NOTHING: &str = "no stream";
const OUTPUT: &str = "8 MiB of output";
const INPUT: &str = "8 MiB of input";
/// What comes before its first word is Docker's own more than the runtime's, and of no certain length: its hook
/// `libnetwork-setkey` takes from a fifth of a second to a whole one. The end is told apart.
const RUN: &str = "docker run";

/// The product's own command, from its start to its end, and what a user of Docker would have typed instead.
const PRODUCT: &str = "msb run, or docker run";
const MSB_RUN: &str = "env MICROSANDBOX_HOME=/bench/home msb run --rm --network none busybox true";

/// Prints how long each `docker stop` took, in nanoseconds, as a JSON array.
const STOP: &str = r#"
for run in $(seq COUNT); do
    docker start stop-RUNTIME > /dev/null; sleep 1; began=$(date +%s%N)
    docker stop -t 10 stop-RUNTIME > /dev/null; echo $(($(date +%s%N) - began))
done | jq -cs .
"#;

/// Measures all cases in `host`, which [`cases::prepare`] has prepared.
///
/// # Errors
/// The first command that can't be run or does not end as it should.
pub fn measure(host: &VirtualHost, report: &mut Report, progress: &dyn Fn(&str)) -> Result<()> {
    progress("Docker");
    let prepared = host.sh(PREPARE).timeout(Some(cases::PATIENCE)).run()?;
    ensure!(prepared.code == 0, "Docker can't be prepared: {}", prepared.err());
    let own =
        |runtime| if runtime == "msb" { ("msb-runtime", "/run/bench") } else { ("runc", "/run/bench-runc") };
    // From the first word to the end without a stream.
    let mut ends = BTreeMap::new();
    for (case, count, command) in [
        ("exec, by the runtime itself", RUNS_QUICK, "PROGRAM --root STATE exec bench echo container-speaks"),
        (NOTHING, RUNS, "PROGRAM --root STATE run --bundle /bench/stdio/none none"),
        (OUTPUT, RUNS, "PROGRAM --root STATE run --bundle /bench/stdio/out out"),
        (
            INPUT,
            RUNS,
            // Through a pipe, as every caller gives it: a file would be read by the container itself with runc.
            r#"sh -c "cat /bench/stdio/8M | PROGRAM --root STATE run --bundle /bench/stdio/in in""#,
        ),
        (RUN, RUNS, "docker run --rm --network none --runtime=RUNTIME busybox echo container-speaks"),
        (PRODUCT, RUNS, "docker run --rm --network none --runtime=runc busybox true"),
        ("docker exec", RUNS, "docker exec in-RUNTIME echo container-speaks"),
    ] {
        for runtime in ["runc", "msb"] {
            let (program, state) = own(runtime);
            let command = if case == PRODUCT && runtime == "msb" { MSB_RUN } else { command };
            let command =
                command.replace("PROGRAM", program).replace("STATE", state).replace("RUNTIME", runtime);
            let name = format!("{case}, {runtime}");
            progress(&name);
            // `true` says nothing.
            let marker = if case == PRODUCT { "" } else { MARKER };
            let measured = cases::runs(host, report.runs(count), marker, &command)?;
            let rest = measured.exit_ns.saturating_sub(measured.first_output_ns);
            if case == NOTHING {
                ends.insert(runtime, rest);
            } else if case == OUTPUT || case == INPUT {
                let alone = rest.checked_sub(ends.get(runtime).copied().unwrap_or_default());
                report.moment(&name, alone.with_context(|| format!("{name} took no time"))?);
            } else if case == RUN {
                report.moment(&name, rest);
            }
            report.add(&name, measured);
        }
    }
    for runtime in ["runc", "msb"] {
        progress(&format!("docker stop, {runtime}"));
        let script = STOP.replace("RUNTIME", runtime).replace("COUNT", &RUNS_STOP.to_string());
        let output = host.sh(&script).timeout(Some(cases::PATIENCE)).run()?.out();
        let times: Vec<u64> =
            serde_json::from_str(&output).with_context(|| format!("docker stop: {output}"))?;
        ensure!(times.len() == RUNS_STOP, "docker stop: {output}");
        let exit_ns = median(times.into_iter().skip(1));
        report.add(&format!("docker stop, {runtime}"), Measured { exit_ns, ..Measured::default() });
    }
    let removed = host.sh("docker rm -f in-runc in-msb stop-runc stop-msb; msb-runtime --root /run/bench delete -f bench; runc --root /run/bench-runc delete -f bench").run()?;
    ensure!(removed.code == 0, "The containers can't be removed: {}", removed.err());
    Ok(())
}
