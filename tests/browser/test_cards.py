"""The card of a process in its own cell: it fills, it acts, and it stays without a kernel."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.conftest import Open, keep_picture
from tests.browser.lab import axe_violations

CELLS = [
    "%load_ext nbcache\n%channel grid = product(depth=[2, 4, 8], rep=range(2))\nlimit = 8",
    "%%process fit from grid\nprint('fitting', depth, '<i>not markup</i>')\nscore = depth * rep",
    "%%process check from fit\nfrom IPython.display import HTML, display\n"
    "display(HTML(f'<u>looking at {score}</u> $x^2$'))\n"
    "assert score != limit, '$5 or $6'\nok = score > 3",
    "import pathlib, time\nwhile not pathlib.Path('gate').exists(): time.sleep(.02)",
]


def test_a_card_runs_and_tries_its_process_and_outlives_its_kernel(open_notebook: Open) -> None:
    notebook = open_notebook(CELLS)
    for cell in range(3):
        notebook.run(cell)
    fit, check = notebook.view(1), notebook.view(2)
    expect(fit.locator(".nb-signature")).to_have_text("fit(depth, rep) → score · from grid")
    expect(fit.locator(".nb-card-state")).to_have_text("6 tasks: 0 cached, 6 to run")
    expect(check.locator(".nb-signature")).to_contain_text("captures limit 8")

    # One item, in the kernel: what it prints is below, nothing is kept.
    fit.get_by_role("button", name="Try one").click()
    below = notebook.cell(1).locator(".nbcache-shown")
    expect(below).to_contain_text("fitting 2 <i>not markup</i>")
    expect(below).to_contain_text("item depth=2 rep=0")
    assert notebook.cell(1).locator(".nbcache-head").is_hidden()
    assert notebook.modules == 1  # the view's module comes once, whatever there is of cards

    # A run of it fills the cards of all that has to run.
    check.get_by_role("button", name="Run").click()
    expect(check.locator(".nb-card-state")).to_contain_text("3 ran, 0 cached, 2 equal, 1 failed")
    expect(fit.locator(".nb-card-state")).to_contain_text("6 ran, 0 cached")
    expect(notebook.cell(2).locator(".nbcache-shown u").first).to_contain_text("looking at")
    # A page typesets what a task displays, and nothing that is said of it.
    formulas = notebook.cell(2).locator("mjx-container")
    expect(formulas.first).to_be_visible()
    assert {each.locator("xpath=..").inner_html()[:3] for each in formulas.all()} == {"<u>"}
    assert check.locator("u").count() == 0  # HTML of a task is in the notebook's output alone

    # Whatever task's output is wanted is below, where the notebook keeps it.
    shown = notebook.cell(1).locator(".nbcache-shown")
    expect(shown).to_contain_text("4 more tasks showed something")
    picker = fit.get_by_label("show what a task of fit showed")
    picker.select_option("depth=4 rep=0")
    expect(shown).to_have_text(re.compile(r"fit\[depth=4 rep=0\]\s*fitting 4"))
    fit.get_by_role("button", name="next task").click()
    expect(shown).to_contain_text("fit[depth=4 rep=1]")
    assert axe_violations(notebook.page, ".nbcache-view") == []

    # Its tasks, the failure and a trial of it are a click away.
    check.locator(".nb-lines").get_by_role("button", name="check[score=8]").click()
    expect(check.locator(".nb-error")).to_contain_text("assert score != limit")
    assert axe_violations(notebook.page, ".nbcache-view") == []
    check.get_by_role("button", name="Try a failed one").click()
    expect(notebook.cell(2).locator(".nbcache-shown")).to_contain_text("ended in AssertionError")
    keep_picture(notebook.page, "cards")

    # What a run would do now is looked at again, since the notebook has changed.
    notebook.edit(0, CELLS[0].replace("limit = 8", "limit = 9"))
    notebook.run(0)
    check.hover()
    expect(check.locator(".nb-now")).to_contain_text(
        "4 to run, 2 equal to one of them: limit 8 → 9"
    )

    # A page that is loaded again has the card as it was; without the kernel it is static.
    notebook.reload()
    expect(notebook.view(2).locator(".nb-card-state")).to_contain_text("1 failed")
    notebook.view(1).get_by_role("button", name="next task").click()
    status = notebook.view(1).locator(".nb-status")
    expect(status).to_contain_text("does not hear how the cell's output changes")
    notebook.restart()
    notebook.errors.clear()
    notebook.reload()
    head = notebook.cell(2).locator(".nbcache-head")
    expect(head).to_contain_text("check(score) → ok · from fit")
    expect(head).to_contain_text("1 failed")
    expect(notebook.cell(2).get_by_text("widget")).to_be_hidden()

    # With the new kernel the cells bring it back, and know what is cached.
    for cell in range(3):
        notebook.run(cell)
    expect(notebook.view(1).locator(".nb-card-state")).to_have_text("6 tasks: 6 cached, 0 to run")


def test_a_card_acts_while_a_cell_is_busy_and_a_trial_waits_for_its_end(
    open_notebook: Open,
) -> None:
    notebook = open_notebook(CELLS)
    for cell in (0, 1, 3):  # the cell is busy before the page has its first word of the card
        notebook.start(cell)
    fit = notebook.view(1)

    fit.get_by_role("button", name="Run").click()
    expect(fit.locator(".nb-card-state")).to_contain_text("6 ran, 0 cached")
    fit.get_by_role("button", name="Try one").click()
    expect(fit.locator(".nb-status")).to_have_text("a cell is running: wait for its end")

    (notebook.path.parent / "gate").touch()
    notebook.wait_for_cells()
    expect(fit.locator(".nb-status")).to_have_text("")
