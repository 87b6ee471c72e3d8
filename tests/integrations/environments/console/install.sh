#!/bin/sh
# axe-core, which finds what some people cannot use on a page. Chromium is the system's, and Playwright the project's.
set -eu
npm install --prefix "$1" --no-audit --no-fund --ignore-scripts --silent axe-core@4.14.1
mkdir -p "$1/bin"
ln -s "$PYTHON" "$1/bin/python"
