"""A run in a terminal: bars drawn by rich, or plain lines where the output is a file or a pipe.

Used by plain IPython (which sees the run itself) and by `nbcache run` (which sees what a kernel
tells). A screen gets snapshots and prints; it decides nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol, TextIO

from nbcache.errors import command, plain
from nbcache.model.view import PlaceProgress, RunProgress
from nbcache.notebook import place_progress
from nbcache.notebook import progress as pictures

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


FAILURES = 5  # lines about failed tasks while a run goes


class Screen(Protocol):
    """Where a run is shown while it goes."""

    def update(self, progress: RunProgress) -> None:
        """Show a later snapshot; cheap when nothing changed."""

    def say(self, lines: str) -> None:
        """Show lines that tasks print (`debug`), between pictures."""

    def close(self, progress: RunProgress) -> None:
        """Show the last snapshot; nothing comes after it."""


def terminal_screen(stream: TextIO | None = None) -> Screen:
    """Return bars for a terminal, lines for anything else."""
    out = stream or sys.stdout
    return BarScreen(out) if out.isatty() else LineScreen(out)


class LineScreen:
    """Says in plain lines what changed: a process that began, that ended, a failed task."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._said: set[str] = set()

    def update(self, progress: RunProgress) -> None:
        for place in progress.places:
            if place.expected and sum(place.counts.values()):
                self._say_once(f"{place.name}: {_tasks(place)}", f"begin {place.name}")
            if _is_over(place):
                self._say_once(
                    f"{place.name}: {place_progress.place_phrase(place)}", f"end {place.name}"
                )
        for failure in progress.failures[:FAILURES]:
            how = "ignored" if failure.ignored else "failed"
            line = f"{how}: {failure.task} {failure.headline}"  # the whole ends the cell
            self._say_once(line, f"failed {failure.task}")
        for note in (*progress.notes, *(wait.who for wait in progress.waits)):
            self._say_once(note, note)

    def say(self, lines: str) -> None:
        self._say(lines)

    def close(self, progress: RunProgress) -> None:
        self.update(progress)
        if len(progress.failures) > FAILURES:
            self._say(f"and {len(progress.failures) - FAILURES} more; see {command('log')}")
        for line in pictures.reason_lines(progress):
            self._say(line)
        self._say(pictures.summary_line(progress))

    def _say_once(self, line: str, key: str) -> None:
        if key not in self._said:
            self._said.add(key)
            self._say(line)

    def _say(self, line: str) -> None:
        print(plain(line), file=self._stream, flush=True)


def _tasks(place: PlaceProgress) -> str:
    return f"{place.expected:,} task{'' if place.expected == 1 else 's'}"


def _is_over(place: PlaceProgress) -> bool:
    return bool(place.expected) and place_progress.ended(place.counts) >= (place.expected or 0)


class BarScreen:
    """One bar per process and a line for the whole; what stays at the end is plain text."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bars: Progress | None = None
        self._rows: dict[str, TaskID] = {}

    def update(self, progress: RunProgress) -> None:
        bars = self._bars or self._start()
        for place in progress.places:
            total = place_progress.expected_total(place) or None
            if place.name not in self._rows:
                self._rows[place.name] = bars.add_task(place.name, total=total, state="")
            bars.update(
                self._rows[place.name],
                total=total,
                completed=place_progress.done(place.counts),
                state=place_progress.place_phrase(place),
            )
        if "" not in self._rows:
            self._rows[""] = bars.add_task("all", total=1, state="")
        bars.update(
            self._rows[""],
            completed=place_progress.done(pictures.counts_of(progress)),
            total=pictures.total_of(progress) or None,
            state=pictures.progress_line(progress),
        )
        bars.refresh()

    def say(self, lines: str) -> None:
        if self._bars is None:
            print(lines, file=self._stream, flush=True)
        else:
            self._bars.console.print(lines, markup=False, highlight=False, soft_wrap=True)

    def close(self, progress: RunProgress) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        told = pictures.render_progress(progress, kept=False)
        print(told.text, file=self._stream, flush=True)

    def _start(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24, complete_style="green", finished_style="green"),
            TextColumn("{task.fields[state]}", markup=False),
            console=Console(file=self._stream),
            transient=True,
            auto_refresh=False,
        )
        self._bars.start()
        return self._bars
