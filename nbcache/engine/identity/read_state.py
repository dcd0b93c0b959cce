"""What something that a body read is at this moment, as a digest to compare with a row's.

The kinds of reads: `file` by content, `exists` by what is there, `folder` by the names in it, `env`
by value, `variables` by the names that the environment has, `module` by the file that its name
leads to, `code` by that file's code alone, `tool` by the program that PATH gives for it, `package`
by its version and those of what it needs; `settings` (what cells set in a library) are for the
caller to compare. Relative names of files and folders are those below the notebook's folder, so
that a project may be moved or copied whole.
"""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from nbcache.engine.identity.modules import LocalModules
from nbcache.engine.identity.packages import package_components
from nbcache.engine.identity.tools import tool_components
from nbcache.model.digest import Digest, identity_digest
from nbcache.model.row import WatchedRead
from nbcache.plan.identity.code import normalise
from nbcache.store.filestate import FileTable, StatKey, stat_key

# What kernels, servers and shells set anew for every session.
OF_A_SESSION = (
    "JPY_", "JUPYTER_", "NBCACHE_", "PYTHONHASHSEED", "PYDEVD_", "MPLBACKEND", "VSCODE_",
    "SHLVL", "TERM", "TMUX", "COLUMNS", "LINES", "WINDOWID", "PWD", "OLDPWD", "_",
    "SSH_", "XDG_SESSION", "DBUS_",
)  # fmt: skip
CHANGED = Digest("changed")
"""Of a file that was written after it was read: no later content is what the body saw."""


class ReadState:
    """Looks at files, variables, modules and programs; digests of files come from the table."""

    def __init__(self, files: FileTable, folder: str | os.PathLike[str] = "") -> None:
        """`folder` is that of the notebook, for which relative names are meant."""
        self._files, self._folder = files, folder

    def holds(self, read: WatchedRead) -> bool:
        """Say whether something that an attempt read is now as it was then."""
        return self.digest(read.kind, read.name) == read.digest

    def digest(self, kind: str, name: str) -> Digest | None:
        """Return the digest that a read has now; None: it is not there."""
        if kind == "env":
            return digest_of_text(os.environ.get(name))
        if kind == "variables":
            return digest_of_variable_names(os.environ)
        if kind in ("module", "code"):
            place = place_of_module(name)
            return None if place is None else self._module(kind, place)
        if kind == "tool":
            return self._tool(name)
        if kind == "package":
            return digest_of_package(name)
        path = os.path.join(self._folder, name)
        if kind == "exists":
            return what_is_at(path)
        if kind == "link":
            return digest_of_text(target_of(path))
        return _digest_of_names(path) if kind == "folder" else self.file(path)

    def file(self, path: str) -> Digest | None:
        """Return the digest of a file's content; None: it is no file that can be read."""
        if not os.path.isfile(path):
            return None
        try:
            return self._files.digest(path)
        except OSError:
            return None

    def _tool(self, name: str) -> Digest | None:
        path = os.environ.get("PATH", "")
        found = tool_components([name], (), self._files.digest, path)
        return found[0].digest if found else None

    def _module(self, kind: str, path: str) -> Digest | None:
        content = self.file(path)
        if content is None or kind == "module":
            return content
        try:
            return _code_of(path, content)
        except OSError:
            return None  # it is being written, or gone

    def module_read(self, kind: str, name: str, path: str, sys_path: Sequence[str]) -> WatchedRead:
        """Return a read of a module: by its name where that leads to the file, else of the file.

        `sys_path` is that of the notebook: a body may look in more folders, which whoever looks the
        result up does not.
        """
        if _is_found(name, path, sys_path) and place_of_module(name) == path:
            return WatchedRead(kind, name, self._module(kind, path))
        archive = next((str(each) for each in Path(path).parents if each.is_file()), path)
        return WatchedRead("file", archive, self.file(archive))


