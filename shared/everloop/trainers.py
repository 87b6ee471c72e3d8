"""Trainers elsewhere: take the runs that ask for a model, train it with anything, and answer with an ONNX file."""

from __future__ import annotations

import atexit
import copy
import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4
from weakref import WeakSet

from everloop import onnx_wire, wire
from everloop.client import Everloop
from everloop.errors import EverloopError, EverloopHTTPError

if TYPE_CHECKING:
    from everloop.data_sets import DataSet
    from everloop_schemas.envelope import Scalar

log = logging.getLogger(__name__)
POLL_S = 20.0
"""How long one request waits for a run; shorter than the client waits for an answer."""
STOP_SEEN_S = 1.0
"""How long one request waits where the iteration can be stopped."""
RETRY_FOR_S = 600.0
"""How long a trainer waits for an installation that does not answer."""
RENEWALS_PER_LEASE = 3
NEEDS_NO_ANSWER = (404, 409)
"""The statuses that say so: the loop was deleted, or a newer run has taken the place of this one."""
REASON_CHARACTERS = 400
LEFT = "the trainer left the run without an answer; its own log says why"


@dataclass(frozen=True)
class Answered:
    """How a run has ended; its line predicts with the model the outcomes after `offset`, as `version`.

    >>> from everloop import trainer
    >>> for run in trainer("market", "pytorch", idle=0):
    ...     answered = run.submit(MODEL, metrics={"accuracy": 0.8})
    >>> answered.state, answered.line, answered.version
    ('trained', 'pytorch-0', 'pytorch-0@120')
    """

    run: str
    line: str
    state: str
    offset: int
    version: str | None


class TrainerRun:
    """A run that this trainer has taken: what to train on, and the ways to answer.

    While the trainer works, a thread renews the lease. `ended` says that an answer is no longer needed: it was given,
    or a newer run has taken this one's place (`reason_ended`).

    In a `with` block, an error in it fails the run with that error, and an interruption leaves it to the next trainer.
    The refusal of an answer that came too late, as a newer run has taken the place of this one, ends the block quietly.

    >>> from everloop import trainer
    >>> for run in trainer("market", "pytorch", idle=0):
    ...     with run:
    ...         epochs = run.parameters["epochs"]
    ...         ended = run.fail("the data set has one class")
    >>> epochs, ended.state, run.ended
    (5, 'failed', True)
    """

    def __init__(self, everloop: Everloop, taken: Mapping[str, Any]) -> None:
        self._everloop, self._lease = everloop, taken["lease"]
        self._done = threading.Event()
        self.loop: str = taken["loop"]
        self.run: str = taken["run"]
        self.line: str = taken["line"]
        self.trigger: str = taken["trigger"]
        self.reason: str = taken["reason"]
        self.task: str = taken["task"]
        self.classes: list[Scalar] | None = taken["classes"]
        self.parameters: dict[str, Scalar | None] = dict(taken["parameters"])
        self.data_set_name: str = taken["data_set"]["name"]
        self.attempt: int = self._lease["number"]
        self.reason_ended: str | None = None
        self._renewer = threading.Thread(target=self._renew, name=f"everloop-lease-{self.run[:8]}", daemon=True)

    def __repr__(self) -> str:
        return f"TrainerRun({self.loop}, {self.run}, {self.data_set_name})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
        if self.ended:
            is_late = isinstance(error, EverloopHTTPError) and error.status in NEEDS_NO_ANSWER
            if is_late:
                log.info("run needs no answer any more", extra={"run": self.run, "reason": str(error)})
            return is_late
        if isinstance(error, Exception):
            self._leave(f"{type(error).__name__}: {error}")
        elif error is not None:
            self.release()
        return False

    @property
    def ended(self) -> bool:
        """Whether an answer is no longer needed."""
        return self._done.is_set()

    @cached_property
    def data_set(self) -> DataSet:
        """The outcomes to train on, as `Everloop.dataset` gives them; read when it is first used."""
        return self._everloop.dataset(self.data_set_name)

    def submit(
        self,
        model: onnx_wire.Model,
        *,
        metrics: Mapping[str, float] | None = None,
        features: Sequence[str] | None = None,
        classes: Sequence[Scalar] | None = None,
        outputs: Mapping[str, str] | None = None,
        digest: str | None = None,
        rows: int | None = None,
    ) -> Answered:
        """Answer with an ONNX model, its bytes or its path; arguments are as in `Everloop.submit`.

        `digest` and `rows` are those of the data set where it was read from elsewhere than `data_set`.
        A model that is refused (EverloopHTTPError with status 422) leaves the run open: correct it and submit again.
        """
        if digest is None and "data_set" in vars(self):
            digest, rows = self.data_set.digest, len(self.data_set)
        headers = onnx_wire.manifest_header(features, classes, metrics, outputs, digest=digest, rows=rows)
        content = onnx_wire.read_model(model)
        response = self._everloop.request("training", "PUT", self._path("model"), content, onnx_wire.ONNX, headers)
        if response.status_code in (200, *NEEDS_NO_ANSWER):
            self._end()
        return self._answered(response)

    def fail(self, reason: str) -> Answered:
        """End the run without a model; the line keeps the one that it has."""
        self._end()
        return self._answered(self._post("fail", reason=reason[:REASON_CHARACTERS] or LEFT))

    def release(self) -> None:
        """Leave the run to the next trainer."""
        self._end()
        with suppress(EverloopError):  # at the latest the lease ends by itself
            self._post("release")

    def _start(self) -> None:
        _unfinished.add(self)
        self._renewer.start()

    def _end(self) -> None:
        self._done.set()
        _unfinished.discard(self)

    def _leave(self, reason: str) -> None:
        """Fail the run where it was left without an answer; a server that does not answer ends the lease by itself."""
        if not self.ended:
            with suppress(EverloopError):
                self.fail(reason)

    def _renew(self) -> None:
        everloop, pause = copy.copy(self._everloop), float(self._lease["seconds"]) / RENEWALS_PER_LEASE
        with everloop:
            while not self._done.wait(pause):
                with suppress(EverloopError):  # the next renewal may succeed
                    response = self._post("renew", everloop)
                    if response.status_code in NEEDS_NO_ANSWER:
                        self.reason_ended = wire.http_error(response).detail
                        self._end()

    def _post(self, verb: str, everloop: Everloop | None = None, **body: Any) -> Any:
        content = wire.to_json({"lease": self._lease["id"], **body})
        return (everloop or self._everloop).request("training", "POST", self._path(verb), content)

    def _path(self, verb: str) -> str:
        return wire.loop_path(self.loop, f"runs/{self.run}/{verb}")

    def _answered(self, response: Any) -> Answered:
        if response.status_code != 200:
            raise wire.http_error(response)
        body = response.json()
        return Answered(**{name: body[name] for name in ("run", "line", "state", "offset", "version")})


