"""One client in several processes, threads and event loops: it is copied, and its errors arrive as they were raised."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from everloop import AsyncEverloop, Everloop, EverloopError, EverloopHTTPError, EverloopUnreachable, RejectedEntry
from everloop.local.errors import InstallationNotFound
from everloop.results import Accepted
from everloop_schemas.ingest import EventReceived

if TYPE_CHECKING:
    from tests.everloop.conftest import Served

pytestmark = pytest.mark.app
NAIVE = datetime(2024, 5, 1, 12)
ERRORS = [
    EverloopHTTPError(422, "No", "price is missing", [("price", "is missing")], [RejectedEntry(0, "a", ())]),
    EverloopUnreachable("serving", "http://127.0.0.1:1", "refused"),
    InstallationNotFound("No installation.", "Start one."),
]


@contextmanager
def pool(start: str) -> Iterator[ProcessPoolExecutor]:
    """A process pool of one worker, which is killed at the end even where it hangs."""
    made = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(start))
    workers: dict[int, Any] = {}
    try:
        yield made
        workers = dict(made._processes or {})  # noqa: SLF001 - it has no public way to end a worker that hangs
    finally:
        made.shutdown(wait=not workers, cancel_futures=True)
        for worker in workers.values():
            worker.kill()
            worker.join()


def ask(client: Everloop, id: str) -> str:
    """What a worker of the pool does."""
    return client.predict("market", {"price": 1.0}, id=id).id


def publish_nonsense(url: str) -> None:
    """A worker's request that is refused."""
    with Everloop(ingest=url) as client:
        client.publish("market", {"demand": 1.0})


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_an_error_is_the_same_after_pickling(error: EverloopError) -> None:
    error.delivered = Accepted(("a",))

    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_every_error_of_the_client_pickles() -> None:
    def below(kind: type[EverloopError]) -> Iterator[type[EverloopError]]:
        yield kind
        for sub in kind.__subclasses__():
            yield from below(sub)

    for kind in below(EverloopError):
        error = kind.__new__(kind)
        error.args = ("a sentence",)
        assert str(pickle.loads(pickle.dumps(error))) == "a sentence"


def test_a_refusal_in_a_process_pool_arrives_as_it_was_raised(installation: Served) -> None:
    with pool("spawn") as workers, pytest.raises(EverloopHTTPError) as refused:
        workers.submit(publish_nonsense, installation.url).result(timeout=60)

    assert (refused.value.status, [field for field, _ in refused.value.errors]) == (422, ["data.price"])


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_a_used_client_works_in_a_process_pool_and_after_it(installation: Served, start: str) -> None:
    with Everloop() as client:
        client.predict("market", {"price": 1.0})

        with pool(start) as workers:
            inside = [workers.submit(ask, client, f"in-{n}").result(timeout=60) for n in range(3)]

        assert inside == ["in-0", "in-1", "in-2"]
        assert ask(client, "after") == "after"


def test_a_client_that_the_parent_used_before_the_fork_opens_connections_of_its_own(installation: Served) -> None:
    with Everloop() as client:
        client.predict("market", {"price": 1.0})
        process = multiprocessing.get_context("fork").Process(target=ask, args=(client, "child"))
        process.start()
        answers = [ask(client, f"parent-{n}") for n in range(20)]
        process.join(timeout=60)

    assert answers == [f"parent-{n}" for n in range(20)]
    assert process.exitcode == 0


def test_one_async_client_serves_several_event_loops_one_after_the_other_and_at_once(installation: Served) -> None:
    client = AsyncEverloop()

    async def one(id: str) -> str:
        return (await client.predict("market", {"price": 1.0}, id=id)).id

    def run(id: str) -> str:
        return asyncio.run(one(id))

    one_after_the_other = [run("a"), run("b")]
    with ThreadPoolExecutor(4) as threads:
        at_once = list(threads.map(run, "cdefgh"))
    copied = pickle.loads(pickle.dumps(client))

    assert one_after_the_other + at_once == list("abcdefgh")
    assert copied is not client


async def test_async_iterables_are_sent_as_lists_are(installation: Served) -> None:
    async def observations(n: int) -> AsyncIterator[dict[str, Any]]:
        for i in range(n):
            yield {"id": str(i), "data": {"price": float(i)}}

    async def labels() -> AsyncIterator[dict[str, Any]]:
        yield {"id": "0", "label": True}

    async with AsyncEverloop() as client:
        published = await client.publish("market", observations(1200))
        predicted = await client.predict("market", observations(3))
        labelled = await client.label("market", labels())
        named = await client.feedback("market", ({"id": str(i), "correct": True} async for i in _numbers(2)))

    assert published.ids == tuple(str(i) for i in range(1200))
    assert [p.id for p in predicted] == ["0", "1", "2"]
    assert (labelled.ids, named.accepted) == (("0",), 2)


async def _numbers(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


@pytest.mark.parametrize(
    "send",
    [
        lambda client: client.predict("market", {"price": 1.0}, time=NAIVE),
        lambda client: client.publish("market", {"price": 1.0}, time=NAIVE),
        lambda client: client.label("market", "a", True, time=NAIVE),
    ],
    ids=["predict", "publish", "label"],
)
def test_a_datetime_without_a_time_zone_is_refused_with_the_fix(
    installation: Served, send: Callable[[Everloop], Any]
) -> None:
    with Everloop() as client, pytest.raises(EverloopHTTPError, match=r"time: is a datetime without.*timezone\.utc"):
        send(client)

    assert installation.seen == []


def test_an_entry_with_a_datetime_without_a_time_zone_is_refused_and_the_others_are_sent(installation: Served) -> None:
    with Everloop() as client:
        answer = client.publish("market", [{"data": {"price": 1.0}, "time": NAIVE}, {"data": {"price": 2.0}}])

    assert [(r.index, r.errors[0][0]) for r in answer.rejected] == [(0, "time")]
    assert [e.data.fields["price"] for e in installation.events(EventReceived.topic)] == [2.0]


@pytest.mark.parametrize("kind", [Everloop, AsyncEverloop])
def test_an_unknown_option_is_an_error_that_names_it(kind: type) -> None:
    with pytest.raises(TypeError, match="timout"):
        kind(timout=3)
