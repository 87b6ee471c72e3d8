"""The processes of `limited`: one that imports everything and forks, and the children that run the functions."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from everloop_shared.errors import ServiceError

HEADER = struct.Struct("!Q")
OPEN_FILES = 64
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38


def main(control: socket.socket, preload: list[str]) -> None:
    """Fork a child for each socket that comes in, until the control socket ends; never returns in a child."""
    end_with_the_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the end of a child's socket shows that it has ended
    for name in preload:
        import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page of what was imported
    while True:
        order, [*sockets], _, _ = socket.recv_fds(control, 1024, 1)
        if not order:
            return
        if os.fork() == 0:
            control.close()
            memory_bytes, cpu_s, niceness = order.split()
            os.nice(int(niceness))
            _child(socket.socket(fileno=sockets[0]), int(memory_bytes), float(cpu_s))
        for number in sockets:
            os.close(number)


def end_with_the_parent(parent: int | None = None) -> None:
    """End this process with its parent, and not by Ctrl-C; forbid new privileges.

    Raises SystemExit where the parent was to be `parent` and has ended already.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches the whole group, but the parent may still need it
    with suppress(OSError, AttributeError):  # Linux only; elsewhere the end of the socket is noticed after the call
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if parent not in (None, os.getppid()):
        raise SystemExit("the service has ended")


def _child(link: socket.socket, memory_bytes: int, cpu_s: float) -> None:
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGPROF, _too_long)
        end_with_the_parent()
        _forbid_output()
        limit_resources(memory_bytes, {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: OPEN_FILES})
        link.sendall(_frame({"pid": os.getpid()}))
        with link.makefile("rb") as requests:
            while header := requests.read(HEADER.size):
                (size,) = HEADER.unpack(header)
                link.sendall(_answer(requests, size, cpu_s))
    finally:
        os._exit(0)


def _forbid_output() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
    sys.dont_write_bytecode = True


def limit_resources(memory_bytes: int, others: Mapping[int, int]) -> None:
    """Limit memory, beside what the process has already, and `others` by their resource; forbid core dumps."""
    limits = {**others, resource.RLIMIT_CORE: 0}
    with suppress(OSError), open("/proc/self/statm") as statm:  # Linux only
        limits[resource.RLIMIT_AS] = int(statm.read().split()[0]) * resource.getpagesize() + memory_bytes
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, most))


class _TooLong(BaseException):
    """Not an Exception, which a library might catch."""


def _too_long(*_: object) -> None:
    raise _TooLong


def _answer(requests: Any, size: int, cpu_s: float) -> bytes:
    """Run the function and encode its result or error as JSON, because the parent must not unpickle from a child."""
    try:
        module, name, pickled, sizes = pickle.loads(_read(requests, [size])[0])
        arguments = pickle.loads(pickled, buffers=_read(requests, sizes))
        function = getattr(import_module(module), name)
        signal.setitimer(signal.ITIMER_PROF, cpu_s)  # 0: none
        try:
            return _result(function(*arguments))
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except _TooLong:
        return _frame({"limit": "cpu"})
    except MemoryError:
        return _frame({"limit": "memory"})
    except ServiceError as e:
        errors = [[f.field, f.error] for f in e.errors]
        return _frame({"error": f"{type(e).__module__}.{type(e).__qualname__}", "detail": e.detail, "errors": errors})
    except BaseException:
        return _frame({"failed": traceback.format_exc(limit=-5)[-4000:]})


def _read(requests: Any, sizes: list[int]) -> list[bytes]:
    left, parts = sum(sizes), list[bytes]()
    try:
        for size in sizes:
            parts.append(requests.read(size))
            left -= size
    except MemoryError:
        parts.clear()
        while left > 0:  # read on, because the sender waits until it is read
            left -= len(requests.read(min(left, 1_000_000)))
        raise
    return parts


def _result(result: Any) -> bytes:
    data = result[-1] if isinstance(result, tuple) and result else None
    if isinstance(data, bytes):
        return _frame({"result": result[:-1], "bytes": len(data)}) + data
    return _frame({"result": result})


def _frame(answer: dict[str, Any]) -> bytes:
    body = json.dumps(answer, allow_nan=False).encode()
    return HEADER.pack(len(body)) + body


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
