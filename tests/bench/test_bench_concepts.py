"""What the bench of known changes of concept rests on: the concept changes at its row, and each run counts once."""

from __future__ import annotations

from itertools import islice

from tests.bench.concepts import (
    AGRAWAL_SLOW,
    ONSET,
    SEA_LARGE,
    Delays,
    changed_errors,
    monitoring,
    steady_errors,
)


def test_what_is_told_before_the_change_is_not_its_detection() -> None:
    found = Delays()

    for told in ([10, ONSET + 40, ONSET + 90], [20], []):
        found.add(told)

    assert (found.runs, found.rows) == (3, [40])


def test_a_change_at_once_begins_at_its_row_and_a_slow_one_after_it() -> None:
    before, changing = SEA_LARGE.make(SEA_LARGE.before, 1), SEA_LARGE.changing(1)
    labels = [label for _, label in islice(changing, ONSET + 400)]

    known = [label for _, label in islice(before, ONSET + 400)]

    assert labels[:ONSET] == known[:ONSET]
    assert labels[ONSET:] != known[ONSET:]
    assert AGRAWAL_SLOW.changing(1).position == ONSET + AGRAWAL_SLOW.width


def test_a_concept_that_changes_raises_the_error_and_monitoring_tells_it() -> None:
    errors = changed_errors(SEA_LARGE, 0)

    told = [row for row in monitoring(errors) if row >= ONSET]

    assert sum(errors[ONSET : ONSET + 300]) > 1.5 * sum(errors[ONSET - 300 : ONSET])
    assert told
    assert told[0] < ONSET + 500
    assert errors[:ONSET] == steady_errors(SEA_LARGE, 0, ONSET)
