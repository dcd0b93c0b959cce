from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbcache.store import history
from tests.engine.notebooks import Notebook

CELLS = (
    '%channel reads = from_path("reads/*.txt")',
    '%channel ref = value(path("ref.txt"))',
    '%%process index(ref: path) -> index: path = "index" from ref --bash\n'
    'mkdir index; cp "$ref" index/',
    '%%process quant(reads: path, index: path) -> sample, quant: path = "{reads.stem}.sf", score'
    " from reads, index --bash\n"
    'cat "$reads" index/* > "${reads%.txt}.sf"; sample=${reads%.txt}; score=3',
    "%%process one(sample, score) from quant\nx = int(score) * 2\nx",
    '%%process merged(quants: list[path]) -> table: path = "table.txt"'
    " from quant.map(lambda sample, quant, score: quant).collect() --bash\n"
    'cat "${quants[@]}" > table.txt',
    "%%process total(scores) from one.collect()\nsum(scores)",
    "%%process odd(sample) from quant --when \"sample != 'b'\"\nsample * 2",
)
SQL = "SELECT from_task_id, output, input FROM lineage WHERE task_id = ? AND run = ? ORDER BY ALL"


class Told:
    """A notebook that ran twice, the second time all hits, and was asked about."""

    def __init__(self, folder: Path) -> None:
        (folder / "reads").mkdir()
        for name in "abc":
            (folder / "reads" / f"{name}.txt").write_text(f"reads of {name}\n")
        (folder / "ref.txt").write_text("the reference\n")
        self.notebook = Notebook(folder)
        self.notebook.cells(CELLS)
        self.runs = [self.notebook.run().id, self.notebook.run().id]
        self.cache = self.notebook.session.cache
        self.connection = history.connect(self.cache, live=False)

    def ask(self, query: str, *values: object) -> list[Any]:
        return self.connection.execute(query, list(values)).fetchall()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    told = Told(tmp_path_factory.mktemp("lineage"))
    yield told
    told.notebook.close()


@pytest.mark.parametrize("which", [0, 1])
def test_every_result_that_a_task_took_has_its_maker_also_in_a_run_of_hits(
    told: Told, which: int
) -> None:
    run = told.runs[which]

    assert told.ask(SQL, "quant[1]", run) == [("index[]", "index", "index")]
    assert told.ask(SQL, "merged[]", run) == [
        (f"quant[{each}]", "quant", "quants") for each in range(3)
    ]
    assert told.ask(SQL, "total[]", run) == [(f"one[{each}]", "x", "scores") for each in range(3)]


def test_of_equal_results_that_at_the_same_position_counts(told: Told) -> None:
    assert told.ask(SQL, "one[1]", told.runs[0]) == [
        ("quant[1]", "sample", "sample"),
        ("quant[1]", "score", "score"),
    ]


def test_an_input_from_outside_says_where_it_lay(told: Told) -> None:
    found = told.ask(
        "SELECT task_id, name, place FROM inputs WHERE run = ? AND place IS NOT NULL ORDER BY ALL",
        told.runs[1],
    )

    folder = told.notebook.folder
    assert found == [
        ("index[]", "ref", str(folder / "ref.txt")),
        *(
            (f"quant[{k}]", "reads", str(folder / "reads" / f"{x}.txt"))
            for k, x in enumerate("abc")
        ),
    ]


def test_a_task_that_was_left_out_has_a_line_that_says_why(told: Told) -> None:
    for run in told.runs:
        assert told.ask(
            "SELECT task_id, reason FROM tasks WHERE status = 'SKIPPED' AND run = ?", run
        ) == [("odd[1]", "when sample != 'b' did not hold")]
    assert told.ask("SELECT completed, cached, failed FROM processes WHERE process = 'odd'") == [
        (2, 0, 0),
        (0, 2, 0),
    ]
