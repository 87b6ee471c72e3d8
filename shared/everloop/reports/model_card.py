"""The facts of a model card (Mitchell et al., "Model Cards for Model Reporting", FAT* 2019) about one version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from everloop.reports.charts import line_of
from everloop.reports.facts import LoopFacts

MAX_DECISIONS, MAX_ALERTS = 50, 20
BASELINE = "0"
SLOTS = ("champion", "candidate")
_APPROVALS = ("approval_requested", "candidate_approved")
DECISIONS = (
    "version_registered",
    "gate_decided",
    "rollout_changed",
    *_APPROVALS,
    "model_promoted",
    "model_rolled_back",
)
"""Decisions that a card tells; refreshes are too many."""
Card = Mapping[str, Any]


class VersionNotKnown(Exception):
    """The registry has no such version of the loop; the message has the fix."""


def build_card(facts: LoopFacts, version: str) -> dict[str, Any]:
    """The card by section; a section is None where no service answered what it needs. Raises VersionNotKnown.

    `version` is a name, or `champion` or `candidate` for the one in that slot.
    """
    found = _find(facts, version)
    manifest, spec = found["manifest"], (facts.part("state") or {}).get("spec") or {}
    return {
        "loop": facts.loop,
        "version": found["version"],
        "details": _details(found),
        "intended_use": _intended_use(facts.loop, spec),
        "training": _training(manifest, _run(facts, found["run"])),
        "evaluation": _evaluation(facts, found),
        "groups": _groups(facts, found),
        "fairness": _fairness(facts, found),
        "importance": _importance(facts, found),
        "decisions": list(_decisions(facts, found)),
        "limitations": _limitations(facts, found),
    }


def _find(facts: LoopFacts, version: str) -> Mapping[str, Any]:
    versions = facts.rows("versions", "versions")
    for one in versions:
        if version in (one["version"], one["slot"] if one["slot"] in SLOTS else None):
            return one
    if version in (BASELINE, *SLOTS):
        why = f"version {BASELINE} of {facts.loop} is its baseline, the running majority class or mean: it has no card"
        raise VersionNotKnown(why if version != "candidate" else f"{facts.loop} has no candidate now")
    newest = ", ".join(one["version"] for one in versions[-3:]) or "none yet"
    known = f"the newest: {newest} (everloop versions {facts.loop})"
    raise VersionNotKnown(f"{facts.loop} has no version {version!r}; {known}")


def _details(version: Mapping[str, Any]) -> dict[str, Any]:
    manifest = version["manifest"]
    return {
        "line": version["line"],
        "slot": version["slot"],
        "registered": version["registered"],
        "reason": version["reason"],
        "format": manifest.get("format"),
        "model": manifest["model"],
        "seed": manifest.get("seed"),
        "libraries": manifest.get("libraries", {}),
        "inputs": list(version["signature"]),
        "sha256": version["sha256"],
        "size": version["size"],
        "loop_revision": manifest["loop_revision"],
    }


def _intended_use(loop: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    fields = {
        name: {key: field[key] for key in ("type", "min", "max", "enum", "missing") if field.get(key) is not None}
        for name, field in (spec.get("schema") or {}).items()
    }
    return {"loop": loop, "task": spec.get("task"), "metric": spec.get("metric"), "fields": fields}


def _run(facts: LoopFacts, name: str) -> Mapping[str, Any] | None:
    return next((run for run in facts.rows("runs", "runs") if run.get("run") == name), None)


def _training(manifest: Mapping[str, Any], run: Mapping[str, Any] | None) -> dict[str, Any]:
    data_set = manifest.get("data_set") or (run or {}).get("data_set")
    return {
        "topic": manifest.get("topic"),
        "partition": manifest.get("partition"),
        "start_offset": manifest["start_offset"],
        "end_offset": manifest["end_offset"],
        "outcomes": manifest["outcomes"],
        "skipped": list(manifest.get("skipped") or ()),
        "data_set": data_set,
        "run": run and {key: run.get(key) for key in ("run", "trigger", "reason", "requested", "finished", "state")},
        "reported_metrics": manifest.get("metrics") or {},
    }


def _evaluation(facts: LoopFacts, version: Mapping[str, Any]) -> dict[str, Any] | None:
    """The version's own figures where monitoring has them, else those of its line, beside the baselines."""
    evaluation = facts.part("evaluation")
    if evaluation is None:
        return None
    line = next((one for one in facts.rows("evaluation", "lines") if one["line"] == version["line"]), None)
    quality = _group_of(facts, "version", version["version"]) or _group_of(facts, "line", version["line"])
    return {
        "metric": evaluation["metric"],
        "line_metric": evaluation["line_metric"],
        "line": line and {key: line[key] for key in ("outcomes", "served", "score", "score_served", "rolling")},
        "served": {key: evaluation.get(key) for key in ("served", "rolling", "no_change", "majority")},
        "quality": quality,
        "baselines": (facts.part("quality") or {}).get("baselines"),
    }


