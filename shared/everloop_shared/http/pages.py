"""Pages for people, under a content-security policy that lets nothing run or load but what stands in the page."""

from __future__ import annotations

import json
import re
import shlex
from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape
from typing import Any

from fastapi.responses import HTMLResponse

_OF_A_PAGE = {
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
}
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)
_STYLE = """
:root { color-scheme:light dark }
body { margin:0 auto; max-width:900px; padding:24px 20px 60px; font:15px/1.5 system-ui,sans-serif }
h1 { font-size:20px } summary { cursor:pointer; padding:7px 0 }
details { border-top:1px solid #8884 } details > div { padding:0 0 14px 76px }
code,pre { font:13px/1.5 ui-monospace,monospace }
pre { overflow:auto; padding:10px 12px; background:#8881; border-radius:8px }
b { display:inline-block; width:76px; font-size:12px }
table { border-collapse:collapse } td,th { padding:3px 16px 3px 0; text-align:left; vertical-align:top }
em { opacity:.7; font-style:normal; margin-left:10px }
"""


def page(html: str) -> HTMLResponse:
    """An HTML page whose own inline scripts and styles may run, by their hashes, and which may ask its own service."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in _INLINE.findall(html):
        hashes[kind].append(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'")
    policy = [
        "default-src 'none'",
        *(f"{kind}-src {' '.join(found)}" for kind, found in hashes.items() if found),
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return HTMLResponse(html, headers={"content-security-policy": "; ".join(policy), **_OF_A_PAGE})


def documentation(openapi: Mapping[str, Any]) -> str:
    """A page about every route of an OpenAPI document: parameters, body, answers, and how to ask with curl."""
    title = escape(openapi["info"]["title"])
    operations = "\n".join(
        _operation(method.upper(), path, told, openapi)
        for path, methods in openapi["paths"].items()
        for method, told in methods.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f'<body><h1>{title}</h1><p>For programs: <a href="openapi.json">openapi.json</a>.</p>{operations}</body></html>'
    )


def _operation(method: str, path: str, told: Mapping[str, Any], openapi: Mapping[str, Any]) -> str:
    head = f"<summary><b>{method}</b><code>{escape(path)}</code><em>{escape(told.get('summary', ''))}</em></summary>"
    return f"<details>{head}<div>{''.join(_parts(method, path, told, openapi))}</div></details>"


def _parts(method: str, path: str, told: Mapping[str, Any], openapi: Mapping[str, Any]) -> Iterator[str]:
    if text := told.get("description"):
        yield f"<p>{escape(text)}</p>"
    if parameters := told.get("parameters"):
        yield _table(("parameter", "in", "type", ""), (_parameter(p) for p in parameters))
    content = told.get("requestBody", {}).get("content", {})
    yield f"<pre>{escape(_curl(method, path, content))}</pre>"
    for kind, media in content.items():
        yield f"<p>Body, <code>{escape(kind)}</code></p>{_schema(media.get('schema', {}), openapi)}"
    answers = told.get("responses", {}).items()
    yield _table(("answer", ""), ((str(status), escape(a.get("description", ""))) for status, a in answers))


def _parameter(told: Mapping[str, Any]) -> tuple[str, ...]:
    schema = told.get("schema", {})
    kind = schema.get("type") or " or ".join(s.get("type", "") for s in schema.get("anyOf", ()))
    notes = [*(["required"] if told.get("required") else []), told.get("description", schema.get("description", ""))]
    return tuple(escape(text) for text in (told["name"], told["in"], kind, ", ".join(n for n in notes if n)))


def _curl(method: str, path: str, content: Mapping[str, Any]) -> str:
    if method == "GET":
        return f"curl $URL{path}"
    kind = next(iter(content), "application/json")
    example = content.get(kind, {}).get("example", {})
    body = example if isinstance(example, str) else json.dumps(example)
    return f"curl -X {method} $URL{path} -H 'content-type: {kind}' -d {shlex.quote(body)}"


def _schema(schema: Mapping[str, Any], openapi: Mapping[str, Any]) -> str:
    found = _resolved(schema, openapi)
    return f"<pre>{escape(json.dumps(found, indent=2, ensure_ascii=False))}</pre>" if found else ""


def _resolved(schema: Any, openapi: Mapping[str, Any], depth: int = 4) -> Any:
    """The schema with what it refers to in its place, a few levels deep."""
    if isinstance(schema, list):
        return [_resolved(part, openapi, depth) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if depth and (name := schema.get("$ref", "").rpartition("/")[2]):
        return _resolved(openapi["components"]["schemas"].get(name, {}), openapi, depth - 1)
    return {key: _resolved(value, openapi, depth) for key, value in schema.items()}


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{text}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
