#!/bin/sh
# After the packages are unpacked: $1 is the root tree of the Arm host. Writes kernel, initrd and disk to $MSB_OUT.
set -eu
root=$1

# What the packages' own scripts would have made; none of them can run here.
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > "$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\nkvm:x:107:\n' > "$root/etc/group"
echo msb-arm > "$root/etc/hostname"
printf '127.0.0.1 localhost msb-arm\n::1 localhost\n' > "$root/etc/hosts"
ln -sf mawk "$root/usr/bin/awk"
mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp" "$root/root" "$root/mnt" "$root/var/tmp" "$root/var/lib" \
    "$root/usr/local/bin" "$root/usr/local/sbin"
chmod 1777 "$root/tmp" "$root/var/tmp"
kernel=$(ls "$root/usr/lib/modules")
PATH=$PATH:/usr/sbin:/sbin depmod -b "$root" "$kernel"
cp "$MSB_OUT/init.sh" "$root/usr/sbin/msb-init"

# The test image: a shell and the usual tools, one static file. Their names are made at boot, by the file itself.
image=$root/opt/busybox/rootfs
mkdir -p "$image/bin" "$image/etc" "$image/root" "$image/tmp" "$image/var" "$image/proc" "$image/sys" "$image/dev"
cp "$root/usr/bin/busybox" "$image/bin/busybox"
cp "$root/etc/passwd" "$root/etc/group" "$image/etc/"

cp "$root"/boot/vmlinuz-* "$MSB_OUT/vmlinuz"
rm -rf "$root"/boot/* "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/locale" "$root"/var/cache/apt/*

# Of what finds the disk, the kernel has all built in but the disk's own driver.
initrd=$MSB_OUT/initrd
mkdir -p "$initrd/bin" "$initrd/dev" "$initrd/root"
cp "$root/usr/bin/busybox" "$initrd/bin/"
cp "$MSB_OUT/find.sh" "$initrd/init"
find "$root/usr/lib/modules" -name 'virtio_blk.ko.xz' -exec xz -dc {} + > "$initrd/virtio_blk.ko"
test -s "$initrd/virtio_blk.ko"
(cd "$initrd" && find . | cpio --quiet -o -H newc -R 0:0 > "$MSB_OUT/initrd.img")
rm -rf "$initrd"
chmod 644 "$MSB_OUT/vmlinuz" "$MSB_OUT/initrd.img"

# Through a bind mount, which leaves out what is mounted in the tree.
mkdir -p "$MSB_OUT/root"
truncate -s 4G "$MSB_OUT/root.img"
PATH=$PATH:/usr/sbin:/sbin unshare --mount sh -euc '
    mount --bind "$1" "$2"
    mkfs.ext4 -q -F -O ^has_journal,^metadata_csum -E lazy_itable_init=1,root_owner=0:0 -d "$2" "$2.img"
' - "$root" "$MSB_OUT/root"
rmdir "$MSB_OUT/root"
