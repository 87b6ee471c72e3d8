"""Divides what naive Bayes concludes from several pieces of evidence among them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import exp
from typing import TypeVar

C = TypeVar("C", bound=Hashable)


def share_evidence(prior: Mapping[C, float], evidence: Mapping[str, Mapping[C, float]], of: C) -> dict[str, float]:
    """By name, what each piece of evidence adds to the probability of the class `of`.

    `prior` and the evidence are logarithms by class. A piece's share is the mean of what it adds when it comes after
    others, over a few orders that do not depend on chance; together they are the whole step from the prior's
    probability to the posterior's.
    """
    names = sorted(evidence)
    shares = dict.fromkeys(names, 0.0)
    orders = _orders(names)
    for order in orders:
        logs = dict(prior)
        before = _probability(logs, of)
        for name in order:
            for each, log in evidence[name].items():
                logs[each] += log
            after = _probability(logs, of)
            shares[name] += (after - before) / len(orders)
            before = after
    return shares


def _orders(names: Sequence[str]) -> list[list[str]]:
    """Two orders that begin in different places, and their reverses."""
    half = len(names) // 2
    first, second = list(names), [*names[half:], *names[:half]]
    return [first, first[::-1], second, second[::-1]]


def _probability(logs: Mapping[C, float], of: C) -> float:
    most = max(logs.values())
    return exp(logs[of] - most) / sum(exp(log - most) for log in logs.values())
