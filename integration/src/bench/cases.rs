//! What is measured, and how each case is started in the virtual host.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    clock::Run,
    memory::Memory,
    report::{Measured, Report, median},
    walls,
};
use crate::host::VirtualHost;

/// Runs of each case; the first, which warms caches, is not counted.
const RUNS: usize = 11;

/// Guest memory of every machine here, as in the published numbers of the peers.
pub(super) const GUEST_MIB: u64 = 128;

/// How long one case may take by the clock on the wall: a host that hangs must not hang its user.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// What the measured container prints.
pub(super) const MARKER: &str = "container-speaks";

/// Settings under which the VMM is not held back: what the walls cost is the difference.
const NO_WALLS: &str = "MSB_CONFIG=/bench/no-walls.toml";

/// All files that are read or written lie in memory, so that no case waits for a disk.
const PREPARE: &str = r#"
set -eu
mkdir -p /bench /var/lib/msb-runtime
mount -t tmpfs -o exec tmpfs /bench
mount -t tmpfs tmpfs /var/lib/msb-runtime
cp -a /opt/busybox/bundle /bench/bundle
cd /bench/bundle
jq --arg memory "${GUEST_MIB}M" --arg marker "$MARKER" \
    '.process.args = ["echo", $marker] | .annotations["dev.msb.memory"] = $memory' config.json > new
mv new config.json
cp -a /bench/bundle /bench/idle
jq '.process.args = ["sleep", "100000"]' config.json > /bench/idle/config.json
printf '[machine]\nconfinement = "off"\n' > /bench/no-walls.toml
systemctl stop docker.socket docker containerd
sleep 30
"#;

/// Makes the bundles that all measurements use, and stops what would disturb them.
///
/// # Errors
/// When the host can't be prepared.
pub fn prepare(host: &VirtualHost) -> Result<()> {
    let prepared = host.sh(PREPARE).env("GUEST_MIB", &GUEST_MIB.to_string()).env("MARKER", MARKER).run()?;
    ensure!(prepared.code == 0, "The host can't be prepared: {}", prepared.err());
    Ok(())
}

/// Measures everything in `host`; what was measured before a failure stays in `report`.
///
/// # Errors
/// The first command that can't be run or does not end as it should.
pub fn measure(host: &VirtualHost, report: &mut Report, progress: &dyn Fn(&str)) -> Result<()> {
    for (name, command) in [
        (walls::WITH, "msb-runtime --root /run/bench run --bundle /bench/bundle bench"),
        ("runc run", "runc --root /run/bench-runc run --bundle /bench/bundle bench"),
        ("crun run", "crun --root /run/bench-crun run --bundle /bench/bundle bench"),
        ("echo, no container", "/bin/echo container-speaks"),
    ] {
        progress(name);
        report.add(name, runs(host, report.runs(RUNS), MARKER, command)?);
    }
    let name = walls::WITHOUT;
    progress(name);
    let command = "msb-runtime --root /run/bench run --bundle /bench/bundle bench";
    let case = Case { environment: NO_WALLS, ..Case::once_warm(report.runs(RUNS), MARKER, command) };
    report.add(name, measured(host, case)?);
    progress("moments of msb-runtime run");
    moments(host, report)?;
    progress("memory of an idle machine");
    report.memory = Some(idle(host, "")?);
    report.memory_without_walls = Some(idle(host, NO_WALLS)?);
    progress("a fork");
    let log = "strace -f -T -qq -o /bench/forks -e trace=fork,vfork,clone,clone3 \
               msb-runtime --root /run/bench run --bundle /bench/bundle bench > /dev/null; cat /bench/forks";
    let log = host.sh(log).timeout(Some(PATIENCE)).run()?.out();
    report.moment(walls::FORK, walls::longest_fork(&log).with_context(|| format!("No fork in:\n{log}"))?);
    progress("QEMU microvm to the agent's hello");
    let times: Vec<u64> = ask(host, &format!("host-measure hello {} {}", report.runs(RUNS), qemu()))?;
    report.moment("QEMU microvm: agent's hello", median(times.into_iter().skip(1)));
    Ok(())
}

/// A command and how often it is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    /// Runs that are not counted, which warm caches.
    pub(super) warm: usize,
    /// Those that are.
    pub(super) counted: usize,
    /// What its first output of interest holds; empty for a command without.
    pub(super) marker: &'a str,
    /// Variables, as a shell takes them before a command.
    pub(super) environment: &'a str,
    /// Shell commands before each run, not measured.
    pub(super) before: &'a str,
    /// Its words, for a shell; itself it needs none.
    pub(super) command: &'a str,
}

impl<'a> Case<'a> {
    /// So many runs, of which the first is not counted.
    pub(super) fn once_warm(count: usize, marker: &'a str, command: &'a str) -> Self {
        Self { warm: 1, counted: count - 1, marker, environment: "", before: "", command }
    }
}

