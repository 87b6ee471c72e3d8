"""Where access control may be off, and what it needs to be on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from everloop_shared.access.settings import AccessSettings, discovered_url
from everloop_shared.errors import Misconfigured


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
@pytest.mark.parametrize("auth", ["", "off"])
def test_it_may_be_off_where_this_machine_alone_reaches_it(host: str, auth: Any) -> None:
    AccessSettings(host=host, auth=auth).check_access()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "everloop.example", "127.0.0.1.example", ""])
@pytest.mark.parametrize("auth", ["", "off"])
def test_it_is_refused_to_be_off_elsewhere_and_the_fix_is_named(host: str, auth: Any) -> None:
    with pytest.raises(Misconfigured, match=r"EVERLOOP_AUTH.*everloop keys create"):
        AccessSettings(host=host, auth=auth).check_access()


def test_a_container_counts_by_the_address_on_which_its_port_is_published() -> None:
    AccessSettings(host="0.0.0.0", published_on="127.0.0.1").check_access()

    with pytest.raises(Misconfigured):
        AccessSettings(host="0.0.0.0", published_on="0.0.0.0").check_access()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "EVERLOOP_AUTH_KEYS"),
        ({"auth_issuer": "https://login.example"}, "EVERLOOP_AUTH_AUDIENCE"),
    ],
)
def test_on_needs_somebody_who_may_do_something(given: dict[str, Any], says: str) -> None:
    with pytest.raises(Misconfigured, match=says):
        AccessSettings(auth="on", host="0.0.0.0", **given).check_access()


def test_on_with_keys_may_listen_anywhere(tmp_path: Path) -> None:
    AccessSettings(auth="on", host="0.0.0.0", auth_keys=tmp_path / "keys.json").check_access()


@pytest.mark.parametrize("url", ["http://login.example", "ftp://login.example", "login.example"])
def test_a_provider_without_tls_is_refused_but_on_this_machine(url: str) -> None:
    AccessSettings(auth_issuer="http://127.0.0.1:9000")

    with pytest.raises(ValueError, match="https://"):
        AccessSettings(auth_issuer=url)


HERE, ELSEWHERE = "http://localhost:8080/realm", "https://login.example"


@pytest.mark.parametrize(
    ("issuer", "address"),
    [
        (HERE, "http://127.0.0.1:8080/token"),
        (HERE, "https://login.example/token"),
        (ELSEWHERE, "https://tokens.login.example/token"),
    ],
)
def test_an_address_that_the_provider_names_is_asked(issuer: str, address: str) -> None:
    assert discovered_url(address, issuer) == address


@pytest.mark.parametrize(
    ("issuer", "address"),
    [
        (ELSEWHERE, "https://127.0.0.1:8004/token"),
        (ELSEWHERE, "http://localhost/token"),
        (ELSEWHERE, "https://[::1]/token"),
        (HERE, "http://login.example/token"),
        (HERE, "file:///etc/passwd"),
        (HERE, ""),
    ],
)
def test_an_address_that_leads_to_this_machine_from_elsewhere_or_in_plain_is_not_asked(
    issuer: str, address: str
) -> None:
    with pytest.raises(ValueError, match="must"):
        discovered_url(address, issuer)
