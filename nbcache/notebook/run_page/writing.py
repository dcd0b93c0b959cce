"""Write the report of a run to a file, and never over a file that is something else."""

from __future__ import annotations

import shlex
from pathlib import Path

from nbcache.engine.record.run_report import report_of
from nbcache.errors import UsageError, command
from nbcache.notebook.run_page.page import MARK, page_of
from nbcache.store.cache import Cache


def write_report(cache: Cache, word: str | None, place: str | None) -> tuple[str, Path | None]:
    """Write a run's report and return (the page, where it lies).

    place: a file, an earlier report of which is replaced; None: `report-RUN.html` in this folder;
    "-": nowhere.

    Raises:
        RunError: there is no such run. UsageError: the file holds something else, or cannot be
            written.
    """
    if word and word.endswith(".html"):
        way = command(f"report -o {shlex.quote(word)}")
        raise UsageError(f"{word} is no run; to write the page there: {way}")
    report = report_of(cache, word)
    page = page_of(report)
    if place == "-":
        return page, None
    path = Path(place or f"report-{report.run.name}.html").expanduser()
    try:
        if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace")[:1000]:
            raise UsageError(f"{path} is no report of nbcache: name another file with -o")
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
    return page, path
