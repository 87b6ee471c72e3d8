"""How far two samples in the same bins are apart, and what that proves where neighbours in a stream are alike."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, comb, log, sqrt
from operator import mul
from typing import NamedTuple

Counts = Sequence[int]

PSEUDO_COUNT = 0.5
"""Added to each bin, so that one that was empty gives a finite distance (Jeffreys)."""
MIN_EXPECTED = 5.0
"""Bins with fewer expected values are tested together (Cochran 1954)."""
MAX_CORRELATION = 0.9
"""Of neighbouring blocks, as far as it is believed."""


class Design(NamedTuple):
    """How samples of a stream vary, by that of independent values: neighbours in a stream are alike.

    `scale` is how many times as much the counts vary, at least 1, `dimensions` in how many independent directions, and
    `degrees` are the degrees of freedom with which both are known. `within` is `scale` without the correlation between
    blocks: so many values of a block are worth one independent value.
    """

    scale: float = 1.0
    dimensions: float = 1.0
    degrees: float = 1.0
    within: float = 1.0


def shares(counts: Counts) -> list[float]:
    """The share of each bin, none of them 0."""
    total = sum(counts) + PSEUDO_COUNT * len(counts)
    return [(n + PSEUDO_COUNT) / total for n in counts]


def population_stability(before: Counts, after: Counts) -> float:
    """The population stability index, the symmetric Kullback-Leibler divergence (Jeffreys 1946) in nats.

    By custom 0.1 is a moderate change and 0.25 a large one (Siddiqi, "Credit Risk Scorecards", 2006).
    """
    return sum((q - p) * log(q / p) for p, q in zip(shares(before), shares(after), strict=True))


def jensen_shannon(before: Counts, after: Counts) -> float:
    """The Jensen-Shannon distance in [0, 1]: the root of the divergence in bits (Endres and Schindelin 2003)."""
    total = 0.0
    for p, q in zip(shares(before), shares(after), strict=True):
        middle = (p + q) / 2
        total += (p * log(p / middle) + q * log(q / middle)) / 2
    return sqrt(max(0.0, total) / log(2))


def measure_design(blocks: Sequence[Counts]) -> Design:
    """How the counts of neighbouring blocks of a stream vary.

    The blocks are the clusters of Rao and Scott, "On Chi-Squared Tests for Multiway Contingency Tables with Cell
    Proportions Estimated from Survey Data", Annals of Statistics 12(1), 1984, and their design effects give `scale` and
    `dimensions` by Satterthwaite's second-order correction. Blocks are correlated too: `scale` holds their long-run
    variance as that of a first-order autoregression, whose small-sample bias is corrected (Kendall 1954).
    """
    blocks = [block for block in blocks if sum(block)]
    n, rows = len(blocks), _residuals(blocks)
    own = [sum(map(mul, row, row)) for row in rows]
    total = sum(own)
    if n < 2 or not total:
        return Design(degrees=float(max(1, n - 1)))
    products = [[sum(map(mul, row, other)) for other in rows] for row in rows]
    dimensions = total * total / sum(product * product for row in products for product in row)
    correlation = sum(products[i][i + 1] for i in range(n - 1)) / total
    correlation = min(MAX_CORRELATION, max(0.0, correlation + (1 + 4 * correlation) / n))
    longer = (1 + correlation) / (1 - correlation)
    used = sum(any(block[i] for block in blocks) for i in range(len(blocks[0])))
    within = total / (n - 1) / max(1, used - 1)
    return Design(max(1.0, longer * within), dimensions, max(1.0, (n - 1) * dimensions / longer), within)


def _residuals(blocks: Sequence[Counts]) -> list[list[float]]:
    """Each block's counts less those expected of it, by the root of these: for independent values, of variance 1."""
    totals = [sum(bins) for bins in zip(*blocks, strict=True)]
    n = sum(totals)
    rows = []
    for block in blocks:
        expected = [sum(block) * total / n for total in totals]
        rows.append([(x - e) / sqrt(e) if e else 0.0 for x, e in zip(block, expected, strict=True)])
    return rows


