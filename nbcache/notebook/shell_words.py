"""Words of a shell: which cache a command line names, and how a message names a command there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from nbcache.errors import UsageError
from nbcache.notebook import verbs

_CACHE = "--cache"


def place_in(words: Sequence[str]) -> str | None:
    """Return the cache that `--cache PLACE` or `--cache=PLACE` of a command line names."""
    named = None
    for at, word in enumerate(words):
        if word == _CACHE and at + 1 < len(words):
            named = words[at + 1]
        elif word.startswith(f"{_CACHE}="):
            named = word.partition("=")[2]
    return named


def as_typed(words: str, place: str | None = None) -> str:
    """Return a command that a message names as a shell has it; where it has none, the notebook's.

    place: what the reader gave as `--cache`, which the next command has to be given, too. Another
    place of results (`use PLACE`) is that option there.
    """
    verb, _, rest = words.partition(" ")
    if verb == "use":
        return f"{_CACHE} {rest}"
    try:
        known = verbs.find_verb(verb, "shell")
    except UsageError:
        return f"%nbcache {words}"
    if known.takes_notebook() and known.takes("shell")[1] == 1 and not rest.startswith("-"):
        rest = ""  # all of it runs
    takes_place = any(flag.name == _CACHE for flag in known.flags_at("shell"))
    cache = f"{_CACHE} {shlex.quote(place)}" if place is not None and takes_place else ""
    notebook = "NOTEBOOK" if known.takes_notebook() else ""
    return " ".join(filter(None, ("nbcache", verb, notebook, rest, cache)))
