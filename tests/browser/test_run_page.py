from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, expect

from nbcache.notebook.run_page.writing import write_report
from nbcache.store.cache import Cache
from tests.browser.lab import axe_violations
from tests.engine.story import Story, tell_two_runs


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report of bold-ant: one hit and two tasks that ran."""
    folder = tmp_path_factory.mktemp("report")
    story = Story(Cache.open(folder / "cache"))
    tell_two_runs(story)
    _, path = write_report(story.cache, "bold-ant", str(folder / "report.html"))
    return Path(path or "").as_uri()


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (420, "dark")])
def test_the_report_of_a_run_sorts_and_filters_its_tasks_and_asks_the_network_for_nothing(
    browser: Browser, report: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    faults: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    try:
        page.goto(report)
        rows = page.locator("#tasks tbody tr")
        assert rows.count() == 3
        page.click("#tasks th:nth-child(2) button")
        page.click("#tasks th:nth-child(2) button")
        assert rows.first.inner_text().split("\t")[1].strip() == "COMPLETED"
        page.fill("#tools input", "cached")
        expect(rows).to_have_count(1)
        page.fill("#tools input", "")
        expect(rows).to_have_count(3)
        page.select_option("#tools select", "CACHED")
        assert rows.count() == 1
        assert "1 of 3" in page.inner_text("#tools output")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert not page.evaluate(
            """() => {
                const name = document.querySelector("table:not(#tasks) td:first-child")
                name.textContent = "of_several_words_".repeat(9)
                return name.scrollWidth > name.clientWidth || name.clientWidth < 80
            }"""
        )  # names can be read to their ends
        assert axe_violations(page, "html") == []
    finally:
        context.close()

    assert faults == []
    assert requests == [report]
