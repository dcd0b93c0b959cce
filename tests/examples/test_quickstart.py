"""The quickstart does what it says, and the second time it does nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.running import Bench, nbcache_command

ALL = ["fit"] * 27 + ["ranking"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A copy of the quickstart with nothing cached."""
    (tmp_path / "project").mkdir()
    return Bench.with_copy(tmp_path / "project", "quickstart.ipynb")


def test_the_second_run_of_the_quickstart_runs_no_body_and_shows_the_same(bench: Bench) -> None:
    first = bench.run()
    second = bench.run()

    assert first.bodies == ALL
    assert second.bodies == []
    assert "score" in first.result("best")
    assert second.result("best") == first.result("best")
    assert len(first.images("plot")) == 1
    assert second.images("plot") == first.images("plot")


def test_from_a_shell_it_runs_once_says_so_and_then_is_all_cached(bench: Bench) -> None:
    quick = ("-p", "depths=[1, 2]", "-p", "sizes=[10, 20]", "-p", "folds=3")
    first, said_first = bench.run_from_a_shell(*quick)
    second, said_second = bench.run_from_a_shell(*quick)

    assert first.bodies == ["fit"] * 12 + ["ranking"]
    assert "13 ran, 0 cached" in said_first
    assert "does not declare" not in said_first
    assert second.bodies == []
    assert "13 cached" in said_second
    answer = nbcache_command("sql", "SELECT count(*) AS tasks FROM tasks", folder=bench.root)
    assert answer.returncode == 0, answer.stderr
    assert "26" in answer.stdout