def probability_of(before: Counts, after: Counts, design: Design) -> float:
    """The probability of two samples that are this far apart where nothing has changed.

    Pearson's chi-square of homogeneity over the bins, divided by the design effect, as an F statistic, because the
    design effect is an estimate. 1 where there is nothing to test.
    """
    pairs = _large_enough([(b, a) for b, a in zip(before, after, strict=True) if b or a])
    n, m = sum(b for b, _ in pairs), sum(a for _, a in pairs)
    if len(pairs) < 2 or not n or not m:
        return 1.0
    statistic = sum((sqrt(m / n) * b - sqrt(n / m) * a) ** 2 / (b + a) for b, a in pairs)
    dimensions = min(design.dimensions, len(pairs) - 1)
    spread = (len(pairs) - 1) / dimensions
    return f_tail(statistic / design.scale / spread, dimensions, design.degrees)


def probability_beyond(beyond: int, blocks: int, reference_blocks: int) -> float:
    """The probability that `beyond` of so many blocks lie beyond all blocks of the reference where nothing has changed.

    Where the order of blocks says nothing, so many of them are the extreme ones of all with this probability, whatever
    their distribution: a bound by ranks alone (Wilks, "Determination of Sample Sizes for Setting Tolerance Limits",
    Annals of Mathematical Statistics 12(1), 1941), summed over the choices of blocks.
    """
    return min(1.0, comb(blocks, beyond) / comb(reference_blocks + beyond, beyond))


def _large_enough(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The bins, the rarest of them joined until each expects `MIN_EXPECTED` values of the smaller sample."""
    n, m = sum(b for b, _ in pairs), sum(a for _, a in pairs)
    least = MIN_EXPECTED * (n + m) / max(1, min(n, m))
    by_size = sorted(pairs, key=sum, reverse=True)
    while len(by_size) > 1 and sum(by_size[-1]) < least:
        (b, a), (rare_b, rare_a) = by_size[-2:]
        by_size[-2:] = [(b + rare_b, a + rare_a)]
    return by_size


def f_tail(total: float, dimensions: float, degrees: float) -> float:
    """The probability that the sum over so many dimensions of an F statistic is above `total`, or a bit more.

    The finite sum for an even number of dimensions, the next one above (Abramowitz and Stegun 26.6.4).
    """
    half = max(1, ceil(dimensions / 2))
    x = degrees / (degrees + total)
    term: float = x ** (degrees / 2)
    probability = term
    for i in range(1, half):
        term *= (degrees / 2 + i - 1) / i * (1 - x)
        probability += term
    return min(1.0, probability)


def adjust(probabilities: Sequence[float]) -> list[float]:
    """Each probability after the control of the false discovery rate: a discovery at level a has at most a.

    Benjamini and Hochberg, "Controlling the False Discovery Rate", JRSS B 57(1), 1995.
    """
    order = sorted(range(len(probabilities)), key=probabilities.__getitem__, reverse=True)
    adjusted, least, n = [1.0] * len(probabilities), 1.0, len(probabilities)
    for passed, i in enumerate(order):
        least = min(least, probabilities[i] * n / (n - passed))
        adjusted[i] = least
    return adjusted


def likeliest_start(before: Counts, blocks: Sequence[Counts]) -> int:
    """The index of the block from which on the blocks most likely come from another distribution than `before`.

    The maximum over starts of the likelihood ratio of the later blocks, their own shares against those before.
    """
    known, best, start = shares(before), float("-inf"), 0
    later = [0] * len(known)
    for index in range(len(blocks) - 1, -1, -1):
        later = [n + more for n, more in zip(later, blocks[index], strict=True)]
        ratio = sum(n * log(q / p) for n, q, p in zip(later, shares(later), known, strict=True))
        if ratio > best:
            best, start = ratio, index
    return start
