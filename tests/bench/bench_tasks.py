"""What nbcache adds to a task that does nothing: run cold, found cached, asked about afterwards.

Each figure comes from an IPython shell in a process of its own that runs the cells a user would
write, and is the time of the measured cell alone: without interpreter start and imports.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.bench.figure import Figure, main
from tests.bench.shell import WARM, last_cell_s

COUNTS = "SELECT process, count(*) AS tasks, avg(realtime) AS mean FROM tasks GROUP BY process"


def pipeline(tasks: int, body: str = "%%process noop(v) from items\nv") -> list[str]:
    """Return the cells of a pipeline of that many tasks that do nothing."""
    return [
        "%load_ext nbcache",
        f"%channel items = from_iterable(range({tasks}))",
        body,
    ]


RUN = "%nbcache run noop"


def measure(quick: bool) -> Iterable[Figure]:
    """Return the cost of a task: cold in Python and in bash, cached, and of a question after it."""
    sizes = (200, 1_000) if quick else (1_000, 10_000)
    for tasks in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            cold = last_cell_s([*pipeline(tasks), *WARM, RUN], folder)
            yield Figure(
                name=f"cold, per no-op Python task of {tasks:,}, warm workers, ms",
                value=cold / tasks * 1e3,
                budget=0.30,
            )
            resume = min(last_cell_s([*pipeline(tasks), RUN], folder) for _ in range(3))
            yield Figure(
                name=f"resume, per cached task of {tasks:,}, ms",
                value=resume / tasks * 1e3,
                budget=0.05,
            )
            if tasks == max(sizes):
                yield from after(folder, tasks)
    with tempfile.TemporaryDirectory() as name:
        tasks = 50 if quick else 300
        body = "%%process noop(v) -> w from items --bash\nw=1"
        cold = last_cell_s([*pipeline(tasks, body), *WARM, RUN], Path(name))
        yield Figure(
            name=f"cold, per script task of {tasks:,}, ms", value=cold / tasks * 1e3, budget=2.0
        )
    with tempfile.TemporaryDirectory() as name:
        yield watched(Path(name), 50 if quick else 200)


def watched(folder: Path, tasks: int) -> Figure:
    """Return the cost of a task that reads 100 files which it did not declare."""
    for k in range(100):
        (folder / f"f{k}").write_text("text")
    reading = "for k in range(100):\n    with open(f'{here}/f{k}') as file:\n        file.read()"
    cells = pipeline(tasks, f"%%process noop(v) from items\n{reading}\nv")
    here = f"here = {str(folder)!r}"
    cold = last_cell_s([*cells, here, *WARM, RUN], folder)
    plain = last_cell_s([here, reading], folder)
    return Figure(
        name="cold, per task that reads 100 undeclared files, ms",
        value=cold / tasks * 1e3,
        peers={"reading them, ms": plain * 1e3},
    )


def after(folder: Path, tasks: int) -> Iterable[Figure]:
    """Return what a question to the history costs, in a notebook and in a fresh process."""
    question = f"answer = %nbsql {COUNTS}"
    warm = last_cell_s(["%load_ext nbcache", question, question], folder)
    yield Figure(
        name=f"history of {tasks:,} tasks: counts and means, warm, s", value=warm, budget=0.010
    )
    command = [str(Path(sys.executable).with_name("nbcache")), "sql", COUNTS]
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    yield Figure(
        name=f"history of {tasks:,} tasks: from a shell, fresh process, s",
        value=min(times),
        budget=0.5,
    )


if __name__ == "__main__":
    main(measure)