def trainer(
    loop: str,
    name: str,
    *,
    everloop: Everloop | None = None,
    data: str | None = None,
    stop: threading.Event | None = None,
    idle: float | None = None,
) -> Iterator[TrainerRun]:
    """The runs that ask trainer `name` for a model, one after the other; waits for the next one.

    The iteration ends when `stop` is set, by Ctrl-C while it waits, and after `idle` seconds without a run. A run that
    is left without an answer, by an error too, has failed: see `TrainerRun`. `data` is the folder of a local
    installation, `everloop` a client to use instead.

    >>> from everloop import trainer
    >>> for run in trainer("market", "pytorch", idle=0):
    ...     answered = run.submit(MODEL, metrics={"accuracy": 0.8})
    >>> run.data_set_name, answered.version
    ('market@0..99#1', 'pytorch-0@120')
    """
    client, idle_since = everloop or Everloop(data, retry_for=RETRY_FOR_S), time.monotonic()
    path = wire.loop_path(loop, "runs/lease")
    try:
        while not (stop and stop.is_set()):
            left = POLL_S if idle is None else min(POLL_S, idle_since + idle - time.monotonic())
            try:
                run = _take(client, path, name, max(0.0, left if stop is None else min(left, STOP_SEEN_S)))
            except KeyboardInterrupt:
                return
            if run is None:
                if idle is not None and time.monotonic() - idle_since >= idle:
                    return
                continue
            run._start()
            try:
                yield run
            finally:
                run._leave(LEFT)
            idle_since = time.monotonic()
    finally:
        if everloop is None:
            client.close()


def _take(client: Everloop, path: str, name: str, wait: float) -> TrainerRun | None:
    """The next run, None where there is none within `wait` seconds."""
    wanted = {"trainer": name, "wait": wait, "lease": uuid4().hex}  # the same lease if the answer is lost
    response = client.request("training", "POST", path, wire.to_json(wanted))
    if response.status_code == 204:
        return None
    if response.status_code != 200:
        raise wire.http_error(response)
    return TrainerRun(client, response.json())


_unfinished: WeakSet[TrainerRun] = WeakSet()


@atexit.register
def _leave_unfinished() -> None:
    """The program ends, by an error that nobody caught perhaps: the runs that it had have failed."""
    error = getattr(sys, "last_value", None)
    for run in list(_unfinished):
        run._leave(f"{type(error).__name__}: {error}" if error else LEFT)
