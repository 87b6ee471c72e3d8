"""A census-like stream made for tests: incomes above a threshold, in data that is biased by sex.

What age, education and hours say of an income is the same for both sexes, but men have a high one four times as often.
A model that knows the sex is right more often, and finds far fewer of the women with a high income than of the men; one
that is not told it finds as many.
"""

from __future__ import annotations

import csv
from math import log
from pathlib import Path
from random import Random
from typing import NamedTuple

from onnx import helper
from tests.builders.loops import NOW
from tests.builders.onnx_models import FLOAT, model, port, weights

from everloop_learning.outcome import Outcome

SCHEMA = {
    "age": {"type": "number"},
    "education": {"type": "number"},
    "hours": {"type": "number"},
    "sex": {"type": "string", "enum": ["female", "male"]},
}
HIGH_INCOMES = {"female": 0.15, "male": 0.6}
REQUIRED = "fairness.sex.equal_opportunity <= 0.2"


class Known(NamedTuple):
    """A number's mean and deviation at a low income, and by how many deviations it is higher at a high one."""

    mean: float
    deviation: float
    shift: float


KNOWN = {"age": Known(35, 10, 0.65), "education": Known(11, 2.5, 1.0), "hours": Known(36, 8, 0.9)}


class Person(NamedTuple):
    """A row of the census."""

    age: float
    education: float
    hours: float
    sex: str
    income: bool


def census(n: int, seed: int = 3) -> list[Person]:
    """So many people, the same for a seed."""
    random, people = Random(seed), []
    for _ in range(n):
        sex = random.choice(("female", "male"))
        income = random.random() < HIGH_INCOMES[sex]
        age, education, hours = (_draw(known, income, random) for known in KNOWN.values())
        people.append(Person(age, education, hours, sex, income))
    return people


def _draw(known: Known, income: bool, random: Random) -> float:
    return round(known.mean + known.deviation * (random.gauss(0, 1) + known.shift * income), 1)


def census_outcomes(people: list[Person]) -> list[Outcome]:
    """The people as outcomes from offset 0 on, one a minute, that the baseline predicted."""
    return [
        Outcome(
            offset=i,
            time=NOW.timestamp() + 60 * i,
            id=f"o{i}",
            features={name: getattr(person, name) for name in SCHEMA},
            label=person.income,
            first=True,
            feedback=False,
            prediction=False,
            probabilities=None,
            prediction_id=f"p{i}",
        )
        for i, person in enumerate(people)
    ]


def write_csv(path: Path, people: list[Person]) -> Path:
    """The people as a file with a header."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*SCHEMA, "income"])
        writer.writerows([*person[:-1], str(person.income).lower()] for person in people)
    return path


def blind_model() -> bytes:
    """The best ONNX model that is not told the sex: log odds of a high income from the numbers alone."""
    share = sum(HIGH_INCOMES.values()) / 2
    bias = log(share / (1 - share))
    bias -= sum(k.shift * k.mean / k.deviation + k.shift**2 / 2 for k in KNOWN.values())
    nodes = [
        helper.make_node("Concat", list(KNOWN), ["x"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["probabilities"], axis=1),
    ]
    slopes = weights("w", [k.shift / k.deviation for k in KNOWN.values()], dims=(len(KNOWN), 1))
    constants = [slopes, weights("b", [bias]), weights("one", [1.0])]
    made = model(nodes, [port(name) for name in KNOWN], [port("probabilities", FLOAT, (None, 2))], constants)
    return bytes(made.SerializeToString())
