"""Components that wait for what a loop decides by itself; each looks every few seconds, and can be started again."""

# KFP reads the annotations as types: they must not become texts.
from everloop_kfp.images import component


@component()
def wait_for_run(loop: str, run: str, within_s: float = 3600.0, every_s: float = 5.0) -> str:
    """Wait until a run has trained a model; its line. Fails where the run failed, and when the time has passed."""
    import time

    from everloop import Everloop

    until = time.monotonic() + within_s
    with Everloop() as everloop:
        while True:
            found = next((row for row in everloop.runs(loop) if row["run"] == run), None)
            state = found["state"] if found else "unknown"
            if state == "trained":
                return found["line"]
            if state == "failed":
                raise RuntimeError(f"run {run} of {loop} failed: {found['failure']}")
            if time.monotonic() > until:
                raise TimeoutError(f"run {run} of {loop} is {state} after {within_s:g} s")
            time.sleep(every_s)


@component()
def wait_for_promotion(loop: str, version: str, within_s: float = 86400.0, every_s: float = 10.0) -> str:
    """Wait until the line of a version is champion; the champion's version.

    Fails where the version is refused, or rolled back in its rollout, with the registry's reason; and when the time has
    passed, with why the gate has not let it through.
    """
    import time

    from everloop import Everloop

    line, until, why = version.rpartition("@")[0], time.monotonic() + within_s, "no evidence yet"
    with Everloop() as everloop:
        registered = next(e["sequence"] for e in everloop.history(loop) if e.get("subject") == version)
        while True:
            for event in everloop.history(loop):
                kind, about = event["type"].split(".")[1], event["data"]
                if event["sequence"] <= registered:
                    continue
                if kind == "model_promoted" and about["version"].rpartition("@")[0] == line:
                    return about["version"]
                if kind == "model_rolled_back" and about["rolled_back"].rpartition("@")[0] == line:
                    raise RuntimeError(f"{about['rolled_back']} was rolled back: {about['reason']}")
                if kind == "gate_decided" and about["line"] == line:
                    why = about["reason"]
                    if not about["passed"] and event["subject"].rpartition("@")[0] == line:
                        raise RuntimeError(f"{event['subject']} was refused: {why}")
            if time.monotonic() > until:
                raise TimeoutError(f"{line} is not champion of {loop} after {within_s:g} s: {why}")
            time.sleep(every_s)
