"""The exact Shapley values of a row in many trees, beside one other row."""

from __future__ import annotations

from collections.abc import Callable
from math import lgamma

import numpy as np

from everloop_models.formats.onnx.trees.nodes import LEAF, MAX_DEPTH, Array, Nodes

MAX_STEPS = 200_000
"""Nodes that are passed in one explanation, each once for every set of features that leads to it."""
MAX_CELLS = 2_000_000
"""Nodes of one level times features: a byte each."""
_LOG_FACTORIALS = np.array([lgamma(n + 1.0) for n in range(MAX_DEPTH + 1)])
_OPEN, _OURS, _OTHERS = 0, 1, 2
"""Of a feature on the way to a node: not decided, or it must have the value of the row, or of the other one."""


def share_among(
    nodes: Nodes, roots: Array, row: Array, other: Array, player_of: Array, weigh: Callable[[Array], Array]
) -> Array | None:
    """What each player adds to the sum of leaves when the row takes the place of the other; None beyond the limits.

    `player_of` numbers the players from 0 and has one for each column in which the rows differ, -1 for others; `weigh`
    gives the worth of leaves by position. The Shapley values of the game in which a set of players has the values of
    the row and all others those of the other one: interventional tree SHAP with one background row (Lundberg et al.
    2020, algorithm 3), for all trees and levels by level.

    A leaf that is reached where the features O have the row's values and the features R the other's adds its worth
    times (|O|-1)! |R|! / (|O|+|R|)! to each in O, and takes its worth times |O|! (|R|-1)! / (|O|+|R|)! from each in R.
    """
    players = int(player_of.max()) + 1
    shares = np.zeros(players)
    at, decided, steps = roots, np.zeros((len(roots), players), dtype=np.int8), 0
    while len(at):
        is_leaf = nodes.mode[at] == LEAF
        shares += _at_leaves(weigh(at[is_leaf]), decided[is_leaf])
        at, decided = at[~is_leaf], decided[~is_leaf]
        at, decided = _next_level(nodes, at, decided, row, other, player_of)
        steps += len(at)
        if steps > MAX_STEPS or decided.size > MAX_CELLS:
            return None
    return shares


def _next_level(
    nodes: Nodes, at: Array, decided: Array, row: Array, other: Array, player_of: Array
) -> tuple[Array, Array]:
    """The nodes after these; two after one at which the rows part by a feature that is not decided yet."""
    ours, others = nodes.goes_to(at, row), nodes.goes_to(at, other)
    player = player_of[nodes.column[at]]
    parts = np.flatnonzero(ours != others)
    before = decided[parts, player[parts]]
    after = ours.copy()
    after[parts[before == _OTHERS]] = others[parts[before == _OTHERS]]
    split = parts[before == _OPEN]
    second = decided[split]
    numbers = np.arange(len(split))
    second[numbers, player[split]] = _OTHERS
    decided[split, player[split]] = _OURS
    return np.concatenate([after, others[split]]), np.concatenate([decided, second])


def _at_leaves(worth: Array, decided: Array) -> Array:
    """What leaves add for each player."""
    is_ours, is_other = decided == _OURS, decided == _OTHERS
    ours, others = is_ours.sum(axis=1), is_other.sum(axis=1)
    logs = _LOG_FACTORIALS
    whole = logs[ours + others]
    gain = worth * np.exp(logs[np.maximum(ours - 1, 0)] + logs[others] - whole)
    loss = worth * np.exp(logs[ours] + logs[np.maximum(others - 1, 0)] - whole)
    return np.asarray(gain @ is_ours - loss @ is_other)
