# Once, in the freshly booted virtual host, before its state is saved: all that a test would wait for.
set -eu
# Systemd at rest; "degraded" would be a failed unit, and is shown.
systemctl is-system-running --wait || { systemctl --failed --no-pager; exit 1; }
for module in kvm_amd vhost_vsock vhost_net tun tap veth bridge br_netfilter overlay ext4 erofs squashfs loop fuse \
    virtiofs ifb sch_ingress cls_u32 cls_matchall cls_flower act_mirred dm_mod dm_thin_pool vsock_loopback; do
    modprobe "$module" || echo "note: no module $module" >&2
done
test -c /dev/kvm
systemctl start containerd docker
# No start at boot of services that only notice each other's sockets later.
docker version >/dev/null

# The test image: a shell and the usual tools, one static file.
image=/opt/busybox
mkdir -p $image/rootfs/bin $image/rootfs/etc $image/rootfs/root $image/rootfs/tmp $image/rootfs/var $image/rootfs/proc \
    $image/rootfs/sys $image/rootfs/dev $image/rootfs/home
cp /usr/bin/busybox $image/rootfs/bin/busybox
chroot $image/rootfs /bin/busybox --install -s /bin
chmod 1777 $image/rootfs/tmp
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nuser:x:1000:1000::/home:/bin/sh\n' > $image/rootfs/etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\nuser:x:1000:\nextra:x:1001:user\n' > $image/rootfs/etc/group
tar -C $image/rootfs -c . | docker import --change 'CMD ["sh"]' \
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - busybox:latest >/dev/null
docker save -o $image/image.tar busybox:latest
ctr image import $image/image.tar >/dev/null
podman load -q -i $image/image.tar >/dev/null

# A bundle: `cp -a /opt/busybox/bundle DIR`, then edit its config.json with jq.
mkdir -p $image/bundle
cp -a $image/rootfs $image/bundle/rootfs
(cd $image/bundle && runc spec && jq '.process.terminal = false | .root.readonly = false | .process.args = ["sh"]' \
    config.json > config.new && mv config.new config.json)

# Docker's first container of all loads and sets up much that no test should pay for.
docker run --rm busybox true
docker run --rm --network none busybox true
podman run --rm --network none busybox true
ctr run --rm docker.io/library/busybox:latest warm true
journalctl --rotate --vacuum-time=1s >/dev/null 2>&1
# The page cache stays, with all programs in it: without, every test would read them anew before its first container.
sync
