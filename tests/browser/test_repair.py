"""A failure found, repaired and resumed in JupyterLab with the mouse and the keyboard."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.conftest import Open, keep_picture
from tests.browser.lab import axe_violations

CELLS = [
    "%load_ext nbcache\n%channel grid = product(depth=[2, 4, 8], rep=range(2))\nlimit = 8",
    "%%process fit from grid\nprint('fitting', depth, '<i>not markup</i>')\nscore = depth * rep",
    "%%process check from fit\nprint('looking at', score)\n"
    "assert score != limit, '<b>no</b> eight'\nok = score > 3",
    "%nbcache run",
    "%nbcache diff --data --process fit",
]


def test_a_failed_task_is_looked_into_mended_and_resumed_and_the_runs_compared(
    open_notebook: Open,
) -> None:
    notebook = open_notebook(CELLS)
    for cell in range(3):
        notebook.run(cell)
    notebook.start(3)
    view = notebook.view(3)
    notebook.wait_for_cells()

    # What failed is one click away: its error, its log, and why it ran.
    view.locator(".nb-lines").get_by_role("button", name="check[score=8]").click()
    expect(view.locator(".nb-error")).to_contain_text("assert score != limit")
    expect(view.locator(".nb-error")).to_contain_text("<b>no</b> eight")
    expect(view.locator(".nb-log")).to_have_text("looking at 8")
    expect(view.locator(".nb-why")).to_contain_text("no earlier task of check is known")
    assert axe_violations(notebook.page, ".nbcache-view") == []
    keep_picture(notebook.page, "failed-task")
    shown = notebook.cell(3).locator(".nbcache-shown")
    view.get_by_role("button", name="show in the cell").click()
    expect(shown).to_contain_text("looking at 8")
    view.get_by_role("button", name="hide in the cell").click()
    expect(shown).to_have_count(0)

    # Tasks are found again by what they were made of.
    view.get_by_role("button", name="fit:").focus()
    notebook.page.keyboard.press("Enter")
    rows = view.locator(".nb-tasks tbody tr")
    expect(rows).to_have_count(6)
    view.get_by_role("searchbox").fill("depth=8")
    expect(rows).to_have_count(2)
    view.get_by_role("button", name="took").click()
    expect(view.locator("th.nb-col-duration")).to_have_attribute("aria-sort", "ascending")
    rows.first.get_by_role("button").click()
    expect(view.locator(".nb-log")).to_contain_text("<i>not markup</i>")

    # The cell is mended; a resume goes on with the same run, and only what failed runs.
    notebook.edit(2, CELLS[2].replace("assert score != limit, '<b>no</b> eight'\n", ""))
    notebook.run(2)
    name = str(view.locator(".nb-line").inner_text()).rpartition("run ")[2].split()[0]
    ended = notebook.cell(3).get_by_text("RunFailed")
    expect(ended).to_be_visible()
    view.get_by_role("button", name="Resume").click()
    expect(view.get_by_role("button", name="fit: 0 ran, 6 cached")).to_be_visible()
    expect(view.locator(".nb-line")).to_contain_text(name)
    expect(ended).to_be_hidden()  # the cell had ended in an error that holds no more
    expect(view.locator(".nb-status")).to_contain_text("the code of check changed")
    assert axe_violations(notebook.page, ".nbcache-view") == []

    # Another parameter: the plan is there before the run begins.
    notebook.edit(2, CELLS[2].replace("score != limit", "score < limit * 99"))
    notebook.run(2)
    view.get_by_role("button", name="Run again").click()
    expect(view.locator(".nb-line")).not_to_contain_text(name)
    view.get_by_role("button", name="Relaunch…").click()
    view.get_by_label("limit").fill("9")
    expect(view.locator(".nb-planned")).to_contain_text(
        "4 to run, 6 cached, 2 equal to one that runs"
    )
    expect(view.get_by_role("button", name="changed")).to_be_visible()
    assert axe_violations(notebook.page, ".nbcache-view") == []
    view.get_by_role("button", name="Start the run").click()
    expect(view.locator(".nb-lines")).to_contain_text("limit 8 → 9")
    expect(view.locator(".nb-status")).to_have_text("")  # that it began is no news any more

    # Two runs compared.
    view.get_by_role("button", name="Runs").click()
    boxes = view.locator(".nb-runs").get_by_role("checkbox")
    expect(boxes).to_have_count(3)
    boxes.nth(0).check()
    boxes.nth(1).check()
    view.get_by_role("button", name="Compare").click()
    expect(view.locator(".nb-compare")).to_contain_text("parameter limit: – → 9")
    expect(view.locator(".nb-compare")).to_contain_text("limit 8 → 9 — 4 of 6 ran")
    expect(view.locator(".nb-diff")).to_have_count(0)  # a small value is told once
    assert axe_violations(notebook.page, ".nbcache-view") == []
    keep_picture(notebook.page, "two-runs")

    # The same comparison as a command, alive and as what the notebook keeps.
    notebook.run(4)
    told = notebook.view(4).locator(".nb-compare")
    expect(told).to_contain_text("parameter limit: – → 9")
    expect(told).to_contain_text("Equal: fit (6)")
    expect(told).not_to_contain_text("check")
    expect(notebook.view(4).locator(".nb-here")).to_have_text(re.compile(r"^\S+ → \S+ · fit$"))
    kept = notebook.cell(4).locator(".nbcache-twin")
    expect(kept).to_contain_text("parameter limit: – → 9")
    expect(kept).to_be_hidden()


def test_buttons_act_while_a_cell_is_busy(open_notebook: Open) -> None:
    notebook = open_notebook(
        [
            "%load_ext nbcache\n%channel one = of(1, 2)",
            "%%process double(n) from one\nn * 2",
            "%nbcache run",
            "import pathlib, time\nwhile not pathlib.Path('gate').exists(): time.sleep(.02)",
            "%nbcache show",
        ]
    )
    for cell in range(3):
        notebook.run(cell)
    notebook.start(3)
    view = notebook.view(2)

    view.get_by_role("button", name="Run again").click()
    expect(view.locator(".nb-line")).to_contain_text("2 cached")
    view.get_by_role("button", name="double:").click()
    expect(view.locator(".nb-tasks tbody tr")).to_have_count(2)

    assert "*" in notebook.cell(3).locator(".jp-InputPrompt").inner_text()
    (notebook.path.parent / "gate").touch()
    notebook.wait_for_cells()
    notebook.run(4)
    expect(notebook.view(4).locator(".nb-line")).to_contain_text("2 cached")
    resume = notebook.view(4).get_by_role("button", name="Resume")
    expect(resume).to_have_attribute("aria-disabled", "true")
    resume.dispatch_event("click")  # JupyterLab may just be moving the cell
    expect(notebook.view(4).locator(".nb-status")).to_contain_text("nothing is left to resume")


def test_a_run_is_cancelled_resumed_and_run_again_from_a_process_with_the_keyboard_alone(
    open_notebook: Open,
) -> None:
    notebook = open_notebook(
        [
            "%load_ext nbcache\nimport pathlib\nGATE = str(pathlib.Path('gate').resolve())\n"
            "%channel one = of(1, 2)",
            "%%process wait(n) from one\nimport pathlib, time\n"
            "while not pathlib.Path(GATE).exists(): time.sleep(.02)\nout = n",
            "%%process double(out) from wait\ntwice = 2 * out",
            "%nbcache run --detach",
        ]
    )
    page = notebook.page
    page.emulate_media(reduced_motion="reduce")
    for cell in range(4):
        notebook.run(cell)
    view = notebook.view(3)
    wait = view.get_by_role("button", name="wait:")
    expect(wait).to_have_attribute("aria-label", re.compile("running"))
    icon = view.locator(".nb-is-running > .nb-icon").first
    assert icon.evaluate("(it) => getComputedStyle(it).animationName") == "none"
    resume = view.get_by_role("button", name="Resume")
    expect(resume).to_have_attribute("aria-disabled", "true")

    # A view that moves is accessible, too, with a task that runs open below it.
    wait.focus()
    page.keyboard.press("Enter")
    view.locator(".nb-tasks tbody").get_by_role("button", name="n=1").click()
    expect(view.locator(".nb-task")).to_contain_text("nothing printed so far")
    assert axe_violations(page, ".nbcache-view") == []
    page.keyboard.press("Escape")

    # Everything is reached with Tab, the arrow keys, Enter.
    cancel = view.get_by_role("button", name="Cancel")
    cancel.focus()
    page.keyboard.press("Enter")
    expect(view.locator(".nb-line")).to_contain_text("cancelled")
    expect(view.locator(".nb-status")).to_have_text("")  # that it is ending is no news any more
    page.keyboard.press("Tab")  # from Cancel to Resume
    assert page.evaluate("document.activeElement.textContent") == "Resume"
    (notebook.path.parent / "gate").touch()
    page.keyboard.press("Enter")
    expect(view.get_by_role("button", name="double: 2 ran, 0 cached")).to_be_visible()

    wait.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    rows = view.locator(".nb-tasks tbody tr")
    expect(rows).to_have_count(2)
    view.get_by_role("searchbox").focus()
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Run from here…"
    page.keyboard.press("Enter")
    expect(view.locator(".nb-planned")).to_contain_text("2 to run, 2 cached")
    assert axe_violations(page, ".nbcache-view") == []
    view.get_by_role("button", name="Start the run").focus()
    page.keyboard.press("Enter")
    expect(view.get_by_role("button", name="wait: 0 ran, 2 cached")).to_be_visible()
    expect(view.get_by_role("button", name="double: 2 ran, 0 cached")).to_be_visible()

    # Each page that can be open is accessible.
    for name, left_from in (("Table", "search"), ("Runs", "checkbox")):
        view.get_by_role("button", name=name).click()
        expect(view.locator(".nb-panel tbody tr").first).to_be_visible()
        assert axe_violations(page, ".nbcache-view") == []
        view.locator(f".nb-panel input[type={left_from}]").first.focus()
        page.keyboard.press("Escape")
        expect(view.locator(".nb-panel")).to_be_hidden()
        assert page.evaluate("document.activeElement.textContent") == name
