#!/bin/sh
# actionlint, by Go, which checks its source by the checksum database.
set -eu
GOBIN="$1/bin" go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
