"""A value that travels is worked on by its class's package, be it imported by the body or not."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcache.engine.identity.packages import forget_packages
from nbcache.model.row import AttemptRow
from tests.engine.notebooks import Notebook

VALUE = "import gizmo9\ng = gizmo9.Gizmo(3)"


def install(site: Path, version: str, by: int) -> None:
    """Make this the version of gizmo9 that is there, also for the kernel."""
    shutil.rmtree(site, ignore_errors=True)
    metadata = site / f"gizmo9-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Name: gizmo9\nVersion: {version}\n")
    text = "class Gizmo:\n    def __init__(self, v): self.v = v\n"
    text += f"    def f(self): return self.v + {by}\n"
    (site / "gizmo9.py").write_text(text)
    importlib.invalidate_caches()
    importlib.reload(importlib.import_module("gizmo9"))
    forget_packages()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "lib" / "site-packages"
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    install(folder, "1.0", 1)
    yield folder
    monkeypatch.undo()
    forget_packages()


def test_the_version_of_the_package_of_an_inputs_class_counts(
    notebook: Notebook, site: Path
) -> None:
    def mark(process: str) -> str:
        return notebook.mark(repr(process))

    notebook.cells(
        [
            VALUE,
            "%channel given = of(g)",
            f"%%process plain(g) -> out from given\n{mark('plain')}\nout = g.f()",
            "%channel many = of([g, 1])",
            f"%%process inside(g) -> out from many\n{mark('inside')}\nout = g[0].f()",
            "%channel one = of(3)",
            f"%%process make(v) -> made from one\n{mark('make')}\n{VALUE}\nmade = g",
            f"%%process use(made) -> out from make\n{mark('use')}\nout = made.f()",
            f"%%process no(v) -> out from one\n{mark('no')}\nout = v",
            f"%%process named(v) -> out from one\n{mark('named')}\nimport importlib\n"
            "out = importlib.import_module('giz' + 'mo9').Gizmo(v).f()",
        ]
    )

    def results() -> list[object]:
        run = notebook.run()
        assert not run.failures
        assert run.notes == []  # nothing of it can be declared
        return [next(iter(run[name])) for name in ("plain", "inside", "use", "no", "named")]

    assert results() == [4, 4, 4, 3, 4]
    assert results() == [4, 4, 4, 3, 4]
    assert notebook.ran() == []

    install(site, "1.1", 2)
    notebook.cells([VALUE, "%channel given = of(g)", "%channel many = of([g, 1])"])
    planned = {each.name: each.to_run for each in notebook.session.plan()}
    assert results() == [5, 5, 5, 3, 5]
    assert notebook.ran() == ["inside", "make", "named", "plain", "use"]
    assert planned == {"plain": 1, "inside": 1, "make": 1, "use": 0, "no": 0, "named": 1}
    run = notebook.session.last_run
    assert run is not None
    assert "package gizmo9, which it uses, too" in run.reasons["use"]

    install(site, "1.0", 1)
    notebook.cells([VALUE, "%channel given = of(g)", "%channel many = of([g, 1])"])
    assert results() == [4, 4, 4, 3, 4]
    assert notebook.ran() == []


def test_a_package_that_counts_with_one_that_the_body_imports_is_no_read(
    notebook: Notebook, site: Path
) -> None:
    metadata = site / "needs9-1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Name: needs9\nVersion: 1.0\nRequires-Dist: gizmo9\n")
    (site / "needs9.py").write_text("")
    forget_packages()
    notebook.cells([VALUE, "%channel given = of(g)"])
    notebook.cell("%%process direct(g) -> out from given\nimport gizmo9\nout = g.f()")
    notebook.cell("%%process around(g) -> out from given\nimport needs9\nout = g.f()")
    notebook.cell("%%process beside(g) -> out from given\nout = g.f()")
    assert not notebook.run().failures

    rows = notebook.session.cache.log.attempts()
    reads = {row.process: row.watched for row in rows if isinstance(row, AttemptRow)}
    assert reads["direct"] == reads["around"] == ()
    assert [(each.kind, each.name) for each in reads["beside"]] == [("package", "gizmo9")]
