"""Find out whether a task changed the globals of a local module, which cannot be undone.

Local modules are compared with what they were when their import had ended; where they differ, the
worker is replaced afterwards. For installed ones see `module_changes`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import os
import pickle
import sys
import time
import types
import zipimport
from collections.abc import Callable, Collection, Iterable
from typing import Any

from xxhash import xxh3_64_intdigest

from nbcache.engine.identity.read_state import state_of
from nbcache.engine.work.callers import CALLING_IMPORT, told_words
from nbcache.engine.work.import_reads import ImportReads
from nbcache.engine.work.listening import watch_calls_of_import
from nbcache.engine.work.modules_by_path import have_strangers, place_of
from nbcache.engine.work.watch import Watcher
from nbcache.model.digest import Digest, identity_digest
from nbcache.store.filestate import StatKey, is_settled

COMPILED = tuple(importlib.machinery.EXTENSION_SUFFIXES)
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
        self._looked: object = None
        self._archives: dict[str, tuple[str, StatKey | None]] = {}  # those that modules lie in
        self._known: dict[str, tuple[types.ModuleType, bytes]] = {}
        self._depth = 0
        self._dirty: set[str] = set()
        self._words: dict[str, frozenset[str]] = {}  # by which the code of modules tells of itself
        self._new: list[types.ModuleType] = []

    def install(self) -> None:
        """Wrap the import of local files for the life of the process."""
        loaders: tuple[Any, ...] = (
            importlib.machinery.SourceFileLoader,
            importlib.machinery.SourcelessFileLoader,
            importlib.machinery.ExtensionFileLoader,
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
            begun = self._watcher.taken.begin_import()
            try:
                if file.endswith(COMPILED):
                    self._digests[module.__name__] = identity_digest(this.get_data(file))
                    original(this, module)
                else:
                    self._execute(this, module, file)
                self._new.append(module)
            finally:
                name = module.__name__
                self._watcher.taken.end_import(name, file, self._digests.get(name), begun)
                self._leave()
            if sys.modules.get(module.__name__) is not module:
                self._watcher.read_file(file)  # made by hand from a file, and known by no name

        return exec_module

    def _execute(self, loader: Any, module: types.ModuleType, file: str) -> None:
        # Where there is a source, not from the .pyc file: it is known by the second and the size of
        # that, and an edit may keep both.
        text = None
        self._archives.pop(module.__name__, None)
        if isinstance(loader, zipimport.zipimporter):
            self._archives[module.__name__] = (loader.archive, state_of(loader.archive))
            text = loader.get_source(module.__name__)
        if text is not None:
            data = text.encode()
            code = compile(data, file, "exec", dont_inherit=True)
        elif file.endswith(".pyc"):
            data, code = loader.get_data(file), loader.get_code(module.__name__)
        else:
            data = loader.get_data(loader.path)
            code = loader.source_to_code(data, loader.path)
        self._digests[module.__name__] = identity_digest(data)
        self._words[module.__name__] = told_words([code])
        if self._words[module.__name__] & CALLING_IMPORT:
            watch_calls_of_import()
        exec(code, module.__dict__)

    def digest(self, name: str) -> Digest | None:
        """Return the digest of the source that a loaded module was made of."""
        return self._digests.get(name)

    def is_edited(self, name: str) -> bool:
        """Say whether the file of a loaded module is gone, or holds something else."""
        file = sys.modules[name].__file__ or ""
        if name in self._archives:
            archive, state = self._archives[name]
            return state_of(archive) != state
        return name in self._digests and self._digests[name] != self._watcher.state.file(file)

    def renew(self) -> bool:
        """Before an attempt has anything: drop all local modules where the import of one would give
        something else now: its name leads elsewhere, its file was edited, or what its import read
        has changed. Return whether one that is compiled was edited: no process loads that again.

        The attempt then imports them anew; nothing else in a worker holds on to their objects. What
        it asks for by name only the run knows, so all that are loaded are looked at.
        """
        loaded = self.loaded.items()
        if self._is_old() or not all(each.hold(self._watcher.state) for each in self._reads):
            if any(file.endswith(COMPILED) and self.is_edited(name) for name, file in loaded):
                return True
            for name, _ in loaded:
                del sys.modules[name]
            importlib.invalidate_caches()  # those of archives, too
            self._known, self._reads, self._dirty = {}, [], set()
        return False

    def _is_old(self) -> bool:
        """Say whether a loaded module is not what its name leads to now. Looks again only where a
        file or folder of the search is not as it was, as far as its times tell."""
        loaded, began = self.loaded, time.time_ns()
        paths = {*sys.path, *loaded.values()}
        paths.update(*(getattr(sys.modules[each], "__path__", ()) for each in loaded))
        # Of a folder without `__init__.py` no module tells; and a package hides a module beside it.
        paths.update(*((os.path.dirname(f), os.path.splitext(f)[0]) for f in loaded.values()))
        now = (tuple(sys.path), {each: state_of(each or ".") for each in paths})
        if now == self._looked and not have_strangers(loaded):
            return False
        if any(_leads_elsewhere(each) or self.is_edited(each) for each in loaded):
            return True
        if all(each is None or is_settled(each, began) for each in now[1].values()):
            self._looked = now
        return False

    def prepare(self) -> None:
        """Begin a body: modules as their import made them, their caches empty."""
        for module, _ in self._known.values():
            _empty_caches(module)
        if self.words_of(self.loaded) & CALLING_IMPORT:
            watch_calls_of_import()

    def words_of(self, names: Iterable[str]) -> frozenset[str]:
        """Return what `told_words` finds in the code of modules."""
        return frozenset().union(*(self._words.get(each, ()) for each in names))

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


def _leads_elsewhere(name: str) -> bool:
    """Say whether an import of a loaded module's name would now look in another file."""
    around = sys.modules.get(name.rpartition(".")[0])
    folders = getattr(around, "__path__", None)
    try:
        found = place_of(name, folders)
    except (ImportError, ValueError, AttributeError, KeyError):
        return False  # others than the path find it
    return found not in (None, sys.modules[name].__file__)


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
        is_module = isinstance(value, types.ModuleType)
        if is_module and value.__name__ == f"{module.__name__}.{name}":
            continue  # a submodule, which is put there when its import has ended
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
