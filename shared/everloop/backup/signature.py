"""The signature of a backup: a DSSE envelope (https://github.com/secure-systems-lab/dsse) beside its manifest.

Its payload is an in-toto statement about the manifest, which has the sha256 of every other file.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from everloop_shared import strict_json
from everloop_shared.signing.errors import SignatureRefused
from everloop_shared.signing.keys import SigningKey, to_bytes, to_text
from everloop_shared.signing.trust import TrustStore

PAYLOAD = "application/vnd.in-toto+json"
PREDICATE = "https://everloop.dev/backup/v1"
MAX_SIGNATURES = 10


def envelope(name: str, data: bytes, signer: SigningKey, now: datetime) -> bytes:
    """The envelope that signs a file of this name and content."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": sha256(data).hexdigest()}}],
        "predicateType": PREDICATE,
        "predicate": {"made": now.astimezone(UTC).isoformat()},
    }
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    key, _, signature = signer.sign(PAYLOAD, payload).partition(".")
    body = {
        "payloadType": PAYLOAD,
        "payload": b64encode(payload).decode(),
        "signatures": [{"keyid": key, "sig": b64encode(to_bytes(signature)).decode()}],
    }
    return json.dumps(body, indent=1).encode()


def check_envelope(raw: bytes, name: str, data: bytes, trust: TrustStore) -> None:
    """Raise SignatureRefused unless a key that is trusted for backups signed that a file has this name and content."""
    try:
        body = strict_json.read(raw)
        payload = b64decode(body["payload"], validate=True)
        signatures = [f"{one['keyid']}.{to_text(b64decode(one['sig'], validate=True))}" for one in body["signatures"]]
        statement: Any = strict_json.read(payload)
        said = [(one["name"], one["digest"]["sha256"]) for one in statement["subject"]]
        made = datetime.fromisoformat(statement["predicate"]["made"])
        is_ours = body["payloadType"] == PAYLOAD and statement["predicateType"] == PREDICATE and made.tzinfo is not None
    except (strict_json.NotJson, ValueError, KeyError, TypeError, IndexError, AttributeError) as e:
        raise SignatureRefused("it is no DSSE envelope of a backup") from e
    if not is_ours or said != [(name, sha256(data).hexdigest())] or not 0 < len(signatures) <= MAX_SIGNATURES:
        raise SignatureRefused(f"it is not about this {name}")
    refused = SignatureRefused("it is not signed")
    for signature in signatures:
        try:
            trust.check(signature, PAYLOAD, payload, "backups", made)
            return
        except SignatureRefused as e:
            refused = e
    raise refused
