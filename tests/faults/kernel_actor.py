"""A kernel that runs a pipeline and announces every task that its run reports as done.

    python -m tests.faults.kernel_actor CACHE SEED

Prints `hash outcome` as soon as the run shows a task as finished; whoever reads may kill it then.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.engine.notebooks import Notebook


def main(cache: str, seed: int) -> None:
    """Run a chain of small and large results, then fold and compact, over and over."""
    notebook = Notebook(Path(cache).parent, cache)
    announced: set[str] = set()
    first = seed * 40
    notebook.cells(
        [
            f"%channel src = from_iterable(range({first}, {first} + 40))",
            "%%process small(v) -> out from src\nout = v * 2",
            "%%process large(out) -> data from small\ndata = bytes([out % 256]) * 50_000",
            '%%process script(out) -> made: path = "*.txt" from small --bash\n'
            'echo "$out" > "$out.txt"',
            "%%process total(out) -> s from small.collect()\ns = sum(out)",
        ]
    )
    run = notebook.session.start()
    print("started", flush=True)
    ended = False
    while not ended:
        ended = run.wait(0.005)
        for task in list(run.tasks.values()):
            if task.outcome.succeeded and task.hash not in announced:
                announced.add(task.hash)
                print(task.hash, task.outcome.value, flush=True)
    log = notebook.session.cache.log
    log.rotate()
    log.fold()
    log.compact()  # what it replaces stays for those who are reading it
    print("done", run.status.value, flush=True)
    sys.stdin.read()  # until killed


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
