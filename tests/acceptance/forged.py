"""Row 5: forged events by who may not write them, and by who may but has not signed them."""

from __future__ import annotations

import json
import pickle
from base64 import b64encode, urlsafe_b64encode
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.acceptance import bus
from tests.acceptance.house import House, check, until

LOOP, FIELD = "guarded", "x"
SPEC = """
task: binary
schema: {x: {type: number}}
features: [{fields: all}]
models: [{estimator: river.linear_model.LogisticRegression, scale: true}]
gate: {confidence: 0.9, min_outcomes: 50}
rollout: {shadow: 20 predictions, canary: [50%], step: 20 outcomes}
"""
TOPICS = {"registry.loop_state.v1": "registry", "training.model_trained.v1": "training"}
"""What is forged, and who may write it."""
READERS = {"registry.loop_state.v1": "serving", "training.model_trained.v1": "registry"}
"""Who would act on it."""
TOLD_WITHIN_S = 10.0
CONTENT_TYPE = b"application/cloudevents+json"


def has_champion(house: House, rows: int = 600) -> bool:
    """Play the loop until a learned version is champion."""
    if not house.status(LOOP):
        if not house.apply(LOOP, SPEC):
            return False
        house.play(LOOP, FIELD, 0, rows)
    return bool(until(lambda: house.champion(LOOP) != "0", 60))


class Pickle:
    """Writes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def forged(house: House) -> None:
    """Nothing that is forged changes anything; each is told."""
    if not check(has_champion(house), "a learned version is champion"):
        return
    before, decided = house.champion(LOOP), len(bus.events(house, "registry.decided.v1", LOOP))
    marker = house.folder / "evil-was-here"
    records = {topic: _forge(house, topic, marker) for topic in TOPICS}
    for topic, record in records.items():
        name = topic.split(".")[1]
        stranger = bus.write(house, None, topic, record), bus.write_plain(house, topic, record)
        check(all(stranger), f"anonymous, with and without TLS, cannot write {name}", stranger)
        for user in {"ingest", "training", "serving", "monitoring", "feature"} - {TOPICS[topic]}:
            error = bus.write(house, user, topic, record)
            refused = error == "TopicAuthorizationFailedError"
            check(refused, f"{user} cannot write {name}: an authorization error", error)
    for topic, record in records.items():
        alert, name = f"signature.{topic}", topic.split(".")[1]
        owner, reader = TOPICS[topic], READERS[topic]
        for what, value in _signatures(record.value).items():
            error = bus.write(house, owner, topic, record._replace(value=value))
            seen = until(partial(_refused, house, reader, value), TOLD_WITHIN_S)
            check(not error and seen, f"{name} of {owner} {what}: {reader} refuses it within 10 s", error)
        check(until(lambda: alert in house.alerts(LOOP), TOLD_WITHIN_S), f"the alert {alert} is open")  # noqa: B023
    check(house.champion(LOOP) == before == house.predicted_by(LOOP, FIELD), "the champion is who it was", before)
    check(len(bus.events(house, "registry.decided.v1", LOOP)) == decided, "nothing was decided")
    verified = house.everloop("audit", "verify", LOOP)
    named = verified.stderr.count(f"{LOOP}: a record of registry.loop_state.v1 with decision 1000000")
    only = "none was changed" in verified.stdout and named == len(_signatures(records["registry.loop_state.v1"].value))
    told = verified.returncode == 1 and only
    check(told, "audit verify names what is forged, and the chain is whole", verified.stderr)
    check(not marker.exists(), "no code of the forged model ran")


def _refused(house: House, reader: str, value: bytes) -> bool:
    """Whether a reader has said that it refuses this record for its signature."""
    letters = [event["data"] for event in bus.events(house, f"{reader}.dead_letter.v1", LOOP)]
    same = b64encode(value).decode()
    return any(letter["error"] == "SignatureRefused" and letter["value"] == same for letter in letters)


def _forge(house: House, topic: str, marker: Path) -> bus.Record:
    """The latest record of the loop, changed so that a model that runs code is what serves."""
    last = [r for r in bus.read(house, topic) if r.value and json.loads(r.value).get("loop") == LOOP][-1]
    event = json.loads(last.value)
    evil = pickle.dumps(Pickle(marker))
    file = bus.first(house.folder / "artifacts", f"{house.champion(LOOP)}-*").with_name("evil-0@1.pkl")
    digest = sha256(evil).hexdigest()
    file = file.with_name(f"evil-0@1-{digest[:16]}.pkl")
    file.write_bytes(evil)
    place = event["data"]["champion"] if "champion" in event["data"] else event["data"]
    place |= {"version": "evil-0@1", "uri": file.as_uri(), "sha256": digest, "size": len(evil)}
    if "sequence" in event["data"]:
        event["data"]["sequence"] = 10**6
    event["id"] = event["id"][:-4] + "beef"
    return last._replace(value=json.dumps(event, separators=(",", ":")).encode())


def _signatures(value: bytes) -> dict[str, bytes]:
    """The record unsigned, with the signature of what it was before, and with that of a key that nobody trusts."""
    event = json.loads(value)
    old = event.pop("signature")
    unsigned = json.dumps(event, separators=(",", ":")).encode()
    signatures = {
        "with the signature of another record": old,
        "signed by a stranger's key": _sign(unsigned),
        "with no signature in its place": "x" * 103,
    }
    signed = {what: unsigned[:-1] + f',"signature":"{one}"}}'.encode() for what, one in signatures.items()}
    return {"but unsigned": unsigned, **signed}


def _sign(payload: bytes) -> str:
    """A right signature by a new key: DSSE's encoding, Ed25519."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    encoded = b"DSSEv1 %d %b %d %b" % (len(CONTENT_TYPE), CONTENT_TYPE, len(payload), payload)
    signature = urlsafe_b64encode(key.sign(encoded)).rstrip(b"=").decode()
    return f"{sha256(public).hexdigest()[:16]}.{signature}"
