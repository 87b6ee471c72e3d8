"""The JSON that the client sends and reads: pure functions, shared by the sync and the async client."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx

from everloop.errors import EverloopHTTPError, LoopNameInvalid
from everloop.results import Accepted, Explanation, Prediction, RejectedEntry
from everloop_schemas.names import LOOP_NAME_RULE, is_loop_name

BATCH_ENTRIES, BATCH_BYTES = 500, 4_000_000
"""The most entries, and about the most bytes, in one request; a longer list is sent in several."""
JSON = "application/json"
Entry = Mapping[str, Any]
NAIVE = "is a datetime without a time zone: give it one, such as datetime.now(timezone.utc) or tzinfo=timezone.utc"


@dataclass
class Batch:
    """The entries of one request, as JSON and by their index in the list; and those that JSON cannot express."""

    texts: list[bytes] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    rejected: list[RejectedEntry] = field(default_factory=list)

    def body(self, single: bool) -> bytes:
        """The request's body: the entry itself where the caller gave a single one, else a list."""
        return self.texts[0] if single else b"[" + b",".join(self.texts) + b"]"


def loop_path(loop: str, endpoint: str = "") -> str:
    """The path of a loop, or of one of its endpoints. Raises LoopNameInvalid."""
    if not is_loop_name(loop):
        raise LoopNameInvalid(f"loop: {str(loop)[:80]!r} {LOOP_NAME_RULE}")
    return f"/v1/loops/{loop}/{endpoint}" if endpoint else f"/v1/loops/{loop}"


def query(**asked: Any) -> str:
    """What comes after a path, without what is None: times as ISO 8601; empty where nothing is asked."""
    given = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asked.items()
        if value is not None
    }
    return f"?{urlencode(given)}" if given else ""


def observation(
    data: Entry, id: str | None = None, entity: str | None = None, time: str | datetime | None = None
) -> Entry:
    """One observation. An id that the caller leaves out is made here, so that a retry sends the same event."""
    given = {"entity": entity, "time": time, "data": dict(data)}
    return {"id": str(uuid4()) if id is None else id} | {k: v for k, v in given.items() if v is not None}


def with_id(entry: Any) -> Any:
    """An observation of a list, with an id."""
    lacks_id = isinstance(entry, Mapping) and entry.get("id") is None
    return {**entry, "id": str(uuid4())} if lacks_id else entry


def prediction_request(
    data: Entry | Iterable[Any],
    id: str | None = None,
    entity: str | None = None,
    time: str | datetime | None = None,
    explain: bool = False,
) -> bytes:
    """The body of a request for the prediction of one observation, or of a list of them, each with an id."""
    asks = {"explain": True} if explain else {}
    if isinstance(data, Mapping):
        return to_json({**observation(data, id, entity, time), **asks})
    entries = [with_id(entry) for entry in data]
    return to_json(
        [{**asks, **entry} if isinstance(entry, Mapping) else entry for entry in entries] if asks else entries
    )


def with_key(time: str | datetime | None, **values: Any) -> Callable[[Any], Any]:
    """Completes a label or feedback; `values` and `time` are the defaults of every entry.

    Each gets a key: a retry sends the same event, while an equal label that is sent later is another event. Entries
    without a time count as of their arrival.
    """
    common = {k: v for k, v in {"time": time, **values}.items() if v is not None}
    return lambda entry: {"key": str(uuid4()), **common, **entry} if isinstance(entry, Mapping) else entry


class Batcher:
    """Gathers entries, at most BATCH_ENTRIES and about BATCH_BYTES in each batch."""

    def __init__(self, complete: Callable[[Any], Any]) -> None:
        self._complete = complete
        self._batch, self._size, self._count = Batch(), 0, 0

    def add(self, entry: Any) -> Batch | None:
        """The batch before this entry, if it is full."""
        entry, index, full = self._complete(entry), self._count, None
        self._count += 1
        try:
            text = to_json(entry)
        except EverloopHTTPError as e:
            given = entry.get("id") if isinstance(entry, Mapping) else None
            self._batch.rejected.append(RejectedEntry(index, given if isinstance(given, str) else None, e.errors))
            return None
        if self._batch.texts and (len(self._batch.texts) == BATCH_ENTRIES or self._size + len(text) > BATCH_BYTES):
            full = self.rest()
        self._batch.texts.append(text)
        self._batch.indexes.append(index)
        self._size += len(text)
        return full

    def rest(self) -> Batch:
        """The batch so far; the next one begins."""
        batch, self._batch, self._size = self._batch, Batch(), 0
        return batch


def batches(entries: Iterable[Any], complete: Callable[[Any], Any]) -> Iterator[Batch]:
    """The entries, completed, in batches."""
    batcher = Batcher(complete)
    for entry in entries:
        if (full := batcher.add(entry)) is not None:
            yield full
    yield batcher.rest()


async def async_batches(
    entries: Iterable[Any] | AsyncIterable[Any], complete: Callable[[Any], Any]
) -> AsyncIterator[Batch]:
    """As `batches`, also of entries that come asynchronously."""
    if isinstance(entries, AsyncIterable):
        batcher = Batcher(complete)
        async for entry in entries:
            if (full := batcher.add(entry)) is not None:
                yield full
        yield batcher.rest()
    else:
        for batch in batches(entries, complete):
            yield batch


