"""One chaos run: an installation, load, faults, a wait until it is at rest, and the checks."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.chaos.check_decisions import (
    check_dead_letters,
    check_decisions,
    check_registry_rebuild,
    equal_totals,
    recount,
)
from tests.chaos.check_features import check_features
from tests.chaos.check_ids import check_duplicates, check_ids
from tests.chaos.check_learning import check_evaluations, check_learning
from tests.chaos.faults import TARGETS, FaultInjector, InstallationIsGone, schedule
from tests.chaos.findings import Findings
from tests.chaos.installation import WORKER, Installation, running
from tests.chaos.journal import Journal
from tests.chaos.load import Load
from tests.chaos.replicas import REPLICATED, Replicas
from tests.chaos.topics import Log, ends, keep_all, lag, read

from everloop_schemas.loop import LoopSpec

QUIET_S, REST_WITHIN_S, GIVE_UP_AFTER_S = 6.0, 150.0, 90.0


class Inspected(Protocol):
    """What the checks ask of an installation, wherever it runs."""

    @property
    def bootstrap(self) -> str:
        """The broker's address."""
        ...

    def ready(self) -> bool:
        """Whether every service answers ready."""
        ...

    def status(self, loop: str) -> dict[str, Any]:
        """Monitoring's status of a loop; empty while it is away."""
        ...


@dataclass(frozen=True)
class ChaosPlan:
    """The run. `every`: seconds between faults, 0 for none; `replicas`: two processes of each service that can;
    `workers`: processes of serving behind its port; `learners`: workers of training."""

    folder: Path
    seconds: float = 60
    seed: int = 1
    every: float = 2.0
    rate: float = 40
    stop_s: float = 15
    replicas: bool = False
    workers: int = 1
    learners: int = 2


@dataclass
class ChaosReport:
    """What was done, and the findings."""

    journal: Journal
    faults: FaultInjector
    findings: Findings
    answers: dict[str, dict[int, int]] = field(default_factory=dict)
    gone: bool = False

    def summary(self) -> dict[str, Any]:
        """The figures."""
        did = self.faults.done
        counted = {k: did[k] for k in ("kill", "stop", "restart", "skipped")}
        return {**counted, "acknowledged": self.journal.acknowledged, "findings": len(self.findings.found)}

    def text(self) -> str:
        """All of it, for people, with a few findings of each claim."""
        lines = [f"  {what}" for what in self.faults.messages]
        lines += [f"  checked {n:>7}  {claim}" for claim, n in sorted(self.findings.figures.items())]
        lines += [
            f"  answers {endpoint}: {dict(sorted(seen.items()))}" for endpoint, seen in sorted(self.answers.items())
        ]
        for claim, found in self.findings.by_claim().items():
            lines += [f"FINDING {claim}: {len(found)}", *(f"    {what}" for what in found[:8])]
        return "\n".join([*lines, json.dumps(self.summary())])


async def chaos(plan: ChaosPlan) -> ChaosReport:
    """Run all of it. The installation is stopped at the end; its folder stays."""
    workers = {"EVERLOOP_SERVING_WORKERS": str(plan.workers), "EVERLOOP_TRAINING_WORKERS": str(plan.learners)}
    with running(plan.folder, workers) as installation:
        await keep_all(installation.bootstrap)
        replicas = Replicas(installation) if plan.replicas else None
        try:
            if replicas:
                replicas.start_missing()
            report = await run_under_faults(installation, plan, replicas)
            report.journal.save(plan.folder / "journal.jsonl")
            if report.gone:
                return report
            await wait_for_rest(installation, report.journal, report.findings)
            await check(installation, report.journal, report.findings)
            return report
        finally:
            if replicas:
                replicas.end()


