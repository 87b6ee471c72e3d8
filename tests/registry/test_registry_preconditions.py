"""A loop file is applied only to the revision that the client names, where it names one (RFC 9110, 13.1)."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from tests.registry.registry_harness import LOOP_FILE, registry

from everloop_registry.domain.precondition import Precondition, read_tags
from everloop_registry.errors import InvalidPrecondition
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [pytest.mark.app, pytest.mark.usefixtures("databases")]
CHANGED = LOOP_FILE + "gate: {confidence: 0.99}\n"
YAML = {"content-type": "application/yaml"}


async def put(client: httpx.AsyncClient, text: str, **headers: str) -> httpx.Response:
    """The answer to a loop file with these headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.put("/market", content=text, headers=YAML | named)


async def test_the_etag_is_the_revision_and_a_stale_one_is_412(tmp_path: Path) -> None:
    async with registry(MemoryBroker(), tmp_path) as client:
        made = await put(client, LOOP_FILE, if_none_match="*")
        changed = await put(client, CHANGED, if_match=made.headers["etag"])
        stale = await put(client, LOOP_FILE, if_match=made.headers["etag"])
        again = await put(client, CHANGED, if_match=made.headers["etag"])
        read = await client.get("/market")
        head = await client.head("/market")

    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert 'If-Match names "1"; its revision is 2' in stale.json()["detail"]
    assert (again.status_code, again.headers["etag"]) == (200, '"2"')
    assert read.headers["etag"] == head.headers["etag"] == '"2"'
    assert "content-encoding" not in read.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if_match": "*"}, 200),
        ({"if_match": '"7", "1"'}, 200),
        ({"if_match": 'W/"1"'}, 412),
        ({"if_match": '"0"'}, 412),
        ({"if_match": '"1-gzip"'}, 412),
        ({"if_none_match": '"7"'}, 200),
        ({"if_none_match": "*"}, 412),
        ({"if_none_match": 'W/"1"'}, 412),
        ({"if_match": "1"}, 400),
        ({"if_match": '"1'}, 400),
        ({"if_match": '*, "1"'}, 400),
        ({"if_match": ""}, 400),
    ],
)
async def test_a_change_is_applied_only_where_the_precondition_holds(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with registry(MemoryBroker(), tmp_path) as client:
        await put(client, LOOP_FILE)
        answer = await put(client, CHANGED, **headers)
        read = await client.get("/market")

    assert answer.status_code == status, answer.text
    assert read.json()["revision"] == (2 if status == 200 else 1)


@pytest.mark.parametrize("header", ["*", '"1"'])
async def test_if_match_needs_a_loop(tmp_path: Path, header: str) -> None:
    async with registry(MemoryBroker(), tmp_path) as client:
        answer = await put(client, LOOP_FILE, if_match=header)

    assert answer.status_code == 412
    assert "there is no such loop" in answer.json()["detail"]


def test_several_lines_of_a_header_are_one_list() -> None:
    assert read_tags("If-Match", ['"1"', 'W/"2" , "a,b"']) == frozenset({'"1"', 'W/"2"', '"a,b"'})
    assert read_tags("If-Match", []) is None
    with pytest.raises(InvalidPrecondition, match='such as "3"'):
        read_tags("If-Match", ['"1"', "2"])
    Precondition().require(None, is_unchanged=False)
