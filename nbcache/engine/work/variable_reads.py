"""Which variables of the environment a body reads, and whether it looks which there are.

A copy of all variables is made to hand it on (`env={**os.environ}`), so what the same instruction
looks up is no read. A loop over pairs may look at any, but for what differs in every session. A
loop that is no copy also reads which variables there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import FrameType

from nbcache.engine.identity.read_state import (
    OF_A_SESSION,
    digest_of_text,
    digest_of_variable_names,
)
from nbcache.engine.work.callers import place_of, who_asks_for_variables
from nbcache.engine.work.child_notes import ChildNotes
from nbcache.model.digest import Digest
from nbcache.model.row import WatchedRead

_Instruction = tuple[int, int]


def variable_rows(read: Mapping[str, str | None], declared: Mapping[str, str]) -> list[WatchedRead]:
    """Return variables as a row keeps them, but for those that the hash knows."""
    return [
        WatchedRead("env", name, digest_of_text(text))
        for name, text in read.items()
        if name not in declared
    ]


class VariableReads:
    """Takes note from `begin` on. `is_others` says that a frame is not the user's code."""

    def __init__(self, children: ChildNotes, is_others: Callable[[FrameType], bool]) -> None:
        self._children, self._is_others = children, is_others
        self.read: dict[str, str | None] = {}  # the values then
        self._own: set[str] = set()  # that the body set itself
        self._at_first: tuple[bytes, ...] = ()  # the variables that there were
        self._copying: _Instruction | None = None  # goes through all to copy them
        self._listing: _Instruction | None = None
        self._lists: set[_Instruction] = set()  # that did, and made no copy
        self._lists_before: set[_Instruction] = set()  # the import of local modules
        self._by_import: dict[str, str | None] | None = None

    def begin(self) -> None:
        """Forget what was read before."""
        self.read, self._own, self._lists = {}, set(), set()
        self._copying = self._listing = None
        self._at_first = tuple(os.environ._data)  # type: ignore[attr-defined]

    def begin_import(self) -> None:
        """Take note separately of what an import of local modules reads."""
        self._by_import = {}
        self._lists_before, self._lists = self._lists, set()

    def end_import(self) -> tuple[Mapping[str, str | None], Digest | None]:
        """Return what was read since `begin_import`, and of which names, if it went through all."""
        found, self._by_import = self._by_import or {}, None
        names = self.names_at_first() if self._lists else None
        self._lists |= self._lists_before
        return found, names

    @property
    def lists_all(self) -> bool:
        """Whether it was looked which variables there are."""
        return bool(self._lists)

    def names_at_first(self) -> Digest:
        """Return the digest of the variables that a task began with."""
        return digest_of_variable_names(map(os.fsdecode, self._at_first))

    # ------------------------------------------------------------------ what is told

    def variable_set(self, name: str) -> None:
        """The body set a variable: its value is not from outside."""
        self._own.add(name)

    def iterated(self, frame: FrameType | None) -> None:
        """Somebody goes through all variables: to copy them at once, or to look at each."""
        frame, pairs = who_asks_for_variables(frame)
        if frame is None:
            return
        place = place_of(frame)
        self._copying, self._listing = (None, place) if pairs else (place, None)
        if self._is_others(frame):
            return
        if not self._children.is_child:
            self._lists.add(place)
        elif pairs:
            self._children.tell("variables", "names", None)

    def looked_up(self, key: str | bytes, frame: FrameType | None) -> None:
        """Somebody asks for a variable."""
        if not isinstance(key, (str, bytes)):
            return
        name = os.fsdecode(key)
        if name in self._own or (name in self.read and self._by_import is None):
            return
        frame, _ = who_asks_for_variables(frame)
        if frame is None:
            return
        place = place_of(frame)
        if place == self._copying:
            self._lists.discard(place)
            return
        if place == self._listing and name.startswith(OF_A_SESSION):
            return
        if frame.f_code.co_name == "expandvars" and frame.f_back is not None:
            frame = frame.f_back  # on behalf of whoever calls it
        if not self._is_others(frame):
            self._note(name)

    def handed_on(self, name: str) -> None:
        """A program that the body starts is given a variable."""
        if name not in self._own and not name.startswith(OF_A_SESSION):
            self._note(name)

    def _note(self, name: str) -> None:
        data = os.environ._data  # type: ignore[attr-defined]
        found = data.get(os.fsencode(name))
        text = None if found is None else os.fsdecode(found)
        if self._children.is_child:
            self._children.tell("env", name, text)
            return
        self.read[name] = text
        if self._by_import is not None:
            self._by_import[name] = text
