"""Make Python tell what a body does: an audit hook, and functions replaced by ones that tell.

An audit hook (PEP 578) sees every `open` of Python's, every listing of a folder, every database of
sqlite3 and every program that is started; reads of `os.environ` and questions to `os.stat` and
`os.readlink` have no audit event, so the mapping's class and the functions are replaced. So is what
libraries make a path a text with, before they open the file where no hook sees it. Idle, a hook
costs one comparison per event. What is told, and whether it counts, is the listener's business.
"""

from __future__ import annotations

import _posixsubprocess
import builtins
import contextlib
import functools
import importlib.util
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from types import CodeType, FrameType, ModuleType
from typing import Any, Protocol
from weakref import ref

from nbcache.engine.work.callers import (
    CALL_OF_IMPORT,
    codes_that_import,
    is_beside_the_body,
    is_statement,
    library_that_asks,
)

Arguments = tuple[object, ...]


class VariableListener(Protocol):
    """What is told of the environment's variables."""

    def looked_up(self, key: str | bytes, frame: FrameType | None) -> None:
        """A variable was asked for, from this frame."""

    def iterated(self, frame: FrameType | None) -> None:
        """All variables were asked for, from this frame."""

    def variable_set(self, name: str) -> None:
        """A variable was given a value."""


class Listener(Protocol):
    """What is told. Each call comes on the thread, and in the middle, of what it tells of."""

    is_active: bool

    @property
    def told(self) -> set[object]:
        """What was told already and need not be told again; emptied when that is forgotten."""
        ...

    @property
    def variables(self) -> VariableListener: ...

    def is_told(self) -> bool:
        """Whether what happens now is the body's doing."""
        ...

    def asked_for(self, path: object, asked: str) -> None:
        """`stat` or `access`, which `asked` says, was asked for a path, two frames above."""

    def link_read(self, path: object) -> None:
        """It was asked where a link leads to; who asked is two frames above."""

    def opened_beside(self, path: object) -> None:
        """A thread that works for nbcache or the kernel opened a file."""

    def asked_by_name(
        self, module: str, frame: FrameType, name: str = "", *, is_packages: bool = False
    ) -> None:
        """A module was asked for by `import_module`, a call of `__import__` or a text that is run,
        from this frame; of it this name alone, if one is given. is_packages: the text is run by an
        installed package."""

    def module_run(self, module: str, file: str, frame: FrameType) -> None:
        """A module is to be run from its file, from this frame, without being loaded."""

    def forked(self) -> None:
        """This process was forked from the one that listens; called in the child."""

    def program_started(self, process: int) -> None:
        """A program was started, as this process."""

    def opened_below(self, path: object, flags: int) -> None:
        """A file was opened by its name below an open folder."""

    def spelled(self, path: str, by: str) -> None:
        """A library took a path as a text; `by` is the file of the library that did."""


def listen(listener: Listener, events: Mapping[str, Callable[[Arguments], None]]) -> None:
    """Add an audit hook for these events, and replace what has none. It stays for ever."""

    def hook(event: str, arguments: Arguments) -> None:
        if listener.is_active and event in events:
            if event == "exec" and id(arguments[0]) in _texts:
                return  # a text that was read, which runs in a loop
            if not is_beside_the_body():
                events[event](arguments)
            elif event == "open":
                listener.opened_beside(arguments[0])

    sys.addaudithook(hook)
    is_first = not _latest
    hear(listener)
    if is_first:
        _replace_functions()
    _watch_variables(listener)
    _watch_import_module(listener)
    _watch_run_module(listener)


def hear(listener: Listener) -> None:
    """Have the functions that were replaced tell this one from now on."""
    _latest[:] = [listener]
    if any(each is not None for _, each in list(_texts.values())):  # some may end meanwhile
        watch_calls_of_import()  # functions that a module made of a text live as long as that


