"""Whole pipelines: large tables from task to task, one change in a wide graph, a fresh kernel.

Each figure is the time of the cell that runs, in an IPython shell of a process of its own, without
interpreter start and imports.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.bench.figure import Figure, main
from tests.bench.shell import WARM, last_cell_s

TABLE_MB = 50


def measure(quick: bool) -> Iterable[Figure]:
    """Return what tables, a change in the middle, and a run without any work cost."""
    with tempfile.TemporaryDirectory() as name:
        yield from tables(Path(name), 10 if quick else 50)
    with tempfile.TemporaryDirectory() as name:
        yield from wide(Path(name), 20 if quick else 100, 10)


def tables(folder: Path, tasks: int) -> Iterable[Figure]:
    """Tables that tasks hand on, cold and resumed: a resume reads none of them."""
    rows = TABLE_MB * 10**6 // (5 * 8)
    cells = [
        "%load_ext nbcache\nimport numpy as np, pandas as pd",
        f"%channel seeds = from_iterable(range({tasks // 2}))",
        "%%process make(seed) -> table from seeds\n"
        f"draw = np.random.default_rng(seed).random(({rows}, 5))\n"
        "table = pd.DataFrame(draw, columns=list('abcde'))",
        "%%process more(table) -> larger from make\nlarger = table.assign(a=table['a'] + 1)",
    ]
    said = f"{tasks} tasks that hand on tables of {TABLE_MB} MB"
    cold = last_cell_s([*cells, *WARM, "%nbcache run more"], folder)
    yield Figure(name=f"{said}, cold, s", value=cold, budget=6 * tasks / 50)
    resumed = min(last_cell_s([*cells, "%nbcache run more"], folder) for _ in range(3))
    yield Figure(name=f"{said}, resumed, s", value=resumed, budget=0.2)


def wide(folder: Path, width: int, depth: int) -> Iterable[Figure]:
    """A graph of chains that lie beside each other; one gets another value half-way down."""

    def cells(changed: int) -> list[str]:
        first = [
            "%load_ext nbcache",
            f"%channel items = from_iterable(range(0, {1000 * width}, 1000))",
            f"%channel extra = from_iterable([{changed}, *range(1, {width})])",
            "%%process p0(v) from items\nv",
        ]
        middle = depth // 2
        return first + [
            f"%%process p{n}(v, more) from p{n - 1}, extra\nv + more"
            if n == middle
            else f"%%process p{n}(v) from p{n - 1}\nv + 1"
            for n in range(1, depth)
        ]

    run = f"%nbcache run p{depth - 1}"
    said = f"{width} chains of {depth} tasks"
    last_cell_s([*cells(100), run], folder)
    again = min(last_cell_s([*cells(100), run], folder) for _ in range(3))
    yield Figure(name=f"{said}, all cached, in a fresh kernel, s", value=again, budget=0.5)
    ran = f"assert _run.counts()['completed'] == {depth - depth // 2}, _run.counts()"
    change = min(
        last_cell_s([*cells(100 + n), *WARM, f"_run = {run}"], folder) for n in (10, 20, 30)
    )
    last_cell_s([*cells(200), f"_run = {run}", ran], folder)
    yield Figure(name=f"{said}, one value changed half-way, s", value=change, budget=0.1)


if __name__ == "__main__":
    main(measure)
