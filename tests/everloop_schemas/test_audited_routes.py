"""Whether requests are recorded in the audit is said for each action, and follows from it for each route."""

from __future__ import annotations

from everloop_schemas.access.recorded import RECORDED, WITHOUT_RECORD, is_recorded
from everloop_schemas.access.roles import ACTIONS
from everloop_schemas.access.routes import RULES

MLFLOW = "/api/2.0/mlflow"
ROUTES = {(rule.method, rule.path): rule for rules in RULES.values() for rule in rules}


def test_each_action_says_whether_its_requests_are_recorded() -> None:
    without_a_row = set(ACTIONS) - set(RECORDED)

    assert without_a_row == set()
    assert set(ROUTES) >= WITHOUT_RECORD
    assert is_recorded("some.new.action", "GET", "/new"), "what nobody has thought about is recorded"


def test_what_changes_something_is_recorded_but_records_searches_and_leases() -> None:
    changing = {route: rule for route, rule in ROUTES.items() if route[0] != "GET"}

    left = {path for (method, path), rule in changing.items() if not is_recorded(rule.action, method, path)}

    assert left == {
        *(f"/v1/loops/{{loop}}/{door}" for door in ("events", "labels", "feedback", "predict")),
        "/v2/models/{loop}/infer",
        "/v2/models/{loop}/versions/{version}/infer",
        *(f"{MLFLOW}/{kind}/search" for kind in ("experiments", "runs", "logged-models")),
        f"{MLFLOW}/registered-models/get-latest-versions",
        "/v1/loops/{loop}/diff",  # it changes nothing
        "/v1/loops/{loop}/runs/lease",
        "/v1/loops/{loop}/runs/{run}/renew",
        "/v1/session",  # signing out, which must not wait for a broker
    }


def test_reads_of_what_people_sent_are_recorded_and_others_are_not() -> None:
    read = {
        path for (method, path), rule in ROUTES.items() if method == "GET" and is_recorded(rule.action, "GET", path)
    }

    assert read >= {
        "/v1/loops/{loop}/data-set",
        "/v1/dead-letters/{id}",
        "/v1/dead-letters/{id}/value",
        "/v1/dead-letters/{id}/body",
    }
    assert not read & {"/v1/dead-letters", "/v1/loops", "/metrics", "/v1/records", "/v1/loops/{loop}/history"}
