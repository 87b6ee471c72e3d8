"""MLflow's filters and orders as SQL, with every value bound as a parameter."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql

from everloop_registry.domain.filters import Condition, Field, Kind, Order

Column = sql.ColumnElement[Any]
COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "IN": lambda column, values: column.in_(values),
    "NOT IN": lambda column, values: column.not_in(values),
}


@dataclass(frozen=True)
class Related:
    """Values by key that belong to what is searched; `owner` has the columns that say to what."""

    table: sql.FromClause
    owner: Mapping[str, Column]

    def joined(self, table: sql.FromClause) -> sql.ColumnElement[bool]:
        """That a row of the table, or of its alias, belongs to what is searched."""
        return sql.and_(*(table.c[name] == column for name, column in self.owner.items()))


@dataclass(frozen=True)
class Searched:
    """What is searched: its attributes as columns, and the tables of its metrics, parameters and tags."""

    columns: Mapping[str, Column]
    related: Mapping[Kind, Related]
    backend: str

    def matches(self, conditions: Sequence[Condition]) -> list[sql.ColumnElement[bool]]:
        """The conditions as SQL; all of them must hold."""
        return [self._match(condition) for condition in conditions]

    def _match(self, condition: Condition) -> sql.ColumnElement[bool]:
        field = condition.field
        if field.kind == "attribute":
            return self._compare(self.columns[field.key], condition)
        related = self.related[field.kind]
        if field.kind == "dataset":
            found = self._compare(related.table.c[field.key], condition)
            return sql.exists().where(related.joined(related.table), found)
        of_key = (related.joined(related.table), related.table.c.key == field.key)
        if condition.operator == "IS NULL":
            return ~sql.exists().where(*of_key)
        if condition.operator == "IS NOT NULL":
            return sql.exists().where(*of_key)
        found = self._compare(related.table.c.value, condition)
        number = (related.table.c.nan.is_(False),) if field.kind == "metric" else ()
        return sql.exists().where(*of_key, *number, found)

    def _compare(self, column: Column, condition: Condition) -> sql.ColumnElement[bool]:
        found: sql.ColumnElement[bool]
        if condition.operator in COMPARISONS:
            found = COMPARISONS[condition.operator](column, condition.value)
        elif condition.operator == "ILIKE":
            found = column.ilike(str(condition.value), escape=self._no_escape)
        elif self.backend == "sqlite":  # whose LIKE does not mind the case
            found = column.op("GLOB", is_comparison=True)(_glob(str(condition.value)))
        else:
            found = column.like(str(condition.value), escape=self._no_escape)
        return found

    @property
    def _no_escape(self) -> str | None:
        """SQLite has no escape character unless one is named, PostgreSQL has one unless the name is empty."""
        return None if self.backend == "sqlite" else ""

    def ordered(self, query: sql.Select[Any], orders: Sequence[Order]) -> sql.Select[Any]:
        """The query in these orders; what has no value comes last, and NaN before it."""
        for order in orders:
            if order.field.kind == "attribute":
                value = self.columns[order.field.key]
                missing: list[Column] = [value.is_(None)]
            else:
                query, value, missing = self._joined(query, order.field)
            query = query.order_by(*missing, value.desc() if order.descending else value.asc())
        return query

    def _joined(self, query: sql.Select[Any], field: Field) -> tuple[sql.Select[Any], Column, list[Column]]:
        related = self.related[field.kind]
        alias = related.table.alias()
        query = query.outerjoin(alias, sql.and_(related.joined(alias), alias.c.key == field.key))
        value: Column = alias.c.value
        missing: list[Column] = [value.is_(None)]
        if "nan" in alias.c:
            missing.append(alias.c.nan)
        return query, value, missing


def _glob(pattern: str) -> str:
    """A pattern of LIKE as one of GLOB."""
    return "".join({"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}.get(c, c) for c in pattern)
