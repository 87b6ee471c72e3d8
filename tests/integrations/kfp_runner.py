"""Runs one component by KFP's local runner, in the environment of KFP; prints what it gave as JSON.

Arguments: the folder for artifacts, a component's name, and its inputs as JSON.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any


def main() -> None:
    """Run it; a task that fails ends the process with status 1."""
    import everloop_kfp  # type: ignore[import-not-found]
    from kfp import local  # type: ignore[import-not-found]

    root, name, inputs = sys.argv[1:]
    warnings.simplefilter("ignore")
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=root)
    task = getattr(everloop_kfp, name)(**json.loads(inputs))
    sys.stdout.write(f"\n{json.dumps({key: _shown(value) for key, value in task.outputs.items()})}\n")


def _shown(value: Any) -> Any:
    return {"path": value.path, "metadata": value.metadata} if hasattr(value, "metadata") else value


if __name__ == "__main__":
    main()
