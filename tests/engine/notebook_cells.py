"""Capture what a body reaches of cells that a real IPython shell has run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from nbcache.engine.identity.capture import capture
from nbcache.engine.identity.captured import Captured
from nbcache.model.process import Directives, Output, ProcessDecl
from nbcache.plan.language.body import analyse_body

_shells: list[InteractiveShell] = []


def shell() -> InteractiveShell:
    """Return the one shell of this process, emptied, with cells counted from 1."""
    if not _shells:
        config = Config({"HistoryManager": {"enabled": False}})
        module = ModuleType("__main__")
        _shells.append(InteractiveShell.instance(user_module=module, config=config))
    hook = _shells[0].displayhook
    hook.do_full_cache = False  # else it collects garbage: seconds, late in a run of tests
    _shells[0].reset(new_session=True)
    hook.do_full_cache = True
    return _shells[0]


@contextmanager
def as_main(module: ModuleType) -> Iterator[None]:
    """Let a shell's module be `__main__`, as it is in a kernel."""
    before = sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        yield
    finally:
        sys.modules["__main__"] = before


def declared(body: str, *, name: str = "work", **directives: object) -> ProcessDecl:
    """Return a Python process of no inputs with one output."""
    return ProcessDecl(
        name=name,
        inputs=(),
        outputs=(Output("out"),),
        sources=None,
        directives=Directives(**directives),  # type: ignore[arg-type]
        language="python",
        body=body,
        cell="cell [9]",
    )


def captured(
    *cells: str,
    body: str,
    folder: Path | None = None,
    taken: tuple[str, ...] = ("v",),
    unpickle: bool = False,
    **directives: Any,
) -> Captured:
    """Run cells in an empty notebook and capture what a body reaches."""
    session = shell()
    with as_main(session.user_module):
        for cell in cells:
            session.run_cell(cell, store_history=True).raise_error()
        decl = declared(body, **directives)
        facts = analyse_body(body)
        return capture(decl, facts, session.user_ns, taken=taken, notebook_dir=folder)


def keys(found: Captured) -> dict[tuple[str, str], str]:
    """Return what enters the hash."""
    return {each.key: each.digest for each in found.components}


def changed(before: Captured, after: Captured) -> set[str]:
    """Return "kind name" of every component that is not in both with one digest."""
    old, new = keys(before), keys(after)
    return {" ".join(key) for key in old.keys() | new.keys() if old.get(key) != new.get(key)}


def summaries(found: Captured) -> Mapping[str, str]:
    """Return "kind name" -> summary."""
    return {" ".join(each.key): each.summary for each in found.components}
