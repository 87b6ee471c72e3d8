"""The limits of all callers of one endpoint: whom a request counts for, and how one is refused."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address

from everloop_shared.access.errors import CallerLimited
from everloop_shared.access.identity import Identity
from everloop_shared.access.limits import IN_PROGRESS, Caller, Excess, Limits
from everloop_shared.access.settings import AccessSettings
from everloop_shared.metrics import LIMITED

log = logging.getLogger(__name__)
REFUSAL_EVERY_S, LONGEST_PAUSE_S = 0.01, 2.0
"""A caller is refused a hundred times a second at most; further refusals wait their turn, for so long at most."""
MAX_PAUSED = 1_000
"""Refusals that wait, of all callers; beyond that they are answered at once."""
TOLD_EVERY_S = 60.0
"""How often the log says that a caller is limited."""
_NETWORK_GROUPS = 4


class CallerLimits:
    """Counts what callers ask for. At most `limited_callers` are known: the least recently used is forgotten.

    A caller is an identity, or the client's address where nobody says who it is. A key's own limits replace those of
    the settings, which do not hold for the installation's own services.
    """

    def __init__(self, service: str, settings: AccessSettings, timer: Callable[[], float] = time.monotonic) -> None:
        self._service, self._timer = service, timer
        self._limits = settings.caller_limits()
        self._burst_s, self._most = settings.limit_burst_s, settings.limited_callers
        self._callers: OrderedDict[str, Caller] = OrderedDict()
        self._paused = 0

    @property
    def known(self) -> int:
        """How many callers are known."""
        return len(self._callers)

    def of(self, identity: Identity, address: str) -> Caller | None:
        """Whom a request counts for; None where there are no limits for them."""
        limits = identity.limits
        if limits is None:
            limits = None if identity.kind == "service" else self._limits
        if limits is None:
            return None
        if identity.kind == "anonymous":
            return self._caller(network_of(address), limits)
        return self._caller(f"{identity.kind} {identity.subject}", limits)

    def may_pass(self, caller: Caller) -> bool:
        """Whether another request of this caller is within its limits; nothing is counted."""
        return caller.excess(self._timer()) is None

    async def admit(self, caller: Caller) -> None:
        """Count a request; raises CallerLimited, later the more often its caller is refused.

        Somebody who does not wait would be refused thousands of times a second otherwise, and that work is the others'.
        """
        now = self._timer()
        excess = caller.excess(now)
        if excess is None:
            caller.take_request()
            return
        LIMITED.labels(self._service, excess.limit).inc()
        refusal = _refusal(caller, excess)
        if now - caller.told_at >= TOLD_EVERY_S:
            caller.told_at = now
            log.warning("a caller is limited", extra={"caller": caller.name, "limit": excess.limit})
        await self._pause(caller, now)
        raise refusal

    async def admit_stranger(self, address: str) -> None:
        """Count a request that says nothing valid about who asks for its address; raises as `admit`."""
        if self._limits is not None:
            await self.admit(self._caller(network_of(address), self._limits))

    async def _pause(self, caller: Caller, now: float) -> None:
        caller.refused_at = min(max(now, caller.refused_at + REFUSAL_EVERY_S), now + LONGEST_PAUSE_S)
        if caller.refused_at <= now or self._paused >= MAX_PAUSED:
            return
        self._paused += 1
        try:
            await asyncio.sleep(caller.refused_at - now)
        finally:
            self._paused -= 1

    def _caller(self, name: str, limits: Limits) -> Caller:
        caller = self._callers.get(name)
        if caller is None:
            caller = self._callers[name] = Caller(name, limits, self._burst_s, self._timer())
            if len(self._callers) > self._most:
                self._callers.popitem(last=False)
        else:
            self._callers.move_to_end(name)
            if caller.limits is not limits:
                caller.keep_to(limits, self._timer())
        return caller


def network_of(address: str) -> str:
    """Who counts as one address: of IPv6 the network of 64 bits, all of which one machine has."""
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return ":".join(parsed.exploded.split(":")[:_NETWORK_GROUPS]) + "::/64"


def _refusal(caller: Caller, excess: Excess) -> CallerLimited:
    if excess.limit == IN_PROGRESS:
        most = f"{excess.most:,.0f} requests in progress"
    else:
        most = f"{excess.most:,g} {excess.limit.removesuffix('_per_s')} per second"
    return CallerLimited(caller.name, excess.limit, most, excess.wait_s)
