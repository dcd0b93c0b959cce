"""Find in the text of a cell what it sets in modules: `module.K = 99`, `pandas.options.x.y = 3`.

A worker imports the module as it is on disk, so what a notebook set there has to be named, counted
and set there, too. Best effort, by the text: assignments and deletions, `setattr`, methods that
change a container, `mock.patch`, calls of functions that are known to set something. Runs nothing;
whether a name means a module, and where a call puts what it sets, is for the caller to say.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

Step = str | tuple[object, ...]
"""One step down from a module: an attribute by its name, an item by its key in a tuple of one, or
CALL, of a function that only gives what there is."""

CALL: tuple[object, ...] = ()

Aliases = frozenset[tuple[str, str]]
"""Names of notebooks, with those by which functions that set something are known: `from numpy
import seterr as quiet`."""

CALLED = "{}()"
"""How a setting says that it is a call of a function at its place."""

_ONLY_GIVES = frozenset({"getcontext", "get_context"})  # as decimal's

_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
# What has names of its own. Those of a class are not seen by the functions in it.
SCOPES = _FUNCTIONS | ast.ClassDef | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

MUTATORS = frozenset("append extend insert remove pop clear update setdefault add discard".split())
OPTIONS = frozenset({"set_option", "reset_option"})
"""Functions of pandas; their arguments name the options."""

ACCESSORS = {
    "register_dataframe_accessor": "DataFrame",  # of pandas, and of polars below
    "register_series_accessor": "Series",
    "register_index_accessor": "Index",
    "register_dataset_accessor": "Dataset",  # of xarray
    "register_dataarray_accessor": "DataArray",
    "register_dataframe_namespace": "DataFrame",
    "register_lazyframe_namespace": "LazyFrame",
    "register_series_namespace": "Series",
    "register_expr_namespace": "Expr",
}
"""Functions of table libraries -> the class to which they give an attribute of a given name."""

# Calls that change what a library computes, which nothing in the text names one by one. Those
# that change only how fast it does say nothing of results.
_SETTERS = frozenset(
    "seterr basicConfig simplefilter filterwarnings setlocale setcontext setdefaulttimeout "
    "set_default_dtype set_default_device set_default_tensor_type set_float32_matmul_precision "
    "use_deterministic_algorithms set_config set_options set_floatx set_global_policy "
    "set_printoptions".split()
)
STYLERS = frozenset(
    "use rc rcdefaults set set_theme set_style set_palette set_context set_cmap".split()
)
"""Functions of matplotlib and seaborn that set the style of plots."""

_SETS_CONFIG = re.compile("Config$|set_|load|restore_defaults")

_KNOWN = _SETTERS | STYLERS | OPTIONS | ACCESSORS.keys() | {"style"}  # by their names alone


@dataclass(frozen=True, slots=True)
class Setting:
    """A place in a module that a cell sets: steps down from a name, or from a full module name.

    `called` is how the text sets there something that it does not name, with `{}` for the place:
    CALLED of `numpy.seterr`, "setattr({}, ...)". Of a call, `given` are the texts and numbers among
    its arguments, with None for others. What a cell deleted (`gone`) may be nowhere. `inner`: it
    stands in a function.
    """

    root: str
    steps: tuple[Step, ...]
    called: str = ""
    gone: bool = False
    given: tuple[object, ...] = ()
    inner: bool = False


@dataclass(frozen=True, slots=True)
class CellSettings:
    """What the text of a cell sets in what it did not make, and what its imports bind.

    `imported` maps names to what they mean in full (`mean` -> `numpy.mean`), `modules` are those
    that `import a.b` brings, which binds `a` alone, `runs` the scripts that `%run` executes.
    """

    settings: tuple[Setting, ...] = ()
    imported: tuple[tuple[str, str], ...] = ()
    modules: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


@lru_cache(maxsize=2048)
def settings_in(text: str, aliases: Aliases = frozenset()) -> CellSettings:
    """Return what the text of a cell (as Python, without magics) or of a script says; `aliases` are
    those of all cells."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return CellSettings()
    nodes = list(ast.walk(tree))
    return CellSettings(
        tuple(dict.fromkeys(_settings(tree, dict(aliases)))),
        tuple(imported_names(nodes).items()),
        tuple(
            alias.name
            for node in nodes
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.asname is None and "." in alias.name
        ),
        tuple(found for node in nodes if (found := _script_run(node))),
    )


