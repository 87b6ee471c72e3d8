"""The rows of an inference request: from columns of values to observations that fit the loop's schema; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from everloop_features.observation import Observation, check_observation
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import FieldSpec
from everloop_serving.domain.inference_plans import OWN_NAMES
from everloop_serving.domain.new_predictions import MAX_ROWS
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.domain.tensors import FLOATS, InputTensor, rejected
from everloop_serving.errors import NAME_LENGTH, ObservationRejected, rejection
from everloop_shared.errors import ERRORS_LIMIT, FieldError


class _Column(NamedTuple):
    """The id, entity or time of each row; `place` is where in the request errors are, with `{}` for the row."""

    place: str
    values: Sequence[Any]


def read_rows(
    loop: ServedLoop,
    inputs: Sequence[InputTensor],
    request_id: Any,
    parameters: Mapping[str, Any],
    find_time_violation: Callable[[datetime | None], str | None],
) -> list[Observation]:
    """An observation for each row; raises ObservationRejected with every error, by tensor and row."""
    spec, count = loop.spec, _count_rows(inputs)
    fields = spec.fields
    own, columns = dict[str, InputTensor](), dict[str, Sequence[Any]]()
    for tensor in inputs:
        if (name := tensor.name) in fields or name not in OWN_NAMES:
            adapted = tensor.datatype in FLOATS and name in loop.adapted_fields
            columns[name] = _adapt(fields[name], tensor) if adapted else tensor.values
        else:
            own[name] = tensor
    if len(columns) + len(own) < len(inputs):
        raise _repeated_name(inputs)
    known = _read_names(own, request_id, parameters, count) if own or parameters or request_id is not None else {}
    rows = None
    if not any(tensor.wrong for tensor in inputs):
        rows = loop.decoder.convert_columns(columns, count, **{name: column.values for name, column in known.items()})
    if rows is None or ("time" in known and any(find_time_violation(row.time) for row in rows)):
        tensors = [tensor for tensor in inputs if tensor.name not in own]
        wrong = [error for tensor in inputs for error in tensor.wrong]
        return _check_rows(spec, wrong, tensors, columns, known, count, find_time_violation)
    return rows


def _count_rows(inputs: Sequence[InputTensor]) -> int:
    lengths = {len(tensor.values) for tensor in inputs}
    if len(lengths) != 1:
        raise rejected("inputs", f"all need the same number of values, 1 to {MAX_ROWS:,}")
    return lengths.pop()


def _repeated_name(inputs: Sequence[InputTensor]) -> ObservationRejected:
    names = [tensor.name for tensor in inputs]
    again = next(tensor for n, tensor in enumerate(inputs) if tensor.name in names[:n])
    return rejected(f"{again.place}.name", f"{again.name[:NAME_LENGTH]!r} is there twice; keep one")


def _adapt(field: FieldSpec, tensor: InputTensor) -> Sequence[Any]:
    """The values as the schema has them: integers where it wants them, NaN as missing where a value may be."""
    values = tensor.values
    if field.missing == "null":
        values = [None if value != value else value for value in values]
    if field.type == "integer":
        return [int(v) if type(v) is float and v.is_integer() else v for v in values]
    return values


def _read_names(
    own: Mapping[str, InputTensor], request_id: Any, parameters: Mapping[str, Any], count: int
) -> dict[str, _Column]:
    """The ids, entities and times of the rows, those that the request names."""
    named = {name: _read_own(name, own, parameters, count) for name in OWN_NAMES}
    named["id"] = named["id"] or _number_ids("id", request_id, count)
    return {name: column for name, column in named.items() if column}


def _read_own(name: str, own: Mapping[str, InputTensor], parameters: Mapping[str, Any], count: int) -> _Column | None:
    """The id, entity or time of each row: from its tensor, or from a parameter, one text or a list of them."""
    if tensor := own.get(name):
        return _Column(f"{tensor.place}.data.{{}}", tensor.values)
    value = parameters.get(name)
    if value is None:
        return None
    place = f"parameters.{name}"
    if isinstance(value, list | tuple):
        if len(value) != count:
            raise rejected(place, f"must be one text, or a list of {count}, one for each row; it has {len(value)}")
        return _Column(f"{place}.{{}}", value)
    return _number_ids(place, value, count) if name == "id" else _Column(place, [value] * count)


def _number_ids(place: str, value: Any, count: int) -> _Column | None:
    """The ids of the rows of a request with this id: the same, or where there are several `id-0`, `id-1` and so on."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise rejected(place, "must be text, or left out")
    return _Column(place, [value] if count == 1 else [f"{value}-{n}" for n in range(count)])


def _check_rows(
    spec: LoopSpec,
    wrong_values: Sequence[FieldError],
    tensors: Sequence[InputTensor],
    columns: Mapping[str, Sequence[Any]],
    named: Mapping[str, _Column],
    count: int,
    find_time_violation: Callable[[datetime | None], str | None],
) -> list[Observation]:
    """The observations, each checked by itself, for the words of what is wrong."""
    places = {tensor.name: tensor.place for tensor in tensors}
    observations, wrong = list[Observation](), dict.fromkeys(wrong_values)
    known = {error.field for error in wrong}
    for row in range(count):
        body = {"data": {name: values[row] for name, values in columns.items()}}
        checked = check_observation(spec, body | {name: column.values[row] for name, column in named.items()})
        if isinstance(checked, Observation):
            violation = find_time_violation(checked.time)
            checked = [FieldError("time", violation)] if violation else checked
        if isinstance(checked, Observation):
            observations.append(checked)
            continue
        located = [_locate(error, row, places, named) for error in checked]
        wrong |= dict.fromkeys(error for error in located if error.field not in known)
        if len(wrong) >= ERRORS_LIMIT:
            break
    if wrong:
        raise rejection(list(wrong)[:ERRORS_LIMIT])
    return observations


def _locate(error: FieldError, row: int, places: Mapping[str, str], named: Mapping[str, _Column]) -> FieldError:
    """The error of a row with its place in the request: a value, a tensor, or the request itself."""
    name = error.field.removeprefix("data.")
    if name == error.field:
        return FieldError(named[name].place.format(row), error.error) if name in named else error
    if name not in places:
        return FieldError("inputs", f"{name}: {error.error}")
    unknown = error.error.endswith("leave it out")
    return FieldError(places[name] + ("" if unknown else f".data.{row}"), f"{name}: {error.error}")
