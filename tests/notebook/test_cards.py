from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from nbcache.model.view import CaptureView, ChannelView, FailureView, PlacePlan, ShownChunk
from nbcache.notebook import render
from nbcache.notebook.cards import plan_phrase, render_card, render_channel
from nbcache.notebook.place_progress import place_colour, place_shares
from nbcache.notebook.shown_view import choose_shown, render_shown
from tests.notebook.views import FIT, place, progress


def test_a_card_says_signature_wiring_captures_and_plan_in_one_line() -> None:
    assert render_card(FIT).text == (
        "fit(depth, trees, rep) → score · from grid · captures X 25 kB, y 3 kB"
        " · 18 tasks: 0 cached, 18 to run"
    )


def test_a_page_may_typeset_what_a_task_displayed_and_nothing_else() -> None:
    latex = {"text/plain": "<Math object>", "text/latex": r"$\alpha < 1$"}
    html = {"text/plain": "<HTML object>", "text/html": "<p>$x$</p>"}
    chunks = [ShownChunk("display", "", each) for each in (latex, html)]

    shown = render_shown([("costs $5 or $6", "completed", chunks)])

    process = '<div class="mathjax_process tex2jax_process">'
    assert rf"{process}$\alpha &lt; 1$</div>" in shown.html
    assert f"{process}<p>$x$</p></div>" in shown.html
    assert render.box("$5 or $6").startswith('<div class="nbcache mathjax_ignore tex2jax_ignore" ')


def test_captured_names_show_their_size_small_values_themselves_and_code_its_name() -> None:
    captures = (
        CaptureView(name="X", summary="ndarray float64 (3000,), 24 kB"),
        CaptureView(name="k", summary="3"),
        CaptureView(name="norm", summary="function norm"),
    )

    assert "captures X 24 kB, k 3, norm ·" in render_card(replace(FIT, captures=captures)).text


def test_a_card_says_why_its_tasks_would_run() -> None:
    plan = PlacePlan(
        name="fit", tasks=18, cached=0, to_run=18, reason="helper norm changed (cell 3, line 4)"
    )

    assert "helper norm changed (cell 3, line 4)" in render_card(replace(FIT, plan=plan)).text


def test_a_card_names_the_files_that_a_body_reads_by_name() -> None:
    assert "reads data/x.csv by name" in render_card(replace(FIT, reads=("data/x.csv",))).text


def test_a_card_of_a_run_shows_how_that_went_in_place_of_the_plan() -> None:
    early = replace(FIT, hindrances=("no channel is called grid",))  # its cell came later
    odd = FailureView(
        task="fit[depth=8]",
        process="fit",
        error="ZeroDivisionError: <b>",
        where="cell [5] line 4",
    )
    failed = progress("failed", place(completed=17, failed=1), failures=(odd,))
    card = render_card(early, failed)

    assert "y 3 kB · 17 ran, 0 cached, 1 failed · run calm-otter\n" in card.text
    assert "  fit[depth=8] ZeroDivisionError: <b>, cell [5] line 4" in card.text
    assert "fit[depth=8] ZeroDivisionError: &lt;b&gt;, cell [5] line 4" in card.html
    assert "to run" not in card.text
    assert "· 18 tasks: 0 cached, 18 to run\n  no channel is called grid" in render_card(early).text
    assert "no channel" not in card.text
    assert "· cannot run yet\n  no channel" in render_card(replace(early, plan=None)).text


def test_a_card_says_why_its_tasks_ran_and_that_their_run_was_stopped() -> None:
    ran = replace(place(completed=11), reason="helper norm changed (cell 3, line 4)")
    text = render_card(FIT, progress("cancelled", ran)).text

    assert "11/18 · run calm-otter cancelled\n" in text
    assert "  fit: 11 ran: helper norm changed (cell 3, line 4)" in text


def test_a_card_of_hits_alone_stays_as_it_is_in_whatever_run_they_are() -> None:
    assert render_card(FIT, progress("succeeded", place(cached=18))).text.endswith(
        "y 3 kB · 0 ran, 18 cached"
    )


def test_text_of_the_user_is_escaped_in_html() -> None:
    evil = replace(FIT, name="<b>", signature="<b>() → <i>", notes=("<script>x</script>",))

    html = render_card(evil).html

    assert "<script>" not in html
    assert "<i>" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (None, "not counted"),
        (PlacePlan(name="p", tasks=0, cached=0, to_run=0), "no tasks"),
        (PlacePlan(name="p", tasks=1, cached=1, to_run=0), "1 task: 1 cached, 0 to run"),
        (
            PlacePlan(name="p", tasks=3, cached=1, to_run=0, unknown=2),
            "3 tasks: 1 cached, 2 known when their inputs are made",
        ),
        (
            PlacePlan(name="p", tasks=6, cached=0, to_run=4, equal=2),
            "6 tasks: 0 cached, 4 to run, 2 equal to one of them",
        ),
        (
            PlacePlan(name="p", tasks=1, cached=0, to_run=0, unknown=1),
            "1 task, known when its inputs are made",
        ),
        (
            PlacePlan(name="p", tasks=None, cached=0, to_run=0),
            "tasks known when the processes above have run",
        ),
    ],
)
def test_a_plan_is_said_in_a_phrase(plan: PlacePlan | None, words: str) -> None:
    assert plan_phrase(plan) == words


