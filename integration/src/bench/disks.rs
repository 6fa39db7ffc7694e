//! The guest's disks: our block device against QEMU's, with the same kernel, the same guest program and the same images.
//!
//! By the wall's clock, in turns, the best of some runs, for the reason that `turns.rs` gives. All images lie in memory,
//! so what is measured is the way to them, not the host's disk.

use anyhow::{Result, ensure};

use super::{report::Report, turns};
use crate::host::VirtualHost;

/// Names, and the arguments of `disks` in [`PREPARE`]. Ours is the first.
pub const VMMS: [(&str, &str); 3] =
    [("msb", "msb"), ("QEMU threads", "threads"), ("QEMU io_uring", "io_uring")];

/// Two disks of 256 MiB and a tree of files; the same microvm of QEMU's as in the other benchmarks.
const PREPARE: &str = r#"
set -eu
systemctl stop docker.socket docker containerd
mkdir -p /bench
mount -t tmpfs -o size=1G tmpfs /bench
head -c 256M /dev/urandom > /bench/a
truncate -s 256M /bench/b
mkfs.erofs -Enoinline_data /bench/c /usr/share > /dev/null 2>&1
cat > /bench/disks <<'SCRIPT'
cd /bench
if [ $1 = msb ]; then
    exec boot --kernel /usr/lib/msb/vmlinux --initramfs /usr/lib/msb/guest-io --memory 256 --disk a --disk b --disk c
fi
exec qemu-system-x86_64 -M microvm,acpi=off,rtc=off -accel kvm -cpu host -smp 1 -m 256 \
    -global virtio-mmio.force-legacy=false -nodefaults -no-user-config -display none -no-reboot -serial stdio \
    -kernel /usr/lib/msb/vmlinux -initrd /usr/lib/msb/guest-io -append 'console=ttyS0 quiet reboot=t panic=-1' \
    -drive if=none,id=a,file=a,format=raw,aio=$1 -device virtio-blk-device,drive=a \
    -drive if=none,id=b,file=b,format=raw,aio=$1,discard=unmap -device virtio-blk-device,drive=b \
    -drive if=none,id=c,file=c,format=raw,aio=$1 -device virtio-blk-device,drive=c
SCRIPT
"#;

/// Measures all cases with all VMMs.
///
/// # Errors
/// A guest that does not come to its end, or tells of a failure.
pub fn measure(host: &VirtualHost, report: &mut Report, progress: &dyn Fn(&str)) -> Result<()> {
    let prepared = host.sh(PREPARE).run()?;
    ensure!(prepared.code == 0, "The host can't be prepared: {}", prepared.err());
    let command = |argument: &str| format!("sh /bench/disks {argument} < /dev/null");
    report.disks = turns::best(host, report.brief, &VMMS, command, cases, progress)?;
    Ok(())
}

/// The guest's lines: `IO name operations nanoseconds`.
fn cases(output: &str) -> Result<Vec<(String, u64)>> {
    turns::cases(output, "IO ", "read-all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_guest_among_others() {
        let output =
            "warning\r\nIO find 922 11018380\r\nIO read-all 922 77736128\r\nreboot: Restarting system\r\n";
        let expected = [("find".to_owned(), 11_018_380), ("read-all".to_owned(), 77_736_128)];
        assert_eq!(cases(output).unwrap(), expected);
        assert!(cases("IO find 922 11018380").is_err());
        assert!(cases("IO read-all 1 1\nFAILED read").is_err());
    }
}
