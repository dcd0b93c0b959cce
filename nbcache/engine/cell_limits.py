"""What keeps a cached cell from being kept, told from what it reads and from its text."""

from __future__ import annotations

import ast
import contextlib
import textwrap
import types
from collections.abc import Sequence

from nbcache.engine.identity.read_state import CHANGED
from nbcache.errors import NotKept
from nbcache.model.fingerprint import Component
from nbcache.model.row import WatchedRead
from nbcache.plan.language.cell import CachedCell


def refuse_hidden_names(cell: CachedCell, components: Sequence[Component]) -> None:
    """A name that code binds behind the cell's text would not come back.

    Raises:
        NotKept: the cell, or a function of the notebook that it reaches, may bind one.
    """
    for name in ("globals", "exec", "eval", "locals", "vars"):
        if name in cell.facts.builtins:
            raise NotKept(f"it calls {name}(), which may bind any name")
    texts = {each.name: each.evidence for each in components if each.kind == "helper"}
    for where, text in {**texts, "it": cell.decl.body}.items():
        with contextlib.suppress(SyntaxError):
            for node in ast.walk(ast.parse(textwrap.dedent(text or ""))):
                if isinstance(node, ast.Global):
                    raise NotKept(f"{where} assigns the global {node.names[0]}")


def changed_while_it_ran(each: Component) -> str:
    if each.kind in ("captured", "helper", "resource"):
        return f"it changes {each.name} in place, which it did not assign; let it work on a copy"
    return f"{each.kind} {each.name} changed while it ran"


def refuse_changed_reads(watched: Sequence[WatchedRead]) -> None:
    for read in watched:
        if read.digest == CHANGED:
            raise NotKept(f"it reads {read.name}, which changed while it ran")


def is_mutable(value: object) -> bool:
    return type(value).__hash__ in (None, object.__hash__) and not isinstance(
        value, (types.FunctionType, types.ModuleType, type)
    )
