"""Edits that somebody takes for ones that change no meaning: nothing runs, and it is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nbcache.engine.record import explanations
from nbcache.engine.record.lineage import TaskNode, lineage_of
from nbcache.engine.record.query import fetch
from nbcache.engine.record.trusted import standing_words
from nbcache.engine.trusting import revoke
from nbcache.errors import UsageError
from tests.engine.notebooks import Notebook

Kernels = Callable[[], Notebook]
WHY = "only renamed a variable"


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


def lineage_tasks(notebook: Notebook, process: str) -> list[TaskNode]:
    found = lineage_of(notebook.session.cache, [process, "v=2"])
    return [task for task in found.tasks.values() if task.process == process]


BEFORE = "x = v * factor\nout = x"
AFTER = "scaled = v * factor\nout = scaled"


def test_a_trusted_edit_runs_nothing_and_why_tells_it(kernels: Kernels) -> None:
    first, second = kernels(), kernels()
    cells(first, BEFORE)
    first.run()
    cells(second, AFTER)

    (found,) = second.session.trust(["work"], WHY)
    run = second.run()

    assert len(found.words) == 3
    assert not found.refused
    assert second.ran() == []
    assert run["total"].value == 60
    assert run.progress().trusted == 3
    told = explanations.why(second.session.cache, ["work", "v=2"])
    assert WHY in told.head
    assert "the code of work changed" in told.head
    ((_, diff),) = told.details
    assert "+scaled = v * factor" in diff
    assert all(task.trusted for task in lineage_tasks(second, "work"))
    assert fetch(second.session.cache, "SELECT count(*) FROM tasks WHERE trusted") == [(3,)]


def test_without_a_reason_nothing_is_written(kernels: Kernels) -> None:
    first, second = kernels(), kernels()
    cells(first, BEFORE)
    first.run()
    cells(second, AFTER)

    (found,) = second.session.trust(["work"], None)

    assert len(found.words) == 3
    assert not standing_words(second.session.cache.log)
    second.run()
    assert second.ran() == ["1", "2", "3"]


def test_a_revoked_word_counts_no_more(kernels: Kernels) -> None:
    first, second = kernels(), kernels()
    cells(first, BEFORE)
    first.run()
    cells(second, AFTER)
    second.session.trust(["work"], WHY)
    second.run()

    revoke(second.session.cache, "work")
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
    first, second = kernels(), kernels()
    cells(first, BEFORE)
    first.run()
    cells(second, "out = v * weight")
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


def test_words_outlive_folding_and_compaction(kernels: Kernels) -> None:
    first, second = kernels(), kernels()
    cells(first, BEFORE)
    first.run()
    cells(second, AFTER)
    second.session.trust(["work"], WHY)
    log = second.session.cache.log
    log.rotate()
    log.fold()
    log.compact()

    second.run()

    assert second.ran() == []
    assert {row.user for row in standing_words(log).values()} != {""}


def test_an_unknown_process_is_named_with_the_nearest(notebook: Notebook) -> None:
    cells(notebook, BEFORE)
    with pytest.raises(Exception, match="work"):
        notebook.session.trust(["wrok"], WHY)