def to_json(body: Any) -> bytes:
    """Strict JSON. Raises EverloopHTTPError with the path of a value that JSON cannot express, as ingest answers."""
    try:
        return json.dumps(body, allow_nan=False, ensure_ascii=False, default=_convert).encode()
    except (ValueError, TypeError, RecursionError) as e:
        where, why = _find_inexpressible(body) or ("body", str(e)[:200])
        raise EverloopHTTPError(422, "Unprocessable input", f"{where}: {why}", [(where, why)]) from e


def refusal(rejected: RejectedEntry) -> EverloopHTTPError:
    """The error for an entry that JSON cannot express, where the caller gave it alone."""
    where, why = rejected.errors[0]
    return EverloopHTTPError(422, "Unprocessable input", f"{where}: {why}", rejected.errors)


def _convert(value: Any) -> Any:
    if isinstance(value, datetime) and value == value:  # pandas' NaT is a datetime that does not equal itself
        if value.tzinfo is None:
            raise TypeError(NAIVE)
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if getattr(value, "shape", None) == () and type(value).__name__ != "datetime64":
        return value.item()  # numpy's scalars
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _find_inexpressible(value: Any, where: str = "", depth: int = 0) -> tuple[str, str] | None:
    """Where in a value there is something that JSON cannot express, and why; None where it is not found."""
    if depth > 20:
        return where or "body", "is nested too deep, or holds itself"
    if isinstance(value, Mapping | list | tuple):
        inside = value.items() if isinstance(value, Mapping) else enumerate(value)
        found = (_find_inexpressible(v, f"{where}.{k}"[:200].lstrip("."), depth + 1) for k, v in inside)
        return next(filter(None, found), None)
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False, default=_convert).encode()
    except UnicodeEncodeError:
        return where or "body", "is text that is not Unicode"
    except (ValueError, TypeError, RecursionError):
        if isinstance(value, datetime) and value == value:
            return where or "body", NAIVE
        missing = (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in ("NaTType", "NAType")
        hint = "is missing (NaN): leave it out, or send None" if missing else f"is {str(value)[:40]!r} ({_kind(value)})"
        return where or "body", f"{hint}; JSON has no form for it"
    return None


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")[:80]


def read_accepted(response: httpx.Response, indexes: Sequence[int], single: bool = False) -> Accepted:
    """Ingest's answer to the entries with these indexes.

    Raises EverloopHTTPError for a request that was refused as a whole, and for a `single` entry that was refused.
    """
    if response.status_code in (202, 207):
        body = response.json()
        return Accepted(tuple(body["ids"]), _rejected(body, indexes))
    refused = http_error(response)
    if single or not refused.rejected:
        raise refused
    return Accepted((), _rejected(response.json(), indexes))


def merge(answers: Sequence[Accepted]) -> Accepted:
    """The answers to all batches as one."""
    rejected = sorted((r for a in answers for r in a.rejected), key=lambda r: r.index)
    return Accepted(tuple(i for a in answers for i in a.ids), tuple(rejected))


def read_predictions(response: httpx.Response) -> Prediction | list[Prediction]:
    """Serving's answer to one observation, or to a list. Raises EverloopHTTPError."""
    if response.status_code != 200:
        raise http_error(response)
    body = response.json()
    return [_prediction(entry) for entry in body] if isinstance(body, list) else _prediction(body)


def _prediction(body: Mapping[str, Any]) -> Prediction:
    names = ("id", "prediction", "version", "role", "probabilities", "features", "anomaly")
    fields = {k: body[k] for k in names if k in body}
    explained = body.get("explanation")
    return Prediction(**fields, explanation=_explanation(explained) if explained else None)


def _explanation(body: Mapping[str, Any]) -> Explanation:
    return Explanation(body["method"], body.get("of"), body["base"], body["contributions"], body.get("scale"))


def read_json(response: httpx.Response) -> Any:
    """The JSON of an answer. Raises EverloopHTTPError for a refusal."""
    if response.status_code >= 400:
        raise http_error(response)
    return response.json()


def http_error(response: httpx.Response) -> EverloopHTTPError:
    """A refusal, with the problem details of its body, if it has any."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return EverloopHTTPError(response.status_code, response.reason_phrase, response.text[:200])
    return EverloopHTTPError(
        response.status_code,
        str(body.get("title", response.reason_phrase)),
        str(body.get("detail", "")),
        [(e["field"], e["error"]) for e in body.get("errors", ())],
        _rejected(body),
        body.get("code"),
    )


def _rejected(body: Mapping[str, Any], indexes: Sequence[int] | None = None) -> tuple[RejectedEntry, ...]:
    return tuple(
        RejectedEntry(
            r["index"] if indexes is None else indexes[r["index"]],
            r["id"],
            tuple((e["field"], e["error"]) for e in r["errors"]),
        )
        for r in body.get("rejected", ())
    )
