#!/bin/bash
# import.sh ARCHIVE...: imports images into the cluster's containerd.
set -euo pipefail
. "$(dirname "$0")/env.sh"
for archive in "$@"; do
  ctr -a "$CRI" -n k8s.io images import "$archive"
done
