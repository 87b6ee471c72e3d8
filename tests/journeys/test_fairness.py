"""On a census that is biased by sex, the line that is right more often is held back, and one that is fair passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders.census import REQUIRED, blind_model, census, write_csv
from tests.journeys.installation import Installation, until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]
LOOP = "census"
SPEC = f"""
loop: {{loop}}
task: binary
schema:
  age: {{{{type: number}}}}
  education: {{{{type: number}}}}
  hours: {{{{type: number}}}}
  sex: {{{{type: string, enum: [female, male]}}}}
metric: roc_auc
models: [{{{{preset: logistic}}}}]
monitor: {{{{fairness: [sex]}}}}
gate: {{{{require: [accuracy >= 0.7, {REQUIRED}]}}}}
alerts: [{{{{alert: unequal, when: fairness.sex.equal_opportunity > 0.3}}}}]
"""
BLIND = "blind"
BREAKS = f"{REQUIRED} is required, and it is 0."
FIRST, SECOND = 500, 700


def test_a_biased_challenger_is_held_back_with_the_reason_and_a_fair_one_passes(
    installation: Installation, tmp_path: Path
) -> None:
    # given: a loop whose own model is told the sex, and is right more often than the baseline
    people = census(FIRST + SECOND)
    installation.apply(LOOP, SPEC)
    play(installation, write_csv(tmp_path / "first.csv", people[:FIRST]))
    assert installation.counted(LOOP, FIRST)["champion"]["version"] == "0"
    assert until(lambda: any(BREAKS in reason for reason in held(installation)), 90)

    # when: a model is submitted that is not told it
    file = tmp_path / f"{BLIND}.onnx"
    file.write_bytes(blind_model())
    done = installation.everloop("submit", LOOP, str(file))
    assert done.returncode == 0, done.stderr
    play(installation, write_csv(tmp_path / "second.csv", people[FIRST:]))

    # then: it serves, and the one that is right more often is still held back, with the reason for all to read
    champion = until(lambda: line_that_serves(installation), 90)
    assert champion == BLIND
    decided = installation.read("registry.decided.v1", LOOP)
    gate = [e["data"] for e in decided if e["type"] == "registry.gate_decided.v1"]
    [biased_line] = {d["line"] for d in gate if BREAKS in d["reason"]}
    assert biased_line.startswith("logistic-")  # and the offset of the loop's first outcome on a log that others share
    assert [d["line"].rpartition("-")[0] for d in gate if d["passed"]] == [BLIND]
    timeline = endpoint(installation, "monitoring", "timeline")
    assert any(entry["what"] == f"{biased_line} is held back against 0" for entry in timeline)
    challenges = [e["data"] for e in installation.read("training.challenge_updated.v1", LOOP)]
    compared = [block["losses"] for data in challenges for block in data["blocks"] if biased_line in block["losses"]]
    assert sum(sum(of[biased_line]) for of in compared) < 0.8 * sum(sum(of["0"]) for of in compared)  # it ranks better
    measures = challenges[-1]["measures"]
    biased, blind = (of for line, of in sorted(measures.items(), reverse=True))
    assert biased["accuracy"]["value"] > blind["accuracy"]["value"]
    name = REQUIRED.partition(" ")[0]
    assert biased[name]["low"] > 0.2 >= blind[name]["value"]
    fields = endpoint(installation, "monitoring", "fairness")["fields"]
    assert {(of["field"], of["champion"]) for of in fields} >= {("sex", True)}


def play(installation: Installation, file: Path) -> None:
    """Play people, their incomes a few rows later."""
    columns = ["--label-column", "income", "--label-delay", "10"]
    done = installation.everloop("replay", LOOP, str(file), *columns, "--rate", "200", "--json")
    assert done.returncode == 0, done.stderr


def held(installation: Installation) -> list[str]:
    """Why lines are held back now."""
    rollout: dict[str, Any] = endpoint(installation, "registry", "rollout")
    return list(rollout["held_back"].values())


def line_that_serves(installation: Installation) -> str:
    """The champion's line without its first offset; empty while version 0 serves."""
    version: str = endpoint(installation, "registry", "rollout")["champion"]
    return version.partition("@")[0].rpartition("-")[0]


def endpoint(installation: Installation, service: str, what: str) -> Any:
    """What an endpoint of the loop answers."""
    url = installation.services()[service]["url"]
    return httpx.get(f"{url}/v1/loops/{LOOP}/{what}").raise_for_status().json()
