"""Functions on untrusted input run in a child: limited, replaced when it breaks, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import uvloop
from tests.everloop_shared import limited_work as work

from everloop_shared.errors import FieldError, InputRejected, Overloaded
from everloop_shared.limited import ChildFailed, Limited, LimitExceeded

PARENT = Path(__file__).with_name("limited_parent.py")


@pytest.fixture
async def child() -> AsyncIterator[Limited]:
    """A child of 50 MB."""
    async with Limited(preload=["json"], memory_bytes=50_000_000, seconds=20) as limited:
        yield limited


async def pid_of(child: Limited) -> int:
    """The process that answers now."""
    return int((await child.run(work.double, []))["pid"])


def gone(pid: int) -> bool:
    """Whether a process has ended, within 20 s."""
    deadline = time.monotonic() + 20
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
    return True


async def test_a_function_gets_its_arguments_and_its_result_comes_back(child: Limited) -> None:
    answer = await child.run(work.double, [1, 2])

    assert answer["twice"] == [2, 4]
    assert answer["pid"] != os.getpid()


async def test_one_process_takes_call_after_call(child: Limited) -> None:
    assert await pid_of(child) == await pid_of(child)


async def test_megabytes_arrive_whole(child: Limited) -> None:
    assert await child.run(work.length, bytes(10_000_000)) == 10_000_000


async def test_bytes_at_the_end_of_a_result_come_back_up_to_their_limit() -> None:
    async with Limited(preload=["json"], memory_bytes=50_000_000, seconds=20, result_bytes=3_000_000) as child:
        times, data = await child.run(work.repeat, "abc", 1_000_000)
        with pytest.raises(LimitExceeded):
            await child.run(work.repeat, "abcd", 1_000_000)
        again = await child.run(work.repeat, "", 0)

    assert (times, data) == (1_000_000, b"abc" * 1_000_000)
    assert again == (0, b"")


async def test_a_known_error_comes_back_as_itself(child: Limited) -> None:
    with pytest.raises(InputRejected, match="not blue") as caught:
        await child.run(work.refuse)

    assert caught.value.errors == [FieldError("colour", "make it blue")]


async def test_any_other_error_comes_with_its_traceback_and_the_process_continues(child: Limited) -> None:
    before = await pid_of(child)

    with pytest.raises(ChildFailed, match=r"(?s)in stumble.*ZeroDivisionError: by surprise"):
        await child.run(work.stumble)

    assert await pid_of(child) == before


async def test_a_call_that_takes_too_long_is_ended_and_its_process_too() -> None:
    async with Limited(preload=["json"], memory_bytes=50_000_000, seconds=0.5) as child:
        before = await pid_of(child)

        with pytest.raises(LimitExceeded, match="longer than 0") as caught:
            await child.run(work.wait, 60)

        assert caught.value.limit == "time"
        assert gone(before)


async def test_a_call_that_computes_too_long_is_ended_and_one_that_only_waits_is_not() -> None:
    async with Limited(preload=["json"], memory_bytes=50_000_000, seconds=20, cpu_seconds=0.2) as child:
        with pytest.raises(LimitExceeded, match=r"longer than 0\.2 s of computing"):
            await child.run(work.compute)

        await child.run(work.wait, 0.4)
        assert (await child.run(work.double, [1]))["twice"] == [2]


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux")
async def test_a_call_that_needs_too_much_memory_fails_and_the_next_one_succeeds(child: Limited) -> None:
    with pytest.raises(LimitExceeded, match="more than 50 MB") as caught:
        await child.run(work.take, 100_000_000)

    assert caught.value.limit == "memory"
    assert await child.run(work.take, 10_000_000) == 10_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux")
async def test_arguments_count_as_memory(child: Limited) -> None:
    with pytest.raises(LimitExceeded) as caught:
        await child.run(work.length, bytes(60_000_000))

    assert caught.value.limit == "memory"


async def test_a_call_that_ends_its_process_fails_and_the_next_one_succeeds(child: Limited) -> None:
    with pytest.raises(LimitExceeded) as caught:
        await child.run(work.end_yourself)

    assert caught.value.limit == "died"
    assert (await child.run(work.double, [2]))["twice"] == [4]


async def test_a_process_killed_while_idle_is_replaced_at_the_next_call(child: Limited) -> None:
    before = await pid_of(child)
    os.kill(before, signal.SIGKILL)
    assert await asyncio.to_thread(gone, before)
    await asyncio.sleep(0)  # its socket's end is read
    started = time.monotonic()

    after = await pid_of(child)

    assert after != before
    assert time.monotonic() - started < 5


async def test_a_call_whose_process_is_killed_fails(child: Limited) -> None:
    before = await pid_of(child)
    call = asyncio.create_task(child.run(work.wait, 60))
    await asyncio.sleep(0)

    os.kill(before, signal.SIGKILL)

    with pytest.raises(LimitExceeded) as caught:
        await call
    assert caught.value.limit == "died"


async def test_a_cancelled_call_ends_its_process_and_the_next_call_runs(child: Limited) -> None:
    before = await pid_of(child)
    call = asyncio.create_task(child.run(work.wait, 60))
    after = asyncio.create_task(child.run(work.double, [3]))
    await asyncio.sleep(0)

    call.cancel()

    assert (await after)["twice"] == [6]
    assert await asyncio.to_thread(gone, before)


async def test_calls_queue_in_order_and_too_many_are_refused() -> None:
    async with Limited(preload=["json"], memory_bytes=50_000_000, seconds=5, waiting=2) as child:
        calls = [asyncio.create_task(child.run(work.double, [n])) for n in range(3)]
        await asyncio.sleep(0)

        with pytest.raises(Overloaded):
            await child.run(work.double, [9])

        assert [a["twice"] for a in await asyncio.gather(*calls)] == [[0], [2], [4]]


async def test_a_child_writes_no_file(child: Limited, tmp_path: Path) -> None:
    assert await child.run(work.write, str(tmp_path / "file")) == "File too large"
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
async def test_a_child_sees_no_secrets_and_one_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"EVERLOOP_REGISTRY_DATABASE_URL": "postgresql://me:secret@db", "PGPASSWORD": "secret", "AWS_KEY": "s"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)

    async with Limited(preload=["calendar"], memory_bytes=50_000_000, seconds=5) as child:
        seen = await child.run(work.surroundings)

    assert secrets.keys().isdisjoint(seen["environ"])
    assert "PATH" in seen["environ"]
    assert seen["sockets"] == 1


async def test_an_idle_child_ends_with_its_owner(child: Limited) -> None:
    async with Limited(preload=["json"], memory_bytes=50_000_000, seconds=20) as short:
        pid = await pid_of(short)

    assert await asyncio.to_thread(gone, pid)


async def test_modules_that_cannot_be_imported_fail_the_first_call() -> None:
    async with Limited(preload=["there.is.none"], memory_bytes=50_000_000, seconds=20) as child:
        with pytest.raises(ChildFailed, match="no process could be started"):
            await child.run(work.double, [1])


def test_it_works_on_uvloop() -> None:
    async def main() -> list[int]:
        async with Limited(preload=["json"], memory_bytes=50_000_000, seconds=5) as child:
            with pytest.raises(LimitExceeded):
                await child.run(work.end_yourself)
            return list((await child.run(work.double, [4]))["twice"])

    assert uvloop.run(main()) == [8]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_is_left_however_the_parent_ends(how: signal.Signals) -> None:
    environ = {**os.environ, "PYTHONPATH": str(PARENT.parents[2])}
    parent = subprocess.Popen([sys.executable, str(PARENT)], stdout=subprocess.PIPE, env=environ)
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        family = [p.pid for p in psutil.Process(parent.pid).children(recursive=True)]

        parent.send_signal(how)
        parent.wait(30)

    assert child in family
    assert len(family) == 2
    assert all(gone(pid) for pid in family)
