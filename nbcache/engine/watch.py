"""Find what a Python body reads without having declared it: files, variables, local modules.

An audit hook (PEP 578) sees every `open` of Python's; reads of `os.environ` have no audit event, so
the mapping's class is replaced by one that takes note. Idle, a hook costs one comparison per
event. Not seen: what C libraries open by themselves, directory listings, scripts; the docs say so.
Packages, temporary folders, the cache, caches of libraries and system folders do not count, but the
notebook's own folder always does.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import site
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType

from nbcache.model.digest import Digest, identity_digest
from nbcache.model.row import WatchedRead
from nbcache.store.filestate import StatKey, hash_file, stat_key

_SYSTEM = (
    "/proc /dev /sys /etc /usr /lib /lib64 /bin /sbin /run /var/cache /var/lib "
    "/System /Library /private/etc"
).split()
_HOME = (
    ".cache .config .local .matplotlib .ipython .jupyter .fonts .conda .keras .nv .triton Library"
).split()
# What kernels, servers and shells set anew for every session.
_OF_A_SESSION = (
    "JPY_", "JUPYTER_", "NBCACHE_", "PYTHONHASHSEED", "PYDEVD_", "MPLBACKEND", "VSCODE_",
    "SHLVL", "TERM", "TMUX", "COLUMNS", "LINES", "WINDOWID", "PWD", "OLDPWD", "_",
    "SSH_", "XDG_SESSION", "DBUS_",
)  # fmt: skip
_IMPORTING = ("<frozen importlib", "<frozen zipimport")
_ARCHIVES = ("<frozen zipimport",)
_READING_SOURCE = ("linecache.py", "tokenize.py", "inspect.py", "traceback.py")


class Places:
    """Decides whether a path belongs to the user or to the machinery."""

    def __init__(self, root: str, folder: str) -> None:
        home = os.path.expanduser("~")
        own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self._packages = _prefixes(
            sys.prefix, sys.base_prefix, own, root,
            *sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages(),
        )  # fmt: skip
        self._machinery = _prefixes(
            *_SYSTEM, tempfile.gettempdir(), "/tmp", "/var/tmp", "/private/tmp",
            *(os.path.join(home, name) for name in _HOME),
        )  # fmt: skip
        self._folder = _prefixes(folder) if folder else ()

    def is_package(self, path: str) -> bool:
        """Say whether a file belongs to Python, an installed package or the cache."""
        return path.startswith(self._packages) or "site-packages" in path

    def is_users(self, path: str) -> bool:
        """Say whether reading this file can make a result differ without anybody's notice."""
        if self.is_package(path) or "/__pycache__/" in path:
            return False
        if self._folder and path.startswith(self._folder):
            return True
        return not path.startswith(self._machinery)

    def is_beside(self, path: str) -> bool:
        """Say whether a path lies in the notebook's folder."""
        return bool(self._folder) and path.startswith(self._folder) and not self.is_package(path)

    def is_local_module(self, path: str) -> bool:
        """Say whether a module's file is one of the user's."""
        return path.endswith(".py") and not self.is_package(os.path.abspath(path))


def _prefixes(*folders: str) -> tuple[str, ...]:
    """Return folders as prefixes of absolute paths, also as they are behind links."""
    found = set()
    for folder in folders:
        for each in (os.path.abspath(folder), os.path.realpath(folder)):
            if len(each) > 1:
                found.add(each.rstrip(os.sep) + os.sep)
    return tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class ImportReads:
    """What an import of local modules read: files by their state then, variables by their value.

    The import happens once per worker, but every attempt that uses the modules depends on it.
    """

    modules: frozenset[str]
    files: Mapping[str, tuple[StatKey | None, Digest | None]]
    variables: Mapping[str, str | None]

    def hold(self) -> bool:
        """Say whether an import would read the same now."""
        return all(os.environ.get(name) == text for name, text in self.variables.items()) and all(
            _state_of(path) == state or _file_digest(path) == digest
            for path, (state, digest) in self.files.items()
        )

    def rows(self, declared: Mapping[str, str]) -> list[WatchedRead]:
        """Return the reads as a row keeps them, but for variables that the hash knows."""
        found = [WatchedRead("file", path, digest) for path, (_, digest) in self.files.items()]
        return found + [
            WatchedRead("env", name, None if text is None else _text_digest(text))
            for name, text in self.variables.items()
            if name not in declared
        ]


