from __future__ import annotations

import pytest

from nbcache.errors import UsageError, plain
from nbcache.notebook import render


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 ms"),
        (0.04, "40 ms"),
        (0.8, "0.8 s"),
        (9.1, "9.1 s"),
        (59.97, "1 min 00 s"),
        (125, "2 min 05 s"),
        (12_000, "3 h 20 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert render.duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (900, "900 B"), (25_000, "25 kB"), (999_999, "1.0 MB"), (1_300_000_000, "1.3 GB")],
)
def test_sizes_are_said_as_people_say_them(count: int, words: str) -> None:
    assert render.size(count) == words


def test_a_table_aligns_its_text_and_escapes_its_html() -> None:
    grid = render.table(["name", "n"], [["a<b", "5"], ["long name", "1,000"]], numeric=["n"])

    assert grid.text == "name           n\na<b            5\nlong name  1,000"
    assert "a&lt;b" in grid.html
    assert grid.html.count("overflow-wrap") == 2  # names leave room for the columns beside them


def test_escape_sequences_other_than_colours_are_dropped() -> None:
    assert render.ansi_html("\x1b[2Ka\x1b]0;title\x07b\x1b[1mc") == (
        'ab<span style="font-weight:bold">c</span>'
    )
    assert plain("\x1b[1;31mx\x1b[0m") == "x"
    assert plain("\x1b7a\x1b[m\x1b(B\x1b[38:5:1mb\x1b[1 q\x1bP1$r0m\x1b\\c\x9b2J\x1b8") == "abc"
    assert plain("\x1b[2J\x1b[H\x1b]52;c;c2VjcmV0\x07") == ""
    assert plain("a\x1b]0;no end") == "a0;no end"


def test_what_a_task_or_a_colleague_wrote_is_nothing_that_a_terminal_obeys() -> None:
    wrote = "\x1b]0;title\x07red \x1b[31mtag\x1b[0m\x08\r\n\tend\rstart"
    words = "red tag\\x08\r\n\tend\\x0dstart"

    assert render.table(["tag"], [["a\x1b[2Jb"]]).text == "tag\nab"
    assert render.line(wrote).text == words
    assert UsageError(wrote)._render_traceback_() == [f"\x1b[31mUsageError\x1b[0m: {words}"]
