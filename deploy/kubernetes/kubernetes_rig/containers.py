"""containerd below the rig's folder, with runc and pods on a bridge of their own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import IO

from kubernetes_rig import sandbox_image
from kubernetes_rig.binaries import binary, cache
from kubernetes_rig.processes import Processes, recorded, stop

BRIDGE = "everloop-rig"
GATEWAY = "10.244.0.1"
POD_ADDRESSES = "10.244.0.0/24"
SPACE = "k8s.io"
LOAD_S = 1_800.0
CONFIG = """version = 3
root = "{folder}/root"
state = "{folder}/state"
[grpc]
address = "{socket}"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{sandbox}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{bin}"]
    conf_dir = "{folder}/network"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    runtime_path = "{bin}/containerd-shim-runc-v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
      BinaryName = "{bin}/runc"
      Root = "{folder}/runc"
"""
FORWARDED = (["-i", BRIDGE], ["-o", BRIDGE])


def socket(folder: Path) -> Path:
    """Where containerd listens."""
    return folder / "containerd.sock"


def start_containers(folder: Path, processes: Processes) -> None:
    """Make the bridge, start containerd, and give it the image of sandboxes."""
    own = folder / "containerd"
    (own / "network").mkdir(parents=True, exist_ok=True)
    (own / "network" / "bridge.conflist").write_text(json.dumps(_network(own)))
    config = own / "config.toml"
    values = {"folder": own, "socket": socket(folder), "sandbox": sandbox_image.NAME, "bin": cache() / "bin"}
    config.write_text(CONFIG.format(**values))
    for command in (["link", "add", BRIDGE, "type", "bridge"], ["link", "set", BRIDGE, "up"]):
        _run("ip", *command)
    _run("ip", "address", "add", f"{GATEWAY}/24", "dev", BRIDGE)
    for packets in FORWARDED:
        _run("iptables", "-I", "FORWARD", *packets, "-j", "ACCEPT")
    path = {"PATH": f"{cache()}/bin{os.pathsep}{os.environ['PATH']}"}
    processes.start("containerd", [binary("containerd"), "--config", str(config)], path)
    processes.wait("containerd", lambda: _ctr(folder, "version").returncode == 0)
    tar = own / "sandbox.tar"
    sandbox_image.write_sandbox_image(Path(binary("pause")), tar)
    with tar.open("rb") as image:
        load(folder, image)


def load(folder: Path, images: IO[bytes]) -> None:
    """Give containerd the images of what `docker save` writes; archives are not kept beside what they unpack to."""
    command = _command(folder, "images", "import", "--local", "--discard-unpacked-layers", "-")
    subprocess.run(command, check=True, stdin=images, stdout=subprocess.DEVNULL, timeout=LOAD_S)


def end_containers(folder: Path) -> None:
    """End every container and its shim by id, while containerd still runs."""
    for task in _ctr(folder, "tasks", "list", "--quiet").stdout.split():
        _ctr(folder, "tasks", "delete", "--force", task)
    for shim in _shims(folder):
        stop(recorded(shim))


def remove_network(folder: Path) -> None:
    """Unmount what is left below the folder, and remove bridge and rules; what is not there is no error."""
    for shim in _shims(folder):
        stop(recorded(shim))
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in sorted((m for m in mounted if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", place], check=False, capture_output=True, timeout=60)
    for packets in FORWARDED:
        subprocess.run(
            ["iptables", "-D", "FORWARD", *packets, "-j", "ACCEPT"], check=False, capture_output=True, timeout=60
        )
    subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True, timeout=60)


def _network(folder: Path) -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "dataDir": str(folder / "addresses"),
        "ranges": [[{"subnet": POD_ADDRESSES}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "hairpinMode": True, "ipam": addresses}
    return {"cniVersion": "1.0.0", "name": BRIDGE, "plugins": [bridge]}


def _command(folder: Path, *args: str) -> list[str]:
    return [binary("ctr"), "--address", str(socket(folder)), "--namespace", SPACE, *args]


def _ctr(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(folder, *args), capture_output=True, text=True, check=False, timeout=120)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)


def _shims(folder: Path) -> list[int]:
    """The ids of the processes that hold containers of this containerd."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "containerd-shim" in words[0] and str(socket(folder)) in words:
            found.append(int(entry.name))
    return found
