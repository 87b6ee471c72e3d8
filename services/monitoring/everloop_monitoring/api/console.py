"""The console: one page, put together of the files in `console/`, that asks this service alone."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from everloop_shared.http import page

FOLDER = Path(__file__).parents[1] / "console"
SCRIPTS = (
    "parts.js",
    "overview.js",
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


def console_router() -> APIRouter:
    """The route of the console."""
    api = APIRouter()

    @api.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def console() -> Response:
        return page(console_page())

    return api


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
