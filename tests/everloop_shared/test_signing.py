"""Keys, trust and signatures of events: what counts, and why the rest does not."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from tests.builders.events import model_promoted, model_trained
from tests.builders.loops import NOW
from tests.builders.signing import key_file, trusted_keys, trusting

from everloop_schemas.catalogue import decode
from everloop_schemas.registry import ModelPromoted
from everloop_schemas.training import ModelTrained
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.processing.records import decode_events, decode_record
from everloop_shared.messaging.routes import Position, Record
from everloop_shared.settings import Settings
from everloop_shared.signing import require_own_key, signer_of, trust_of
from everloop_shared.signing.errors import SignatureRefused
from everloop_shared.signing.events import check_event, is_admitted, sign_event
from everloop_shared.signing.keys import SigningKey, pre_authentication, to_text
from everloop_shared.signing.trust import TrustStore

DAY = timedelta(days=1)


@pytest.fixture
def key() -> SigningKey:
    """A key."""
    return SigningKey.create()


def trained() -> ModelTrained:
    """A version."""
    return model_trained("a-0", 200, "gate")


def decided(sequence: int = 3) -> ModelPromoted:
    """A decision."""
    return model_promoted("a-0@200", sequence=sequence, prevhash="0" * 64)


def read(wire: bytes) -> ModelTrained:
    """The version in these bytes."""
    event = decode(ModelTrained.topic.name, wire)
    assert isinstance(event, ModelTrained)
    return event


def test_a_key_file_is_for_its_owner_only_and_gives_the_same_key_again(tmp_path: Path, key: SigningKey) -> None:
    file = tmp_path / "training.key"

    key.write(file)

    assert file.stat().st_mode & 0o777 == 0o600
    assert SigningKey.read(file).id == key.id
    assert key.id not in repr(key.public)
    with pytest.raises(FileExistsError):
        key.write(file)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no private key"),
        (b"x" * 20_000, "no key file"),
        (b"-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\n", "no private key"),
    ],
)
def test_a_file_that_holds_no_key_says_so_and_quotes_nothing(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "odd.key"
    file.write_bytes(content)
    file.chmod(0o600)

    with pytest.raises(Misconfigured, match=says) as refused:
        SigningKey.read(file)

    assert "MC4CAQ" not in refused.value.detail


def test_a_key_that_others_can_read_or_that_is_missing_is_refused_with_the_fix(tmp_path: Path, key: SigningKey) -> None:
    open_file, folder = tmp_path / "open.key", tmp_path / "folder"
    key.write(open_file)
    open_file.chmod(0o640)
    folder.mkdir(mode=0o700)

    for path, says in ((open_file, "chmod 600"), (tmp_path / "none", "cannot be read"), (folder, "no key file")):
        with pytest.raises(Misconfigured, match=says):
            SigningKey.read(path)


def test_what_is_signed_is_encoded_as_dsse_says() -> None:
    assert pre_authentication("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_a_signed_event_keeps_its_bytes_through_decoding_and_is_believed(tmp_path: Path, key: SigningKey) -> None:
    signed = sign_event(trained(), key)

    again = read(signed.encode())

    assert again.encode() == signed.encode()
    assert json.loads(signed.encode())["signature"] == signed.signature
    assert again.data == trained().data
    check_event(again, again.encode(), trusting(tmp_path / "trusted.json", key))


def test_every_changed_byte_of_a_signed_event_is_noticed(tmp_path: Path, key: SigningKey) -> None:
    wire, trust, believed = sign_event(trained(), key).encode(), trusting(tmp_path / "trusted.json", key), []

    for at in range(len(wire)):
        changed = wire[:at] + bytes([wire[at] ^ 1]) + wire[at + 1 :]
        found = decode_record(Record(Position(ModelTrained.topic.name), b"market", changed), trust)
        if found.event is not None:
            believed.append(at)

    assert believed == []


def test_a_copy_with_other_fields_is_not_signed(key: SigningKey) -> None:
    copy = sign_event(trained(), key).copy_with(revision=2)

    assert copy.signature is None
    assert b'"signature":"' not in copy.encode().partition(b'"data"')[0] + copy.encode()[-120:]


def test_members_around_a_signature_are_not_believed(tmp_path: Path, key: SigningKey) -> None:
    wire, trust = sign_event(trained(), key).encode(), trusting(tmp_path / "trusted.json", key)
    after = wire[:-1] + b',"revision":7}'
    twice = wire[:-1] + wire[wire.rindex(b',"signature"') :]

    for forged in (after, twice):
        with pytest.raises(SignatureRefused):
            check_event(read(forged), forged, trust)


def test_an_unsigned_a_foreign_and_a_misused_signature_are_refused_each_with_its_reason(
    tmp_path: Path, key: SigningKey
) -> None:
    other = SigningKey.create()
    trust = trusting(tmp_path / "trusted.json", {key: ["artifacts"], other: ["decisions", "backups"]})
    stranger = sign_event(trained(), SigningKey.create())
    stolen_id = sign_event(trained(), other).encode().replace(other.id.encode(), key.id.encode())

    for wire, says in (
        (trained().encode(), "is not signed"),
        (stranger.encode(), "not among the trusted"),
        (sign_event(trained(), other).encode(), "may not sign artifacts"),
        (stolen_id, "is not that of key"),
    ):
        refused = decode_record(Record(Position(ModelTrained.topic.name), b"market", wire), trust).rejection
        assert isinstance(refused, SignatureRefused)
        assert says in refused.detail


def test_a_rotated_key_still_counts_for_what_it_signed_and_a_revoked_one_from_its_date_on(
    tmp_path: Path, key: SigningKey
) -> None:
    file, new = tmp_path / "trusted.json", SigningKey.create()
    before, after = sign_event(trained(), key), sign_event(trained().copy_with(time=NOW + DAY), key)
    by_new = sign_event(trained().copy_with(time=NOW + DAY), new)
    trust = trusting(file, {key: ["artifacts"], new: ["artifacts"]})

    def believed() -> list[bool]:
        said = []
        for event in (before, after, by_new):
            try:
                said.append(is_admitted(event, event.encode(), trust))
            except SignatureRefused:
                said.append(False)
        return said

    both = believed()
    trusted_keys(file, {key: ["artifacts"]}, revoked=(NOW + DAY / 2).isoformat())
    entries = json.loads(file.read_text())
    entries["keys"][new.id] = {"public_key": to_text(new.public), "signs": ["artifacts"]}
    file.write_text(json.dumps(entries))
    from_a_date = believed()
    entries["keys"][key.id]["revoked"] = "1970-01-01T00:00:00Z"
    file.write_text(json.dumps(entries, indent=1))

    assert both == [True, True, True]
    assert from_a_date == [True, False, True]
    assert believed() == [False, False, True]


@pytest.mark.parametrize("field", ["not_before", "not_after"])
def test_a_key_counts_within_its_validity(tmp_path: Path, key: SigningKey, field: str) -> None:
    trust = trusting(tmp_path / "trusted.json", key, **{field: NOW.isoformat()})
    before, at = (sign_event(trained().copy_with(time=t), key) for t in (NOW - DAY, NOW))

    good, wrong = (at, before) if field == "not_before" else (before, at)

    assert is_admitted(good, good.encode(), trust)
    with pytest.raises(SignatureRefused, match="valid"):
        is_admitted(wrong, wrong.encode(), trust)


def test_decisions_from_before_signatures_count_up_to_the_adopted_one(tmp_path: Path, key: SigningKey) -> None:
    trust = trusting(tmp_path / "trusted.json", key, adopted={"decisions": {"market": 3}})

    def admitted(sequence: int, loop: str = "market") -> bool:
        event = decided(sequence).copy_with(loop=loop)
        return is_admitted(event, event.encode(), trust)

    assert admitted(2)
    for sequence, loop in ((3, "market"), (2, "churn")):
        with pytest.raises(SignatureRefused, match="not signed"):
            admitted(sequence, loop)


def test_history_leaves_out_what_is_forged_and_says_where(
    tmp_path: Path, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    trust = trusting(tmp_path / "trusted.json", key)
    wires = [sign_event(decided(3), key).encode(), decided(4).encode(), b"no event"]
    records = [Record(Position(ModelPromoted.topic.name, 0, n), b"market", wire) for n, wire in enumerate(wires)]

    with caplog.at_level(logging.ERROR):
        found = [position.offset for position, _ in decode_events(records, trust)]

    assert found == [0]
    assert [(r.levelname, r.__dict__["offset"]) for r in caplog.records] == [("ERROR", 1)]
    assert len(decode_events(records)) == 2


def test_a_trust_file_that_breaks_leaves_the_last_good_one_in_force(tmp_path: Path, key: SigningKey) -> None:
    file = tmp_path / "trusted.json"
    trust = trusting(file, key)
    file.write_text("{broken")

    still = trust.distrusts(key.id, "artifacts")
    file.write_text('{"keys": {}}')

    assert still is None
    assert trust.distrusts(key.id, "artifacts") is not None
    with pytest.raises(Misconfigured, match="no file of trusted keys"):
        TrustStore(key_file(tmp_path / "a.key"))


def test_a_trust_file_whose_id_is_not_that_of_its_key_is_refused(tmp_path: Path, key: SigningKey) -> None:
    file = trusted_keys(tmp_path / "trusted.json", key)
    file.write_text(file.read_text().replace(key.id, "0" * 16))

    with pytest.raises(Misconfigured, match="id is not that of its public key"):
        TrustStore(file)


def test_settings_name_the_key_and_the_trusted_ones_and_nothing_is_loaded_without(tmp_path: Path) -> None:
    file = key_file(tmp_path / "own.key")
    own = SigningKey.read(file)
    trusted = trusted_keys(tmp_path / "trusted.json", {own: ["artifacts"]})
    both = Settings(signing_key=file, trusted_keys=trusted)

    require_own_key(both, "artifacts")
    require_own_key(Settings(), "decisions")

    assert (signer_of(Settings()), trust_of(Settings())) == (None, None)
    assert (signer_of(both) or own).id == own.id
    with pytest.raises(Misconfigured, match="may not sign decisions"):
        require_own_key(both, "decisions")
    with pytest.raises(Misconfigured, match="EVERLOOP_SIGNING_KEY is not"):
        require_own_key(Settings(trusted_keys=trusted), "artifacts")


def test_without_keys_no_process_loads_the_library_of_signatures() -> None:
    code = (
        "import sys, everloop_shared.messaging.kafka.engine, everloop_models.seals, everloop_serving.app; "
        "print('everloop_shared.signing.keys' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