@lru_cache(maxsize=4096)
def _code_of(path: str, content: Digest) -> Digest:
    """Return what the code in a file counts by: its content where that is no Python, or cannot be
    read as such.

    Raises:
        OSError: another content, or none, is there now.
    """
    if not path.endswith(".py"):
        return content
    data = Path(path).read_bytes()
    if identity_digest(data) != content:
        raise OSError(f"{path} changed meanwhile")
    try:
        with warnings.catch_warnings(action="ignore"):  # whoever imports it hears of them
            return identity_digest(b"code\0" + normalise(ast.parse(data)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return content


def _is_found(name: str, path: str, sys_path: Sequence[str]) -> bool:
    """Say whether a module's file lies where a search for its name looks."""
    inner, suffix = name.replace(".", os.sep), os.path.splitext(path)[1]
    endings = (f"{inner}{suffix}", os.path.join(inner, f"__init__{suffix}"))
    return any(os.path.join(folder, end) == path for folder in sys_path for end in endings)


def place_of_module(name: str) -> str | None:
    """Return the file that a module's name leads to, or None. No package above it is imported:
    its code would run here, in the kernel, because a row of others names it."""
    found = LocalModules().spec(name)
    return found.origin if found and found.origin and os.path.isfile(found.origin) else None


def digest_of_package(name: str) -> Digest | None:
    """Return what a package counts by, as in the hash of code that imports it; None: it is none."""
    found = package_components(LocalModules(), [name])
    return found[0].digest if found else None


def with_settings(reads: Sequence[WatchedRead]) -> Iterator[WatchedRead]:
    """Yield the reads of an attempt, and of each package without settings that it had none."""
    named = {each.name for each in reads if each.kind == "settings"}
    for each in reads:
        yield each
        if each.kind == "package" and each.name not in named:
            yield WatchedRead("settings", each.name, None)


def changed_read(read: WatchedRead) -> str:
    """Say that something is not as it was read, as a reason."""
    if read.kind == "package":
        return f"package {read.name}, which it uses, too, has another version"
    if read.kind == "settings" and read.digest is None:
        return (
            f"{read.name}, whose objects are among its inputs, has settings that its earlier "
            "result does not tell of"
        )
    if read.kind == "settings":
        return f"settings of {read.name}, whose objects are among its inputs, changed"
    if read.kind == "exists":
        return f"{read.name} is {'there now' if read.digest is None else 'not what it was'}"
    words = {
        "env": f"environment variable {read.name}",
        "variables": "the list of environment variables",
        "code": f"module {read.name}",
    }
    return f"{words.get(read.kind, f'{read.kind} {read.name}')} that it reads changed"


def what_is_at(path: str) -> Digest | None:
    """Return a word for what a path is, as a digest; None: nothing is there."""
    if not os.path.lexists(path):
        return None
    kinds = {"link": os.path.islink, "file": os.path.isfile, "folder": os.path.isdir}
    return digest_of_text(" ".join(word for word, test in kinds.items() if test(path)))


def target_of(path: str) -> str | None:
    """Return where a link leads to; None: it is none."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def links_on(path: str) -> Iterator[str]:
    """Yield the links that lead from a path to what it is, as `realpath` meets them."""
    waiting, met = [path], set()
    for each in waiting:  # grows meanwhile
        while each != (folder := os.path.dirname(each)):
            target = None if each in met else target_of(each)
            met.add(each)
            if target is not None:
                yield each
                waiting.append(os.path.join(folder, target))
            each = folder


def digest_of_text(text: str | None) -> Digest | None:
    """Return the digest of a variable's value; None: it is not set."""
    return None if text is None else identity_digest(text.encode("utf-8", "surrogateescape"))


def digest_of_variable_names(names: Iterable[str]) -> Digest:
    """Return the digest of which variables there are, but for those of a session."""
    kept = sorted(os.fsencode(name) for name in names if not name.startswith(OF_A_SESSION))
    return identity_digest(b"variables\0" + b"\0".join(kept))


def _digest_of_names(folder: str) -> Digest | None:
    """Return the digest of a folder's names; Python's own of compiled modules comes by itself."""
    try:
        names = sorted(set(os.listdir(os.fsencode(folder))) - {b"__pycache__"})
    except OSError:
        return None
    return identity_digest(b"names\0" + b"\0".join(names))


def state_of(path: str) -> StatKey | None:
    """Return what stat says of a path; None: there is nothing."""
    try:
        return stat_key(path)
    except OSError:
        return None
