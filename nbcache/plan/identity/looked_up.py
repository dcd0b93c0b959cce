"""Names of the notebook that code looks up by a text: `globals()[f"rate_{k}"]`, `__main__.rate`.

What stands fixed in such a text narrows down which names it may be; where nothing does, only the
run knows what the code reads, and that is for the caller to refuse, unless the code puts names
there itself. All names may also be handed on: of these the texts in all the code tell some.
`identity.named_in_text` has what can be told without a syntax tree. Decides nothing about values.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

WORDS = frozenset(
    "globals locals vars dir eval exec __globals__ f_globals __main__ user_ns".split()
)
"""Without one of these among its names and texts, code looks nothing up."""

_ATTRIBUTES = frozenset({"__globals__", "f_globals", "user_ns"})
_READS = frozenset({"get", "__getitem__"})
_KEYED = _READS | {"pop", "setdefault", "__contains__"}
_WRITES = frozenset({"update", "__setitem__", "setdefault"})
_EMPTIES = frozenset({"clear", "__delitem__"})
_TAKES_TEXT = frozenset({"eval", "exec", "format", "format_map"})
_FIELD = re.compile(r"\{[^{}]*\}|%\(?\w*\)?[sdr]")
_ANYTHING = r"\w*"
_HOLE = "\uffff"
_NAME = re.compile(rf"[\w{_HOLE}]+")

How = Literal["reads", "whole", "given", "puts"]


@dataclass(frozen=True, slots=True)
class LookUp:
    """A look-up: the pattern that its names match as a whole (None: they may be any), the code.

    `how`: the code "reads" names, has all at hand "whole" (`globals().keys()`), hands all on to
    what may run a text with them ("given"), or "puts" some there.
    """

    pattern: str | None
    text: str
    line: int
    how: How = "reads"

    def matches(self, name: str) -> bool:
        return self.pattern is not None and re.fullmatch(self.pattern, name) is not None


def look_ups(tree: ast.AST, *, at_top: bool) -> Iterator[LookUp]:
    """Yield the look-ups of names by a text, be it written down or put together by the run.

    at_top: the code is a cell, where `locals()` and `vars()` are the notebook's names, too.
    """
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    finder = _Finder(tree, parents)
    for node in ast.walk(tree):
        if finder.is_namespace(node, at_top=at_top):
            yield from finder.of(node)
        elif at_top and finder.is_listing(node):
            yield from finder.of_listing(node)
        elif finder.asks_main(node):
            assert isinstance(node, ast.Call)
            assert isinstance(node.func, ast.Name)
            yield from finder.by_key(node.args[1], node, reads=node.func.id == "getattr")
        elif finder.runs_text(node, at_top=at_top):
            assert isinstance(node, ast.Call)
            yield from finder.in_code(node.args[0], node)


class _Finder:
    """Finds the look-ups of one tree."""

    def __init__(self, tree: ast.AST, parents: dict[ast.AST, ast.AST]) -> None:
        self._tree, self._parents = tree, parents
        self._main = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name == "__main__"
        }
        self._held: set[str] = set()
        self._held = {  # `g = globals()`
            target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and self.is_namespace(node.value, at_top=False)
            for target in node.targets
            if isinstance(target, ast.Name)
        }

    def is_namespace(self, node: ast.AST, *, at_top: bool) -> bool:
        """Say whether an expression is the dict of the notebook's names."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "vars" and node.args:
                return self._is_main(node.args[0])
            if node.args or node.keywords:
                return False
            inner = node.func.id in ("locals", "vars") and at_top and not self._in_function(node)
            return node.func.id == "globals" or inner
        if isinstance(node, ast.Attribute):
            return node.attr in _ATTRIBUTES or (
                node.attr == "__dict__" and self._is_main(node.value)
            )
        if isinstance(node, ast.Name):
            return node.id in self._held and isinstance(node.ctx, ast.Load)
        return False

    def is_listing(self, node: ast.AST) -> bool:
        """Say whether this is `dir()` in a cell, all names of the notebook."""
        return (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "dir"
            and not node.args
            and not self._in_function(node)
        )

    def asks_main(self, node: ast.AST) -> bool:
        """Say whether this is `getattr(__main__, key)` or `hasattr`."""
        return (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "hasattr")
            and len(node.args) > 1
            and self._is_main(node.args[0])
        )

    def runs_text(self, node: ast.AST, *, at_top: bool) -> bool:
        """Say whether this is a call of `eval` or `exec` in the namespace that is there, or in one
        that is made of it: `{**globals(), "a": 1}`."""
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            return False
        if node.func.id not in ("eval", "exec") or not node.args:
            return False
        around = [*node.args[1:2], *(each.value for each in node.keywords if each.arg == "globals")]
        return not around or any(
            self.is_namespace(each, at_top=at_top) for one in around for each in ast.walk(one)
        )

    def _is_main(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id in self._main

    def _in_function(self, node: ast.AST) -> bool:
        inside = self._parents.get(node)
        while inside is not None:
            if isinstance(inside, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                return True
            inside = self._parents.get(inside)
        return False

    def of_listing(self, node: ast.AST) -> Iterator[LookUp]:
        """Yield what is asked of `dir()`: whether names are there."""
        around = self._parents.get(node)
        left = around.left if isinstance(around, ast.Compare) else None
        if isinstance(left, ast.Constant) and isinstance(left.value, str):
            yield _found(re.escape(left.value), node)
        elif isinstance(around, ast.Compare):
            yield from self.by_key(around.left, around, reads=False)

    def of(self, node: ast.AST) -> Iterator[LookUp]:
        """Yield what is looked up in a namespace, by what is done with it."""
        around = self._parents.get(node)
        if isinstance(around, ast.Subscript) and around.value is node:
            if isinstance(around.ctx, ast.Load):
                yield from self.by_key(around.slice, around)
            elif isinstance(around.ctx, ast.Store):
                yield _found(None, around, "puts")
        elif isinstance(around, ast.Attribute):
            call = self._parents.get(around)
            if around.attr in _WRITES:
                yield _found(None, around, "puts")
            if around.attr in _KEYED and isinstance(call, ast.Call) and call.args:
                yield from self.by_key(call.args[0], call, reads=around.attr in _READS)
            elif around.attr not in _WRITES | _KEYED | _EMPTIES and not _is_local(node):
                yield _found(None, around, "whole")
        elif isinstance(around, ast.Compare) and node in around.comparators:
            yield from self.by_key(around.left, around, reads=False)
        elif not self._is_harmless(node, around):
            taker = self._parents.get(around) if isinstance(around, ast.keyword) else around
            how: How = "given" if isinstance(taker, ast.Call | ast.Dict | ast.BinOp) else "whole"
            yield _found(None, taker if isinstance(taker, ast.expr) else node, how)

    def _is_harmless(self, node: ast.AST, around: ast.AST | None) -> bool:
        """Say whether what is done with a namespace as a whole is seen in another way, or is not
        about the notebook's names: those of a cell itself are passed on by `f(**locals())`."""
        if isinstance(around, ast.keyword):
            around = self._parents.get(around)
        if isinstance(around, ast.Assign | ast.NamedExpr | ast.Expr):
            return True
        if _is_local(node):
            return True
        if isinstance(around, ast.BinOp) and isinstance(around.op, ast.Mod):
            return True  # "%(name)s" % globals()
        if isinstance(around, ast.Call):
            called = around.func
            name = called.attr if isinstance(called, ast.Attribute) else ""
            name = called.id if isinstance(called, ast.Name) else name
            is_run = name in ("eval", "exec") and bool(around.args)
            return name in _TAKES_TEXT and not (is_run and self._pattern(around.args[0]) is None)
        return False

    def by_key(self, key: ast.expr, node: ast.expr, *, reads: bool = True) -> Iterator[LookUp]:
        """Yield the look-up of a key; none where it is one of several texts that stand there.

        reads: what is there is read, not only whether there is something.
        """
        pattern = self._pattern(key)
        if pattern is None or not pattern.replace(_ANYTHING, ""):
            if not self._is_one_of_texts(key):
                yield _found(None, node, "reads" if reads else "whole")
        else:
            yield _found(pattern, node)

    def in_code(self, text: ast.expr, node: ast.Call) -> Iterator[LookUp]:
        """Yield the names in a text that `eval` runs; those that nothing of stands there fail."""
        pattern = self._pattern(text)
        if pattern is None or isinstance(text, ast.Constant):
            return
        for word in _NAME.findall(pattern.replace(_ANYTHING, _HOLE)):
            if word.strip(_HOLE) and not word[0].isdigit():
                found = re.escape(word).replace(_HOLE, _ANYTHING)
                yield _found(found, node)

    def _pattern(self, key: ast.expr) -> str | None:
        if isinstance(key, ast.Constant):
            return re.escape(key.value) if isinstance(key.value, str) else None
        if isinstance(key, ast.JoinedStr):
            parts = [
                self._pattern(each) if isinstance(each, ast.Constant) else _ANYTHING
                for each in key.values
            ]
            return "".join(each or "" for each in parts) if any(parts) else None
        if isinstance(key, ast.BinOp) and isinstance(key.op, ast.Add):
            left, right = self._pattern(key.left), self._pattern(key.right)
            return f"{left or _ANYTHING}{right or _ANYTHING}"
        template: ast.expr | None = None
        if isinstance(key, ast.BinOp) and isinstance(key.op, ast.Mod):
            template = key.left
        elif isinstance(key, ast.Call) and isinstance(key.func, ast.Attribute):
            template = key.func.value if key.func.attr == "format" else None
        if isinstance(template, ast.Constant) and isinstance(template.value, str):
            return _ANYTHING.join(map(re.escape, _FIELD.split(template.value)))
        return None

    def _is_one_of_texts(self, key: ast.expr) -> bool:
        """Say whether a key is a name that only ever holds texts that stand in the code."""
        if not isinstance(key, ast.Name):
            return False
        given: list[ast.expr] = []
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Assign) and any(_names(each, key.id) for each in node.targets):
                given.append(node.value)
            elif isinstance(node, ast.For | ast.comprehension) and _names(node.target, key.id):
                members = node.iter
                if not isinstance(members, ast.Tuple | ast.List | ast.Set):
                    return False
                given += members.elts
            elif isinstance(node, ast.arg) and node.arg == key.id:
                return False
        return bool(given) and all(isinstance(each, ast.Constant) for each in given)


def _found(pattern: str | None, node: ast.AST, how: How = "reads") -> LookUp:
    return LookUp(pattern, ast.unparse(node), getattr(node, "lineno", 1), how)


def _is_local(node: ast.AST) -> bool:
    """Say whether this is `locals()` or `vars()`."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return False
    return node.func.id in ("locals", "vars") and not node.args


def _names(target: ast.AST, name: str) -> bool:
    return isinstance(target, ast.Name) and target.id == name
