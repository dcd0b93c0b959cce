"""A run that only the log knows is drawn as it was: channels, edges, how many items came."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nbcache.model.row import RunRow
from nbcache.model.view import RunProgress
from nbcache.notebook.place_progress import place_colour, place_phrase
from nbcache.notebook.progress import progress_line
from nbcache.notebook.render import Rendered
from nbcache.notebook.widget.gallery import Gallery
from nbcache.notebook.widget.scene import draw
from nbcache.notebook.widget.source import LiveRun, StoredRun, outline_of_records
from nbcache.notebook.widget.state import state_of
from nbcache.store.cache import Cache
from nbcache.store.columns import record_of, table_of
from tests.engine.notebooks import Notebook
from tests.notebook.desks import Desk
from tests.waiting import PATIENCE_S, wait_until

CELLS = [
    "%channel grid = product(depth=[8, 4, 2], rep=[0, 1])",
    "%channel scale = value(3)",
    "%%process fit(depth, rep, scale) from grid, scale\nscore = depth * rep * scale",
    "%channel good = fit.filter(lambda score: score > 0)",
    "%%process check(score) from good\nok = score > 3",
    "%%process report(scores) from good.collect()\ntotal = sum(scores)",
]


def test_a_stored_run_is_drawn_as_the_live_one(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    run = notebook.run()
    live = LiveRun(run)
    names = {each.name for each in live.scene.outline.origins}
    assert names == {"grid", "scale"}

    stored = StoredRun(Cache.open(notebook.session.cache.root), run.id)  # as another kernel reads

    assert stored.scene == live.scene
    shown, was = (state_of(each.scene, each.progress()) for each in (stored, live))
    assert shown["items"] == was["items"]
    assert 6 in shown["items"]
    assert shown["counts"] == was["counts"]
    assert draw(stored.scene, stored.progress()) == draw(live.scene, live.progress())


def test_of_a_run_that_goes_on_elsewhere_nobody_says_that_it_is_done(
    notebook: Notebook, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    notebook.cells(
        [
            "%channel numbers = of(0, 1)",
            "%%process wait(n) from numbers\nimport pathlib, time\n"
            f"while n and not pathlib.Path({str(gate)!r}).exists(): time.sleep(.01)\nout = n",
        ]
    )
    run = notebook.session.start()
    stored = StoredRun(Cache.open(notebook.session.cache.root), run.id)

    wait_until(lambda: stored.progress().total("completed") == 1)  # the log has what has ended
    [place] = stored.progress().places
    assert (place_phrase(place), place_colour(place)) == ("1/?", "pending")
    assert progress_line(stored.progress()) == "1/?"
    gate.touch()
    assert run.wait(PATIENCE_S)
    [place] = stored.progress().places
    assert (place_phrase(place), place_colour(place)) == ("2 ran, 0 cached", "done")


def test_the_picture_of_a_resumed_run_is_that_of_its_last_session(notebook: Notebook) -> None:
    notebook.cells([*CELLS[:2], CELLS[2].replace("score = ", "assert rep == 0\nscore = ")])
    failed = notebook.run()
    notebook.cells(CELLS[2:])
    run = notebook.session.resume(failed.id)
    assert run.wait(PATIENCE_S)

    stored = StoredRun(notebook.session.cache, failed.id)
    assert stored.scene.outline == run.outline


def test_a_segment_keeps_the_outline_and_a_run_without_one_has_its_processes(
    notebook: Notebook,
) -> None:
    notebook.cells(CELLS)
    run = notebook.run()
    rows = list(notebook.session.cache.log.rows(("run",), run=run.id))
    first = next(row for row in rows if isinstance(row, RunRow) and row.outline)

    kept = record_of(table_of([first.record()]).to_pylist()[0])
    assert RunRow.from_record(kept) == first

    old = outline_of_records(replace(first, outline={}).processes, {})
    assert [(edge.tail, edge.head) for edge in old.edges] == [("fit", "check"), ("fit", "report")]
    assert old.origins == ()


class _OnALostDisk(StoredRun):
    lost = False

    def progress(self) -> RunProgress:
        if self.lost:
            raise OSError("the disk is gone")
        return super().progress()


def test_a_view_that_cannot_be_brought_up_to_date_ends_no_cell(notebook: Notebook) -> None:
    notebook.cells(["%channel one = of(1)", "%%process fit(n) from one\nn"])
    source = _OnALostDisk(notebook.session.cache, notebook.run().id)
    gallery = Gallery(
        Desk(notebook, source).desk, lambda _: pytest.fail("no card"), lambda: ("", "")
    )
    view = gallery.open(source)
    source.lost = True

    with pytest.raises(OSError, match="gone"):
        view.refresh()
    gallery.refresh()


def test_what_a_task_of_any_run_showed_can_stand_below_the_picture_of_the_run(
    notebook: Notebook,
) -> None:
    notebook.cells(
        [
            "%channel grid = of(1, 2).fields('n')",
            "%%process fit from grid\nfrom IPython.display import HTML, display\n"
            "if n == 2: display(HTML(f'<u>{n}</u>'))\nscore = n",
        ]
    )
    run = notebook.run()
    stored = StoredRun(notebook.session.cache, run.id)

    for source in (LiveRun(run), stored):
        desk = Desk(notebook, source)
        desk.view.frame(Rendered("9 ran", "<b>9 ran</b>"))
        desk.ask("show", process="fit", position="1")
        assert desk.static is not None
        assert "<u>2</u>" in desk.static.html
        assert f"fit[n=2], run {run.name}" in desk.static.text
        assert "<b>9 ran</b>" in desk.static.html
        desk.ask("show", process="fit", position="0")
        assert desk.static.text == f"9 ran\nfit[n=1], run {run.name}: it showed nothing"
        desk.ask("show", process="", position="")
        assert desk.static.text == "9 ran"

        # Which task that is, a page hears that is loaded again; no other run is shown with it.
        for turn, named in (("open", {"run": run.id}), ("run", {})):
            desk.ask("show", process="fit", position="1")
            assert desk.view.whole()["below"] == ("fit", "1")
            desk.ask(turn, **named)
            assert desk.view.whole()["below"] is None
            assert desk.view.frame(Rendered("9 ran", "")).text == "9 ran"
            if turn == "open":  # nobody follows it, and draws it anew
                assert desk.static.text == "9 ran"
        assert desk.followed[-1].wait(PATIENCE_S)
