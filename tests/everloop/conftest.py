"""A small installation for the client and the command line: the real ingest, served over TCP on the memory bus."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from tests.builders.events import outcome_observed, search_finished, search_requested, trial_finished
from tests.builders.loops import NOW, loop_spec, loop_state
from tests.http_apps import http_app

from everloop.local.ports import free_port
from everloop_ingest.app import build
from everloop_ingest.settings import IngestSettings
from everloop_learning.loops import KnownLoops
from everloop_schemas.envelope import Event, Topic
from everloop_schemas.registry import LoopState
from everloop_schemas.topology import SERVICES
from everloop_shared.commands import CommandEdge, publishing
from everloop_shared.messaging.memory import MemoryBroker
from everloop_training.adapters.data_set_files import DataSetFiles
from everloop_training.adapters.data_sets import DataSets
from everloop_training.adapters.searches import MemorySearchLog
from everloop_training.api import data_sets
from everloop_training.api.searches import search_router
from everloop_training.domain.run_quota import RunQuota
from everloop_training.domain.search_reply import SearchReply
from everloop_training.handlers import SearchHandlers
from everloop_training.settings import TrainingSettings

MARKET: dict[str, Any] = {
    "loop": "market",
    "task": "binary",
    "schema": {"price": {"type": "number"}, "demand": {"type": "number", "missing": "null"}},
}


LEASED: dict[str, Any] = {
    "loop": "market",
    "run": "run-1",
    "line": "pytorch-0",
    "trainer": "pytorch",
    "trigger": "drift",
    "reason": "a drift at offset 70",
    "task": "binary",
    "classes": None,
    "parameters": {"epochs": 5},
    "data_set": {"name": "market@0..99#1", "loop": "market", "start": 0, "end": 99, "revision": 1},
    "lease": {"id": "a" * 32, "number": 1, "seconds": 600.0, "until": "", "latest": ""},
}
"""A run that training offers to a trainer."""
ENDED: dict[str, Any] = {"run": "run-1", "line": "pytorch-0", "offset": 120}


@dataclass
class Served:
    """A served installation. `faults` are played to the next requests: a status, or 0 to drop the connection."""

    folder: Path
    port: int
    broker: MemoryBroker
    seen: list[tuple[str, Any]] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    outcomes: MemoryBroker = field(default_factory=lambda: MemoryBroker(partitions=1))
    offered: list[dict[str, Any]] = field(default_factory=lambda: [LEASED])
    renewed: int = 200

    @property
    def url(self) -> str:
        """The one address of all its services."""
        return f"http://127.0.0.1:{self.port}"

    def events(self, topic: Topic) -> list[Any]:
        """What lies on a topic."""
        return self.broker.events(topic)

    def write_services_json(self, port: int | None = None) -> None:
        """Write services.json."""
        url = f"http://127.0.0.1:{port or self.port}"
        (self.folder / "services.json").write_text(json.dumps({name: {"url": url, "pid": 1} for name in SERVICES}))

    def _model_taken(self, body: bytes) -> JSONResponse:
        """What training answers to the model of a run."""
        if body == b"bad":
            return JSONResponse({"title": "No", "detail": "it predicts NaN"}, 422)
        if body == b"late":
            return JSONResponse({"title": "Run superseded", "detail": "is superseded by run-2"}, 409)
        return JSONResponse({**ENDED, "state": "trained", "version": "pytorch-0@120"})

    def app(self, inner: FastAPI) -> Any:
        """The endpoints, with a record of the requests to them, and their faults."""

        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["method"] == "GET":
                return await inner(scope, receive, send)
            request = Request(scope, receive)
            body = await request.body()
            fault = self.faults.pop(0) if self.faults else None
            if fault == 0:
                return await send(
                    {"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"9")]}
                )
            if fault is not None:
                return await JSONResponse({"title": "Away"}, fault, {"retry-after": "0"})(scope, receive, send)
            self.seen.append((scope["path"], body))
            if scope["path"].endswith("/versions"):
                return await _submitted(request, body)(scope, receive, send)
            if scope["path"].endswith("/model"):
                return await self._model_taken(body)(scope, receive, send)
            await inner(scope, _again(body), send)

        return outer


def _submitted(request: Request, body: bytes) -> JSONResponse:
    """What the registry answers to a model; the header is there and says its name."""
    name = json.loads(request.headers["everloop-manifest"])["name"]
    digest = sha256(body).hexdigest()
    version = {"version": f"{name}-1@0", "line": f"{name}-1", "run": "run-1", "sha256": digest, "size": len(body)}
    return JSONResponse({"loop": request.url.path.split("/")[3], **version, "new": True}, 201)


def _again(body: bytes) -> Receive:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _rest(served: Served) -> APIRouter:
    """What the other services of an installation answer, as far as the command line asks them."""
    routes = APIRouter()

    @routes.put("/v1/loops/{loop}")
    async def put(loop: str, request: Request) -> JSONResponse:
        if b"os.system" in await request.body():
            error = {"field": "models.0.estimator", "error": "is not a river class"}
            return JSONResponse({"title": "No", "detail": "does not fit", "errors": [error]}, 422)
        return JSONResponse({"loop": loop, "revision": 3})

    @routes.delete("/v1/loops/{loop}")
    async def delete(loop: str, reason: str) -> JSONResponse:
        return JSONResponse({"loop": loop, "deleted": reason})

    @routes.get("/v1/loops")
    async def loops() -> JSONResponse:
        return JSONResponse({"loops": [{"loop": "market"}]})

    @routes.get("/v1/loops/{loop}/status")
    async def status(loop: str) -> JSONResponse:
        return JSONResponse(served.status)

    @routes.get("/v1/loops/market/{what}")
    async def past(what: str, as_of: str) -> JSONResponse:
        return JSONResponse({"decisions" if what == "history" else what: [{"as_of": as_of}]})

    @routes.post("/v1/loops/{loop}/runs/lease")
    async def lease() -> Response:
        return JSONResponse(served.offered.pop(0)) if served.offered else Response(status_code=204)

    @routes.post("/v1/loops/{loop}/runs/run-1/{verb}")
    async def act(verb: str) -> JSONResponse:
        if verb == "renew" and served.renewed != 200:
            return JSONResponse({"title": "No", "detail": "is superseded by run-2"}, served.renewed)
        return JSONResponse({**ENDED, "state": "failed", "version": None})

    @routes.post("/v1/loops/{loop}/predict")
    async def predict(loop: str, request: Request) -> JSONResponse:
        body = await request.json()
        rows = [
            {"id": row["id"], "prediction": True, "version": "0", "role": "baseline", **_explained(row)}
            for row in (body if isinstance(body, list) else [body])
        ]
        return JSONResponse(rows if isinstance(body, list) else rows[0])

    return routes


def _explained(row: Mapping[str, Any]) -> dict[str, Any]:
    """What serving answers to those who ask for an explanation of version 0."""
    if not row.get("explain"):
        return {}
    contributions = dict.fromkeys(row["data"], 0.0)
    return {"explanation": {"method": "permutation", "of": "true", "base": 0.5, "contributions": contributions}}


def _state() -> LoopState:
    return loop_state(loop_spec(**MARKET), revision=3)


def _outcomes() -> list[Event]:
    """Three labelled predictions."""
    rows = [(0.0, True), (1.0, False), (2.5, True)]
    return [
        outcome_observed(f"order-{i}", label, id=f"o-{i}", features={"price": price, "demand": None}, revision=3)
        for i, (price, label) in enumerate(rows)
    ]


def _data_sets(served: Served) -> APIRouter:
    """The data sets of training; outcomes have a broker of their own, with one partition: their offsets are known."""
    loops, settings = KnownLoops(), TrainingSettings(data=served.folder)
    loops.apply(_state())
    return data_sets.router(DataSetFiles(settings, loops, DataSets(loops, served.outcomes.engine("training"))))


class _Learners:
    """The learners, as far as a request for a search needs them."""

    async def request_search(self, loop: str, model: int, key: str, reason: str) -> SearchReply:
        return SearchReply(search_requested(key, key=f"manual/{key}", reason=reason, index=model, revision=3))


def _searches() -> APIRouter:
    """The searches of training: one that has ended."""
    loops, known = KnownLoops(), MemorySearchLog()
    searched = loop_spec(**MARKET, search={"space": {"models.0.l2": {"log": [0.001, 1.0]}}})
    loops.apply(loop_state(searched, revision=3))
    known.add_requested(search_requested("s1", revision=3, trials=3))
    for n, parameters in enumerate(({}, {"l2": 0.1}, {"l2": 0.9})):
        score = 0.5 + n % 2 / 4
        known.add_trial(trial_finished("s1", n, parameters=parameters, score=score, folds=[score, score], revision=3))
    known.add_finished(search_finished("s1", best=1, score=0.75, base_score=0.5, trials=3, revision=3))
    handlers = SearchHandlers(loops, known, _Learners(), lambda: NOW, RunQuota(5, "searches"))  # type: ignore[arg-type]

    async def publish(events: Sequence[Event]) -> None:
        pass

    return search_router(handlers, CommandEdge(publishing(publish)))


async def _serve(served: Served, up: threading.Event, stop: threading.Event) -> None:
    state: Event = _state()
    await served.broker.append(state.topic.name, state.key(), state.encode())
    for outcome in _outcomes():
        await served.outcomes.append(outcome.topic.name, outcome.key(), outcome.encode())
    service = build(IngestSettings(data=served.folder, port=served.port), served.broker.engine)
    await service.consumers[0].start()
    inner = http_app(service)

    @inner.middleware("http")
    async def spec(request: Request, answer: Any) -> Any:
        response = await answer(request)
        if request.method == "GET" and request.url.path == "/v1/loops/market":
            return JSONResponse({"loop": "market", "revision": 3, "spec": MARKET})
        return response

    inner.include_router(_data_sets(served))
    inner.include_router(_searches())
    inner.include_router(_rest(served))
    config = uvicorn.Config(served.app(inner), host="127.0.0.1", port=served.port, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    up.set()
    await asyncio.to_thread(stop.wait)
    server.should_exit = True
    await task
    await service.consumers[0].stop()


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Serve an installation from a thread, found by its folder; ended by the test."""
    served = Served(tmp_path, free_port(), MemoryBroker())
    served.write_services_json()
    monkeypatch.setenv("EVERLOOP_DATA", str(tmp_path))
    up, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(served, up, stop)))
    thread.start()
    try:
        assert up.wait(20), "the installation did not start"
        yield served
    finally:
        stop.set()
        thread.join(20)
