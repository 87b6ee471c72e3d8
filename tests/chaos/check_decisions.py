"""Decisions are one unbroken chain that the registry's database is a fold of; monitoring's totals equal a recount."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.chaos.check_ids import EVENTS, MADE, OBSERVED, OUTCOMES
from tests.chaos.findings import Findings
from tests.chaos.topics import Log, Record

DECIDED, STATE = "registry.decided.v1", "registry.loop_state.v1"
PROMOTED, ROLLED_BACK, REGISTERED = (
    f"registry.{what}.v1" for what in ("model_promoted", "model_rolled_back", "version_registered")
)


def check_decisions(log: Log, loop: str, findings: Findings) -> None:
    """Numbered without a gap, each with the hash of the previous one; the state is that of the last one."""
    decided: dict[int, Record] = {}
    for record in log.of(DECIDED, loop):
        number = record.event["sequence"]
        expected = decided.setdefault(number, record)
        findings.expect("duplicates of a decision are equal", expected.raw == record.raw, f"{loop} {number}")
    findings.expect("decisions are in order", list(decided) == sorted(decided), f"{loop}: {list(decided)}")
    findings.expect("no decision is missing", sorted(decided) == list(range(len(decided))), f"{loop}: {list(decided)}")
    for number in sorted(decided)[1:]:
        if number - 1 in decided:
            chained = decided[number].event["prevhash"] == sha256(decided[number - 1].raw).hexdigest()
            findings.expect("decisions are chained", chained, f"{loop} {number}")
    states = [r.data["sequence"] for r in log.of(STATE, loop)]
    findings.expect("the loop's state is the last decision's", states[-1:] == [max(decided)], f"{loop}: {states[-3:]}")


def check_dead_letters(log: Log, poison: Collection[bytes], findings: Findings) -> None:
    """No acknowledged record is a dead letter; a dead letter has the bytes and the reason."""
    for topic, records in log.records.items():
        for record in records if topic.endswith(".dead_letter.v1") else []:
            if record.raw in poison:
                continue
            data = record.data
            original = next((r for r in log.records[data["topic"]] if (r.partition, r.offset) == _place(data)), None)
            complete = original is not None and b64decode(data.get("value") or "") == original.raw
            what = (
                f"{topic} {data['topic']}/{data['partition']}/{data['offset']} {data['error']}: {data['reason'][:200]}"
            )
            findings.expect(
                "a dead letter has its bytes and a reason", complete and data["reason"] and data["error"], what
            )
            findings.expect("no valid record is a dead letter", original is not None and original.raw in poison, what)


def _place(data: dict[str, Any]) -> tuple[int, int]:
    return data["partition"], data["offset"]


def recount(log: Log, loop: str) -> dict[str, Any]:
    """The numbers of `everloop status`, counted on the topics."""
    outcomes: dict[str, Record] = {}
    for record in log.of(OUTCOMES, loop):
        before = outcomes.setdefault(record.event["subject"], record)
        if record.data["correction"] > before.data["correction"]:
            outcomes[record.event["subject"]] = record
    decided = log.first(DECIDED, loop).values()
    trained = {r.data["version"] for r in log.of("training.model_trained.v1", loop)}
    registered = {r.data["model"]["version"] for r in decided if r.event["type"] == REGISTERED}
    parked = {r.event["id"] for t, rs in log.records.items() if ".dead_letter." in t for r in rs if _loop(r) == loop}
    return {
        "events": len({r.event["id"] for t in (EVENTS, OBSERVED) for r in log.of(t, loop)}),
        "predictions": len({r.event["subject"] for r in log.of(MADE, loop)}),
        "outcomes": len(outcomes),
        "dead_letters": len(parked),
        "drifts": len(log.first("monitoring.drift_detected.v1", loop)),
        "runs": len(log.first("training.run_requested.v1", loop)),
        "versions": 1 + len(trained | registered),
        "promotions": sum(r.event["type"] == PROMOTED for r in decided),
        "rollbacks": sum(r.event["type"] == ROLLED_BACK for r in decided),
        "served": _served(list(outcomes.values())),
    }


def _loop(record: Record) -> str:
    return str(record.event.get("loop", ""))


def _served(outcomes: list[Record]) -> float:
    """The accuracy of the served predictions, or for numbers their mean absolute error, by the last labels."""
    scored: list[tuple[Any, Any]] = [
        (r.data["prediction"], r.data["label"]) for r in outcomes if r.data.get("label") is not None
    ]
    if not scored:
        return 0.0
    if isinstance(scored[0][1], bool):
        return float(sum(predicted == label for predicted, label in scored) / len(scored))
    return float(sum(abs(predicted - label) for predicted, label in scored) / len(scored))


def equal_totals(counted: dict[str, Any], status: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where the recount and monitoring's status differ: (counted, reported)."""
    reported = {**status, "served": status.get("accuracy", {}).get("served", -1)}
    differ = {k: (v, reported.get(k)) for k, v in counted.items() if v != reported.get(k)}
    if "served" in differ and abs(differ["served"][0] - differ["served"][1]) < 1e-9:
        del differ["served"]  # sums in another order
    return differ


def check_registry_rebuild(folder: Path, bootstrap: str, findings: Findings) -> None:
    """The fold of the topic into an empty database gives the dump of the one in use."""
    fresh = folder / "rebuilt.db"
    fresh.unlink(missing_ok=True)
    env = {**os.environ, "EVERLOOP_DATA": str(folder), "EVERLOOP_KAFKA_BOOTSTRAP": bootstrap}
    elsewhere = {**env, "EVERLOOP_REGISTRY_DATABASE_URL": f"sqlite:///{fresh}"}
    used = _registry("dump", env)
    _registry("rebuild", elsewhere)
    rebuilt = _registry("dump", elsewhere)
    same = json.loads(used) == json.loads(rebuilt) if used and rebuilt else False
    findings.expect("the registry's dump equals a rebuild", same, f"{used[:200]} <> {rebuilt[:200]}")


def _registry(command: str, env: dict[str, str]) -> str:
    arguments = [sys.executable, "-m", "everloop_registry", command]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, env=env, check=False)
    return done.stdout if done.returncode == 0 else ""
