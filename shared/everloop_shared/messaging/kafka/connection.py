"""Repairs aiokafka's connections: their errors on uvloop, and questions that would wait behind a fetch."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import aiokafka.consumer.consumer  # type: ignore[import-untyped]
from aiokafka.client import AIOKafkaClient, ConnectionGroup  # type: ignore[import-untyped]
from aiokafka.conn import AIOKafkaConnection, CloseReason  # type: ignore[import-untyped]
from aiokafka.errors import KafkaConnectionError  # type: ignore[import-untyped]
from aiokafka.protocol.offset import OffsetRequest  # type: ignore[import-untyped]

from everloop_shared.messaging.kafka import fetch_codec
from everloop_shared.messaging.kafka.fetching import PatientFetcher

QUESTIONS = 2
"""The group of the connections for questions about offsets, beside aiokafka's own two."""


def _raising_kafka_error(send: Callable[..., Any]) -> Callable[..., Any]:
    """On uvloop a closed transport raises RuntimeError, but `send` expects only OSError.

    The RuntimeError would silently end the task that sends, such as the one that updates the metadata
    (https://github.com/aio-libs/aiokafka/issues/1038).
    """

    @wraps(send)
    def sent(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return send(self, *args, **kwargs)
        except RuntimeError as e:
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {e}") from e

    return sent


def _beside_fetches(send: Callable[..., Any]) -> Callable[..., Any]:
    """A broker answers the requests of a connection one after the other, and a fetch may wait for records."""

    @wraps(send)
    async def sent(self: Any, node_id: Any, request: Any, *, group: int = ConnectionGroup.DEFAULT) -> Any:
        return await send(self, node_id, request, group=QUESTIONS if isinstance(request, OffsetRequest) else group)

    return sent


_SEND = _beside_fetches(AIOKafkaClient.send)
_REPAIRED = {name: _raising_kafka_error(getattr(AIOKafkaConnection, name)) for name in ("send", "_send_sasl_token")}


def repair() -> None:
    """Install the replacements; call it before a client is built. Idempotent."""
    for name, repaired in _REPAIRED.items():
        setattr(AIOKafkaConnection, name, repaired)
    AIOKafkaClient.send = _SEND
    aiokafka.consumer.consumer.Fetcher = PatientFetcher
    fetch_codec.repair()
