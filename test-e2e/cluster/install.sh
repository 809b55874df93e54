#!/bin/bash
# install.sh: applies the Helm chart, with the images load-images imported, and waits until the operator
# works. KUBECONFIG may name another cluster.
set -euo pipefail
given=${KUBECONFIG:-}
. "$(dirname "$0")/env.sh"
export KUBECONFIG=${given:-$KUBECONFIG}
namespace=volsync-system
kubectl create namespace "$namespace" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
helm template volsync "$HERE/../../charts/volsync" --namespace "$namespace" --include-crds "$@" |
  kubectl apply --server-side --force-conflicts -f - >/dev/null
# The image of a tag may be another one than that which runs.
kubectl -n "$namespace" rollout restart deployment/volsync >/dev/null
kubectl -n "$namespace" rollout status deployment/volsync --timeout=120s
