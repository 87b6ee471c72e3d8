"""Artifacts that no version needs are deleted as the registry's state says, and manual runs have a quota."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.training.training_harness import START, state

from everloop_learning.loops import KnownLoops
from everloop_models.store import ArtifactStore
from everloop_schemas.training import DataSet, RunFinished, RunFinishedData, RunRequested, RunRequestedData, StoredModel
from everloop_shared.commands import ANONYMOUS, Actor
from everloop_training.adapters.artifact_collector import ArtifactCollector
from everloop_training.adapters.personal import WITHOUT_KEYS
from everloop_training.adapters.runs import RUNS_PER_LOOP, TRAININGS_PER_LOOP, MemoryRunLog
from everloop_training.domain.artifact_retention import TRAINED_MODELS_KEPT, StoredFile, files_of_runs, unneeded_files
from everloop_training.domain.run_quota import RunQuota
from everloop_training.domain.run_reply import RunReply
from everloop_training.errors import TooManyRuns
from everloop_training.handlers import Handlers

OLD, HOUR_S = 7200.0, 3600.0


def stored_file(version: str, age_s: float = OLD) -> StoredFile:
    """A version's file."""
    return StoredFile(f"models/market/{version}-0123456789abcdef.pkl", 100, age_s)


def gone(*files: StoredFile, **parts: Any) -> list[str]:
    """The versions of the files that can go."""
    found = unneeded_files(files, state(1, **parts).data, HOUR_S)
    return [f.name.removeprefix("models/market/").removesuffix("-0123456789abcdef.pkl") for f in found]


def test_what_the_registry_keeps_stays_and_what_it_decided_on_and_does_not_keep_goes() -> None:
    files = [
        stored_file("logistic-0@100"),
        stored_file("logistic-0@200"),
        stored_file("forest-0@250"),
        stored_file("logistic-0@300"),
    ]

    assert gone(*files, kept=("logistic-0@200",), judged=300) == ["logistic-0@100", "forest-0@250"]


def test_nothing_goes_before_the_registry_decided_on_it_nor_while_it_is_young() -> None:
    young, waiting, old = stored_file("a-0@100", age_s=60), stored_file("a-0@400"), stored_file("a-0@50")

    assert gone(young, waiting, old, kept=(), judged=300) == ["a-0@50"]
    assert gone(young, waiting, old) == [], "the registry of the release before names no artifacts"


def test_all_files_of_a_deleted_loop_go_and_so_do_those_that_a_crash_left() -> None:
    files = [stored_file("a-0@100"), stored_file("a-0@900"), stored_file("a-0@900", age_s=10)]
    torn = StoredFile("models/market/.a-0@1-00.pkl.0123456789abcdef0123456789abcdef", 5, OLD)

    assert unneeded_files([*files, torn], None, HOUR_S) == [*files[:2], torn]
    assert unneeded_files([torn], state(1).data, HOUR_S) == [torn]


def test_the_collector_deletes_files_by_that_rule_and_leaves_unknown_loops(tmp_path: Path) -> None:
    store, loops = ArtifactStore(tmp_path.as_uri()), KnownLoops()
    for loop in ("market", "gone", "unknown"):
        for offset in (100, 200):
            store.put(store.name(loop, f"a-0@{offset}", "0" * 64), b"x" * 1_000)
    for path in tmp_path.rglob("*.pkl"):
        os.utime(path, (time.time() - OLD, time.time() - OLD))
    loops.apply(state(1, kept=("a-0@200",), judged=200))
    gone_state = state(1, deleted=True)
    loops.apply(gone_state.copy_with(loop="gone"))
    collector = ArtifactCollector(store, loops, HOUR_S, MemoryRunLog())

    freed = [collector.collect(), collector.collect()]

    assert freed == [3_000, 0]
    left = sorted(str(path.relative_to(tmp_path / "models")) for path in tmp_path.rglob("*.pkl"))
    zeros = "0" * 16
    assert left == [f"market/a-0@200-{zeros}.pkl", f"unknown/a-0@100-{zeros}.pkl", f"unknown/a-0@200-{zeros}.pkl"]


def artifact(version: str) -> StoredModel:
    """A stored model."""
    name = stored_file(version).name
    return StoredModel(uri=f"file:///data/artifacts/{name}", sha256="0" * 64, size=100, format="onnx")


def training(n: int) -> tuple[RunRequested, RunFinished]:
    """A training of a batch line, and its end at offset n."""
    data_set = DataSet(loop="market", start=0, end=n, revision=1)
    asked = run(n, "outcomes")
    asked = asked.copy_with(data=asked.data.model_copy(update={"data_set": data_set, "line": "forest-0"}))
    ended = RunFinishedData(
        run=f"r{n}", line="forest-0", state="trained", offset=n, outcomes=9, artifact=artifact(f"forest-0@{n}")
    )
    return asked, RunFinished(id=f"e{n}", time=START, subject=f"r{n}", loop="market", revision=1, data=ended)