/// Runs a command so often; the first run is not counted.
pub(super) fn runs(host: &VirtualHost, count: usize, marker: &str, command: &str) -> Result<Measured> {
    measured(host, Case::once_warm(count, marker, command))
}

/// Runs `case`.
pub(super) fn measured(host: &VirtualHost, case: Case<'_>) -> Result<Measured> {
    let Case { warm, counted, marker, environment, before, command } = case;
    let all = warm + counted;
    let script = format!("{environment} host-measure run {all} '{marker}' '{before}' {command}");
    let (runs, errors): (Vec<Run>, String) = ask_both(host, &script)?;
    ensure!(runs.len() == all && counted > 0, "{command}: {} runs of {all}", runs.len());
    for run in &runs {
        let told = marker.is_empty() || run.first_output_ns.is_some();
        ensure!(run.code == 0 && told, "{command}: {run:?}\n{errors}");
    }
    let counted = || runs.iter().skip(warm);
    Ok(Measured {
        first_output_ns: median(counted().filter_map(|run| run.first_output_ns)),
        exit_ns: median(counted().map(|run| run.exit_ns)),
        cpu_ns: median(counted().map(|run| run.cpu_ns)),
        first_output_all: counted().filter_map(|run| run.first_output_ns).collect(),
    })
}

/// With `--debug` the runtime logs when the guest was entered and when its agent said hello.
fn moments(host: &VirtualHost, report: &mut Report) -> Result<()> {
    let (mut spawned, mut entered, mut hello, mut whole) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..report.runs(RUNS) {
        let command = format!(
            "rm -f /bench/log; host-measure run 1 {MARKER} '' msb-runtime --debug --log /bench/log --log-format json \
             --root /run/bench run --bundle /bench/bundle bench"
        );
        let runs: Vec<Run> = ask(host, &command)?;
        let began = runs.first().context("no run")?.began_ns;
        let log = host.sh("cat /bench/log").run()?.out();
        let at = |moment: &str| -> Result<u64> {
            let line = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let found =
                line.filter(|line| line["moment"] == moment).find_map(|line| line["monotonic_ns"].as_u64());
            Ok(found.with_context(|| format!("no moment {moment} in:\n{log}"))?.saturating_sub(began))
        };
        let vmm = at("vmm-spawned")?;
        spawned.push(vmm);
        entered.push(at("guest-entered")?.saturating_sub(vmm));
        hello.push(at("agent-hello")?.saturating_sub(vmm));
        whole.push(at("agent-hello")?);
    }
    report.moment("msb-runtime run: its VMM's exec", median(spawned.into_iter().skip(1)));
    report.moment("msb-runtime run: agent's hello", median(whole.into_iter().skip(1)));
    report.moment("our VMM: first guest instruction", median(entered.into_iter().skip(1)));
    report.moment("our VMM: agent's hello", median(hello.into_iter().skip(1)));
    Ok(())
}

fn idle(host: &VirtualHost, environment: &str) -> Result<Memory> {
    let script = format!(
        "set -e; export E=1 {environment}; msb-runtime --root /run/bench run --detach --pid-file /bench/pid --bundle /bench/idle idle \
         </dev/null >/dev/null 2>&1; sleep 5; host-measure memory $(cat /bench/pid) {GUEST_MIB}; \
         msb-runtime --root /run/bench delete --force idle"
    );
    ask(host, &script)
}

/// The leanest QEMU there is, with our kernel, our initramfs and the kernel's own vsock.
fn qemu() -> String {
    format!(
        "qemu-system-x86_64 -M microvm,acpi=off,rtc=off -accel kvm -cpu host -smp 1 \
         -global virtio-mmio.force-legacy=false -m {GUEST_MIB} -nodefaults -no-user-config -display none -no-reboot -kernel /usr/lib/msb/vmlinux \
         -initrd /usr/lib/msb/initramfs -append 'quiet reboot=t panic=-1' \
         -device vhost-vsock-device,guest-cid=77"
    )
}

fn ask<T: DeserializeOwned>(host: &VirtualHost, script: &str) -> Result<T> {
    Ok(ask_both(host, script)?.0)
}

/// What it prints, and what it complains of.
fn ask_both<T: DeserializeOwned>(host: &VirtualHost, script: &str) -> Result<(T, String)> {
    let output = host.sh(script).timeout(Some(PATIENCE)).run()?;
    ensure!(output.code == 0, "{script}: exit code {}: {}{}", output.code, output.out(), output.err());
    let told =
        serde_json::from_slice(&output.stdout).with_context(|| format!("{script}: {}", output.out()))?;
    Ok((told, output.err()))
}
