#!/bin/sh
# The same with what runs pods, which needs root: kubelet, containerd, runc, kube-proxy, CoreDNS.
set -eu
[ "$(id -u)" = 0 ] || { echo "pods need root: kubelet mounts volumes, and containerd makes namespaces"; exit 1; }
bin=$("$PYTHON" deploy/kubernetes/rig build --pods)/bin
mkdir -p "$1/bin"
ln -s "$bin/kubectl" "$bin/helm" "$1/bin/"
ln -s "$PYTHON" "$1/bin/python"
