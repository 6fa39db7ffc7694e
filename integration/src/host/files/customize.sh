#!/bin/sh
# After the packages: $1 is the root tree of the virtual host. Configures it and writes kernel, initrd and disk to $MSB_OUT.
set -eu
root=$1

echo msb-host > "$root/etc/hostname"
printf '127.0.0.1 localhost msb-host\n::1 localhost\n' > "$root/etc/hosts"
: > "$root/etc/fstab"
: > "$root/etc/machine-id"

# A login prompt hangs up the console that logs go to; timers steal the one processor from measurements.
for unit in getty@tty1.service serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-pstore.service remote-fs.target \
    systemd-tmpfiles-clean.timer systemd-networkd.service netavark-dhcp-proxy.socket netavark-firewalld-reload.service redis-server.service iperf3.service \
    postgresql.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
ln -sf /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
mkdir -p "$root/etc/systemd/journald.conf.d" "$root/etc/docker"
printf '[Journal]\nStorage=volatile\n' > "$root/etc/systemd/journald.conf.d/msb.conf"

# The build under test is put there each time the host is restored.
cat > "$root/etc/docker/daemon.json" <<'JSON'
{"runtimes": {"msb": {"path": "/usr/local/bin/msb-runtime"}}}
JSON

# After a shim that was killed containerd lets another clean up, and kills that one after five seconds, which a host under
# emulation does not always make.
cat >> "$root/etc/containerd/config.toml" <<'TOML'
[timeouts]
  "io.containerd.timeout.shim.cleanup" = "60s"
TOML

# The agent comes on the second disk, so that a new one needs no new image.
cat > "$root/etc/systemd/system/msb-host-agent.service" <<'UNIT'
[Unit]
Description=Commands from the test harness
[Service]
ExecStartPre=sh -c 'mount -o ro /dev/vdb /mnt && cp /mnt/host-agent /usr/local/sbin/ && umount /mnt'
ExecStart=/usr/local/sbin/host-agent /dev/virtio-ports/msb.agent
Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=linux
WorkingDirectory=/root
Delegate=yes
TasksMax=infinity
LimitNOFILE=524288
LimitCORE=infinity
Restart=always
[Install]
WantedBy=multi-user.target
UNIT
ln -sf ../msb-host-agent.service "$root/etc/systemd/system/multi-user.target.wants/msb-host-agent.service"

# An empty PostgreSQL, to be copied to where it is to work: initdb takes most of a minute in a guest.
install -d -o 0 -g 0 "$root/opt/postgres"
chroot "$root" chown postgres:postgres /opt/postgres
chroot "$root" setpriv --reuid postgres --regid postgres --clear-groups /usr/lib/postgresql/17/bin/initdb \
    --pgdata /opt/postgres/data --auth trust --wal-segsize 1 --locale C --encoding UTF8 --no-instructions
# Half of what its packages take: a compiler for its queries, and the sources of locales.
rm -rf "$root"/usr/lib/llvm-* "$root"/usr/lib/x86_64-linux-gnu/libLLVM* "$root"/usr/lib/x86_64-linux-gnu/libz3.so* \
    "$root"/usr/lib/postgresql/17/lib/llvmjit* "$root"/usr/lib/postgresql/17/lib/bitcode "$root/usr/share/i18n"

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/usr/share/info "$root"/tmp/*
cp "$root"/boot/vmlinuz-* "$MSB_OUT/vmlinuz"
cp "$root"/boot/initrd.img-* "$MSB_OUT/initrd.img"
chmod 644 "$MSB_OUT/vmlinuz" "$MSB_OUT/initrd.img"
rm -rf "$root"/boot/*

# The emulator that the host runs in, the same on every machine: this release's, with its libraries and firmware.
mkdir -p "$MSB_OUT/qemu/lib"
cp "$root/usr/bin/qemu-system-x86_64" "$MSB_OUT/qemu/"
cp -L "$root/lib64/ld-linux-x86-64.so.2" "$MSB_OUT/qemu/lib/loader"
chroot "$root" ldd /usr/bin/qemu-system-x86_64 | sed -n 's/.*=> \(.*\) (.*/\1/p' | while read -r library; do
    cp -L "$root$library" "$MSB_OUT/qemu/lib/"
done
cp -rL "$root/usr/share/qemu" "$MSB_OUT/qemu/firmware"
cp -rL "$root"/usr/share/seabios/* "$MSB_OUT/qemu/firmware/"
chmod -R a+rX "$MSB_OUT/qemu"

# The disk. Through a bind mount, which leaves out what is mounted in the tree for the package scripts; without checksums,
# each of which is a long loop in the emulator.
mkdir -p "$MSB_OUT/root"
truncate -s 12G "$MSB_OUT/root.img"
unshare --mount sh -euc '
    mount --bind "$1" "$2"
    mkfs.ext4 -q -F -O ^has_journal,^metadata_csum -E lazy_itable_init=1,root_owner=0:0 -d "$2" "$2.img"
' - "$root" "$MSB_OUT/root"
rmdir "$MSB_OUT/root"
