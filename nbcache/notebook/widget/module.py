"""The view's module and style sheet as a page gets them: plain files put together, no build."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_STATIC = Path(__file__).parent / "static"

_PARTS = (  # in the order in which one needs the other: together they are one ES module
    *("tools", "counts", "picture", "code", "tasks", "processes", "task", "form", "runs"),
    *("page", "run_view", "card", "start"),
)


@cache
def module() -> str:
    """Return the ES module."""
    return "\n".join(
        (_STATIC / "view" / f"{part}.js").read_text(encoding="utf-8") for part in _PARTS
    )


@cache
def style() -> str:
    """Return the style sheet."""
    return (_STATIC / "view.css").read_text(encoding="utf-8")


@cache
def loader() -> str:
    """Return the small ES module that each output carries, which fetches `module` and `style`."""
    return (_STATIC / "loader.js").read_text(encoding="utf-8")


@cache
def key() -> str:
    """Return what tells this module and style from those of another version."""
    return hashlib.blake2b(f"{module()}\0{style()}".encode(), digest_size=8).hexdigest()
