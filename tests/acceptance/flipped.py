"""Row 11: an artifact with one byte flipped, serving killed: refused, and what really serves is said everywhere."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from tests.acceptance.forged import FIELD, LOOP, has_champion
from tests.acceptance.house import House, check, until

BACK_WITHIN_S, TOLD_WITHIN_S = 60.0, 30.0


def flipped(house: House) -> None:
    """First the champion's artifact alone, then those of all versions."""
    if not check(has_champion(house), "a learned version is champion"):
        return
    one = _settled_champion(house)
    _flip(artifact for artifact in _artifacts(house) if artifact.name.startswith(one))
    began = _restart_serving(house)
    other = until(lambda: (now := house.champion(LOOP)) != one and now, TOLD_WITHIN_S)
    _told(house, one, began)
    check(other, f"the registry goes back to the version before ({other})", other)
    if other:
        _serves(house, other, other)
    house.everloop("resume", LOOP, "--reason", "looked at")
    house.play(LOOP, FIELD, house.status(LOOP)["outcomes"], house.status(LOOP)["outcomes"] + 200, "again")
    last = _settled_champion(house)
    _flip(_artifacts(house))
    began = _restart_serving(house)
    _told(house, last, began)
    until(lambda: _said_by_registry(house) == {"0"}, TOLD_WITHIN_S)
    _serves(house, house.champion(LOOP), "0")


def _settled_champion(house: House) -> str:
    """The champion, once it is the version of the last outcome: one that is replaced meanwhile is loaded by nobody."""
    newest = f"@{house.status(LOOP)['outcomes'] - 1}"
    until(lambda: house.champion(LOOP).endswith(newest), 30)
    return house.champion(LOOP)


def _artifacts(house: House) -> Iterable[Path]:
    return [file for file in (house.folder / "artifacts" / "models" / LOOP).iterdir() if "evil" not in file.name]


def _flip(files: Iterable[Path]) -> None:
    for file in files:
        whole = file.read_bytes()
        at = len(whole) // 2
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])


def _restart_serving(house: House) -> float:
    """Kill serving; when it answers again, by its supervisor."""
    pid = house.pids()["serving"]
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    back = until(
        lambda: house.pids()["serving"] != pid and house.tell("GET", "serving", "/readyz").status == 200, BACK_WITHIN_S
    )
    check(back, f"serving is killed, and is back ({time.monotonic() - began:.0f} s)")
    return began


def _told(house: House, version: str, began: float) -> None:
    alert = f"artifact.{version}"
    until(lambda: alert in house.alerts(LOOP), TOLD_WITHIN_S)
    took = time.monotonic() - began
    check(alert in house.alerts(LOOP) and took < TOLD_WITHIN_S, f"the alert {alert} is open after {took:.0f} s")
    says = [row for row in json.loads(house.everloop("alerts", LOOP, "--json").stdout) if row["alert"] == alert]
    said = says and "sha256 is" in says[0]["what"] and "serves" in says[0]["what"]
    check(said, "it says why, and what serves", says)


def _said_by_registry(house: House) -> set[str]:
    """What instances serve in place of the champion."""
    serving = house.read("registry", f"/v1/loops/{LOOP}")["champion"]["serving"]
    return {substitute["version"] for substitute in serving.values()}


def _serves(house: House, champion: str, serves: str) -> None:
    """Each place that names a version names the one that answers, or says that another one does."""
    answers = until(lambda: (got := house.predicted_by(LOOP, FIELD)) == serves and got, 20)
    check(answers == serves, f"{serves} answers requests", house.predicted_by(LOOP, FIELD))
    listed = house.read("serving", f"/v2/models/{LOOP}")["versions"]
    check(serves in listed and (serves == champion or champion not in listed), "/v2 lists what is loaded", listed)
    instead = set() if serves == champion else {serves}
    until(lambda: _said_by_registry(house) == instead, 10)
    check(_said_by_registry(house) == instead, "the registry says so", house.read("registry", f"/v1/loops/{LOOP}"))
    shown = {s["version"] for s in house.status(LOOP)["champion"].get("serving", {}).values()}
    check(shown == instead, "monitoring's status, which the console shows, says so", house.status(LOOP)["champion"])
    told = json.loads(house.everloop("status", LOOP, "--json").stdout)["champion"]
    same = {s["version"] for s in told.get("serving", {}).values()}
    check((told["version"], same) == (champion, instead), "everloop status --json says so", told)
    for arguments in ((LOOP,), ()):
        text = house.everloop("status", *arguments, COLUMNS="300").stdout
        said = champion in text and (not instead or f"serves {serves}" in text)
        check(said, f"everloop status {' '.join(arguments)} says so", text)
    gauge = _gauge(house)
    check(gauge == float(bool(instead)), "/metrics of serving says whether another one serves", gauge)


def _gauge(house: House) -> float | None:
    name = f'everloop_serving_champion_missing{{loop="{LOOP}"}}'
    lines = house.tell("GET", "serving", "/metrics").body.splitlines()
    found = [float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)]
    return found[0] if found else None
