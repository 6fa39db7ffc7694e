//! What is kept of a host when a test fails: its console, its journal, and every log of guests and of the runtime.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{HostError, VirtualHost, qemu};

/// Gathers what a reader of a failure wants, as one tar stream.
const GATHER: &str = "
cd /run && mkdir -p /run/msb-kept && cd /run/msb-kept
journalctl --no-pager -o short-monotonic > journal.log 2>&1
dmesg > dmesg.log 2>&1
ps axfo pid,ppid,stat,wchan:20,args > processes.log 2>&1
mount > mounts.log 2>&1
find /run/msb /run/msb-runtime /run/containerd /run/docker /var/run/docker /run/runc /tmp -xdev -name '*.log' -o -xdev -name 'log.json' -o -xdev -name 'state.json' 2>/dev/null |
    tar -c -h --ignore-failed-read -f - -T - *.log 2>/dev/null
";

/// The same in a few lines, for one who can't read the files: what stands and where, and what was said last.
const GLANCE: &str = r#"
echo 'Processes, and what they wait for in the kernel:'
for pid in $(ps -eo pid,args | awk '/msb|runc|shim|docker |podman|ctr / && !/awk|docker-proxy|dockerd/ { print $1 }'); do
    [ -r /proc/$pid/cmdline ] || continue
    echo "  $pid $(tr '\0' ' ' < /proc/$pid/cmdline | cut -c1-150)"
    for task in /proc/$pid/task/*; do
        echo "      $(cat $task/comm) $(cut -d' ' -f3 < $task/stat) $(cut -d' ' -f1 < $task/syscall) $(head -3 $task/stack | cut -d' ' -f2 | tr '\n' ' ')"
    done | sort | uniq -c | head -12
done 2>/dev/null | head -60
echo 'Last lines of guests:'
find /run/msb /run/msb-runtime /run/docker /run/containerd -xdev -name '*.log' -size +0 2>/dev/null | head -6 | while read -r log; do
    echo "  $log"; tail -n 4 "$log" | cut -c1-200 | sed 's/^/      /'
done
echo 'Last lines of the journal:'
journalctl --no-pager -o short-monotonic -n 12 2>/dev/null | cut -c1-240
"#;

/// What [`GLANCE`] shows of a host; empty if nothing answers.
pub(super) fn glance(host: &VirtualHost) -> String {
    host.sh(GLANCE).timeout(Duration::from_secs(60)).run().map(|output| output.out()).unwrap_or_default()
}

/// Copies into a new folder of `failures` named for `name`.
pub(super) fn keep(host: &VirtualHost, failures: &Path, name: &str) -> Result<PathBuf, HostError> {
    let safe: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let folder = failures.join(safe);
    let file = |source: io::Error| HostError::File { path: folder.clone(), source };
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(error)),
        _ => {}
    }
    fs::create_dir_all(&folder).map_err(file)?;
    for name in [qemu::files::CONSOLE, qemu::files::QEMU] {
        fs::copy(host.folder().join(name), folder.join(name)).map_err(file)?;
    }
    // A host that has died has no more than its console.
    match host.sh(GATHER).timeout(Duration::from_secs(60)).run() {
        Ok(gathered) => fs::write(folder.join("logs.tar"), gathered.stdout).map_err(file)?,
        Err(error) => fs::write(folder.join("logs-missing.txt"), format!("{error}\n")).map_err(file)?,
    }
    Ok(folder)
}
