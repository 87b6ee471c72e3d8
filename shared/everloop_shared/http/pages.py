"""HTML pages, with a content-security policy that lets only their own inline scripts and styles run."""

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

_PAGE_HEADERS = {
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
    """An HTML page: its inline scripts and styles are allowed by hash, and requests to its own service."""
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
    return HTMLResponse(html, headers={"content-security-policy": "; ".join(policy), **_PAGE_HEADERS})


def documentation(openapi: Mapping[str, Any]) -> str:
    """A page that describes the routes of an OpenAPI document: parameters, body, responses, and a curl command."""
    title = escape(openapi["info"]["title"])
    operations = "\n".join(
        _operation(method.upper(), path, operation, openapi)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f'<body><h1>{title}</h1><p>For programs: <a href="openapi.json">openapi.json</a>.</p>{operations}</body></html>'
    )


def _operation(method: str, path: str, operation: Mapping[str, Any], openapi: Mapping[str, Any]) -> str:
    summary = f"<b>{method}</b><code>{escape(path)}</code><em>{escape(operation.get('summary', ''))}</em>"
    sections = "".join(_sections(method, path, operation, openapi))
    return f"<details><summary>{summary}</summary><div>{sections}</div></details>"


def _sections(method: str, path: str, operation: Mapping[str, Any], openapi: Mapping[str, Any]) -> Iterator[str]:
    if text := operation.get("description"):
        yield f"<p>{escape(text)}</p>"
    if parameters := operation.get("parameters"):
        yield _table(("parameter", "in", "type", ""), (_parameter(p) for p in parameters))
    content = operation.get("requestBody", {}).get("content", {})
    yield f"<pre>{escape(_curl(method, path, content))}</pre>"
    for kind, media in content.items():
        yield f"<p>Body, <code>{escape(kind)}</code></p>{_schema(media.get('schema', {}), openapi)}"
    responses = operation.get("responses", {}).items()
    yield _table(("answer", ""), ((str(status), escape(r.get("description", ""))) for status, r in responses))


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, ...]:
    schema = parameter.get("schema", {})
    kind = schema.get("type") or " or ".join(s.get("type", "") for s in schema.get("anyOf", ()))
    description = parameter.get("description", schema.get("description", ""))
    notes = ", ".join(note for note in ("required" if parameter.get("required") else "", description) if note)
    return tuple(escape(text) for text in (parameter["name"], parameter["in"], kind, notes))


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
    """The schema with its references replaced by what they refer to, a few levels deep."""
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
