"""aiokafka's connection on uvloop, repaired: a lost one is an error of Kafka's, which all tasks know how to take."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason  # type: ignore[import-untyped]
from aiokafka.errors import KafkaConnectionError  # type: ignore[import-untyped]


def _told(send: Callable[..., Any]) -> Callable[..., Any]:
    """A transport that is closed already raises RuntimeError on uvloop; `send` looks for OSError alone.

    That ends whichever task was sending, in silence: the one that keeps the metadata, the one that looks whether the
    broker answers (https://github.com/aio-libs/aiokafka/issues/1038).
    """

    @wraps(send)
    def sent(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return send(self, *args, **kwargs)
        except RuntimeError as e:
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {e}") from e

    return sent


_REPAIRED = {name: _told(getattr(AIOKafkaConnection, name)) for name in ("send", "_send_sasl_token")}


def repair() -> None:
    """Put the replacements in place; before a client is made. Idempotent."""
    for name, repaired in _REPAIRED.items():
        setattr(AIOKafkaConnection, name, repaired)
