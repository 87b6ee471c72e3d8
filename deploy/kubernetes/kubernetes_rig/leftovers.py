"""What kubelet, kube-proxy and CNI leave on the machine, outside the rig's folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

RECORD = "machine.json"
RESULTS = Path("/var/lib/cni/results")
LOGS = Path("/var/log/containers")
PLUGINS = Path("/var/lib/kubelet/device-plugins")
FOLDERS = (RESULTS, RESULTS.parent, LOGS, PLUGINS, PLUGINS.parent)
"""The programs have these places compiled in; inner ones first."""
CHAIN = "KUBE-FIREWALL"
"""kube-proxy makes it for kubelet, and leaves it when it cleans up."""
PROGRAMS = ("iptables", "ip6tables")


def note_machine(folder: Path) -> None:
    """Record what is here before the rig, and stays."""
    found = {"folders": [str(each) for each in FOLDERS if each.exists()], "chains": [p for p in PROGRAMS if _has(p)]}
    (folder / RECORD).write_text(json.dumps(found, indent=1))


def remove_leftovers(folder: Path, network: str) -> None:
    """Remove the rig's files and chains; what was here before it, or is another's, stays."""
    _remove_files(folder, network)
    record = folder / RECORD
    if not record.exists():
        return
    found = json.loads(record.read_text())
    for program in PROGRAMS:
        if program not in found["chains"] and _has(program):
            _remove_chain(program)
    if str(PLUGINS) not in found["folders"]:
        (PLUGINS / "kubelet.sock").unlink(missing_ok=True)
    for place in FOLDERS:
        if str(place) not in found["folders"]:
            with contextlib.suppress(OSError):  # it is not there, or somebody else has put something into it
                place.rmdir()


def _remove_files(folder: Path, network: str) -> None:
    for link in LOGS.glob("*.log"):
        if link.is_symlink() and os.readlink(link).startswith(f"{folder}/"):
            link.unlink()
    of_pods = {each.name.removeprefix(f"{network}-").rpartition("-")[0] for each in RESULTS.glob(f"{network}-*")}
    for result in RESULTS.glob("*"):
        if any(f"-{pod}-" in result.name for pod in of_pods):
            result.unlink()


def _has(program: str) -> bool:
    return shutil.which(program) is not None and _run(program, "-S", CHAIN).returncode == 0


def _remove_chain(program: str) -> None:
    for source in ("INPUT", "OUTPUT"):
        for rule in _run(program, "-S", source).stdout.splitlines():
            if rule.endswith(f"-j {CHAIN}"):
                _run(program, "-D", source, "-j", CHAIN)
    _run(program, "-F", CHAIN)
    _run(program, "-X", CHAIN)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
