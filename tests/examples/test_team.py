"""The notebooks of a team: what the first has computed the second does not compute again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.running import Bench


def test_the_second_notebook_runs_only_what_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("palmerpenguins")
    monkeypatch.setenv("NBCACHE_CONFIG_DIR", str(tmp_path / "settings"))
    root = tmp_path / "examples"
    root.mkdir()
    first = Bench.with_copy(root, "team_first.ipynb")
    second = Bench.with_copy(root, "team_second.ipynb")

    ran, text = first.run_from_a_shell()
    assert ran.bodies == ["fit"] * 12, text
    ran = second.run()

    assert ran.bodies == ["spread"]
    assert ran.result("answer").startswith("Record") or "(" in ran.result("answer")
    assert "fit" in ran.result("sql")
    assert len(ran.images("plot")) == 1
    assert second.run().bodies == []
