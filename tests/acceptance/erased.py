"""Row 8: a person is erased; then no topic, file, log or new backup shows a value in clear, and dumps agree."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]
from tests.acceptance import bus
from tests.acceptance.house import House, check, until

LOOP, PERSON = "patients", "person-7"
SPEC = """
task: binary
schema: {x: {type: number}, income: {type: number, personal: true}, town: {type: string, personal: true}}
features: [{fields: [x, income]}, {name: income_mean, mean: income, over: 5 events}]
models: [{estimator: river.linear_model.LogisticRegression, scale: true}]
"""
MARKS = {"income": 73519284, "town": "Ouagadougou-73519", "comment": "she-cannot-pay-73519"}
ROWS = 60
REBUILT_WITHIN_S = 60.0
TOO_LARGE_BYTES = 200_000_000


def erased(house: House) -> None:
    """A person is published, predicted, labelled and commented on; then erased, and looked for everywhere."""
    if not house.apply(LOOP, SPEC):
        return
    _live(house)
    exported = house.everloop("subject", LOOP, PERSON)
    shown = [mark for mark in map(str, MARKS.values()) if mark not in exported.stdout]
    check(exported.returncode == 0 and not shown, "everloop subject shows all of a person", (shown, exported.stderr))
    done = house.everloop("erase", LOOP, PERSON, "--reason", "by letter", "--models", "keep", "--yes", "--json")
    state = json.loads(done.stdout or "{}").get("state")
    check(done.returncode == 0 and state == "erased", "everloop erase ends with a receipt", done.stderr)
    after = house.everloop("subject", LOOP, PERSON)
    check(
        after.returncode == 0 and not _hits(after.stdout.encode()),
        "everloop subject shows nothing in clear",
        after.stderr,
    )
    backup = house.folder / "backup-after"
    saved = house.everloop("backup", str(backup))
    check(saved.returncode == 0, "a backup is made after it", saved.stderr[-300:])
    topics = asyncio.run(_topics(house))
    found = [topic for topic in topics if any(_hits(r.key, r.value) for r in bus.read(house, topic))]
    check(topics and not found, f"0 clear hits in all partitions of {len(topics)} topics", found)
    files = list(_files(house.folder))
    found = [str(file) for file in files if any(map(_hits, _contents(file)))]
    check(
        files and not found,
        f"0 clear hits in {len(files)} files: databases, spool, state, snapshots, logs, backup",
        found,
    )
    other = json.loads(house.everloop("subject", LOOP, "person-8").stdout or "{}")
    check(any("income" in json.dumps(o) for o in other.get("observations", ())), "another person is still there")
    _compare_dumps(house)
    _rebuild_monitoring(house)
    verified = house.everloop("audit", "verify", LOOP)
    check(verified.returncode == 0, "the chain of decisions is whole", verified.stderr)


def _live(house: House) -> None:
    """Observations by both doors, labels and a comment."""
    rows = [
        {
            "id": f"p{n}",
            "entity": PERSON if n % 2 else "person-8",
            "data": {
                "x": n / ROWS,
                "income": MARKS["income"] if n % 2 else 1000 + n,
                "town": MARKS["town"] if n % 2 else "Bamako",
            },
        }
        for n in range(ROWS)
    ]
    house.tell("POST", "ingest", f"/v1/loops/{LOOP}/events", rows)
    until(lambda: house.status(LOOP).get("predictions", 0) >= ROWS, 60)
    asked = {"id": "rest-1", "entity": PERSON, "data": rows[1]["data"], "explain": True}
    house.tell("POST", "serving", f"/v1/loops/{LOOP}/predict", asked)
    house.tell("POST", "ingest", f"/v1/loops/{LOOP}/labels", [{"id": f"p{n}", "label": n % 3 > 0} for n in range(ROWS)])
    comment = [{"id": "p1", "correct": False, "comment": MARKS["comment"], "source": "desk"}]
    house.tell("POST", "ingest", f"/v1/loops/{LOOP}/feedback", comment)
    until(lambda: house.status(LOOP).get("outcomes", 0) >= ROWS, 60)


def _compare_dumps(house: House) -> None:
    """The registry's fold, and one from the topics alone in a new database."""

    def dumped() -> tuple[str, str]:
        folder = house.folder / "dumped"
        folder.mkdir(exist_ok=True)
        settings = {"EVERLOOP_KAFKA_BOOTSTRAP": house.services()["kafka"]["bootstrap"]}
        house.run(sys.executable, "-m", "everloop_registry", "rebuild", **settings, EVERLOOP_DATA=str(folder))
        of = (sys.executable, "-m", "everloop_registry", "dump")
        return house.run(*of).stdout, house.run(*of, **settings, EVERLOOP_DATA=str(folder)).stdout

    same = until(lambda: len(set(dumped())) == 1, 30)
    check(same and len(dumped()[0]) > 1_000, "the registry rebuilt from the topics gives an equal dump")


def _rebuild_monitoring(house: House) -> None:
    """Monitoring loses its database and is killed: it says the same of the loop from the topics alone.

    It has no command that prints its fold, as it is folded from topics that are deleted in time.
    """
    before, pid = house.status(LOOP), house.pids()["monitoring"]
    database = list((house.folder / "monitoring").glob("*.db*"))
    for file in database:
        file.unlink()
    os.kill(pid, signal.SIGKILL)
    same = until(lambda: house.pids()["monitoring"] != pid and house.status(LOOP) == before, REBUILT_WITHIN_S)
    after = house.status(LOOP)
    check(database and same, "monitoring rebuilt from the topics says the same of the loop", (before, after))


def _hits(*texts: bytes | None) -> list[str]:
    return [mark for mark in map(str, MARKS.values()) if any(mark.encode() in text for text in texts if text)]


def _files(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        if file.is_file() and file.stat().st_size < TOO_LARGE_BYTES:
            yield file


def _contents(file: Path) -> Iterator[bytes]:
    try:
        raw = file.read_bytes()
    except OSError:
        return  # it is gone
    yield raw
    if raw.startswith(b"\x1f\x8b"):
        yield gzip.decompress(raw)


async def _topics(house: House) -> list[str]:
    consumer = AIOKafkaConsumer(**bus.connection(house, "admin"))
    await consumer.start()
    try:
        return sorted(name for name in await consumer.topics() if not name.startswith("__"))
    finally:
        await consumer.stop()
