"""Reads a pickle as data, before it is unpickled: which names it asks for, and what it does with each."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

from everloop_models.errors import ArtifactCorrupt

PROTOCOL = b"\x80\x05"
_BINGET, _MEMOIZE, _BINFLOAT, _EMPTY_DICT, _MARK, _SETITEMS, _BUILD, _NEWOBJ = (
    code[0]
    for code in (
        pickle.BINGET,
        pickle.MEMOIZE,
        pickle.BINFLOAT,
        pickle.EMPTY_DICT,
        pickle.MARK,
        pickle.SETITEMS,
        pickle.BUILD,
        pickle.NEWOBJ,
    )
)
_LONG_BINGET, _SHORT_BINUNICODE, _SETITEM, _STOP = (
    code[0] for code in (pickle.LONG_BINGET, pickle.SHORT_BINUNICODE, pickle.SETITEM, pickle.STOP)
)


class Use(NamedTuple):
    """A name, and one thing that a pickle does with it.

    `how` is `name` (asked for), `new N` (an instance made with N arguments), `call N` (called with N arguments; of
    `getattr` also the method's name), and of what was made so: `state dict`, `state tuple N`, `state value` and so on,
    `items`, `elements`, `members`.
    """

    module: str
    name: str
    how: str


class _Global:
    """A name that was asked for; `made` stands for every object that it made."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name
        self.made = _Made(self)
        self.uses = {"name"}


class _Made:
    def __init__(self, of: _Global) -> None:
        self.of = of


class _Tuple:
    """A tuple's length, and its second item where that is a text: of `getattr` it is the method's name."""

    def __init__(self, size: int, second: str | None = None) -> None:
        self.size, self.second = size, second


_DATA, _LIST, _DICT, _SET = object(), object(), object(), object()
_SHORT = [_Tuple(size) for size in range(9)]
_EMPTY = _SHORT[0]
_CONSTANTS = {  # what each pushes, and how many bytes belong to it
    pickle.BINFLOAT: (_DATA, 8),
    pickle.BININT: (_DATA, 4),
    pickle.BININT1: (_DATA, 1),
    pickle.BININT2: (_DATA, 2),
    pickle.NONE: (_DATA, 0),
    pickle.NEWTRUE: (_DATA, 0),
    pickle.NEWFALSE: (_DATA, 0),
    pickle.EMPTY_DICT: (_DICT, 0),
    pickle.EMPTY_LIST: (_LIST, 0),
    pickle.EMPTY_SET: (_SET, 0),
    pickle.EMPTY_TUPLE: (_EMPTY, 0),
}
_PUSHES: list[Any] = [None] * 256
_WIDTHS = [0] * 256
for _code, (_what, _width) in _CONSTANTS.items():
    _PUSHES[_code[0]], _WIDTHS[_code[0]] = _what, _width
_LENGTHS = {  # data of any length, and how many bytes hold that length
    code[0]: width
    for code, width in (
        (pickle.BINUNICODE, 4),
        (pickle.BINUNICODE8, 8),
        (pickle.SHORT_BINBYTES, 1),
        (pickle.BINBYTES, 4),
        (pickle.BINBYTES8, 8),
        (pickle.BYTEARRAY8, 8),
        (pickle.LONG1, 1),
    )
}
_TUPLES = {pickle.TUPLE1[0]: 1, pickle.TUPLE2[0]: 2, pickle.TUPLE3[0]: 3}


def uses(data: bytes) -> set[Use]:
    """All that a pickle asks for and does; raises ArtifactCorrupt for one that Python would not have written.

    Only what the C pickler writes at protocol 5 is understood: no extension registry, no persistent ids, no arguments
    by name, no memo by number. A length is compared with the bytes that follow before memory is taken for it.
    """
    try:
        return _PickleReader(data).uses()
    except (IndexError, UnicodeDecodeError, AttributeError, TypeError) as e:
        raise ArtifactCorrupt("it is no pickle that Python wrote: not loaded") from e


class _PickleReader:
    """The pickle machine, on kinds of values instead of values."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: list[Any] = []
        self._globals: dict[tuple[str, str], _Global] = {}

    def uses(self) -> set[Use]:
        """Read to the end."""
        if not self._data.startswith(PROTOCOL):
            raise ArtifactCorrupt("it is no pickle of protocol 5: not loaded")
        self._at = len(PROTOCOL)
        while not self._read_frequent():
            self._read_rare(self._data[self._at - 1])
        if self._at != len(self._data) or len(self._stack) != 1 or self._marks:
            raise ArtifactCorrupt("there is something left behind its end: not loaded")
        return {Use(g.module, g.name, how) for g in self._globals.values() for how in g.uses}

    def _read_frequent(self) -> bool:
        """Read the opcodes of which a model has millions, in one loop, up to a rare one (False) or the end (True)."""
        data, at, stack, memo, marks = self._data, self._at, self._stack, self._memo, self._marks
        pushes, widths, push = _PUSHES, _WIDTHS, self._stack.append
        while True:
            op = data[at]
            at += 1
            if op == _BINGET:
                push(memo[data[at]])
                at += 1
            elif op == _MEMOIZE:
                memo.append(stack[-1])
            elif (pushed := pushes[op]) is not None:
                push(pushed)
                at += widths[op]
            elif op == _MARK:
                marks.append(len(stack))
            elif op == _SETITEMS:
                del stack[marks.pop() :]
                if stack[-1] is not _DICT:
                    _record_filling(stack[-1], "items")
            elif op == _NEWOBJ:
                arguments = stack.pop()
                cls = stack[-1]
                cls.uses.add("new 0" if arguments is _EMPTY else f"new {arguments.size}")
                stack[-1] = cls.made
            elif op == _BUILD:
                state = stack.pop()
                stack[-1].of.uses.add("state dict" if state is _DICT else _state(state))
            elif op == _LONG_BINGET:
                push(memo[int.from_bytes(data[at : at + 4], "little")])
                at += 4
            elif op == _SETITEM:
                del stack[-2:]
                if stack[-1] is not _DICT:
                    _record_filling(stack[-1], "items")
            else:
                self._at = at
                return op == _STOP

    def _read_rare(self, op: int) -> None:
        stack = self._stack
        if op == _SHORT_BINUNICODE:
            stack.append(self._take(1).decode())
        elif op in _LENGTHS:
            self._take(_LENGTHS[op])
            stack.append(_DATA)
        elif op in _TUPLES:
            count = _TUPLES[op]
            stack[-count:] = [_tuple(stack[-count:])]
        elif op == pickle.TUPLE[0]:
            stack.append(_tuple(self._marked()))
        elif op == pickle.APPENDS[0] or op == pickle.ADDITEMS[0]:
            self._marked()
            kind, how = (_LIST, "elements") if op == pickle.APPENDS[0] else (_SET, "members")
            if stack[-1] is not kind:
                _record_filling(stack[-1], how)
        elif op == pickle.APPEND[0]:
            stack.pop()
            if stack[-1] is not _LIST:
                _record_filling(stack[-1], "elements")
        elif op == pickle.FROZENSET[0]:
            self._marked()
            stack.append(_DATA)
        elif op == pickle.STACK_GLOBAL[0]:
            name, module = stack.pop(), stack.pop()
            stack.append(self._global(module, name))
        elif op == pickle.REDUCE[0]:
            self._reduce()
        elif op == pickle.POP[0]:
            stack.pop()
        elif op == pickle.POP_MARK[0]:
            self._marked()
        elif op == pickle.FRAME[0]:
            self._at += 8
        else:
            raise ArtifactCorrupt(f"it holds opcode {op:#04x}, which no model is written with: not loaded")

    def _take(self, width: int) -> bytes:
        start = self._at + width
        size = int.from_bytes(self._data[self._at : start], "little")
        if size > len(self._data) - start:
            raise ArtifactCorrupt(f"it announces {size:,} bytes and holds fewer: not loaded")
        self._at = start + size
        return self._data[start : self._at] if width == 1 else b""

    def _marked(self) -> list[Any]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _global(self, module: Any, name: Any) -> _Global:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ArtifactCorrupt("it asks for something without a name: not loaded")
        key = module, name
        if key not in self._globals:
            self._globals[key] = _Global(module, name)
        return self._globals[key]

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack[-1]
        if not (isinstance(function, _Global) and isinstance(arguments, _Tuple)):
            raise ArtifactCorrupt("it calls what it has made itself: not loaded")
        how = f"call {arguments.size}"
        if (function.module, function.name) == ("builtins", "getattr"):
            how = f"{how} {arguments.second or '?'}"
        function.uses.add(how)
        self._stack[-1] = function.made


def _tuple(items: list[Any]) -> _Tuple:
    if len(items) == 2 and isinstance(items[1], str):
        return _Tuple(2, items[1])
    return _SHORT[len(items)] if len(items) < len(_SHORT) else _Tuple(len(items))


def _state(state: Any) -> str:
    if isinstance(state, _Tuple):
        return f"state tuple {state.size}"
    if isinstance(state, _Made):
        return f"state {state.of.module}.{state.of.name}"
    return "state list" if state is _LIST else "state value"


def _record_filling(target: Any, how: str) -> None:
    if not isinstance(target, _Made):
        raise ArtifactCorrupt("it puts items into what takes none: not loaded")
    target.of.uses.add(how)
