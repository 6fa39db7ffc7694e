//! The product: commands in a sandbox over HTTP, some at a time, beside `docker exec`, in instructions; and many sandboxes at
//! once beside `docker run`, with what each keeps of memory, by the wall's clock: so many guests that start together are
//! enough for the fault that [`super::turns`] tells of, and no host counted its instructions to the end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::report::{Many, Rate, Report};
use crate::host::VirtualHost;

const SCRIPT: &str = include_str!("product.py");

/// Who asks at the same time, and how often each; and where only that it runs is asked.
const TURNS: [(u32, u32); 3] = [(1, 30), (4, 10), (16, 4)];
const TURNS_BRIEF: [(u32, u32); 1] = [(2, 2)];

/// Sandboxes at once, and where only that it runs is asked.
const MANY: [u32; 2] = [50, 2];

/// So many of them start at the same time: an emulated processor that boots all 50 is not done with the first in the minute
/// that a guest may take to answer.
const STARTERS: u32 = 8;

/// For all of them, on a machine that emulates several hosts.
const PATIENCE: Duration = Duration::from_secs(1500);

/// Of memory, in MiB: the machine's, or the container's limit.
const LIMIT: u32 = 128;

/// Docker, and an image for both.
const IMAGE: &str = "set -eu; systemctl start containerd docker; docker save busybox | msb load > /dev/null";

const PREPARE: &str = r#"
docker run -d --name bench-runc --network none --runtime=runc busybox sleep 100000 > /dev/null
msb server start --dev > /bench/server.log 2>&1 < /dev/null &
until msb server health > /dev/null 2>&1; do sleep 0.3; done
msb run -d --name bench --network none busybox sleep 100000 > /dev/null
sleep 10
"#;

/// `kept PATTERN` prints what the processes keep whose command lines begin so, in KiB; `vmms WHAT` the same of VMMs.
const FUNCTIONS: &str = r#"
set -eu
kept() { for pid in $(pgrep -f "^($1)"); do sed -n 's/^Pss: *\([0-9]*\) kB/\1/p' /proc/$pid/smaps_rollup; done | jq -s 'add // 0'; }
vmms() { for pid in $(pgrep -f '^msb-runtime vmm|^msb vmm'); do host-measure memory $pid LIMIT | jq ".$1"; done | jq -s 'add // 0'; }
"#;

/// Print how long all took, in nanoseconds, and what they keep, in KiB.
const SANDBOXES: &str = r#"
began=$(date +%s%N)
seq COUNT | xargs -P STARTERS -I N msb run -d --name manyN --network none -m LIMITm busybox sleep 100000 > /dev/null
[ $(msb ps -q | wc -l) = COUNT ]; echo $(($(date +%s%N) - began))
sleep 40; vmms overhead_kib; vmms guest_kib; kept 'msb keep'
msb rm -f $(msb ps -q) > /dev/null
"#;
const CONTAINERS: &str = r#"
began=$(date +%s%N)
seq COUNT | xargs -P STARTERS -I N docker run -d --name manyN --network none --runtime=runc -m LIMITm busybox sleep 100000 > /dev/null
[ $(docker ps -q | wc -l) = COUNT ]; echo $(($(date +%s%N) - began))
sleep 20; kept 'sleep 100000'; echo 0; kept /usr/bin/containerd-shim-runc-v2
docker rm -f $(docker ps -q) > /dev/null
"#;

#[derive(Debug, Deserialize)]
struct Asked {
    took_ns: u64,
    all_ns: Vec<u64>,
}

/// What a script says that succeeds.
fn said(host: &VirtualHost, script: &str, what: &str) -> Result<String> {
    let script = format!("export MICROSANDBOX_HOME=/bench/home\n{script}");
    let output = host.sh(&script).timeout(Some(PATIENCE)).run()?;
    ensure!(output.code == 0, "{what}: {}", output.err());
    Ok(output.out())
}

/// Measures what is asked of one sandbox in `host`, which [`super::cases::prepare`] has prepared.
///
/// # Errors
/// The first command that can't be run or does not end as it should.
pub fn measure(host: &VirtualHost, report: &mut Report, progress: &dyn Fn(&str)) -> Result<()> {
    progress("the product's server");
    let written = host.sh("cat > /bench/product.py").stdin(SCRIPT.as_bytes().to_vec()).run()?;
    ensure!(written.code == 0, "{}", written.err());
    said(host, &format!("{IMAGE}\n{PREPARE}"), "The product can't be started")?;
    let turns = if report.brief { &TURNS_BRIEF[..] } else { &TURNS };
    for (name, what) in [("sandbox.command.run", "rpc"), ("docker exec, runc", "docker exec bench-runc true")]
    {
        for (threads, count) in turns {
            let case = format!("{name}, {threads} at a time");
            progress(&case);
            let told = said(host, &format!("python3 /bench/product.py {threads} {count} {what}"), &case)?;
            let Asked { took_ns, all_ns } = serde_json::from_str(&told).with_context(|| case.clone())?;
            report.rates.push((case, Rate::of(took_ns, &all_ns)));
        }
    }
    let stop =
        "msb rm -f bench > /dev/null; docker rm -f bench-runc > /dev/null; msb server stop > /dev/null";
    said(host, stop, "The server can't be stopped").map(drop)
}

/// Measures many at once in `host`, whose clock is the wall's.
///
/// # Errors
/// As [`measure`].
pub fn many(host: &VirtualHost, report: &mut Report, progress: &dyn Fn(&str)) -> Result<()> {
    said(host, IMAGE, "The product can't be prepared")?;
    let [whole, brief] = MANY;
    let count = if report.brief { brief } else { whole };
    for (name, script) in [("msb run -d", SANDBOXES), ("docker run -d, runc", CONTAINERS)] {
        let case = format!("{count} of {name} at once");
        progress(&case);
        let script = format!("{FUNCTIONS}\n{script}");
        let numbers = [("COUNT", count), ("LIMIT", LIMIT), ("STARTERS", STARTERS)];
        let script =
            numbers.iter().fold(script, |script, (name, number)| script.replace(name, &number.to_string()));
        let told = said(host, &script, &case)?;
        let numbers: Vec<u64> = told
            .lines()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("{case}: {told:?}"))?;
        let [took_ns, own, guest, keeper] = numbers[..] else { anyhow::bail!("{case}: {told:?}") };
        let each = |kib: u64| kib / u64::from(count);
        let (own_kib, guest_kib, keeper_kib) = (each(own), each(guest), each(keeper));
        report.many.push((case, Many { took_ns, own_kib, guest_kib, keeper_kib }));
    }
    Ok(())
}