def aliases_of(imported: Mapping[str, str]) -> Aliases:
    """Return what imported names stand for of what is known here by another name."""
    pairs = ((name, full.rpartition(".")[2]) for name, full in imported.items())
    return frozenset((name, last) for name, last in pairs if name != last and last in _KNOWN)


def imported_names(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """Return the names that imports among some nodes bind, with what they are called in full."""
    found: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                full = alias.name if alias.asname else alias.name.partition(".")[0]
                found[alias.asname or full] = full
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return found


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes in a scope, of an inner one the head alone."""
    waiting = list(ast.iter_child_nodes(scope))
    for node in waiting:  # grows meanwhile
        yield node
        if not isinstance(node, SCOPES):
            waiting += ast.iter_child_nodes(node)


def names_of_its_own(scope: ast.AST, nodes: Iterable[ast.AST]) -> set[str]:
    """Return the names that a function's parameters and assignments bind, and for itself alone."""
    if not isinstance(scope, _FUNCTIONS):
        return set()
    bound: set[str] = set()
    shared: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            shared.update(node.names)
    return bound - shared


def _settings(
    scope: ast.AST, aliases: Mapping[str, str], hidden: frozenset[str] = frozenset()
) -> Iterator[Setting]:
    nodes = list(own_nodes(scope))
    hidden |= names_of_its_own(scope, nodes)
    for node in nodes:
        if isinstance(node, SCOPES):
            yield from _settings(node, aliases, hidden)
            continue
        for found in _set_by(node, aliases):
            if found.root not in hidden:
                yield replace(_without_dict(found), inner=isinstance(scope, _FUNCTIONS))


def _without_dict(found: Setting) -> Setting:
    """Return a setting with `m.K` for `vars(m)["K"]`; one in all of `vars(m)` is not named."""
    steps: list[Step] = []
    for each in found.steps:
        if steps and steps[-1] == "__dict__" and isinstance(each, tuple) and each != CALL:
            steps.pop()
            each = each[0] if isinstance(each[0], str) else each
        steps.append(each)
    if steps and steps[-1] == "__dict__":
        return Setting(found.root, tuple(steps[:-1]), "vars({})[...]")
    return replace(found, steps=tuple(steps))


def _set_by(node: ast.AST, aliases: Mapping[str, str]) -> Iterator[Setting]:
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
        yield from _place(node)
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Del):
        yield from _place(node, gone=True)
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Del):
        yield from _place(node.value)  # what is left is what counts
    elif isinstance(node, ast.Call):
        yield from _set_by_call(node, aliases)


def _set_by_call(node: ast.Call, aliases: Mapping[str, str]) -> Iterator[Setting]:
    called, arguments = node.func, node.args
    first = arguments[0] if arguments else None
    if isinstance(called, ast.Name) and called.id in ("setattr", "delattr") and len(arguments) > 1:
        name, gone = _constant(arguments[1]), called.id == "delattr"
        how = "" if isinstance(name, str) else called.id + "({}, ...)"
        yield from _place(first, name, called=how, gone=gone)
        return
    path = _path(called)
    if path is None:
        return
    root, steps = path
    last = steps[-1] if steps else aliases.get(root, root)
    if last == "patch" or "patch" in steps[-2:]:
        yield from _patched(first, arguments, last)
    elif steps and last in MUTATORS:  # an object of a module may bear a name of its own
        keys = _keys_of_update(node) if last == "update" else None
        inner = Setting(root, steps[:-1])
        yield from [inner] if keys is None else [Setting(root, (*steps[:-1], (k,))) for k in keys]
    elif last in OPTIONS | ACCESSORS.keys():
        yield Setting(root, steps, called=CALLED, given=_given(node))
    elif _sets(node, root, steps, last, aliases):
        yield Setting(root, steps, called=CALLED)


