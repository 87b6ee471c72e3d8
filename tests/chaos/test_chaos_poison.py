"""Poison on every topic that a service consumes: each record becomes a dead letter, and the rest is processed."""

from __future__ import annotations

import asyncio
import time
from base64 import b64decode

import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from tests.chaos.faults import FaultInjector
from tests.chaos.findings import Findings
from tests.chaos.installation import Installation
from tests.chaos.journal import Journal
from tests.chaos.load import loaded
from tests.chaos.loops import BETA
from tests.chaos.poison import ASIDE, poison
from tests.chaos.run import ChaosReport, check, wait_for_rest
from tests.chaos.topics import Log, Record, read

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(500)]
PARKED_WITHIN_S = 180.0
Parked = set[tuple[str, bytes]]


async def write(bootstrap: str, records: list[tuple[str, Record]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=8_000_000)
    async with producer:
        await asyncio.gather(*[await producer.send(t, r.raw, key=r.key) for t, r in records])


def parked(log: Log) -> Parked:
    dead_letters = [r.event.get("data") for t, records in log.records.items() if ".dead_letter." in t for r in records]
    data_of = [data for data in dead_letters if isinstance(data, dict) and "topic" in data]
    return {(data["topic"], b64decode(data.get("value") or "")) for data in data_of}


async def all_parked(installation: Installation, wanted: Parked) -> Parked:
    """The records that are no dead letter at the deadline."""
    deadline = time.monotonic() + PARKED_WITHIN_S
    while (missing := wanted - parked(await read(installation.bootstrap))) and time.monotonic() < deadline:
        await asyncio.sleep(3)
    return missing


@pytest.mark.promise(11)
async def test_poison_becomes_dead_letters_with_their_reasons_and_the_rest_is_processed(
    installation: Installation,
) -> None:
    installation.apply(BETA.replace("beta", ASIDE))
    journal, findings = Journal(), Findings()
    async with loaded(installation.url, journal) as load:
        while len(journal.observations) < 100:
            await asyncio.sleep(0.5)
        wrong = [*poison(await read(installation.bootstrap), "beta")]

        await write(installation.bootstrap, wrong)

        load.rate = 5
        missing = await all_parked(installation, {(t, r.raw) for t, r in wrong})
    await wait_for_rest(installation, journal, findings)
    await check(installation, journal, findings, {r.raw for _, r in wrong})
    assert not [(t, raw[:200]) for t, raw in sorted(missing)]
    assert not findings.found, ChaosReport(journal, FaultInjector(installation), findings).text()
