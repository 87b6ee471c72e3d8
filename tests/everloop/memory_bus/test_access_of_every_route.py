"""Every route of every service, documented or not, asks for a token and a role; the matrix says for which."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from tests.access import AnsweredRoute, add_key, answered_routes, bearer

from everloop.memory_bus.app import build
from everloop_schemas.access.roles import ACTIONS, ROLES, roles_for
from everloop_schemas.access.routes import GRPC, OPEN, OPEN_RULES, RULES, Reach
from everloop_shared.access.control import RouteTable
from everloop_shared.access.identity import current_identity
from everloop_shared.access.key_file import GrantedRole
from everloop_shared.http import HttpEndpoint
from everloop_shared.http.app import GuardedApp

pytestmark = pytest.mark.app
SERVICES = ("ingest", "feature", "training", "registry", "serving", "monitoring", "topics")
MINE, OTHERS = "churn-eu", "fraud"
CONTENT_TYPES = {
    AnsweredRoute("POST", "/v1/loops/{loop}/versions"): "application/onnx",
    AnsweredRoute("PUT", "/v1/loops/{loop}/runs/{run}/model"): "application/onnx",
}
MINE_ALONE = GrantedRole(role="admin", loops=("churn-*",))


ANSWERED_TO_ALL = {(service, AnsweredRoute("GET", path)) for service in SERVICES for path in OPEN} | {
    (service, AnsweredRoute(*route)) for service, routes in OPEN_RULES.items() for route in routes
}


class Installation:
    """The applications of all services behind their guards; what passes a guard is answered with 204."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "keys.json"
        self.tokens = {role: add_key(self.file, role, role) for role in ROLES}
        self.tokens["mine"] = add_key(self.file, "mine", MINE_ALONE)
        env = {"EVERLOOP_AUTH": "on", "EVERLOOP_AUTH_KEYS": str(self.file)}
        self.apps: dict[str, GuardedApp] = {}
        for service in build(folder, dict.fromkeys(SERVICES, 0), env):
            [endpoint] = [e for e in service.endpoints if isinstance(e, HttpEndpoint)]
            self.apps[service.name] = endpoint.app(service)

    def routes(self) -> Iterator[tuple[str, AnsweredRoute]]:
        """Each route with its service."""
        for name, app in self.apps.items():
            yield from ((name, route) for route in answered_routes(app))

    def guarded(self) -> Iterator[tuple[str, AnsweredRoute]]:
        """Those that need a token."""
        yield from ((service, route) for service, route in self.routes() if (service, route) not in ANSWERED_TO_ALL)

    async def status(self, service: str, route: AnsweredRoute, loop: str, token: str | None) -> int:
        """What the guard answers to a request without a body, or the 204 behind it."""
        path = re.sub(r"\{[^}]*\}", "x1", route.path.replace("{loop}", loop))
        sent = {"content-type": CONTENT_TYPES.get(route, "application/json"), **(bearer(token) if token else {})}
        return await request(self.apps[service], route.method, path, sent)


async def request(app: Callable[..., Any], method: str, path: str, headers: Mapping[str, str]) -> int:
    """The status of the answer of an application."""
    found: list[int] = []
    lines = {"host": "127.0.0.1", "content-type": "application/json", **headers}

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            found.append(message["status"])

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
        "server": ("127.0.0.1", 80),
        "extensions": {},
    }
    await app(scope, receive, send)
    return found[0]


