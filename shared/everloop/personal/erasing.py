"""Has a person erased: asks the registry, waits for feature's receipt, and requests a run without the person."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from everloop.errors import EverloopError
from everloop.personal.export import subject_path
from everloop.wire import loop_path

Ask = Callable[[str, str, str, bytes | None], Any]
"""The JSON that a service answers: service, path, method, body. Raises EverloopError."""
POLL_S = 0.25
WITHIN_S = 60.0
"""After so long without a receipt monitoring raises an alert, and the command stops waiting."""
KEYS_REMEMBERED_S = 31.0
"""For half a minute a process may still have the key in memory (decision 0320): a run that starts later has not."""
MAX_VERSIONS_NAMED = 200


class ErasureNotDone(EverloopError):
    """The receipt has not come in time; the erasure goes on."""


def request(ask: Ask, loop: str, entity: str, reason: str, models: str, versions: Sequence[str]) -> Mapping[str, Any]:
    """Ask for an erasure; the erasure that is under way, asked for now or before."""
    body = {"reason": reason, "models": models, "versions": list(versions)[-MAX_VERSIONS_NAMED:]}
    path = subject_path(loop, entity, "entities") + "/erase"
    answer = ask("registry", path, "POST", json.dumps(body).encode())
    found: Mapping[str, Any] = answer["erasures"][-1]
    return found


def erasures_of(ask: Ask, loop: str, entity: str) -> list[Mapping[str, Any]]:
    """The erasures of an entity, oldest first."""
    answer = ask("registry", subject_path(loop, entity, "entities") + "/erasures", "GET", None)
    return list(answer["erasures"])


def wait_for_receipt(ask: Ask, loop: str, entity: str, decision: int, within_s: float = WITHIN_S) -> Mapping[str, Any]:
    """The erasure once it is done. Raises ErasureNotDone."""
    deadline = time.monotonic() + within_s
    while True:
        done = [e for e in erasures_of(ask, loop, entity) if e["decision"] == decision and e["state"] == "erased"]
        if done:
            return done[0]
        if time.monotonic() > deadline:
            raise ErasureNotDone(
                f"no receipt of feature after {within_s:.0f} s: decision {decision} stays, and is carried out once "
                f"feature and the store of keys answer; see everloop alerts {loop}"
            )
        time.sleep(POLL_S)


def request_run(ask: Ask, loop: str, decision: int) -> Mapping[str, Any]:
    """Request a run that learns again without whom the decision erased; the same run for the same decision."""
    body = {"reason": f"learn again without what decision {decision} erased", "key": f"erasure/{decision}"}
    answer: Mapping[str, Any] = ask("training", f"{loop_path(loop)}/runs", "POST", json.dumps(body).encode())
    return answer
