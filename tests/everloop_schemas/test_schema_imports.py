"""The event classes need pydantic and msgspec and nothing else."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import everloop_schemas

ALLOWED = {*sys.stdlib_module_names, "msgspec", "pydantic", "everloop_schemas"}


def test_the_contracts_import_pydantic_msgspec_and_the_standard_library_only() -> None:
    folder = Path(everloop_schemas.__file__).parent

    imported = {
        (module.name, name.partition(".")[0])
        for module in folder.rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        for name in _names(node)
    }

    assert {pair for pair in imported if pair[1] not in ALLOWED} == set()


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module]
    return []
