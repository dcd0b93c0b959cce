"""What may stand at the end of a command that somebody types, by the verb table alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from nbcache.notebook.verb import Place
from nbcache.notebook.verb_table import VERBS

# What an option of a verb takes, as its usage calls it -> what is offered
_OF_VALUES = {"RUN": "runs", "PROCESS": "processes", "LABEL": "labels", "FORMAT": "formats"}


def words_for(line: str, place: Place, offers: Callable[[str], Sequence[str]]) -> list[str]:
    """Return what may stand at the end of `%nbcache ...` or `nbcache ...`.

    offers: gives the names of a kind that there are: runs, processes, labels, formats,
    shells.
    """
    words = line.split()[1:]
    typed = "" if line[-1:].isspace() or not words else words.pop()
    known = {verb.name: verb for verb in VERBS.values() if place in verb.places}
    if not words:
        return starting(typed, known)
    verb = known.get(words[0])
    if verb is None:
        return []
    flags = verb.flags_at(place)
    if typed.startswith("-"):
        return starting(typed, [flag.name for flag in flags])
    asking = next((flag for flag in flags if words[-1] in (flag.name, flag.short)), None)
    wanted = verb.completes
    if asking is not None and asking.value:
        wanted = _OF_VALUES.get(asking.value, "")
    elif place == "shell" and verb.takes_notebook() and len(words) == 1:
        wanted = ""  # a file, which the shell completes
    if wanted == "runs":
        return starting(typed, [*offers("runs"), "last"])
    if wanted == "verbs":
        return starting(typed, known)
    return starting(typed, offers(wanted)) if wanted else []


def starting(typed: str, words: Iterable[str]) -> list[str]:
    """Return the words that go on with what is typed, each once, in order."""
    return sorted({word for word in words if word.startswith(typed) and not word.startswith("_")})
