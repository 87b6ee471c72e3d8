"""Reads what the topics have about one person, line by line, from feature."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from everloop.base_client import BaseClient
from everloop.errors import EverloopError
from everloop.wire import http_error, loop_path

READ_TIMEOUT_S = 120.0
"""Between two lines; feature says how far it is every few thousand records."""
Line = Mapping[str, Any]
OnProgress = Callable[[int, int], None]
"""Called with the number of records that were read, and that of all of them."""


class ExportIncomplete(EverloopError):
    """The export ended before everything was read.

    >>> from everloop.errors import EverloopError
    >>> issubclass(ExportIncomplete, EverloopError)
    True
    """


class SubjectClient(BaseClient):
    """Asks feature, which holds the keys."""

    def lines(self, loop: str, entity: str, on_progress: OnProgress, *, only_outcomes: bool = False) -> Iterator[Line]:
        """The records about a person, in the order in which topics are read. Raises EverloopError."""
        url = self._endpoints.url("feature")
        path = subject_path(loop, entity, "subjects") + ("?only=outcomes" if only_outcomes else "")
        timeout = httpx.Timeout(self._timeout, read=READ_TIMEOUT_S)
        with self._open_connections() as http:
            try:
                with http.stream("GET", url + path, headers=self._endpoints.header(url), timeout=timeout) as response:
                    if response.status_code != httpx.codes.OK:
                        response.read()
                        raise http_error(response)
                    yield from _records(response, on_progress)
            except httpx.TransportError as e:
                raise self._lost("feature", url, e)[0] from e


def subject_path(loop: str, entity: str, what: str) -> str:
    """The path of something about one entity of a loop."""
    return f"{loop_path(loop)}/{what}/{quote(entity, safe='')}"


def _records(response: httpx.Response, on_progress: OnProgress) -> Iterator[Line]:
    for text in response.iter_lines():
        line = json.loads(text)
        if line["kind"] == "progress":
            on_progress(line["read"], line["of"])
        elif line["kind"] == "end":
            if not line["complete"]:
                raise ExportIncomplete(f"not everything could be read: {line['reason']}; try again")
            return
        else:
            yield line
    raise ExportIncomplete("the answer ended in the middle; try again")
