"""Drives a Ray cluster from a process that does nothing else: connects, stores files there, and calls functions.

Ray's own calls may wait for minutes where a cluster has died, and its threads may end the process; so each call has a
deadline here, and whoever starts a driver takes the end of its process for a cluster that is away.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import numpy as np

from everloop_models.compute import ray_worker
from everloop_models.errors import WorkersUnfit
from everloop_shared.errors import Unavailable

REACH_S, CONNECT_S, ANSWER_S, END_S = 5.0, 60.0, 45.0, 10.0
AWAY_S = 15.0
"""A cluster that takes no connection for so long is away. Ray itself ends a driver, without exception, after 60 s."""
START_S = 120.0
"""In which a cluster must start a worker."""
LOOK_EVERY_S = 1.0
PART_BYTES = 32 << 20
AUTO, CLIENT_PORT = "auto", 10001
TRIES = 4
"""A call whose worker is killed is made again by Ray, this many times in all."""
SAME_EVERYWHERE = ("python", ray_worker.PROJECT, "ray", "numpy", "pydantic")
"""Packages that every worker must have as the driver has them."""
INSTALL = "pip install 'everloop[local,boosting,ray]' with the versions of this service"
T = TypeVar("T")


class FailedCall(NamedTuple):
    """A call that has no result: its function raised, or its workers were killed again and again."""

    reason: str


class RayDriver:
    """A connection to a cluster, of which a process has one."""

    def __init__(self, ray: Any, address: str, packages: Sequence[str]) -> None:
        self._ray, self._address = ray, address
        self._endpoint = _endpoint(ray, address)
        self._expected = ray_worker.versions((*SAME_EVERYWHERE, *packages))
        self._key, self._files = uuid.uuid4().hex, dict[str, list[Any]]()
        ray.cloudpickle.register_pickle_by_value(ray_worker)
        self._call = ray.remote(num_cpus=1, max_retries=TRIES - 1)(ray_worker.call)
        self._remove = ray.remote(num_cpus=0, max_retries=0)(ray_worker.remove)

    def put(self, files: Iterable[Path]) -> None:
        """Store files in the cluster, once; each function that is called finds them in its folder."""
        for path in files:
            references = self._files.setdefault(path.name, [])
            with path.open("rb") as file:
                while len(part := np.fromfile(file, dtype=np.uint8, count=PART_BYTES)):
                    references.append(self._ask(ANSWER_S, self._ray.put, part))

    def call(self, function: str, calls: Sequence[Sequence[Any]], seconds: float) -> list[Any]:
        """The results of `module:function` of the folder and of each of `calls`, in their order, or FailedCall.

        Each may take `seconds`, which the function itself must see to. Raises WorkersUnfit, and Unavailable where the
        cluster is away, or has not made all calls in the time that its workers need for them.
        """
        rounds = -(-len(calls) // self._wait_for_workers())
        limit = START_S + rounds * seconds
        reached = started = time.monotonic()
        waiting = references = [
            self._ask(ANSWER_S, self._call.remote, self._expected, self._key, self._files, function, args)
            for args in calls
        ]
        while waiting:
            now = time.monotonic()
            reached = now if _is_reached(self._endpoint) else reached
            if now - reached > AWAY_S:
                raise self._away(f"nothing listens at {':'.join(map(str, self._endpoint))} any more")
            if now - started > limit:
                done = f"{len(calls) - len(waiting)} of {len(calls)} calls"
                raise self._away(f"its workers have made {done} within {limit:,.0f} s: are they busy?")
            _, waiting = self._ask(ANSWER_S, self._ray.wait, waiting, num_returns=len(waiting), timeout=LOOK_EVERY_S)
        return [self._result(reference) for reference in references]

    def _wait_for_workers(self) -> int:
        """The number of calls that the cluster makes at a time, once that is one or more."""
        deadline = time.monotonic() + START_S
        while (cpus := int(self._ask(ANSWER_S, self._ray.cluster_resources).get("CPU", 0))) < 1:
            if time.monotonic() > deadline:
                raise self._away(f"it has had no worker with a CPU for {START_S:g} s")
            time.sleep(LOOK_EVERY_S)
        return cpus

    def _result(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            answer = self._ask(ANSWER_S, self._ray.get, reference)
        except errors.RayTaskError as e:
            return FailedCall(str(e).strip().rpartition("\n")[2])
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError):
            return FailedCall(f"its worker was killed, {TRIES} times")
        if "found" in answer:
            raise WorkersUnfit(self._difference(answer["host"], answer["found"]))
        return answer["result"]

    def _difference(self, host: str, found: Mapping[str, str]) -> str:
        wrong = [
            f"{name} is {'not installed' if found[name] == ray_worker.LACKS else found[name]}, here it is {version}"
            for name, version in self._expected.items()
            if found[name] != version
        ]
        return f"Ray's worker on {host} has other packages than this service: {'; '.join(wrong)}. There: {INSTALL}"

    def _ask(self, seconds: float, function: Callable[..., T], *args: Any, **named: Any) -> T:
        """What Ray answers within this time; raises Unavailable where it does not, or has lost its cluster."""
        errors = self._ray.exceptions
        try:
            return _within(seconds, lambda: function(*args, **named))
        except (errors.RayTaskError, errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError):
            raise
        except (errors.RayError, ConnectionError, TimeoutError, RuntimeError) as e:
            raise self._away(_text(e)) from e

    def _away(self, reason: str) -> Unavailable:
        return Unavailable(f"Ray at {self._address} is away: {reason}")

    def end(self) -> None:
        """Remove the files from all machines and disconnect, as far as that can be done in seconds."""
        with suppress(Exception):
            nodes = [node["NodeID"] for node in _within(END_S, self._ray.nodes) if node["Alive"]]
            strategy = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
            removed = [
                self._remove.options(scheduling_strategy=strategy(node, soft=False)).remote(self._key) for node in nodes
            ]
            _within(END_S, lambda: self._ray.wait(removed, num_returns=len(removed), timeout=END_S / 2))
        with suppress(Exception):
            _within(END_S, self._ray.shutdown)


@contextmanager
def connected(address: str, packages: Sequence[str]) -> Iterator[RayDriver]:
    """A driver of the cluster at `auto` or `ray://host:port`, whose workers must have `packages` as this process has.

    Raises Unavailable where the cluster cannot be reached, and WorkersUnfit where it or this process has no or another
    Ray.
    """
    try:
        ray = import_module("ray")
    except ImportError as e:
        raise WorkersUnfit(f"{e}: install Ray where training runs, with: pip install 'everloop[ray]'") from e
    _connect(ray, address)
    driver = RayDriver(ray, address, packages)
    try:
        yield driver
    finally:
        driver.end()


def _connect(ray: Any, address: str) -> None:
    deadline = time.monotonic() + CONNECT_S
    while True:
        try:
            if address != AUTO:  # Ray's own client waits for half a minute to see that nothing listens
                socket.create_connection(_endpoint(ray, address), REACH_S).close()
            _within(CONNECT_S, lambda: ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR))
            return
        except Exception as e:
            text = _text(e)
            if any(word in text.lower() for word in ("version mismatch", "versions differ")):
                raise WorkersUnfit(f"Ray at {address} is another one than here: {text}") from e
            if isinstance(e, ImportError):
                raise WorkersUnfit(f"{text}: install with: pip install 'everloop[local,ray]'") from e
            is_final = isinstance(e, OSError) and not isinstance(e, ConnectionAbortedError)
            if is_final or time.monotonic() > deadline:
                raise Unavailable(f"Ray at {address} cannot be reached: {text}") from e
        with suppress(Exception):
            _within(END_S, ray.shutdown)
        time.sleep(LOOK_EVERY_S)


def _endpoint(ray: Any, address: str) -> tuple[str, int]:
    """Where the cluster listens; of `auto` once it is connected."""
    parts = urlsplit(f"ray://{ray.get_runtime_context().gcs_address}" if address == AUTO else address)
    return parts.hostname or "", parts.port or CLIENT_PORT


def _is_reached(endpoint: tuple[str, int]) -> bool:
    try:
        socket.create_connection(endpoint, REACH_S).close()
    except OSError:
        return False
    return True


def _within(seconds: float, function: Callable[[], T]) -> T:
    """What the function returns or raises; TimeoutError after `seconds`, when its thread is left to itself."""
    answer: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answer.put((True, function()))
        except BaseException as e:
            answer.put((False, e))

    threading.Thread(target=run, daemon=True).start()
    try:
        is_returned, value = answer.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"it has not answered within {seconds:g} s") from None
    if is_returned:
        return value  # type: ignore[no-any-return]
    raise value


def _text(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:500]