def test_a_channel_shows_name_count_fields_and_its_first_items() -> None:
    view = ChannelView(
        name="grid",
        items=18,
        fields=("depth", "trees", "rep"),
        is_value=False,
        first=("depth=2 trees=50 rep=0", "depth=2 trees=50 rep=1", "depth=2 trees=50 rep=2"),
    )

    assert render_channel(view).text == (
        "grid · 18 items · depth, trees, rep\n"
        "  depth=2 trees=50 rep=0\n  depth=2 trees=50 rep=1\n  depth=2 trees=50 rep=2\n  …"
    )


def test_a_channel_whose_items_are_not_known_yet_says_so() -> None:
    view = ChannelView(name="late", items=None, fields=None, is_value=False, first=())

    assert render_channel(view).text == "late · items known when the processes above have run"


def test_of_one_task_everything_it_showed_is_there_in_order() -> None:
    chunks = [ShownChunk("stdout", "a"), ShownChunk("stdout", "b\n"), ShownChunk("stderr", "oh\n")]

    rendered = render_shown([("fit", "completed", chunks)])

    assert rendered.text == "ab\noh"
    assert rendered.html.index("ab") < rendered.html.index("oh")


def test_of_many_tasks_the_first_the_failed_and_the_last_are_there() -> None:
    tasks = [
        (f"fit[{k}]", "failed" if k == 4 else "completed", [ShownChunk("stdout", f"out {k}\n")])
        for k in range(9)
    ]

    assert [label for label, _, _ in choose_shown(tasks)] == ["fit[0]", "fit[4]", "fit[8]"]
    rendered = render_shown(tasks)
    assert "out 4" in rendered.text
    assert "6 more tasks showed something" in rendered.text
    assert rendered.html.count("<details") == 3


def test_tasks_that_a_card_shows_together_share_the_room_that_a_notebook_gives_it() -> None:
    long = [ShownChunk("stdout", "a line of a log\n" * 20_000)]

    one = render_shown([("fit[0]", "completed", long)]).html
    four = render_shown([(f"fit[{k}]", "failed", long) for k in range(4)]).html

    assert 90_000 < len(four) < len(one) + 10_000 < 115_000
    assert four.count("lines left out: %nbcache log RUN -t &#x27;{log}&#x27; …") == 4


def test_a_progress_bar_shows_its_last_state() -> None:
    chunk = ShownChunk("stderr", " 10%|#\r 50%|##\r100%|####\n")

    assert render_shown([("fit", "completed", [chunk])]).text == "100%|####"


def test_pictures_become_data_uris_and_terminal_colours_become_html() -> None:
    png = base64.b64encode(b"not really a picture").decode()
    chunks = [
        ShownChunk("display", bundle={"image/png": png + "\n", "text/plain": "<Figure>"}),
        ShownChunk("display", bundle={"image/svg+xml": "<svg/>", "text/plain": "drawing"}),
        ShownChunk("stdout", "\x1b[31mred\x1b[0m <plain>\n"),
    ]

    html = render_shown([("fit", "completed", chunks)]).html

    assert f'src="data:image/png;base64,{png}"' in html
    assert "<svg" not in html
    assert 'color:#D55E00">red</span> &lt;plain&gt;' in html


def test_the_middle_of_a_long_text_is_left_out_and_its_end_is_kept() -> None:
    lines = "".join(f"line {k}\n" for k in range(1000))
    figure = ShownChunk("display", bundle={"image/png": "AAAA", "text/plain": "<Figure>"})
    chunks = [
        ShownChunk("stdout", lines[:2000]),
        figure,
        ShownChunk("stderr", "\n[... 9 characters left out ...]\n"),
        ShownChunk("stdout", lines[2000:]),
    ]

    text = render_shown([("fit", "completed", chunks)]).text

    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 998\nline 999")
    assert text.count("left out") == 1
    assert "<Figure>" in text
    assert text.count("\n") < 30


def test_a_line_without_end_is_cut_in_its_middle() -> None:
    chunks = [ShownChunk("stdout", "a" * 5000 + "z" * 5000)]

    text = render_shown([("fit", "completed", chunks)]).text

    assert text.startswith("aaa")
    assert text.endswith("zzz")
    assert "6,000 characters left out" in text


def test_tasks_equal_to_one_that_ran_look_like_that_one() -> None:
    process = replace(place(expected=8, completed=2, cached=6), equal=5)

    assert [each for each in place_shares(process) if each[1]] == [("cached", 1), ("done", 7)]
    assert place_colour(replace(place(expected=4, cached=4), equal=4)) == "done"
