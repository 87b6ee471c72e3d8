"""Decodes observations that fit a loop's schema straight from JSON, by a decoder compiled for the schema; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec.structs import astuple

from everloop_features.observation import DEFAULT_ENTITY, INTEGER_LIMIT, STRING_LIMIT, Observation, parse_time
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import FieldSpec
from everloop_schemas.names import is_id
from everloop_shared.errors import FieldError

UNSET = msgspec.UNSET
_WHITE_SPACE = b" \t\r\n"
_Text = Annotated[str, msgspec.Meta(min_length=1)]


@dataclass(frozen=True)
class ObservationDecoder:
    """Decodes what `strict_json.read` and `check_observation` accept, to the same observations, ten times as fast.

    Every method returns None for what it does not accept, which says nothing about why: `check_observation` then finds
    the errors. It also declines some rare observations that fit, such as one whose text contains `":`.
    """

    names: tuple[str, ...]
    has_optional: bool
    enums: tuple[tuple[str, frozenset[Scalar]], ...]
    numbers: tuple[int, ...]
    columns: type[msgspec.Struct]
    one: msgspec.json.Decoder[Any]
    many: msgspec.json.Decoder[list[Any]]

    def decode(self, text: bytes) -> Observation | None:
        """The observation in a JSON object."""
        try:
            body = self.one.decode(text)
        except (ValueError, RecursionError):
            return None
        return None if count_keys(text) != self._keys_of(body) else self._of_body(body)

    def decode_list(self, text: bytes, limit: int) -> list[Observation] | None:
        """The observations in a JSON list of 1 to `limit` objects."""
        try:
            bodies = self.many.decode(text)
        except (ValueError, RecursionError):
            return None
        if not 1 <= len(bodies) <= limit or count_keys(text) != sum(map(self._keys_of, bodies)):
            return None
        return _all([self._of_body(body) for body in bodies])

    def decode_lines(self, text: bytes, limit: int) -> list[Observation] | None:
        """The observations in 1 to `limit` lines of JSON."""
        lines = [line for line in text.split(b"\n") if line.strip()]
        return _all([self.decode(line) for line in lines]) if 1 <= len(lines) <= limit else None

    def convert_columns(
        self,
        columns: Mapping[str, Sequence[Any]],
        count: int,
        *,
        id: Sequence[Any] = (),
        entity: Sequence[Any] = (),
        time: Sequence[Any] = (),
    ) -> list[Observation] | None:
        """The `count` observations with these values of each field and, where they are given, ids, entities and times.

        Texts are Unicode without surrogates.
        """
        try:
            found = astuple(msgspec.convert(columns, self.columns))
        except ValueError:
            return None
        values = [(None,) * count if column is UNSET else column for column in found] if self.has_optional else found
        if not _are_finite([values[n] for n in self.numbers]):
            return None
        rows = [dict(zip(self.names, row, strict=True)) for row in zip(*values, strict=True)]
        for name, accepted in self.enums:
            if not accepted.issuperset(value for row in rows if (value := row[name]) is not None):
                return None
        if not (id or entity or time):
            return [Observation(None, DEFAULT_ENTITY, None, fields) for fields in rows]
        missing = (None,) * count
        own = zip(rows, id or missing, entity or missing, time or missing, strict=True)
        return _all([self.add_names(*row) for row in own])

    def _of_body(self, body: Any) -> Observation | None:
        return self._observation(body.data, body.id or None, body.entity or None, body.time or None)

    def _observation(self, data: Any, observation_id: Any, entity: Any, time: Any) -> Observation | None:
        """The observation of checked types, unless one of its values or names is not accepted."""
        fields: dict[str, Any] = dict(zip(self.names, astuple(data), strict=True))
        if self.has_optional:
            fields = {name: None if value is UNSET else value for name, value in fields.items()}
        for name, values in self.enums:
            if fields[name] not in values and fields[name] is not None:
                return None
        return self.add_names(fields, observation_id, entity, time)

    def add_names(self, fields: dict[str, Any], observation_id: Any, entity: Any, time: Any) -> Observation | None:
        """The observation with these fields, which fit, and an id, entity and time that are texts or missing."""
        if observation_id is not None and not is_id(observation_id):
            return None
        if entity is not None and not is_id(entity):
            return None
        moment = parse_time("time", time)
        if isinstance(moment, FieldError):
            return None
        return Observation(observation_id, entity or DEFAULT_ENTITY, moment, fields)

    def _keys_of(self, body: Any) -> int:
        """How many keys the objects of an observation have, each counted once."""
        data = len(self.names)
        if self.has_optional:
            data -= astuple(body.data).count(UNSET)
        return 1 + data + (body.id is not UNSET) + (body.entity is not UNSET) + (body.time is not UNSET)


def compile_decoder(spec: LoopSpec) -> ObservationDecoder:
    """The decoder for a loop's schema."""
    places = {f"f{i}": field for i, field in enumerate(spec.fields.values())}

    def define(name: str, declare: Callable[[FieldSpec], tuple[Any, ...]]) -> type[msgspec.Struct]:
        members: list[Any] = [(place, *declare(field)) for place, field in places.items()]
        rename = dict(zip(places, spec.fields, strict=True))
        return msgspec.defstruct(name, members, rename=rename, kw_only=True, forbid_unknown_fields=True, gc=False)

    data = define("ObservationData", _declaration)
    names = [(name, _Text | None | msgspec.UnsetType, UNSET) for name in ("id", "entity", "time")]
    body = msgspec.defstruct("Observation", [("data", data), *names], forbid_unknown_fields=True, gc=False)
    columns = define("ObservationColumns", _declare_column)
    return ObservationDecoder(
        names=tuple(spec.fields),
        has_optional=any(field.missing == "null" for field in spec.fields.values()),
        enums=tuple((name, frozenset(f.enum)) for name, f in spec.fields.items() if f.enum is not None),
        numbers=tuple(n for n, field in enumerate(spec.fields.values()) if field.type == "number"),
        columns=columns,
        one=msgspec.json.Decoder(body),
        many=msgspec.json.Decoder(list[body]),  # type: ignore[valid-type]
    )


