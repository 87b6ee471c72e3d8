"""Structured JSON logs on standard error, one object a line."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from everloop_shared.tracing import log_fields

MAX_FIELD_LENGTH = 8_000
"""Characters of one field of a log line, at most: a name or a reason may quote what came from outside."""
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object, with the fields of `extra` and of the current task."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The log line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
            **log_fields(),
            **{k: v for k, v in vars(record).items() if k not in _STANDARD},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps({k: _truncated(v) for k, v in line.items()}, default=str)


def _truncated(value: object) -> object:
    text = value if isinstance(value, str) else str(value) if isinstance(value, list | tuple | dict | set) else None
    if text is None or len(text) <= MAX_FIELD_LENGTH:
        return value
    return f"{text[:MAX_FIELD_LENGTH]}… ({len(text):,} characters)"


class RateLimit(logging.Filter):
    """Passes `burst` lines per `window_s` seconds and reports how many it suppressed (`held_back`).

    aiokafka logs hundreds of equal errors while the broker is unreachable.
    """

    def __init__(self, burst: int = 5, window_s: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._burst, self._window_s, self._clock = burst, window_s, clock
        self._since, self._passed, self._suppressed = float("-inf"), 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is logged."""
        if self._clock() - self._since >= self._window_s:
            if self._suppressed:
                record.held_back = self._suppressed
            self._since, self._passed, self._suppressed = self._clock(), 0, 0
        self._passed += 1
        self._suppressed += self._passed > self._burst
        return self._passed <= self._burst


class _LimitLogger(logging.Filter):
    """Applies one rate limit to a logger and its children, whose lines a filter on the logger itself does not see."""

    def __init__(self, name: str, limit: RateLimit) -> None:
        super().__init__(name)
        self._limit = limit

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is logged."""
        return not super().filter(record) or self._limit.filter(record)


def configure_logging(service: str, level: str) -> None:
    """Log to standard error in JSON: our packages from `level` on, libraries from WARNING on, some rate-limited."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    for talkative in ("aiokafka", "opentelemetry"):  # while the broker, or the collector of spans, is away
        handler.addFilter(_LimitLogger(talkative, RateLimit()))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for package in ("everloop_shared", "everloop_features", "everloop_models", f"everloop_{service}"):
        logging.getLogger(package).setLevel(level)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
