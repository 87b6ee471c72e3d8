"""A replaced model leaves memory, bit by bit, and takes nothing with it that others use."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from tests.builders.loops import loop_spec

from everloop_models import build, load, save
from everloop_serving.adapters.artifacts import LoadedVersion
from everloop_serving.adapters.dismantling import dismantle

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing


class Node:
    """A node of a tree."""

    def __init__(self, *children: Any, shared: Any = None) -> None:
        self.children, self.shared = list(children), shared


def test_a_tree_is_freed_and_what_others_use_stays() -> None:
    used_elsewhere, kept_node = {"a": [1]}, Node()
    leaf = Node(shared=used_elsewhere)
    root = Node(Node(leaf, leaf, kept_node), Node(Node(shared=used_elsewhere)), shared=Node)
    gone = [weakref.ref(root), weakref.ref(leaf), weakref.ref(root.children[1])]
    owners: list[object] = [root]
    del root, leaf

    dismantle(owners)

    assert owners == []
    assert [ref() for ref in gone] == [None] * 3
    assert used_elsewhere == {"a": [1]}
    assert kept_node.children == []


def test_a_deep_chain_is_freed() -> None:
    chain = Node()
    first = weakref.ref(chain)
    for _ in range(50_000):
        chain = Node(chain)
    owners: list[object] = [chain]
    del chain

    dismantle(owners)

    assert first() is None


def test_a_loaded_model_is_freed_with_its_last_reference_and_needs_no_collection() -> None:
    spec = loop_spec()
    data = save(build(spec.models[0], spec)).data
    gc.disable()
    try:
        model: Any = load(data, "river")
        inside = weakref.ref(model.estimator)
        del model
    finally:
        gc.enable()

    assert inside() is None


@pytest.mark.app
async def test_a_version_that_was_replaced_leaves_memory(serving: RunningServing) -> None:
    others = _versions()
    await serving.publish(serving.state(serving.version("logistic-0@1")))
    await serving.start()
    await serving.until(lambda: ("logistic-0@1", "ready") in serving.version_states(), deadline_s=30)
    old = [weakref.ref(version) for version in _versions() if version not in others]

    await serving.publish(serving.state(serving.version("logistic-0@2")))
    await serving.until(lambda: ("logistic-0@2", "ready") in serving.version_states(), deadline_s=30)

    await serving.until(lambda: all(ref() is None for ref in old))
    assert len(old) == 1
    assert (await serving.predict()).json()["version"] == "logistic-0@2"


def _versions() -> list[LoadedVersion]:
    """All loaded versions in this process, of other tests too."""
    gc.unfreeze()
    return [o for o in gc.get_objects() if isinstance(o, LoadedVersion)]
