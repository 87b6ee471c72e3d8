"""No secret stands where it does not belong: in files, logs, metrics, answers, or what `ps` shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.acceptance.house import SERVICES, House, check

TOO_LARGE_BYTES = 50_000_000


def secrets(house: House) -> None:
    """Every token and private key of the installation is looked for where everybody may look, and on disk."""
    _make_errors(house)
    tokens = [house.owner(), *house.tokens]
    keys = {file: house.secret_in(file) for file in house.folder.rglob("*.key")}
    words = [word.encode() for word in (*tokens, *(t.rpartition("_")[2] for t in tokens), *keys.values()) if word]
    theirs = {house.folder / "token", house.folder / "access" / "serving.token", *keys}
    stores = [file for file in house.folder.rglob("*.pem") if "PRIVATE KEY" in file.read_text()]
    files = [f for f in house.folder.rglob("*") if f.is_file() and f.stat().st_size < TOO_LARGE_BYTES]
    found = [str(f) for f in files if f not in theirs and f not in stores and _has(f.read_bytes(), words)]
    check(not found, f"no file but its own has one of {len(words)} secrets: no log, no database, no topic", found)
    open_ = [str(file) for file in (*theirs, *stores) if file.exists() and file.stat().st_mode & 0o077]
    check(not open_, "those files are of their owner alone", open_)
    shown = list(_process_texts(house))
    check(shown and not any(_has(text, words) for text in shown), f"none of {len(shown)} processes shows one")
    metrics = {s: house.tell("GET", s, "/metrics").body for s in SERVICES}
    told = [s for s, text in metrics.items() if _has(text.encode(), words) or "Bearer" in text]
    check(all(metrics.values()) and not told, "no /metrics has one", told)
    logs = {file.name: file.read_text(errors="replace").lower() for file in (house.folder / "logs").glob("*.log")}
    failed = [name for name, text in logs.items() if '"request failed"' in text or "exception in asgi" in text]
    check(not failed, "no service says that a request failed by its fault", failed)
    headers = [name for name, text in logs.items() if "bearer " in text or "authorization:" in text]
    check(len(logs) > 6 and not headers, "no log has a header with a token", headers)


def _make_errors(house: House) -> None:
    """Ask for what fails, with tokens where they do not belong, so that there is something to be logged."""
    for service in SERVICES:
        for token in (*house.tokens[:2], house.owner(), house.owner() + "x", "evl_0000000000_" + "0" * 43):
            for path in ("/nothing", "/v1/loops/guarded", "/v1/loops/none/versions"):
                answer = house.ask("GET", house.url(service) + path, token, authorization_copy=token)
                if token in answer.body:
                    check(False, f"{service} says a token in its answer to {path}", answer)
            house.ask("POST", house.url(service) + "/v1/loops/guarded/events", token, b"{", content_type="text/plain")


def _has(text: bytes, words: list[bytes]) -> bool:
    return any(word in text for word in words)


def _process_texts(house: House) -> Iterator[bytes]:
    for pid, _ in house.processes():
        try:
            yield Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