def _watch_variables(listener: Listener) -> None:
    original = type(os.environ)

    class _WatchedEnviron(original):  # type: ignore[valid-type,misc]
        def __getitem__(self, key: Any) -> Any:
            if is_whole(self) and listener.is_told():
                listener.variables.looked_up(key, sys._getframe(1))
            return original.__getitem__(self, key)

        def __iter__(self) -> Iterator[Any]:
            if is_whole(self) and listener.is_told():
                listener.variables.iterated(sys._getframe(1))
            return original.__iter__(self)

        def __setitem__(self, key: Any, value: Any) -> None:
            original.__setitem__(self, key, value)
            if listener.is_active:
                listener.variables.variable_set(os.fsdecode(key))

    def is_whole(variables: object) -> bool:  # rather than a copy of the same class
        return variables is os.environ or variables is os.environb

    os.environ.__class__ = _WatchedEnviron
    os.environb.__class__ = _WatchedEnviron


def _watch_import_module(listener: Listener) -> None:
    import_module = importlib.import_module

    @functools.wraps(import_module)
    def watched_import_module(name: str, package: str | None = None) -> ModuleType:
        module = import_module(name, package)
        listener.asked_by_name(module.__name__, sys._getframe(1))
        return module

    importlib.import_module = watched_import_module


def _watch_run_module(listener: Listener) -> None:
    run_module = runpy.run_module

    @functools.wraps(run_module)
    def watched_run_module(mod_name: str, *more: Any, **named: Any) -> dict[str, Any]:
        with contextlib.suppress(ImportError, ValueError):  # which `run_module` says better
            spec = importlib.util.find_spec(mod_name)
            if spec is not None and spec.submodule_search_locations is not None:
                spec = importlib.util.find_spec(f"{mod_name}.__main__")
            if spec is not None and spec.origin is not None:
                listener.module_run(spec.name, spec.origin, sys._getframe(1))
        return run_module(mod_name, *more, **named)

    runpy.run_module = watched_run_module


def watch_calls_of_import() -> None:
    """Have calls of `__import__` told, until `forget_calls_of_import`.

    Not always: each import statement calls it as well, takes longer then, and shows it in its
    tracebacks.
    """
    if builtins.__import__ is _import:  # and not what a body put there
        builtins.__import__ = _watched_import


def forget_calls_of_import() -> None:
    if builtins.__import__ is _watched_import:
        builtins.__import__ = _import


def watch_imports_in(text: CodeType, *, is_packages: bool) -> None:
    """Have the imports of a text told which is run now: nothing that was read before names them.

    is_packages: an installed package runs it, as those do that generate code.
    """
    codes = codes_that_import(text)
    for code in (text, *codes):  # what is at this place when it is gone is another text
        gone = functools.partial(_forget_text, id(code))
        _texts[id(code)] = ref(code, gone), is_packages if code in codes else None
    if codes:
        watch_calls_of_import()


def _forget_text(key: int, _: object) -> None:
    _texts.pop(key, None)


_import = builtins.__import__
_texts: dict[int, tuple[ref[CodeType], bool | None]] = {}
"""The code of texts that were run, by its identity, and whether a package does that; None: it
imports nothing. Functions made of it keep it alive."""


def _watched_import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    module = _import(name, globals, locals, fromlist, level)
    frame = sys._getframe().f_back  # none where a thread of a library's imports something
    if frame is None:
        return module
    code = frame.f_code
    is_packages = _texts[id(code)][1] if id(code) in _texts else None
    if is_packages is None and CALL_OF_IMPORT not in code.co_names:
        return module
    listener, members = _latest[0], tuple(fromlist or ())
    key = (id(code), frame.f_lasti, id(module), name, members)
    if key in listener.told:
        return module
    listener.told.add(key)
    by_statement = is_statement(frame)
    if by_statement and is_packages is None:
        return module
    full = name
    if level:  # of `from . import a` it is the package that is here
        inside = "" if members else name.partition(".")[2]  # a call without names gives the first
        full = f"{module.__name__}.{inside}".rstrip(".")
    inner = {each for each in members if f"{full}.{each}" in sys.modules}
    parts = {*members} - inner if by_statement and members and "*" not in members else {""}
    asked = [(full, part) for part in parts] + [(f"{full}.{each}", "") for each in inner]
    for each, part in asked:
        listener.asked_by_name(each, frame, part, is_packages=bool(is_packages))
    return module


