"""Which of MLflow's routes answer whom: cell by cell, for who has a role for one loop and names another's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.access import add_key, bearer
from tests.databases import database_url
from tests.registry.registry_harness import LOOP_FILE, YAML, registry_on

from everloop_registry.domain.tracking import experiment_id
from everloop_registry.settings import RegistrySettings
from everloop_schemas.access.routes import RULES
from everloop_schemas.tracking import RunLogged
from everloop_shared.access.key_file import GrantedRole
from everloop_shared.clock import system_clock
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = pytest.mark.app
API, FILES = "/api/2.0/mlflow", "/api/2.0/mlflow-artifacts"
UNKNOWN_ID = "f" * 32


@dataclass(frozen=True)
class Place:
    """A loop, and what belongs to it in MLflow's words."""

    loop: str
    experiment: str
    run: str
    model: str


Sent = Mapping[str, Any]
BY_MODEL: Callable[[Place], Sent] = lambda p: {"name": p.loop}  # noqa: E731
BY_VERSION: Callable[[Place], Sent] = lambda p: {"name": p.loop, "version": "1"}  # noqa: E731
BY_RUN: Callable[[Place], Sent] = lambda p: {"run_id": p.run}  # noqa: E731
BY_EXPERIMENT: Callable[[Place], Sent] = lambda p: {"experiment_id": p.experiment}  # noqa: E731
BY_PATH: Callable[[Place], Sent] = lambda p: {}  # noqa: E731
TAG = {"key": "k", "value": "v"}
SENT: Mapping[str, Callable[[Place], Sent]] = {
    "GET experiments/get": BY_EXPERIMENT,
    "GET experiments/get-by-name": lambda p: {"experiment_name": p.loop},
    "POST experiments/create": BY_MODEL,
    "POST experiments/update": lambda p: {**BY_EXPERIMENT(p), "new_name": "other"},
    "POST experiments/delete": BY_EXPERIMENT,
    "POST experiments/restore": BY_EXPERIMENT,
    "POST experiments/set-experiment-tag": lambda p: {**BY_EXPERIMENT(p), **TAG},
    "POST experiments/delete-experiment-tag": lambda p: {**BY_EXPERIMENT(p), **TAG},
    "GET runs/get": BY_RUN,
    "GET metrics/get-history": lambda p: {**BY_RUN(p), "metric_key": "m"},
    "POST runs/create": BY_EXPERIMENT,
    "POST runs/update": lambda p: {**BY_RUN(p), "status": "FINISHED"},
    "POST runs/delete": BY_RUN,
    "POST runs/restore": BY_RUN,
    "POST runs/set-tag": lambda p: {**BY_RUN(p), **TAG},
    "POST runs/delete-tag": lambda p: {**BY_RUN(p), **TAG},
    "POST runs/log-metric": lambda p: {**BY_RUN(p), "key": "m", "value": 1, "timestamp": 1, "model_id": p.model},
    "POST runs/log-parameter": lambda p: {**BY_RUN(p), **TAG},
    "POST runs/log-batch": lambda p: {**BY_RUN(p), "tags": [TAG]},
    "POST runs/log-inputs": lambda p: {**BY_RUN(p), "models": [{"model_id": p.model}]},
    "POST runs/outputs": lambda p: {**BY_RUN(p), "models": [{"model_id": p.model}]},
    "POST logged-models": lambda p: {**BY_EXPERIMENT(p), "source_run_id": p.run},
    "GET logged-models/{model_id}": BY_PATH,
    "PATCH logged-models/{model_id}": lambda p: {"status": "LOGGED_MODEL_READY"},
    "DELETE logged-models/{model_id}": BY_PATH,
    "GET logged-models/{model_id}/artifacts/directories": BY_PATH,
    "PATCH logged-models/{model_id}/tags": lambda p: {"tags": [TAG]},
    "DELETE logged-models/{model_id}/tags/{tag_key}": BY_PATH,
    "POST logged-models/{model_id}/params": lambda p: {"params": [TAG]},
    "GET registered-models/get": BY_MODEL,
    "GET registered-models/alias": lambda p: {**BY_MODEL(p), "alias": "champion"},
    "GET registered-models/get-latest-versions": BY_MODEL,
    "POST registered-models/get-latest-versions": BY_MODEL,
    "POST registered-models/create": BY_MODEL,
    "PATCH registered-models/update": lambda p: {**BY_MODEL(p), "description": "d"},
    "POST registered-models/set-tag": lambda p: {**BY_MODEL(p), **TAG},
    "DELETE registered-models/delete-tag": lambda p: {**BY_MODEL(p), **TAG},
    "POST registered-models/rename": BY_MODEL,
    "DELETE registered-models/delete": BY_MODEL,
    "POST registered-models/alias": lambda p: {**BY_MODEL(p), "alias": "champion"},
    "DELETE registered-models/alias": lambda p: {**BY_MODEL(p), "alias": "champion"},
    "GET model-versions/get": BY_VERSION,
    "GET model-versions/get-download-uri": BY_VERSION,
    "PATCH model-versions/update": lambda p: {**BY_VERSION(p), "description": "d"},
    "POST model-versions/set-tag": lambda p: {**BY_VERSION(p), **TAG},
    "DELETE model-versions/delete-tag": lambda p: {**BY_VERSION(p), **TAG},
    "POST model-versions/transition-stage": BY_VERSION,
    "DELETE model-versions/delete": BY_VERSION,
    "POST model-versions/create": lambda p: {**BY_MODEL(p), "source": f"models:/{p.model}", "run_id": p.run},
}
"""What each route below API is sent about a place; searches and files have tests of their own."""
SEARCHES: Mapping[str, Callable[[Place, Place], Sent]] = {
    "GET experiments/search": lambda a, b: {},
    "POST experiments/search": lambda a, b: {"view_type": "ALL"},
    "POST runs/search": lambda a, b: {"experiment_ids": [a.experiment, b.experiment, "0"]},
    "POST logged-models/search": lambda a, b: {"experiment_ids": [a.experiment, b.experiment, "0"]},
    "GET registered-models/search": lambda a, b: {},
    "GET model-versions/search": lambda a, b: {},
}
PATHS = ("runs/{run}/a.txt", "logged-models/{model}/a.txt", "versions/{loop}/1/MLmodel", "runs/{run}/versions/1")


