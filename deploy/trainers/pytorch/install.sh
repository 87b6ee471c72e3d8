#!/usr/bin/env bash
# Makes an environment for the PyTorch trainer below a folder, without root: Debian's CPU build of PyTorch with Debian's
# Python (150 MB to download, 650 MB on disk), and the light Everloop client. Its `python` runs the trainer.
# On Debian 12 with root, `apt-get install python3-torch` and a virtual environment do the same.
set -euo pipefail
[ $# = 1 ] || { echo "use: install.sh FOLDER"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/debs" && folder=$(cd "$1" && pwd)
if [ ! -e "$folder/root/.done" ]; then
  apt-get --print-uris -y --no-install-recommends install python3-torch | awk -F"'" '/^\x27/{print $2}' > "$folder/debs/list"
  (cd "$folder/debs" && xargs -P 4 -n 4 wget -q -nc < list)
  for deb in "$folder"/debs/*.deb; do dpkg -x "$deb" "$folder/root"; done
  touch "$folder/root/.done"
fi
# numpy 1, as Debian's PyTorch was built for it
"${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --no-warn-conflicts --upgrade --target "$folder/light" \
  --only-binary :all: --python-version 3.11 --implementation cp "numpy<2" "onnx<1.20" "protobuf<6" \
  -r "$here/../light.txt"
lib=$folder/root/usr/lib/x86_64-linux-gnu
cat > "$folder/python" <<END
#!/bin/sh
export LD_LIBRARY_PATH="$lib:$folder/root/usr/lib:$folder/root/lib/x86_64-linux-gnu:$lib/blas:$lib/lapack"
export PYTHONPATH="$folder/light:$here/..:\${EVERLOOP_SOURCE:+\$EVERLOOP_SOURCE/shared:\$EVERLOOP_SOURCE/schemas:}$folder/root/usr/lib/python3/dist-packages"
exec /usr/bin/python3.11 "\$@"
END
chmod +x "$folder/python"
