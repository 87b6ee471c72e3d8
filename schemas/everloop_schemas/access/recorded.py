"""Which requests are recorded in the audit, as data: by the action of their route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Recorded = Literal["always", "refusals"]

RECORDED: Mapping[str, Recorded] = {
    "server.read": "refusals",
    "console.sign_in": "refusals",  # and who signs in, by the route itself, once it knows who it is
    "codes.issue": "always",
    "events.publish": "refusals",  # events, labels and predictions are records themselves
    "labels.publish": "refusals",
    "records.publish": "always",  # by hand, of a source that reads by itself
    "predict": "refusals",
    "predictions.read": "refusals",
    "models.read": "refusals",
    "loops.read": "refusals",
    "entities.read": "refusals",
    "metrics.read": "refusals",
    "data.read": "always",  # the observations of a loop in bulk
    "runs.read": "refusals",
    "runs.request": "always",
    "runs.work": "always",
    "searches.read": "refusals",
    "searches.request": "always",
    "models.submit": "always",
    "experiments.read": "refusals",
    "experiments.write": "always",
    "loops.apply": "always",
    "loops.diff": "refusals",  # it changes nothing
    "loops.delete": "always",
    "rollout.change": "always",
    "alerts.silence": "always",
    "letters.read": "always",
    "letters.send": "always",
    "quotas.read": "refusals",
    "topics.read": "refusals",  # whoever reads the audit by it would write to it
    "personal.read": "always",
    "personal.erase": "always",
}
"""For each action whether its requests are recorded `always`, or their `refusals` alone."""

WITHOUT_RECORD = frozenset(
    (
        ("GET", "/v1/dead-letters"),  # the list, which has no record's bytes
        ("POST", "/v1/loops/{loop}/runs/lease"),  # trainers ask for work all the time; what comes of it is recorded
        ("POST", "/v1/loops/{loop}/runs/{run}/renew"),
    )
)
"""Routes, by method and path, of which refusals alone are recorded, whatever their action says."""


def is_recorded(action: str, method: str, path: str) -> bool:
    """Whether requests to a route are recorded when they are not refused; those without a row are."""
    return RECORDED.get(action, "always") == "always" and (method, path) not in WITHOUT_RECORD
