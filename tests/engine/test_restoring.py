"""Results of a run come back in a kernel that ran none of the notebook's cells."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nbcache.engine.record.results import Results
from nbcache.errors import NbcacheError, ResultGone, RunError
from nbcache.model.digest import Digest
from nbcache.notebook.answers import restored_answer
from nbcache.store.blobs import Blobs
from tests.engine.notebooks import Notebook

Kernels = Callable[[], Notebook]


def ran(kernels: Kernels) -> Notebook:
    """A run with scalars, a large value, a file, an input passed on, a failure and a hit."""
    notebook = kernels()
    (notebook.folder / "in.csv").write_text("a,b")
    notebook.cells(
        [
            "%channel src = of(1, 2, 3)",
            "%%process fit(v) -> v, score from src\nscore = v * 10",
            "%%process big(score) from fit\nbytes(range(256)) * 400 * score",
            '%%process text(score) -> made: path = "*.txt" from fit --bash\necho $score > s.txt',
            "%%process half(v) -> q from src\nif v == 2:\n    raise ValueError('two')\nq = v / 2",
            "%%process keep(big, w = 1) -> big, w from big\nw = w + 1",
            "%%process whole(big) -> big, count from big.collect()\ncount = 3",
            "%%process files(text: list[path]) -> text, n from text.collect()\nn = 1",
            "%%process file(text: path) -> text, n from text.first()\nn = 1",
            "%channel sources = from_path('*.csv').combine(of(b'by'))",
            "%%process source(f: path, tag) -> f, tag, n from sources\nn = f.stat().st_size",
        ]
    )
    notebook.run()
    notebook.run()  # what it restores are hits and failures
    return notebook


def test_each_free_name_is_bound_to_the_results_of_its_process(kernels: Kernels) -> None:
    last = ran(kernels).session.last_run
    assert last is not None
    fresh = kernels()
    fresh.names["half"] = "mine"

    restored = fresh.session.restore()

    assert (restored.id, restored.status) == (last.id, "failed")
    assert restored.bound == ("fit", "big", "text", "file", "files", "keep", "source", "whole")
    assert restored.skipped == {"half": "str"}
    assert fresh.names["half"] == "mine"
    fit = fresh.names["fit"]
    assert isinstance(fit, Results)
    assert [tuple(each) for each in fit] == [(1, 10), (2, 20), (3, 30)]
    assert list(fit.table().columns) == ["v", "score"]
    assert fresh.names["big"][2] == bytes(range(256)) * 12_000
    assert [path.read_text() for path in fresh.names["text"]] == ["10\n", "20\n", "30\n"]
    assert list(restored["half"]) == [0.5, 1.5]
    outcomes = [task.outcome.value for task in restored["half"].tasks]
    assert outcomes == ["cached", "failed", "cached"]
    assert restored["keep"][0].big == bytes(range(256)) * 4_000
    assert [len(each) for each in restored["whole"].value.big] == [1_024_000, 2_048_000, 3_072_000]
    assert [path.read_text() for path in restored["files"].value.text] == ["10\n", "20\n", "30\n"]
    assert restored["file"].value.text.read_text() == "10\n"
    source = restored["source"].value
    assert (source.f.read_text(), source.n) == ("a,b", 3)
    assert repr(source.tag) == "<the input tag: passed on, and not kept>"
    assert "without tag: passed on, and not kept" in restored_answer(restored).rendered.text
    source.f.write_text("edited")
    with pytest.raises(ResultGone, match=r"in\.csv is not what it was then"):
        list(restored["source"])


def test_nothing_is_decoded_until_it_is_read(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(kernels)
    fresh = kernels()
    read: list[object] = []
    whole = Blobs.read

    def note(blobs: Blobs, digest: Digest) -> bytes:
        read.append(digest)
        return whole(blobs, digest)

    monkeypatch.setattr(Blobs, "read", note)

    restored = fresh.session.restore()
    repr(restored), repr(restored["big"]), len(restored["big"])
    assert read == []
    assert restored["big"][0]
    assert len(read) == 1


def test_a_result_that_is_gone_names_its_task_and_the_command(kernels: Kernels) -> None:
    ran(kernels)
    fresh = kernels()
    restored = fresh.session.restore()
    (stored,) = restored["big"].tasks[1].outputs or ()
    blob = fresh.session.cache.blobs.path(stored.blob)  # type: ignore[attr-defined]
    blob.unlink()

    with pytest.raises(ResultGone, match=r"big\[score=20\]: .*(\n.*)?%nbcache run"):
        restored["big"][1]
    assert restored["big"][0]
    assert fresh.session.last_run is None


def test_a_run_can_be_named_and_an_unknown_one_lists_the_nearest(kernels: Kernels) -> None:
    notebook = ran(kernels)
    last = notebook.session.last_run
    assert last is not None
    fresh = kernels()
    assert fresh.session.restore(last.name).id == last.id
    assert fresh.session.restore(last.id[:20]).id == last.id
    with pytest.raises(RunError, match="no run 'nobody'"):
        fresh.session.restore("nobody")
    with pytest.raises(
        KeyError, match="it has fit, big, text, file, files, half, keep, source, whole"
    ):
        fresh.session.restore()["fti"]


def test_running_the_cell_takes_the_name_back_without_a_word(kernels: Kernels) -> None:
    ran(kernels)
    fresh = kernels()
    fresh.session.restore()
    fresh.cell("%channel src = of(1, 2, 3)")
    fresh.cell("%%process fit(v) -> v, score from src\nscore = v * 10")
    assert fresh.names["fit"].notes == ()
    assert fresh.run("fit").counts() == {"cached": 3}


@pytest.mark.parametrize("cell", ["%%process more\nsum(fit)", "%%process more(v) from fit\nv"])
def test_a_pipeline_over_restored_results_says_to_run_the_cell_of_the_process(
    kernels: Kernels, cell: str
) -> None:
    ran(kernels)
    fresh = kernels()
    fresh.session.restore()

    def declare_and_run() -> None:
        fresh.cell(cell)
        fresh.run("more")

    with pytest.raises(NbcacheError, match="Run the cell that declares fit"):
        declare_and_run()
