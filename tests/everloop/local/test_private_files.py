"""What an installation keeps is its owner's alone, whatever the umask of the shell that started it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from everloop.local import processes
from everloop.local.discovery import write_json
from everloop_shared.settings import PRIVATE_UMASK


@pytest.fixture
def usual_umask() -> Iterator[None]:
    """The umask that most shells have."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    """Everything below a folder that its group or others may look into."""
    found = [path for path in folder.rglob("*") if not path.is_symlink()]
    return [str(path) for path in found if stat.S_IMODE(path.lstat().st_mode) & PRIVATE_UMASK]


@pytest.mark.usefixtures("usual_umask")
def test_what_an_installation_starts_writes_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir(mode=0o700)
    command = ("sh", "-c", f"echo started; mkdir {tmp_path}/made; touch {tmp_path}/made/file")

    processes.spawn(command, tmp_path / "logs" / "one.log", parent_death_signal=None).wait(10)
    write_json(tmp_path / "services.json", {})

    assert len(list(tmp_path.rglob("*"))) == 5
    assert open_to_others(tmp_path) == []


SERVICE = """
import sys
from pathlib import Path
from everloop_shared.process import run
from everloop_shared.settings import Settings

def build():
    folder = Settings(data=Path(sys.argv[1])).folder("ingest")
    (folder / "file").touch()
    raise SystemExit(0)

run(build)
"""


def test_a_service_writes_for_its_owner_alone(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", SERVICE, str(tmp_path / "installation")], check=True, umask=0o022, timeout=30)

    assert (tmp_path / "installation" / "ingest" / "file").exists()
    assert open_to_others(tmp_path) == []


@pytest.mark.process
@pytest.mark.timeout(240)
def test_a_whole_installation_keeps_everything_for_its_owner_alone(tmp_path: Path) -> None:
    everloop = [str(Path(sys.executable).with_name("everloop"))]
    place = ["--data", str(tmp_path / "installation")]
    try:
        up = [*everloop, "up", "--bus", "memory", "--ports", "auto", "--detach", *place]
        subprocess.run(up, check=True, umask=0o022, timeout=110, stdout=subprocess.DEVNULL)

        assert len(list(tmp_path.rglob("*"))) > 5
        assert open_to_others(tmp_path) == []
    finally:
        subprocess.run([*everloop, "down", *place], timeout=110, stdout=subprocess.DEVNULL, check=False)
