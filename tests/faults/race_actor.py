"""A kernel that runs one pipeline over and over, and a shell that cleans up as often.

    python -m tests.faults.race_actor kernel|cleaner CACHE SEED ROUNDS

Prints one JSON line at its end; a cleaner goes on until there is a file "stop" beside the cache.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nbcache.errors import ResultGone
from nbcache.store.cache import Cache
from tests.engine.notebooks import Notebook
from tests.faults.clean_actor import clean_once

LARGE = 20_000  # bytes: a blob of its own
CELLS = (
    "%channel src = from_iterable(range(4))",
    "%%process make(v) -> data from src\ndata = bytes([v + SHIFT]) * {size}",
    '%%process kept(v) -> made: path = "made" from src --bash\nmkdir made; echo "$v" > made/text',
    "%%process joined(datas, mades) -> n from make.collect(), kept.collect()\n"
    "n = sum(map(len, datas)) + sum(int((each / 'text').read_text()) for each in mades)",
    "%%process odd(v) -> out from src --on_error ignore\nassert v % 2\nout = v",
)
TOTAL = 4 * LARGE + sum(range(4))


def kernel(cache: str, seed: int, rounds: int) -> dict[str, object]:
    """Run with a few values of one variable, so that results come back; read what was made."""
    chance = random.Random(seed)
    notebook = Notebook(Path(cache).parent, cache)
    notebook.trace = notebook.folder / f"trace-{seed}"
    notebook.names["SHIFT"] = 0
    notebook.cells(text.format(size=LARGE) for text in CELLS)
    found: Counter[str] = Counter()
    for number in range(rounds):
        shift = notebook.names["SHIFT"] = chance.randrange(3)
        run = notebook.run(fresh=chance.random() < 0.1)
        found.update(run.counts())
        wrong = [str(failure.error) for failure in run.failures if not failure.ignored]
        if run.status.value != "succeeded" or wrong:
            raise AssertionError(f"round {number}: {run.status} {run.error} {wrong}")
        try:
            held = [bytes(each) for each in run["make"]]
            total = run["joined"].value
        except ResultGone:  # a clean-up after its end
            found["gone"] += 1
            continue
        if total != TOTAL or held != [bytes([v + shift]) * LARGE for v in range(4)]:
            raise AssertionError(f"round {number}: wrong results")
    notebook.close()
    return dict(found)


def cleaner(cache: str, seed: int) -> dict[str, object]:
    """Clean up until somebody says stop."""
    chance, times, freed = random.Random(seed), 0, 0
    stop, pause = Path(cache).with_name("stop"), threading.Event()
    with Cache.open(Path(cache)) as opened:
        while not stop.exists() or not times:
            freed += clean_once(opened, chance)
            times += 1
            pause.wait(chance.uniform(0, 0.2))
    return {"times": times, "freed": freed}


def main(arguments: Sequence[str]) -> None:
    kind, place, number, rounds = arguments
    is_kernel = kind == "kernel"
    told = kernel(place, int(number), int(rounds)) if is_kernel else cleaner(place, int(number))
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
