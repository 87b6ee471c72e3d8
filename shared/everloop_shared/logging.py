"""Structured JSON logs on standard error, one object a line."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from everloop_shared.tracing import log_fields

FIELD = 8_000
"""Characters of one field of a log line, at most."""
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """A record as one JSON object; whatever is passed as `extra` becomes a field, as does the work in hand."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
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
        return json.dumps({k: _short(v) for k, v in line.items()}, default=str)


def _short(value: object) -> object:
    """What a field says, at most `FIELD` characters of it: a name or a reason may quote what came from outside."""
    text = value if isinstance(value, str) else str(value) if isinstance(value, list | tuple | dict | set) else None
    if text is None or len(text) <= FIELD:
        return value
    return f"{text[:FIELD]}… ({len(text):,} characters)"


class RateLimit(logging.Filter):
    """Lets `burst` lines of a chatty library through per `window_s` and says how many it held back.

    aiokafka logs hundreds of errors in an outage of the broker, all the same.
    """

    def __init__(self, burst: int = 5, window_s: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._burst, self._window_s, self._clock = burst, window_s, clock
        self._since, self._passed, self._held = float("-inf"), 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line goes out."""
        if self._clock() - self._since >= self._window_s:
            if self._held:
                record.held_back = self._held
            self._since, self._passed, self._held = self._clock(), 0, 0
        self._passed += 1
        self._held += self._passed > self._burst
        return self._passed <= self._burst


class _Chatty(logging.Filter):
    """Applies one rate limit to everything below a logger's name; filters on loggers do not see their children's."""

    def __init__(self, name: str, limit: RateLimit) -> None:
        super().__init__(name)
        self._limit = limit

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line goes out."""
        return not super().filter(record) or self._limit.filter(record)


def configure_logging(service: str, level: str) -> None:
    """Send everything to standard error in JSON; libraries speak from WARNING on, aiokafka a few times a minute."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    handler.addFilter(_Chatty("aiokafka", RateLimit()))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for room in ("everloop_shared", "everloop_features", "everloop_models", f"everloop_{service}"):
        logging.getLogger(room).setLevel(level)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
