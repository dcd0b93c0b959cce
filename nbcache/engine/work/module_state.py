"""Find out whether a task changed the globals of a module, which cannot be undone.

Local modules are compared with what they were when their import had ended; for installed ones the
body's own text is read for assignments into them. Either way the worker is replaced afterwards.
"""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import pickle
import sys
import types
import zipimport
from collections.abc import Callable, Collection, Mapping
from typing import Any

from xxhash import xxh3_64_intdigest

from nbcache.engine.work.import_reads import ImportReads
from nbcache.engine.work.watch import Watcher
from nbcache.model.digest import Digest, identity_digest

# What engine.isolation puts back by itself.
_RESTORED = frozenset({"matplotlib", "pandas", "numpy", "decimal", "logging", "os", "random"})


_CACHED = type(functools.lru_cache(lambda: None))


class LocalModules:
    """Tells whether a task changed the globals of a local module (one from the user's files).

    A loaded module stays loaded, so that classes keep their identity; its data is compared with
    what it was when its import had ended, and the worker is replaced when it differs. Modules that
    the import of another one changes (a registry) are taken as changed by the import.
    """

    def __init__(self, is_local: Callable[[str], bool], watcher: Watcher) -> None:
        self._is_local, self._watcher = is_local, watcher
        self._reads: list[ImportReads] = []
        self._digests: dict[str, Digest] = {}
        self._known: dict[str, tuple[types.ModuleType, bytes]] = {}
        self._depth = 0
        self._dirty: set[str] = set()
        self._new: list[types.ModuleType] = []

    def install(self) -> None:
        """Wrap the import of source files for the life of the process."""
        loaders: tuple[Any, ...] = (
            importlib.machinery.SourceFileLoader,
            zipimport.zipimporter,
        )
        for loader in loaders:
            loader.exec_module = self._watched(loader.exec_module)

    def _watched(self, original: Callable[[Any, types.ModuleType], None]) -> Callable[..., None]:
        def exec_module(this: Any, module: types.ModuleType) -> None:
            file = getattr(module, "__file__", None) or ""
            if not self._is_local(file):
                original(this, module)
                return
            self._enter()
            try:
                self._execute(this, module, file)
                self._new.append(module)
            finally:
                self._leave()
            if sys.modules.get(module.__name__) is not module:
                self._watcher.read_file(file)  # made by hand from a file, and known by no name

        return exec_module

    def _execute(self, loader: Any, module: types.ModuleType, file: str) -> None:
        # Not from the .pyc file: it is known by the second and the size of its source, and an edit
        # may keep both.
        if isinstance(loader, zipimport.zipimporter):
            data = (loader.get_source(module.__name__) or "").encode()
            code = compile(data, file, "exec", dont_inherit=True)
        else:
            data = loader.get_data(loader.path)
            code = loader.source_to_code(data, loader.path)
        self._digests[module.__name__] = identity_digest(data)
        exec(code, module.__dict__)

    def digest(self, name: str) -> Digest | None:
        """Return the digest of the source that a loaded module was made of."""
        return self._digests.get(name)

    def prepare(self) -> None:
        """Begin an attempt: modules as their import would make them now, their caches empty.

        Where a file or variable that an import read has changed, all local modules are dropped
        and the attempt imports them anew; nothing else in a worker holds on to their objects.
        """
        if not all(each.hold(self._watcher.state) for each in self._reads):
            for name in self.loaded:
                del sys.modules[name]
            self._known, self._reads, self._dirty = {}, [], set()
        for module, _ in self._known.values():
            _empty_caches(module)

    def reads_of(self, names: Collection[str]) -> list[ImportReads]:
        """Return what the imports of these modules read."""
        return [each for each in self._reads if not each.modules.isdisjoint(names)]

    @property
    def loaded(self) -> dict[str, str]:
        """Names of the local modules that are loaded, with the files they came from."""
        if not self._known:
            return {}
        return {
            name: module.__file__ or ""
            for name, (module, _) in self._known.items()
            if sys.modules.get(name) is module
        }

    def changed(self) -> bool:
        """Say whether any local module's data differs from what it was."""
        return bool(self._known) and any(
            _state(module) != state for module, state in self._known.values()
        )

    def _enter(self) -> None:
        if self._depth == 0:
            self._dirty = {
                name for name, (module, state) in self._known.items() if _state(module) != state
            }
            self._watcher.begin_import()
        self._depth += 1

    def _leave(self) -> None:
        self._depth -= 1
        if self._depth:
            return
        for module, _ in list(self._known.values()):
            if module.__name__ not in self._dirty:
                self._known[module.__name__] = (module, _state(module))
        for module in self._new:
            self._known[module.__name__] = (module, _state(module))
        found = self._watcher.end_import([each.__name__ for each in self._new])
        if found is not None:
            self._reads.append(found)
        self._new = []


