#!/usr/bin/env python3
"""Black-box acceptance of a guarded installation: who may do what, what may be loaded, from outside, on real Kafka.

Run from the project's root with the project's interpreter, after its own set-up:

    .venv/bin/python tests/acceptance/guarded.py [--keep] [--only STAGE ...] [--fuzz COUNT] [--seeds COUNT]

It starts installations as a user does, in fresh folders: one by `everloop up --auth` with an OIDC provider beside it,
one by `everloop up --auth --tls` with signatures; `fuzz_open` uses one without either. It uses the command, HTTP, gRPC
and a Kafka client, and nothing of the project's code. Each check prints one line; the last line counts them; exit 1 if
any failed. Everything stays on this machine; what it started is gone when it ends, also by Ctrl-C.
The whole fuzzing is `--only fuzz fuzz_open --fuzz 20000 --seeds 5`, two million requests, about an hour.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.acceptance.altered_log import altered_log
from tests.acceptance.containers import containers
from tests.acceptance.doors import by_role, origins, without_token
from tests.acceptance.erased import erased
from tests.acceptance.flipped import flipped
from tests.acceptance.forged import forged
from tests.acceptance.fuzz import fuzz
from tests.acceptance.house import House, check, results, say
from tests.acceptance.limits import limits
from tests.acceptance.provider_tokens import AUDIENCE, Provider, tokens
from tests.acceptance.secrets_kept import secrets
from tests.acceptance.wire import wire


class Stage(NamedTuple):
    """What is tried, and on which installation; "" for none."""

    house: str
    run: Callable[[Any], None]


def stages_of(options: argparse.Namespace, provider: Provider) -> dict[str, Stage]:
    """The stages in their order; those of an installation stand together, as one runs at a time."""
    fuzzed = lambda house: fuzz(house, options.fuzz, options.seeds)  # noqa: E731
    return {
        "without_token": Stage("auth", without_token),
        "by_role": Stage("auth", by_role),
        "tokens": Stage("auth", lambda house: tokens(house, provider)),
        "origins": Stage("auth", origins),
        "limits": Stage("auth", limits),
        "altered_log": Stage("auth", altered_log),
        "erasure": Stage("auth", erased),
        "fuzz": Stage("auth", fuzzed),
        "secrets": Stage("auth", secrets),
        "signed_log": Stage("secured", altered_log),
        "forged": Stage("secured", forged),
        "wire": Stage("secured", wire),
        "flipped": Stage("secured", flipped),
        "secured_secrets": Stage("secured", secrets),
        "fuzz_open": Stage("open", fuzzed),
        "containers": Stage("", lambda house: containers(options.project)),
    }


def make(kind: str, provider: Provider) -> House:
    """An installation of a kind, not started yet."""
    if kind == "auth":
        return House(kind, ("--auth",), {"EVERLOOP_AUTH_ISSUER": provider.issuer, "EVERLOOP_AUTH_AUDIENCE": AUDIENCE})
    if kind == "open":
        return House(kind, (), {})
    house = House(kind, ("--auth", "--tls"), {})
    keys = house.folder / "keys"
    keys.mkdir()
    for name, signs in {"training": "artifacts,snapshots,backups", "registry": "artifacts,decisions"}.items():
        house.everloop("signing", "create", str(keys / f"{name}.key"))
        trusted = ("--name", name, "--trusted", str(keys / "trusted.json"))
        house.everloop("signing", "trust", str(keys / f"{name}.key"), "--signs", signs, *trusted)
        house.environment[f"EVERLOOP_{name.upper()}_SIGNING_KEY"] = str(keys / f"{name}.key")
    house.environment["EVERLOOP_TRUSTED_KEYS"] = str(keys / "trusted.json")
    return house


def run(stages: dict[str, Stage], keep: bool, provider: Provider) -> None:
    """Run stages; one that breaks is a failed check, and the next one still runs."""
    house: House | None = None
    try:
        for name, stage in stages.items():
            if stage.house and (house is None or house.kind != stage.house):
                end(house, keep)
                house = make(stage.house, provider)
                if not house.up():
                    raise SystemExit(1)
            say(f"-- {name}")
            begin = time.monotonic()
            try:
                stage.run(house)
            except Exception as e:
                check(False, f"{name} ran to its end", repr(e))
            say(f"     {name} took {time.monotonic() - begin:.0f} s")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C does not leave a half ended installation
        end(house, keep)


def end(house: House | None, keep: bool) -> None:
    """End an installation, if there is one."""
    if house is not None:
        left = house.end(keep)
        check(not left, f"everloop down leaves no process of the installation {house.kind}", left)
        if keep:
            say(f"     kept: {house.folder}")


def main() -> int:
    """The exit status."""
    provider = Provider()
    parser = argparse.ArgumentParser(description="Black-box acceptance of a guarded installation.")
    parser.add_argument("--keep", action="store_true", help="leave the folders for a look")
    parser.add_argument("--fuzz", type=int, default=2_000, metavar="COUNT", help="requests per door and seed")
    parser.add_argument("--seeds", type=int, default=1, metavar="COUNT", help="seeds of the fuzzed requests")
    parser.add_argument("--project", default="", metavar="NAME", help="running compose project, for `containers`")
    names = list(stages_of(parser.parse_args([]), provider))
    parser.add_argument("--only", nargs="*", choices=names, default=names, metavar="STAGE", help=", ".join(names))
    options = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored where a script started this one in the background
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        run(
            {name: stage for name, stage in stages_of(options, provider).items() if name in options.only},
            options.keep,
            provider,
        )
    except KeyboardInterrupt:
        check(False, "it ran to its end", "interrupted")
    finally:
        provider.server.shutdown()
    failed = [what for ok, what in results if not ok]
    say(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
