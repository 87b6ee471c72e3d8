"""Personal fields in the secured installation: who reaches their keys, and that no value shows outside of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.builders.personal import found_in
from tests.compose.stack import Stack
from tests.compose.test_compose import until
from tests.compose.test_secured_compose import inside

from everloop import Everloop
from everloop.local.personal import OPENING
from everloop_schemas.topology import SERVICES

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1200)]
LOOP, PERSON, OTHER, ROWS = "patients", "person-7", "person-8", 20
SPEC = """
loop: patients
task: binary
schema:
  colour: {type: string}
  income: {type: number, personal: true}
  town: {type: string, personal: true}
features: [{fields: [income]}, {name: income_mean, mean: income, over: 5 events}]
models: [{estimator: river.linear_model.LogisticRegression, scale: true}]
"""
INCOME, TOWN, COMMENT, CLEAR = 73519284, "Ouagadougou-73519", "she-cannot-pay-73519", "green-73519"
PERSONAL = (INCOME, TOWN, COMMENT)
KEYS = "select tableowner, (select count(*) from personal.personal_keys) from pg_tables where schemaname = 'personal'"


def test_a_person_is_exported_and_erased_and_no_value_shows_in_kafka_or_logs(secured: Stack, tmp_path: Path) -> None:
    publish_rows(secured, tmp_path / "loop.yaml")

    exported = subject(secured)
    rotated = [secured.compose("run", "--rm", "masterkey", what) for what in ("rotate", "retire")]
    exported_again = subject(secured)
    erased = secured.everloop("erase", LOOP, PERSON, "--reason", "by letter", "--models", "keep", "--yes")

    assert all(str(value) in text for value in PERSONAL for text in (exported, exported_again))
    assert "keys are wrapped by" in rotated[0]
    assert "1 old master keys are removed" in rotated[1]
    assert erased["state"] == "erased"
    assert found_in(subject(secured).encode(), PERSONAL) == []
    assert OTHER in secured.run(sys.executable, "-m", "everloop", "subject", LOOP, OTHER)
    segments = kafka_segments(secured)
    assert CLEAR.encode() in segments, "values that are not personal show there"
    assert found_in(segments, PERSONAL) == []
    assert found_in(secured.compose("logs", "--no-color").encode(), PERSONAL) == []


def test_the_master_key_is_read_by_the_services_that_seal_and_open_alone(secured: Stack) -> None:
    found = {name: inside(secured, name, "stat", "-c", "%a %u", "/personal/master.key") for name in SERVICES}

    assert {name for name, said in found.items() if said == "600 10001\n"} == set(OPENING)
    written = inside(secured, "ingest", "sh", "-c", "echo x >> /personal/master.key")
    assert "Read-only file system" in written
    secret = inside(secured, "ingest", "cat", "/personal/master.key").strip()
    said = json.dumps(secured.containers()) + secured.compose("logs", "--no-color")
    assert len(secret) == 44
    assert secret not in said


def publish_rows(stack: Stack, spec: Path) -> None:
    """Rows of two persons, their labels and a comment; waits for the outcomes."""
    spec.write_text(SPEC)
    stack.everloop("apply", "-f", str(spec))
    rows = [
        {
            "id": f"p{n}",
            "entity": (PERSON, OTHER)[n % 2],
            "data": {"colour": CLEAR, "income": 1000 + n, "town": "Bamako"},
        }
        for n in range(ROWS)
    ]
    for row in rows[::2]:
        row["data"] = {"colour": CLEAR, "income": INCOME, "town": TOWN}
    with Everloop(str(stack.secured)) as client:
        client.publish(LOOP, rows)
        assert until(lambda: stack.status(LOOP).get("predictions", 0) >= ROWS, 90), stack.status(LOOP)
        client.label(LOOP, [{"id": row["id"], "label": n % 3 > 0} for n, row in enumerate(rows)])
        client.feedback(LOOP, "p0", correct=False, comment=COMMENT, source="desk")
    assert until(lambda: stack.status(LOOP).get("outcomes", 0) >= ROWS, 90), stack.status(LOOP)
    owner, count = inside(stack, "keys", "psql", "-U", "everloop", "-d", "personal", "-AtF", " ", "-c", KEYS).split()
    assert owner == "everloop_personal"
    assert int(count) >= 2, "a key for each person"


def subject(stack: Stack) -> str:
    """What `everloop subject` exports of the person."""
    return stack.run(sys.executable, "-m", "everloop", "subject", LOOP, PERSON)


def kafka_segments(stack: Stack) -> bytes:
    """Every byte of the topics as the broker stores them; they are not compressed."""
    read = ["docker", "exec", stack.containers()["kafka"]["Id"], "sh", "-c", "cat /var/lib/kafka/data/*/*.log"]
    return subprocess.run(read, capture_output=True, check=True, timeout=60).stdout
