#!/bin/sh
# Before the packages: $1 is the root tree of the virtual host.
set -eu
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/etc/initramfs-tools/hooks"
# Only what finds the root disk: a quarter of the size, and of the time to unpack.
echo 'MODULES=list' > "$1/etc/initramfs-tools/conf.d/msb"
cat > "$1/etc/initramfs-tools/hooks/msb" <<'HOOK'
#!/bin/sh
set -e
[ "$1" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules virtio_pci virtio_blk ext4
HOOK
chmod 755 "$1/etc/initramfs-tools/hooks/msb"
# `customize.sh` makes the only cluster.
mkdir -p "$1/etc/postgresql-common"
echo 'create_main_cluster = false' > "$1/etc/postgresql-common/createcluster.conf"
