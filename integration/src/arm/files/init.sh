#!/bin/sh
# The Arm host's pid 1: what systemd would have set up and a container's runtime looks for, then the harness's agent. A shell
# that waits for it reaps all orphans too.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620 pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
mount --make-rshared /
hostname msb-arm 2>/dev/null || cat /etc/hostname > /proc/sys/kernel/hostname
ip link set lo up
for module in overlay tun veth sch_ingress cls_u32 cls_matchall act_mirred vhost_net loop; do
    modprobe "$module" || echo "note: no module $module"
done
echo '+cpu +memory +pids +io' > /sys/fs/cgroup/cgroup.subtree_control
chroot /opt/busybox/rootfs /bin/busybox --install -s /bin
mount -o ro /dev/vdb /mnt && cp /mnt/host-agent /usr/local/sbin/ && umount /mnt
cd /root
while :; do
    for port in /sys/class/virtio-ports/*; do
        host-agent "/dev/${port##*/}"
    done
    sleep 1
done
