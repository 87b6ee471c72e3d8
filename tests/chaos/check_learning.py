"""Learning follows from the log: losses, versions and predictions equal those of lines learned again, bit for bit."""

from __future__ import annotations

from collections import defaultdict
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.chaos.check_ids import MADE, OUTCOMES
from tests.chaos.findings import Findings
from tests.chaos.topics import Log, Record

from everloop_learning.baseline import Baseline, RunningLabels
from everloop_learning.losses import Losses, ServedErrors
from everloop_models import OnlineModel, build, verify_and_load
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec

CHALLENGES, TRAINED, RUNS = "training.challenge_updated.v1", "training.model_trained.v1", "training.run_requested.v1"
EVALUATED = "monitoring.evaluation_updated.v1"
Table = dict[tuple[str, int], float]
Scale = tuple[float, ServedErrors]
"""Losses by line (or version) and offset."""


@dataclass
class ReplayedLine:
    """A line learned again: its losses, and predictions of its model at the offsets of its versions."""

    losses: dict[int, float]
    probes: dict[int, list[Any]]


def check_learning(log: Log, loop: str, spec: LoopSpec, findings: Findings) -> None:
    """What training published about a loop, against its outcome log."""
    outcomes = _learnable(log, loop)
    table = _table(log, loop, CHALLENGES, "losses of a line are published once", findings)
    published = {offset for line, offset in table if line == "0"}
    wanted = {r.offset for r in outcomes}
    findings.expect("every outcome has its losses", published == wanted, f"{loop}: {sorted(published ^ wanted)[:20]}")
    scales, baseline = _scales(outcomes, spec)
    _compare(loop, "0", baseline, table, findings)
    versions = _versions(log, loop)
    for record in log.first(RUNS, loop).values():
        data = record.data
        at = {v.data["offset"]: v for v in versions.values() if v.data["line"] == data["line"]}
        line = _learn_again(data, spec, outcomes, scales, at)
        _compare(loop, data["line"], line.losses, table, findings)
        for offset, probe in line.probes.items():
            same = probe == _probe(_load(at[offset]), outcomes)
            findings.expect("a version equals the line learned again", same, f"{loop} {data['line']}@{offset}")
    _check_predictions(log, loop, versions, findings)


def check_evaluations(log: Log, loop: str, findings: Findings) -> None:
    """Monitoring evaluated each first label once."""
    table = _table(log, loop, EVALUATED, "losses of a version are published once", findings)
    first = {r.event["subject"]: r for r in reversed(list(log.of(OUTCOMES, loop)))}
    wanted = {r.offset for r in first.values() if r.data.get("label") is not None}
    published = {offset for _, offset in table}
    findings.expect("every outcome is evaluated", published == wanted, f"{loop}: {sorted(published ^ wanted)[:20]}")


def _learnable(log: Log, loop: str) -> list[Record]:
    """The first outcomes with a label; a duplicate record is learned once, at its first offset."""
    first = {r.event["id"]: r for r in reversed(list(log.of(OUTCOMES, loop)))}
    found = [r for r in first.values() if r.data["correction"] == 0 and r.data.get("label") is not None]
    return sorted(found, key=lambda r: r.offset)


def _table(log: Log, loop: str, topic: str, claim: str, findings: Findings) -> Table:
    table: Table = {}
    for record in log.of(topic, loop):
        for line, losses in record.data["losses"].items():
            for offset, loss in zip(record.data["offsets"], losses, strict=True):
                if loss is not None:
                    before = table.setdefault((line, offset), loss)
                    what = f"{loop} {line} at {offset}: {before} and {loss}"
                    findings.expect(claim, before == loss, what)
    return table


def _scales(outcomes: list[Record], spec: LoopSpec) -> tuple[list[Scale], dict[int, float]]:
    """The scale of the loss function at each outcome, and the losses of the baseline."""
    losses, labels = Losses(spec), RunningLabels(spec.task == "regression")
    baseline, scales, found = Baseline(spec, labels), list[Scale](), dict[int, float]()
    for record in outcomes:
        label = record.data["label"]
        scales.append((losses.spread.width, copy(losses.served)))
        found[record.offset] = losses.loss(label, *baseline.predict())
        labels.add(label)
        losses.learn(label, record.data["prediction"])
    return scales, found


def _learn_again(
    run: dict[str, Any], spec: LoopSpec, outcomes: list[Record], scales: list[Scale], at: dict[int, Record]
) -> ReplayedLine:
    model, losses = build(ModelSpec.model_validate(run["model"]), spec), Losses(spec)
    line = ReplayedLine({}, {})
    for record, scale in zip(outcomes, scales, strict=True):
        if record.offset < run["start_offset"]:
            continue
        losses.spread.width, losses.served = scale
        predicted = model.predict(record.data["features"])
        loss = losses.loss(record.data["label"], predicted.value, predicted.probabilities)
        model.learn(record.data["features"], record.data["label"])
        if record.offset > run["requested_offset"]:
            line.losses[record.offset] = loss
        if record.offset in at:
            line.probes[record.offset] = _probe(model, outcomes)
    return line


def _compare(loop: str, line: str, losses: dict[int, float], table: Table, findings: Findings) -> None:
    for (name, offset), published in table.items():
        if name == line:
            again = losses.get(offset)
            what = f"{loop} {line} at {offset}: published {published}, learned again {again}"
            findings.expect("losses equal a line learned again", published == again, what)


def _versions(log: Log, loop: str) -> dict[str, Record]:
    return {r.data["version"]: r for r in log.of(TRAINED, loop)}


def _load(record: Record) -> OnlineModel:
    data = record.data
    return verify_and_load(Path(urlsplit(data["uri"]).path).read_bytes(), data["sha256"])


def _probe(model: OnlineModel, outcomes: list[Record]) -> list[Any]:
    return [tuple(model.predict(r.data["features"])) for r in outcomes[::7]]


def _check_predictions(log: Log, loop: str, versions: dict[str, Record], findings: Findings) -> None:
    """A prediction follows from features and artifact; version 0 counts labels as they arrive, and is left out."""
    by_version: dict[str, list[tuple[str, Any, dict[str, Any]]]] = defaultdict(list)
    for record in log.of(MADE, loop):
        for made in (record.data, *record.data["shadows"]):
            by_version[made["version"]].append((record.event["subject"], made, record.data["features"]))
    for version, predictions in by_version.items():
        if version == "0":
            continue
        model = _load(versions[version]) if version in versions else None
        findings.expect("a served version was trained", model is not None, f"{loop} {version}")
        for subject, made, features in predictions if model else []:
            assert model is not None
            again = model.predict(features)
            same = (again.value, again.probabilities) == (made["prediction"], made.get("probabilities"))
            what = f"{loop} {subject} by {version}: {made['prediction']}, again {again.value}"
            findings.expect("a prediction replays from its artifact", same, what)
