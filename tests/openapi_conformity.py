"""Checks each answer of an application against its OpenAPI document: status, content type, and the body's schema."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import pytest
from fastapi import FastAPI
from openapi_schema_validator import OAS31Validator
from starlette.types import Message, Receive, Scope, Send


class ConformingApp:
    """The application; a test fails if the answer to a request to a documented address is not documented."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application, then check what it answered."""
        sent: list[Message] = []

        async def keep(message: Message) -> None:
            sent.append(message)
            await send(message)

        path, method = str(scope["path"]), str(scope["method"])
        await self._app(scope, receive, keep)
        if sent and method not in ("HEAD", "OPTIONS"):
            try:
                self.check(method.lower(), path, sent)
            except AssertionError as e:
                pytest.fail(str(e))  # no Exception, which a client without `raise_app_exceptions` would swallow

    def check(self, method: str, path: str, sent: list[Message]) -> None:
        """Raises AssertionError where the document does not name this answer, or gives another form."""
        operation = self._find(method, path)
        if operation is None:
            return
        status, headers = str(sent[0]["status"]), dict(sent[0]["headers"])
        subject = f"{method} {path}: {status}"
        assert status in operation["responses"], f"{subject} is not documented"
        content = operation["responses"][status].get("content", {})
        kind = headers.get(b"content-type", b"").decode().partition(";")[0]
        if status == "204":
            return  # no content, and no type of it
        assert kind in content, f"{subject} {kind!r} is not among {list(content)}"
        if kind.endswith(("/json", "+json")) and b"content-encoding" not in headers:
            body = json.loads(b"".join(m.get("body", b"") for m in sent[1:]))
            errors = self._validator(content[kind]["schema"]).iter_errors(body)
            assert not (wrong := [error.message[:500] for error in errors]), f"{subject} {wrong}"

    def _find(self, method: str, path: str) -> Mapping[str, Any] | None:
        path = path.rstrip("/") or "/"
        return next((m[method] for pattern, m in self._paths if pattern.fullmatch(path) and method in m), None)

    @cached_property
    def _document(self) -> dict[str, Any]:
        return self._app.openapi()

    @cached_property
    def _paths(self) -> list[tuple[re.Pattern[str], Mapping[str, Any]]]:
        paths = self._document["paths"].items()
        return [(re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path)), methods) for path, methods in paths]

    def _validator(self, schema: Mapping[str, Any]) -> OAS31Validator:
        return OAS31Validator({**schema, "components": self._document["components"]})
