"""The token that a client or a service sends: given as text, or in a file that is read again when it changes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from everloop_shared.errors import Misconfigured

READ_EVERY_S = 1.0
MAX_BYTES = 16_384


class OwnToken:
    """A token, or none. A file is read once a second at most, so that a rotated key is used without a restart."""

    def __init__(self, text: str = "", file: Path | None = None, *, named: str = "EVERLOOP_TOKEN_FILE") -> None:
        """`named` is what names the file, for the error when it cannot be read."""
        self._text, self._file, self._named = text.strip(), file, named
        self._read_at = float("-inf")

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> OwnToken | None:
        """As EVERLOOP_TOKEN or EVERLOOP_TOKEN_FILE says; None where neither does."""
        if text := environ.get("EVERLOOP_TOKEN", ""):
            return cls(text)
        file = environ.get("EVERLOOP_TOKEN_FILE", "")
        return cls(file=Path(file).expanduser()) if file else None

    def header(self) -> dict[str, str]:
        """What a request carries; raises Misconfigured if the file cannot be read."""
        if self._file is not None and time.monotonic() - self._read_at > READ_EVERY_S:
            self._text, self._read_at = self._read(self._file), time.monotonic()
        return {"authorization": f"Bearer {self._text}"} if self._text else {}

    def _read(self, file: Path) -> str:
        try:
            with file.open("rb") as opened:
                text = opened.read(MAX_BYTES).decode("ascii").strip()
        except OSError as e:
            raise Misconfigured(f"{self._named}: {file} cannot be read ({e.strerror})") from e
        except UnicodeDecodeError:
            raise Misconfigured(f"{self._named}: {file} holds no token") from None
        if not text.isprintable():
            raise Misconfigured(f"{self._named}: {file} holds more than one line")
        return text
