"""Why a signature does not count."""

from __future__ import annotations

from everloop_shared.errors import InputRejected


class SignatureRefused(InputRejected):
    """A record or a file that must be signed is not, or not by a key that is trusted for it."""

    title = "Signature refused"