def test_the_models_that_lines_predict_with_stay_though_the_registry_keeps_none_of_their_versions() -> None:
    trained = [training(n) for n in range(100, 100 + TRAINED_MODELS_KEPT + 2)]
    submitted = run(50, "submitted")
    submitted = submitted.copy_with(
        data=submitted.data.model_copy(update={"line": "notebook-40", "artifact": artifact("notebook-40@39")})
    )
    of = state(1, kept=("notebook-40@900",), judged=1000).data
    files = [stored_file(f"forest-0@{n}") for n in range(100, 100 + TRAINED_MODELS_KEPT + 2)]
    files.append(stored_file("notebook-40@39"))

    needed = files_of_runs([*trained, (submitted, None)], of)
    without = files_of_runs([(submitted, None)], state(1).data)

    assert unneeded_files(files, of, HOUR_S, needed) == files[:2]
    assert without == frozenset()


def run(n: int, trigger: str = "manual") -> RunRequested:
    """A run that a person requested."""
    data = RunRequestedData.model_validate(
        {
            "run": f"r{n}", "key": f"{trigger}/{n}", "trigger": trigger, "reason": "test", "line": f"a-{n}",
            "model": {"preset": "logistic"}, "start_offset": n, "requested_offset": n,
        }
    )  # fmt: skip
    return RunRequested(id=f"q{n}", time=START, subject="a", loop="market", revision=1, data=data)


class StubLearners:
    """Learners that start each run that is requested."""

    def __init__(self, runs: MemoryRunLog) -> None:
        self.runs, self.n = runs, 100

    async def request_manual_run(self, loop: str, key: str, reason: str) -> RunReply:
        """Another run."""
        self.n += 1
        made = run(self.n)
        self.runs.add_requested(made)
        return RunReply(made)


async def test_more_runs_than_the_quota_within_an_hour_are_refused_with_429() -> None:
    loops, runs = KnownLoops(), MemoryRunLog()
    loops.apply(state())
    now = START
    learners: Any = StubLearners(runs)
    handlers = Handlers(loops, runs, learners, learners, WITHOUT_KEYS, lambda: now, RunQuota(3))
    for n in range(50):
        runs.add_requested(run(n, "drift"))

    first = [await handlers.request_run("market", "why not", None, actor=ANONYMOUS) for _ in range(3)]
    with pytest.raises(TooManyRuns, match="EVERLOOP_TRAINING_MAX_RUNS_PER_HOUR") as refused:
        await handlers.request_run("market", "again", None, actor=ANONYMOUS)
    again = await handlers.request_run(
        "market", "the same", str(first[0][0].data.run.removeprefix("r")), actor=ANONYMOUS
    )
    now = START + timedelta(minutes=61)
    later = await handlers.request_run("market", "again", None, actor=ANONYMOUS)
    [by_key] = await handlers.request_run("market", "known", None, actor=Actor("ada", "key", "evl_1"))

    assert (refused.value.http_status, refused.value.retry_after) == (429, 600.0)
    assert [(run.data.trigger, run.actor) for run in (*again, *later)] == [("manual", "anonymous")] * 2
    assert b"actor_kind" not in later[0].encode()
    assert (by_key.actor, by_key.actor_kind, by_key.actor_source) == ("ada", "key", "evl_1")


def test_the_record_of_runs_is_bounded() -> None:
    runs = MemoryRunLog()

    for n in range(RUNS_PER_LOOP + 500):
        runs.add_requested(run(n))

    assert [r.data.run for r, _ in runs.of("market")][:1] == ["r500"]
    assert len(runs.all()) == RUNS_PER_LOOP


def test_the_record_forgets_trainings_before_the_runs_that_started_lines_and_lists_the_open_ones() -> None:
    runs = MemoryRunLog()
    runs.add_requested(run(0, "initial"))

    for n in range(1, TRAININGS_PER_LOOP + 100):
        asked, ended = training(n)
        runs.add_requested(asked)
        if n % 2:
            runs.add_finished(ended)

    assert runs.of("market")[0][0].data.trigger == "initial"
    assert len(runs.all()) == TRAININGS_PER_LOOP + 1
    still_open = runs.open_trainings("market")
    assert len(still_open) == TRAININGS_PER_LOOP // 2
    assert runs.open_trainings() == still_open
    assert runs.open_trainings("other") == []
    assert runs.end_of("market", "r299") is not None
