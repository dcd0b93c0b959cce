"""A notebook without a kernel: cells given as text run in a real session with real workers."""

from __future__ import annotations

import linecache
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbcache.engine.running.run import Run
from nbcache.engine.session import Session
from nbcache.plan.language.header import parse_channel_cell, parse_channel_line, parse_process_cell
from tests.waiting import PATIENCE_S


class Notebook:
    """Cells of one kernel over a cache in `folder`; `ran()` tells which task bodies really ran.

    A body tells so by a line in the trace file: put `{mark}` into it, which appends what follows.
    """

    def __init__(self, folder: Path, cache: str = "cache") -> None:
        self.folder = folder
        self.trace = folder / "trace.log"
        self.names: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
        self.session = Session(self.names, folder)
        self.session.use(cache)
        self._cells = 0

    def cell(self, text: str) -> None:
        """Run a cell: `%channel`, `%%channel`, `%%process` or Python."""
        self._cells += 1
        first, _, rest = text.partition("\n")
        if first.startswith("%%process"):
            decl = parse_process_cell(
                first.removeprefix("%%process").removeprefix(" "),
                rest,
                cell_name=f"cell [{self._cells}]",
                filename=f"<cell {self._cells}>",
            )
            self.session.declare(decl)
        elif first.startswith("%%channel"):
            self.session.declare_channel(parse_channel_cell(first.removeprefix("%%channel"), rest))
        elif first.startswith("%channel"):
            self.session.declare_channel(parse_channel_line(first.removeprefix("%channel")))
        else:
            filename = f"<cell {self._cells} of {id(self)}>"
            linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
            exec(compile(text, filename, "exec"), self.names)

    def cells(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.cell(text)

    def mark(self, expression: str | int) -> str:
        """Return a statement with which a Python body notes that it ran."""
        return f"open({str(self.trace)!r}, 'a').write(str({expression}) + '\\n')"

    def run(self, *targets: str, timeout: float = PATIENCE_S, **how: bool) -> Run:
        """Run the pipeline to its end, whatever the end is."""
        self.trace.write_text("")
        run = self.session.start(targets, **how)  # type: ignore[arg-type]
        assert run.wait(timeout), f"the run did not end: {run.progress()}"
        return run

    def ran(self) -> list[str]:
        """Return what the bodies of the last run noted, sorted."""
        return sorted(self.trace.read_text().split())

    def close(self) -> None:
        """End the workers and let go of the cache, as the end of a kernel does."""
        self.session.performer.close()
        self.session._held.close()  # also while a run is going, which `Session.close` refuses
