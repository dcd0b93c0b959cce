"""Make Python tell what a body does: an audit hook, and functions replaced by ones that tell.

An audit hook (PEP 578) sees every `open` of Python's, every listing of a folder, every database of
sqlite3 and every program that is started; reads of `os.environ` and questions to `os.stat` and
`os.readlink` have no audit event, so the mapping's class and the functions are replaced. Idle, a
hook costs one comparison per event. What is told, and whether it counts, is the listener's
business.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from types import FrameType, ModuleType
from typing import Any, Protocol

from nbcache.engine.work.callers import is_beside_the_body, is_for_a_library

Arguments = tuple[object, ...]


class Listener(Protocol):
    """What is told. Each call comes on the thread, and in the middle, of what it tells of."""

    is_active: bool
    imported: set[str]  # modules that were asked for by `import_module`

    def is_told(self) -> bool:
        """Whether what happens now is the body's doing."""
        ...

    def looked_up(self, key: str | bytes, frame: FrameType | None) -> None:
        """A variable of the environment was asked for, from this frame."""

    def iterated(self, frame: FrameType | None) -> None:
        """All variables of the environment were asked for, from this frame."""

    def variable_set(self, name: str) -> None:
        """A variable of the environment was given a value."""

    def asked_for(self, path: object) -> None:
        """`stat` was asked for a path; who asked is two frames above."""

    def link_read(self, path: object) -> None:
        """It was asked where a link leads to; who asked is two frames above."""

    def spelled(self, path: str) -> None:
        """A library turned a path into a text."""


def listen(listener: Listener, events: Mapping[str, Callable[[Arguments], None]]) -> None:
    """Add an audit hook for these events, and replace what has none. It stays for ever."""

    def hook(event: str, arguments: Arguments) -> None:
        if listener.is_active and event in events and not is_beside_the_body():
            events[event](arguments)

    sys.addaudithook(hook)
    is_first = not _latest
    hear(listener)
    if is_first:
        _replace_functions()
    _watch_variables(listener)
    _watch_import_module(listener)


def hear(listener: Listener) -> None:
    """Have the functions that were replaced tell this one from now on."""
    _latest[:] = [listener]


def _watch_variables(listener: Listener) -> None:
    original = type(os.environ)

    class _WatchedEnviron(original):  # type: ignore[valid-type,misc]
        def __getitem__(self, key: Any) -> Any:
            if is_whole(self) and listener.is_told():
                listener.looked_up(key, sys._getframe(1))
            return original.__getitem__(self, key)

        def __iter__(self) -> Iterator[Any]:
            if is_whole(self) and listener.is_told():
                listener.iterated(sys._getframe(1))
            return original.__iter__(self)

        def __setitem__(self, key: Any, value: Any) -> None:
            original.__setitem__(self, key, value)
            if listener.is_active:
                listener.variable_set(os.fsdecode(key))

    def is_whole(variables: object) -> bool:  # rather than a copy of the same class
        return variables is os.environ or variables is os.environb

    os.environ.__class__ = _WatchedEnviron
    os.environb.__class__ = _WatchedEnviron


def _watch_import_module(listener: Listener) -> None:
    import_module = importlib.import_module

    @functools.wraps(import_module)
    def watched_import_module(name: str, package: str | None = None) -> ModuleType:
        module = import_module(name, package)
        if listener.is_active:
            listener.imported.add(module.__name__)
        return module

    importlib.import_module = watched_import_module


_latest: list[Listener] = []
"""Who listens now; functions are replaced once per process."""


def _replace_functions() -> None:
    for name in ("stat", "lstat"):  # these have no audit event
        setattr(os, name, _watched_stat(getattr(os, name)))
    os.readlink = _watched_readlink(os.readlink)
    for name in ("__fspath__", "__str__"):
        setattr(PurePath, name, _watched_text(getattr(PurePath, name)))


def _watched_stat(original: Callable[..., os.stat_result]) -> Callable[..., Any]:
    @functools.wraps(original)
    def stat(path: Any, *more: Any, **named: Any) -> os.stat_result:
        if _latest[0].is_told():
            _latest[0].asked_for(path)
        return original(path, *more, **named)

    for able in (os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks):
        if original in able:
            able.add(stat)
    return stat


def _watched_readlink(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def readlink(path: Any, *more: Any, **named: Any) -> Any:
        if _latest[0].is_told():
            _latest[0].link_read(path)
        return original(path, *more, **named)

    if original in os.supports_dir_fd:
        os.supports_dir_fd.add(readlink)
    return readlink


def _watched_text(original: Callable[[Any], str]) -> Callable[[Any], str]:
    @functools.wraps(original)
    def text(path: PurePath) -> str:
        found = original(path)
        if found[:1] == os.sep and _latest[0].is_told() and is_for_a_library(sys._getframe(1)):
            _latest[0].spelled(found)
        return found

    return text
