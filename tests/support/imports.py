"""Imports of the packages, read from their source without running it."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("cache", "stages", "pipeline")


@dataclass(frozen=True)
class Import:
    """One imported name.

    Parameters
    ----------
    by : str
        The module that imports.
    module : str
        The module that the name is in, or the imported module itself.
    name : str
        The name, empty where a whole module is imported.
    for_types : bool
        Whether only a type checker sees it.
    """

    by: str
    module: str
    name: str
    for_types: bool


def files(*packages: str) -> list[Path]:
    """Source files of some packages, stubs left out."""
    return sorted(p for package in packages for p in (ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    """Name of a file's module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text("utf-8"))


def faces() -> dict[str, dict[str, str]]:
    """The names that packages show, and the modules that they are in, by package."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for package in PACKAGES:
        for stub in (ROOT / package).rglob("__init__.pyi"):
            name = module_of(stub)
            for node in tree_of(stub).body:
                if isinstance(node, ast.ImportFrom):
                    assert node.level == 1, stub
                    for alias in node.names:
                        found[name][alias.name] = f"{name}.{node.module}"
    return found


def imports(*packages: str) -> list[Import]:
    """Every import that some packages make of ours, wherever it stands in a file."""
    return [found for path in files(*packages) for found in _imports_of(path)]


def resolved(found: Import, shown: dict[str, dict[str, str]]) -> str:
    """The module that an imported name is defined in: behind a face, or a submodule itself."""
    if found.name in shown.get(found.module, {}):
        return shown[found.module][found.name]
    inner = f"{found.module}.{found.name}"
    return (
        inner
        if found.name and (ROOT / inner.replace(".", "/")).with_suffix(".py").exists()
        else (found.module)
    )


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected modules, each group of more than one (Tarjan 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in edges.get(module, ()):
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(edges):
        if module not in number:
            visit(module)
    return found


def _imports_of(path: Path) -> Iterator[Import]:
    by = module_of(path)
    for node, for_types in _walk(tree_of(path), False):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in PACKAGES:
                    yield Import(by, alias.name, "", for_types)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if (node.module or "").split(".")[0] in PACKAGES:
                for alias in node.names:
                    yield Import(by, node.module or "", alias.name, for_types)


def _walk(node: ast.AST, for_types: bool) -> Iterator[tuple[ast.AST, bool]]:
    yield node, for_types
    checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, for_types or checking)
