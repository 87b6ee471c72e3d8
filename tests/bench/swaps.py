"""Predictions by REST while large forests take each other's place: what the requests under way notice of it."""

from __future__ import annotations

import json
import pickle
import random
import signal
from pathlib import Path

from tests.bench import stream
from tests.bench.bus import Bus
from tests.bench.figures import Figure, at_most
from tests.bench.rest import PATH, USUAL, Load, answered_by, bodies, generating, loaded, ours_served
from tests.bench.settings import Settings
from tests.bench.subject import Subject

from everloop_models import build, save
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LiveVersion

P999_MS = 50.0
FOREST = {"estimator": "river.forest.ARFClassifier", "n_models": 5, "seed": 1, "max_features": None}
EAGER = {"grace_period": 5, "delta": 0.9, "tau": 0.9, "leaf_prediction": "mc"}
"""With these a tree grows fast; what it has learned does not matter here."""


async def measure(settings: Settings) -> list[Figure]:
    """Two versions are champion in turn; each swap is over when serving answers with the new one."""
    two = forests(settings.folder / "swaps.", settings.swap_rows, settings.swap_mb)
    async with ours_served(settings, "swaps.") as (subject, bus):
        await _swap(subject, bus, two[1], 1)  # warms up: the first one imports the forests' code
        async with generating(subject, PATH, USUAL, 0, bodies()) as process:
            for number in range(settings.swaps):
                await _swap(subject, bus, two[number % 2], number + 2)
            process.send_signal(signal.SIGTERM)
            assert process.stdout is not None
            found = loaded(json.loads(await process.stdout.read()), 0.0)
    return _figures(settings, found, (two[0].size or 0) / 1e6)


def _figures(settings: Settings, found: Load, size_mb: float) -> list[Figure]:
    what = f"REST, {settings.swaps} swaps of a {size_mb:.0f} MB forest"
    note = f"{found.answered:,} requests, {found.rate:,.0f} a second over {USUAL} connections"
    return [
        at_most(f"{what}, p99.9", [found.p999_us / 1000], P999_MS, "ms", note),
        at_most(f"{what}, p50", [found.p50_us / 1000], None, "ms"),
        at_most(f"{what}, failed", [found.failed], 0.0, "requests"),
    ]


def forests(folder: Path, rows: int, size_mb: float) -> list[LiveVersion]:
    """Two versions of that size, with their artifacts in the folder of an installation.

    A few trees learn labels by chance; copies of them make up the size, which would take minutes to learn.
    """
    spec = LoopSpec.model_validate(stream.spec() | {"models": [FOREST | EAGER]})
    model, dice = build(spec.models[0], spec), random.Random(1)
    for outcome in stream.outcomes(rows):
        model.learn(outcome.data.features, dice.random() < 0.5)
    trees = vars(model.estimator)  # type: ignore[attr-defined]
    per_tree = [held for held in trees.values() if isinstance(held, list) and len(held) == FOREST["n_models"]]
    grown, copies = pickle.dumps(per_tree), round(1e6 * size_mb / save(model).size)
    versions = list[LiveVersion]()
    for number in range(max(1, copies) + 1):
        if number >= max(1, copies) - 1:
            versions.append(stream.stored(folder, f"forest-0@{number}", save(model)))
        for held, more in zip(per_tree, pickle.loads(grown), strict=True):
            held.extend(more)
    return versions


async def _swap(subject: Subject, bus: Bus, version: LiveVersion, sequence: int) -> None:
    """Make it the champion, and wait until serving answers with it."""
    await bus.put(stream.state(champion=version, sequence=sequence))
    await answered_by(subject, version.version)
