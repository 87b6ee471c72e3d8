"""What `helm test` runs: a loop is applied, predicts by request and from the stream, gets labels, and counts outcomes.

It needs a role that may apply loops (admin) where access control is on. The loop is deleted at the end, and so is one
that an earlier test left behind.
"""

import json
import os
import sys
import time
from collections.abc import Callable

from everloop import Everloop

LOOP = "helm-test"
SPEC = {
    "apiVersion": "everloop/v1",
    "loop": LOOP,
    "task": "binary",
    "schema": {"price": {"type": "number"}},
    "features": [{"fields": "all"}, {"name": "price_mean", "mean": "price", "over": "3 events"}],
}
ROWS = 10
DEADLINE = time.monotonic() + float(os.environ.get("WITHIN_S", "300"))


def say(text: str) -> None:
    """One line of the pod's log."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def until(what: str, holds: Callable[[], bool]) -> None:
    """Wait for it; ends the test with 1 when it does not come in time."""
    while not holds():
        if time.monotonic() > DEADLINE:
            sys.exit(f"gave up waiting: {what}")
        time.sleep(0.5)
    say(what)


def run(everloop: Everloop) -> None:
    """Close the loop."""
    known = f"/v1/loops/{LOOP}"

    def answers(service: str, path: str, method: str = "GET", body: object = None) -> int:
        content = None if body is None else json.dumps(body).encode()
        return everloop.request(service, method, path, content).status_code

    def outcomes() -> int:
        status = everloop.request("monitoring", "GET", f"{known}/status")
        return int(status.json()["outcomes"]) if status.status_code == 200 else 0

    answers("registry", f"{known}?reason=left+by+an+earlier+test", "DELETE")
    until("the loop is applied", lambda: answers("registry", known, "PUT", SPEC) in (200, 201))
    for service in ("ingest", "serving", "monitoring"):
        until(f"{service} knows the loop", lambda of=service: answers(of, known) == 200)  # type: ignore[misc]
    prefix = f"t{time.time_ns()}"
    requested = [f"{prefix}-r{n}" for n in range(ROWS)]
    streamed = [f"{prefix}-s{n}" for n in range(ROWS)]
    for n, name in enumerate(requested):
        everloop.predict(LOOP, {"price": float(n)}, id=name, entity="shop")
    say(f"{ROWS} predictions by request")
    everloop.publish(
        LOOP, [{"id": name, "entity": "shop", "data": {"price": float(n)}} for n, name in enumerate(streamed)]
    )
    labels = [{"id": name, "label": n % 2 == 0} for n, name in enumerate([*requested, *streamed])]
    everloop.label(LOOP, labels)
    until(f"{2 * ROWS} outcomes, of requests and of the stream", lambda: outcomes() >= 2 * ROWS)
    until(
        "the loop is deleted", lambda: answers("registry", f"{known}?reason=helm+test+is+over", "DELETE") in (200, 204)
    )


if __name__ == "__main__":
    with Everloop() as client:
        run(client)
    say("the loop is closed")
