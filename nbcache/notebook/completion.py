"""Tab completion on the lines of nbcache: verbs and their options, header options, channel names.

Answers from the verb table, the directive table and the names that the kernel holds; it evaluates
nothing, and a fault in it must never disturb typing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from nbcache.engine.declared.factories import Factories
from nbcache.engine.declared.process import Process
from nbcache.engine.record import history
from nbcache.engine.session import current_session
from nbcache.notebook.query_result import NOTEBOOK_FORMATS
from nbcache.notebook.verb_words import starting, words_for
from nbcache.plan.dataflow.channel import Channel
from nbcache.plan.language.options import OPTIONS

RUNS = 50  # names of runs that are offered, the newest
_WORD = re.compile(r"[^\W\d]\w*$")


def typed_at_end(line: str) -> str:
    """Return the beginning of a word at the end of a line, which a completion takes the place of:
    all behind the last blank."""
    text = line.removeprefix("#|")
    return "" if not text or text[-1].isspace() else text.split()[-1]


def command_words(
    line: str, namespace: Mapping[str, object], runs: Callable[[], Sequence[str]] | None = None
) -> list[str]:
    """Return what may stand at the end of a `%nbcache ...` line; `runs` gives the names of runs."""

    def offers(kind: str) -> Sequence[str]:
        if kind == "runs":
            return (runs or run_names)()
        if kind == "formats":
            return NOTEBOOK_FORMATS
        return names_of(namespace, Process) if kind == "processes" else labels_of(namespace)

    return words_for(line, "notebook", offers)


def run_names() -> list[str]:
    """Return the names of the newest runs in the kernel's cache; it makes no cache."""
    session = current_session()
    if not session.place.is_dir():
        return []
    return [run.name for run in history.runs(session.cache)[:RUNS]]


def header_words(line: str, namespace: Mapping[str, object]) -> list[str]:
    """Return what may stand at the end of a `%%process` header or a `#|` line."""
    typed = typed_at_end(line)
    if line.lstrip().startswith("#|"):
        known = line.lstrip().removeprefix("#|").lstrip()
        return [] if ":" in known else [f"{each}:" for each in starting(known, OPTIONS)]
    if typed.startswith("-"):
        return starting(typed, [f"--{name}" for name in OPTIONS])
    tail = _tail(typed)
    if re.search(r"\bfrom\b", line.removesuffix(typed)):
        return _prefixed(typed, tail, starting(tail, names_of(namespace, Channel)))
    if "(" in line and ")" not in line:
        return []
    return starting(typed, ["from", "->"]) if len(line.split()) > 1 else []


def channel_words(line: str, namespace: Mapping[str, object]) -> list[str]:
    """Return what may stand at the end of a `%channel NAME = ...` line."""
    if "=" not in line:
        return []
    typed = typed_at_end(line)
    tail = _tail(typed)
    before = typed.removesuffix(tail)
    if before.endswith("."):
        return []  # an operator: Python's own completion knows the object
    return _prefixed(
        typed, tail, starting(tail, [*Factories.names, *names_of(namespace, Channel), *namespace])
    )


def names_of(namespace: Mapping[str, object], kind: type) -> list[str]:
    """Return the public names that hold something of a kind."""
    return sorted(
        name
        for name, value in list(namespace.items())
        if isinstance(value, kind) and not name.startswith("_")
    )


def labels_of(namespace: Mapping[str, object]) -> list[str]:
    """Return the labels that the processes under public names have."""
    found = (namespace[name] for name in names_of(namespace, Process))
    declared = [each.decl for each in found if isinstance(each, Process)]
    return [label for decl in declared for label in decl.directives.label]


def _tail(typed: str) -> str:
    found = _WORD.search(typed)
    return found[0] if found else ""


def _prefixed(typed: str, tail: str, matches: Iterable[str]) -> list[str]:
    """What is typed is completed as a whole: put back what stands before the name."""
    before = typed.removesuffix(tail)
    return [before + match for match in matches]
