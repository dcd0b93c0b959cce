from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nbcache.engine.record.run_report import Bar, RunReport, report_of
from nbcache.engine.work.shown import encode_chunks
from nbcache.errors import RunError, UsageError
from nbcache.model.digest import blob_digest
from nbcache.model.row import RunRow
from nbcache.model.value import Stored
from nbcache.model.view import ShownChunk
from nbcache.notebook.run_page import charts
from nbcache.notebook.run_page.page import page_of
from nbcache.notebook.run_page.writing import write_report
from nbcache.store.cache import Cache
from tests.engine.story import ONE, START, TWO, Story

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """calm-otter: a hit of bold-ant, a retried task, three failures of one kind, one left out."""
    story = Story(Cache.open(tmp_path_factory.mktemp("report") / "cache"))
    data = encode_chunks([ShownChunk("stderr", f"loading\n{EVIL}\n")])
    shown = Stored(blob_digest(data), "value", "json", len(data), inline=data)
    story.begin(TWO, "bold-ant")
    made = story.attempt(TWO, 0, 2)
    story.end(TWO, "bold-ant", completed=1)
    story.begin(ONE, "calm-otter", parameters={"text": repr(EVIL)})
    story.use(ONE, 0, made)
    began = START + 4_000_000
    for number, status in ((1, "failed"), (2, "completed")):
        at = began + number * 1_000_000
        story.attempt(
            ONE, 1, 4, status=status, attempt=number, submit=at, start=at + 250_000,
            complete=at + 750_000, duration=0.75, realtime=0.5, cpu_time=0.25, peak_rss=50_000_000,
            rchar=1000, wchar=500, cpus=1, memory=100_000_000, tag=EVIL, reason="code changed",
        )  # fmt: skip
    for position in (2, 3, 4):
        story.attempt(
            ONE, position, position, status="failed", error=f"ValueError: {EVIL}", exit=1,
            traceback="Traceback ...", start=began, complete=began + 1, realtime=0.1,
            shown=shown, workdir="/somewhere/else",
        )  # fmt: skip
    story.attempt(ONE, 5, 9, status="skipped", realtime=None)
    counts = {"completed": 1, "cached": 1, "failed": 3, "skipped": 1}
    story.add(
        RunRow, run=ONE, name="calm-otter", status="failed", counts=counts, saved=0.5, error=EVIL
    )
    return story.cache


@pytest.fixture(scope="module")
def report(cache: Cache) -> RunReport:
    return report_of(cache, "calm-otter")


