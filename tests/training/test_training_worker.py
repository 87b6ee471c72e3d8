"""The worker process: replaced when it exits, ended with its service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.builders.personal import bytes_below, personal_settings, vault_of
from tests.builders.running import until
from tests.processes import runs
from tests.training.personal_outcomes import found_in, personal_state, sealed
from tests.training.training_harness import event, losses, running_training, state

from everloop_schemas.training import ChallengeUpdated, ModelTrained, RunRequested
from everloop_shared.messaging.memory import MemoryBroker
from everloop_training.worker.protocol.pipe import WorkerProcess

pytestmark = pytest.mark.process

LINE = "logistic-regression-0"


async def test_a_killed_worker_is_replaced_nothing_is_missed_and_a_clean_stop_leaves_no_process(tmp_path: Path) -> None:
    broker = MemoryBroker(partitions=1)
    async with running_training(broker, tmp_path, WorkerProcess.start, snapshot_outcomes=150) as training:
        await training.publish(state(), *[event(i) for i in range(400)])
        await training.wait_until_learned(399)
        pid = training.supervisor.worker_pid

        os.kill(pid, signal.SIGKILL)
        await training.publish(*[event(i) for i in range(400, 800)])
        await training.wait_until_learned(799)

        another = training.supervisor.worker_pid
        assert another != pid
        assert sorted(losses(training.published(ChallengeUpdated))[LINE]) == list(range(800))
        assert len({r.data.key for r in training.published(RunRequested)}) == 1
    assert not psutil.pid_exists(another)


async def test_a_worker_that_was_killed_opens_its_encrypted_snapshot_and_goes_on_with_sealed_outcomes(
    tmp_path: Path,
) -> None:
    broker, keys, many = MemoryBroker(partitions=1), personal_settings(tmp_path), sealed(vault_of(tmp_path), 0, 300)
    folder = tmp_path / "data"
    async with running_training(broker, folder, WorkerProcess.start, snapshot_outcomes=50, **keys) as training:
        await training.publish(personal_state(), *many[:200])
        await training.wait_until_learned(199)
        snapshot = folder / "training" / "snapshots" / "partition-0.snapshot"
        await until(snapshot.exists)

        os.kill(training.supervisor.worker_pid, signal.SIGKILL)
        await training.publish(*many[200:])
        await training.wait_until_learned(299)

        assert sorted(losses(training.published(ChallengeUpdated))[LINE]) == list(range(300))
        assert len({e.data.sha256 for e in training.published(ModelTrained)}) == 1
    assert b"loop_learner" not in snapshot.read_bytes()
    assert found_in(bytes_below(folder), range(300)) == []


async def test_a_worker_ends_with_the_process_that_started_it_even_after_kill_9(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path;"
        "from everloop_training.worker.protocol.pipe import WorkerProcess;"
        "from everloop_training.settings import TrainingSettings\n"
        "async def main():\n"
        "    worker = await WorkerProcess.start(TrainingSettings(data=Path(sys.argv[1])))\n"
        "    print(worker.pid, flush=True)\n"
        "    await worker.receive()\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())

    parent.kill()
    parent.wait()
    parent.stdout.close()

    await until(lambda: not runs(pid))
