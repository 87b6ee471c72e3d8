"""What becomes of the lines of a loop when it gets another spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from everloop_learning.line_identity import ADDED_MODEL_OFFSETS, model_key, slug
from everloop_learning.version import line_of
from everloop_models.formats import RANDOM_SEED
from everloop_registry.domain.loop import Loop
from everloop_registry.domain.run_records import REQUESTED, model_parameters
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.registry import BASELINE

LineState = Literal["kept", "retrained", "new", "ends"]


OF_RUN = frozenset({"trigger", "start_offset", REQUESTED})
"""The parameters of a run that are not its model's."""
DEFAULTS = {"seed": str(RANDOM_SEED)}
"""What a run says once a version of it is registered, and a spec only where it is another."""


class SpecLine(NamedTuple):
    """A line that a model of some revision's spec has got, with the parameters of its run."""

    line: str
    parameters: Mapping[str, str]


class LineChange(BaseModel):
    """A line by name, None where it has none yet, with its model in short, and what becomes of it.

    `retrained`: the model has other parameters, so that a fresh line learns, and the one before ends.
    """

    model_config = ConfigDict(frozen=True)

    line: str | None
    model: str
    state: LineState
    detail: str = ""


def compare_lines(loop: Loop, after: Sequence[ModelSpec], known: Sequence[SpecLine]) -> list[LineChange]:
    """Each line that is at work or begins, by the rules of training. `known` are the lines of specs, oldest first."""
    old = {model_key(model): model for model in loop.spec.models}
    new = {model_key(model): model for model in after}
    lines = {key: _line_of_model(model, known) for key, model in old.items()}
    gone = [slug(model) for key, model in old.items() if key not in new]
    needed, changes = needed_lines(loop), list[LineChange]()
    for key, model in new.items():
        name = slug(model)
        if key in old:
            role = needed.get(lines[key] or "", "")
            changes.append(LineChange(line=lines[key], model=name, state="kept", detail=role))
        elif name in gone:
            gone.remove(name)
            changes.append(LineChange(line=None, model=name, state="retrained", detail=_beginning(model)))
        else:
            changes.append(LineChange(line=None, model=name, state="new", detail=_beginning(model)))
    changes += [_removed(lines[key], model, needed) for key, model in old.items() if key not in new]
    named = {change.line for change in changes}
    others = ((line, role) for line, role in needed.items() if line not in named)
    return changes + [LineChange(line=n, model=n.rpartition("-")[0], state="kept", detail=role) for n, role in others]


def new_lines(models: Sequence[ModelSpec]) -> Iterator[LineChange]:
    """The lines of a loop that does not exist yet."""
    for model in {model_key(model): model for model in models}.values():
        yield LineChange(line=None, model=slug(model), state="new", detail="from the first outcome on")


def needed_lines(loop: Loop) -> dict[str, str]:
    """The lines that go on whether a model of the spec is theirs or not, and why."""
    before = loop.previous_champion
    needed = {line_of(before.version): "served before the champion"} if before else {}
    needed |= {submission.line: "a submitted model" for submission in loop.submissions}
    needed |= {loop.winner: "has passed the gate"} if loop.winner else {}
    needed |= {line_of(loop.candidate.version): "in rollout"} if loop.candidate else {}
    needed |= {line_of(loop.champion.version): "champion"}
    needed.pop(BASELINE, None)
    return needed


def _removed(line: str | None, model: ModelSpec, needed: Mapping[str, str]) -> LineChange:
    if line is not None and line in needed:
        detail = f"{needed[line]}; no model of the spec any more, it ends once nothing needs it"
        return LineChange(line=line, model=slug(model), state="kept", detail=detail)
    return LineChange(line=line, model=slug(model), state="ends", detail="with the next outcome")


def _beginning(model: ModelSpec) -> str:
    if model.kind != "online":
        return "from the next outcome on; it predicts once it was trained"
    return f"with the next outcome: it learns the log from up to {ADDED_MODEL_OFFSETS:,} offsets before"


def _line_of_model(model: ModelSpec, known: Sequence[SpecLine]) -> str | None:
    """The last line of this model; None where it has none yet."""
    said = DEFAULTS | model_parameters(model)
    return next((one.line for one in reversed(known) if _of_model(one.parameters) == said), None)


def _of_model(parameters: Mapping[str, str]) -> dict[str, str]:
    return DEFAULTS | {name: value for name, value in parameters.items() if name not in OF_RUN}
