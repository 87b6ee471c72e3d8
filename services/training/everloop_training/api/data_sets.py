"""The HTTP endpoint of data sets."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import AwareDatetime, BeforeValidator

from everloop_training.api.data_set_response import ARROW, NDJSON, DataSetResponse
from everloop_training.api.schemas import DescribedDataSetView
from everloop_training.domain.data_set_selection import Selection
from everloop_training.ports import DataSetStore

MAX_OFFSET = 2**63 - 1


def _with_plus(value: Any) -> Any:
    """A time whose `+` of the zone was sent as it is, which stands for a space in an address."""
    return value.replace(" ", "+") if isinstance(value, str) and "T" in value else value


Time = Annotated[AwareDatetime | None, BeforeValidator(_with_plus)]
_DESCRIPTION = """The learnable outcomes of the loop: features as they were used, the label, and its prediction.

Without a parameter these are all. A range of time is that from the first outcome at or after `from` to the last one
before `to`, by the time of the observation: a data set is a range of the log, so outcomes of other times that lie
between these two belong to it.

As lines of JSON, the first line describes the data set, and the digest is the sha256 of the lines after it; as
`application/json` only the description is sent. A stream of Arrow has it as metadata of the schema."""
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The data set, or with `Accept: application/json` its description.",
        "model": DescribedDataSetView,
        "content": {
            NDJSON: {"schema": {"type": "string"}},
            ARROW: {"schema": {"type": "string", "format": "binary"}},
        },
        "headers": {
            "Everloop-Data-Set": {"description": "its name, LOOP@START..END#REVISION", "schema": {"type": "string"}},
            "Everloop-Digest": {"description": "sha256=<hex>, of its rows", "schema": {"type": "string"}},
            "Everloop-Rows": {"description": "the number of its rows", "schema": {"type": "integer"}},
        },
    },
    504: {"description": "It takes longer than the limit to read; ask for fewer outcomes."},
    507: {"description": "The disk of the service is full."},
}


def router(data_sets: DataSetStore) -> APIRouter:
    """`GET /v1/loops/{loop}/data-set`."""
    routes = APIRouter(prefix="/v1/loops/{loop}", tags=["training"])

    @routes.get(
        "/data-set",
        summary="What models learn: the outcomes of a part of the log",
        description=_DESCRIPTION,
        responses=_CONTENT,
        response_class=Response,
    )
    async def get_data_set(
        loop: str,
        request: Request,
        start: Annotated[int | None, Query(ge=0, le=MAX_OFFSET, description="its first offset on the log")] = None,
        end: Annotated[int | None, Query(ge=0, le=MAX_OFFSET, description="its last offset")] = None,
        revision: Annotated[int | None, Query(ge=0, le=MAX_OFFSET, description="the revision in its name")] = None,
        last: Annotated[int | None, Query(ge=1, le=MAX_OFFSET, description="as many outcomes, the latest")] = None,
        since: Annotated[Time, Query(alias="from", description="the earliest time (RFC 3339)")] = None,
        until: Annotated[Time, Query(alias="to", description="the time before which it ends (RFC 3339)")] = None,
    ) -> Response:
        selection = Selection(start, end, last, since, until, revision)
        selection.check()
        return DataSetResponse(data_sets, loop, selection, request.headers.get("accept", ""))

    return routes
