"""Code of aiokafka and Faust that ours depends on without being allowed to: a new release may have changed it."""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient  # type: ignore[import-untyped]
from aiokafka.consumer.fetcher import Fetcher  # type: ignore[import-untyped]
from aiokafka.producer.message_accumulator import (  # type: ignore[import-untyped]
    BatchBuilder,
    MessageAccumulator,
    MessageBatch,
)
from faust.transport.consumer import Consumer

DEPENDED_ON = [
    (Fetcher._get_actions_per_node, "1dab2cf937d165d0"),  # noqa: SLF001
    (Fetcher._proc_offset_request, "40c09472da94d88c"),  # noqa: SLF001
    (AIOKafkaClient.send, "246b277687d7b687"),
    (MessageAccumulator.add_message, "56ff7e6c19185f83"),
    (MessageAccumulator._append_batch, "4762abfc42cbaa15"),  # noqa: SLF001
    (MessageAccumulator._pop_batch, "41cc98a298ef2628"),  # noqa: SLF001
    (BatchBuilder.append, "657d76f55157d9ca"),
    (MessageBatch.done, "2d765e5c2dc8638d"),
    (Consumer.getmany, "4b168d84882a70d6"),
    (Consumer._wait_next_records, "6218e1969a636b3f"),  # noqa: SLF001
    (Consumer._commit_tps, "a20e230b05ae8b15"),  # noqa: SLF001
    (Consumer.force_commit, "cc094614d22c70fb"),
    (Consumer.perform_seek, "0e8c130ff4b0afd8"),
]


@pytest.mark.parametrize(("function", "digest"), DEPENDED_ON, ids=lambda value: getattr(value, "__qualname__", ""))
def test_ours_still_fits_the_code_it_was_written_for(function: Any, digest: str) -> None:
    """On a failure: read the new source, look at fetching, producer and delivery, and only then renew the digest."""
    original = getattr(function, "__wrapped__", function)

    assert hashlib.sha256(inspect.getsource(original).encode()).hexdigest()[:16] == digest
