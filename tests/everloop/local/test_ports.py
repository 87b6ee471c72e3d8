"""Ports of the installation: no service sits down where the broker will come back."""

from __future__ import annotations

import random

from everloop.local import ports


def test_automatic_ports_leave_free_those_that_the_broker_had() -> None:
    random.seed(5)
    chosen = set(ports.choose("auto").values())
    random.seed(5)

    others = set(ports.choose("auto", kept=chosen).values())

    assert len(others) == 6
    assert not others & chosen