class Watcher:
    """Takes note between `begin` and `end`; one per process, since audit hooks stay for ever."""

    def __init__(self) -> None:
        self._active = self._paused = False
        self._owner = os.getpid()
        self._files: dict[str, None] = {}
        self._variables: dict[str, str | None] = {}
        self._own_variables: set[str] = set()  # that the body set itself
        self._copying: tuple[int, int] | None = None  # the instruction that goes through all
        self._listing: tuple[int, int] | None = None
        self.imported: set[str] = set()  # modules that were asked for by `import_module`
        self._import_files: dict[str, None] | None = None  # during an import of local modules
        self._import_variables: dict[str, str | None] = {}
        self._folder = ""
        self._places: Places | None = None
        self._installed = False

    def install(self) -> None:
        """Add the audit hook and replace the class of `os.environ`, once."""
        if self._installed:
            return
        self._installed = True
        watcher = self

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event == "open" and watcher._active:
                watcher._opened(arguments)

        sys.addaudithook(hook)
        original = type(os.environ)

        class _WatchedEnviron(original):  # type: ignore[valid-type,misc]
            def __getitem__(self, key: str) -> str:
                if watcher._active and self is os.environ:
                    watcher._looked_up(key, sys._getframe(1))
                return original.__getitem__(self, key)

            def __iter__(self) -> Iterator[str]:
                if watcher._active and self is os.environ:
                    watcher._iterated(sys._getframe(1))
                return original.__iter__(self)

            def __setitem__(self, key: str, value: str) -> None:
                original.__setitem__(self, key, value)
                if watcher._active:
                    watcher._own_variables.add(key)

        os.environ.__class__ = _WatchedEnviron
        import_module = importlib.import_module

        @functools.wraps(import_module)
        def watched_import_module(name: str, package: str | None = None) -> ModuleType:
            module = import_module(name, package)
            if watcher._active:
                watcher.imported.add(module.__name__)
            return module

        importlib.import_module = watched_import_module

    def begin(self, places: Places, folder: str) -> None:
        """Start: relative paths are below the current `folder`, where everything is the task's."""
        self._places = places
        self._folder = folder + os.sep
        self._files = {}
        self._variables = {}
        self._own_variables = set()
        self._copying = self._listing = None
        self.imported = set()
        self._owner = os.getpid()
        self._active = True

    def pause(self) -> None:
        """Take no note for a while: what follows is not the body's doing."""
        self._paused = self._active or self._paused
        self._active = False

    def resume(self) -> None:
        """Go on after a pause, if there is anything to go on with."""
        self._active, self._paused = self._paused, False

    def begin_import(self) -> None:
        """Take note separately of what an import of local modules reads."""
        if self._active:
            self._import_files, self._import_variables = {}, {}

    def end_import(self, modules: Iterable[str]) -> ImportReads | None:
        """Return what was read since `begin_import`; None: nothing, or nobody was watching."""
        files, variables = self._import_files, self._import_variables
        self._import_files = None
        if not files and not variables:
            return None
        active, self._active = self._active, False
        states = {path: (_state_of(path), _file_digest(path)) for path in files or ()}
        self._active = active
        return ImportReads(frozenset(modules), states, variables)

    def end(
        self,
        declared: Mapping[str, str],
        modules: Mapping[str, str],
        imports: Iterable[ImportReads] = (),
    ) -> tuple[WatchedRead, ...]:
        """Stop, and return what was read: files and modules with the digests that they have now.

        `declared` are environment variables that the hash knows; `modules` are local modules that
        it does not, with their files.
        """
        self._active = self._paused = False
        earlier = [read for each in imports for read in each.rows(declared)]
        if not (self._files or self._variables or modules or earlier):
            return ()
        reads = [WatchedRead("file", path, digest_of("file", path)) for path in self._files]
        reads += [
            WatchedRead("env", name, None if text is None else _text_digest(text))
            for name, text in self._variables.items()
            if name not in declared
        ]
        reads += [_module_read(name, path) for name, path in modules.items()]
        found = {(each.kind, each.name): each for each in (*reads, *earlier)}
        return tuple(found[key] for key in sorted(found))

    def read_file(self, path: str) -> None:
        """Note that the body reads a file."""
        if self._active:
            self._files[path] = None

    def _opened(self, arguments: tuple[object, ...]) -> None:
        path, mode, flags = arguments[0], arguments[1], arguments[2]
        if not isinstance(path, (str, bytes, os.PathLike)) or not _reads(mode, flags):
            return
        try:
            full = os.path.abspath(os.fsdecode(path))
        except (ValueError, OSError):
            return
        if full.startswith(self._folder) or self._places is None:
            return
        if full in self._files and self._import_files is None:
            return
        if not self._places.is_users(full) or os.getpid() != self._owner:
            return
        if full.endswith((".py", ".pyc", ".so")) and _called_by(_IMPORTING + _READING_SOURCE):
            return
        if _called_by(_ARCHIVES):  # of modules; those that are imported are looked at one by one
            return
        if os.path.isfile(full) or (self._places.is_beside(full) and not os.path.exists(full)):
            self._files[full] = None
            if self._import_files is not None:
                self._import_files[full] = None

    def _iterated(self, frame: FrameType | None) -> None:
        """Somebody goes through all variables: to copy them at once, or to look at each.

        A copy is made to hand it on (`env={**os.environ}`), so what the same instruction looks up
        is no read; a loop over pairs may look at any, but for what differs in every session.
        """
        frame, pairs = _asking(frame)
        if frame is not None:
            place = (id(frame), frame.f_lasti)
            self._copying, self._listing = (None, place) if pairs else (place, None)

    def _looked_up(self, name: str, frame: FrameType | None) -> None:
        if name in self._own_variables or not isinstance(name, str):
            return
        if name in self._variables and self._import_files is None:
            return
        frame, _ = _asking(frame)
        if frame is None or self._places is None or os.getpid() != self._owner:
            return
        if (id(frame), frame.f_lasti) == self._copying or (
            (id(frame), frame.f_lasti) == self._listing and name.startswith(_OF_A_SESSION)
        ):
            return
        source = frame.f_code.co_filename
        if source.startswith("<frozen") or self._places.is_package(source):
            return
        data = os.environ._data  # type: ignore[attr-defined]
        text = data.get(os.fsencode(name))
        self._variables[name] = None if text is None else os.fsdecode(text)
        if self._import_files is not None:
            self._import_variables[name] = self._variables[name]


