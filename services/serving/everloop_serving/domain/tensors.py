"""Tensors of the Open Inference Protocol: their datatypes, shapes and values, as JSON and as raw bytes; pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Annotated, Any, NamedTuple

import msgspec

from everloop_serving.domain.new_predictions import MAX_ROWS
from everloop_serving.errors import NAME_LENGTH, ObservationRejected, rejection
from everloop_shared.errors import ERRORS_LIMIT, FieldError, cut

MAX_DIMENSIONS = 8
INTEGERS = {f"UINT{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)} | {
    f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)
}
"""The lowest and the highest value of each datatype of whole numbers."""
LARGEST = {"FP16": 65_504.0, "FP32": 3.4028234663852886e38, "BF16": 3.3895313892515355e38}
FORMATS = {
    "BOOL": "B",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
    "BF16": "H",
}
SIZES = {name: struct.calcsize(f"<{code}") for name, code in FORMATS.items()}
DATATYPES = (*FORMATS, "BYTES")
FLOATS = frozenset(("FP16", "FP32", "FP64", "BF16"))


class InputTensor(NamedTuple):
    """A column of a request: a value for each row, of the datatype, or None where it is missing.

    `place` is where the tensor is in the request, as errors name it: `inputs.0`. Values that are not of the datatype
    are `wrong`; they are reported together with those that do not fit the loop's schema.
    """

    place: str
    name: str
    datatype: str
    values: Sequence[Any]
    wrong: Sequence[FieldError] = ()


class OutputTensor(msgspec.Struct, rename={"values": "data"}, omit_defaults=True, gc=False):
    """A tensor of an answer, its values in row-major order; as JSON it is what the protocol says."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]
    parameters: Mapping[str, Any] | None = None


class WrongTensor(ValueError):
    """A tensor does not hold what it says; `part` is the member that is wrong, such as `data.3` (none: all of it)."""

    def __init__(self, part: str, error: str) -> None:
        super().__init__(error)
        self.part, self.error = part, error


def read_tensor(place: str, name: Any, datatype: Any, shape: Any, content: Any) -> InputTensor:
    """The tensor with this content: a list of values, flat or nested, or raw bytes.

    Raises ObservationRejected unless name, datatype, shape and content fit each other.
    """
    if not isinstance(name, str) or not name:
        raise rejected(f"{place}.name", "is missing; send the name of a field, or of an id, entity or time")
    try:
        if datatype not in DATATYPES:
            raise WrongTensor("datatype", _datatype_error(datatype))
        rows = _count_rows(shape)
        if not isinstance(content, list):
            return InputTensor(place, name, datatype, decode_raw(datatype, content, rows))
        flat = _flatten(content, shape)
    except WrongTensor as e:
        raise rejected(f"{place}.{e.part}" if e.part else place, f"{cut(name, NAME_LENGTH)}: {e.error}") from None
    values = _fit(datatype, flat)
    return InputTensor(place, name, datatype, values) if values is not None else _fit_each(place, name, datatype, flat)


def rejected(field: str, error: str) -> ObservationRejected:
    """The refusal of a request for one reason."""
    return rejection([FieldError(field, error)])


def decode_raw(datatype: str, content: bytes | memoryview, count: int) -> Sequence[Any]:
    """`count` values of raw little-endian bytes, texts each with their length of 4 bytes before; raises WrongTensor."""
    if datatype == "BYTES":
        return _decode_texts(content, count)
    if len(content) != count * SIZES[datatype]:
        raise WrongTensor(
            "", f"{count} values of {datatype} are {count * SIZES[datatype]} bytes of binary data, not {len(content)}"
        )
    values: Sequence[Any] = struct.unpack(f"<{count}{FORMATS[datatype]}", content)
    if datatype == "BF16":
        return struct.unpack(f"<{count}f", struct.pack(f"<{count}I", *[value << 16 for value in values]))
    if datatype == "BOOL":
        if max(values) > 1:
            raise WrongTensor("", f"BOOL is a byte of 0 or 1 for each value, not {max(values)}")
        return [value == 1 for value in values]
    return values


def encode_raw(datatype: str, values: Sequence[Any]) -> bytes:
    """The values as `decode_raw` reads them; BF16 and FP16 are never written."""
    if datatype == "BYTES":
        return b"".join([len(text).to_bytes(4, "little") + text for text in map(str.encode, values)])
    return struct.pack(f"<{len(values)}{FORMATS[datatype]}", *values)


def _datatype_error(datatype: Any) -> str:
    if datatype is None:
        return f"is missing; send one of {', '.join(DATATYPES)}"
    return f"must be one of {', '.join(DATATYPES)}, is {cut(str(datatype), NAME_LENGTH)}"


def usual_rows(shape: list[int]) -> int | None:
    """The rows of a tensor of shape [n] or [n, 1]; None for every other one."""
    usual = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
    return shape[0] if usual and 1 <= shape[0] <= MAX_ROWS else None


