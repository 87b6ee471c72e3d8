"""The trainer of the client: it takes runs, renews their leases, and answers or leaves them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.everloop.conftest import LEASED
from tests.journeys.installation import until

from everloop import EverloopHTTPError, trainer

if TYPE_CHECKING:
    from tests.everloop.conftest import Served

pytestmark = pytest.mark.app


def bodies(installation: Served, verb: str) -> list[Any]:
    """What was sent to a verb of a run."""
    return [json.loads(body) for path, body in installation.seen if path.endswith(f"/{verb}")]


def with_lease(seconds: float) -> dict[str, Any]:
    """The run, with a shorter lease."""
    return {**LEASED, "lease": {**LEASED["lease"], "seconds": seconds}}


def test_a_run_is_taken_with_all_that_was_asked_and_answered_once(installation: Served) -> None:
    runs = list(trainer("market", "pytorch", idle=0))
    [run] = runs

    assert (run.trigger, run.parameters, run.data_set_name, run.attempt) == (
        "drift",
        {"epochs": 5},
        "market@0..99#1",
        1,
    )
    assert bodies(installation, "lease")[0]["trainer"] == "pytorch"


def test_a_model_that_is_refused_leaves_the_run_open_for_a_better_one(installation: Served) -> None:
    for run in trainer("market", "pytorch", idle=0):
        with pytest.raises(EverloopHTTPError, match="NaN"):
            run.submit(b"bad")
        assert not run.ended
        answered = run.submit(b"good", metrics={"accuracy": 0.9})

    assert answered.version == "pytorch-0@120"
    assert bodies(installation, "fail") == []


def test_an_error_in_the_body_fails_the_run(installation: Served) -> None:
    def train() -> None:
        for _ in trainer("market", "pytorch", idle=0):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()

    [failed] = bodies(installation, "fail")
    assert "without an answer" in failed["reason"]


def test_an_error_in_a_with_block_fails_the_run_with_that_error(installation: Served) -> None:
    with pytest.raises(ValueError, match="one class"):
        raise_in_block(ValueError("the data has one class"))

    assert [body["reason"] for body in bodies(installation, "fail")] == ["ValueError: the data has one class"]


def test_an_interruption_in_a_with_block_leaves_the_run_to_the_next_trainer(installation: Served) -> None:
    with pytest.raises(KeyboardInterrupt):
        raise_in_block(KeyboardInterrupt())

    assert (len(bodies(installation, "release")), bodies(installation, "fail")) == (1, [])


def test_the_lease_is_renewed_while_the_body_works(installation: Served) -> None:
    installation.offered[:] = [with_lease(0.03)]
    for run in trainer("market", "pytorch", idle=0):
        assert until(lambda: len(bodies(installation, "renew")) > 2, 20)
        run.submit(b"good")
    sent = len(bodies(installation, "renew"))

    assert sent > 2
    assert until(lambda: not [t for t in threading.enumerate() if t.name.startswith("everloop-lease-")], 20)


def test_a_run_whose_place_a_newer_one_has_taken_says_so(installation: Served) -> None:
    installation.offered[:], installation.renewed = [with_lease(0.03)], 409
    for run in trainer("market", "pytorch", idle=0):
        assert until(lambda: run.ended, 20)  # noqa: B023 - in this iteration

    assert run.reason_ended == "is superseded by run-2"
    assert bodies(installation, "fail") == []


def test_an_answer_that_comes_too_late_is_no_error_of_a_with_block(installation: Served) -> None:
    for run in trainer("market", "pytorch", idle=0):
        with run:
            run.submit(b"late")
            raise AssertionError("it was refused")

    assert run.ended
    assert bodies(installation, "fail") == []


def test_a_trainer_that_is_stopped_takes_no_further_run(installation: Served) -> None:
    installation.offered[:] = [LEASED, LEASED]
    stop, taken = threading.Event(), 0
    for run in trainer("market", "pytorch", stop=stop):
        run.submit(b"good")
        taken += 1
        stop.set()

    assert taken == 1
    assert len(installation.offered) == 1


@pytest.mark.process
def test_a_program_that_an_error_ends_fails_its_run_with_that_error(installation: Served) -> None:
    code = """
from everloop import trainer
runs = []
for run in trainer("market", "pytorch"):
    runs.append(run)
    raise KeyError("price")
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert len(bodies(installation, "fail")) == 1


def raise_in_block(error: BaseException) -> None:
    """Let the body of a run raise, in a `with` block."""
    for run in trainer("market", "pytorch", idle=0):
        with run:
            raise error
