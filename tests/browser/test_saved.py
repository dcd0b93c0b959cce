"""What is left of a run where no kernel and no script is: exported pages, readers that strip."""

from __future__ import annotations

import re
from typing import Any

import nbformat
import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import Browser, expect

from tests.browser.conftest import keep_picture
from tests.browser.lab import axe_violations
from tests.executing import execute

CELLS = [
    "%load_ext nbcache\n%channel grid = product(depth=[2, 4, 8], rep=range(2))",
    "%%process fit from grid\nprint('fitting', depth)\nscore = depth * rep",
    "%%process check from fit\nassert score != 8, '<b>no</b> eight' + 200 * 'x'\nok = score > 3",
    "%nbcache run",
    "%%process check from fit\nok = score > 3",
    "%nbcache run",
    "%nbcache diff",
]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A notebook as nbclient (nbconvert --execute, papermill) leaves it."""
    folder = tmp_path_factory.mktemp("executed")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    execute(book, folder, allow_errors=True)
    return book


def html_outputs(book: Any) -> list[str]:
    return [
        output["data"]["text/html"]
        for cell in book.cells
        for output in cell.outputs
        if "text/html" in output.get("data", {})
    ]


def test_a_notebook_that_is_run_and_kept_has_no_widget_but_the_whole_picture(
    executed: Any,
) -> None:
    bundles = [output.get("data", {}) for cell in executed.cells for output in cell.outputs]
    assert not any("application/vnd.jupyter.widget-view+json" in each for each in bundles)
    assert "widgets" not in executed.metadata
    runs = [each for each in bundles if "text/vnd.mermaid" in each]
    assert len(runs) == 2
    assert "check" in runs[0]["text/vnd.mermaid"]
    assert "1 failed" in runs[0]["text/plain"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_exported_page_shows_the_run_without_network_and_scripts(
    browser: Browser, executed: Any, theme: str
) -> None:
    html, _ = HTMLExporter(theme=theme).from_notebook_node(executed)
    context = browser.new_context()
    page = context.new_page()
    page.route("http*://**/*", lambda route: route.abort())
    page.set_content(html, wait_until="domcontentloaded")

    picture = page.locator("img[alt='pipeline of fit, check']").first
    assert picture.evaluate("(it) => it.naturalWidth") > 100
    expect(page.get_by_text("1 failed").first).to_be_visible()
    expect(page.get_by_text("fitting 2").first).to_be_visible()
    diff = page.get_by_text("-assert score != 8").last
    expect(page.get_by_text("the code of check changed").last).to_be_visible()
    expect(diff).to_be_visible()
    assert axe_violations(page, ".nbcache") == []
    page.set_viewport_size({"width": 420, "height": 900})
    boxes = page.locator(".nbcache-run")
    assert [box.evaluate("(it) => it.scrollWidth - it.clientWidth") for box in boxes.all()] == [
        0,
        0,
    ]
    keep_picture(page, f"exported-{theme}")
    context.close()


def test_where_styles_and_scripts_are_taken_out_the_words_and_the_picture_stay(
    browser: Browser, executed: Any
) -> None:
    """As GitHub shows a notebook: no style sheets, no style attributes, no classes, no ids."""
    stripped = [
        re.sub(r' (?:style|class|id|tabindex)="[^"]*"', "", re.sub(r"<style>.*?</style>", "", each))
        for each in html_outputs(executed)
    ]
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(f"<!doctype html><body>{''.join(stripped)}</body>")

    expect(page.locator("img[alt='pipeline of fit, check']").first).to_be_visible()
    body = page.locator("body").inner_text()
    for words in ("fit", "6 ran, 0 cached", "1 failed", "<b>no</b> eight", "came out"):
        assert words in body
    assert re.search(r"^-assert score != 8", body, re.M)  # each line of a diff is a line
    keep_picture(page, "stripped")
    context.close()
