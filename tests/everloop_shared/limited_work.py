"""What test_limited.py has done in a child."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

from everloop_shared.errors import FieldError, InputRejected


def double(numbers: list[int]) -> dict[str, object]:
    """Twice the numbers, and who worked them out."""
    return {"twice": [2 * n for n in numbers], "pid": os.getpid()}


def length(data: bytes) -> int:
    """How much arrived."""
    return len(data)


def repeat(text: str, times: int) -> tuple[int, bytes]:
    """Bytes beside a number."""
    return times, text.encode() * times


def refuse() -> None:
    """An error that the caller knows."""
    raise InputRejected("colour: is not blue", [FieldError("colour", "make it blue")])


def stumble() -> None:
    """An unexpected error."""
    raise ZeroDivisionError("by surprise")


def take(size: int) -> int:
    """Hold so many bytes."""
    return len(bytearray(size))


def wait(seconds: float) -> None:
    """Do nothing for a while."""
    time.sleep(seconds)


def end_yourself() -> None:
    """Die as a crashing library would."""
    os.kill(os.getpid(), signal.SIGSEGV)


def write(path: str) -> str:
    """Try to leave a file with something in it."""
    try:
        Path(path).write_text("left behind")
    except OSError as e:
        return str(e.strerror)
    return "written"


def surroundings() -> dict[str, object]:
    """The variables that are seen, and how many sockets are open."""
    links = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            links += socket.socket(fileno=os.dup(int(number))).family is not None
        except OSError:
            pass
    return {"environ": sorted(os.environ), "sockets": links}


def compute() -> None:
    """Compute without end, and take no exception for an answer."""
    while True:
        try:
            sum(range(1000))
        except Exception:
            continue
