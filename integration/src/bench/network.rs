//! The guest's network: our device against QEMU's with and without vhost, and against no machine at all.
//!
//! One namespace with a veth, as Docker makes them; the same kernel, the same program in the guest, the same redirection
//! to a tap. By the wall's clock, in turns, the best of some runs, for the reason that `turns.rs` gives.

use anyhow::{Result, ensure};

use super::{report::Report, turns};
use crate::host::VirtualHost;

/// Names, and the arguments of `network` in [`PREPARE`]. Ours is the first.
pub const RUNNERS: [(&str, &str); 5] = [
    ("msb", "msb-vhost"),
    ("QEMU vhost", "on"),
    ("msb's own", "msb"),
    ("QEMU's own", "off"),
    ("no machine", "none"),
];

const PREPARE: &str = r#"
set -eu
systemctl stop docker.socket docker containerd
mkdir -p /bench
ip netns add box
ip link add outside type veth peer name eth0 netns box
ip addr add 10.9.0.1/24 dev outside
ip link set outside up
ip -n box addr add 10.9.0.2/24 dev eth0
ip -n box link set eth0 up
ip -n box link set lo up
guest-net server > /dev/null 2>&1 < /dev/null &
cat > /bench/network <<'SCRIPT'
ip netns exec box tc qdisc del dev eth0 ingress 2> /dev/null
if [ $1 = none ]; then
    exec ip netns exec box guest-net client
fi
mac=$(ip netns exec box cat /sys/class/net/eth0/address)
case $1 in msb*)
    exec ip netns exec box boot --kernel /usr/lib/msb/vmlinux --initramfs /usr/lib/msb/guest-net --memory 256 --network \
        $(echo $1 | grep -o -- -vhost | sed s/^/-/) < /dev/null
esac
ip netns exec box sh -ec '
    ip link del tap0 2> /dev/null || true
    ip tuntap add tap0 mode tap vnet_hdr
    ip link set tap0 up
    for pair in "eth0 tap0" "tap0 eth0"; do
        set -- $pair
        tc qdisc add dev $1 ingress
        tc filter add dev $1 parent ffff: protocol all prio 1 matchall action mirred egress redirect dev $2
    done'
exec ip netns exec box qemu-system-x86_64 -M microvm,acpi=off,rtc=off -accel kvm -cpu host -smp 1 -m 256 \
    -global virtio-mmio.force-legacy=false -nodefaults -no-user-config -display none -no-reboot -serial stdio \
    -kernel /usr/lib/msb/vmlinux -initrd /usr/lib/msb/guest-net -append 'console=ttyS0 quiet reboot=t panic=-1' \
    -netdev tap,id=n,ifname=tap0,script=no,downscript=no,vhost=$1 -device virtio-net-device,netdev=n,mac=$mac
SCRIPT
"#;

/// Measures all cases with all runners.
///
/// # Errors
/// A guest that does not come to its end, or tells of a failure.
pub fn measure(host: &VirtualHost, report: &mut Report, progress: &dyn Fn(&str)) -> Result<()> {
    let prepared = host.sh(PREPARE).run()?;
    ensure!(prepared.code == 0, "The host can't be prepared: {}", prepared.err());
    let command = |argument: &str| format!("sh /bench/network {argument} < /dev/null 2>&1");
    report.network = turns::best(host, report.brief, &RUNNERS, command, cases, progress)?;
    Ok(())
}

/// The guest's lines: `NET name operations nanoseconds`.
fn cases(output: &str) -> Result<Vec<(String, u64)>> {
    turns::cases(output, "NET ", "tcp-16-at-a-time-1600")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_guest_among_others() {
        let output = "warning\r\nNET tcp-send-64m 67108864 9\r\nNET tcp-16-at-a-time-1600 1600 7\r\n";
        let expected = [("tcp-send-64m".to_owned(), 9), ("tcp-16-at-a-time-1600".to_owned(), 7)];
        assert_eq!(cases(output).unwrap(), expected);
        assert!(cases("NET tcp-send-64m 1 9").is_err());
    }
}
