# Each time the host has been restored: the clock, and the build under test at its place.
set -eu
date -s "@$MSB_NOW" >/dev/null
mount -o ro /dev/vdb /mnt
if [ -s /mnt/list ]; then
    while IFS='	' read -r name mode target; do
        mkdir -p "${target%/*}"
        cp "/mnt/$name" "$target"
        chmod "$mode" "$target"
    done < /mnt/list
fi
umount /mnt
