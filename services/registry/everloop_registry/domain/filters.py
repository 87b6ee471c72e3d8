"""MLflow's language for filters and orders: `metrics.accuracy > 0.9 and tags.team = 'risk'`, `params.depth DESC`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from everloop_registry.errors import FilterRejected

MAX_CONDITIONS, MAX_VALUES = 20, 200
"""Conditions of a filter, and values of one list, at most: each condition is a part of the database's query."""
NUMBER_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
TEXT_OPERATORS = ("=", "!=", "LIKE", "ILIKE", "IN", "NOT IN", "IS NULL", "IS NOT NULL")
EXAMPLE = "metrics.`accuracy` >= 0.9 and params.depth = '3'"
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*") | (?P<quoted>`[^`]*`)
    | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    | (?P<operator><=|>=|!=|<>|==|=|<|>) | (?P<mark>[(),.]) | (?P<word>[^\s`'"()<>=!,.]+)
    )""",
    re.VERBOSE,
)

Kind = Literal["metric", "parameter", "tag", "attribute", "dataset"]
KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("metric", "metrics"), "metric"),
    **dict.fromkeys(("param", "params", "parameter", "parameters"), "parameter"),
    **dict.fromkeys(("tag", "tags"), "tag"),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attribute"),
    **dict.fromkeys(("dataset", "datasets"), "dataset"),
}
Value = str | float | tuple[str, ...] | None


@dataclass(frozen=True)
class Field:
    """What a condition or an order is about: an attribute, or a metric, parameter or tag by its key."""

    kind: Kind
    key: str


@dataclass(frozen=True)
class Condition:
    """One comparison; `value` is None for IS NULL and IS NOT NULL, several texts for IN and NOT IN."""

    field: Field
    operator: str
    value: Value


@dataclass(frozen=True)
class Order:
    """One order of a search."""

    field: Field
    descending: bool


@dataclass(frozen=True)
class Searchable:
    """What may be searched: which kinds, and which attributes by the names that clients use, numbers and texts.

    `texts` and `numbers` give each name the column that it stands for.
    """

    kinds: frozenset[Kind]
    texts: Mapping[str, str]
    numbers: Mapping[str, str]

    def attribute(self, name: str) -> str:
        """The column of an attribute; raises FilterRejected."""
        key = name if name in self.texts or name in self.numbers else name.lower()
        if (column := self.texts.get(key) or self.numbers.get(key)) is None:
            raise FilterRejected(f"{name!r} cannot be searched by; what can: {', '.join([*self.texts, *self.numbers])}")
        return column

    def is_number(self, field: Field) -> bool:
        """Whether a field holds numbers."""
        return field.kind == "metric" or (field.kind == "attribute" and field.key in self.numbers.values())


def parse_filter(text: str | None, over: Searchable) -> list[Condition]:
    """The conditions that must all hold; raises FilterRejected, which says what is expected."""
    parser = _Parser(text or "", over)
    found = list[Condition]()
    while not parser.done():
        if found:
            parser.require_word("AND")
        found.append(parser.condition())
        if len(found) > MAX_CONDITIONS:
            raise FilterRejected(f"a filter has at most {MAX_CONDITIONS} conditions")
    return found


def parse_orders(texts: Sequence[str], over: Searchable) -> list[Order]:
    """The orders of a search, the first of which counts most; raises FilterRejected."""
    return [order for text in texts for order in _orders_in(text, over)]


def _orders_in(text: str, over: Searchable) -> list[Order]:
    parser, found = _Parser(text, over), list[Order]()
    while not parser.done():
        if found:
            parser.require_mark(",")
        field = parser.field()
        word = (parser.word() or "ASC").upper()
        if word not in ("ASC", "DESC"):
            raise FilterRejected(f"order_by: {word[:80]!r} is no direction; write ASC or DESC")
        found.append(Order(field, word == "DESC"))
    return found


class _Parser:
    def __init__(self, text: str, over: Searchable) -> None:
        self._over, self._text = over, text
        self._tokens, at = list[tuple[str, str]](), 0
        text = text.rstrip()
        while at < len(text):
            if (match := _TOKEN.match(text, at)) is None or match.lastgroup is None:
                raise FilterRejected(f"{text[at : at + 40]!r} is not understood; a filter is like {EXAMPLE}")
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
        self._next = 0

    def done(self) -> bool:
        return self._next >= len(self._tokens)

    def condition(self) -> Condition:
        field = self.field()
        operator = self._operator()
        number = self._over.is_number(field)
        allowed = NUMBER_OPERATORS if number else TEXT_OPERATORS
        if operator not in allowed:
            raise FilterRejected(f"{operator} does not work with {field.kind} {field.key!r}; use {', '.join(allowed)}")
        if operator in ("IS NULL", "IS NOT NULL"):
            if field.kind not in ("tag", "parameter"):
                raise FilterRejected(f"{operator} works with tags and params, not with {field.key!r}")
            return Condition(field, operator, None)
        if operator in ("IN", "NOT IN"):
            return Condition(field, operator, self._list())
        return Condition(field, operator, self._number(field) if number else self._string(field))

    def field(self) -> Field:
        name = self._name()
        if self._peek() != ("mark", "."):
            return self._checked(Field("attribute", self._over.attribute(name)))
        self._next += 1
        if (kind := KINDS.get(name.lower())) is None:
            raise FilterRejected(f"{name!r} is none of metrics, params, tags, attributes; a filter is like {EXAMPLE}")
        key = self._name()
        while self._peek() == ("mark", "."):  # a key with dots need not be quoted
            self._next += 1
            key = f"{key}.{self._name()}"
        return self._checked(Field(kind, self._over.attribute(key) if kind == "attribute" else key))

    def _checked(self, field: Field) -> Field:
        if field.kind not in self._over.kinds:
            raise FilterRejected(
                f"{field.kind}s cannot be searched by here; what can: {', '.join(sorted(self._over.kinds))}"
            )
        return field

    def word(self) -> str | None:
        kind, text = self._peek()
        if kind != "word":
            return None
        self._next += 1
        return text

    def require_word(self, word: str) -> None:
        if (found := self.word() or self._peek()[1]).upper() != word:
            raise FilterRejected(f"{found[:80]!r} where {word} is expected; a filter is like {EXAMPLE}")

    def require_mark(self, mark: str) -> None:
        if self._take() != ("mark", mark):
            raise FilterRejected(f"a {mark!r} is missing; a filter is like {EXAMPLE}")

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._next] if not self.done() else ("end", "")

    def _take(self) -> tuple[str, str]:
        token = self._peek()
        self._next += 1
        return token

    def _name(self) -> str:
        kind, text = self._take()
        if kind in ("quoted", "text") and len(text) > 2:
            return text[1:-1]
        if kind in ("word", "number"):
            return text
        raise FilterRejected(f"{text[:40] or 'the end'!r} where a name is expected; a filter is like {EXAMPLE}")

    def _operator(self) -> str:
        kind, text = self._take()
        if kind == "operator":
            return {"<>": "!=", "==": "="}.get(text, text)
        words = {"NOT": "NOT IN", "IS": "IS NULL"}
        word = text.upper() if kind == "word" else ""
        if word in ("LIKE", "ILIKE", "IN"):
            return word
        if word == "NOT":
            self.require_word("IN")
        elif word == "IS":
            if (second := (self.word() or "").upper()) == "NOT":
                self.require_word("NULL")
                return "IS NOT NULL"
            if second != "NULL":
                raise FilterRejected("IS is followed by NULL or NOT NULL")
        if word not in words:
            raise FilterRejected(f"{text[:40] or 'the end'!r} is no comparison; a filter is like {EXAMPLE}")
        return words[word]

    def _string(self, field: Field) -> str:
        kind, text = self._take()
        if kind != "text":
            raise FilterRejected(f"the value of {field.key!r} is a text in quotes, such as '{text[:40]}'")
        return _unquoted(text)

    def _number(self, field: Field) -> float:
        kind, text = self._take()
        text = _unquoted(text) if kind == "text" else text
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not isfinite(value):
            raise FilterRejected(f"the value of {field.key!r} is a number, not {text[:40]!r}")
        return value

    def _list(self) -> tuple[str, ...]:
        self.require_mark("(")
        values = list[str]()
        while True:
            kind, text = self._take()
            if kind != "text":
                raise FilterRejected("a list is like ('a', 'b'), with each text in quotes")
            values.append(_unquoted(text))
            mark = self._take()
            if mark == ("mark", ")"):
                break
            if mark != ("mark", ",") or len(values) >= MAX_VALUES:
                raise FilterRejected(f"a list is like ('a', 'b'), with {MAX_VALUES} texts at most")
        return tuple(values)


def _unquoted(text: str) -> str:
    quote = text[0]
    return text[1:-1].replace(quote * 2, quote)
