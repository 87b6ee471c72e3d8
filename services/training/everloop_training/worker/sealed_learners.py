"""Learners of loops with personal fields in snapshots: each is encrypted as a whole, with a key of its loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from everloop_shared.errors import Unavailable
from everloop_shared.personal import PersonalKeysMissing

if TYPE_CHECKING:
    from everloop_shared.personal import Vault
    from everloop_training.worker.learners.loop_learner import LoopLearner

log = logging.getLogger(__name__)
OF_THE_LOOP = ""
"""Stands for the entity of the key of a loop."""
KEYS_WITHIN_S, RETRY_S = 60.0, 1.0
"""How long opening a snapshot waits for the store of keys: learning the log again takes longer, and needs it too."""


def seal(learners: Mapping[str, LoopLearner], vault: Vault, pickle: Callable[[Any], bytes]) -> dict[str, bytes]:
    """The learners of loops with personal fields by loop, encrypted. Blocks; raises Unavailable."""
    personal = {loop: one for loop, one in learners.items() if one.state.data.spec.personal_fields}
    return {loop: vault.seal_bytes_now(loop, OF_THE_LOOP, pickle(learner)) for loop, learner in personal.items()}


def unseal(sealed: Mapping[str, bytes], vault: Vault) -> dict[str, bytes]:
    """What was encrypted, by loop. Blocks while the store of keys is away, for a minute at most.

    Raises ValueError where a key was destroyed, or is not at hand, and InputRejected for what was changed.
    """
    return {loop: _unseal(loop, data, vault) for loop, data in sealed.items()}


def _unseal(loop: str, data: bytes, vault: Vault) -> bytes:
    give_up_at = time.monotonic() + KEYS_WITHIN_S
    while True:
        try:
            opened = vault.unseal_bytes_now(loop, OF_THE_LOOP, data)
            break
        except PersonalKeysMissing as e:
            raise ValueError(e.detail) from e
        except Unavailable as e:
            if time.monotonic() > give_up_at:
                raise ValueError(f"the keys of {loop} are away: {e.detail}") from e
            log.warning("waiting for personal keys to open a snapshot", extra={"loop": loop, "reason": e.detail})
        time.sleep(RETRY_S)
    if opened is None:
        raise ValueError(f"the key of {loop} was destroyed")
    return opened
