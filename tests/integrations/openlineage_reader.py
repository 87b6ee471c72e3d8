"""Reads events, a line each, with OpenLineage's own classes, and says what does not fit. Runs in its environment."""

from __future__ import annotations

import enum
import importlib
import json
import pkgutil
import sys
import types
import typing
from typing import Any

import attr
from openlineage.client import generated  # type: ignore[import-not-found]
from openlineage.client.event_v2 import RunEvent  # type: ignore[import-not-found]
from openlineage.client.generated.base import BaseFacet  # type: ignore[import-not-found]
from openlineage.client.naming.dataset import S3, Kafka, LocalFileSystem  # type: ignore[import-not-found]
from openlineage.client.serde import Serde  # type: ignore[import-not-found]

PLAIN: dict[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (int, float), bool: (bool,)}
OWN = "https://everloop.io/schemas/"


def facet_classes() -> dict[str, Any]:
    """The classes of standard facets by the URL of their schema."""
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(generated.__path__):
        classes: dict[str, Any] = vars(importlib.import_module(f"{generated.__name__}.{module.name}"))
        for cls in classes.values():
            if isinstance(cls, type) and issubclass(cls, BaseFacet):
                found[url_of(cls)] = cls
    return found


def url_of(cls: Any) -> str:
    """The URL of a class' schema."""
    return str(cls._get_schema())


FACETS = facet_classes()
BASE = next(url for url, cls in FACETS.items() if cls is BaseFacet)


def build(kind: Any, given: Any, at: str) -> Any:
    """An object of OpenLineage's from JSON; raises ValueError for what its class has not, lacks, or has otherwise."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if given is None and type(None) in arguments:
            return None
        return build(next(one for one in arguments if one is not type(None)), given, at)
    if origin is list:
        return [build(arguments[0], one, f"{at}[{n}]") for n, one in enumerate(require(given, list, at))]
    if origin is dict:
        members = require(given, dict, at).items()
        if isinstance(arguments[1], type) and issubclass(arguments[1], BaseFacet):
            return {key: build_facet(one, f"{at}.{key}", arguments[1]) for key, one in members}
        return {key: build(arguments[1], one, f"{at}.{key}") for key, one in members}
    if kind in PLAIN:
        if isinstance(given, bool) and kind is not bool:
            raise ValueError(f"{at}: {given!r} is no {kind.__name__}")
        return require(given, PLAIN[kind], at)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(given)
    if attr.has(kind):
        return build_object(kind, require(given, dict, at), at)
    return given  # Any


def build_object(cls: Any, given: dict[str, Any], at: str) -> Any:
    """An object of an attrs class; its validators run."""
    known, members = typing.get_type_hints(cls), dict(given)
    for key in ("_schemaURL", "schemaURL"):
        if key in members and (url := members.pop(key)) != cls._get_schema():
            raise ValueError(f"{at}.{key}: {url} is not {cls._get_schema()}")
    arguments = {}
    for each in attr.fields(cls):
        if each.name in members:
            arguments[each.alias] = build(known[each.name], members.pop(each.name), f"{at}.{each.name}")
        elif each.default is attr.NOTHING:
            raise ValueError(f"{at}: {each.name} is missing")
    if members:
        raise ValueError(f"{at}: {', '.join(members)} are not in {cls.__name__}")
    return cls(**arguments)


def build_facet(given: Any, at: str, kind: Any) -> Any:
    """A standard facet by its class, which must be of this kind; one of Everloop's own as what all facets are."""
    url = require(given, dict, at).get("_schemaURL", "")
    if url.startswith(OWN):
        base = build_object(BaseFacet, {"_producer": given["_producer"]}, at)
        return base.with_additional_properties(**{k: v for k, v in given.items() if not k.startswith("_")})
    cls = FACETS.get(url)
    if cls is None or not issubclass(cls, kind):
        raise ValueError(f"{at}: {url} is no {kind.__name__} of OpenLineage")
    return build_object(cls, given, at)


def require(given: Any, kind: Any, at: str) -> Any:
    """The value where it is of this type."""
    if not isinstance(given, kind):
        raise ValueError(f"{at}: {given!r:.100} is no {kind}")
    return given


def check_name(data_set: dict[str, Any], at: str) -> None:
    """Compare a data set's name with what OpenLineage's own rules make of its parts."""
    namespace, name = data_set["namespace"], data_set["name"]
    scheme, _, authority = namespace.partition("://")
    rules = {
        "kafka": lambda: Kafka(*authority.rpartition(":")[::2], name),
        "s3": lambda: S3(authority, name),
        "file": lambda: LocalFileSystem(name),
    }
    rule = rules[scheme]()
    if (rule.get_namespace(), rule.get_name()) != (namespace, name):
        raise ValueError(f"{at}: {namespace} {name} is not what {rule} makes")


def comparable(event: Any) -> Any:
    """The event without what is empty, and without the schema URL of own facets, which a class there replaces."""
    if isinstance(event, dict):
        is_own = str(event.get("_schemaURL", "")).startswith((OWN, BASE))
        members = {k: comparable(v) for k, v in event.items() if not (is_own and k == "_schemaURL")}
        return {k: v for k, v in members.items() if v not in (None, {}, [])}
    return [comparable(one) for one in event] if isinstance(event, list) else event


def main() -> None:
    """Check the events on standard input; print how many there are, and of which jobs."""
    counted: dict[str, int] = {}
    for n, line in enumerate(sys.stdin):
        given = json.loads(line)
        event = build(RunEvent, given, f"event {n}")
        again = json.loads(Serde.to_json(event))
        if comparable(again) != comparable(given):
            raise SystemExit(f"event {n} is not the same when OpenLineage writes it: {again} {given}")
        for data_set in (*given["inputs"], *given["outputs"]):
            check_name(data_set, f"event {n}")
        job = f"{given['job']['name'].rpartition('.')[2]} {given['eventType']}"
        counted[job] = counted.get(job, 0) + 1
    print(json.dumps(counted))  # noqa: T201 - what the test reads


if __name__ == "__main__":
    main()
