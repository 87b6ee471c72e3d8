"""The Open Inference Protocol by REST, in JSON and binary, against the native route and MLServer: 1 row, 100 rows."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from tests.bench import lists, stream
from tests.bench.figures import Figure, Sample, against
from tests.bench.rest import BODIES, Load, bodies, load, ours, ours_served
from tests.bench.settings import Settings
from tests.bench.subject import Subject, program, until

from everloop.local.ports import free_port
from everloop_schemas.envelope import Fields

NATIVE_RATIO, MLSERVER_RATIO = 0.8, 6.0
CONNECTIONS = {1: 32, lists.ROWS: lists.CONNECTIONS}
"""By rows of a request."""
PATH = f"/v2/models/{stream.LOOP}/infer"
Rows = Sequence[tuple[int, Fields, bool]]


async def measure(settings: Settings) -> list[Figure]:
    """The same rows by every route in turn; ours has every record on its topic before a run ends."""
    figures = list[Figure]()
    async with ours_served(settings, "doors.") as (subject, bus), mlserver_served(settings) as peer:
        for rows, connections in CONNECTIONS.items():
            count = max(settings.rest_requests // rows, lists.LISTS)
            native, in_json, in_binary, other = list[Load](), list[Load](), list[Load](), list[Load]()
            for run in range(settings.runs + 1):
                sent = bodies() if rows == 1 else lists.lists()
                found = [await ours(subject, bus, connections, count, sent, rows)]
                for write in (as_json, as_binary):
                    found.append(await ours(subject, bus, connections, count, requests(rows, write), rows, PATH))
                if peer:
                    few = max(count // 10, lists.LISTS)
                    found.append(await load(peer, PATH, connections, few, requests(rows, as_json)))
                if run or settings.quick:  # the first one warms all up
                    for kept, one in zip((native, in_json, in_binary, other), found, strict=False):
                        kept.append(one)
            figures += _figures(rows, native, {"JSON": in_json, "binary": in_binary}, other)
    return figures


def _figures(
    rows: int, native: Sequence[Load], doors: dict[str, Sequence[Load]] | dict[str, list[Load]], other: Sequence[Load]
) -> list[Figure]:
    figures = list[Figure]()
    for form, found in doors.items():
        what = f"OIP by REST, {form}, " + ("one row" if rows == 1 else f"{rows} rows a request")
        client = median(one.client_cpu_us for one in found)
        note = f"the load generator used {client:.0f} us a request; {sum(one.failed for one in found)} failed"
        pair = against(f"{what}, against the native route", _samples(found), _samples(native), NATIVE_RATIO, note)
        figures.append(replace(pair, unit="requests/s"))
        if form == "JSON" and other:
            pair = against(f"{what}, against MLServer", _samples(found), _samples(other), MLSERVER_RATIO)
            figures.append(replace(pair, unit="requests/s"))
        elif form == "JSON":
            note = "MLServer is not measured: --mlserver-python names no interpreter that has it"
            figures.append(Figure(f"{what}", median(one.rate for one in found), "requests/s", note=note))
    return figures


def _samples(loads: Sequence[Load]) -> list[Sample]:
    return [one.sample for one in loads]


def requests(rows: int, write: Callable[[Rows], bytes]) -> list[bytes]:
    """Requests over all entities, each in one line for the load generator."""
    found = list(stream.rows(BODIES if rows == 1 else lists.LISTS * rows))
    return [write(found[first : first + rows]) for first in range(0, len(found), rows)]


def as_json(rows: Rows) -> bytes:
    """A request with its tensors in JSON."""
    inputs = [{**_described(name, rows), "data": [fields[name] for _, fields, _ in rows]} for name in rows[0][1]]
    return json.dumps({"inputs": inputs, "parameters": {"entity": _entities(rows)}}).encode()


def as_binary(rows: Rows) -> bytes:
    """A request with its tensors in binary: the length of its JSON, and all of it in hexadecimal digits."""
    size = {"parameters": {"binary_data_size": 8 * len(rows)}}
    body = {
        "inputs": [_described(name, rows) | size for name in rows[0][1]],
        "parameters": {"entity": _entities(rows), "binary_data_output": True},
    }
    header = json.dumps(body).encode()
    raw = [struct.pack(f"<{len(rows)}d", *(fields[name] for _, fields, _ in rows)) for name in rows[0][1]]
    return b"%d %b" % (len(header), b"".join([header, *raw]).hex().encode())


def _described(name: str, rows: Rows) -> dict[str, Any]:
    return {"name": name, "shape": [len(rows)], "datatype": "FP64"}


def _entities(rows: Rows) -> str | list[str]:
    names = [f"e{i % stream.ENTITIES}" for i, _, _ in rows]
    return names if len(names) > 1 else names[0]


@asynccontextmanager
async def mlserver_served(settings: Settings) -> AsyncIterator[Subject | None]:
    """MLServer with the same kind of model in its own process, without workers; None where it is not installed."""
    if not Path(settings.mlserver_python).is_file():
        yield None
        return
    folder, ports = settings.folder / "mlserver", [free_port() for _ in range(3)]
    model = folder / "model"
    model.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("mlserver_runtime.py"), folder)
    (folder / "weights.json").write_text(json.dumps(dict.fromkeys(stream.FIELDS, 0.1)))
    named = dict(zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True))
    (folder / "settings.json").write_text(
        json.dumps(
            {"debug": False, "host": "127.0.0.1", "parallel_workers": 0, "use_structured_logging": False} | named
        )
    )
    (model / "model-settings.json").write_text(
        json.dumps(
            {
                "name": stream.LOOP,
                "implementation": "mlserver_runtime.Logistic",
                "parameters": {"uri": str(folder / "weights.json")},
            }
        )
    )
    environment = {"PYTHONPATH": str(folder), "PATH": os.environ["PATH"]}
    command = ["mlserver_runtime", "start", str(folder)]
    url = f"http://127.0.0.1:{ports[0]}"
    async with program(command, folder / "log", environment, url, settings.mlserver_python) as subject:
        await until(lambda: _is_ready(url), subject, 60.0)
        yield subject


async def _is_ready(url: str) -> bool:
    async with httpx.AsyncClient(base_url=url, timeout=5, trust_env=False) as client:
        try:
            return (await client.get(f"/v2/models/{stream.LOOP}/ready")).status_code == 200
        except httpx.TransportError:
            return False
