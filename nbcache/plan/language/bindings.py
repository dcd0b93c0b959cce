"""Where the names of a body come from, at the place that a walk through it has reached.

A body is a module: a name that it reads before it has surely bound it may come from the notebook,
and so is free. What functions read is looked up when they run.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Literal

from nbcache.plan.language.scopes import Scope

AMBIENT = frozenset(
    {*dir(builtins), "display", "get_ipython", "__file__", "__annotations__", "__path__"}
    | {"__class__", "__conditional_annotations__", "__classdict__"}
)
"""Names that are there without being bound: builtins, and what every namespace is given."""

_CLASS_AMBIENT = frozenset({"__module__", "__qualname__"})

State = frozenset[tuple[int, str]] | None
"""What is surely bound: (depth of the module or class scope, name); None where nothing gets."""


class Bindings:
    """The scopes that are open, and what is surely bound in them.

    `free`, `deferred` (read in functions), `bound` and `builtins` are the names found so far.
    """

    def __init__(self) -> None:
        self.scopes: list[Scope] = [Scope("module")]
        self.state: State = frozenset()
        self.free: dict[str, None] = {}
        self.deferred: dict[str, None] = {}
        self.bound: dict[str, None] = {}
        self.builtins: dict[str, None] = {}

    def bound_at_end(self) -> set[str]:
        """Return the names that the module has surely bound where the walk is: at its end."""
        if self.state is None:
            return set(self.bound)
        return {name for depth, name in self.state if depth == 0}

    def in_function(self) -> bool:
        return any(scope.kind == "function" for scope in self.scopes)

    def place(self, name: str) -> Literal["local", "bound", "free", "deferred"]:
        """Where a name that is read here comes from."""
        last = len(self.scopes) - 1
        innermost = last
        while self.scopes[innermost].kind == "parameters":
            innermost -= 1  # a class's names are seen through them
        for depth in range(last, 0, -1):
            scope = self.scopes[depth]
            if name in scope.globals:
                break
            if scope.kind == "class":
                if depth == innermost and (
                    self.state is None or (depth, name) in self.state or name in _CLASS_AMBIENT
                ):
                    return "local"
            elif name in scope.locals and name not in scope.nonlocals:
                return "local"
        if self.in_function():
            return "deferred"
        if self.state is None or (0, name) in self.state:
            return "bound"
        return "free"

    def read(self, name: str) -> str:
        place = self.place(name)
        if place in ("free", "deferred"):
            if name in AMBIENT:
                self.builtins[name] = None
            elif place == "free":
                self.free[name] = None
            else:
                self.deferred[name] = None
        return place

    def bind(self, name: str) -> None:
        depth = len(self.scopes) - 1
        while self.scopes[depth].kind in ("comprehension", "parameters"):
            depth -= 1
        scope = self.scopes[depth]
        if scope.kind == "function":
            if name in scope.globals:
                self.bound[name] = None
            return
        if scope.kind == "class" and name in scope.globals:
            depth = 0
        if depth == 0:
            self.bound[name] = None
        if self.state is not None:
            self.state = self.state | {(depth, name)}


def either(states: Sequence[State]) -> State:
    """What is bound whichever way was taken; ways that lead nowhere do not count."""
    reached = [state for state in states if state is not None]
    return frozenset.intersection(*reached) if reached else None
