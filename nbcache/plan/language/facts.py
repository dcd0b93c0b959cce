"""What is known of a body from reading it: records that `body` and `script` make."""

from __future__ import annotations

from dataclasses import dataclass
from types import CodeType
from typing import Literal

from nbcache.plan.language.mutations import Mutation


@dataclass(frozen=True, slots=True)
class BodyResult:
    """How a body ends.

    expression: with an expression that is no bare name; name: with the bare name `name`;
    assignment: with an assignment to the single name `name`; nothing: with anything else.
    `suppressed` is a trailing `;`: what the body ends with is not kept. `empty` says that the
    expression can only be None (a call of print, display or show).
    """

    kind: Literal["expression", "name", "assignment", "nothing"]
    name: str | None = None
    suppressed: bool = False
    empty: bool = False
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyFacts:
    """What a Python body reads, binds and gives. Lines are those of the cell, from 1.

    `free` are the names that it may take from outside (inputs among them, builtins not), `bound`
    those that it binds at module scope. `imports` are top-level module names imported anywhere in
    it, `modules` the whole dotted names. `calls` maps called names that it does not bind to their
    place. `builtins` are the builtins that it uses by name. `stars` are modules imported with `*`.
    """

    free: frozenset[str]
    bound: frozenset[str]
    result: BodyResult
    imports: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()
    stars: frozenset[str] = frozenset()
    uses_await: bool = False
    builtins: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    calls: tuple[tuple[str, int, int], ...] = ()
    mutations: tuple[Mutation, ...] = ()


@dataclass(frozen=True, slots=True)
class SplitBody:
    """A body as code: the statements, and the final expression where it is the body's result.

    Run `exec(statements, namespace)`, then `eval(expression, namespace)`; code with the flag
    `inspect.CO_COROUTINE` is given to `eval` in both cases, and what comes back is awaited.
    """

    statements: CodeType
    expression: CodeType | None


@dataclass(frozen=True, slots=True)
class ScriptFacts:
    """What a shell script assigns and calls, as far as reading it tells.

    `commands` are the first words of its simple commands, in order, without those of the shell
    itself. `scripts` are words that stand where an interpreter takes the file of a script: they may
    name one beside the notebook. `written` are files that it writes before it calls them, if at
    all. `opaque` says that it runs text (`eval`, `source`), so that no list is the whole. `search`
    are the folders that it puts on PATH (`$PATH`: any that are there), `programs` are texts that it
    gives to Python.
    """

    variables: frozenset[str]
    commands: tuple[str, ...]
    opaque: bool = False
    scripts: tuple[str, ...] = ()
    written: frozenset[str] = frozenset()
    search: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
