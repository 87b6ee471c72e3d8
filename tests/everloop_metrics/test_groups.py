"""Groups of a field's values: texts as they are, numbers in few values or in ranges, and the rest as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import pytest

from everloop_metrics.groups import FIRST_NUMBERS, MAX_GROUPS, MISSING, OTHER, Groups


def counted(values: Sequence[Any]) -> tuple[Groups, Counter[str]]:
    """The groups after these values, with the number of values in each, renamed as they were."""
    groups, counts = Groups(), Counter[str]()
    for value in values:
        renamed = groups.add(value)
        counts = sum_by_name(counts, renamed)
        counts[groups.name_of(value)] += 1
    return groups, counts


def sum_by_name(counts: Counter[str], renamed: Mapping[str, str]) -> Counter[str]:
    merged = Counter[str]()
    for name, n in counts.items():
        merged[renamed.get(name, name)] += n
    return merged


def test_texts_and_booleans_are_groups_as_they_are() -> None:
    _, counts = counted(["male", "female", "male", None, True])

    assert counts == {"male": 2, "female": 1, MISSING: 1, "true": 1}


def test_texts_beyond_the_limit_are_one_group() -> None:
    values = [f"city-{i}" for i in range(100)]

    groups, counts = counted(values + values)

    assert len(groups.names) == MAX_GROUPS
    assert counts[OTHER] == 2 * (100 - MAX_GROUPS)


def test_numbers_with_few_values_stay_as_they_are() -> None:
    _, counts = counted([float(i % 3) for i in range(500)] + [1, 7])

    assert counts == {"0": 167, "1": 168, "2": 166, "7": 1}


def test_numbers_with_many_values_become_ranges_at_the_quantiles_of_the_first() -> None:
    random = Random(1)
    values = [random.uniform(0, 100) for _ in range(2000)]

    groups, counts = counted(values)

    first = sorted(values[:FIRST_NUMBERS])
    assert groups.edges == [first[40 * i] for i in (1, 2, 3, 4)]
    assert len(counts) == 5
    expected = Counter(sum(value >= edge for edge in groups.edges) for value in values)
    assert sorted(counts.values()) == sorted(expected.values())


@pytest.mark.parametrize("values", [[5.0] * 150 + [float(i) for i in range(100)], [2**63 - 1, -(2**63)] * 150])
def test_a_value_that_is_most_of_the_first_is_cut_nowhere_twice(values: list[Any]) -> None:
    groups, counts = counted(values)

    assert groups.edges == sorted(set(groups.edges))
    assert counts.total() == len(values)


def test_what_is_known_before_the_cut_is_shown_as_ranges_and_changes_nothing() -> None:
    groups, _ = counted([float(i) for i in range(100)])

    settled, renamed = groups.settled()

    assert (len(settled.edges), len(set(renamed.values()))) == (4, 5)
    assert groups.first == [float(i) for i in range(100)]
