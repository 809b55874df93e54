#!/bin/bash
# Holds the CSI driver to the CSI specification: csi-sanity against an instance of its own. sanity.sh [csi-sanity flag...]
set -euo pipefail
. "$(dirname "$0")/env.sh"
dir=$(mktemp -d); driver=
stop() { # whatever csi-sanity left mounted or attached goes too
  [[ -z $driver ]] || kill "$driver" 2>/dev/null || true
  awk -v r="$dir/" 'index($5, r) == 1 {print $5}' /proc/self/mountinfo | sort -r | while read -r m; do umount "$m"; done
  losetup -n -O NAME,BACK-FILE | awk -v r="$dir/" 'index($2, r) == 1 {print $1}' | while read -r l; do losetup -d "$l"; done
  rm -rf "$dir"
}
trap stop EXIT
hostdir --root="$dir/root" --endpoint="$dir/csi.sock" >"$dir/log" 2>&1 & driver=$!
for _ in $(seq 50); do [[ -S $dir/csi.sock ]] && break; sleep 0.1; done
csi-sanity --csi.endpoint="$dir/csi.sock" --csi.mountdir="$dir/target" --csi.stagingdir="$dir/staging" --ginkgo.no-color "$@"