async def run_under_faults(
    installation: Installation, plan: ChaosPlan, replicas: Replicas | None = None
) -> ChaosReport:
    """Load under faults, until everything that was sent is acknowledged."""
    journal, faults = Journal(), FaultInjector(installation, plan.stop_s, replicas)
    load = Load(installation.url, journal, plan.seed, plan.rate)
    report = ChaosReport(journal, faults, Findings(), load.answers)
    working = asyncio.create_task(load.run())
    started = time.monotonic()
    asyncio.get_running_loop().call_later(plan.seconds / 2, load.invert.set)
    try:
        if plan.every:
            targets = (*replicas.names * 4, *REPLICATED) if replicas else TARGETS
            targets += (WORKER,) * 4 if plan.workers > 1 else ()
            await faults.run(schedule(plan.seed, plan.every, targets), plan.seconds)
        await asyncio.sleep(max(0.0, started + plan.seconds - time.monotonic()))
    except InstallationIsGone as e:
        report.gone = True
        report.findings.add("the installation starts again", str(e))
    finally:
        load.stop.set()
        load.give_up_at = time.monotonic() + (0 if report.gone else GIVE_UP_AFTER_S)
        await working
    given_up = [
        a.id
        for a in journal.observations.values()
        if not a.acknowledged or any(not label.acknowledged for label in a.labels)
    ]
    report.findings.expect("after the faults everything is acknowledged", not given_up, given_up[:20])
    report.findings.expect("no endpoint answers unexpectedly", not journal.surprises, journal.surprises[:8])
    return report


async def wait_for_rest(installation: Inspected, journal: Journal, findings: Findings) -> None:
    """Wait until every service is ready, all records are handled, and none has been written for a while."""
    deadline, before, still = time.monotonic() + REST_WITHIN_S, dict[str, int](), time.monotonic()
    while time.monotonic() < deadline:
        now = await ends(installation.bootstrap) if await asyncio.to_thread(installation.ready) else {}
        if not now or now != before or await lag(installation.bootstrap):
            before, still = now, time.monotonic()
        if time.monotonic() - still > QUIET_S:
            return
        await asyncio.sleep(0.5)
    findings.add(
        "the installation comes to rest", f"within {REST_WITHIN_S:.0f} s; last {before}, ready {installation.ready()}"
    )


async def check(
    installation: Installation, journal: Journal, findings: Findings, poison: Collection[bytes] = ()
) -> Log:
    """Check every claim on the topics, and that the registry's tables are rebuilt from them."""
    log = await read(installation.bootstrap)
    await check_log(installation, log, journal, findings, poison)
    check_registry_rebuild(installation.folder, installation.bootstrap, findings)
    return log


async def check_log(
    installation: Inspected, log: Log, journal: Journal, findings: Findings, poison: Collection[bytes] = ()
) -> None:
    """Check every claim on the topics, and that monitoring counted them all. Artifacts are read by their URIs."""
    check_dead_letters(log, poison, findings)
    for topic, records in log.records.items():
        log.records[topic] = [r for r in records if r.raw not in poison]
    check_duplicates(log, findings)
    for loop in sorted({a.loop for a in journal.observations.values()}):
        applied = [r for r in log.of("registry.decided.v1", loop) if r.event["type"] == "registry.loop_applied.v1"]
        spec = LoopSpec.model_validate(applied[-1].data["spec"])
        check_ids(log, journal, loop, findings)
        check_features(log, loop, spec, findings)
        check_learning(log, loop, spec, findings)
        check_evaluations(log, loop, findings)
        check_decisions(log, loop, findings)
        await check_totals(installation, log, loop, findings)


async def check_totals(installation: Inspected, log: Log, loop: str, findings: Findings) -> None:
    """Monitoring may lag a moment; its totals must become those of the recount."""
    counted, deadline = recount(log, loop), time.monotonic() + 20
    while (differ := equal_totals(counted, installation.status(loop))) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    findings.expect("monitoring's totals equal a recount", not differ, f"{loop} (counted, reported): {differ}")


def main(plan: ChaosPlan, keep: bool) -> int:
    """Run and report; returns 1 when there are findings, or nothing was acknowledged."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the installation is stopped on this way out, too
    report = asyncio.run(chaos(plan))
    sys.stdout.write(report.text() + "\n")
    (plan.folder / "report.txt").write_text(report.text())
    good = not report.findings.found and report.journal.acknowledged > 0
    if good and not keep:
        shutil.rmtree(plan.folder, ignore_errors=True)
    elif not good:
        sys.stdout.write(f"The installation is left at {plan.folder}, with its logs and journal.jsonl.\n")
    return 0 if good else 1
