"""Runs the operator: python -m everloop_operator."""

from __future__ import annotations

import argparse
import logging
import sys

import kopf

from everloop_operator.app import Operator
from everloop_operator.errors import OperatorMisconfigured
from everloop_operator.settings import PREFIX, OperatorSettings

ABOUT = "Applies resources of kind Loop to Everloop, and writes how the loops are doing into their status."
CHATTY = ("httpx", "kopf.objects", "kopf.activities")
"""Loggers that tell of each request and each step; what happens to a loop is told by `everloop_operator`."""


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or Ctrl-C; 2 where a setting is wrong."""
    settings_help = "\n".join(
        f"  {PREFIX}{name.upper():11} {f.description} (default: {f.default or 'none'})"
        for name, f in OperatorSettings.model_fields.items()
    )
    parser = argparse.ArgumentParser(
        prog="everloop-operator",
        description=ABOUT,
        epilog=f"Settings, from the environment:\n{settings_help}\n  EVERLOOP_<SERVICE>_URL, EVERLOOP_TOKEN_FILE "
        "and EVERLOOP_TLS_CA as for every client of Everloop",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    try:
        settings = OperatorSettings.load()
    except OperatorMisconfigured as e:
        sys.stderr.write(f"{e}\n")
        return 2
    kopf.configure(
        debug=settings.log_level == "DEBUG", quiet=settings.log_level == "WARNING", log_format=kopf.LogFormat.JSON
    )
    if settings.log_level == "INFO":
        for chatty in CHATTY:
            logging.getLogger(chatty).setLevel(logging.WARNING)
    namespaces = settings.named_namespaces
    kopf.run(
        registry=Operator(settings).register(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        liveness_endpoint=f"http://{settings.host}:{settings.port}/livez",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