async def answer_204(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands behind the guard."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """All services, with a key for each role."""
    made = Installation(tmp_path_factory.mktemp("access"))
    with pytest.MonkeyPatch.context() as patch:
        for app in made.apps.values():
            patch.setattr(app.guard, "_app", answer_204)
        yield made


async def test_without_a_token_only_health_and_signing_in_answer(installation: Installation) -> None:
    routes = list(installation.routes())

    answered = [(s, r) for s, r in routes if await installation.status(s, r, MINE, None) != 401]

    assert len(routes) > 130
    assert sorted(answered) == sorted(ANSWERED_TO_ALL)
    assert {service for service, route in answered if route.path not in OPEN} == {"monitoring"}


async def test_who_asks_for_what_is_open_may_do_nothing(installation: Installation) -> None:
    app, asked = installation.apps["monitoring"], []

    async def remember(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(current_identity())
        await answer_204(scope, receive, send)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.guard, "_app", remember)
        for method, path in OPEN_RULES["monitoring"]:
            await request(app, method, path, bearer(installation.tokens["admin"]))

    assert len(asked) == len(OPEN_RULES["monitoring"])
    assert not any(identity.may_somewhere(action) for identity in asked for action in ACTIONS)


async def test_every_route_has_a_rule_and_every_rule_a_route(installation: Installation) -> None:
    ruled = {(service, rule.method, rule.path) for service, rules in RULES.items() for rule in rules}

    answered = {(service, *route) for service, route in installation.guarded()}

    assert answered - ruled == set()
    assert ruled - answered == set()
    assert {rule.action for rules in RULES.values() for rule in rules} | set(GRPC.values()) == set(ACTIONS)


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_may_what_the_matrix_says_and_nothing_else(installation: Installation, role: str) -> None:
    rules = {(s, r.method, r.path): r for s, found in RULES.items() for r in found}
    wrong = [
        (service, route)
        for service, route in installation.guarded()
        if (await installation.status(service, route, MINE, installation.tokens[role]))
        != (204 if role in roles_for(rules[service, route.method, route.path].action) else 403)
    ]

    assert wrong == []


async def test_a_token_for_other_loops_is_refused_wherever_a_loop_is_named(installation: Installation) -> None:
    token, reaches = installation.tokens["mine"], {(s, r.method, r.path): r.reach for s in RULES for r in RULES[s]}

    for service, route in installation.guarded():
        reach = reaches[service, route.method, route.path]
        mine = await installation.status(service, route, MINE, token)
        others = await installation.status(service, route, OTHERS, token)
        expected = {Reach.LOOP: (204, 403), Reach.SOME: (204, 204), Reach.ALL: (403, 403)}[reach]
        assert (mine, others) == expected, (service, route)


async def test_some_cells_of_the_matrix_are_as_people_expect_them() -> None:
    cells = {
        ("publisher", "events.publish"): True,
        ("publisher", "labels.publish"): False,
        ("labeler", "events.publish"): False,
        ("predictor", "predict"): True,
        ("predictor", "loops.read"): False,
        ("viewer", "loops.read"): True,
        ("viewer", "predict"): False,
        ("viewer", "data.read"): False,
        ("engineer", "loops.apply"): True,
        ("engineer", "rollout.change"): False,
        ("operator", "rollout.change"): True,
        ("operator", "loops.apply"): False,
        ("auditor", "letters.read"): True,
        ("auditor", "letters.send"): False,
        **{("admin", action): True for action in ACTIONS},
    }

    found = {(role, action): role in roles_for(action) for role, action in cells}

    assert found == cells


async def test_a_route_without_a_rule_is_refused_to_everybody(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = installation.apps["feature"]
    assert app.guard.admission is not None
    monkeypatch.setattr(app.guard.admission.access, "_routes", RouteTable(()))
    token = bearer(installation.tokens["admin"])

    forgotten = await request(app, "GET", "/v1/loops/churn", token)
    nothing = await request(app, "GET", "/nothing", token)

    assert (forgotten, nothing) == (403, 204), "what no route answers is left to the framework, which says 404"


async def test_an_encoded_slash_gives_no_other_loop(installation: Installation) -> None:
    token = installation.tokens["mine"]

    inside = await request(installation.apps["serving"], "POST", "/v1/loops/churn-eu/../fraud/predict", bearer(token))
    longer = await request(installation.apps["serving"], "POST", "/v1/loops/fraud/predict/", bearer(token))

    assert (inside, longer) == (204, 403), "the first is no route: the framework answers it with 404"
