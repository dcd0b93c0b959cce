"""Tell what executing a statement of a module may do to other objects: register, patch, fill.

A definition that nobody reaches can still matter: a decorator puts it into a table, its base class
collects its subclasses, its class body appends to a list. Judged by syntax alone; whose a name is
(the user's, or an installed package's) is for `identity.module_reach` to say.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from nbcache.plan.language.scopes import dotted_chain, root_name

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

# Decorators that only change what they decorate, unless the user wrote one of that name. Any other
# may register it somewhere.
_QUIET = frozenset(
    "cache lru_cache wraps dataclass property staticmethod classmethod cached_property njit jit "
    "contextmanager asynccontextmanager overload final total_ordering singledispatch override "
    "singledispatchmethod runtime_checkable abstractmethod vectorize define frozen attrs unique "
    "field_validator model_validator validator field_serializer model_serializer "
    "computed_field".split()
)


@dataclass(frozen=True, slots=True)
class Effects:
    """What a top-level statement does to other objects when its module is imported.

    `always`: something is changed for certain, or it cannot be told. `roots` are names that are
    called or decorate; they change something only if they are the user's own. `targets` are the
    names in statements that are calls, of decorators, bases and assignments into objects, through
    which another module is changed; `inside` are those of a definition, when it is called. `bases`
    are the base classes, as chains of names. `called` are the chains of what is called otherwise:
    whether that changes anything depends on what it is. `hooks` says that subclasses of this class
    are told to it or to its metaclass.
    """

    always: bool = False
    roots: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()
    inside: frozenset[str] = frozenset()
    bases: tuple[tuple[str, ...], ...] = ()
    called: frozenset[tuple[str, ...]] = frozenset()
    is_class: bool = False
    hooks: bool = False


NO_EFFECTS = Effects()


@dataclass(slots=True)
class _Found:
    always: bool = False
    roots: set[str] = field(default_factory=set)
    targets: set[str] = field(default_factory=set)
    bases: list[tuple[str, ...]] = field(default_factory=list)
    called: set[tuple[str, ...]] = field(default_factory=set)


def effects_of(node: ast.stmt) -> Effects:
    """Return what a statement at the top level of a module does beside binding its names."""
    found = _Found()
    if isinstance(node, Definition):
        for decorator in node.decorator_list:
            _decorator(decorator, found)
        found.always |= node.name in ("__getattr__", "__init_subclass__")
    hooks = False
    if isinstance(node, ast.ClassDef):
        hooks = bool(node.keywords) or _has_hook(node)
        found.always |= bool(node.keywords)
        _class(node, found)
    else:
        for each in _executed(node):
            _effect(each, found, frozenset())
    return Effects(
        found.always, frozenset(found.roots), frozenset(found.targets), _inside(node),
        tuple(found.bases), frozenset(found.called), isinstance(node, ast.ClassDef), hooks,
    )  # fmt: skip


def _inside(node: ast.stmt) -> frozenset[str]:
    """Return the targets of a function when it is called, of a class those of its methods."""
    found = _Found()
    if isinstance(node, Definition):
        for statement in node.body:
            if isinstance(node, ast.ClassDef):
                found.targets |= _inside(statement)
                continue
            for each in _executed(statement):
                _effect(each, found, frozenset())
    return frozenset(found.targets)


def _decorator(node: ast.expr, found: _Found) -> None:
    root = root_name(node.func if isinstance(node, ast.Call) else node)
    if _last_name(node) not in _QUIET:
        found.always = True
    if root is not None:
        found.roots.add(root)
        found.targets.add(root)


def _class(node: ast.ClassDef, found: _Found) -> None:
    own = frozenset(_names_bound_in(node))
    for base in node.bases:
        inner = base.value if isinstance(base, ast.Subscript) else base
        chain = dotted_chain(inner)
        if chain is not None:
            found.bases.append(tuple(chain))
            found.targets.add(chain[0])
        for each in _executed(base):
            _effect(each, found, frozenset())
    for statement in node.body:
        if isinstance(statement, ast.ClassDef):
            for each in statement.decorator_list:
                _decorator(each, found)
            found.always |= bool(statement.keywords)
            _class(statement, found)
            continue
        for each in _executed(statement):
            _effect(each, found, own)
        for decorator in getattr(statement, "decorator_list", ()):
            root = root_name(decorator.func if isinstance(decorator, ast.Call) else decorator)
            if root is not None and root not in own:
                found.roots.add(root)
                found.targets.add(root)


def _effect(node: ast.AST, found: _Found, own: frozenset[str]) -> None:
    """Note what one executed node does; `own` are names of the class around it."""
    if isinstance(node, ast.Call):
        chain = _chain_of_call(node)
        if chain and chain[0] not in own:
            found.roots.add(chain[0])
            found.called.add(chain)
    elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        found.targets.update({node.target.id} - own)  # in place, if it can be
    elif isinstance(node, ast.Global):
        found.targets.update(node.names)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        # Also what is handed over: setattr(other.Thing, "name", 5)
        named = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        found.targets.update(named - own)
    elif isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
        root = root_name(node)
        if root not in own:
            found.always = True
            found.targets.update([root] if root is not None else ())


def _chain_of_call(node: ast.expr) -> tuple[str, ...]:
    """Return the names up to the first call or subscript, ("m", "f") for m.f(1).g(2)."""
    names: list[str] = []
    while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        names = [node.attr, *names] if isinstance(node, ast.Attribute) else []
        node = node.func if isinstance(node, ast.Call) else node.value
    return (node.id, *names) if isinstance(node, ast.Name) else ()


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run when a statement does: of functions their heads alone."""
    stack: list[ast.AST] = [node]
    while stack:
        each = stack.pop()
        yield each
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            arguments = each.args
            stack += [one for one in (*arguments.defaults, *arguments.kw_defaults) if one]
            stack += [
                part for one in getattr(each, "decorator_list", ()) for part in _arguments(one)
            ]
        else:
            stack.extend(ast.iter_child_nodes(each))


def _arguments(decorator: ast.expr) -> list[ast.AST]:
    if not isinstance(decorator, ast.Call):
        return []
    return [*decorator.args, *(each.value for each in decorator.keywords)]


def _names_bound_in(node: ast.ClassDef) -> Iterator[str]:
    for each in node.body:
        if isinstance(each, Definition):
            yield each.name
        for inner in ast.walk(each) if not isinstance(each, Definition) else ():
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                yield inner.id


def _has_hook(node: ast.ClassDef) -> bool:
    return "__init_subclass__" in set(_names_bound_in(node))


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