@dataclass
class Installed:
    """A registry with two loops, of which the caller has all roles for one."""

    client: httpx.AsyncClient
    broker: MemoryBroker
    tokens: Mapping[str, str]
    mine: Place
    other: Place

    async def send(self, route: str, sent: Sent, place: Place, token: str = "mine") -> httpx.Response:
        """A request to a route below API, about a place."""
        method, _, path = route.partition(" ")
        path = f"{API}/{path}".replace("{model_id}", place.model).replace("{tag_key}", "k")
        body = {"params": sent} if method == "GET" else {"json": sent} if sent or method != "DELETE" else {}
        return await self.request(method, path, token, **body)

    async def request(self, method: str, path: str, token: str = "mine", **more: Any) -> httpx.Response:
        """A request by who has this token."""
        url = str(self.client.base_url).removesuffix("/v1/loops/") + path
        headers = {**bearer(self.tokens[token]), "content-type": "application/json"}
        return await self.client.request(method, url, headers=headers, **more)


@asynccontextmanager
async def installed(folder: Path) -> AsyncIterator[Installed]:
    """The registry, with a run and a logged model in each loop."""
    file, broker, now = folder / "keys.json", MemoryBroker(), system_clock()
    tokens = {
        "owner": add_key(file, "owner", "admin", now=now),
        "mine": add_key(file, "ada", GrantedRole(role="admin", loops=("market",)), now=now),
        "viewer": add_key(file, "vic", GrantedRole(role="viewer", loops=("market",)), now=now),
    }
    access: dict[str, Any] = {"auth": "on", "auth_keys": file}
    settings = RegistrySettings(data=folder, port=0, database_url=database_url(folder), settle_s=0.0, **access)
    async with registry_on(broker.engine, settings) as client:
        nowhere = Place("none", "1", UNKNOWN_ID, "m-" + UNKNOWN_ID)
        made = Installed(client, broker, tokens, nowhere, nowhere)
        made.mine, made.other = [await placed(made, loop) for loop in ("market", "fraud")]
        yield made


async def placed(made: Installed, loop: str) -> Place:
    """A loop that is applied, with a run and a logged model."""
    headers = {**bearer(made.tokens["owner"]), **YAML}
    done = await made.client.put(f"/{loop}", content=LOOP_FILE.replace("market", loop), headers=headers)
    assert done.status_code == 201
    experiment = experiment_id(loop)
    place = Place(loop, experiment, UNKNOWN_ID, "m-" + UNKNOWN_ID)
    run = await made.send("POST runs/create", {"experiment_id": experiment}, place, "owner")
    model = await made.send("POST logged-models", {"experiment_id": experiment}, place, "owner")
    return Place(loop, experiment, run.json()["run"]["info"]["run_id"], model.json()["model"]["info"]["model_id"])


def is_refused(answer: httpx.Response) -> bool:
    """Whether the caller lacks a role."""
    return answer.status_code == 403 and "may not" in answer.json()["message"]


async def test_every_route_answers_about_ones_own_loop_and_refuses_another_and_what_is_not_there_alike(
    tmp_path: Path,
) -> None:
    async with installed(tmp_path) as made:
        before = len(made.broker.events(RunLogged.topic))
        unknown = Place("nobody", experiment_id("nobody"), UNKNOWN_ID, "m-" + UNKNOWN_ID)
        wrong, told_apart = [], []
        for route, sent in SENT.items():
            other, none = [await made.send(route, sent(p), p) for p in (made.other, unknown)]
            if not (is_refused(other) and is_refused(none)):
                wrong.append((route, other.text, none.text))
            if hide(other.text, made.other) != hide(none.text, unknown):
                told_apart.append((route, other.text, none.text))
        unchanged = len(made.broker.events(RunLogged.topic)) == before
        mine = {route: await made.send(route, sent(made.mine), made.mine) for route, sent in SENT.items()}

    assert wrong == []
    assert told_apart == []
    assert unchanged
    assert [route for route, answer in mine.items() if is_refused(answer) or answer.status_code >= 500] == []


