"""`python -m everloop_registry`: run the service; `rebuild`: fold the topic anew; `dump`: print the fold."""

from __future__ import annotations

import asyncio
import os
import sys

from everloop_registry.adapters.decision_store import RegistryUnitOfWork
from everloop_registry.adapters.loop_reader import SqlLoopReader
from everloop_registry.adapters.recovery import TopicRecovery
from everloop_registry.app import build
from everloop_registry.errors import DecisionsInconsistent
from everloop_registry.settings import RegistrySettings
from everloop_registry.tables import MIGRATIONS
from everloop_shared.database import Database
from everloop_shared.errors import ServiceError
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.routes import connected
from everloop_shared.process import run
from everloop_shared.service import Service
from everloop_shared.settings import PRIVATE_UMASK


async def rebuild(settings: RegistrySettings) -> None:
    """Empty the fold's tables and fill them from the topic; the service must not run meanwhile."""
    connect = kafka_factory(settings)
    async with Database(settings.database, MIGRATIONS, schema="registry") as database:
        unit = RegistryUnitOfWork(database)
        async with connected(connect("registry")) as engine:
            result = await TopicRecovery(unit, connect, settings.partitions).rebuild(engine)
    sys.stderr.write(f"{result.added} decisions folded\n")
    if result.left_out:
        raise DecisionsInconsistent(
            f"{result.left_out} records follow from no decision and were left out; the log above says which"
        )


async def dump(settings: RegistrySettings) -> None:
    """Print decisions and their fold as canonical JSON."""
    async with Database(settings.database, MIGRATIONS, schema="registry") as database:
        sys.stdout.write(await SqlLoopReader(database).dump() + "\n")


def from_environment() -> Service:
    """The service, with the settings from the environment."""
    settings = RegistrySettings.load("registry")
    return build(settings, kafka_factory(settings))


def main(arguments: list[str]) -> int:
    """The exit status: 0 done, 1 failed, 2 wrong use."""
    os.umask(PRIVATE_UMASK)
    jobs = {"rebuild": rebuild, "dump": dump}
    if not arguments:
        run(from_environment)
        return 0
    if arguments[0] not in jobs or len(arguments) > 1:
        sys.stderr.write("usage: python -m everloop_registry [rebuild | dump]\n")
        return 2
    try:
        asyncio.run(jobs[arguments[0]](RegistrySettings.load("registry")))
    except ServiceError as e:
        sys.stderr.write(f"everloop: {e.detail}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
