#!/usr/bin/env bash
# Makes an environment for the TensorFlow trainer below a folder (1.7 GB): TensorFlow's CPU wheel and the light Everloop
# client, in a virtual environment of Python 3.11 or newer. Its `python` runs the trainer.
set -euo pipefail
[ $# = 1 ] || { echo "use: install.sh FOLDER"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && folder=$(cd "$1" && pwd)
[ -x "$folder/venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
cat > "$folder/python" <<END
#!/bin/sh
export TF_CPP_MIN_LOG_LEVEL=3
export PYTHONPATH="$here/..\${EVERLOOP_SOURCE:+:\$EVERLOOP_SOURCE/shared:\$EVERLOOP_SOURCE/schemas}"
exec "$folder/venv/bin/python" "\$@"
END
chmod +x "$folder/python"
