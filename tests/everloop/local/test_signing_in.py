"""The address that `everloop up --auth` shows: it signs one browser in, once, and the token is nowhere in it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import httpx
import pytest
from rich.console import Console
from tests.everloop.served_services import ServedServices, served

from everloop.local import running
from everloop.local.errors import InstallationError
from everloop.local.keys import FOLDER, KEYS, TOKEN, make_keys
from everloop.local.signing_in import sign_in_address

pytestmark = pytest.mark.app


def test_the_address_is_shown_at_a_terminal_alone_and_signs_in_once(tmp_path: Path) -> None:
    make_keys(tmp_path)
    shown = {True: io.StringIO(), False: io.StringIO()}
    with served(tmp_path, "monitoring", auth="on", auth_keys=tmp_path / FOLDER / KEYS) as services:
        listed = _listed(services, tmp_path)

        for terminal, text in shown.items():
            console = Console(file=text, force_terminal=terminal, width=60, color_system=None)
            running.show_installation(console, listed, "Everloop runs", as_json=False)
        [address] = [word for word in shown[True].getvalue().split() if "/sign-in#" in word]
        code = {"code": address.partition("#code=")[2]}
        statuses = [httpx.post(f"{services.urls['monitoring']}/sign-in/code", json=code).status_code for _ in (1, 2)]

    assert address.startswith(services.urls["monitoring"])
    assert (tmp_path / TOKEN).read_text().strip() not in shown[True].getvalue()
    assert "sign-in" not in shown[False].getvalue()
    assert statuses == [200, 401]


def test_where_monitoring_gives_no_code_the_error_says_so(tmp_path: Path) -> None:
    make_keys(tmp_path)
    with served(tmp_path, "monitoring") as services:
        _listed(services, tmp_path)

        with pytest.raises(InstallationError, match="no code"):
            sign_in_address(tmp_path)


def _listed(services: ServedServices, folder: Path) -> dict[str, object]:
    listed = json.loads((folder / "services.json").read_text()) | {"token": str(folder / TOKEN)}
    (folder / "services.json").write_text(json.dumps(listed))
    return dict(listed)
