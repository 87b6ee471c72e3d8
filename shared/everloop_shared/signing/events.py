"""Signatures of events: made over the bytes on the wire, and checked before the event is acted on."""

from __future__ import annotations

from typing import TypeVar

from everloop_schemas.envelope import Event, SignedEvent
from everloop_schemas.registry import Decided, LoopState
from everloop_shared.cloudevents import STRUCTURED
from everloop_shared.signing.errors import SignatureRefused
from everloop_shared.signing.keys import SIGNATURE_LENGTH, SigningKey
from everloop_shared.signing.trust import TrustStore

_BEGIN, _END = b',"signature":"', b'"}'
_TAIL = len(_BEGIN) + SIGNATURE_LENGTH + len(_END)
S = TypeVar("S", bound=SignedEvent)


def sign_event(event: S, key: SigningKey) -> S:
    """The event with a signature over its wire form, as the last member of that.

    No byte is encoded twice, so there is nothing to make canonical, and what hashes the wire form hashes the signature.
    """
    wire = event.copy_with(signature=None).encode()
    signature = key.sign(STRUCTURED, wire)
    signed = event.copy_with(signature=signature)
    signed.remember_wire(wire[:-1] + _BEGIN + signature.encode() + _END)
    return signed


def check_event(event: SignedEvent, wire: bytes, trust: TrustStore) -> None:
    """Raise SignatureRefused unless `wire`, the event's bytes, ends with the signature of a key trusted for it."""
    signature = event.signature
    if signature is None:
        raise SignatureRefused(f"this {event.type} is not signed")
    if wire[-_TAIL:] != _BEGIN + signature.encode() + _END:
        raise SignatureRefused(f"the signature of this {event.type} is not its last member")
    trust.check(signature, STRUCTURED, wire[:-_TAIL] + b"}", event.signed_for, event.time)


def is_admitted(event: Event, wire: bytes, trust: TrustStore) -> bool:
    """Whether to act on an event that was read; False for a state from before states were signed.

    The registry publishes each state again, signed, when it starts with a key. Raises SignatureRefused.
    """
    if not isinstance(event, SignedEvent):
        return True
    if event.signature is None and isinstance(event, Decided | LoopState):
        sequence = event.sequence if isinstance(event, Decided) else event.data.sequence
        if sequence < trust.adopted.decisions.get(event.loop, 0):
            return isinstance(event, Decided)
    check_event(event, wire, trust)
    return True
