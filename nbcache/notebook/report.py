"""What `nbcache run` prints: runs while they go, and the last words when the notebook has ended."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any, TextIO

from nbcache.errors import plain
from nbcache.notebook import place_progress, render
from nbcache.notebook.headless import Execution
from nbcache.notebook.progress import ENDED, RUN_CLASS, RunRecord, counts_of, progress_from
from nbcache.notebook.terminal import Screen, terminal_screen

_CACHED = re.compile(r"(?:[^\S\n]*(?:#[^\n]*)?\n)*[^\S\n]*%%cached\b")
_LAST_LINES = 40
_LAST_CELLS = 3


class TerminalWatcher:
    """Shows a kernel's runs one after the other; prints what cells print only when asked."""

    def __init__(self, stream: TextIO, *, verbose: bool) -> None:
        self._stream, self._verbose = stream, verbose
        self._screens: dict[str, Screen] = {}
        self._ended: set[str] = set()
        self._last: dict[str, RunRecord] = {}

    def run_changed(self, record: RunRecord) -> None:
        """A run of the kernel is in this state now."""
        run = record["run"]
        if run in self._ended:
            return
        self._last[run] = record
        screen = self._screens.get(run)
        if screen is None:
            screen = self._screens[run] = terminal_screen(self._stream)
        if record["status"] in ENDED:
            self._ended.add(run)
            screen.close(progress_from(record))
        else:
            screen.update(progress_from(record))

    def cell_printed(self, text: str) -> None:
        """A cell printed or showed something."""
        if self._verbose:
            print(text, end="", file=self._stream, flush=True)

    def said(self, text: str) -> None:
        """nbcache has something to say: of a run that is about to begin, what `debug` processes
        print, of a cached cell."""
        going = [each for run, each in self._screens.items() if run not in self._ended]
        if going:
            going[-1].say(text)
        else:
            print(text, file=self._stream, flush=True)

    def finish(self) -> None:
        """Leave the terminal as it was, also where a run never said that it ended."""
        for run, screen in self._screens.items():
            if run not in self._ended:
                screen.close(progress_from(self._last[run]))


class PlanWatcher:
    """Tells of a notebook that is executed for its plan only what nbcache has to say."""

    def run_changed(self, record: RunRecord) -> None:
        """A run has its results from the cache."""

    def cell_printed(self, text: str) -> None:
        """A cell printed or showed something."""

    def said(self, text: str) -> None:
        """nbcache has something to say."""
        print(text, file=sys.stderr, flush=True)


def final_words(execution: Execution, *, verbose: bool = False) -> str:
    """Return the summary of all runs and, unless it was printed already (`verbose`), what the
    cells below the last one showed: text that ends in a newline, empty where nothing ran."""
    parts: list[str] = []
    if len(execution.runs) > 1:
        parts.append(_all_runs(execution))
    if execution.failed_cell is None and not verbose:
        shown = last_output(execution.notebook, execution.said)
        if shown:
            parts.append(shown)
    if not execution.runs and execution.failed_cell is None and not _has_cached(execution.notebook):
        parts.append("no nbcache run took place in this notebook")
    return "".join(f"{part}\n" for part in parts)


def record_of(execution: Execution, notebook: Path) -> dict[str, object]:
    """Return what `nbcache run --json` prints of a notebook that has ended."""
    failed = execution.failed_cell
    status = "failed" if failed is not None else "succeeded"
    return {
        "notebook": str(notebook),
        "status": "interrupted" if execution.interrupted else status,
        "runs": [
            {**record, "counts": counts_of(progress_from(record))}
            for record in execution.runs.values()
        ],
        "failed_cell": failed and {"number": failed[0], "error": plain(failed[1]).strip()},
    }


def _all_runs(execution: Execution) -> str:
    records = [progress_from(record) for record in execution.runs.values()]
    counts = Counter[str]()
    for record in records:
        counts.update(counts_of(record))
    elapsed = sum(record.elapsed_s for record in records)
    saved = sum(record.saved_s for record in records)
    equal = sum(record.equal for record in records)
    ended = place_progress.outcome_phrase(counts, equal)
    line = f"{len(records)} runs: {ended}, {render.duration(elapsed)}"
    return line + (f" · saved {render.duration(saved)}" if saved >= 0.05 else "")


def last_output(notebook: Any, said: Collection[str] = ()) -> str:
    """Return the text of the cells below the last run, of the last three at most; where none of
    them showed anything, of the last cell above that showed something other than a run or card.

    said: what was said at once, and is not shown again."""
    found: list[str] = []
    has_run = False
    for cell in reversed([cell for cell in notebook.cells if cell.cell_type == "code"]):
        told = map(_text_of, cell.outputs)
        if texts := [text for text in told if text and text not in said]:
            lines = "\n".join(texts).rstrip().split("\n")
            more = [f"… {len(lines) - _LAST_LINES} more lines"] * (len(lines) > _LAST_LINES)
            found.append("\n".join(["", *lines[:_LAST_LINES], *more]))
        has_run = has_run or any(map(_is_run, cell.outputs))
        if found and (has_run or len(found) == _LAST_CELLS):
            break
    return "\n".join(reversed(found))


def _has_cached(notebook: Any) -> bool:
    """Whether a cell is kept: that is what the notebook has of nbcache, without any run."""
    return any(each.cell_type == "code" and _CACHED.match(each.source) for each in notebook.cells)


def _is_own(output: Any) -> bool:
    """Whether an output is a run's or a card's."""
    return 'class="nbcache' in _html_of(output)


def _is_run(output: Any) -> bool:
    """Whether an output is what a run showed while it went on; a look at one is a result."""
    return output["output_type"] == "display_data" and RUN_CLASS in _html_of(output)


def _html_of(output: Any) -> str:
    return str(output.get("data", {}).get("text/html", ""))


def _text_of(output: Any) -> str:
    data = output.get("data", {})
    if _is_own(output):
        return ""
    if output["output_type"] == "stream":
        return str(output["text"]) if output["name"] == "stdout" else ""
    text = str(data.get("text/plain", ""))
    return "" if text.startswith("<Figure") else text
