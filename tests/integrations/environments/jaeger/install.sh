#!/bin/sh
# Jaeger, built by Go from source that go.sum pins (4 minutes of two cores the first time; its web page is not in it).
set -eu
mkdir -p "$1/bin"
cd "$(dirname "$0")"
CGO_ENABLED=0 nice go build -mod=readonly -ldflags "-s -w" -o "$1/bin/jaeger" github.com/jaegertracing/jaeger/cmd/all-in-one
ln -s "$PYTHON" "$1/bin/python"
