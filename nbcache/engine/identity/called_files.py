"""Which files beside the notebook a script calls by name, and which of these, and programs that are
scripts, call or import in their turn: shell scripts, Python scripts with the modules beside them, R
scripts.

By their text, like the commands of a script: nothing is run, and a name that only a run knows is
missed. A file too many costs a look at it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from nbcache.plan.identity.module_facts import absolute
from nbcache.plan.identity.uses import modules_told, uses_of
from nbcache.plan.language.facts import ScriptFacts
from nbcache.plan.language.script import SOMEWHERE, module_files, script_facts

_SHORT, _LONGEST = 512, 1 << 20  # bytes that are looked at
_RUN_BY_SHELL = re.compile(r"\b(?:ba|da|z|k)?sh\b")
_R_SOURCE = re.compile(r"""\b(?:source|sys\.source)\(\s*(?:file\s*=\s*)?["']([\w./-]+)["']""")

Language = Literal["shell", "python", "R", ""]


class _Text(NamedTuple):
    """A script, or a file that one calls: its name below the notebook's folder, whole if it lies
    elsewhere; "" for the body."""

    name: str
    text: str
    language: Language
    path: str  # the folder, below the notebook's, in which its modules are looked for
    program: tuple[str, str] | None = None  # that led to where it lies: its command, its folder


@dataclass(slots=True)
class CalledFiles:
    """Files beside the notebook by their names below its folder, who calls them, and the commands
    that shell scripts name, and what these write into PATH.

    `elsewhere` are the places of what programs call beside them, by names that say nothing of
    these, which are others for another user: `tool: ../libexec/tool`."""

    files: dict[str, Path] = field(default_factory=dict)
    callers: dict[str, str] = field(default_factory=dict)
    commands: set[str] = field(default_factory=set)
    elsewhere: dict[str, str] = field(default_factory=dict)
    search: list[str] = field(default_factory=list)


def called_files(
    texts: Sequence[str],
    interpreter: Sequence[str],
    folder: Path | None,
    made: Collection[str] = (),
    search_path: str = "",
) -> CalledFiles:
    """Return what the texts of a script call; the first is its body, for an interpreter.

    made: names of files that the script gives out. What is published under them is no part, unless
    the script calls it before it makes it. search_path: where its commands are looked for.
    """
    found = CalledFiles()
    by_name = _language_of("", " ".join(interpreter))
    waiting = [_Text("", each, "shell", "") for each in texts]
    if by_name in ("python", "R"):
        waiting[0] = waiting[0]._replace(language=by_name)
    seen: set[str] = set()
    for each in waiting:  # grows meanwhile
        programs: dict[str, str] = {}
        own = {*made}
        if each.language == "shell":
            facts = script_facts(each.text)
            waiting += [
                each._replace(text=text, language="python", path="") for text in facts.programs
            ]
            names = list(_beside(each.name, facts.scripts))
            if not each.name:
                own.difference_update({*map(os.path.normpath, names)} - facts.written)
            commands = [one for one in facts.commands if "/" not in one]
            names += [one for one in commands if os.access((folder or Path()) / one, os.X_OK)]
            if each.program is not None:
                facts, inside = _without_prefix(facts, os.path.dirname(each.program[1]))
                names += inside
            found.commands.update(facts.commands)
            found.search += facts.search
            programs = dict(_programs(facts.commands, search_path, folder))
        else:
            names = list(_imported(each) if each.language == "python" else _sourced(each))
        if os.path.isabs(each.name):
            names = [*filter(os.path.isabs, names)]  # where it runs is another folder
        for name in map(os.path.normpath, (*names, *programs)):
            if name.startswith("..") or name in (*found.files, *own):
                continue
            if folder is None and not os.path.isabs(name):
                continue
            path = (folder or Path()) / name
            if not path.is_file():
                continue
            program = each.program
            if name in programs:  # these count as tools, where they lie
                program = (programs[name], os.path.dirname(name)) if os.path.isabs(name) else None
            elif program is not None:
                found.elsewhere[f"{program[0]}: {os.path.relpath(name, program[1])}"] = name
            else:
                found.files[name] = path
                found.callers[name] = each.name
            if name not in seen:
                seen.add(name)
                waiting.append(_read(name, path, each)._replace(program=program))
    return found


def _without_prefix(facts: ScriptFacts, prefix: str) -> tuple[ScriptFacts, list[str]]:
    """Return what a program calls but for what lies in the prefix where it is installed, and the
    places of that: they are others for another user. So is what he has on PATH."""
    begin = os.path.join(prefix, "")
    folders = [one for one in facts.search if one.startswith(begin)]
    inside = [one for one in facts.commands if one.startswith(begin)]
    others = tuple(one for one in facts.commands if one not in inside)
    search = tuple(one for one in facts.search if one not in (*folders, "$PATH"))
    inside += [os.path.join(each, one) for each in folders for one in others]
    return replace(facts, commands=others, search=search), inside


def _programs(
    commands: Iterable[str], search_path: str, folder: Path | None
) -> Iterator[tuple[str, str]]:
    """Yield where the commands lie that are programs, and the commands: those of the notebook's
    `bin` below its folder, others whole."""
    for each in commands:
        place: str | None = each
        if not os.path.isabs(each):
            place = None if "/" in each else shutil.which(each, path=search_path)
        if place is not None and os.path.isabs(place):
            is_own = folder is not None and os.path.dirname(place) == str(folder / "bin")
            yield os.path.join("bin", each) if is_own else os.path.normpath(place), each


def _read(name: str, path: Path, caller: _Text) -> _Text:
    try:
        with path.open("rb") as file:
            begin = file.read(_SHORT)
            data = b"" if b"\0" in begin else begin + file.read(_LONGEST)  # else it is no text
    except OSError:
        data = b""
    text = data.decode("utf-8", "replace")
    language = _language_of(name, text.partition("\n")[0] if text.startswith("#!") else "")
    is_module = caller.language == language == "python"
    return _Text(name, text, language, caller.path if is_module else os.path.dirname(name))


def _language_of(name: str, first: str) -> Language:
    """Return who runs a file, by its first line, else by its name."""
    suffix = os.path.splitext(name)[1].lower()
    if "python" in first or (not first and suffix == ".py"):
        return "python"
    if "Rscript" in first or (not first and suffix == ".r"):
        return "R"
    if _RUN_BY_SHELL.search(first) or (name and not first and suffix in ("", ".sh", ".bash")):
        return "shell"
    return ""


def _beside(caller: str, names: Sequence[str]) -> Iterator[str]:
    """Yield the files that a shell script names: of one that lies where only a run knows, that
    beside the script before that beside the notebook."""
    for each in names:
        if each.startswith(SOMEWHERE):
            yield os.path.join(os.path.dirname(caller), each.removeprefix(SOMEWHERE))
        yield each.removeprefix(SOMEWHERE)


def _imported(script: _Text) -> Iterator[str]:
    """Yield the files that the imports of a Python script may read: below its own folder, and for
    `python -m` below the one where the task runs."""
    try:
        uses = uses_of(compile(script.text, "<script>", "exec", dont_inherit=True))
    except (SyntaxError, ValueError, RecursionError):
        return
    inside = os.path.relpath(script.name or ".", script.path or ".")
    package = ".".join(inside.split("/")[:-1])
    modules = [
        ".".join(filter(None, (absolute(each.module, each.level, package), name)))
        for each in uses.imports
        for name in each.names or ("",)
    ]
    modules += modules_told(uses, package)
    for module in modules:
        for file in module_files(module.removesuffix(".*")):
            yield os.path.join(script.path, file)
            if script.path:
                yield file


def _sourced(script: _Text) -> Iterator[str]:
    for name in _R_SOURCE.findall(script.text):
        yield name
        yield os.path.join(os.path.dirname(script.name), name)
