"""`everloop roles` and `everloop keys`, and where clients find the token that they send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from everloop.cli import build
from everloop.endpoints import Endpoints
from everloop.local.discovery import write_json
from everloop.local.errors import InstallationError
from everloop.local.keys import make_keys
from everloop_schemas.access.roles import ACTIONS, ROLES, roles_for
from everloop_shared.access.errors import TokenNotValid
from everloop_shared.access.key_file import split_token
from everloop_shared.access.keys import Keys
from everloop_shared.access.limits import Limits


def run(*args: str, file: Path | None = None) -> Result:
    """A command of the program."""
    env = {"EVERLOOP_AUTH_KEYS": str(file) if file else ""}
    return CliRunner().invoke(build(), args, prog_name="everloop", env=env)


def made(file: Path, *args: str) -> dict[str, Any]:
    """What `keys` prints for programs."""
    done = run("keys", *args, "--json", file=file)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def is_valid(file: Path, token: str) -> bool:
    """Whether a service that starts now lets the token in."""
    parts = split_token(token)
    assert parts is not None
    try:
        return bool(Keys(file).identify(*parts).subject)
    except TokenNotValid:
        return False


def test_roles_prints_the_matrix_for_people_and_programs() -> None:
    told, shown = json.loads(run("roles", "--json").stdout), run("roles").stdout

    assert told["actions"] == {action: list(roles_for(action)) for action in ACTIONS}
    assert list(told["roles"]) == list(ROLES)
    assert len(told["routes"]) > 130
    assert {"service", "method", "path", "action", "for"} == set(told["routes"][0])
    assert "/v1/loops/{loop}/predict" in shown
    assert "/livez" in told["open"]


def test_a_key_is_made_listed_rotated_and_revoked(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "keys.json"

    first = made(
        file,
        "create",
        "ci",
        "--role",
        "engineer",
        "--loops",
        "churn-*",
        "--expires",
        "90d",
        "--limit",
        "rows_per_s=50",
        "--team",
        "risk",
    )
    listed = run("keys", "list", file=file).stdout
    second = made(file, "rotate", first["key"])
    both = [is_valid(file, key["token"]) for key in (first, second)]
    third = made(file, "rotate", second["key"], "--overlap", "0m")
    revoked = made(file, "revoke", third["token"])

    assert first["roles"] == second["roles"] == [{"role": "engineer", "loops": ["churn-*"]}]
    assert first["team"] == second["team"] == "risk"
    assert "│ risk" in listed
    assert first["limits"] == second["limits"] == Limits(rows_per_s=50).model_dump()
    assert "engineer for churn-*" in listed
    assert first["token"].split("_")[2] not in listed + file.read_text()
    assert both == [True, True]
    assert [is_valid(file, key["token"]) for key in (second, third)] == [False, False]
    assert revoked["state"] == "revoked"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("create", "ci", "--role", "boss"), "none of publisher"),
        (("create", "ci", "--role", "viewer", "--expires", "soon"), "no time such as"),
        (("create", "ci", "--role", "viewer", "--limit", "lines=3"), "requests_per_s"),
        (("create", "ci", "--role", "viewer", "--limit", "rows_per_s=many"), "rows_per_s"),
        (("create", "ci", "--role", "viewer", "--team", "*"), "no name of a team"),
        (("revoke", "evl_0000000000"), "no key begins with"),
    ],
)
def test_wrong_use_is_said(tmp_path: Path, args: tuple[str, ...], says: str) -> None:
    done = run("keys", *args, file=tmp_path / "keys.json")

    assert done.exit_code != 0
    assert says in done.output.replace("\n", " ").replace("│", "").replace("  ", " ")


def test_a_folders_token_goes_to_its_own_services_and_to_no_other_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLOOP_DATA", str(tmp_path))
    token = tmp_path / "token"
    token.write_text("evl_1_2\n")
    write_json(tmp_path / "services.json", {"ingest": {"url": "http://127.0.0.1:1"}, "token": str(token)})

    endpoints = Endpoints()

    assert endpoints.header("http://127.0.0.1:1") == {"authorization": "Bearer evl_1_2"}
    assert endpoints.header("http://elsewhere:1") == {}


def test_the_environments_token_goes_where_the_environment_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLOOP_DATA", str(tmp_path))
    monkeypatch.setenv("EVERLOOP_TOKEN_FILE", str(tmp_path / "mine"))
    (tmp_path / "mine").write_text("evl_3_4")

    assert Endpoints().header("http://elsewhere:1") == {"authorization": "Bearer evl_3_4"}
    (tmp_path / "mine").unlink()
    with pytest.raises(InstallationError, match="EVERLOOP_TOKEN_FILE"):
        Endpoints().header("http://elsewhere:1")


def test_up_makes_tokens_for_their_owner_alone_and_makes_them_again_only_where_they_do_not_work(tmp_path: Path) -> None:
    access = Path(make_keys(tmp_path))
    files = (tmp_path / "token", access / "serving.token")
    before = [file.read_text() for file in files]

    make_keys(tmp_path)
    again = [file.read_text() for file in files]
    made(access / "keys.json", "revoke", before[0].strip())
    make_keys(tmp_path)

    assert again == before
    assert [file.stat().st_mode & 0o777 for file in (*files, access / "keys.json")] == [0o600] * 3
    assert files[0].read_text() != before[0]
    assert files[1].read_text() == before[1]
    assert all(is_valid(access / "keys.json", file.read_text().strip()) for file in files)
