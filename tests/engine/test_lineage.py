from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbcache.engine.record.crate import write_crate
from nbcache.engine.record.lineage import lineage_of
from nbcache.errors import ResultGone, UsageError
from nbcache.notebook.lineage_view import mermaid, render_lineage
from nbcache.store import history
from nbcache.store.cache import Cache
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
    assert told.ask(
        "SELECT completed, cached, failed FROM processes WHERE process = 'odd' ORDER BY run"
    ) == [
        (2, 0, 0),
        (0, 2, 0),
    ]


def test_a_result_is_walked_back_to_what_came_from_outside(told: Told) -> None:
    found = lineage_of(told.cache, ["merged"], run=told.runs[0])

    assert [(root.maker[1], root.output) for root in found.roots] == [("merged[]", "table")]
    assert {task for _, task in found.above} == {"index[]", "quant[0]", "quant[1]", "quant[2]"}
    assert sorted(Path(each.place or "").name for each in found.sources) == [
        "a.txt",
        "b.txt",
        "c.txt",
        "ref.txt",
    ]


@pytest.mark.parametrize("words", [["quant.sample", "1"], ["quant", "1", ".sample"]])
def test_one_output_is_walked_forward_to_those_that_took_it(told: Told, words: list[str]) -> None:
    found = lineage_of(told.cache, words)

    assert {task for _, task in found.below} == {"one[1]", "odd[1]", "total[]"}
    assert "merged[]" not in {task for _, task in found.tasks}


def test_a_file_anywhere_is_known_by_its_content(told: Told, tmp_path: Path) -> None:
    kept = told.notebook.session.last_run
    assert kept is not None
    published = tmp_path / "renamed.txt"
    published.write_bytes(kept["merged"].value.read_bytes())

    found = lineage_of(told.cache, [str(published)])

    assert [root.maker[1] for root in found.roots] == ["merged[]"]
    assert ("table", "merged[]") in {(root.output, root.maker[1]) for root in found.roots}
    published.write_text("edited")
    with pytest.raises(UsageError, match="no task of this cache made or took"):
        lineage_of(told.cache, [str(published)])
    with pytest.raises(UsageError, match="there is no file"):
        lineage_of(told.cache, [str(tmp_path / "gone.txt")])


def test_of_a_content_that_several_tasks_made_the_other_makers_are_named(told: Told) -> None:
    ((score,),) = told.ask("SELECT DISTINCT digest FROM outputs WHERE name = 'score'")

    found = lineage_of(told.cache, [score])

    maker = found.tasks[found.roots[0].maker]
    made = {f"{maker.label} of run {maker.run_name}", *found.equal}
    assert {each.partition(" of ")[0] for each in made} == {"quant[0]", "quant[1]", "quant[2]"}
    assert f"the same was made by {found.equal[0]}, " in render_lineage(found).text


def test_an_edited_result_is_told_from_the_one_that_was_made(told: Told, tmp_path: Path) -> None:
    (tmp_path / "b.sf").write_text("edited by hand")

    with pytest.raises(
        UsageError, match=r"quant\[1\] of run .* made a file of that name with other"
    ):
        lineage_of(told.cache, [str(tmp_path / "b.sf")])


def test_a_file_that_no_task_made_is_walked_forward(told: Told) -> None:
    found = lineage_of(told.cache, [str(told.notebook.folder / "ref.txt")])

    assert not found.roots
    assert [each.taker[1] for each in found.takers] == ["index[]"]
    assert len(found.below) == 12


def test_a_file_that_another_pipeline_made_is_walked_back_into_it(
    told: Told, tmp_path: Path
) -> None:
    kept = told.notebook.session.last_run
    assert kept is not None
    (tmp_path / "table.txt").write_bytes(kept["merged"].value.read_bytes())
    other = Notebook(tmp_path, str(told.cache.root))
    try:
        other.cell('%channel tables = of(path("table.txt"))')
        other.cell("%%process size(table: path) from tables\nlen(table.read_text())")
        run = other.run()

        found = lineage_of(told.cache, ["size"])
    finally:
        other.close()

    assert {task for _, task in found.above} >= {"merged[]", "quant[2]", "index[]"}
    assert {each.maker[0] for each in found.links if each.taker[0] == run.id} == {told.runs[0]}
    forward = lineage_of(told.cache, ["merged"], run=told.runs[0])
    assert "size[0]" in {task for _, task in forward.below}


def test_unknown_outputs_and_tasks_name_the_nearest(told: Told) -> None:
    with pytest.raises(UsageError, match=r"merged.* has no output 'tabel'; did you mean \"table\""):
        lineage_of(told.cache, ["merged.tabel"])
    for words in (["merged[].tabel"], ["merged", ".tabel"], ["merged.tabel[]"]):
        with pytest.raises(UsageError, match=r"merged.* has no output 'tabel'"):
            lineage_of(told.cache, words)
    for word in ("nosuch", "out.csv"):
        with pytest.raises(UsageError, match=f"^no process, hash or file '{word}'; there are"):
            lineage_of(told.cache, [word])
    with pytest.raises(UsageError, match="3 tasks of quant"):
        lineage_of(told.cache, ["quant"])


