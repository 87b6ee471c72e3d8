"""The address by which the browser of an installation's owner signs in at the console, without a token in it."""

from __future__ import annotations

from pathlib import Path

from everloop.local.discovery import find_installation, find_tls, find_token
from everloop.local.errors import InstallationError

WITHIN_S = 10.0


def sign_in_address(folder: Path) -> str:
    """An address that works once, for a minute; its code is in the fragment, which browsers send to nobody.

    Raises InstallationError where monitoring gives no code.
    """
    import httpx  # here, as other starts do without

    data = str(folder)
    url = find_installation(data).url("monitoring")
    token, tls = find_token(data), find_tls(data)
    verify = tls.context() if tls else True
    try:
        with httpx.Client(timeout=WITHIN_S, trust_env=False, verify=verify) as http:
            header = token.header(url) if token else {}
            answer = http.post(f"{url}/v1/session/codes", json={}, headers=header)
        answer.raise_for_status()
        return f"{url}/sign-in#code={answer.json()['code']}"
    except (httpx.HTTPError, ValueError, KeyError) as e:
        raise InstallationError(
            f"Monitoring gives no code to sign in with ({type(e).__name__}).", "Run it again."
        ) from e
