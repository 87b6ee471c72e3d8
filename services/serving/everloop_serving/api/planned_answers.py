"""Writes the answers to inference requests of one row: what is the same in all of them is written once per loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from everloop_schemas.serving import PredictionMade
from everloop_serving.api.inference_body import without_values
from everloop_serving.domain.inference import CASTS, InferenceAnswer
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.domain.tensors import OutputTensor, encode_raw

_encoder = msgspec.json.Encoder()
_VALUE, _SIZE = b"\0", b"\1"
"""Where a value or a size belongs; JSON has neither of these bytes."""


def write_row(
    loop: ServedLoop, prediction: PredictionMade, request_id: str | None, in_binary: bool
) -> tuple[bytes, int | None] | None:
    """What `write_answer` writes with all outputs, in JSON or in binary; None where their form is not known before."""
    data, outputs, version = prediction.data, loop.outputs, prediction.data.version
    datatype = outputs["prediction"].datatype
    values: list[tuple[str, Sequence[Any]]] = [(datatype, (CASTS[datatype](data.prediction),))]
    found = data.probabilities if "probabilities" in outputs else None
    if found is not None:
        classes = (outputs["probabilities"].parameters or {}).get("classes")
        if not classes:
            return None
        values.append(("FP64", [found.get(name, 0.0) for name in classes]))
    values += [("BYTES", (prediction.subject,)), ("BYTES", (version,))]
    form = loop.plans.answers.get((in_binary, found is not None))
    if form is None:
        form = loop.plans.answers[in_binary, found is not None] = _write_form(loop, in_binary, found is not None)
    end = b"}" if request_id is None else b',"id":%b}' % _encoder.encode(request_id)
    if in_binary:
        raw = [encode_raw(kind, column) for kind, column in values]
        header = form % (*map(len, raw), _encoder.encode(version)) + end
        return b"".join([header, *raw]), len(header)
    return form % (*[_encoder.encode(column) for _, column in values], _encoder.encode(version)) + end, None


def _write_form(loop: ServedLoop, in_binary: bool, has_probabilities: bool) -> bytes:
    """An answer without its end, with a place for each value or size and one for the version."""
    outputs = list[OutputTensor]()
    for output in loop.outputs.values():
        if output.name == "probabilities" and not has_probabilities:
            continue
        shape = tuple(1 if size == -1 else size for size in output.shape)
        values: Any = msgspec.Raw(_VALUE)
        tensor = OutputTensor(output.name, output.datatype, shape, values, output.parameters)
        outputs.append(without_values(tensor, msgspec.Raw(_SIZE)) if in_binary else tensor)
    version: Any = msgspec.Raw(_VALUE)
    text = _encoder.encode(InferenceAnswer(loop.loop, outputs, version)).removesuffix(b"}")
    return text.replace(b"%", b"%%").replace(_VALUE, b"%b").replace(_SIZE, b"%d")
