"""Reads the repository for the house tests: its files, the imports of its modules, code in pages.

Nothing is imported to be read, so a module that cannot be imported is still examined.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "nbcache"


@dataclass(frozen=True)
class Import:
    """One imported module or name: `target` is dotted, `level` counts the dots in front."""

    module: str  # who imports
    target: str
    level: int
    line: int

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}: imports {'.' * self.level}{self.target}"


@cache
def tracked_files() -> tuple[Path, ...]:
    """Return the files of the repository: what git knows or would add, else all but the hidden."""
    answer = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if answer.returncode == 0:
        found = [ROOT / line for line in answer.stdout.splitlines()]
    else:
        found = [
            path
            for path in ROOT.rglob("*")
            if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        ]
    return tuple(sorted(path for path in found if path.is_file()))


def text_files() -> Iterator[tuple[Path, str]]:
    """Yield the files that are UTF-8 text, with it."""
    for path in tracked_files():
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def dotted_name(path: Path) -> str:
    """Return "nbcache.plan.language.header" for nbcache/plan/language/header.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


@cache
def modules() -> dict[str, ast.Module]:
    """Return the package's modules by dotted name, parsed."""
    return {
        dotted_name(path): ast.parse(path.read_text(encoding="utf-8"), str(path))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imports_of(name: str, tree: ast.Module) -> Iterator[Import]:
    """Yield every import of a module: inside functions and for type checkers too.

    `from a import b` counts as an import of `a` and of `a.b`, whichever of them is a module.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, 0, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield Import(name, base, node.level, node.lineno)
            for alias in node.names:
                yield Import(name, f"{base}.{alias.name}".lstrip("."), node.level, node.lineno)


@cache
def all_imports() -> tuple[Import, ...]:
    """Return every import of every module of the package."""
    return tuple(each for name, tree in modules().items() for each in imports_of(name, tree))


def first_party_imports() -> list[Import]:
    """Return those of modules of the package."""
    return [each for each in all_imports() if each.target in modules()]


def first_party_graph() -> dict[str, set[str]]:
    """Return which modules of the package each of them imports."""
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for each in first_party_imports():
        if each.target != each.module:
            graph[each.module].add(each.target)
    return graph


_FENCE = re.compile(r"^```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^```\s*$", re.M | re.S)


def fenced(page: Path, *languages: str) -> list[str]:
    """Return the fenced blocks of a Markdown page that are in one of the languages, in order."""
    text = page.read_text(encoding="utf-8")
    return [m["text"].rstrip("\n") for m in _FENCE.finditer(text) if m["language"] in languages]


def prose(page: Path) -> str:
    """Return a Markdown page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def pages() -> list[Path]:
    """Return the Markdown pages that a user reads."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def shell_lines() -> Iterator[tuple[str, list[str]]]:
    """Yield every command of the pages' shell blocks: where it stands, and its words."""
    for page in pages():
        for block in fenced(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    yield page.name, words
