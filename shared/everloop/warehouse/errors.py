"""Failures of BigQuery and of what is read from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from everloop.errors import EverloopError


class WarehouseFailed(EverloopError):
    """BigQuery refuses, cannot be reached, or holds what does not fit."""


@contextmanager
def failures(what: str) -> Iterator[None]:
    """Turn what Google's libraries raise into WarehouseFailed, with what was tried and the reason."""
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    try:
        yield
    except GoogleAuthError as e:
        hint = "run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"
        raise WarehouseFailed(f"BigQuery, {what}: no credentials: {e}; {hint}") from e
    except (GoogleAPIError, RequestException, OSError) as e:  # OSError: no project is named anywhere
        raise WarehouseFailed(f"BigQuery, {what}: {getattr(e, 'message', None) or e}") from e
