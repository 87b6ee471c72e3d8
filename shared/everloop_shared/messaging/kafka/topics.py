"""Creates the topics of the catalogue at the start, and checks existing ones: another shape is an error."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    AuthenticationFailedError,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from everloop_schemas.catalogue import TOPICS
from everloop_schemas.envelope import ALL_SERVICES, FOREVER, Topic
from everloop_schemas.retention import parse_retention, retention_of
from everloop_shared.backoff import Backoff
from everloop_shared.errors import Misconfigured, Unavailable
from everloop_shared.messaging.kafka.client import client_settings
from everloop_shared.messaging.routes import MAX_MESSAGE_BYTES, Route
from everloop_shared.settings import Settings

log = logging.getLogger(__name__)
MAX_DEAD_LETTER_BYTES = 12 * 1024 * 1024
"""A dead letter contains the original record in base64, and that of an 8 MB record must fit."""
FAST_COMPACTION = {
    "segment.ms": "600000",
    "segment.bytes": "33554432",
    "min.cleanable.dirty.ratio": "0.2",
}
"""Only closed segments are compacted, and recovery from a compacted topic reads everything that is not."""
START_TIMEOUT_S = 30.0
"""aiokafka's admin client can wait for good where a broker with TLS is starting; then it is tried again."""
NO_CHANGES: Mapping[str, int] = MappingProxyType({})
SET_ON_TOPIC = 1
"""The source of a setting that was made for this topic (DescribeConfigs: DYNAMIC_TOPIC_CONFIG)."""
BACKOFF = Backoff(first_s=0.5, longest_s=2.0, jitter=0.0)


class TopicNames:
    """The names of topics on the broker: they have the prefix before them."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def on_broker(self, topic: str) -> str:
        """The name on the broker."""
        return self._prefix + topic

    def of(self, name: str) -> str:
        """The name without prefix, of a topic as the broker calls it."""
        return name.removeprefix(self._prefix)


def topics_of(service: str, routes: Iterable[Route]) -> list[Topic]:
    """The topics a service needs: those it writes, its dead letter included, and those of its routes."""
    own = {topic.name: topic for topic in TOPICS.values() if topic.owner in (service, ALL_SERVICES)}
    return list((own | {r.topic.name: r.topic for r in routes}).values())


def topic_config(topic: Topic, retention: Mapping[str, int] = NO_CHANGES) -> dict[str, str]:
    """A topic's settings on the broker; `retention` says by name which are kept otherwise, in milliseconds."""
    dead_letter = topic.name.endswith(".dead_letter.v1")
    return (FAST_COMPACTION if topic.compacted else {}) | {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(retention_of(topic, retention) if not topic.compacted else FOREVER),
        "max.message.bytes": str(MAX_DEAD_LETTER_BYTES if dead_letter else MAX_MESSAGE_BYTES),
    }


async def ensure_topics(settings: Settings, topics: Iterable[Topic], within_s: float = math.inf) -> None:
    """Create what is missing, check what is there, and return when all can be used.

    Waits for a broker that is not there yet; raises Unavailable when it does not come in time, and Misconfigured for a
    topic with another number of partitions or another cleanup policy.
    """
    wanted = {settings.topic_prefix + topic.name: topic for topic in topics}
    client, deadline = client_settings(settings, "topics"), time.monotonic() + within_s
    pauses = BACKOFF.pauses()
    while True:
        try:
            await _ensure(client, settings, wanted)
            return
        except AuthenticationFailedError as e:
            raise Misconfigured(f"EVERLOOP_KAFKA_CONFIG: {settings.kafka_bootstrap} rejects the login: {e}") from e
        except (KafkaError, OSError, TimeoutError) as e:
            if time.monotonic() > deadline:
                raise Unavailable(f"no Kafka at {settings.kafka_bootstrap} after {within_s:.0f} s: {e!r}") from e
            log.info("waiting for Kafka", extra={"bootstrap": settings.kafka_bootstrap, "reason": repr(e)})
        await asyncio.sleep(next(pauses))


async def _ensure(client: Mapping[str, Any], settings: Settings, wanted: Mapping[str, Topic]) -> None:
    admin = AIOKafkaAdminClient(**client)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await admin.start()
        missing = sorted(wanted.keys() - set(await admin.list_topics()))
        if missing:
            await _create(admin, settings, {name: wanted[name] for name in missing})
        await _check_partitions(admin, settings, wanted)
        await _check_cleanup(admin, wanted)
        await _keep_otherwise(admin, settings, wanted)
    finally:
        await admin.close()


