"""A kernel whose clock is wrong: everything it imports sees the time plus an offset.

    python -m tests.faults.clock_actor FOLDER OFFSET_S [fresh]

The clock is moved before anything of nbcache is imported, and keeps jumping back while it runs, in
steps of up to a minute. Its workers have it too. Prints JSON: outcomes and what was read.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path


def move_clock(offset_s: float) -> None:
    """Let the wall clock be wrong, and jump back by some seconds at every third look."""
    real_ns, steps = time.time_ns, itertools.count()

    def moved_ns() -> int:
        jump = next(steps) % 3 * 20
        return real_ns() + int((offset_s - jump) * 1e9)

    time.time_ns = moved_ns
    time.time = lambda: moved_ns() / 1e9


def main(folder: Path, offset_s: float, fresh: bool) -> None:
    """Run a pipeline on random results, fold and compact, and say what is read afterwards."""
    move_clock(offset_s)
    from nbcache.engine.record.history import runs
    from nbcache.store.verify import verify
    from tests.engine.notebooks import Notebook

    notebook = Notebook(folder)
    notebook.cells(
        [
            "%channel src = from_iterable(range(4))",
            "%%process draw(v) -> data from src\nimport os\ndata = os.urandom(8).hex()",
            "%%process total(datas) -> joined from draw.collect()\njoined = '-'.join(datas)",
        ]
    )
    run = notebook.run(fresh=fresh)
    log = notebook.session.cache.log
    log.rotate()
    log.fold()
    log.compact(grace_s=0.0)
    problems = [str(each) for each in verify(notebook.session.cache).problems]
    told = {"counts": run.counts(), "total": run["total"].value, "problems": problems}
    told["run"], told["runs"] = run.id, [each.id for each in runs(notebook.session.cache)]
    notebook.close()
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), "fresh" in sys.argv)
