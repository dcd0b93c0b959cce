"""Which files a body opened past Python, and which of those that a library spelled it opened.

Python tells of each file that it opens itself; what else this process opened, a library did. Where
the system tells of no openings, or lost some, all that was spelled counts as opened. Of children
only a privileged process is told which openings were theirs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from nbcache.engine.work.openings import Opening, Openings
from nbcache.store.filestate import StatKey

_CODE = (".py", ".pyc", ".so", ".dylib")  # what this process imports counts by its own rules


class OpenedFiles:
    """Takes note between `begin` and `end`, where the system tells."""

    def __init__(self) -> None:
        self._openings: Openings | None = None
        self._process = 0
        self._passed: Callable[[str], bool] = bool
        self._children: dict[int, bool] = {}  # whether each is another program
        self._spelled: dict[str, tuple[str, StatKey | None]] = {}  # by their real paths
        self._by_python: set[str] = set()
        self.aside = ""  # the folder that Python lists for an import, until something is gathered
        self._by_any: set[str] = set()  # of those that were spelled
        self._own: dict[str, bool] = {}  # real paths; whether others changed the file later on
        self._folders: dict[str, None] = {}
        self._changed: set[str] = set()  # by the body

    @property
    def has_any(self) -> bool:
        """Whether the body opened anything where it was looked."""
        return bool(self._own or self._folders)

    @property
    def overlooked(self) -> tuple[str, ...]:
        """Folders that have more in them than the system tells of."""
        return tuple(sorted(self._openings.overlooked)) if self._openings is not None else ()

    def begin(self, folders: Iterable[str], passed: Callable[[str], bool]) -> None:
        """Look at these folders and all below them, but for those that `passed` says."""
        is_gone = self._openings is not None and not self._openings.begin_anew()
        if self._process != os.getpid() or is_gone:
            self._process, self._openings = os.getpid(), Openings.begin()
        if self._openings is None:
            return
        self._passed = passed
        for folder in folders:
            self.look_below(folder)
        self._children = {}
        self._spelled, self._by_python, self._by_any = {}, set(), set()
        self.aside = ""
        self._own, self._folders, self._changed = {}, {}, set()
        self._openings.forget()

    def look_below(self, folder: str) -> None:
        """Look at a folder and all below it."""
        if self._openings is not None:
            self._openings.look_below(folder, self._passed)

    def look_near(self, path: str) -> None:
        """Look at the folder of a file that may be opened soon."""
        if self._openings is not None:
            self._openings.look_at(os.path.dirname(path))

    def spell(self, path: str, state: StatKey | None) -> bool:
        """Take a file that is spelled for one that may be opened; False: that cannot be told."""
        if self._openings is None or self._process != os.getpid():
            return False
        real = os.path.realpath(path)
        if real not in self._spelled:
            if not self._openings.look_at(os.path.dirname(real)):
                return False
            self._spelled[real] = path, state
        return True

    def by_python(self, path: str) -> None:
        """Python itself opens a file or lists a folder, and says so."""
        self._by_python.add(path)

    def listed_aside(self, path: str) -> None:
        """Python lists a folder for an import ("": it has): what else looks into it is a read."""
        self.gather()
        self.aside = path and os.path.realpath(path)

    def add_child(self, process: int, *, is_program: bool) -> None:
        """What this process opens counts as well."""
        self._children[process] = is_program

    def gather(self) -> None:
        """Take note of what happened until now: it was the body's doing."""
        if self._openings is not None:
            for each in self._openings.take():
                self._note(each)
        self.aside = ""

    def _note(self, each: Opening) -> None:
        path, is_program = each.path, self._children.get(each.process, False)
        is_own = each.process == self._process or each.process in self._children
        if each.opened and path in self._spelled:
            self._by_any.add(path)  # also by a program that it was given to
        if each.is_folder:
            if each.opened and is_own and path != self.aside:
                self._folders[path] = None
            return
        if each.changed and is_own:
            self._changed.add(path)
        elif each.changed and path in self._own:
            self._own[path] = True
        if each.opened and is_own and (is_program or not path.endswith(_CODE)):
            self._own.setdefault(path, False)

    def forget(self) -> None:
        """What happened since the last time was not the body's doing."""
        if self._openings is not None:
            self._openings.forget()

    def spelled(self) -> Iterator[tuple[str, StatKey | None]]:
        """Yield the files that were spelled and opened, with what stat said of them before."""
        believed = self._openings is not None and not self._openings.is_whole
        for real, (path, state) in self._spelled.items():
            if believed or real in self._by_any:
                yield path, state

    def past_python(self, known: Iterable[str]) -> Iterator[tuple[str, bool]]:
        """Yield the files that something else opened, and whether others changed them afterwards.

        `known` are paths that count, or do not, by what else was seen of them.
        """
        found = [
            each
            for each in self._own.items()
            if each[0] not in self._by_python and each[0] not in self._changed
        ]
        if found:
            explained = self._explained(known)
            yield from (each for each in found if each[0] not in explained)

    def folders_past_python(self) -> Iterator[str]:
        """Yield the folders that something else looked into, but for where the body wrote: there
        databases make sure that what they wrote is on the disk."""
        written = set(map(os.path.dirname, self._changed))
        found = [each for each in self._folders if each not in self._by_python | written]
        if found:
            explained = self._explained(())
            yield from (each for each in found if each not in explained)

    def _explained(self, known: Iterable[str]) -> set[str]:
        return set(map(os.path.realpath, (*self._by_python, *self._spelled, *known)))
