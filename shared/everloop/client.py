"""The sync client: publish, predict, label and feedback; a retry never counts twice."""

from __future__ import annotations

import os
import time as clock
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

import httpx

from everloop import onnx_wire, wire
from everloop.base_client import Entries, Fields, Time
from everloop.data_sets import DataSet, Progress, request_path
from everloop.errors import EverloopError
from everloop.loop_methods import LoopMethods
from everloop.loop_requests import REQUESTED
from everloop.results import Accepted, Prediction, Submitted
from everloop.retry import BACKOFF
from everloop.searches import Search, read_search, read_searches, search_body, searches_path
from everloop.trace_context import trace_headers
from everloop_shared.backoff import Attempts

if TYPE_CHECKING:
    from everloop_schemas.envelope import Scalar


class Everloop(LoopMethods):
    """The sync client; a context manager that closes its connections. All methods raise EverloopError.

    A list with bad entries is no error: the answer's `rejected` names them.

    >>> from everloop import Everloop
    >>> with Everloop() as everloop:
    ...     everloop.predict("market", {"price": 3.0}).prediction
    True
    """

    _http: httpx.Client | None = None
    _opened_by: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def publish(
        self,
        loop: str,
        data: Fields | Entries,
        *,
        id: str | None = None,
        entity: str | None = None,
        time: Time | None = None,
    ) -> Accepted:
        """Send one observation (its fields), or many: `{"id"?, "entity"?, "time"?, "data": {field: value}}`.

        >>> with Everloop() as everloop:
        ...     everloop.publish("market", {"price": 3.0}, id="order-17", entity="shop-3").ids
        ('order-17',)
        """
        single = isinstance(data, Mapping)
        entries = [wire.observation(data, id, entity, time)] if isinstance(data, Mapping) else data
        return self._send(loop, "events", entries, wire.with_id, single)

    @overload
    def predict(
        self,
        loop: str,
        data: Fields,
        *,
        id: str | None = None,
        entity: str | None = None,
        time: Time | None = None,
        explain: bool = False,
    ) -> Prediction: ...
    @overload
    def predict(self, loop: str, data: Entries, *, explain: bool = False) -> list[Prediction]: ...
    def predict(
        self,
        loop: str,
        data: Fields | Entries,
        *,
        id: str | None = None,
        entity: str | None = None,
        time: Time | None = None,
        explain: bool = False,
    ) -> Prediction | list[Prediction]:
        """Ask for a prediction, or for those of up to 1,000 observations: `{"id"?, "entity"?, "time"?, "data": ...}`.

        A second request with the same id gets the same prediction. Of a list all are predicted, in order, or none.
        `explain` asks what each feature contributed, of 100 observations at most; in a list, `"explain": True` asks for
        one of them.

        >>> with Everloop() as everloop:
        ...     everloop.predict("market", {"price": 3.0}, id="order-17").version
        '0'
        >>> with Everloop() as everloop:
        ...     [p.id for p in everloop.predict("market", [{"id": "order-17", "data": {"price": 3.0}}])]
        ['order-17']
        """
        body = wire.prediction_request(data, id, entity, time, explain)
        return wire.read_predictions(self._post("serving", wire.loop_path(loop, "predict"), body))

    def label(self, loop: str, id: str | Entries, label: Scalar | None = None, *, time: Time | None = None) -> Accepted:
        """Send the label of one prediction, or of many: `{"id", "label", "time"?, "key"?}`.

        A label without a time counts as of its arrival; of several labels, the one with the latest time counts.

        >>> with Everloop() as everloop:
        ...     everloop.label("market", [{"id": "order-17", "label": True}, {"id": "order-18", "label": False}]).ids
        ('order-17', 'order-18')
        """
        entries = [{"id": id}] if isinstance(id, str) else id
        return self._send(loop, "labels", entries, wire.with_key(time, label=label), isinstance(id, str))

    def feedback(
        self,
        loop: str,
        id: str | Entries,
        *,
        correct: bool | None = None,
        label: Scalar | None = None,
        comment: str | None = None,
        source: str | None = None,
        time: Time | None = None,
    ) -> Accepted:
        """Send a user's feedback about one prediction, or many: `{"id", "correct"|"label", "comment"?, "source"?}`.

        With a list, the arguments beside it are the defaults of its entries.

        >>> with Everloop() as everloop:
        ...     everloop.feedback("market", "order-17", correct=False, source="reviewer-4").accepted
        1
        """
        entries = [{"id": id}] if isinstance(id, str) else id
        complete = wire.with_key(time, correct=correct, label=label, comment=comment, source=source)
        return self._send(loop, "feedback", entries, complete, isinstance(id, str))

    def submit(
        self,
        loop: str,
        model: onnx_wire.Model,
        *,
        name: str,
        features: Sequence[str] | None = None,
        classes: Sequence[Scalar] | None = None,
        metrics: Mapping[str, float] | None = None,
        data_set: Any = None,
        outputs: Mapping[str, str] | None = None,
    ) -> Submitted:
        """Submit an ONNX model, its bytes or its path: it is tried, and challenges the loop's champion.

        `features` are the columns of a single input, in order (default: the loop's), `classes` those of its
        probabilities; `outputs` says which output is the `label`, the `probabilities` or the `value` where their names
        and shapes do not. `metrics` and `data_set` (or its name) are shown. The same model under the same name is the
        same version.

        >>> with Everloop() as everloop:
        ...     everloop.submit("market", MODEL, name="forest").version
        'forest-1@0'
        """
        content, path = onnx_wire.read_model(model), wire.loop_path(loop, "versions")
        described = {"name": name, "data_set": onnx_wire.data_set_name(data_set)}
        headers = onnx_wire.manifest_header(features, classes, metrics, outputs, **described)
        return onnx_wire.read_submitted(self.request("registry", "POST", path, content, onnx_wire.ONNX, headers))

    def searches(self, loop: str, *, trials: bool = False, search: str | None = None) -> list[Search]:
        """The last searches for better parameters of a loop's models, oldest first, or one of them, by its id.

        With `trials` each has its trials as far as they have come.

        >>> with Everloop() as everloop:
        ...     everloop.searches("market")[0].state
        'improved'
        """
        return read_searches(self.request("training", "GET", searches_path(loop, trials, search)))

    def search(self, loop: str, *, model: int = 0, reason: str = REQUESTED, key: str | None = None) -> Search:
        """Search for better parameters of a model now, among those that the loop's file names; returns at once.

        The same `key` again is the same search.

        >>> with Everloop() as everloop:
        ...     everloop.search("market", key="monday").is_running
        True
        """
        return read_search(self._post("training", searches_path(loop), search_body(model, reason, key)), loop)

    def dataset(
        self,
        loop: str,
        *,
        last: int | None = None,
        start: int | None = None,
        end: int | None = None,
        since: Time | None = None,
        until: Time | None = None,
        on_progress: Progress | None = None,
    ) -> DataSet:
        """Read what models learn of a loop: its `last` outcomes, those from offset `start` to `end`, or all.

        `since` and `until` are times of observations, the second excluded. The name of a data set in place of the
        loop's reads that one. Its digest is compared. `on_progress(rows, of)` is called while rows arrive.

        >>> with Everloop() as everloop:
        ...     everloop.dataset("market@0..1#3").digest == everloop.dataset("market", start=0, end=1).digest
        True
        """
        path = request_path(loop, last=last, start=start, end=end, since=since, until=until)
        return self._read_data_set(self._connections(), path, on_progress)

    def _send(
        self, loop: str, endpoint: str, entries: Entries, complete: Callable[[Any], Any], single: bool
    ) -> Accepted:
        answers, path = list[Accepted](), wire.loop_path(loop, endpoint)
        try:
            for batch in wire.batches(entries, complete):
                answers.append(Accepted((), tuple(batch.rejected)))
                if single and batch.rejected:
                    raise wire.refusal(batch.rejected[0])
                if batch.texts:
                    response = self._post("ingest", path, batch.body(single))
                    answers.append(wire.read_accepted(response, batch.indexes, single))
        except EverloopError as e:
            e.delivered = wire.merge(answers)
            raise
        return wire.merge(answers)

    def _post(self, service: str, path: str, body: bytes) -> httpx.Response:
        return self.request(service, "POST", path, body)

    def request(
        self,
        service: str,
        method: str,
        path: str,
        content: bytes | Iterable[bytes] | None = None,
        content_type: str = wire.JSON,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request to any service, with retries; the answer may be a refusal.

        `content` that comes in pieces is iterated over anew for each attempt.

        >>> with Everloop() as everloop:
        ...     everloop.request("monitoring", "GET", "/v1/loops").status_code
        200
        """
        attempts = Attempts(BACKOFF, self._retry_for)
        sent = {**trace_headers(), "content-type": content_type, **(headers or {})}
        while True:
            url = self._endpoints.url(service)
            try:
                authorized = sent | self._endpoints.header(url)
                response = self._connections().request(method, url + path, content=content, headers=authorized)
                failure = self._retryable(response)
            except httpx.TransportError as e:
                failure = self._lost(service, url, e)
            if failure is None:
                return response
            clock.sleep(self._pause_s(attempts, *failure))

    def _connections(self) -> httpx.Client:
        # A forked process has the parent's connections too: both would read each other's answers.
        if self._http is None or self._opened_by != os.getpid():
            self._http = self._open_connections()
            self._opened_by = os.getpid()
        return self._http
