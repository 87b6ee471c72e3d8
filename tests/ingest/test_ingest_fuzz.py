"""Whatever is sent to ingest, it answers with a reason and goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everloop_ingest.domain.documents import CONTENT_TYPES

StartIngest = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
WORDS = st.sampled_from(["id", "entity", "time", "data", "price", "demand", "label", "correct", "comment", "subject"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS
DICTS = st.dictionaries
TREES = st.recursive(LEAVES, lambda t: st.lists(t, max_size=3) | DICTS(WORDS, t, max_size=4), max_leaves=12)
BODIES = st.binary(max_size=60) | TREES.map(lambda t: json.dumps(t).encode())
REQUESTS = st.tuples(st.sampled_from(["/events", "/labels", "/feedback"]), st.sampled_from(CONTENT_TYPES), BODIES)
ALLOWED = {202, 207, 400, 413, 415, 422}


@pytest.mark.parametrize("task", ["binary", "regression"])
@given(requests=st.lists(REQUESTS, min_size=10, max_size=20))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.promise(11)
async def test_no_body_breaks_ingest(
    start_ingest: StartIngest, task: str, requests: list[tuple[str, str, bytes]]
) -> None:
    async with start_ingest(spec={"task": task}) as client:
        answers = [await client.post(path, content=b, headers={"content-type": t}) for path, t, b in requests]
        after = await client.post("/events", json={"data": {"price": 1}})

    assert {a.status_code for a in answers} <= ALLOWED
    assert all(a.json()["detail"] for a in answers if a.status_code >= 400)
    assert after.status_code == 202
