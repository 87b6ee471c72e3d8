"""Loop files as the clients apply them: their text, whose loop it is, and what applying it has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from everloop.errors import LoopFileInvalid, LoopNameInvalid
from everloop.wire import to_json
from everloop_schemas.names import LOOP_NAME_RULE, is_loop_name

LoopFile = str | PathLike[str] | Mapping[str, Any]
"""The text of a loop file, the path of one, or what is in one. A `str` is text, so that no text is taken for a path."""
DATA_PATH = ("ingest", "feature", "serving")
"""The services that must use a revision before `apply` returns."""
APPLIED_WITHIN_S = 60.0
POLL_EVERY_S = 0.05
YAML = "application/yaml"


@dataclass(frozen=True)
class Applied:
    """A loop file that every service on the data path uses; `change` is created, changed or unchanged.

    >>> from everloop import Everloop
    >>> with Everloop() as everloop:
    ...     applied = everloop.apply("loop: market\\ntask: binary\\nschema: {price: {type: number}}")
    >>> applied.loop, applied.revision, applied.change
    ('market', 3, 'unchanged')
    """

    loop: str
    revision: int
    change: str


def read_loop_file(file: LoopFile) -> tuple[str, bytes]:
    """The loop's name, and the file as it is sent. Raises LoopFileInvalid, LoopNameInvalid."""
    if isinstance(file, Mapping):
        return _name_in("the loop file", file), to_json(file)
    name, text = ("the loop file", file) if isinstance(file, str) else (str(Path(file)), _read_text(Path(file)))
    from everloop_shared.yaml_core import read_yaml  # the other methods wait for no import of YAML

    try:
        spec = read_yaml(text)
    except (ValueError, RecursionError) as e:
        raise LoopFileInvalid(f"{name} is not YAML: {e}") from e
    if not isinstance(spec, dict):
        hint = "; the path of a file is given as pathlib.Path" if isinstance(file, str) and "\n" not in file else ""
        raise LoopFileInvalid(f"{name} is no loop file: it needs loop, task and schema as keys{hint}")
    return _name_in(name, spec), text.encode()


def change_of(before: int | None, revision: int) -> str:
    """What applying a file has done, by the revisions before it and after."""
    return "created" if before is None else "unchanged" if before == revision else "changed"


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as e:
        raise LoopFileInvalid(f"{file} cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise LoopFileInvalid(f"{file} is no text in UTF-8") from e


def _name_in(file: str, spec: Mapping[str, Any]) -> str:
    name = spec.get("loop")
    if name is None:
        raise LoopFileInvalid(f"loop: is missing in {file}; it {LOOP_NAME_RULE}, such as churn-2")
    if not isinstance(name, str) or not is_loop_name(name):
        raise LoopNameInvalid(f"loop: {str(name)[:80]!r} {LOOP_NAME_RULE}, such as churn-2")
    return name
