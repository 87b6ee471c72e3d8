"""The settings of traces, which every service has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field

from everloop_shared.errors import Misconfigured

MAX_HEADERS_CHARACTERS = 10_000


def _collector_url(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment):
        raise ValueError("must be http://HOST:PORT or https://HOST[:PORT], with the path where there is one")
    if parts.username or parts.password:
        raise ValueError("must not have a password in it; send a key by EVERLOOP_OTLP_HEADERS_FILE")
    return value


class SpanSettings(BaseModel):
    """Where spans go, and of which requests (`shared/docs/traces.md`)."""

    otlp_url: Annotated[str, AfterValidator(_collector_url)] = Field(
        "", description="where spans are sent by OTLP over HTTP: http://HOST:4318; empty: nothing is recorded"
    )
    otlp_headers: str = Field("", repr=False, description="headers for it: NAME=VALUE, separated by commas")
    otlp_headers_file: Path | None = Field(None, description="file with these headers, in the same form")
    trace_sampling: float = Field(
        0.1, ge=0, le=1, description="the share of traces that is recorded, of those that begin here"
    )
    trace_forced_per_s: float = Field(
        100.0, ge=0, description="traces a second that applications may have recorded by the flag they send"
    )

    def read_otlp_headers(self) -> dict[str, str]:
        """The headers, names in lower case; raises Misconfigured."""
        text, name = self.otlp_headers, "EVERLOOP_OTLP_HEADERS"
        if self.otlp_headers_file is not None:
            name = "EVERLOOP_OTLP_HEADERS_FILE"
            try:
                text = self.otlp_headers_file.read_text().strip()
            except (OSError, UnicodeDecodeError) as e:
                raise Misconfigured(f"{name}: cannot read {self.otlp_headers_file}: {e}") from e
        if len(text) > MAX_HEADERS_CHARACTERS:
            raise Misconfigured(f"{name}: has more than {MAX_HEADERS_CHARACTERS:,} characters")
        pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
        for header, equals, value in pairs:
            if not (equals and header.strip().isascii() and value.strip().isascii() and value.isprintable()):
                raise Misconfigured(f"{name}: must be NAME=VALUE, separated by commas")  # the values are secret
        return {header.strip().lower(): value.strip() for header, _, value in pairs}
