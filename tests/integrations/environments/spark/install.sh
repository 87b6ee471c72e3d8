#!/bin/sh
# The environment of deploy/spark, as its users make it.
set -eu
deploy/spark/install.sh "$1"
mkdir -p "$1/bin"
ln -sf ../python "$1/bin/python"