def _count_rows(shape: Any) -> int:
    """The rows of a tensor with one value each: the first size of its shape; raises WrongTensor."""
    if isinstance(shape, list | tuple) and 1 <= len(shape) <= MAX_DIMENSIONS:
        first: int = shape[0]
        if all(type(n) is int and n >= 0 for n in shape):
            if not 1 <= first <= MAX_ROWS:
                raise WrongTensor("shape", f"must have 1 to {MAX_ROWS:,} rows, has {cut(str(first), NAME_LENGTH)}")
            if all(n == 1 for n in shape[1:]):
                return first
            raise WrongTensor("shape", f"must be [{first}] or [{first}, 1]: a row has one value of each field")
    found = "is missing" if shape is None else f"{cut(str(shape), NAME_LENGTH)} is none"
    raise WrongTensor("shape", f"must be the number of rows, such as [3] or [3, 1]; {found}")


def _flatten(data: list[Any], shape: Sequence[int]) -> list[Any]:
    """The values in row-major order of data that is flat, or nested as the shape says."""
    if len(data) != shape[0]:
        raise WrongTensor("shape", f"says {shape[0]} rows, and data has {len(data)}")
    if list not in map(type, data):
        return data
    for size in shape[1:]:
        if any(type(part) is not list or len(part) != size for part in data):
            raise WrongTensor("data", f"is not nested as the shape {list(shape)} says; nest it so, or send it flat")
        data = list(chain.from_iterable(data))
    if list in map(type, data):
        raise WrongTensor("data", f"is nested more deeply than the shape {list(shape)} says")
    return data


def _fit(datatype: str, values: list[Any]) -> Sequence[Any] | None:
    """Values of JSON as values of the datatype; null is a missing value. None where one does not fit."""
    try:
        found: list[Any] = msgspec.convert({"values": values}, _COLUMNS[datatype]).values  # type: ignore[attr-defined]
        if datatype == "BYTES":
            "".join(filter(None, found)).encode()  # half a surrogate pair, which JSON can write, is no text
    except ValueError:
        return None
    return found


def _fit_each(place: str, name: str, datatype: str, values: list[Any]) -> InputTensor:
    """As `_fit`, value by value, with an error for each that does not fit."""
    fitted, wrong = list[Any](), list[FieldError]()
    for row, value in enumerate(values):
        found = _fit(datatype, [value])
        if datatype == "BOOL" and type(value) is int and value in (0, 1):
            found = [value == 1]
        elif datatype == "UINT64" and type(value) is int and 0 <= value < 2**64:
            found = [value]
        elif found is None and len(wrong) < ERRORS_LIMIT:
            error = f"{cut(name, NAME_LENGTH)}: must be {_values_of(datatype)}, as its datatype {datatype} says"
            wrong.append(FieldError(f"{place}.data.{row}", error))
        fitted += found or [value]
    return InputTensor(place, name, datatype, fitted, wrong)


def _values_of(datatype: str) -> str:
    if datatype == "BOOL":
        return "true or false"
    if datatype == "BYTES":
        return "text"
    if datatype in INTEGERS:
        lowest, highest = INTEGERS[datatype]
        return f"a whole number from {lowest} to {highest}"
    return f"a number of at most {LARGEST[datatype]:g}" if datatype in LARGEST else "a number"


def column_type(datatype: str) -> Any:
    """The type of a column of JSON, for msgspec, which knows no bound above 2**63: larger values of UINT64 aside."""
    kind: Any
    if datatype in INTEGERS:
        lowest, highest = INTEGERS[datatype]
        kind = Annotated[int, msgspec.Meta(ge=lowest, le=min(highest, 2**63 - 1))]
    elif datatype in LARGEST:
        kind = Annotated[float, msgspec.Meta(ge=-LARGEST[datatype], le=LARGEST[datatype])]
    else:
        kind = {"BOOL": bool, "BYTES": str, "FP64": float}[datatype]
    return list[kind | None]


_COLUMNS = {
    datatype: msgspec.defstruct("Column", [("values", column_type(datatype))], gc=False) for datatype in DATATYPES
}
"""Structs, because msgspec remembers how they are read; what another type is takes it longer to find out."""


def _decode_texts(content: bytes | memoryview, count: int) -> list[str]:
    texts, position, end = list[str](), 0, len(content)
    for row in range(count):
        start = position + 4
        if start > end:
            raise WrongTensor("", f"the binary data ends after {row} of {count} texts; each begins with its length")
        position = start + int.from_bytes(content[position:start], "little")
        if position > end:
            raise WrongTensor("", f"text {row} is {position - start} bytes long, and {end - start} are left")
        try:
            texts.append(str(content[start:position], "utf-8"))
        except UnicodeDecodeError:
            raise WrongTensor("", f"text {row} is not UTF-8") from None
    if position != end:
        raise WrongTensor("", f"the binary data has {end - position} bytes after its {count} texts")
    return texts
