"""A process with a busy child, which test_limited.py ends in several ways."""

from __future__ import annotations

import sys

import uvloop
from tests.everloop_shared.limited_work import double, wait

from everloop_shared.limited import Limited


async def main() -> None:
    """Tell who works, then keep them at it."""
    async with Limited(preload=["json"], memory_bytes=100_000_000, seconds=60) as child:
        result = await child.run(double, [1])
        sys.stdout.write(f"{result['pid']}\n")
        sys.stdout.flush()
        await child.run(wait, 60)


if __name__ == "__main__":
    uvloop.run(main())