def hide(text: str, place: Place) -> str:
    """An answer without the names that the request had."""
    for name in (place.model, place.run, place.experiment, place.loop):
        text = text.replace(name, "…")
    return text


@pytest.mark.usefixtures("databases")
async def test_searches_and_lists_have_only_what_belongs_to_loops_of_the_caller(tmp_path: Path) -> None:
    async with installed(tmp_path) as made:
        found = {}
        for route, sent in SEARCHES.items():
            asked = sent(made.mine, made.other)
            found[route] = [(await made.send(route, asked, made.mine, who)).text for who in ("mine", "owner")]

    names = {
        "experiments/search": "experiment",
        "runs/search": "run",
        "logged-models/search": "model",
        "registered-models/search": "loop",
    }
    for route, (few, all_found) in found.items():
        if (name := names.get(route.partition(" ")[2])) is not None:
            own, others = getattr(made.mine, name), getattr(made.other, name)
            there = [name in text for text in (few, all_found) for name in (own, others)]
            assert there == [True, False, True, True], route
    assert "Default" not in found["GET experiments/search"][0]


async def test_files_are_those_of_ones_own_loops(tmp_path: Path) -> None:
    async with installed(tmp_path) as made:
        answers = {
            (method, path, place.loop): await made.request(
                method,
                f"{FILES}/artifacts/{path.format(run=place.run, model=place.model, loop=place.loop)}",
                content=b"x" if method == "PUT" else None,
            )
            for method in ("PUT", "GET", "DELETE")
            for path in PATHS
            for place in (made.mine, made.other)
        }
        listed = [
            await made.request("GET", f"{FILES}/artifacts", params={"path": f"runs/{p.run}"})
            for p in (made.mine, made.other)
        ]
        multipart = await made.request("POST", f"{FILES}/mpu/create/x", json={})

    assert [key for key, answer in answers.items() if is_refused(answer) != (key[2] == "fraud")] == []
    assert answers["GET", PATHS[0], "market"].content == b"x"
    assert [is_refused(answer) for answer in listed] == [False, True]
    assert multipart.status_code == 404


async def test_a_version_is_made_only_from_what_the_caller_may_read_and_metrics_go_only_to_their_own_models(
    tmp_path: Path,
) -> None:
    async with installed(tmp_path) as made:
        mine, other = made.mine, made.other
        sources = (
            f"models:/{other.model}",
            f"runs:/{other.run}/model",
            f"mlflow-artifacts:/runs/{other.run}/model",
            f"mlflow-artifacts:/logged-models/{other.model}",
        )
        stolen = [
            await made.send("POST model-versions/create", {"name": mine.loop, "source": source}, mine)
            for source in sources
        ]
        foreign_run = {"name": mine.loop, "source": f"models:/{mine.model}", "run_id": other.run}
        stolen.append(await made.send("POST model-versions/create", foreign_run, mine))
        value = {"key": "m", "value": 1, "timestamp": 1, "model_id": other.model}
        stolen.append(await made.send("POST runs/log-batch", {"run_id": mine.run, "metrics": [value]}, mine))
        stolen.append(await made.send("POST logged-models", {**BY_EXPERIMENT(mine), "source_run_id": other.run}, mine))
        own = await made.send("POST model-versions/create", SENT["POST model-versions/create"](mine), mine)

    assert [is_refused(answer) for answer in stolen] == [True] * 7
    assert not is_refused(own)


async def test_what_belongs_to_no_loop_takes_a_role_for_all_and_a_reader_of_a_loop_only_reads(tmp_path: Path) -> None:
    async with installed(tmp_path) as made:
        owned = await made.send("POST experiments/create", {"name": "lab"}, made.mine, "owner")
        lab = {"experiment_id": owned.json()["experiment_id"]}
        alone = [
            await made.send("POST experiments/create", {"name": "other-lab"}, made.mine),
            await made.send("GET experiments/get", lab, made.mine),
            await made.send("POST runs/create", lab, made.mine),
            await made.send("POST runs/create", {}, made.mine),
        ]
        read = await made.send("GET runs/get", BY_RUN(made.mine), made.mine, "viewer")
        write = await made.send("POST runs/set-tag", {**BY_RUN(made.mine), **TAG}, made.mine, "viewer")

    assert [is_refused(answer) for answer in alone] == [True] * 4
    assert (read.status_code, write.status_code) == (200, 403)


def test_every_route_of_mlflow_is_tried() -> None:
    below = {f"{r.method} {r.path.removeprefix(API + '/')}" for r in RULES["registry"] if r.path.startswith(API + "/")}
    files = {(r.method, r.path) for r in RULES["registry"] if r.path.startswith(FILES)}

    assert below == {*SENT, *SEARCHES}
    assert files == {
        ("GET", f"{FILES}/artifacts"),
        *((method, f"{FILES}/artifacts/{{path:path}}") for method in ("GET", "PUT", "DELETE")),
        *((method, f"{FILES}/{{kind}}/{{path:path}}") for method in ("GET", "POST")),
    }
