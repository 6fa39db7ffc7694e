#!/bin/sh
# Makes MicroSandbox a runtime of Kubernetes on this node: puts those of its files that are beside this script into their
# places, appends the handler `msb` to containerd's configuration, once, and restarts containerd. Pods that run go on.
#
# usage: install.sh [CONFIGURATION]     (/etc/containerd/config.toml)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
config=${1:-/etc/containerd/config.toml}

place() {
    [ ! -e "$here/$1" ] || install -D -m "$3" "$here/$1" "$2/$1"
}
place containerd-shim-msb-v2 /usr/local/bin 755
place msb-runtime /usr/local/bin 755
place vmlinux /usr/lib/msb 644
place initramfs /usr/lib/msb 644

[ -s "$config" ] || { mkdir -p "$(dirname "$config")" && containerd config default > "$config"; }
if grep -q 'runtimes\.msb\]' "$config"; then
    echo "$config has the handler msb already"
    exit 0
fi
# containerd's default has version 2 up to 1.7, and 3 from 2.0 on; 2.x takes both.
case $(sed -n 's/^version *= *//p' "$config") in
    3) handler=$here/containerd-2.toml section='io.containerd.cri.v1.runtime' ;;
    *) handler=$here/containerd-1.toml section='io.containerd.grpc.v1.cri' ;;
esac
# Where a configuration names any handler, those that it does not name are gone, runc's too.
grep -q 'runtimes\.runc\]' "$config" || cat >> "$config" <<TOML

[plugins."$section".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
TOML
cat "$handler" >> "$config"
systemctl restart containerd
echo "$config has the handler msb"
