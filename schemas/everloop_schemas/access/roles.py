"""The roles and what each may do: the matrix that every door asks, that `everloop roles` prints and tests read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

ROLES: Mapping[str, str] = {
    "publisher": "sends observations",
    "labeler": "sends labels and feedback",
    "predictor": "asks for predictions",
    "viewer": "reads how loops fare",
    "engineer": "applies loops, retrains, searches, submits models, logs experiments",
    "operator": "rolls back, resumes, deletes loops, silences alerts, sends dead letters again",
    "auditor": "reads everything, changes nothing",
    "admin": "does everything",
}
"""By name, with what a person of this role does."""

_READERS = ("viewer", "engineer", "operator", "auditor")

ACTIONS: Mapping[str, tuple[str, ...]] = {
    "server.read": (*ROLES,),  # what a service is: its documentation, its protocol and whether it is ready
    "codes.issue": (*ROLES,),  # an address that signs a browser in, for the caller's own token
    "events.publish": ("publisher",),
    "labels.publish": ("labeler",),
    "records.publish": ("publisher", "labeler"),  # of a source; ingest asks for the role of what its mapping gives
    "predict": ("predictor",),
    "predictions.read": ("predictor", *_READERS),
    "models.read": ("predictor", *_READERS),
    "loops.read": _READERS,
    "quotas.read": _READERS,
    "entities.read": _READERS,
    "metrics.read": _READERS,
    "data.read": ("engineer", "auditor"),
    "runs.read": _READERS,
    "runs.request": ("engineer",),
    "runs.work": ("engineer",),  # a trainer elsewhere that takes a run and uploads its model
    "searches.read": _READERS,
    "searches.request": ("engineer",),
    "models.submit": ("engineer",),
    "experiments.read": _READERS,
    "experiments.write": ("engineer",),
    "loops.apply": ("engineer",),
    "loops.diff": _READERS,  # what applying a file would do
    "loops.delete": ("operator",),
    "rollout.change": ("operator",),
    "alerts.silence": ("engineer", "operator"),
    "letters.read": ("engineer", "operator", "auditor"),
    "letters.send": ("operator",),
    "topics.read": ("auditor",),
    "personal.read": ("auditor",),  # all that is known of one person, opened
    "personal.erase": ("operator",),
}
"""The roles that may do each action, beside `admin`, which may do all."""


@cache
def roles_for(action: str) -> tuple[str, ...]:
    """The roles that may do an action, in the order of `ROLES`."""
    allowed = ACTIONS[action]
    return tuple(role for role in ROLES if role in allowed or role == "admin")
