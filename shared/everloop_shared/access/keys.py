"""Finds who has a key, by a file that is read again when it changes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from everloop_shared.access.errors import TokenNotValid
from everloop_shared.access.identity import Identity
from everloop_shared.access.key_file import KeyFile, StoredKey, grants_of, identity_of, is_secret_of, read_key_file
from everloop_shared.access.teams import TeamQuota
from everloop_shared.clock import Clock, system_clock
from everloop_shared.errors import Misconfigured
from everloop_shared.files import stamp_of

log = logging.getLogger(__name__)
LOOK_EVERY_S = 1.0
"""How often the file is looked at: a key that is revoked works for so long at most."""


class Keys:
    """The keys of one file. A change takes effect within LOOK_EVERY_S seconds, without a restart.

    A file that cannot be read after a change leaves the last one in force, and an error in the log: a slip in an
    editor must not lock everybody out.
    """

    def __init__(self, path: Path, clock: Clock = system_clock, timer: Callable[[], float] = time.monotonic) -> None:
        """Raises Misconfigured if the file cannot be read at the start."""
        self._path, self._clock, self._timer = path, clock, timer
        self._stamp = stamp_of(path)
        self._looked = timer()
        self._read()

    def identify(self, prefix: str, secret: str) -> Identity:
        """Who has this key; raises TokenNotValid."""
        self._look()
        found = self._by_prefix.get(prefix)
        if found is None or not is_secret_of(found[0], secret):
            raise TokenNotValid("the token is none of this installation's keys")
        key, identity = found
        if ended := key.ended(self._clock()):
            raise TokenNotValid(f"the key evl_{key.prefix} is {ended}; everloop keys rotate or create makes another")
        return identity

    def with_file_roles(self, identity: Identity) -> Identity:
        """Somebody whom the OIDC provider knows, with the roles, limits and team that the file gives them."""
        self._look()
        found = self._by_subject.get(identity.subject)
        if found is None:
            return identity
        grants, team = identity.grants + grants_of(found.roles), found.team or identity.team
        return replace(identity, grants=grants, limits=found.limits, team=team)

    def team_quota(self, team: str) -> TeamQuota:
        """How much a team may have."""
        self._look()
        return self._file.quota_of(team)

    def _look(self) -> None:
        now = self._timer()
        if now - self._looked < LOOK_EVERY_S:
            return
        self._looked, stamp = now, stamp_of(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._read()
            except Misconfigured as e:
                log.error("the keys are not read again; those of before stay in force", extra={"reason": e.detail})
            else:
                log.info("keys read", extra={"keys": len(self._by_prefix)})

    def _read(self) -> None:
        file: KeyFile = read_key_file(self._path)
        keys: dict[str, tuple[StoredKey, Identity]] = {key.prefix: (key, identity_of(key)) for key in file.keys}
        self._file, self._by_prefix = file, keys
        self._by_subject = {stored.subject: stored for stored in file.subjects}
