"""Spark's connector to Kafka: its jars, downloaded once per user and checked against the lock file."""

from __future__ import annotations

from pathlib import Path

from everloop.local.jars import fetch

LOCK = Path(__file__).with_name("kafka-connector-4.2.0.lock")


def connector_jars() -> list[Path]:
    """The paths of the jars. Raises KafkaNotFetched where they cannot be had."""
    return fetch(lock=LOCK, name=LOCK.stem)
