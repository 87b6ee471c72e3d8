"""What is compared before a worker of Ray calls anything, and what is said where Ray is not installed."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

import everloop_models
from everloop_models.compute import ray_worker
from everloop_models.compute.ray_driver import connected
from everloop_models.errors import WorkersUnfit


def test_a_package_that_is_not_installed_has_no_version() -> None:
    found = ray_worker.versions(["python", "numpy", "no-such-package"])

    assert found["python"].startswith("3.")
    assert found["numpy"][0].isdigit()
    assert found["no-such-package"] == ray_worker.LACKS


def test_other_code_of_the_project_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(everloop_models.__file__ or "").parent
    for file in (package / "__init__.py", package / "errors.py"):
        (tmp_path / "everloop_models").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "everloop_models")
    monkeypatch.setattr(ray_worker, "CODE", ("everloop_models",))
    monkeypatch.setattr(ray_worker, "find_spec", lambda name: _Found([str(tmp_path / name)]))

    before = ray_worker.code_version()
    (tmp_path / "everloop_models" / "errors.py").write_text("# other\n")
    after = ray_worker.code_version()

    assert before != after


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed here")
def test_without_ray_the_command_that_installs_it_is_named() -> None:
    with pytest.raises(WorkersUnfit, match=r"pip install 'everloop\[ray\]'"), connected("ray://127.0.0.1:1", []):
        pass


class _Found:
    def __init__(self, locations: list[str]) -> None:
        self.submodule_search_locations = locations
