"""Repairs aiokafka's connection on uvloop: a lost connection raises KafkaConnectionError, which callers handle."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason  # type: ignore[import-untyped]
from aiokafka.errors import KafkaConnectionError  # type: ignore[import-untyped]


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


_REPAIRED = {name: _raising_kafka_error(getattr(AIOKafkaConnection, name)) for name in ("send", "_send_sasl_token")}


def repair() -> None:
    """Install the replacements; call it before a client is built. Idempotent."""
    for name, repaired in _REPAIRED.items():
        setattr(AIOKafkaConnection, name, repaired)