_latest: list[Listener] = []
"""Who listens now; functions are replaced once per process."""


def _replace_functions() -> None:
    for name, asked in (("stat", "stat"), ("lstat", "stat"), ("access", "access")):
        setattr(os, name, _watched_stat(getattr(os, name), asked))  # these have no audit event
    os.readlink = _watched_readlink(os.readlink)
    os.open = _watched_open(os.open)
    setattr(os, "fspath", _watched_fspath(os.fspath))  # noqa: B010  # its type is overloaded
    os.register_at_fork(after_in_child=lambda: _latest[0].forked())
    for module in (_posixsubprocess, subprocess):
        for name in {"fork_exec", "_fork_exec"} & vars(module).keys():
            setattr(module, name, _watched_start(getattr(module, name)))
    for name in ("__fspath__", "__str__"):
        setattr(PurePath, name, _watched_text(getattr(PurePath, name)))


def path_of_folder(descriptor: int) -> str | None:
    """Return where an open folder lies; None: nobody can tell."""
    try:
        if sys.platform == "darwin":
            import fcntl

            return os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, b"\0" * 1024).rstrip(b"\0"))
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return None


def _below(path: Any, descriptor: int | None) -> object:
    """Return a path whole, of one that may be named below an open folder."""
    folder = None if descriptor is None else path_of_folder(descriptor)
    return path if folder is None else os.path.join(folder, os.fsdecode(path))


def _watched_stat(original: Callable[..., Any], asked: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def stat(path: Any, *more: Any, **named: Any) -> Any:
        if _latest[0].is_told():
            _latest[0].asked_for(_below(path, named.get("dir_fd")), asked)
        return original(path, *more, **named)

    _can_what(original, stat)
    return stat


def _can_what(original: Callable[..., Any], replaced: Callable[..., Any]) -> None:
    for able in (os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks):
        if original in able:
            able.add(replaced)


def _watched_open(original: Callable[..., int]) -> Callable[..., int]:
    """The audit event of `os.open` does not tell below which folder."""

    @functools.wraps(original)
    def open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None and _latest[0].is_told():
            _latest[0].opened_below(_below(path, dir_fd), flags)
        return original(path, flags, mode, dir_fd=dir_fd)

    _can_what(original, open)
    return open


def _watched_fspath(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(original)
    def fspath(path: Any) -> Any:
        found = original(path)
        if _latest[0].is_active and type(found) is str:
            by = library_that_asks(sys._getframe(1))
            if by is not None and _latest[0].is_told():
                _latest[0].spelled(found, by)
        return found

    return fspath


def _watched_start(original: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(original)
    def fork_exec(*arguments: Any) -> int:
        process = original(*arguments)
        if _latest[0].is_told():
            _latest[0].program_started(process)
        return process

    return fork_exec


def _watched_readlink(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def readlink(path: Any, *more: Any, **named: Any) -> Any:
        if _latest[0].is_told():
            _latest[0].link_read(path)
        return original(path, *more, **named)

    _can_what(original, readlink)
    return readlink


def _watched_text(original: Callable[[Any], str]) -> Callable[[Any], str]:
    @functools.wraps(original)
    def text(path: PurePath) -> str:
        found = original(path)
        if found[:1] == os.sep and _latest[0].is_told():
            by = library_that_asks(sys._getframe(1))
            if by is not None:
                _latest[0].spelled(found, by)
        return found

    return text
