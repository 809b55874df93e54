#!/bin/bash
# Says which parts of the cluster run and whether its node is ready; exit status 0 if it is, 1 if not.
set -uo pipefail
. "$(dirname "$0")/env.sh"
for n in etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet kube-proxy hostdir csi-provisioner csi-resizer csi-snapshotter snapshot-controller; do
  f=$RUN/pids/$n
  if [[ -f $f ]] && kill -0 "$(cat "$f")" 2>/dev/null; then echo "$n runs (process $(cat "$f"))"; else echo "$n does not run"; fi
done
if kubectl --request-timeout=5s wait --for=condition=Ready "node/$NODE" --timeout=1s >/dev/null 2>&1; then
  echo "node $NODE is ready; export KUBECONFIG=$KUBECONFIG"
else
  echo "node $NODE is not ready"; exit 1
fi
