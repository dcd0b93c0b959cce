"""Which programs a Python body starts, and which files it hands to them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nbcache.plan.language.script import script_facts

_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})


@dataclass(frozen=True, slots=True)
class Started:
    """The names of programs as they were called, and absolute paths among the arguments."""

    tools: tuple[str, ...]
    paths: tuple[str, ...]


def started_by(arguments: tuple[object, ...]) -> Started:
    """Return what an audit event of `subprocess.Popen` or `os.system` starts."""
    if len(arguments) == 1:  # os.system
        return _by_shell(_text(arguments[0]))
    program, given = arguments[0], arguments[1]
    words = [_text(each) for each in given] if isinstance(given, (list, tuple)) else []
    if isinstance(given, (str, bytes)):
        words = [_text(given)]
    name = _text(program) or (words[0] if words else "")
    if Path(name).name in _SHELLS and len(words) > 2 and words[1].startswith("-"):
        return _by_shell(words[2])
    return Started(tuple(filter(_counts, [name])), tuple(_paths(words[1:])))


def _by_shell(command: str) -> Started:
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    return Started(tuple(filter(_counts, script_facts(command).commands)), tuple(_paths(words)))


def _counts(name: str) -> bool:
    """Say whether a program is none of the shells and not this Python, which count elsewhere."""
    if not name or Path(name).name in _SHELLS:
        return False
    return "/" not in name or os.path.realpath(name) != os.path.realpath(sys.executable)


def _paths(words: Iterable[str]) -> Iterable[str]:
    for word in words:
        text = word.partition("=")[2] if word.startswith("-") else word
        if text.startswith("/"):
            yield text


def _text(value: object) -> str:
    return os.fsdecode(value) if isinstance(value, (str, bytes, os.PathLike)) else ""
