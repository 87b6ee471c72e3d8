"""What large requests leave behind in the memory of a serving process."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import psutil
import pytest
from prometheus_client import REGISTRY

from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Record

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
FIELDS, FIRST, MANY = 480, 80, 200


class Forgetful(MemoryBroker):
    """Stores nothing that serving publishes, as if the broker were on another machine."""

    def store(self, record: Record) -> None:
        """Let it go."""
        if not record.at.topic.startswith("serving."):
            super().store(record)


def gauge(name: str) -> float:
    """A metric, as Prometheus sees it."""
    value = REGISTRY.get_sample_value(name)
    assert value is not None
    return value


@pytest.mark.promise(12)
async def test_two_hundred_large_predictions_do_not_stay_in_memory(serving: RunningServing) -> None:
    serving.broker = Forgetful()
    fields = {"price": {"type": "number"}, "demand": {"type": "number"}}
    texts = [f"text_{i}" for i in range(FIELDS)]
    await serving.publish(serving.state(spec={"schema": fields | {name: {"type": "string"} for name in texts}}))
    await serving.start()

    async def predict(n: int) -> None:
        data = {"price": 0.5, "demand": 0.5} | {name: f"{n:04} " + "x" * 990 for name in texts}
        body = {"id": f"p{n}", "data": data}
        answer = await serving.client.post("/v1/loops/market/predict", json=body)
        assert answer.status_code == 200, answer.text[:300]
        await serving.until(lambda: gauge("everloop_serving_spool_records") == 0)

    for n in range(FIRST):  # until what is remembered has reached its limit of 32 MB
        await predict(n)
    gc.collect()
    before = psutil.Process().memory_info().rss
    for n in range(FIRST, FIRST + MANY):
        await predict(n)
    gc.collect()
    grown = psutil.Process().memory_info().rss - before

    assert 20e6 < gauge("everloop_serving_recent_bytes") <= 32e6
    assert grown < 30e6, f"{MANY} predictions of 0.48 MB left {grown / 1e6:.0f} MB"