def _group_of(facts: LoopFacts, by: str, name: str) -> Mapping[str, Any] | None:
    groups = facts.rows("quality", "groups")
    found = next((one for one in groups if one.get("by") == by and one.get("name") == name), None)
    if not found or not found.get("outcomes"):
        return None
    return {"of": by, **{key: found.get(key) for key in ("outcomes", "whole", "rolling", "interval")}}


def _groups(facts: LoopFacts, version: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The slices of what was served: a champion's own where it serves, and nobody else's figures."""
    if facts.part("quality") is None:
        return None
    keys = ("slice", "name", "outcomes", "whole", "rolling", "interval")
    return [{k: one.get(k) for k in keys} for one in facts.rows("quality", "groups") if one.get("by") == "slice"]


def _fairness(facts: LoopFacts, version: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    if facts.part("fairness") is None:
        return None
    return [one for one in facts.rows("fairness", "fields") if _is_of(one, version)]


def _is_of(row: Mapping[str, Any], version: Mapping[str, Any]) -> bool:
    line = row.get("line") or str(row.get("version", "")).rpartition("@")[0]
    return bool(line == version["line"])


def _importance(facts: LoopFacts, version: Mapping[str, Any]) -> Mapping[str, float] | None:
    if version.get("importance"):
        return dict(version["importance"])
    found = facts.rows("importance", "versions")
    return next((dict(one["importance"]) for one in found if one["version"] == version["version"]), None)


def _decisions(facts: LoopFacts, version: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The latest decisions about the version and its line, oldest first, with their evidence."""
    told = [one for one in facts.rows("history", "decisions") if _is_about(one, version)]
    for one in told[-MAX_DECISIONS:]:
        data = {key: value for key, value in one["data"].items() if key != "model"}
        row = {"time": one["time"], "decision": _kind(one), "about": one["subject"], "by": one.get("actor")}
        yield {**row, "data": data}


def _is_about(decision: Mapping[str, Any], version: Mapping[str, Any]) -> bool:
    """Whether a decision is about the version, or about its line: another version of it that was promoted, say."""
    kind, named = _kind(decision), _names(decision)
    if kind == "version_registered":
        return version["version"] in named
    return kind in DECISIONS and version["line"] in {line_of(str(name)) for name in named}


def _kind(decision: Mapping[str, Any]) -> str:
    return str(decision["type"]).removeprefix("registry.").removesuffix(".v1")


def _names(decision: Mapping[str, Any]) -> set[Any]:
    data = decision["data"]
    return {decision["subject"], *(data.get(key) for key in ("version", "rolled_back", "candidate", "line", "winner"))}


def _limitations(facts: LoopFacts, version: Mapping[str, Any]) -> dict[str, Any]:
    drifted = [one for one in facts.rows("features", "features") if one.get("drifted")]
    since = version["registered"]
    return {
        "alerts": [{key: one.get(key) for key in ("kind", "what", "since", "cause")} for one in facts.rows("alerts")][
            -MAX_ALERTS:
        ],
        "drifts": [
            {key: one[key] for key in ("time", "what", "why")} for one in facts.rows("drifts") if one["time"] >= since
        ][-MAX_ALERTS:],
        "personal_features": list((facts.part("features") or {}).get("personal") or ()),
        "drifted_features": [{k: one.get(k) for k in ("name", "detector", "distance", "since")} for one in drifted],
    }
