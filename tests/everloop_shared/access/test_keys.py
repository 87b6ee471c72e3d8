"""Keys: what the file holds, who has one, and what a change of the file does to a running service."""

from __future__ import annotations

import json
import logging
import os
from datetime import timedelta
from pathlib import Path

import pytest
from tests.access import NOW, add_key, add_subject, add_team

from everloop_shared.access.errors import NotPermitted, TokenNotValid
from everloop_shared.access.identity import Grant, Identity
from everloop_shared.access.key_file import GrantedRole, KeyFile, change_key_file, read_key_file, split_token
from everloop_shared.access.keys import Keys
from everloop_shared.access.teams import TeamQuota
from everloop_shared.errors import Misconfigured

MINE = GrantedRole(role="engineer", loops=("churn-*",))


class Timer:
    """Seconds that a test lets pass."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def keys_of(file: Path, timer: Timer | None = None, later: timedelta = timedelta()) -> Keys:
    """The keys of a file, on a clock of the test."""
    return Keys(file, clock=lambda: NOW + later, timer=timer or Timer())


def parts(token: str) -> tuple[str, str]:
    """Prefix and secret."""
    found = split_token(token)
    assert found is not None
    return found


def test_the_file_holds_a_hash_and_not_the_secret_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"

    token = add_key(file, "ci", MINE)

    prefix, secret = parts(token)
    assert secret not in file.read_text()
    assert token.startswith(f"evl_{prefix}_")
    assert len(secret) == 64, "256 bits"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_key_is_known_with_its_subject_prefix_and_roles(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    prefix, secret = parts(add_key(file, "ci", MINE))

    identity = keys_of(file).identify(prefix, secret)

    assert identity == Identity("ci", "key", f"evl_{prefix}", (Grant("engineer", ("churn-*",)),))


@pytest.mark.parametrize("secret", ["", "0" * 64, "wrong"])
def test_a_wrong_secret_is_refused_and_not_repeated(tmp_path: Path, secret: str) -> None:
    file = tmp_path / "keys.json"
    prefix, right = parts(add_key(file, "ci", MINE))

    with pytest.raises(TokenNotValid) as refused:
        keys_of(file).identify(prefix, secret)

    assert right not in refused.value.detail
    assert "wrong" not in refused.value.detail


def test_an_expired_and_a_revoked_key_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    expiring, revoked = add_key(file, "a", MINE, lasts=timedelta(hours=1)), add_key(file, "b", MINE)

    def revoke(before: KeyFile) -> KeyFile:
        ended = before.keys[1].model_copy(update={"revoked": NOW})
        return KeyFile(keys=(before.keys[0], ended))

    change_key_file(file, revoke)

    keys_of(file, later=timedelta(minutes=59)).identify(*parts(expiring))
    with pytest.raises(TokenNotValid, match="expired"):
        keys_of(file, later=timedelta(hours=1)).identify(*parts(expiring))
    with pytest.raises(TokenNotValid, match="revoked"):
        keys_of(file).identify(*parts(revoked))


def test_a_change_of_the_file_takes_effect_within_a_second(tmp_path: Path) -> None:
    file, timer = tmp_path / "keys.json", Timer()
    first = add_key(file, "first", MINE)
    keys = keys_of(file, timer)

    second = add_key(file, "second", "viewer")
    timer.now = 1.0

    assert keys.identify(*parts(second)).subject == "second"
    assert keys.identify(*parts(first)).subject == "first"


def test_a_file_that_is_broken_by_a_change_leaves_the_keys_of_before_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, timer = tmp_path / "keys.json", Timer()
    token = add_key(file, "ci", MINE)
    keys = keys_of(file, timer)

    file.write_text('{"keys": [')
    timer.now = 1.0
    with caplog.at_level(logging.ERROR):
        identity = keys.identify(*parts(token))

    assert identity.subject == "ci"
    assert "those of before stay in force" in caplog.text


def test_somebody_of_the_provider_has_the_roles_of_the_file_too(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    add_subject(file, "alice", MINE)

    keys = keys_of(file)
    alice, bob = (keys.with_file_roles(Identity(name, "token")) for name in ("alice", "bob"))

    assert alice.grants == (Grant("engineer", ("churn-*",)),)
    assert bob.grants == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"keys": [{"prefix": "x"}]}, "keys.0.prefix"),
        ({"subjects": [{"subject": "a", "roles": [{"role": "boss"}]}]}, "is none of the roles publisher"),
        ({"keyz": []}, "keyz"),
        ({"teams": {"risk": {"lops": 3}}}, "teams.risk.lops"),
        ({"teams": {"": {}}}, "teams"),
    ],
)
def test_a_wrong_file_is_refused_at_the_start_with_the_place(tmp_path: Path, content: object, says: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(content))

    with pytest.raises(Misconfigured, match=says):
        keys_of(file)


def test_a_missing_file_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="everloop keys create"):
        keys_of(tmp_path / "none.json")


def test_a_file_that_its_owner_has_opened_to_others_stays_so(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    add_key(file, "ci", MINE)
    os.chmod(file, 0o644)

    add_key(file, "other", MINE)

    assert file.stat().st_mode & 0o777 == 0o644
    assert len(read_key_file(file).keys) == 2


def test_a_refusal_names_subject_action_loop_and_roles() -> None:
    identity = Identity("ci", "key", "evl_1", (Grant("engineer", ("churn-*",)),))

    with pytest.raises(NotPermitted) as refused:
        identity.require("loops.apply", "fraud")

    identity.require("loops.apply", "churn-eu")
    assert refused.value.detail == (
        "ci may not loops.apply for loop fraud: that takes one of the roles engineer, admin"
    )


def test_a_team_is_of_the_key_or_of_the_subject_who_may_be_of_another_by_the_token(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    token = add_key(file, "ci", MINE, team="risk")
    add_subject(file, "alice", MINE, team="shop")
    add_subject(file, "carol", MINE)

    keys = keys_of(file)
    claimed = [keys.with_file_roles(Identity(name, "token", team="lab")).team for name in ("alice", "bob", "carol")]

    assert keys.identify(*parts(token)).team == "risk"
    assert claimed == ["shop", "lab", "lab"]


def test_quotas_of_teams_are_read_again_and_a_star_stands_for_those_that_are_not_named(tmp_path: Path) -> None:
    file, timer = tmp_path / "keys.json", Timer()
    add_team(file, "*", TeamQuota(loops=1))
    add_team(file, "risk", TeamQuota(loops=20, runs_per_hour=50, feature_cost=500))
    keys = keys_of(file, timer)

    before = [keys.team_quota(team) for team in ("risk", "shop")]
    add_team(file, "shop", TeamQuota(searches_per_hour=3))
    timer.now = 1.0
    after = keys.team_quota("shop")

    assert before == [TeamQuota(loops=20, runs_per_hour=50, feature_cost=500), TeamQuota(loops=1)]
    assert after == TeamQuota(searches_per_hour=3)
