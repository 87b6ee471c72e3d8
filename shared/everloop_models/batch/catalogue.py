"""The estimators that batch lines may be made of, each of which `survey.py` saw become an equal ONNX model."""

from __future__ import annotations

import json
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import NamedTuple

from everloop_models.batch.parameters import Kind, read_kind

FILE = Path(__file__).with_name("catalogue.json")
"""Written by `python -m everloop_models.batch.survey`, so that a service without these libraries can check a spec."""
CLASSIFICATION = ("binary", "multiclass")


class Entry(NamedTuple):
    """An estimator: the tasks that it is for, and what each of its parameters may be."""

    tasks: tuple[str, ...]
    parameters: dict[str, tuple[Kind, ...]]


@cache
def catalogue() -> dict[str, Entry]:
    """Every estimator by its path."""
    read = json.loads(FILE.read_text())
    return {
        path: Entry(
            tuple(entry["tasks"]),
            {name: tuple(read_kind(kind) for kind in kinds) for name, kinds in entry["parameters"].items()},
        )
        for path, entry in read.items()
    }


def paths_for(task: str, like: str = "") -> list[str]:
    """Up to three estimators for a task, those with the names most like `like`."""
    fitting = [path for path, entry in catalogue().items() if task in entry.tasks]
    usual = [p for p in fitting if p.rpartition(".")[2].startswith(("HistGradient", "RandomForest", "LGBM"))]
    return get_close_matches(like, fitting, n=3, cutoff=0.6) or usual[:3]
