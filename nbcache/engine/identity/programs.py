"""Which programs a Python body starts, and which files it hands to them."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nbcache.plan.language.script import script_facts

_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})


_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True)
class Started:
    """The names of programs as they were called, words that may be names of files, and variables.

    `paths`, and tools that are paths, are where the working directory that the program gets makes
    them lie; `variables` are those that
    a text for a shell reads and does not set, where it gets the environment as it is.
    """

    tools: tuple[str, ...]
    paths: tuple[str, ...]
    variables: tuple[str, ...] = ()


def started_by(arguments: tuple[object, ...]) -> Started:
    """Return what an audit event of `subprocess.Popen` or `os.system` starts."""
    if len(arguments) == 1:  # os.system
        return _by_shell(_text(arguments[0]), "", inherits=True)
    program, given, folder, environ = arguments[:4]
    words = [_text(each) for each in given] if isinstance(given, (list, tuple)) else []
    if isinstance(given, (str, bytes)):
        words = [_text(given)]
    name = _text(program) or (words[0] if words else "")
    handed = tuple(_differing(environ)) if isinstance(environ, Mapping) else ()
    if Path(name).name in _SHELLS and len(words) > 2 and words[1].startswith("-"):
        found = _by_shell(words[2], _text(folder), inherits=environ is None)
    else:
        paths = tuple(_paths(words[1:], _text(folder)))
        found = Started(tuple(_tools([name], _text(folder))), paths)
    return replace(found, paths=found.paths + handed)


def name_on_path(path: object) -> str:
    """Return the name of a program, of where it may lie on PATH; "": it is looked for elsewhere."""
    folder, name = os.path.split(_text(path))
    search = os.environ._data.get(b"PATH", b"")  # type: ignore[attr-defined]  # as in _differing
    return name if folder in os.fsdecode(search).split(os.pathsep) else ""


def _differing(environ: Mapping[object, object]) -> Iterator[str]:
    """Yield absolute paths among the variables that a program gets and this process lacks."""
    own = os.environ._data  # type: ignore[attr-defined]  # the mapping tells of its readers
    for name, value in environ.items():
        text = _text(value)
        if text.startswith(os.sep) and own.get(os.fsencode(_text(name))) != os.fsencode(text):
            yield text


def _by_shell(command: str, folder: str, *, inherits: bool) -> Started:
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    if words[:1] == ["cd"] and len(words) > 1:
        folder = os.path.join(folder, words[1].rstrip(";"))
    facts = script_facts(command)
    read = _VARIABLE.findall(command) if inherits else []
    return Started(
        tuple(_tools(facts.commands, folder)),
        tuple(_paths(words, folder)),
        tuple(name for name in read if name not in facts.variables),
    )


def _counts(name: str) -> bool:
    """Say whether a program is none of the shells and not this Python, which count elsewhere."""
    if not name or Path(name).name in _SHELLS:
        return False
    return "/" not in name or os.path.realpath(name) != os.path.realpath(sys.executable)


def _tools(names: Iterable[str], folder: str) -> Iterator[str]:
    for name in filter(_counts, names):
        yield os.path.join(folder, name) if "/" in name else name


def _paths(words: Iterable[str], folder: str) -> Iterable[str]:
    for word in words:
        text = word.partition("=")[2] if word.startswith("-") else word.lstrip("<").rstrip(";")
        if text:
            yield os.path.join(folder, text)


def _text(value: object) -> str:
    return os.fsdecode(value) if isinstance(value, (str, bytes, os.PathLike)) else ""
