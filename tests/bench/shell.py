"""Cells in an IPython shell of a process of its own, and how long the last of them took."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_SHELL = """
import sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
cells = sys.stdin.read().split("\\n====\\n")
for cell in cells:
    start = time.perf_counter()
    result = shell.run_cell(cell, store_history=True)
    took = time.perf_counter() - start
    result.raise_error()
print("TOOK", took)
"""

# Runs one small process first, which no earlier shell has run, so that workers are up when the
# measured run begins.
WARM = [
    "import time",
    "%channel few = from_iterable([time.time_ns() + n for n in range(4)])",
    "%%process heat(w) from few\nw",
    "%nbcache run heat",
]


def last_cell_s(cells: Sequence[str], folder: Path) -> float:
    """Run cells in a fresh shell and return how long the last one took: seconds.

    Raises:
        RuntimeError: a cell failed; holds what was printed.
    """
    answer = subprocess.run(
        [sys.executable, "-c", _SHELL],
        input="\n====\n".join(cells),
        capture_output=True,
        text=True,
        cwd=folder,
    )
    times = [line.split()[1] for line in answer.stdout.splitlines() if line.startswith("TOOK ")]
    if answer.returncode or not times:
        raise RuntimeError(answer.stdout[-1000:] + answer.stderr[-2000:])
    return float(times[0])