class _Page(HTMLParser):
    """Checks that tags nest, and keeps the text and the attributes."""

    VOID = frozenset({"meta", "input", "rect", "line", "circle", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


def test_a_report_tells_counts_hits_and_what_ran(report: RunReport) -> None:
    assert report.counts == {"completed": 1, "cached": 1, "failed": 3, "skipped": 1}
    assert len(report.tasks) == 6
    assert [bar.attempt for bar in report.bars if bar.label == f"fit[{EVIL}]"] == [1, 2]
    assert report.bars[-1].started - report.bars[-1].submitted == pytest.approx(0.25)
    assert report.reasons == (("fit", "code changed", 1),)


def test_the_table_takes_failed_tasks_and_then_those_that_ran_and_the_timeline_names_all(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room, positions in ((3, "234"), (4, "1234")):
        monkeypatch.setattr("nbcache.engine.record.run_report.TASKS", room)

        report = report_of(cache, "calm-otter")

        assert "".join(task.position for task in report.tasks) == positions
        assert [bar.attempt for bar in report.bars if bar.label == f"fit[{EVIL}]"] == [1, 2]


def test_the_page_says_all_of_it(report: RunReport) -> None:
    text = _Page(page_of(report)).text

    for words in (
        "run calm-otter failed",
        "20% hit rate, 1 from the cache",
        "3 failed",
        f"fit[depth=2], fit[depth=3], fit[depth=4] ValueError: {EVIL}",
        "traceback of fit[depth=2]",
        "its folder: /somewhere/else",
        "code changed (1 task)",
        "what its tasks share in their hashes: 1",
        "of run bold-ant",
        f"text '{EVIL}'",
    ):
        assert words in text


def test_whatever_a_user_named_is_escaped_and_nothing_is_loaded(report: RunReport) -> None:
    page = page_of(report)
    parsed = _Page(page)

    assert EVIL not in page
    assert page.count("<script>") == 1
    names = {name for name, _ in parsed.attributes}
    assert not names & {"src", "srcset", "onclick", "onload"}
    assert all(str(value).startswith("#") for name, value in parsed.attributes if name == "href")
    assert re.search(r"url\(|@import|https?://", page) is None


def test_a_run_of_hits_and_a_run_without_tasks_have_a_page(tmp_path: Path) -> None:
    story = Story(Cache.open(tmp_path / "cache"))
    story.begin(ONE, "calm-otter")
    assert "no task has ended yet" in _Page(page_of(report_of(story.cache))).text
    made = story.attempt(ONE, 0, 2)
    story.begin(TWO, "bold-ant")
    story.use(TWO, 0, made)

    text = _Page(page_of(report_of(story.cache))).text

    assert "100% hit rate, 1 from the cache" in text
    assert "nothing ran: all results were there" in text
    assert "as it stood at" in text
    story.use(ONE, 1, made)
    assert "1 ran 1 equal" in _Page(page_of(report_of(story.cache, "calm-otter"))).text


def test_ten_thousand_tasks_fit_on_a_page(report: RunReport) -> None:
    task, bar = report.tasks[1], report.bars[0]
    many = dataclasses.replace(
        report,
        tasks=tuple(dataclasses.replace(task, position=str(k), tag=None) for k in range(10_000)),
        bars=tuple(
            dataclasses.replace(bar, submitted=k / 8, started=k / 8, ended=k / 8 + 1, label=str(k))
            for k in range(10_000)
        ),
        clock_s=1251.0,
        left_out=5,
    )

    page = page_of(many)

    assert len(page) < 8_000_000
    assert page.count("<rect") < 20_000
    text = _Page(page).text
    assert "10,000 attempts, 8 at a time" in text
    assert "5 more tasks: nbcache log calm-otter" in text


def test_attempts_that_overlap_lie_in_lanes_of_their_own() -> None:
    def bar(started: float, ended: float, status: str = "COMPLETED") -> Bar:
        return Bar(
            process="fit", label="fit", status=status, attempt=1, submitted=started,
            started=started, ended=ended, peak_rss=None,
        )  # fmt: skip

    one_by_one = [bar(k, k + 1) for k in range(charts.ROW_BY_ROW + 1)]
    drawn = charts.timeline([bar(0, 500, "ABORTED"), *one_by_one], 500, lambda _: "#000")

    assert "122 attempts, 2 at a time" in drawn
    assert drawn.count('class="cut"') == 1
    assert 'class="bad"' not in drawn


@pytest.mark.parametrize(
    ("length", "step"), [(0.004, 0.001), (1, 0.2), (42, 10), (3600, 900), (10 * 86400, 2 * 86400)]
)
def test_the_clock_is_cut_into_round_parts(length: float, step: float) -> None:
    assert charts.nice_step(length) == step


def test_a_report_replaces_only_a_report(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page, path = write_report(cache, "calm-otter", None)
    assert path == Path("report-calm-otter.html")
    assert (tmp_path / path).read_text() == page
    write_report(cache, "calm-otter", None)

    mine = tmp_path / "thesis.html"
    mine.write_text("<h1>mine</h1>")
    with pytest.raises(UsageError, match=r"thesis\.html is no report of nbcache"):
        write_report(cache, None, str(mine))
    with pytest.raises(UsageError, match=r"cannot write .*: No such file"):
        write_report(cache, None, str(tmp_path / "no" / "x.html"))
    with pytest.raises(RunError, match="the nearest: calm-otter"):
        write_report(cache, "calm-oter", None)
    with pytest.raises(UsageError, match=r"one\.html is no run; .* report -o one\.html"):
        write_report(cache, "one.html", None)

    assert mine.read_text() == "<h1>mine</h1>"
    assert write_report(cache, None, "-")[1] is None
