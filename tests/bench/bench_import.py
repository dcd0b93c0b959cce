"""How long `import nbcache` takes in a fresh process, and `%load_ext nbcache` in a fresh shell."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterable

from tests.bench.figure import Figure, main

BUDGET_S = 0.15

IMPORT = """
import time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""

LOAD = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
start = time.perf_counter()
shell.run_line_magic("load_ext", "nbcache")
took = time.perf_counter() - start
assert "nbcache" in shell.extension_manager.loaded
print(took)
"""


def seconds(program: str, times: int) -> float:
    """Return the median of what a program prints, over several fresh processes.

    The first, which may have to read from disk and write byte code, does not count.
    """
    found = []
    for _ in range(times + 1):
        command = [sys.executable, "-c", program]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(float(answer.stdout.split()[-1]))
    return statistics.median(found[1:])


def measure(quick: bool) -> Iterable[Figure]:
    """Return the two figures, beside the imports that the budget was set against."""
    times = 3 if quick else 9
    peers = {
        f"import {module}": seconds(IMPORT.format(module=module), times)
        for module in ("asyncio", "duckdb", "pyarrow.parquet", "pandas")
    }
    yield Figure(
        name="import nbcache, s",
        value=seconds(IMPORT.format(module="nbcache"), times),
        budget=BUDGET_S,
        peers=peers,
    )
    yield Figure(name="%load_ext nbcache, s", value=seconds(LOAD, times), budget=BUDGET_S)


if __name__ == "__main__":
    main(measure)
