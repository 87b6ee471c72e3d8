"""What is hashed of an observation stays the same, however it is written."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from everloop_features.fingerprint import fingerprint

NUMBERS = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(-1e6, 1e6)
    | st.integers(-(10**17), 10**17).map(float)
    | st.floats(0, 0.01)
)
NAMES = st.text(min_size=1, max_size=4) | st.sampled_from(["%", "%s", "it's", 'say "so"', "a,b"])
TIMES = st.none() | st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))


def of_earlier_releases(entity: str, fields: dict[str, Any], time: datetime | None) -> str:
    content = [
        (name, int(value) if type(value) is float and value.is_integer() else value)
        for name, value in sorted(fields.items())
        if value is not None
    ]
    whole = repr((entity, content, None if time is None else time.timestamp()))
    return blake2b(whole.encode(), digest_size=8).hexdigest()


@given(NAMES, st.dictionaries(NAMES, NUMBERS, max_size=5), TIMES)
@example("ada", {"a": -0.0, "b": 1e16, "c": 1e15, "d": 0.0001, "e": 0.00009, "f": 2.0**53, "g": 10.00001}, None)
def test_numbers_have_the_fingerprint_that_earlier_releases_stored(
    entity: str, fields: dict[str, Any], time: datetime | None
) -> None:
    assert fingerprint(entity, fields, time) == of_earlier_releases(entity, fields, time)


@given(st.dictionaries(NAMES, NUMBERS | st.none() | st.booleans() | NAMES, max_size=5))
@example({"a": "1.0", "b": True, "c": None, "d": "é"})
def test_values_of_any_type_have_the_fingerprint_that_earlier_releases_stored(fields: dict[str, Any]) -> None:
    assert fingerprint("ada", fields, None) == of_earlier_releases("ada", fields, None)
