"""What a verb of `%nbcache` and `nbcache` is: its words, its options, its help, where it works.

Both are spelled as people write them, and what may be written is read from that: so a usage line
and the parser cannot disagree.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import Literal

Place = Literal["notebook", "shell"]

BOTH: tuple[Place, ...] = ("notebook", "shell")
# What the first word of a verb names -> what completion offers for it.
_OFFERED = {"RUN": "runs", "RUN_A": "runs", "PROCESS": "processes", "TASK": "processes"}
_OFFERED |= {"VERB": "verbs", "bash": "shells"}


@dataclass(frozen=True, slots=True)
class Flag:
    """An option of a verb: "-n --limit N"; a switch names no value."""

    spelling: str
    help: str
    _: KW_ONLY
    many: bool = False  # it may be given several times
    places: tuple[Place, ...] = BOTH
    beside: str = ""  # the option without which it means nothing, "--data"

    @property
    def name(self) -> str:
        """Its long name, with both dashes."""
        return next(word for word in self.spelling.split() if word.startswith("--"))

    @property
    def short(self) -> str:
        """Its short name, "-n"; empty where it has none."""
        return self.spelling.partition(self.name)[0].strip()

    @property
    def value(self) -> str:
        """What it takes, as its usage calls it; empty for a switch."""
        return self.spelling.partition(self.name)[2].strip()

    @property
    def told(self) -> str:
        """Its line in a help."""
        return f"with {self.beside}: {self.help}" if self.beside else self.help

    @property
    def usage(self) -> str:
        """How it stands in a usage line: "-p NAME=VALUE..."."""
        text = f"{self.short or self.name} {self.value}".rstrip()
        return text + ("..." if self.many else "")


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb: "log [RUN...]", and what it is in a shell where that differs."""

    spelling: str
    summary: str
    _: KW_ONLY
    in_shell: str = ""
    flags: tuple[Flag, ...] = ()
    places: tuple[Place, ...] = BOTH
    acts: Literal["", "yes", "for results"] = ""  # what a plan of a notebook leaves out
    raw: bool = False  # the rest of the line is one word, as written
    more: str = ""

    @property
    def name(self) -> str:
        """The word that it is called by."""
        return self.spelling.partition(" ")[0]

    def words(self, place: Place) -> str:
        """Return what stands after its name in its usage line there: "[RUN...]"."""
        own = self.in_shell if place == "shell" and self.in_shell else self.spelling
        return own.partition(" ")[2]

    def usage(self, place: Place) -> str:
        """Return the usage line: "%nbcache run [PROCESS...] [--fresh] ..."."""
        head = "%nbcache" if place == "notebook" else "nbcache"
        flags = " ".join(f"[{flag.usage}]" for flag in self.flags_at(place))
        return " ".join(filter(None, (head, self.name, self.words(place), flags)))

    def takes(self, place: Place) -> tuple[int, int | None]:
        """Return how many words it takes there, at least and at most (None: any number).

        Those in brackets may be left out; of what `|` parts, one stands; a TASK and an ITEM may be
        several words.
        """
        words = re.sub(r"--\w+", "", self.words(place))
        needed = _count(re.sub(r"\[.*\]", "", words))
        is_open = re.search(r"\.\.\.|\bTASK\b|\bITEM\b", words) is not None
        return needed, None if is_open else sum(map(_count, re.split(r"[\[\]]", words)))

    @property
    def completes(self) -> str:
        """What completion offers for its words: runs, processes, verbs, shells; or nothing."""
        first = re.search(r"(?<!-)\b\w+", self.words(self.places[0]))
        return _OFFERED.get(first[0], "") if first else ""

    def takes_notebook(self) -> bool:
        """Whether it executes a notebook in a shell."""
        return self.words("shell").startswith("NOTEBOOK")

    def flags_at(self, place: Place) -> list[Flag]:
        """Return the options that the verb takes there."""
        return [flag for flag in self.flags if place in flag.places]


def _count(words: str) -> int:
    return max(len(re.findall(r"\w\S*", each)) for each in words.split("|"))
