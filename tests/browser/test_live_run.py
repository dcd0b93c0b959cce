"""A run seen in JupyterLab: it moves, it can be acted on, and it stays when the kernel is gone."""

from __future__ import annotations

from tests.browser.conftest import Open

PIPELINE = [
    "%load_ext nbcache\n%channel grid = product(depth=[2, 4, 8], rep=range(2))",
    "%%process fit from grid\n"
    "import pathlib, time\n"
    "while not pathlib.Path(GATE).exists(): time.sleep(.02)\n"
    "score = depth * rep",
    "%%process check from fit\nassert score != 8, '<b>no</b> eight'\nok = score > 3",
    "%nbcache run",
]


def test_nodes_fill_while_a_run_goes_and_the_view_survives_a_reload_and_a_restart(
    open_notebook: Open,
) -> None:
    notebook = open_notebook(
        ["import pathlib\nGATE = str(pathlib.Path('gate').resolve())", *PIPELINE]
    )
    for cell in range(4):
        notebook.run(cell)

    notebook.start(4)
    view = notebook.view(4)
    fit = view.get_by_role("button", name="fit:")
    view.get_by_role("button", name="fit: 0/6 · ").wait_for()  # some are running, none is done
    assert "running" in str(fit.get_attribute("aria-label"))
    (notebook.path.parent / "gate").touch()
    view.get_by_role("button", name="fit: 6 ran, 0 cached").wait_for()
    view.get_by_role("button", name="check: ").and_(view.locator(".nb-is-failed")).wait_for()
    notebook.wait_for_cells()

    assert "1 failed" in view.locator(".nb-line").inner_text()
    assert "<b>no</b> eight" in view.locator(".nb-lines").inner_text()
    twin = notebook.cell(4).locator(".nbcache-twin")
    assert not twin.is_visible()

    notebook.reload()
    notebook.view(4).get_by_role("button", name="fit: 6 ran, 0 cached").wait_for()

    notebook.restart()
    notebook.errors.clear()
    notebook.reload()
    twin.wait_for()
    assert notebook.cell(4).locator("img").get_attribute("alt") == "pipeline of fit, check"
    assert notebook.cell(4).get_by_text("Error displaying widget").is_hidden()
    gone = [text for text in notebook.errors if "widget model not found" not in text]
    notebook.errors[:] = gone  # that the kernel has no such widget is what JupyterLab says, not we