async def _create(admin: Any, settings: Settings, topics: Mapping[str, Topic]) -> None:
    retention = parse_retention(settings.retention)
    new = [
        NewTopic(name, settings.partitions, settings.replication_factor, topic_configs=topic_config(topic, retention))
        for name, topic in topics.items()
    ]
    answer = await admin.create_topics(new, timeout_ms=10_000)
    for name, code, *message in answer.topic_errors:
        error = for_code(code)
        if error in (NoError, TopicAlreadyExistsError):  # another service was faster
            continue
        if error.retriable:
            raise error(f"{name}: {message}")
        raise Misconfigured(f"topic {name} cannot be created: {error.__name__} {' '.join(map(str, message))}")
    log.info("topics created", extra={"topics": sorted(topics)})


async def _check_partitions(admin: Any, settings: Settings, wanted: Mapping[str, Topic]) -> None:
    for described in await admin.describe_topics(sorted(wanted)):
        error = for_code(described["error_code"])
        if error is not NoError:
            raise error(described["topic"])
        if (there := len(described["partitions"])) != settings.partitions:
            raise Misconfigured(
                f"topic {described['topic']} has {there} partitions, but EVERLOOP_PARTITIONS is "
                f"{settings.partitions}: set EVERLOOP_PARTITIONS={there} for all services, or use another "
                "EVERLOOP_TOPIC_PREFIX (with other partitions the same key would be in two of them)"
            )
        if any(partition["leader"] < 0 for partition in described["partitions"]):
            raise KafkaError(f"{described['topic']} has no leader yet")


async def _check_cleanup(admin: Any, wanted: Mapping[str, Topic]) -> None:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, {"cleanup.policy": ""}) for name in sorted(wanted)]
    for response in await admin.describe_configs(resources):
        for code, _message, _kind, name, entries in (resource[:5] for resource in response.resources):
            if for_code(code) is not NoError:
                raise for_code(code)(name)
            there = {entry[0]: entry[1] for entry in entries}.get("cleanup.policy", "")
            policy = topic_config(wanted[name])["cleanup.policy"]
            if there != policy:
                raise Misconfigured(
                    f"topic {name} has cleanup.policy={there} and needs {policy}: alter it with "
                    f"kafka-configs.sh --alter --topic {name} --add-config cleanup.policy={policy}, "
                    "or use another EVERLOOP_TOPIC_PREFIX"
                )


async def _keep_otherwise(admin: Any, settings: Settings, wanted: Mapping[str, Topic]) -> None:
    """Set the retention of existing topics that the settings name; all else that was set for a topic stays.

    With access control a service may change its own topics alone: the others' owners do it when they start.
    """
    retention = parse_retention(settings.retention)
    named = {name: str(retention[topic.name]) for name, topic in wanted.items() if topic.name in retention}
    if not named:
        return
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, None) for name in sorted(named)]
    changes = dict[str, dict[str, str]]()
    for response in await admin.describe_configs(resources):
        for code, _message, _kind, name, entries in (resource[:5] for resource in response.resources):
            if for_code(code) is not NoError:
                raise for_code(code)(name)
            there = {entry[0]: entry[1] for entry in entries if entry[3] == SET_ON_TOPIC}
            if there.get("retention.ms") != named[name]:
                changes[name] = there | {"retention.ms": named[name]}
    if changes:
        await _alter(admin, changes)


async def _alter(admin: Any, changes: Mapping[str, Mapping[str, str]]) -> None:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, dict(config)) for name, config in changes.items()]
    for response in await admin.alter_configs(resources):
        for code, message, _kind, name in (resource[:4] for resource in response.resources):
            error = for_code(code)
            if error is TopicAuthorizationFailedError:
                log.info("the retention of a topic is left to its owner", extra={"topic": name})
            elif error is not NoError:
                raise Misconfigured(f"EVERLOOP_RETENTION: {name} cannot be changed: {error.__name__} {message or ''}")
            else:
                log.info("retention set", extra={"topic": name, "ms": changes[name]["retention.ms"]})
