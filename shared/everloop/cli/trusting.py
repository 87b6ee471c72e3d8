"""Makes keys, and changes the file of trusted ones, for the commands about signatures."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.table import Table

from everloop.cli.ask import ask
from everloop.cli.output import CommandFailed, print_json, print_result, printable, read_moment
from everloop.local.discovery import find_installation
from everloop.local.stores import store_settings
from everloop.wire import loop_path
from everloop_models.errors import ArtifactCorrupt, ArtifactUnavailable
from everloop_models.store import ArtifactStore, is_name
from everloop_shared.errors import Misconfigured
from everloop_shared.files import replace_file
from everloop_shared.signing.keys import SigningKey, key_id, to_bytes, to_text
from everloop_shared.signing.trust import Adopted, TrustedKey, TrustFile
from everloop_shared.signing.uses import USES

FROM_THE_START = datetime(1970, 1, 1, tzinfo=UTC)
PUBLIC_KEY_CHARACTERS = 43
READABLE = 0o644
"""The mode of a new file of trusted keys: services of other users read it, and it holds no secret."""


def create(file: Path, as_json: bool) -> None:
    """Make a key (Ed25519) in a file that only you can read; name it in EVERLOOP_SIGNING_KEY."""
    key = SigningKey.create()
    try:
        key.write(file.expanduser())
    except OSError as e:
        raise CommandFailed(f"{file} cannot be written: {e.strerror or e}") from e
    public = to_text(key.public)
    if as_json:
        print_json({"id": key.id, "public_key": public, "file": str(file)})
    else:
        print_result(f"Key {key.id} is in {file}; its public key is {public}")


def list_keys(trusted: Path | None, as_json: bool) -> None:
    """List the trusted keys: what they may sign, from when to when, and whether they are revoked."""
    file = _read(_path(trusted))
    if as_json:
        print_json(file.model_dump(mode="json"))
        return
    table = Table("key", "name", "signs", "from", "until", "revoked from")
    for name, key in sorted(file.keys.items(), key=lambda item: item[1].name):
        times = (key.not_before, key.not_after, key.revoked)
        table.add_row(name, printable(key.name), ", ".join(key.signs), *(t.isoformat() if t else "" for t in times))
    adopted = file.adopted
    said = f"{len(adopted.artifacts):,} artifacts and the decisions of {len(adopted.decisions):,} loops were adopted"
    print_result(table, said if adopted.artifacts or adopted.decisions else "Nothing is trusted without a signature.")


def trust(
    key: str, signs: str, name: str, since: str | None, until: str | None, trusted: Path | None, as_json: bool
) -> None:
    """Trust a key, or change what it is trusted for; running services read the file again."""
    public, path, wrong = _public_key(key), _path(trusted), set(signs.split(",")) - set(USES)
    if wrong:
        raise CommandFailed(f"--signs: {', '.join(sorted(wrong))!r:.80} is none of {', '.join(USES)}")
    fields: dict[str, Any] = {
        "public_key": to_text(public),
        "name": name,
        "signs": tuple(signs.split(",")),
        "not_before": read_moment("--from", since),
        "not_after": read_moment("--until", until),
    }
    file = _read(path) if path.exists() else TrustFile()
    known = file.keys.get(key_id(public))
    fields["revoked"] = known.revoked if known else None
    _write(path, file, {**file.keys, key_id(public): TrustedKey.model_validate(fields)})
    if as_json:
        print_json({"id": key_id(public), "file": str(path)})
    else:
        print_result(f"{path} trusts key {key_id(public)} for {signs.replace(',', ', ')}")


def revoke(key: str, since: str | None, every: bool, trusted: Path | None, as_json: bool) -> None:
    """Revoke a key from now on, from a time on, or for everything that it ever signed."""
    path = _path(trusted)
    file = _read(path)
    if key not in file.keys:
        raise CommandFailed(f"{path} has no key {key[:40]!r}; `everloop signing list` shows those that it has")
    if every and since:
        raise CommandFailed("give --from or --all, not both")
    at = FROM_THE_START if every else read_moment("--from", since) or datetime.now(UTC)
    _write(path, file, {**file.keys, key: file.keys[key].model_copy(update={"revoked": at})})
    if as_json:
        print_json({"id": key, "revoked": at.isoformat(), "file": str(path)})
    else:
        print_result(f"Key {key} is revoked {'for all its signatures' if every else f'from {at.isoformat()} on'}")


def adopt(trusted: Path | None, data: str | None, as_json: bool) -> None:
    """Trust the artifacts in the store and the decisions of all loops as they are now, whoever signed them.

    For an installation that has just begun to sign, and after a key was revoked for all its signatures.
    """
    path = _path(trusted)
    file = _read(path)
    decisions, artifacts = _sequences(data), _digests(data)
    adopted = Adopted(decisions=file.adopted.decisions | decisions, artifacts=artifacts)
    _write(path, file, file.keys, adopted)
    if as_json:
        print_json({"decisions": decisions, "artifacts": sorted(artifacts), "file": str(path)})
    else:
        print_result(f"{path} adopts {len(artifacts):,} artifacts and the decisions of {len(decisions):,} loops")


def _sequences(data: str | None) -> dict[str, int]:
    """By loop, the number that its next decision has; also of deleted ones, whose topic is read again too."""
    found = {}
    for query in ("", "?deleted=true"):
        for loop in ask("registry", f"/v1/loops{query}", data)["loops"]:
            decisions = ask("registry", f"{loop_path(loop['loop'])}/history", data)["decisions"]
            found[loop["loop"]] = int(decisions[-1]["sequence"]) + 1
    return found


def _digests(data: str | None) -> frozenset[str]:
    """The SHA-256 of every artifact in the store."""
    try:
        settings = store_settings(find_installation(data))
        store = ArtifactStore(settings.artifact_url, settings.max_artifact_bytes)
        names = [name for loop in store.loops() for name, _, _ in store.files(loop) if is_name(name)]
        return frozenset(sha256(store.get(name)).hexdigest() for name in names)
    except (ArtifactUnavailable, ArtifactCorrupt, Misconfigured) as e:
        raise CommandFailed(e.detail) from e


def _path(trusted: Path | None) -> Path:
    path = trusted or os.environ.get("EVERLOOP_TRUSTED_KEYS")
    if not path:
        raise CommandFailed("name the file of trusted keys, with --trusted or in EVERLOOP_TRUSTED_KEYS")
    return Path(path).expanduser()


def _read(path: Path) -> TrustFile:
    try:
        return TrustFile.read(path)
    except Misconfigured as e:
        raise CommandFailed(e.detail) from e


def _write(path: Path, file: TrustFile, keys: Mapping[str, TrustedKey], adopted: Adopted | None = None) -> None:
    """Replace the file, which readers see whole; its mode stays."""
    changed = TrustFile.model_validate({"keys": keys, "adopted": adopted or file.adopted})
    body = changed.model_dump(mode="json", exclude_defaults=True)
    body.get("adopted", {}).get("artifacts", []).sort()
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else READABLE
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, f"{_pretty(body)}\n".encode(), mode)
    except OSError as e:
        raise CommandFailed(f"{path} cannot be written: {e.strerror or e}") from e


def _pretty(body: Any) -> str:
    return json.dumps(body, indent=1, sort_keys=True)


def _public_key(key: str) -> bytes:
    if len(key) == PUBLIC_KEY_CHARACTERS and not Path(key).exists():
        try:
            return to_bytes(key)
        except ValueError as e:
            raise CommandFailed(f"{key} is neither a key file nor a public key") from e
    try:
        return SigningKey.read(Path(key).expanduser()).public
    except Misconfigured as e:
        raise CommandFailed(e.detail) from e