def _asking(frame: FrameType | None) -> tuple[FrameType | None, bool]:
    """Return who asked `os.environ`, behind its own methods, and whether for pairs or values."""
    pairs = False
    while frame is not None and (
        frame.f_code.co_filename.startswith(("<frozen os", "<frozen _coll"))
        or frame.f_code.co_filename.endswith(("/os.py", "/_collections_abc.py"))
    ):
        pairs = pairs or frame.f_code.co_qualname in ("ItemsView.__iter__", "ValuesView.__iter__")
        frame = frame.f_back
    return frame, pairs


def _reads(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return "r" in mode or "+" in mode
    return isinstance(flags, int) and flags & os.O_ACCMODE != os.O_WRONLY and not flags & os.O_TRUNC


def _called_by(names: tuple[str, ...]) -> bool:
    """Say whether one of the nearest callers is code from such a file."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(8):
        if frame is None:
            return False
        if frame.f_code.co_filename.startswith(names) or frame.f_code.co_filename.endswith(names):
            return True
        frame = frame.f_back
    return False


def digest_of(kind: str, name: str) -> Digest | None:
    """Return the digest that a watched read has now: None where it is not there.

    What a look-up compares with the row's; the module's name is looked up on `sys.path`.
    """
    if kind == "env":
        text = os.environ.get(name)
        return None if text is None else _text_digest(text)
    if kind == "module":
        place = _place_of_module(name)
        return None if place is None else _file_digest(place)
    return _file_digest(name)


def _module_read(name: str, path: str) -> WatchedRead:
    """Return a read of a module: by its name, where that leads to the file; else of the file."""
    if _place_of_module(name) == path:
        return WatchedRead("module", name, _file_digest(path))
    archive = next((str(each) for each in Path(path).parents if each.is_file()), path)
    return WatchedRead("file", archive, _file_digest(archive))


def _place_of_module(name: str) -> str | None:
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        found = importlib.util.find_spec(name)
        if found is not None and found.origin and os.path.isfile(found.origin):
            return found.origin
    return None


def _text_digest(text: str) -> Digest:
    return identity_digest(text.encode("utf-8", "surrogateescape"))


def _state_of(path: str) -> StatKey | None:
    try:
        return stat_key(path)
    except OSError:
        return None


def _file_digest(path: str) -> Digest | None:
    try:
        return hash_file(path, stat_key(path))
    except OSError:
        return None


def missing_file_hint(
    error: BaseException, folder: str, process: str, inputs: tuple[str, ...]
) -> str:
    """Return how to declare a file that exists beside the notebook, or ""."""
    name = getattr(error, "filename", None)
    if not isinstance(error, FileNotFoundError) or not isinstance(name, (str, bytes)) or not folder:
        return ""
    text = os.fsdecode(name)
    if os.path.isabs(text) or not os.path.exists(os.path.join(folder, text)):
        return ""
    port = "".join(each if each.isalnum() else "_" for each in Path(text).stem).strip("_") or "data"
    if not port.isidentifier() or port in inputs:
        port = f"{port}_file" if port.isidentifier() else f"file_{port}"
    header = ", ".join((*inputs, f'{port}: path = "{text}"'))
    return (
        f"{text} is beside the notebook, but a task sees only its inputs. Declare it:\n"
        f"  %%process {process}({header})\n"
        f"  and read `{port}` in the body."
    )
