"""The console, one page put together of the files in `console/` that asks this service alone, and where to sign in."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from everloop_shared.http import page

FOLDER = Path(__file__).parents[1] / "console"
SCRIPTS = (
    "parts.js",
    "requests.js",
    "overview.js",
    "candidate.js",
    "alerts.js",
    "quality.js",
    "features.js",
    "fairness.js",
    "predictions.js",
    "letters.js",
    "main.js",
)
"""In the order in which they are read: the last one starts the page."""


@cache
def console_page() -> str:
    """The page with its style and its scripts in it, so that its policy can name them by hash."""
    script = "".join(_read(name) for name in SCRIPTS)
    return _read("page.html").replace("{style}", _read("style.css")).replace("{script}", script)


def sign_in_page(*, has_provider: bool) -> str:
    """The page to sign in at; it says whether there is a provider, and nothing else of the installation."""
    html = _read("sign-in.html").replace("{style}", _read("style.css")).replace("{script}", _read("sign-in.js"))
    return html.replace("{no-provider}", "" if has_provider else " hidden")


def console_router(*, has_provider: bool | None = None) -> APIRouter:
    """The routes of the pages; without one to sign in at where `has_provider` is None, as nobody has to."""
    api = APIRouter()

    if has_provider is not None:
        signing_in = page(sign_in_page(has_provider=has_provider))

        @api.get("/sign-in", response_class=HTMLResponse, include_in_schema=False)
        async def sign_in() -> Response:
            return signing_in

    @api.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def console() -> Response:
        return page(console_page())

    return api


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
