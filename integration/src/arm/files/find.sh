#!/bin/busybox sh
# The Arm host's initrd: its disk, and what is on it. A host whose root is the initrd itself could confine nobody: there is no
# pivot_root away from it.
busybox mount -t devtmpfs dev /dev
busybox insmod /virtio_blk.ko
until [ -b /dev/vda ]; do busybox sleep 0.1; done
busybox mount -t ext4 /dev/vda /root
busybox umount /dev
exec busybox switch_root /root /usr/sbin/msb-init