def _empty_caches(module: types.ModuleType) -> None:
    """Empty the caches of functools: what they hold was read by an earlier task, unseen here."""
    for value in list(vars(module).values()):
        members = list(vars(value).values()) if _is_own_class(value, module) else [value]
        for each in members:
            function = getattr(each, "__func__", each) if value is not each else each
            if type(function) is _CACHED:
                function.cache_clear()


def _is_own_class(value: object, module: types.ModuleType) -> bool:
    return isinstance(value, type) and value.__module__ == module.__name__


def _state(module: types.ModuleType) -> bytes:
    """Return bytes that differ when the module's names or data differ (identity for code)."""
    parts: list[object] = []
    for name, value in list(vars(module).items()):
        if name.startswith("__") and name != "__all__":
            continue
        parts.append((name, _value_state(value, module.__name__)))
    return repr(parts).encode("utf-8", "surrogatepass")


def _value_state(value: object, owner: str) -> object:
    if isinstance(value, type) and value.__module__ == owner:
        data = {
            name: _value_state(member, owner)
            for name, member in vars(value).items()
            if not name.startswith("__") and not isinstance(member, type)
        }
        return (id(value), data)
    if isinstance(value, types.FunctionType):
        cells = [_content(cell) for cell in value.__closure__ or ()]
        held = (value.__defaults__, value.__kwdefaults__, sorted(vars(value).items()), cells)
        return (id(value), _data_state(held) if any(held) else None)
    if isinstance(value, (types.ModuleType, types.BuiltinFunctionType, type)):
        return id(value)
    return _data_state(value)


def _data_state(value: object) -> object:
    try:
        return xxh3_64_intdigest(pickle.dumps(value, protocol=5))
    except Exception:
        return id(value) if not isinstance(value, tuple | list) else list(map(_data_state, value))


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def imported_names(tree: ast.AST) -> dict[str, str]:
    """Return the names that imports in some code bind, with what they are called in full."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                full = alias.name if alias.asname else alias.name.partition(".")[0]
                found[alias.asname or full] = full
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return found


def changes_modules(tree: ast.AST, imported: Mapping[str, str]) -> bool:
    """Say whether code changes what it imported: sets an attribute or item (`math.pi = 3`), or
    registers something there (`mimetypes.add_type`).

    `imported` are the names of modules, and of what is in them, with the full names. Modules whose
    settings are restored anyway do not count, nor do attributes of other objects.
    """
    names = {name for name, full in imported.items() if full.partition(".")[0] not in _RESTORED}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Subscript)):
            if not isinstance(node.ctx, ast.Load) and _root(node) in names:
                return True
            if isinstance(node, ast.Attribute) and _registers(node.attr, _root(node), imported):
                return True
        elif isinstance(node, ast.Name):
            full = imported.get(node.id, "")
            if "." in full and _registers(full.rpartition(".")[2], node.id, imported):
                return True
        elif isinstance(node, ast.Call) and _is_change(node, names):
            return True
    return False


# What functions are called that change a module for all who use it later.
_REGISTRARS = frozenset({"add_type", "addLevelName", "putenv", "unsetenv"})


def _registers(name: str, root: str | None, imported: Mapping[str, str]) -> bool:
    return root in imported and (name.startswith("register") or name in _REGISTRARS)


def _is_change(node: ast.Call, names: Collection[str]) -> bool:
    called = node.func
    if isinstance(called, ast.Name):
        return (
            called.id in ("setattr", "delattr") and bool(node.args) and _root(node.args[0]) in names
        )
    return (
        isinstance(called, ast.Attribute)
        and isinstance(called.value, ast.Attribute)
        and called.attr in _MUTATORS
        and _root(called) in names
    )


_MUTATORS = frozenset(
    {
        "append",
        "extend",
        "insert",
        "remove",
        "pop",
        "clear",
        "update",
        "setdefault",
        "add",
        "discard",
    }
)


def _root(node: ast.AST) -> str | None:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None
