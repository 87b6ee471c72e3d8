#!/bin/sh
# The same with KEDA's operator, metrics server and webhooks: 15 more minutes of two cores the first time.
set -eu
bin=$("$PYTHON" deploy/kubernetes/rig build --keda)/bin
mkdir -p "$1/bin"
ln -s "$bin/kubectl" "$bin/helm" "$1/bin/"
ln -s "$PYTHON" "$1/bin/python"
