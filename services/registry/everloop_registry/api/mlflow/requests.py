"""Requests of MLflow's clients: a query of GET, or a JSON body, as an object."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from everloop_registry.api.mlflow.access import ACTIONS, LoopAccess, Named
from everloop_registry.domain.pages import Page
from everloop_schemas.envelope import Event
from everloop_shared.commands import Actor, Command, CommandEdge, StoredNotPublished
from everloop_shared.errors import FieldError, InputRejected
from everloop_shared.http import read_body
from everloop_shared.http.json_body import parse_json

MAX_REQUEST_BYTES = 1_500_000
"""MLflow's own limit for what is logged at once is a million."""
MAX_STORED_ANSWERS = 1_000
MAX_KEY, MAX_NAME, MAX_ID = 250, 500, 256

Asked = TypeVar("Asked", bound="MlflowRequest")
Answer = dict[str, Any]


class MlflowRequest(BaseModel):
    """A request; fields of newer clients are ignored, as in MLflow."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    def named(self) -> list[Named]:
        """What it is about, for whose loop the caller needs a role; nothing: a role for all loops."""
        return []


Key = Annotated[str, Field(min_length=1, max_length=MAX_KEY)]
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID, pattern=r"^[a-zA-Z0-9][\w\-]*$")]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Token = Annotated[str, Field(max_length=1_000)]
Filter = Annotated[str, Field(max_length=5_000)]
OrderBy = Annotated[tuple[Annotated[str, Field(max_length=600)], ...], Field(max_length=20)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Listed = BeforeValidator(_listed)
"""A list of which a query may have one member only."""


class TextPair(MlflowRequest):
    """A tag or a parameter."""

    key: Key
    value: str = Field("", max_length=100_000)


class TextKey(MlflowRequest):
    """A tag by its key."""

    key: Key


class Description(MlflowRequest):
    """What somebody writes about a registered model, or a version."""

    description: str = Field("", max_length=5_000)


async def read_request(kind: type[Asked], request: Request) -> Asked:
    """The request as an object of `kind`; raises InputRejected, which names each field that is wrong."""
    if request.method == "GET":
        query = request.query_params
        asked: Any = {name: of if len(of := query.getlist(name)) > 1 else of[0] for name in query}
    else:
        body = await read_body(request, MAX_REQUEST_BYTES)
        asked = parse_json(body) if body else {}
    if isinstance(asked, dict):
        asked |= request.path_params
    try:
        return kind.model_validate(asked)
    except ValidationError as e:
        wrong = [FieldError(".".join(map(str, p["loc"])) or "body", p["msg"]) for p in e.errors(include_url=False)]
        raise InputRejected("; ".join(f"{w.field}: {w.error}" for w in wrong[:10]), wrong) from e


def page_token(page: Page[Any]) -> Answer:
    """The token of the next page; it is absent where there is none."""
    return {} if page.token is None else {"next_page_token": page.token}


class Queries:
    """Adds the routes that read, each with the action that its rule of access says."""

    def __init__(self, access: LoopAccess) -> None:
        self._access = access

    def add(
        self,
        routes: APIRouter,
        path: str,
        kind: type[Asked],
        answer: Callable[[Asked], Awaitable[Answer]],
        methods: Sequence[str] = ("GET",),
    ) -> None:
        """Add a route about something that belongs to a loop."""
        actions = {method: ACTIONS[method, routes.prefix + path] for method in methods}

        async def endpoint(request: Request) -> JSONResponse:
            asked = await read_request(kind, request)
            await self._access.require(actions[request.method], asked.named())
            return JSONResponse(await answer(asked))

        routes.add_api_route(path, endpoint, methods=list(methods), include_in_schema=False)

    def add_search(
        self,
        routes: APIRouter,
        path: str,
        kind: type[Asked],
        answer: Callable[[Asked, frozenset[str] | None], Awaitable[Answer]],
        methods: Sequence[str] = ("GET",),
    ) -> None:
        """Add a route that searches among the loops of the caller; None stands for all."""
        actions = {method: ACTIONS[method, routes.prefix + path] for method in methods}

        async def endpoint(request: Request) -> JSONResponse:
            asked = await read_request(kind, request)
            return JSONResponse(await answer(asked, await self._access.permitted(actions[request.method])))

        routes.add_api_route(path, endpoint, methods=list(methods), include_in_schema=False)


class Commands:
    """Adds the routes of commands, which are stored and published before they are answered.

    A command that was stored while Kafka was away is answered with 503, on which MLflow's client sends it again: it
    then gets the answer to what is stored, and nothing is created twice.
    """

    def __init__(self, edge: CommandEdge, access: LoopAccess) -> None:
        self._edge, self._access = edge, access
        self._stored: OrderedDict[tuple[str, str], Answer] = OrderedDict()

    def add(
        self,
        routes: APIRouter,
        path: str,
        kind: type[Asked],
        handle: Callable[[Asked, Actor], Awaitable[Sequence[Event]]],
        answer: Callable[[Asked, Sequence[Event]], Awaitable[Answer]] | None = None,
        method: str = "POST",
    ) -> None:
        """Add a route; `answer` is computed from the events, and is empty by default."""
        action = ACTIONS[method, routes.prefix + path]

        async def endpoint(request: Request) -> JSONResponse:
            command = await self._edge.accept(request.headers)
            asked = await read_request(kind, request)
            await self._access.require(action, asked.named())
            sent = f"{request.method} {request.url.path}", sha256(await request.body()).hexdigest()
            if sent in self._stored:
                return JSONResponse(await self._publish(command, sent))
            events: Sequence[Event] = ()

            async def handled(actor: Actor) -> Sequence[Event]:
                nonlocal events
                events = await handle(asked, actor)
                return events

            try:
                await command.run(handled)
            except StoredNotPublished:
                self._remember(sent, await answer(asked, events) if answer else {})
                raise
            return JSONResponse(await answer(asked, events) if answer else {})

        routes.add_api_route(path, endpoint, methods=[method], include_in_schema=False)

    async def _publish(self, command: Command, sent: tuple[str, str]) -> Answer:
        """Publish what is stored; the answer is forgotten only then."""

        async def nothing(actor: Actor) -> Sequence[Event]:
            return ()

        await command.run(nothing)
        return self._stored.pop(sent, {})

    def _remember(self, sent: tuple[str, str], answer: Answer) -> None:
        self._stored[sent] = answer
        while len(self._stored) > MAX_STORED_ANSWERS:
            self._stored.popitem(last=False)
