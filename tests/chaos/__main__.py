"""`python -m tests.chaos`: faults on a real installation, and the proof that nothing is lost or duplicated."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import ChaosPlan, main

parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
parser.add_argument("--minutes", type=float, default=4.0, help="how long faults are injected (default 4)")
parser.add_argument("--seed", type=int, default=1, help="the same seed is the same schedule (default 1)")
parser.add_argument("--every", type=float, default=2.0, help="seconds between two faults; 0 for none (default 2)")
parser.add_argument("--rate", type=float, default=40.0, help="observations a second, over all endpoints (default 40)")
parser.add_argument("--replicas", action="store_true", help="two of each service that can, as targets of the faults")
parser.add_argument("--workers", type=int, default=1, help="processes of serving behind its port (default 1)")
parser.add_argument("--learners", type=int, default=2, help="workers of training (default 2)")
parser.add_argument("--folder", type=Path, help="an empty data folder (default: a new one)")
parser.add_argument("--keep", action="store_true", help="keep the folder also when there are no findings")

if __name__ == "__main__":
    args = parser.parse_args()
    folder = (args.folder or Path(tempfile.mkdtemp(prefix="everloop-chaos-"))).absolute()
    plan = ChaosPlan(
        folder,
        args.minutes * 60,
        args.seed,
        args.every,
        args.rate,
        replicas=args.replicas,
        workers=args.workers,
        learners=args.learners,
    )
    sys.exit(main(plan, args.keep))
