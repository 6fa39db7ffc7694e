#!/bin/sh
# Makes disk.gz (see src/writeback.rs): needs root, a loop device, and target/debug/msb-rootfs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'umount "$work/at" 2>/dev/null || :; rm -rf "$work"' EXIT
"$here/../../target/debug/msb-rootfs" scratch 16M "$work/live"
mkdir "$work/at"
mount -o loop "$work/live" "$work/at"
upper=$work/at/upper
mkdir -p "$upper/etc/deep/er" "$upper/many"
echo hello > "$upper/file"
ln "$upper/file" "$upper/etc/hard"
ln -s /etc/passwd "$upper/link"
ln -s "$(printf 'x%.0s' $(seq 200))" "$upper/long-link"
mknod "$upper/gone" c 0 0
mknod "$upper/null" c 1 3
mkfifo "$upper/fifo"
for number in $(seq 100); do : > "$upper/many/a-file-with-a-name-of-some-length-$number"; done
for at in $(seq 0 8 160); do printf x | dd of="$upper/scattered" bs=4096 seek="$at" conv=notrunc status=none; done
python3 - "$upper" <<'PYTHON'
import os, sys
os.setxattr(sys.argv[1] + "/etc/deep", "trusted.overlay.opaque", b"y")
os.setxattr(sys.argv[1] + "/file", "user.colour", b"blue")
PYTHON
chmod 4755 "$upper/file"
sync -f "$work/at"
rm "$upper/etc/hard"
mv "$upper/many/a-file-with-a-name-of-some-length-1" "$upper/moved"
sync -f "$work/at"
cp "$work/live" "$work/image"
python3 - "$work/image" "$here/disk.gz" <<'PYTHON'
import gzip, struct, sys
image = open(sys.argv[1], "rb").read()
out = b""
for number in range(len(image) // 4096):
    block = image[number * 4096:][:4096]
    if any(block):
        out += struct.pack("<I", number) + block
open(sys.argv[2], "wb").write(gzip.compress(out, 9, mtime=0))
print(len(out) // 4100, "blocks")
PYTHON