def count_keys(text: bytes) -> int:
    """At least the number of keys in a JSON text, and exactly that where no text in it contains `":`."""
    return text.translate(None, _WHITE_SPACE).count(b'":')


def _declaration(field: FieldSpec) -> tuple[Any] | tuple[Any, Any]:
    """The type of a field in a struct, and its default where it may be left out."""
    kind = _kind(field)
    return (kind,) if field.missing == "refuse" else (kind | None | msgspec.UnsetType, UNSET)


def _declare_column(field: FieldSpec) -> tuple[Any] | tuple[Any, Any]:
    """As `_declaration`, for the values of the field in several observations."""
    kind = _kind(field)
    if field.missing == "refuse":
        return (list[kind],)  # type: ignore[valid-type]
    return list[kind | None] | msgspec.UnsetType, UNSET  # type: ignore[valid-type]


def _are_finite(columns: Sequence[Sequence[Any]]) -> bool:
    """Whether no number is NaN or infinite; False also where their sum is, which is rare."""
    try:
        return math.isfinite(sum(map(sum, columns)))
    except TypeError:  # one is missing
        return math.isfinite(sum(number for column in columns for number in column if number is not None))


def _kind(field: FieldSpec) -> Any:
    """The values that a field accepts. An `enum` is checked afterwards."""
    match field.type:
        case "boolean":
            return bool
        case "string":
            return Annotated[str, msgspec.Meta(max_length=STRING_LIMIT)]
    lowest, highest = 1 - INTEGER_LIMIT, INTEGER_LIMIT - 1
    low = lowest if field.min is None else max(lowest, min(highest, math.ceil(field.min)))
    high = highest if field.max is None else min(highest, max(lowest, math.floor(field.max)))
    whole: Any = Annotated[int, msgspec.Meta(ge=low, le=high)]
    if field.type == "integer":
        return whole
    return whole | Annotated[float, msgspec.Meta(ge=field.min, le=field.max)]


def _all(observations: Sequence[Observation | None]) -> list[Observation] | None:
    found = [o for o in observations if o is not None]
    return found if len(found) == len(observations) else None
