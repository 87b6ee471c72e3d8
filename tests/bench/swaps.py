"""Predictions by REST while large forests take each other's place: what the requests under way notice of it."""

from __future__ import annotations

import json
import pickle
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench import stream
from tests.bench.bus import Bus
from tests.bench.figures import Figure, at_most
from tests.bench.rest import PATH, USUAL, Load, answered_by, bodies, generating, loaded, ours_served
from tests.bench.rest import load as load_by
from tests.bench.settings import Settings
from tests.bench.subject import Subject

from everloop_models import build, load, save
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LiveVersion

P999_MS = 50.0
FOREST = {"estimator": "river.forest.ARFClassifier", "n_models": 10, "seed": 1, "max_features": None}
EAGER = {"grace_period": 5, "delta": 0.9, "tau": 0.9, "leaf_prediction": "mc"}
"""With these a tree grows fast; what it has learned does not matter here."""


async def measure(settings: Settings) -> list[Figure]:
    """Two versions are champion in turn; each swap is over when serving answers with the new one."""
    two, seconds = forests(settings.folder / "swaps.", settings.swap_rows, settings.swap_mb), list[float]()
    async with ours_served(settings, "swaps.") as (subject, bus):
        await _swap(subject, bus, two[1], 1)  # warms up: the first one imports the forests' code
        usual = await load_by(subject, PATH, USUAL, settings.rest_requests, bodies())
        async with generating(subject, PATH, USUAL, 0, bodies()) as process:
            for number in range(settings.swaps):
                seconds.append(await _swap(subject, bus, two[number % 2], number + 2))
            process.send_signal(signal.SIGTERM)
            assert process.stdout is not None
            found = loaded(json.loads(await process.stdout.read()), 0.0)
    return _figures(settings, usual, found, seconds, (two[0].size or 0) / 1e6)


def _figures(settings: Settings, usual: Load, found: Load, seconds: list[float], size_mb: float) -> list[Figure]:
    """What it is without swaps stands in the place of the bare library."""
    what = f"REST, {settings.swaps} swaps of a {size_mb:.0f} MB forest"
    note = f"{found.answered:,} requests, {found.rate:,.0f} a second over {USUAL} connections; beside it without swaps"
    p999 = at_most(f"{what}, p99.9", [found.p999_us / 1000], P999_MS, "ms", note)
    p50 = at_most(f"{what}, p50", [found.p50_us / 1000], None, "ms")
    return [
        replace(p999, bare=usual.p999_us / 1000),
        replace(p50, bare=usual.p50_us / 1000),
        at_most(f"{what}, until it answers", seconds, None, "s"),
        at_most(f"{what}, failed", [found.failed], 0.0, "requests", " ".join("".join(found.failures[:1]).split())),
    ]


def forests(folder: Path, rows: int, size_mb: float) -> list[LiveVersion]:
    """Two versions of that size, with their artifacts in the folder of an installation.

    The trees learn labels by chance. To learn until they have the size would take minutes: leaves become copies of the
    whole tree instead.
    """
    spec = LoopSpec.model_validate(stream.spec() | {"models": [FOREST | EAGER]})
    model, dice = build(spec.models[0], spec), random.Random(1)
    for outcome in stream.outcomes(rows):
        model.learn(outcome.data.features, dice.random() < 0.5)
    learned = save(model)
    copies, versions = max(1, round(1e6 * size_mb / learned.size) - 1), list[LiveVersion]()
    for number in range(2):
        grown: Any = load(learned.data)
        for tree in grown.estimator.data:
            _graft(vars(tree)["_root"], copies, dice)
        versions.append(stream.stored(folder, f"forest-0@{number}", save(grown)))
    return versions


def _graft(root: Any, copies: int, dice: random.Random) -> None:
    """Put so many copies of a tree in place of some of its leaves."""
    leaves, branches, whole = list[tuple[list[Any], int]](), [root], pickle.dumps(root)
    while branches:
        children = branches.pop().children
        leaves += [(children, n) for n, child in enumerate(children) if not hasattr(child, "children")]
        branches += [child for child in children if hasattr(child, "children")]
    for children, n in dice.sample(leaves, min(copies, len(leaves))):
        children[n] = pickle.loads(whole)


async def _swap(subject: Subject, bus: Bus, version: LiveVersion, sequence: int) -> float:
    """Make it the champion, and wait until serving answers with it; the seconds that it took."""
    started = time.perf_counter()
    await bus.put(stream.state(champion=version, sequence=sequence))
    await answered_by(subject, version.version)
    return time.perf_counter() - started
