#!/bin/sh
# oidc-provider, a certified OpenID provider, for Node 20 or later.
set -e
command -v npm >/dev/null || { echo "npm is not here" >&2; exit 1; }
mkdir -p "$1/bin"
ln -sf "$PYTHON" "$1/bin/python"
npm install --prefix "$1" --no-audit --no-fund --ignore-scripts oidc-provider@9.13.3
cp tests/integrations/environments/oidc/provider.mjs "$1/provider.mjs"  # beside what it imports
