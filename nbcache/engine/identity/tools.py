"""Identify the commands that a script names: by the content of what PATH gives for them.

A launcher that Python's installers write says nothing of the program behind it, so for those the
versions of the package (and of what it needs) count too. Shell builtins are no commands.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from nbcache.engine.identity.installed_by import package_of
from nbcache.engine.identity.packages import closure_of, distribution_of
from nbcache.model.digest import Digest
from nbcache.model.fingerprint import Component
from nbcache.plan.identity.fingerprint import component
from nbcache.plan.identity.reach import combine
from nbcache.plan.language.script import SHELL_WORDS

_SHELLS = frozenset({"bash", "sh", "dash", "zsh", "ksh", "env"})
_LONGEST_LAUNCHER = 2000  # bytes
_LAUNCHER = re.compile(rb"^#!(?P<python>[^\n]*python[\d.]*)[^\n]*\n.*?from (?P<module>\w+)", re.S)


def search_path(path: str, folder: Path | None) -> str:
    """Return where a script's commands are looked for: also in `bin` beside the notebook, but not
    beside it, where `bash NAME` would find a script that nobody knows to count."""
    return os.pathsep.join(filter(None, (str(folder / "bin") if folder else "", path)))


def names_in(folders: Iterable[str], words: Collection[str], search_path: str) -> set[str]:
    """Return the names of programs that commands may be, in folders that a script puts on PATH.

    Which command runs under which PATH is not told, so each counts besides the one that is found
    without. Not those below the folder where the task runs: its files are its inputs. Variables
    stay in the names, so that these are the same for all users.
    """
    names: set[str] = set()
    wanted = {word for word in words if "/" not in word and word not in SHELL_WORDS}
    for written in folders:
        is_known = written != "$PATH"
        places = (_expanded(written) if is_known else search_path).split(os.pathsep)
        for folder in filter(os.path.isabs, places):
            shown = written if is_known and len(places) == 1 else folder
            for word in wanted:
                place, usual = shutil.which(word, path=folder), shutil.which(word, path=search_path)
                if place and not (usual and os.path.realpath(place) == os.path.realpath(usual)):
                    names.add(f"{shown.rstrip('/')}/{word}")
    return names


def _expanded(name: str) -> str:
    return os.path.expanduser(os.path.expandvars(name))


def tool_components(
    words: Collection[str],
    interpreter: Sequence[str],
    digest_of: Callable[[Path], Digest],
    search_path: str,
    *,
    mode: str = "content",
    places: Mapping[str, str] = MappingProxyType({}),
) -> list[Component]:
    """Return a component for each word that PATH resolves, and for an interpreter but a shell.

    A command that a script names and that is not there is no component; once it is installed,
    the script runs again. With the mode `version` a program counts by the package that installed
    it and by its version, and by content where no package manager knows it; with `off` not at all.
    places: of further ones, which are looked for nowhere, by their names.
    """
    if mode == "off":
        return []
    wanted = {word for word in words if word not in SHELL_WORDS and "=" not in word}
    programs = [word for word in interpreter if not word.startswith("-")]
    if programs and Path(programs[0]).name == "env":
        programs = programs[1:]
    wanted |= {word for word in programs[:1] if Path(word).name not in _SHELLS}
    found: list[Component] = []
    for word in sorted({*wanted, *places}):
        # What `bash /here/it.sh` runs need not be executable.
        name = places.get(word) or _expanded(word)
        place = name if os.path.isabs(name) else shutil.which(name, path=search_path)
        if place is None or not os.path.isfile(place):
            continue
        real = Path(place).resolve()
        launched = _launched(real)
        if launched is not None:
            digest = combine("launcher", *launched)
            summary = f"{place} ({launched[0]} {dict(launched[1]).get(launched[0], '')})"
        elif mode == "version" and (owner := package_of(real)) is not None:
            digest, summary = combine("package", *owner), f"{place} ({' '.join(owner)})"
        else:
            digest, summary = digest_of(real), place
        found.append(component("tool", word, digest, summary))
    return found


def _launched(program: Path) -> tuple[str, tuple[tuple[str, str], ...], bytes] | None:
    """Return the package behind a Python launcher, the versions of all that it needs, its code.

    Its first line does not count, which says where Python lies on this machine.
    """
    try:
        with program.open("rb") as file:
            text = file.read(_LONGEST_LAUNCHER + 1)
    except OSError:
        return None
    match = _LAUNCHER.match(text)
    if match is None or len(text) > _LONGEST_LAUNCHER:
        return None
    root = Path(os.fsdecode(match["python"].split()[0])).parent.parent
    folders = tuple(map(str, sorted(root.glob("lib/python3*/site-packages"))))
    name = distribution_of(match["module"].decode(), folders) if folders else None
    return None if name is None else (name, closure_of(name, folders), text.partition(b"\n")[2])
