"""The process that learns a version again: `python -m everloop.rebuilding.learn FOLDER PARENT`.

It reads `request.json` and `rows.ndjson` in the folder, and writes `model.pkl`, and `answer.json` with the number of
`outcomes` that it learned, or the `reason` why there is no model. It ends with the process PARENT.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from everloop_learning.data_set import Row
from everloop_models import ModelBroken, build, save
from everloop_models.batch.child import ANSWER, REQUEST, ROWS
from everloop_schemas.envelope import Fields
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_shared.limited_child import end_with_the_parent

MODEL = "model.pkl"


def main(folder: Path, parent: int) -> None:
    """Learn as the request says."""
    end_with_the_parent(parent)
    answer: dict[str, int | str]
    try:
        answer = {"outcomes": _learn(folder)}
    except ModelBroken as e:
        answer = {"reason": e.detail[:1_000]}
    (folder / ANSWER).write_text(json.dumps(answer))


def _learn(folder: Path) -> int:
    request = json.loads((folder / REQUEST).read_bytes())
    spec, skipped = LoopSpec.model_validate(request["spec"]), set(request["skipped"])
    model, outcomes = build(ModelSpec.model_validate(request["model"]), spec), 0
    with (folder / ROWS).open("rb") as lines:
        for row in map(Row.decode, lines):
            if row.offset in skipped:
                continue
            features = in_order(row.features, spec.feature_names)
            model.predict(features)  # as its line did: what a prediction changes in a model belongs to it
            model.learn(features, row.label)
            outcomes += 1
    (folder / MODEL).write_bytes(save(model).data)
    return outcomes


def in_order(features: Fields, names: Sequence[str]) -> Fields:
    """The features in the order of the spec, in which they were learned: a row has them sorted by name.

    Sums of floating-point numbers depend on the order.
    """
    ordered = {name: features[name] for name in names if name in features}
    return ordered | features


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
