"""A run seen in JupyterLab: it moves, it can be acted on, and it stays when the kernel is gone."""

from __future__ import annotations

import re
from dataclasses import replace

from nbconvert import HTMLExporter
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Open, keep_picture
from tests.browser.lab import Notebook, Server, new_notebook

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
    expect(fit).to_have_attribute("aria-label", re.compile("running"))
    (notebook.path.parent / "gate").touch()
    view.get_by_role("button", name="fit: 6 ran, 0 cached").wait_for()
    view.get_by_role("button", name="check: ").and_(view.locator(".nb-is-failed")).wait_for()
    notebook.wait_for_cells()

    expect(view.locator(".nb-line")).to_contain_text("1 failed")
    expect(view.locator(".nb-lines")).to_contain_text("<b>no</b> eight")
    twin = notebook.cell(4).locator(".nbcache-twin")
    expect(twin).to_be_hidden()

    notebook.reload()
    notebook.view(4).get_by_role("button", name="fit: 6 ran, 0 cached").wait_for()

    notebook.restart()
    notebook.errors.clear()
    notebook.reload()
    twin.wait_for()
    expect(notebook.cell(4).locator("img")).to_have_attribute("alt", "pipeline of fit, check")
    expect(notebook.cell(4).get_by_text("Error displaying widget")).to_be_hidden()
    exported = exported_page(notebook)
    assert exported.locator("img[alt='pipeline of fit, check']").evaluate("(it) => it.naturalWidth")
    expect(exported.get_by_text("1 failed").first).to_be_visible()
    exported.close()


def test_a_view_whose_kernel_was_restarted_runs_no_longer(open_notebook: Open) -> None:
    notebook = open_notebook(["GATE = 'there is none'", *PIPELINE[:3], "%nbcache run --detach"])
    for cell in range(5):
        notebook.run(cell)
    view = notebook.view(4)
    view.get_by_role("button", name="fit: 0/6 · ").wait_for()

    notebook.restart()

    expect(view.locator(".nb-line")).to_have_text(
        re.compile("^the kernel has ended in the middle of run [a-z]+-[a-z]+$")
    )
    expect(view.locator(".nb-lines")).to_contain_text("then %nbcache resume")
    expect(view.locator(".nb-facts")).to_have_text("")
    view.get_by_role("button", name="Cancel").dispatch_event("click")
    expect(view.locator(".nb-status")).to_have_text(
        "Cancel: the kernel has ended: run the cell again"
    )


def exported_page(notebook: Notebook) -> Page:
    """Export the saved notebook to HTML and open it where there is no network."""
    html, _ = HTMLExporter().from_filename(str(notebook.path))
    page = notebook.page.context.new_page()
    page.route("**/*", lambda route: route.abort())
    page.set_content(html, wait_until="domcontentloaded")
    return page


def test_notebook_7_shows_the_same(browser: Browser, server: Server, page: Page) -> None:
    classic = replace(server, opens="/notebooks")
    notebook = new_notebook(
        classic,
        page,
        "classic",
        [
            "%load_ext nbcache\n%channel grid = product(depth=[2, 4], rep=range(3))",
            "%%process fit from grid\nscore = depth * rep",
            "%%process most(score) from fit.collect()\nmax(score)",
            "%nbcache run",
        ],
    )
    assert page.evaluate("window.jupyterapp.name") == "Jupyter Notebook"
    for cell in range(4):
        notebook.run(cell)

    view = notebook.view(3)
    view.get_by_role("button", name="fit: 6 ran, 0 cached").click()
    expect(view.locator(".nb-tasks tbody tr")).to_have_count(6)
    view.get_by_role("button", name="fit: ").press("ArrowRight")  # which it has a use for, too
    expect(view.get_by_role("button", name="most: ")).to_be_focused()
    view.get_by_role("button", name="Run again").click()
    expect(view.get_by_role("button", name="fit: 0 ran, 6 cached")).to_be_visible()
    keep_picture(page, "notebook-7")
    assert notebook.errors == []