def _sets(
    node: ast.Call, root: str, steps: tuple[Step, ...], last: Step, aliases: Mapping[str, str]
) -> bool:
    if "Config" in (root, *steps):  # of polars
        return _SETS_CONFIG.match(str(last)) is not None
    return last in _SETTERS | STYLERS and not _only_shows(node, last, aliases)


def _given(node: ast.Call) -> tuple[object, ...]:
    """Return the names that `set_option("a", 1, "b", 2)`, `({"a": 1})` or `register(name="a")` is
    given, with None for those that do not stand there."""
    arguments = [*node.args, *(each.value for each in node.keywords)]
    if len(arguments) == 1 and isinstance(arguments[0], ast.Dict):
        return tuple(map(_constant, arguments[0].keys))
    return tuple(map(_constant, arguments[::2]))


def _only_shows(node: ast.Call, last: Step, aliases: Mapping[str, str]) -> bool:
    """Say whether a call is about what is shown: xarray's `set_options(display_width=99)`, or which
    library draws (`matplotlib.use`, which is no `style.use`). `set(...)` makes a set."""
    if isinstance(node.func, ast.Name):
        return last == "set"  # what `use` means is for the caller to say
    if last == "use":
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
        return aliases.get(name, name) != "style"
    return last == "set_options" and all(
        (each.arg or "").startswith("display") for each in node.keywords
    )


def _patched(first: ast.AST | None, arguments: list[ast.expr], last: Step) -> Iterator[Setting]:
    """What `mock.patch("a.b", ...)`, `patch.object(a, "b", ...)` or `patch.dict(a.b, ...)` sets."""
    said = _constant(first)
    if isinstance(said, str):
        module, *steps = said.split(".")
        yield Setting(module, tuple(steps))
    elif last == "object" and len(arguments) > 1:
        yield from _place(first, _constant(arguments[1]))
    elif last == "dict":
        yield from _place(first)


def _place(
    node: ast.AST | None, attribute: object = None, *, called: str = "", gone: bool = False
) -> Iterator[Setting]:
    path = _path(node)
    if path is not None:
        last = (attribute,) if isinstance(attribute, str) else ()
        yield Setting(path[0], (*path[1], *last), called, gone)


def _path(node: ast.AST | None) -> tuple[str, tuple[Step, ...]] | None:
    """Return the name at the root of `a.b["c"]` and the steps from it; the last of them is left
    out where it is an item by a key that only the run knows. None: something else."""
    steps: list[Step] = []
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        if isinstance(node, ast.Attribute):
            steps.append(node.attr)
        elif isinstance(node, ast.Subscript):
            key = _constant(node.slice)
            steps = [] if key is None else [*steps, (key,)]
        elif isinstance(node.func, ast.Name) and node.func.id == "vars" and len(node.args) == 1:
            steps.append("__dict__")
        elif _called_name(node) in _ONLY_GIVES and not node.args:
            steps.append(CALL)
        else:
            return None
        if isinstance(node, ast.Call):
            node = node.args[0] if node.args else node.func
        else:
            node = node.value
    return (node.id, tuple(reversed(steps))) if isinstance(node, ast.Name) else None


def _called_name(node: ast.Call) -> str:
    called = node.func
    return called.attr if isinstance(called, ast.Attribute) else ""


def _keys_of_update(node: ast.Call) -> list[object] | None:
    """Return the keys that `x.update({"a": 1}, b=2)` sets; None: they do not stand there."""
    keys: list[object] = [each.arg for each in node.keywords]
    for each in node.args:
        if not isinstance(each, ast.Dict):
            return None
        keys += [None if key is None else _constant(key) for key in each.keys]
    return None if None in keys else keys


def _constant(node: ast.AST | None) -> object:
    """Return the text or number that stands there, or None."""
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, str | int | float | bytes) else None


def _script_run(node: ast.AST) -> str | None:
    """Return the file of `get_ipython().run_line_magic("run", "script.py 1")`, or None."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return None
    if node.func.attr != "run_line_magic" or len(node.args) != 2:
        return None
    magic, line = map(_constant, node.args)
    if magic != "run" or not isinstance(line, str):
        return None
    return next((each for each in line.split() if each.endswith((".py", ".ipy", ".ipynb"))), None)
