"""Whose a path is: the user's, or that of Python, of packages, of caches, of the system."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

_SYSTEM = (
    "/proc /dev /sys /etc /usr /lib /lib64 /bin /sbin /run /var/cache /var/lib "
    "/System /Library /private/etc"
).split()
_HOME = (
    ".cache .config .local .matplotlib .ipython .jupyter .fonts .conda .keras .nv .triton Library"
).split()
_MODULES = (".py", ".pyc", *EXTENSION_SUFFIXES)


class Places:
    """Decides whether a path belongs to the user or to the machinery."""

    def __init__(self, root: str, folder: str) -> None:
        home = os.path.expanduser("~")
        own = str(Path(__file__).absolute().parents[__name__.count(".") - 1])  # all of nbcache
        self._packages = _prefixes(
            sys.prefix, sys.base_prefix, own, root,
            *sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages(),
        )  # fmt: skip
        self._machinery = _prefixes(
            *_SYSTEM, tempfile.gettempdir(), "/tmp", "/var/tmp", "/private/tmp",
            *(os.path.join(home, name) for name in _HOME),
        )  # fmt: skip
        self._folder = _prefixes(folder) if folder else ()

    @property
    def folders(self) -> tuple[str, ...]:
        """The notebook's folder, under each name that it has."""
        return self._folder

    def is_package(self, path: str) -> bool:
        """Say whether a file or folder belongs to Python, an installed package or the cache."""
        return (path + os.sep).startswith(self._packages) or "site-packages" in path

    def is_users(self, path: str) -> bool:
        """Say whether reading this file can make a result differ without anybody's notice."""
        if self.is_package(path) or "/__pycache__/" in path + os.sep:
            return False
        if self._folder and (path + os.sep).startswith(self._folder):
            return True
        return not path.startswith(self._machinery)

    def is_beside(self, path: str) -> bool:
        """Say whether a path lies in the notebook's folder."""
        return bool(self._folder) and path.startswith(self._folder) and not self.is_package(path)

    def is_around(self, path: str) -> bool:
        """Say whether the notebook's folder is a path or lies in it."""
        return any(each.startswith(path + os.sep) for each in self._folder)

    def shared_name(self, path: str) -> str:
        """Return a path as it means the same on another machine: below the notebook's folder."""
        for prefix in self._folder:
            if path.startswith(prefix):
                return path[len(prefix) :]
            if path + os.sep == prefix:
                return os.curdir
        return path

    def is_local_module(self, path: str) -> bool:
        """Say whether a module's file is one of the user's."""
        if not path.endswith(_MODULES) or self.is_package(path):
            return False
        return not self.is_package(os.path.abspath(path))


def _prefixes(*folders: str) -> tuple[str, ...]:
    """Return folders as prefixes of absolute paths, also as they are behind links."""
    found = set()
    for folder in folders:
        for each in (os.path.abspath(folder), os.path.realpath(folder)):
            if len(each) > 1:
                found.add(each.rstrip(os.sep) + os.sep)
    return tuple(sorted(found))
