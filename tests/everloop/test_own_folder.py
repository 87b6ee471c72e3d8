"""Temporary folders of commands: nothing of them stays, also of commands that were killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from everloop.own_folder import own_folder


def test_what_a_killed_command_left_is_removed_by_the_next_and_what_others_use_stays(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from everloop.own_folder import own_folder\n"
        "folder = own_folder('rebuild', Path(sys.argv[1])); Path(folder.name, 'rows').write_text('clear')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    [left] = tmp_path.iterdir()
    foreign = tmp_path / "everloop-rebuild-notes"
    foreign.mkdir()

    with own_folder("rebuild", tmp_path) as first, own_folder("rebuild", tmp_path) as second:
        there = {path.name for path in tmp_path.iterdir()}

    assert left.name not in there
    assert there == {foreign.name, Path(first).name, Path(second).name}
    assert list(tmp_path.iterdir()) == [foreign]
