"""What a verb of `%nbcache` and `nbcache` is: its words, its options, its help, where it works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Place = Literal["notebook", "shell"]

BOTH: tuple[Place, ...] = ("notebook", "shell")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """An option of a verb. `value` names what it takes; empty for a switch."""

    name: str
    help: str
    value: str = ""
    short: str = ""
    many: bool = False
    places: tuple[Place, ...] = BOTH

    @property
    def usage(self) -> str:
        """How it stands in a usage line: "-p NAME=VALUE..."."""
        text = f"{self.short or self.name} {self.value}".rstrip()
        return text + ("..." if self.many else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """A verb. `words` is its usage line after the name and `least` and `most` bound how many words
    it takes (most None: any number); in a shell `shell_words` and `shell_takes` (least, most)
    where they differ."""

    name: str
    summary: str
    words: str = ""
    shell_words: str | None = None
    least: int = 0
    most: int | None = 0
    shell_takes: tuple[int, int | None] | None = None
    flags: tuple[Flag, ...] = ()
    places: tuple[Place, ...] = BOTH
    completes: Literal["", "processes", "runs", "shells", "verbs"] = ""
    acts: Literal["", "yes", "for results"] = ""  # what a plan of a notebook leaves out
    raw: bool = False  # the rest of the line is one word, as written
    more: str = ""

    def usage(self, place: Place) -> str:
        """Return the usage line: "%nbcache run [PROCESS...] [--fresh] ..."."""
        head = "%nbcache" if place == "notebook" else "nbcache"
        words = self.words if place == "notebook" or self.shell_words is None else self.shell_words
        flags = " ".join(f"[{flag.usage}]" for flag in self.flags_at(place))
        return " ".join(filter(None, (head, self.name, words, flags)))

    def takes(self, place: Place) -> tuple[int, int | None]:
        """Return how many words it takes there, at least and at most (None: any number)."""
        own = self.least, self.most
        return own if place == "notebook" or self.shell_takes is None else self.shell_takes

    def flags_at(self, place: Place) -> list[Flag]:
        """Return the options that the verb takes there."""
        return [flag for flag in self.flags if place in flag.places]
