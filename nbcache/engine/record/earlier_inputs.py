"""Which inputs earlier tasks of a process had, and in words which of a task's are new.

Asked only when something runs for its inputs: then all earlier attempts of the process count, and
not only those of the last run, whose tasks may have been hits.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Mapping
from contextlib import suppress
from typing import Any

from nbcache.model.digest import Digest
from nbcache.model.fingerprint import Component
from nbcache.model.ids import Position
from nbcache.model.row import InputSummary
from nbcache.plan.identity.explain import Difference, edited_file, new_inputs
from nbcache.plan.identity.fingerprint import component
from nbcache.store.log import Log
from nbcache.store.segment import MAYBE_NOT_BEGUN, ROWS, inputs_of, read_inputs

NEW_COMBINATIONS = "new combinations of inputs"


class InputsOnRecord:
    """The inputs of all attempts that the log holds now, but for those of tasks that never began.

    Segments are read once.
    """

    def __init__(self, log: Log) -> None:
        log.refresh()
        # Before the segments: what is folded in between is there twice, not never.
        self._journals = log.journals()
        self._tables: list[Any] = []
        for name in log.segments():
            with suppress(FileNotFoundError):  # merged into another one, for the next run
                self._tables.append(read_inputs(log.root / "log" / (name + ROWS)))

    def of(self, process: str) -> EarlierInputs:
        """Return those of a process."""
        found = EarlierInputs()
        for table in self._tables:
            for each in inputs_of(table, process):
                found.add(*each)
        for view in self._journals.values():
            for record in view.records_of(("attempt",), holding=process):
                if record.get("process") == process and (
                    record.get("start") is not None or record.get("status") not in MAYBE_NOT_BEGUN
                ):
                    for row in record.get("inputs") or ():
                        found.add(row["name"], row["digest"], row.get("summary") or "")
        return found


class EarlierInputs:
    """The inputs that attempts of a process had."""

    def __init__(self) -> None:
        self._digests: dict[str, set[str]] = {}
        self._files: dict[tuple[str, str], Component] = {}  # by input and file name: the latest

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(self._digests)

    def add(self, name: str, digest: str, summary: str) -> None:
        """Take one more."""
        self._digests.setdefault(name, set()).add(digest)
        self._files[name, summary.rpartition(" (")[0]] = _input(name, digest, summary)

    def new_among(self, inputs: Mapping[str, InputSummary]) -> list[Difference]:
        """Return what no earlier task had, each beside the file of that name as it was."""
        found = []
        for name, each in inputs.items():
            if each.digest not in self._digests.get(name, ()):
                before = self._files.get((name, each.summary.rpartition(" (")[0]))
                now = _input(name, each.digest, each.summary)
                found.append(Difference("changed" if before else "new", before, now))
        return found


class NewInputs:
    """What is new among the inputs of several tasks of a process, each named once, in the order of
    the tasks and not of their decisions.

    Said again after each task: what is said costs no more the more there are. `otherwise` is said
    where none is new.
    """

    def __init__(self, otherwise: str = NEW_COMBINATIONS) -> None:
        self._otherwise = otherwise
        self._edited, self._new = _InOrder(), _InOrder()

    def add(self, position: Position, found: list[Difference]) -> None:
        """Add what is new of the task there; nothing: only the combination is."""
        for number, each in enumerate(found):
            edited, one = edited_file(each), each.component
            if edited is not None:
                self._edited.put(edited, (position, number), edited)
            else:
                text = f"{one.name} {one.summary}".strip()  # several may read alike
                self._new.put((one.name, one.digest), (position, number), text)

    def __str__(self) -> str:
        return new_inputs(self._edited.texts, self._new.texts) or self._otherwise


class _InOrder:
    """Texts, each once for its key, in the order of their places."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._places: list[tuple[Position, int]] = []  # beside them
        self._place_of: dict[Hashable, tuple[Position, int]] = {}

    def put(self, key: Hashable, place: tuple[Position, int], text: str) -> None:
        """Put a text where it belongs; of several places of a key the first counts."""
        known = self._place_of.get(key)
        if known is not None:
            if known <= place:
                return
            at = bisect_left(self._places, known)
            del self._places[at], self.texts[at]
        at = bisect_left(self._places, place)
        self._places.insert(at, place)
        self.texts.insert(at, text)
        self._place_of[key] = place


def _input(name: str, digest: str, summary: str) -> Component:
    return component("input", name, Digest(digest), summary)
