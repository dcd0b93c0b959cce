"""Edits that somebody takes for ones that change no meaning: nothing runs, and it is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nbcache.engine.record import explanations
from nbcache.engine.record.compare import diff_runs
from nbcache.engine.record.lineage import TaskNode, lineage_of
from nbcache.engine.record.query import fetch
from nbcache.engine.record.trusted import standing_words
from nbcache.engine.trusting import revoke
from nbcache.errors import UsageError
from nbcache.notebook.difference_page import share_of
from tests.engine.notebooks import Notebook

Kernels = Callable[[], Notebook]
WHY = "only renamed a variable"
BEFORE = "x = v * factor\nout = x"
AFTER = "scaled = v * factor\nout = scaled"


def cells(notebook: Notebook, body: str, items: str = "1, 2, 3", factor: int = 10) -> None:
    notebook.cells(
        [
            f"factor = {factor}",
            f"%channel src = of({items})",
            f"%%process work(v) -> out from src\n{notebook.mark('v')}\n{body}",
            f"%%process total(outs) -> s from work.collect()\n{notebook.mark(repr('total'))}\n"
            "s = sum(outs)",
        ]
    )


def edited(kernels: Kernels, after: str, before: str = BEFORE) -> Notebook:
    """Return a second kernel with an edited body, where the first has run what was before."""
    first, second = kernels(), kernels()
    cells(first, before)
    first.run()
    cells(second, after)
    return second


def lineage_tasks(notebook: Notebook, process: str) -> list[TaskNode]:
    found = lineage_of(notebook.session.cache, [process, "v=2"])
    return [task for task in found.tasks.values() if task.process == process]


def test_a_trusted_edit_runs_nothing_and_why_tells_it(kernels: Kernels) -> None:
    second = edited(kernels, AFTER)

    (found,) = second.session.trust(["work"], WHY)
    plan = second.session.plan(["work"])
    run = second.run()

    assert len(found.words) == 3
    assert not found.refused
    assert second.ran() == []
    assert run["total"].value == 60
    assert run.progress().trusted == plan[0].trusted == 3
    compared = diff_runs(second.session.cache).processes
    shares = [(share_of(group, each), group.text) for each in compared for group in each.groups]
    assert shares == [("3 of 3 trusted", "the code of work changed (cell 3, line 3)")]
    told = explanations.why(second.session.cache, ["work", "v=2"])
    assert WHY in told.head
    assert "the code of work changed" in told.head
    ((_, diff),) = told.details
    assert "+scaled = v * factor" in diff
    assert all(task.trusted for task in lineage_tasks(second, "work"))
    assert fetch(second.session.cache, "SELECT count(*) FROM tasks WHERE trusted") == [(3,)]


def test_without_a_reason_nothing_is_written(kernels: Kernels) -> None:
    second = edited(kernels, AFTER)

    (found,) = second.session.trust(["work"], None)
    with pytest.raises(UsageError, match="--why is empty"):
        second.session.trust(["work"], " ")

    assert len(found.words) == 3
    assert not standing_words(second.session.cache.log)
    second.run()
    assert second.ran() == ["1", "2", "3"]


def test_a_revoked_word_counts_no_more(kernels: Kernels) -> None:
    second = edited(kernels, AFTER)
    cache = second.session.cache
    second.session.trust(["work"], WHY)
    second.run()
    with pytest.raises(UsageError, match="xxh3"):
        revoke(cache, "xxh3:")

    revoke(cache, "work", "it was not")

    told = explanations.why(cache, ["work", "v=2"])
    assert "revoked since by" in told.lines[0]
    assert "it was not" in told.lines[0]
    assert "was revoked" in second.session.plan(["work"])[0].reason
    second.run()
    assert second.ran() == ["1", "2", "3"]
    with pytest.raises(UsageError, match="trusted are: none"):
        revoke(second.session.cache, "work")


def test_another_input_or_value_is_never_taken_for_equal(kernels: Kernels) -> None:
    first, second, third = kernels(), kernels(), kernels()
    cells(first, BEFORE)
    first.run()
    cells(second, AFTER, items="1, 2, 3, 4")
    cells(third, AFTER, factor=11)

    (more,) = second.session.trust(["work"], WHY)
    (other,) = third.session.trust(["work"], WHY)

    assert more.refused == {"work[v=4]": "no earlier task has these inputs"}
    assert len(more.words) == 3
    assert not other.words
    assert all("factor" in why for why in other.refused.values())
    second.run()
    assert second.ran() == ["4", "total"]


def test_a_captured_value_may_have_another_name(kernels: Kernels) -> None:
    second = edited(kernels, "out = v * weight")
    second.cell("weight = 10")

    (found,) = second.session.trust(["work"], WHY)

    assert len(found.words) == 3


def test_a_further_edit_runs_again_and_can_be_trusted_in_turn(kernels: Kernels) -> None:
    first, second, third = kernels(), kernels(), kernels()
    cells(first, BEFORE)
    first.run()
    cells(second, AFTER)
    second.session.trust(["work"], WHY)
    second.run()
    cells(third, "out = v * factor")

    plan = third.session.plan(["work"])
    (found,) = third.session.trust(["work"], WHY)
    third.run()

    assert plan[0].to_run == 3
    assert found.words[0].same_as == first.session.last_run.tasks[(1, (0,))].hash  # type: ignore[union-attr]
    assert third.ran() == []


def test_a_preview_tells_of_what_is_below_and_names_each_edit(kernels: Kernels) -> None:
    second = edited(kernels, AFTER)
    cells(second, AFTER, items="1, 2, 3, 4")  # the fourth has its result from another version
    second.run()
    third = kernels()
    cells(third, "out = v * factor", items="3, 4")
    third.cell(
        f"%%process total(outs) -> s from work.collect()\n{third.mark(0)}\ns = sum(outs) + 0"
    )

    (alone,) = third.session.trust(["total"], None)
    work, total = third.session.trust(["total", "work"], None)

    assert (alone.waiting, alone.words) == (1, ())
    assert [(len(each.words), each.refused) for each in (work, total)] == [
        (2, {}),
        (0, {"total": "no earlier task has these inputs"}),
    ]
    assert [edit.tasks for edit in work.edits] == [2]


def test_a_result_whose_undeclared_reads_changed_is_not_trusted(kernels: Kernels) -> None:
    text = "out = v * factor + int(open('da' + 'ta.txt').read())"
    first, second = kernels(), kernels()
    data = first.folder / "data.txt"
    data.write_text("1")
    body = f"import os\nos.chdir({str(first.folder)!r})\n{text}"
    cells(first, body)
    first.run()
    cells(second, f"{body} + 0")
    data.write_text("2")

    (found,) = second.session.trust(["work"], WHY)

    assert not found.words
    assert set(found.refused.values()) == {"file data.txt that it reads changed"}


def test_a_process_that_is_called_is_trusted_at_all_its_places(notebook: Notebook) -> None:
    places = ["%channel few = scaled(of(1, 2))", "%channel more = scaled(of(3))"]
    notebook.cells(["%%process scaled(v) -> out\nout = v * 10", *places])
    notebook.run()
    notebook.cell("%%process scaled(v) -> out\nout = 10 * v")

    (found,) = notebook.session.trust(["scaled"], WHY)

    assert len(found.words) == 3
    assert [plan.trusted for plan in notebook.session.plan(["scaled"])] == [2, 1]


def test_words_outlive_folding_and_compaction_and_count_for_nobody_else(
    kernels: Kernels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = edited(kernels, AFTER)
    second.session.trust(["work"], WHY)
    log = second.session.cache.log
    log.rotate()
    log.fold()
    log.compact()

    second.run()

    assert second.ran() == []
    assert {row.user for row in standing_words(log).values()} != {""}
    monkeypatch.setenv("NBCACHE_CONFIG_DIR", str(tmp_path / "settings of another"))
    monkeypatch.setattr("nbcache.store.cache._made", set())  # another process
    other = kernels()
    cells(other, AFTER)
    assert "by the owner of this cache alone" in other.session.plan(["work"])[0].reason
    with pytest.raises(UsageError, match="is not your cache"):
        other.session.trust(["work"], WHY)


def test_an_unknown_process_is_named_with_the_nearest(notebook: Notebook) -> None:
    cells(notebook, BEFORE)
    with pytest.raises(Exception, match="work"):
        notebook.session.trust(["wrok"], WHY)
