"""What functions do to names outside of them: which they set, which they read, by their text.

A function that a cell calls may keep what it is told in its module: `def set_rate(x): global RATE;
RATE = x`. Whose a name is, and which process that concerns, is for the caller to say. To change
something is not to read it: `LOG.append(x)`, `count += 1`, `K = [*K, x]`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from nbcache.plan.identity.module_settings import (
    MUTATORS,
    SCOPES,
    Setting,
    Step,
    names_of_its_own,
    own_nodes,
    path_of,
    set_by,
    without_dict,
)
from nbcache.plan.identity.uses import Chain
from nbcache.plan.language.scopes import dotted_chain

OWN = ""
"""Stands for the first parameter of a method, as the root of what is set or read."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(slots=True)
class Doing:
    """What a function sets, of these what is not a constant (`told`), the chains of names that it
    reads, and all attributes that it reads of anything."""

    sets: dict[Setting, None] = field(default_factory=dict)  # in order
    told: set[Setting] = field(default_factory=set)
    reads: set[Chain] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)


@lru_cache(maxsize=1024)
def doings_in(text: str) -> Mapping[str, Doing]:
    """Return what the function, or the methods of the class, of a text do, by qualified name."""
    found: dict[str, Doing] = {}
    for node in ast.parse(text).body:
        _define(node, "", found)
    return found


def _define(node: ast.stmt, around: str, found: dict[str, Doing]) -> None:
    if isinstance(node, ast.ClassDef):
        for each in node.body:
            _define(each, f"{around}{node.name}.", found)
    elif isinstance(node, _Function):
        arguments = [*node.args.posonlyargs, *node.args.args]
        own = arguments[0].arg if around and arguments else OWN
        if any(
            isinstance(each, ast.Name) and each.id == "staticmethod" for each in node.decorator_list
        ):
            own = OWN
        # A getter and a setter of one name are one
        _Reading(found.setdefault(around + node.name, Doing()), own).scope(node, frozenset())


@dataclass(slots=True)
class _Reading:
    found: Doing
    own: str

    def scope(self, scope: ast.AST, hidden: frozenset[str]) -> None:
        nodes = list(own_nodes(scope))
        hidden |= names_of_its_own(scope, nodes) - {self.own}
        shared = {name for each in nodes if isinstance(each, ast.Global) for name in each.names}
        others = dict(_others(nodes, hidden))
        fixed = {
            id(target)
            for each in nodes
            if isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant)
            for target in each.targets
        }
        changed: set[int] = set()  # nodes that are read only to be changed
        for node in nodes:  # those around come before those in them
            if isinstance(node, SCOPES):
                self.scope(node, hidden)
                continue
            changed |= {id(each) for one in _changed(node) for each in ast.walk(one)}
            for each in self._set_by(node, shared):
                path = others.get(each.root, (each.root, ()))
                if path[0] not in hidden:
                    root = OWN if path[0] == self.own else path[0]
                    one = replace(each, root=root, steps=(*path[1], *each.steps), inner=True)
                    self.found.sets[one] = None
                    if id(node) not in fixed:
                        self.found.told.add(one)
            if id(node) not in changed and isinstance(node, ast.Attribute | ast.Name):
                self._read(node, hidden, changed)

    def _set_by(self, node: ast.AST, shared: set[str]) -> Iterator[Setting]:
        if isinstance(node, ast.Name) and node.id in shared and not isinstance(node.ctx, ast.Load):
            yield Setting(node.id, ())
        yield from map(without_dict, set_by(node, {}))

    def _read(self, node: ast.Attribute | ast.Name, hidden: frozenset[str], seen: set[int]) -> None:
        if not isinstance(node.ctx, ast.Load):
            return
        if isinstance(node, ast.Attribute):
            self.found.attributes.add(node.attr)
        chain = dotted_chain(node)
        if chain is not None and chain[0] not in hidden:
            seen |= {id(each) for each in ast.walk(node)}
            self.found.attributes.update(chain[1:])
            root = OWN if chain[0] == self.own else chain[0]
            self.found.reads.add((root, *chain[1:]))


def _others(
    nodes: list[ast.AST], hidden: frozenset[str]
) -> Iterator[tuple[str, tuple[str, tuple[Step, ...]]]]:
    """Yield the local names of what is not local: `rules = CONFIG["rules"]`, `for each in ALL`."""
    for node in nodes:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, path = node.targets[0], path_of(node.value)
        elif isinstance(node, ast.For):
            target, path = node.target, path_of(node.iter)
        else:
            continue
        if not isinstance(target, ast.Name) or path is None:
            continue
        if target.id in hidden and path[0] not in hidden:
            yield target.id, path


def _changed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what a node reads only in order to change it."""
    if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
        if dotted_chain(node.value) is not None:
            yield node.value
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func
        is_mutator = isinstance(called, ast.Attribute) and called.attr in MUTATORS
        if is_mutator and dotted_chain(called) is not None:
            yield called
    elif isinstance(node, ast.Assign):
        targets = [dotted_chain(each) for each in node.targets]
        for each in ast.walk(node.value):
            if isinstance(each, ast.Attribute | ast.Name) and dotted_chain(each) in targets:
                yield each
