# shellcheck shell=bash
# Shared settings. Everything the cluster writes lies under $ROOT.
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export HERE
export ROOT=${ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/volsync/cluster}
export BIN=$ROOT/bin RUN=$ROOT/run PKI=$ROOT/run/pki LOGS=$ROOT/logs
export KUBE_VERSION=v1.34.4
export NODE=node1
export NODE_IP=10.98.0.1            # on an empty bridge made by up.sh (this kernel has no dummy interfaces)
export NODE_IF=vsnode0 BRIDGE=vscni0
export POD_CIDR=10.244.0.0/16 SVC_CIDR=10.96.0.0/16 DNS_IP=10.96.0.10 API_SVC_IP=10.96.0.1
export DRIVER=hostdir.csi.local
export KUBELET_DIR=$RUN/kubelet
export CRI=$RUN/containerd/containerd.sock
export KUBECONFIG=$RUN/admin.kubeconfig
export PATH=$BIN:$PATH
