"""What every endpoint of a service offers, whatever protocol it speaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Health(Protocol):
    """The state of a service as its endpoints report it."""

    def not_ready(self) -> str | None:
        """None when the service can take requests, else the reason why not."""

    def not_live(self) -> str | None:
        """None while the process makes progress, else the reason why it should be restarted."""

    def remarked(self) -> Sequence[str]:
        """What people should know although the service is ready, a sentence each."""


class Endpoint(Protocol):
    """One address of a service: HTTP, or another protocol beside it. `Service` starts and drains all of them."""

    @property
    def name(self) -> str:
        """The protocol, such as `http`."""

    @property
    def port(self) -> int:
        """The port it listens on; 0 before `start`."""

    async def start(self, health: Health) -> None:
        """Listen, and answer at least health probes from now on; raises Misconfigured if the address cannot be used."""

    def not_ready(self) -> str | None:
        """None when it accepts requests, else the reason why not."""

    async def ended(self) -> None:
        """Return when it does not serve any more; raises what broke it. May be cancelled, which stops nothing."""

    async def drain(self) -> None:
        """Accept nothing new and return when the requests in progress are answered, or a few seconds have passed.

        Idempotent; returns at once where it was not started.
        """
