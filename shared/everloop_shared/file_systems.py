"""File systems by URL, as fsspec knows them, whose calls end within minutes and fail with an OSError.

fsspec is imported only here, and a library of a cloud only where a URL names it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from fsspec.config import conf  # type: ignore[import-untyped]
from fsspec.core import url_to_fs  # type: ignore[import-untyped]

CONNECT_S, ANSWER_S, CALL_S = 5, 20, 120.0
"""How long a store may take to connect, to answer, and for one call to Google Cloud Storage with all its retries."""
ATTEMPTS = 3
S3, GCS = ("s3", "s3a"), ("gs", "gcs")
_LIBRARIES = frozenset({"botocore", "aiobotocore", "s3fs", "aiohttp", "gcsfs", "google", "requests", "urllib3"})
_USER = re.compile(r"//[^/@\s]+@")


def open_file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path that the URL has in it.

    It is configured as fsspec is: by the environment of its library (`AWS_ENDPOINT_URL`, `STORAGE_EMULATOR_HOST`,
    credentials), and by fsspec's own (`FSSPEC_S3_...`). Calls raise OSError within `os_errors` only.
    """
    scheme = url.partition("://")[0]
    if scheme in S3:
        return _open_s3(url)
    if scheme in GCS:
        return _open_gcs(url, scheme)
    fs, path = url_to_fs(url)
    return fs, str(path)


@contextmanager
def os_errors() -> Iterator[None]:
    """Raise what the libraries of a store raise as an OSError with its reason; other errors stay as they are."""
    try:
        yield
    except TimeoutError as e:
        raise TimeoutError(errno.ETIMEDOUT, e.strerror or "no answer in time") from e
    except OSError:
        raise
    except Exception as e:
        if not any(c.__module__.partition(".")[0] in _LIBRARIES for c in type(e).__mro__):
            raise
        raise OSError(errno.EIO, without_credentials(f"{type(e).__name__}: {e}")) from e


def without_credentials(text: str) -> str:
    """A URL, or a text with URLs, without the user names and passwords in them."""
    return _USER.sub("//", text)


def _open_s3(url: str) -> tuple[Any, str]:
    import s3fs  # type: ignore[import-untyped]

    own = dict(_configured(S3).get("config_kwargs") or {})
    bounds = {"connect_timeout": CONNECT_S, "read_timeout": ANSWER_S, "retries": {"total_max_attempts": 1}}
    # fsspec keeps instances by their arguments: another endpoint must be another instance
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options = {"endpoint_url": endpoint} if endpoint and "endpoint_url" not in _configured(S3) else {}
    fs = s3fs.S3FileSystem(use_listings_cache=False, config_kwargs={**bounds, **own}, **options)
    fs.retries = ATTEMPTS
    return fs, urlsplit(url).netloc.rpartition("@")[2] + urlsplit(url).path


def _open_gcs(url: str, scheme: str) -> tuple[Any, str]:
    endpoint = os.environ.get("STORAGE_EMULATOR_HOST", "")
    endpoint = endpoint if not endpoint or "://" in endpoint else f"http://{endpoint}"
    options = {"endpoint_url": endpoint, "token": "anon"} if endpoint else {}
    fs = _gcs_class()(use_listings_cache=False, **{**options, **_configured(GCS)})
    return fs, url.removeprefix(f"{scheme}://")


def _configured(protocols: tuple[str, ...]) -> dict[str, Any]:
    """What fsspec's own configuration says of these protocols."""
    return {key: value for protocol in protocols for key, value in conf.get(protocol, {}).items()}


@cache
def _gcs_class() -> Any:
    """gcsfs over plain HTTP, with calls that end.

    By default gcsfs asks by gRPC which kind a bucket is of, and waits a minute where nothing answers. The plain API
    does all that is needed here, in every kind of bucket but zonal ones.
    """
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs each failure with a traceback, and then raises it
    from aiohttp import ClientTimeout
    from gcsfs.core import GCSFileSystem  # type: ignore[import-untyped]

    class BoundedGcs(GCSFileSystem):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.requests_timeout = ClientTimeout(total=CALL_S, sock_connect=CONNECT_S, sock_read=ANSWER_S)

        async def _request(self, *args: Any, **kwargs: Any) -> Any:
            try:
                async with asyncio.timeout(CALL_S):
                    return await super()._request(*args, **kwargs)
            except ValueError as e:  # a request that the store refuses
                raise OSError(errno.EINVAL, str(e)) from e

    return BoundedGcs
