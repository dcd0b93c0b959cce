"""Which names does a body take from outside? One walk over its syntax tree, by Python's own scopes.

A body is a module: a name that it reads before it has surely bound it may come from the notebook,
and so is free. A loop is taken to run at least once and a `finally` to follow a `try` that did its
work, so that the usual ways of writing do not capture the leftovers of an earlier cell; a name that
is then missing fails the task with a NameError and is never taken from elsewhere in silence. What
functions read is looked up when they run: free, unless the body has surely bound it by its end.
Decides nothing about values. `language.body` turns what is found here into facts and errors.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from nbcache.plan.language.bindings import Bindings, State, either
from nbcache.plan.language.mutations import Mutation, mutator_call
from nbcache.plan.language.scopes import (
    Comprehension,
    Function,
    Scope,
    annotations_of,
    function_scope,
    operator_sign,
    own_nodes,
    pattern_names,
    root_name,
    stored_names,
    type_parameters,
    written,
)


@dataclass(slots=True)
class _Loop:
    breaks: list[State] = field(default_factory=list)
    continues: list[State] = field(default_factory=list)


class NameWalk:
    """The walk. Read the results after `run`."""

    def __init__(self) -> None:
        self.imports: dict[str, None] = {}
        self.stars: dict[str, None] = {}
        self.calls: dict[str, tuple[int, int]] = {}
        self.classes: dict[str, None] = {}
        self.mutations: list[Mutation] = []
        self.uses_await = False
        self._names = Bindings()
        self.free, self.bound = self._names.free, self._names.bound
        self.builtins = self._names.builtins
        self._loops: list[_Loop] = []
        self._annotations: Literal["at once", "later", "never"] = (
            "at once" if sys.version_info < (3, 14) else "later"
        )
        self._last: ast.stmt | None = None
        self._ended: set[str] = set()

    def run(self, tree: ast.Module) -> None:
        """Walk a whole body."""
        for statement in tree.body:
            if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
                asked = {each.name for each in statement.names}
                self._annotations = "never" if "annotations" in asked else self._annotations
        self._last = tree.body[-1] if tree.body else None
        self._block(tree.body)
        self._ended = self._names.bound_at_end()
        for name in self._names.deferred:
            if name not in self._ended:
                self.free[name] = None
        self.mutations = [each for each in self.mutations if self._is_free(each)]

    def _is_free(self, mutation: Mutation) -> bool:
        return not mutation.deferred or mutation.name not in self._ended

    # Statements

    def _block(self, statements: Iterable[ast.stmt]) -> None:
        for statement in statements:
            method = getattr(self, f"_do_{type(statement).__name__.lower()}", None)
            if method is None:
                self._visit_children(statement)
            else:
                method(statement)

    def _do_expr(self, node: ast.Expr) -> None:
        self._expr(node.value)
        found = mutator_call(node.value, alone=True, last=node is self._last)
        self._method_call(found, node.value)

    def _do_assign(self, node: ast.Assign) -> None:
        self._expr(node.value)
        for target in node.targets:
            self._target(target)

    def _do_augassign(self, node: ast.AugAssign) -> None:
        target = node.target
        if isinstance(target, ast.Name):
            place = self._names.read(target.id)
            if place == "deferred":
                self._mutated(target.id, f"{target.id} {operator_sign(node.op)}= ...", node, place)
            self._expr(node.value)
            self._names.bind(target.id)
            return
        self._expr(node.value)
        self._target(target, f"{operator_sign(node.op)}=")

    def _do_annassign(self, node: ast.AnnAssign) -> None:
        if self._names.scopes[-1].kind != "function":
            self._annotation(node.annotation)
        if node.value is not None:
            self._expr(node.value)
            self._target(node.target)
        elif not isinstance(node.target, ast.Name):
            self._expr(node.target)

    def _do_delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self._names.read(target.id)
                self._names.bind(target.id)  # gone for good: what is read later is not from outside
            else:
                self._target(target, "del")

    def _target(self, target: ast.expr, how: str = "=") -> None:
        if isinstance(target, ast.Name):
            self._names.bind(target.id)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for each in target.elts:
                self._target(each, how)
        elif isinstance(target, ast.Starred):
            self._target(target.value, how)
        elif isinstance(target, (ast.Attribute, ast.Subscript)):
            root = root_name(target)
            self._expr(target.value)
            if isinstance(target, ast.Subscript):
                self._expr(target.slice)
            if root is not None:
                place = self._names.place(root)
                ending = f".{target.attr}" if isinstance(target, ast.Attribute) else "[...]"
                said = written(target.value) + ending
                self._mutated(
                    root, f"del {said}" if how == "del" else f"{said} {how} ...", target, place
                )

    def _mutated(self, name: str, how: str, node: ast.AST, place: str) -> None:
        if place in ("free", "deferred"):
            line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
            self.mutations.append(Mutation(name, how, line, column, place == "deferred"))

    def _do_import(self, node: ast.Import) -> None:
        for each in node.names:
            self.imports[each.name] = None
            self._names.bind(each.asname or each.name.partition(".")[0])

    def _do_importfrom(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        self.imports[module] = None
        for each in node.names:
            if each.name == "*":
                self.stars[module] = None
            else:
                self._names.bind(each.asname or each.name)

    def _do_if(self, node: ast.If) -> None:
        self._expr(node.test)
        before = self._names.state
        self._block(node.body)
        after = self._names.state
        self._names.state = before
        self._block(node.orelse)
        self._names.state = either([after, self._names.state])

    def _do_for(self, node: ast.For | ast.AsyncFor) -> None:
        self._expr(node.iter)
        self._loop(node, lambda: self._target(node.target), endless=False)

    def _do_asyncfor(self, node: ast.AsyncFor) -> None:
        self._awaits()
        self._do_for(node)

    def _do_while(self, node: ast.While) -> None:
        endless = isinstance(node.test, ast.Constant) and bool(node.test.value)
        self._loop(node, lambda: self._expr(node.test), endless=endless)

    def _loop(
        self, node: ast.For | ast.AsyncFor | ast.While, head: Callable[[], None], endless: bool
    ) -> None:
        loop = _Loop()
        self._loops.append(loop)
        head()
        begun = self._names.state
        self._block(node.body)
        self._loops.pop()
        if endless:
            self._names.state = None
        else:
            # where every round leaves, what follows is reached when there is no round
            self._names.state = either([self._names.state, *loop.continues])
            if self._names.state is None and not loop.breaks:
                self._names.state = begun
        self._block(node.orelse)
        self._names.state = either([self._names.state, *loop.breaks])

    def _do_break(self, node: ast.Break) -> None:
        if self._loops:
            self._loops[-1].breaks.append(self._names.state)
        self._names.state = None

    def _do_continue(self, node: ast.Continue) -> None:
        if self._loops:
            self._loops[-1].continues.append(self._names.state)
        self._names.state = None

    def _do_raise(self, node: ast.Raise) -> None:
        self._visit_children(node)
        self._names.state = None

    def _do_return(self, node: ast.Return) -> None:
        self._visit_children(node)
        self._names.state = None

    def _do_try(self, node: ast.Try) -> None:
        before = self._names.state
        self._block(node.body)
        self._block(node.orelse)
        ends = [self._names.state]
        for handler in node.handlers:
            self._names.state = before
            if handler.type is not None:
                self._expr(handler.type)
            if handler.name:
                self._names.bind(handler.name)
            self._block(handler.body)
            ends.append(self._names.state)
        self._names.state = either(ends)
        if self._names.state is None and node.finalbody:
            self._names.state = ends[0] if ends[0] is not None else before
            self._block(node.finalbody)
            self._names.state = None
        else:
            self._block(node.finalbody)

    def _do_trystar(self, node: ast.Try) -> None:
        self._do_try(node)

    def _do_with(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self._expr(item.context_expr)
            if item.optional_vars is not None:
                self._target(item.optional_vars)
        self._block(node.body)

    def _do_asyncwith(self, node: ast.AsyncWith) -> None:
        self._awaits()
        self._do_with(node)

    def _do_match(self, node: ast.Match) -> None:
        self._expr(node.subject)
        before, ends, exhaustive = self._names.state, [], False
        for case in node.cases:
            self._names.state = before
            self._pattern(case.pattern)
            if case.guard is not None:
                self._expr(case.guard)
            elif isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None:
                exhaustive = True
            self._block(case.body)
            ends.append(self._names.state)
        self._names.state = either(ends if exhaustive else [*ends, before])

    def _pattern(self, pattern: ast.pattern) -> None:
        for name in pattern_names(pattern):
            self._names.bind(name)
        for node in ast.walk(pattern):
            if isinstance(node, ast.MatchValue):
                self._expr(node.value)
            elif isinstance(node, ast.MatchClass):
                self._expr(node.cls)
            elif isinstance(node, ast.MatchMapping):
                for key in node.keys:
                    self._expr(key)

    def _do_global(self, node: ast.Global) -> None:
        pass

    def _do_nonlocal(self, node: ast.Nonlocal) -> None:
        pass

    def _do_typealias(self, node: ast.AST) -> None:
        parameters = type_parameters(node)
        self._deferred_scope(frozenset(parameters), [node.value])  # type: ignore[attr-defined]
        self._names.bind(node.name.id)  # type: ignore[attr-defined]

    def _do_functiondef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self._expr(decorator)
        self._defaults(node.args)
        parameters = Scope("parameters", frozenset(type_parameters(node)))
        self._names.scopes.append(parameters)
        for annotation in annotations_of(node):
            self._annotation(annotation)
        self._function(node)
        self._names.scopes.pop()
        self._names.bind(node.name)

    def _do_asyncfunctiondef(self, node: ast.AsyncFunctionDef) -> None:
        self._do_functiondef(node)

    def _defaults(self, arguments: ast.arguments) -> None:
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is not None:
                self._expr(default)

    def _function(self, node: Function) -> None:
        """Walk what runs later: reads are looked up at the end, bindings stay inside."""
        scope = function_scope(node)
        saved, loops, self._loops = self._names.state, self._loops, []
        self._names.scopes.append(scope)
        if isinstance(node, ast.Lambda):
            self._expr(node.body)
        else:
            self._block(node.body)
        self._names.scopes.pop()
        self._names.state, self._loops = saved, loops

    def _deferred_scope(self, names: frozenset[str], nodes: Iterable[ast.expr]) -> None:
        saved = self._names.state
        self._names.scopes.append(Scope("function", names))
        for node in nodes:
            self._expr(node)
        self._names.scopes.pop()
        self._names.state = saved

    def _annotation(self, node: ast.expr) -> None:
        """Annotations are read at once before Python 3.14, later when somebody asks, and never
        under `from __future__ import annotations`."""
        if self._annotations == "at once":
            self._expr(node)
        elif self._annotations == "later":
            self._deferred_scope(frozenset(), [node])

    def _do_classdef(self, node: ast.ClassDef) -> None:
        if len(self._names.scopes) == 1:
            self.classes[node.name] = None
        for decorator in node.decorator_list:
            self._expr(decorator)
        self._names.scopes.append(Scope("parameters", frozenset(type_parameters(node))))
        for each in (*node.bases, *(keyword.value for keyword in node.keywords)):
            self._expr(each)
        depth = len(self._names.scopes)
        before = self._names.state
        declared = {
            name for each in own_nodes(node) if isinstance(each, ast.Global) for name in each.names
        }
        self._names.scopes.append(Scope("class", globals=frozenset(declared)))
        self._block(node.body)
        self._names.scopes.pop()
        self._names.scopes.pop()
        if before is not None:
            after = self._names.state or before
            self._names.state = frozenset(each for each in after if each[0] != depth)
        self._names.bind(node.name)

    # Expressions

    def _expr(self, node: ast.AST) -> None:
        method = getattr(self, f"_see_{type(node).__name__.lower()}", None)
        if method is None:
            self._visit_children(node)
        else:
            method(node)

    def _visit_children(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self._block([child])
            else:
                self._expr(child)

    def _see_name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._names.read(node.id)
        else:
            self._target(node)

    def _see_namedexpr(self, node: ast.NamedExpr) -> None:
        self._expr(node.value)
        self._target(node.target)

    def _see_call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and self._names.place(node.func.id) in (
            "free",
            "deferred",
        ):
            self.calls.setdefault(node.func.id, (node.lineno, node.col_offset))
        self._visit_children(node)
        self._method_call(mutator_call(node, alone=False), node)

    def _method_call(self, found: tuple[str, str] | None, node: ast.expr) -> None:
        if found is not None:
            root, how = found
            self._mutated(root, how, node, self._names.place(root))

    def _see_lambda(self, node: ast.Lambda) -> None:
        self._defaults(node.args)
        self._function(node)

    def _see_boolop(self, node: ast.BoolOp) -> None:
        self._expr(node.values[0])
        for each in node.values[1:]:
            before = self._names.state
            self._expr(each)
            self._names.state = either([before, self._names.state])

    def _see_ifexp(self, node: ast.IfExp) -> None:
        self._expr(node.test)
        before = self._names.state
        self._expr(node.body)
        after = self._names.state
        self._names.state = before
        self._expr(node.orelse)
        self._names.state = either([after, self._names.state])

    def _see_await(self, node: ast.Await) -> None:
        self._awaits()
        self._visit_children(node)

    def _awaits(self) -> None:
        if not self._names.in_function():
            self.uses_await = True

    def _see_listcomp(self, node: Comprehension) -> None:
        first = node.generators[0]
        self._expr(first.iter)
        targets = {name for each in node.generators for name in stored_names(each.target)}
        self._names.scopes.append(Scope("comprehension", frozenset(targets)))
        for generator in node.generators:
            if generator.is_async:
                self._awaits()
            if generator is not first:
                self._expr(generator.iter)
            if not isinstance(generator.target, ast.Name):
                self._comprehension_target(generator.target)
            for condition in generator.ifs:
                self._expr(condition)
        if isinstance(node, ast.DictComp):
            self._expr(node.key)
            self._expr(node.value)
        else:
            self._expr(node.elt)
        self._names.scopes.pop()

    def _comprehension_target(self, target: ast.expr) -> None:
        for node in ast.walk(target):
            if isinstance(node, (ast.Attribute, ast.Subscript)):
                self._target(node)

    _see_setcomp = _see_dictcomp = _see_generatorexp = _see_listcomp