def test_the_tree_unfolds_each_task_once(told: Told) -> None:
    text = render_lineage(lineage_of(told.cache, ["merged"])).text

    assert text.count("ref: ref.txt") == 1
    assert text.count("(see above)") == 2
    assert "├─ quants: a.sf (" in text
    assert "└─ reads: c.txt" in text


def test_what_people_called_things_is_escaped_in_html_and_mermaid(told: Told) -> None:
    found = lineage_of(told.cache, ["merged"])
    evil = '<b>"x"</b>'
    named = dataclasses.replace(
        found, roots=tuple(dataclasses.replace(each, file=evil) for each in found.roots)
    )

    assert evil not in render_lineage(named).html
    assert evil not in mermaid(named)
    assert "#lt;b#gt;#quot;x" in mermaid(named)


def test_many_tasks_of_a_process_are_one_node_of_the_graph(told: Told) -> None:
    found = lineage_of(told.cache, ["merged"])
    assert 'n0 -->|"index"| n2' in mermaid(found)
    some = next(task for task in found.tasks.values() if task.process == "quant")
    more = {
        (some.run, f"quant[{k}]"): dataclasses.replace(some, task_id=f"quant[{k}]", position=str(k))
        for k in range(20)
    }

    text = mermaid(dataclasses.replace(found, tasks={**found.tasks, **more}))

    assert "quant × 20" in text
    assert "quant[1]" not in text


def test_a_crate_has_what_the_workflow_run_crate_profile_asks_for(
    told: Told, tmp_path: Path
) -> None:
    found = lineage_of(told.cache, ["merged"])

    write_crate(told.cache, found, tmp_path / "crate", license="https://spdx.org/licenses/MIT")

    crate = json.loads((tmp_path / "crate" / "ro-crate-metadata.json").read_text())
    by_id = {each["@id"]: each for each in crate["@graph"]}
    assert len(by_id) == len(crate["@graph"])
    root = by_id["./"]
    assert "https://w3id.org/ro/wfrun/workflow/0.5" in [each["@id"] for each in root["conformsTo"]]
    assert root["license"] == {"@id": "https://spdx.org/licenses/MIT"}
    workflow = by_id[root["mainEntity"]["@id"]]
    assert set(workflow["@type"]) == {"File", "SoftwareSourceCode", "ComputationalWorkflow"}
    nbformat.validate(nbformat.read(tmp_path / "crate" / workflow["@id"], as_version=4))
    actions = [by_id[each["@id"]] for each in root["mentions"]]
    assert len(actions) == 6  # of the run and its tasks
    assert actions[0]["instrument"] == {"@id": workflow["@id"]}
    assert actions[0]["result"] == {"@id": "outputs/table.txt"}
    assert (tmp_path / "crate" / "outputs" / "table.txt").read_text().count("the reference") == 3
    outside = {"https://w3id.org/ro/crate/1.1", "https://jupyter.org"}
    assert set(_references(crate["@graph"])) - outside <= by_id.keys()


def _references(value: object) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _references(each)
    elif isinstance(value, dict):
        if value.keys() == {"@id"}:
            yield value["@id"]
        for each in value.values():
            yield from _references(each)


def test_a_crate_is_written_into_a_new_folder_only(told: Told, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")

    with pytest.raises(UsageError, match="holds something already"):
        write_crate(told.cache, lineage_of(told.cache, ["merged"]), tmp_path)
    outside = lineage_of(told.cache, [str(told.notebook.folder / "ref.txt")])
    with pytest.raises(UsageError, match="no task made it"):
        write_crate(told.cache, outside, tmp_path / "crate")

    assert [each.name for each in tmp_path.iterdir()] == ["note.txt"]


def test_of_a_crate_that_cannot_be_written_nothing_is_left(told: Told, tmp_path: Path) -> None:
    shutil.copytree(told.cache.root, tmp_path / "cache")
    (tmp_path / "note.txt").write_text("mine")
    with Cache.open(tmp_path / "cache") as cache:
        found = lineage_of(cache, ["merged"])
        with pytest.raises(UsageError, match=r"cannot write the crate .*: Not a directory"):
            write_crate(cache, found, tmp_path / "note.txt" / "crate")
        shutil.rmtree(cache.blobs.folder)

        (tmp_path / "empty").mkdir()
        for folder in ("crate", "empty"):
            with pytest.raises(ResultGone, match="merged is no longer in the cache"):
                write_crate(cache, found, tmp_path / folder)

    assert sorted(each.name for each in tmp_path.iterdir()) == ["cache", "empty", "note.txt"]
    assert list((tmp_path / "empty").iterdir()) == []
