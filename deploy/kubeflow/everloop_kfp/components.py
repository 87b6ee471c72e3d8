"""The steps of a loop as components. KFP sends the text of each function, so it imports what it needs by itself."""

# KFP reads the annotations as types: they must not become texts.
from typing import NamedTuple, Optional

from kfp.dsl import Dataset, Input, Model, Output

from everloop_kfp.images import component


@component()
def apply_loop(loop_file: str) -> NamedTuple("Applied", [("loop", str), ("revision", int), ("change", str)]):
    """Apply a loop file, given as its text. The same file again changes nothing."""
    from collections import namedtuple

    from everloop import Everloop

    with Everloop() as everloop:
        applied = everloop.apply(loop_file)
    return namedtuple("Applied", ["loop", "revision", "change"])(applied.loop, applied.revision, applied.change)


@component()
def retrain(loop: str, reason: str = "requested by a pipeline", key: str = "") -> str:
    """Start a run; its id. The same key again is the same run: with the name of the job, a retry starts no second."""
    from everloop import Everloop

    with Everloop() as everloop:
        run = everloop.retrain(loop, reason=reason, key=key or None)["run"]
    if run is None:
        raise RuntimeError(f"{loop} has no outcome to learn yet")
    return run


@component()
def export_data_set(
    data_set: Output[Dataset], loop: str, last: int = 0, since: str = "", until: str = ""
) -> NamedTuple("Exported", [("name", str), ("rows", int), ("digest", str)]):
    """Write what models learn of a loop as CSV: its last outcomes, those between two times, or all.

    The artifact's metadata has the features; `name` is the data set's for good, and the digest that of its rows.
    """
    from collections import namedtuple

    from everloop import Everloop

    with Everloop() as everloop:
        rows = everloop.dataset(loop, last=last or None, since=since or None, until=until or None)
    rows.to_csv(data_set.path)
    data_set.metadata.update(name=rows.name, digest=rows.digest, features=list(rows.features), label=rows.columns[-1])
    return namedtuple("Exported", ["name", "rows", "digest"])(rows.name, len(rows), rows.digest)


@component()
def submit_model(
    model: Input[Model],
    loop: str,
    name: str,
    features: Optional[list] = None,
    classes: Optional[list] = None,
    metrics: Optional[dict] = None,
    data_set: str = "",
) -> NamedTuple("Submitted", [("version", str), ("line", str), ("run", str), ("new", bool)]):
    """Submit an ONNX file, which challenges the champion. The same file under the same name is the same version."""
    from collections import namedtuple

    from everloop import Everloop

    described = {"features": features, "classes": classes, "metrics": metrics, "data_set": data_set or None}
    with Everloop() as everloop:
        submitted = everloop.submit(loop, model.path, name=name, **described)
    answer = namedtuple("Submitted", ["version", "line", "run", "new"])
    return answer(submitted.version, submitted.line, submitted.run, submitted.new)


@component()
def promote(loop: str, version: str = "", reason: str = "decided by a pipeline") -> str:
    """Make the candidate champion now, or a registered version; the champion's version. Again it changes nothing."""
    from everloop import Everloop

    with Everloop() as everloop:
        slots = {row["slot"]: row["version"] for row in everloop.versions(loop) if row["slot"]}
        if not version or slots.get("champion") != version:
            everloop.promote(loop, reason=reason, version=version or None)
        return next(row["version"] for row in everloop.versions(loop) if row["slot"] == "champion")


@component("data")
def backfill(
    loop: str,
    source: str,
    time: str = "",
    label: str = "",
    entity: str = "",
    id: str = "",
    from_loop: str = "",
) -> dict:
    """Load history into a loop, as `everloop backfill` does; the counts that it prints. Again it changes nothing.

    `source` is a file, a folder or a URL that the container can read; the others name columns.
    """
    import json
    import subprocess
    import sys

    given = {"time": time, "label": label, "entity": entity, "id": id, "from-loop": from_loop}
    options = [word for name, value in given.items() if value for word in (f"--{name}", value)]
    command = [sys.executable, "-m", "everloop", "backfill", loop, source, *options, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout.strip() or f"everloop backfill ended with status {done.returncode}")
    return json.loads(done.stdout)
