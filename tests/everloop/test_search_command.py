"""`everloop search`: the searches and trials that it shows, and those that it starts and waits for."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from everloop import AsyncEverloop, Everloop, EverloopHTTPError
from everloop.cli import build

if TYPE_CHECKING:
    from tests.everloop.conftest import Served

pytestmark = pytest.mark.app


def search(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(build(), ["search", "market", *arguments], prog_name="everloop")


def test_the_trials_of_the_last_search_are_a_table_with_the_best_marked(installation: Served) -> None:
    out = search()

    lines = [line.split() for line in out.stdout.splitlines()]
    assert out.exit_code == 0
    assert lines[0] == ["trial", "state", "accuracy", "gap", "folds", "seconds", "parameters"]
    assert lines[1][:3] == ["0", "complete", "0.5"]
    assert lines[1][-3:] == ["as", "it", "is"]
    assert lines[2][:4] == ["1", "*", "complete", "0.75"]
    assert lines[2][-2:] == ["l2", "0.1"]
    assert "trial 1 is better: accuracy 0.75, 0.5 before; its line challenges by run run-s1" in out.stdout


def test_a_search_that_is_started_is_shown_and_the_same_key_is_the_same_one(installation: Served) -> None:
    first, again, both = search("--start", "--key", "monday"), search("--start", "--key", "monday"), search()

    assert first.stdout == again.stdout == "search monday of models.0 is running: 0 of 20 trials\n"
    assert both.stdout.splitlines()[0].split()[:4] == ["search", "model", "requested", "state"]


def test_it_waits_for_the_end_of_the_newest_search(installation: Served) -> None:
    out = search("--watch", "--json")

    [found] = json.loads(out.stdout)
    assert (found["state"], found["best"], len(found["results"])) == ("improved", 1, 3)


def test_what_is_not_searched_is_refused_with_the_fix(installation: Served) -> None:
    out = search("--start", "--model", "1")

    assert out.exit_code == 1
    assert "model: must be a model that the search of the loop's file names; it names models.0" in out.stderr


def test_searches_beyond_the_quota_are_refused(installation: Served) -> None:
    with Everloop(retry_for=0) as everloop:
        for n in range(5):
            assert everloop.search("market", key=f"k{n}").is_running
        with pytest.raises(EverloopHTTPError) as refused:
            everloop.search("market", key="k5")
        assert everloop.search("market", key="k0").id == "k0"

    assert refused.value.status == 429
    assert "EVERLOOP_TRAINING_MAX_SEARCHES_PER_HOUR" in refused.value.detail


def test_the_async_client_has_the_same_searches(installation: Served) -> None:
    async def ask() -> None:
        async with AsyncEverloop() as everloop:
            [found] = await everloop.searches("market", trials=True)
            started = await everloop.search("market", key="k")
            [same] = await everloop.searches("market", search="k")
        with Everloop() as everloop_sync:
            assert [found, same] == everloop_sync.searches("market", trials=True)
        assert started == same

    asyncio.run(ask())
