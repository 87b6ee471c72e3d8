"""YAML means what its version 1.2 reason, and nothing that costs or runs anything."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from everloop_shared.yaml_core import read_yaml

LOOPS = sorted((Path(__file__).parents[2] / "shared" / "everloop" / "examples").rglob("*.yaml"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("1:30", "1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"),
        ("=", "="),
        ("<<", "<<"),
        ("~", None),
        ("null", None),
        ("", None),
        ("nUll", "nUll"),
        ("true", True),
        ("False", False),
        ("tRue", "tRue"),
        ("+5", 5),
        ("-5", -5),
        ("1e-4", 1e-4),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("'5'", "5"),
        ('"true"', "true"),
        ("٣", "٣"),
    ],
)
def test_a_scalar_is_read_by_the_core_schema(text: str, value: object) -> None:
    found = read_yaml(f"a: {text}")["a"]

    assert (found, type(found)) == (value, type(value))


def test_nan_is_a_number_here_and_refused_where_numbers_are_required() -> None:
    assert math.isnan(read_yaml("a: .nan")["a"])


def test_keys_are_scalars_like_any_other() -> None:
    assert read_yaml("NO: 1\non: 2\n<<: {a: 3}") == {"NO": 1, "on": 2, "<<": {"a": 3}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: !!python/object/apply:os.system [ls]", "tag"),
        ("a: !!set {b}", "tag"),
        ("a: !!binary aGk=", "tag"),
        ("a: !!timestamp 2020-01-01", "tag"),
        ("a: !mine 5", "tag"),
        ("a: 1\na: 2", "twice"),
        ("a: 1\n'a': 2", "twice"),
        ("? [a]\n: 1", "key"),
        ("a: " + "[" * 50 + "]" * 50, "levels"),
        ("a: &a [1]\nb: [" + ", ".join(["*a"] * 11) + "]", "aliases"),
        ("a: 1\n---\nb: 2", "single document"),
        ("a: " + "9" * 5000, "digits"),
        ("a: \x00", "control"),
        ('a: "\\ud800"', "escape"),
        ("a: !!int abc", "abc"),
    ],
)
def test_features_that_specs_do_not_need_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_yaml(text)


def test_the_loops_that_come_with_everloop_are_there_to_be_read() -> None:
    assert LOOPS
    assert all({"loop", "task", "schema"} <= read_yaml(file.read_text()).keys() for file in LOOPS)
