"""The view's module alone: hostile words, gaps in the messages, size, keys, themes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from nbcache.model.view import FailureView, PlaceProgress, RunProgress
from nbcache.notebook.code_view import diff_block, source_block
from nbcache.notebook.markup import record_of
from nbcache.notebook.widget.card import card_record
from nbcache.notebook.widget.scene import STATES, Scene, draw, scene_of
from nbcache.notebook.widget.state import delta, state_of
from nbcache.plan.dataflow.outline import Edge, Origin, Outline
from tests.browser.bare import CONTROLS, load, mount, tell, whole
from tests.browser.conftest import keep_picture
from tests.browser.lab import axe_violations
from tests.notebook.test_widget_folding import samples
from tests.notebook.test_widget_scene import big, run_of
from tests.notebook.views import FIT, place, progress

Record = Callable[[str, object], None]

EVIL = '<img src=x onerror="window.pwned = 1"><script>window.pwned = 2</script>\'"&'

PIPELINE = Outline(
    ("trim", "align_the_reads_of_each_sample_against_the_genome", "report"),
    (Origin("#7", "pairs", 7, False), Origin("#8", "genome", 8, True)),
    (
        Edge("#7", "trim", 7, ""),
        Edge("trim", "align_the_reads_of_each_sample_against_the_genome", 0, ""),
        Edge("#8", "align_the_reads_of_each_sample_against_the_genome", 8, ""),
        Edge("align_the_reads_of_each_sample_against_the_genome", "report", 1, "all"),
    ),
)


def going(scene: Scene, *counts: dict[str, int]) -> RunProgress:
    names = scene.outline.processes
    places = [place(name, 10, **each) for name, each in zip(names, counts, strict=True)]
    return progress("running", *places)


def task_page(**changes: object) -> dict[str, object]:
    row = {
        "position": "0", "label": f"trim[{EVIL}]", "status": "failed", "duration": 1.5,
        "saved": None, "memory": 25_000_000, "attempt": 1, "why": EVIL, "hash": "0123abcd",
    }  # fmt: skip
    page = {
        "rows": [row], "running": [], "matched": 1, "total": 1, "offset": 0,
        "statuses": {"failed": 1},
    }  # fmt: skip
    return {**page, **changes}


SOURCE = record_of([source_block(f"x = '{EVIL}'  # {EVIL}", "python")])
DIFF = record_of([diff_block(f"@@ -1 @@\n-{EVIL}\n+'{EVIL}'")])
DETAIL = {
    "label": f"trim[{EVIL}]", "status": "failed", "process": "trim", "position": "0",
    "facts": [["took", EVIL]], "error": EVIL, "traceback": EVIL, "source": SOURCE,
    "language": "python", "cell": EVIL, "inputs": [{"name": EVIL, "value": EVIL}],
    "outputs": [{"name": EVIL, "value": EVIL, "digest": "xxh3:00"}], "hash": "xxh3:0123abcd",
    "components": [{"kind": "code", "name": EVIL, "summary": EVIL, "digest": "00"}],
}  # fmt: skip
ANSWERS = {
    "tasks": task_page(),
    "task": DETAIL,
    "log": {"live": False, "chunks": [{"stream": "stdout", "text": EVIL}]},
    "why": {
        "head": EVIL, "lines": [EVIL], "differences": [],
        "diffs": [{"title": EVIL, "page": DIFF}],
    },
}  # fmt: skip


def test_words_from_a_cache_are_never_markup(page: Page) -> None:
    scene = scene_of(
        Outline(("trim",), (Origin("#1", EVIL, 1, False),), (Edge("#1", "trim", 1, EVIL),))
    )
    failure = FailureView(task=EVIL, process="trim", error=EVIL, where=EVIL, position="0")
    run = progress("failed", place("trim", 1, failed=1), failures=(failure,), notes=(EVIL,))
    mount(page, whole(scene, run), answers=ANSWERS)

    page.get_by_role("button", name="trim:").click()
    page.locator(".nb-tasks tbody .nb-link").click()
    expect(page.locator(".nb-why-head")).to_have_text(EVIL)

    text = page.locator(".nbcache-view").inner_text()
    assert text.count("window.pwned = 1") >= 12
    assert page.locator(".nbcache-view img, .nbcache-view script").count() == 0
    assert page.evaluate("window.pwned") is None
    assert axe_violations(page, ".nbcache-view") == []


def test_a_task_whose_reason_is_gone_has_no_hint_of_it_left(page: Page) -> None:
    empty = scene_of(Outline(("trim",), (), ()))
    run = progress("running", place("trim", 1, failed=1))
    mount(page, whole(empty, run), answers={"tasks": task_page()})
    page.get_by_role("button", name="trim:").click()
    why = page.locator("td.nb-col-why")
    expect(why).to_have_attribute("title", EVIL)

    page.evaluate("window.answers.tasks.rows[0].why = ''")
    page.get_by_role("button", name="took").click()

    expect(why).to_have_attribute("title", "")


def test_a_task_that_ended_and_printed_nothing_is_no_longer_said_to_have_printed_nothing_so_far(
    page: Page,
) -> None:
    scene = scene_of(PIPELINE)
    silent = {**ANSWERS, "log": {"live": True, "chunks": []}}
    running, ended = (
        {**silent, "task": {**DETAIL, "status": each}} for each in ("running", "completed")
    )
    mount(page, whole(scene, going(scene, {"completed": 3}, {}, {})), answers=running)
    page.get_by_role("button", name="trim:").click()
    page.locator(".nb-tasks tbody .nb-link").click()
    expect(page.locator(".nb-log")).to_have_text("nothing printed so far")

    page.evaluate("(given) => { answers = given; }", ended)

    expect(page.locator(".nb-log")).to_have_text("nothing was printed")


def test_a_page_that_missed_a_message_asks_for_the_whole(page: Page) -> None:
    scene = scene_of(PIPELINE)
    runs = [going(scene, {"completed": k}, {}, {}) for k in range(4)]
    states = [state_of(scene, run, CONTROLS) for run in runs]
    mount(page, whole(scene, runs[0]), answers={"sync": whole(scene, runs[0])})
    trim = page.get_by_role("button", name="trim:")

    tell(page, {"kind": "delta", "seq": 1, **delta(states[0], states[1])})
    expect(trim).to_have_attribute("aria-label", "trim: 1/10")
    page.evaluate("(whole) => { window.answers = { sync: whole }; }", whole(scene, runs[3], 3))
    tell(page, {"kind": "delta", "seq": 3, **delta(states[2], states[3])})

    expect(trim).to_have_attribute("aria-label", "trim: 3/10")
    tell(page, {"kind": "delta", "seq": 2, **delta(states[1], states[2])})  # too late: known
    tell(page, {"kind": "delta", "seq": 4, "items": {"0": 77}})
    expect(page.locator(".nb-count").first).to_have_text("77")
    expect(trim).to_have_attribute("aria-label", "trim: 3/10")


def test_a_run_that_goes_and_says_nothing_is_asked_and_a_kernel_that_has_ended_is_named(
    page: Page,
) -> None:
    scene = scene_of(PIPELINE)
    page.clock.install()
    mount(page, whole(scene, going(scene, {"completed": 1}, {}, {})))
    assert page.evaluate("sent.length") == 1

    page.clock.fast_forward(30_000)
    assert page.evaluate("sent.map((each) => each.ask)") == ["sync", "sync"]

    stopped = going(scene, {"completed": 2, "aborted": 8}, {}, {})
    tell(page, {"kind": "whole", **whole(scene, stopped, 1)})
    expect(page.get_by_role("button", name="trim:")).to_have_class(re.compile("nb-is-pending"))
    page.evaluate("() => { model.send = () => { throw new Error('Cannot send'); }; }")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".nb-status")).to_have_text("the kernel has ended: run the cell again")


def test_what_a_kernel_leaves_unanswered_is_said_and_can_be_asked_again(page: Page) -> None:
    scene = scene_of(PIPELINE)
    fields = [{"name": "rate", "text": "0.5", "kind": "float"}]
    form = {"fields": fields, "processes": ["trim"]}
    first = whole(scene, going(scene, {"completed": 3}, {}, {}))
    answers = {**ANSWERS, "form": form, "plan": [], "why": None}
    page.clock.install()
    mount(page, first, answers=answers)
    said = page.locator(".nb-status")

    def lose_kernel() -> None:
        page.evaluate("() => { answers = {}; loseKernel(); }")
        page.clock.run_for(6_000)

    page.get_by_role("button", name="trim:").click()
    page.locator(".nb-tasks tbody .nb-link").click()
    page.get_by_text("Why", exact=True).wait_for()
    page.get_by_role("button", name="Resume").dispatch_event("click")
    expect(said).to_have_text("Resume: it goes on")
    lose_kernel()
    expect(said).to_have_text("")
    again = page.get_by_role("button", name="ask again")
    expect(page.locator(".nb-why")).to_have_text(
        "the kernel has ended: run the cell again ask again"
    )
    tell(page, {"kind": "whole", **first, "seq": 1})  # it was only the line
    page.evaluate("(given) => { answers = given; }", {**ANSWERS, "form": form, "plan": []})
    again.click()
    expect(page.locator(".nb-why-head")).to_have_text(EVIL)

    page.get_by_role("button", name="trim", exact=True).click()
    page.get_by_role("button", name="Run from here…").click()
    page.get_by_label("rate", exact=True).fill("7")
    start = page.get_by_role("button", name="Start the run")
    start.click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="trim:").click()
    page.get_by_role("button", name="Run from here…").click()
    page.get_by_label("rate", exact=True).fill("7")
    start.click()
    lose_kernel()
    start.click()  # one that was only slow hears it
    page.clock.run_for(5_000)
    expect(said).to_have_text("the kernel has ended: run the cell again")
    tell(page, {"kind": "whole", **first, "seq": 2})
    expect(said).to_have_text("")
    start.click()
    pressed = page.evaluate("sent.filter(({ ask, once }) => ask === 'relaunch' && once)")
    assert [each["parameters"] for each in pressed] == [{"rate": "7.0"}] * 4
    first = pressed[0]["id"]
    assert {each["id"] for each in pressed} == {first}  # one press, that the kernel hears once
    tell(page, {"kind": "answer", "page": pressed[0]["page"], "id": first, "answer": {"said": ""}})
    expect(page.locator(".nb-panel")).to_be_hidden()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel").click()
    # How things stand may have been asked for in between.
    cancelled = page.evaluate("sent.filter(({ ask }) => ask === 'cancel').map(({ id }) => id)")
    assert cancelled == [cancelled[0]] * 2 != [first] * 2


def test_a_pipeline_that_looks_like_the_one_before_opens_its_own_processes(page: Page) -> None:
    def folded(start: int) -> Scene:
        names = tuple(f"trim_{k}" for k in range(start, start + 100))
        return scene_of(Outline(names, (), ()))

    old, new = folded(100), folded(200)
    first, then = (
        whole(each, going(each, *[{} for _ in each.outline.processes]), seq)
        for seq, each in enumerate((old, new))
    )
    assert first["scene"]["svg"] == then["scene"]["svg"]
    mount(page, first)

    tell(page, {"kind": "whole", **then})
    page.get_by_role("button", name="Table").click()

    cells = page.locator(".nb-panel tbody")
    expect(cells).to_contain_text("trim_200")
    expect(cells).not_to_contain_text("trim_100")


def test_a_view_whose_kernel_never_sends_it_gives_up_and_keeps_no_other_from_being_drawn(
    page: Page,
) -> None:
    scene = scene_of(PIPELINE)
    first = whole(scene, going(scene, {}, {}, {}))
    page.clock.install()
    page.goto("about:blank")

    load(page, "ended", first, answers=False)
    page.wait_for_function("() => window.asked === 'library'")
    load(page, "new", first, answers=True)
    page.wait_for_function("() => window.ended === 'drawn'")

    load(page, "ended", first, answers=False)
    page.clock.fast_forward(31_000)
    page.wait_for_function("() => window.ended.includes('run the cell again')")
    load(page, "ended", first, answers=True)
    page.wait_for_function("() => window.ended === 'drawn'")


def test_the_live_picture_says_of_any_counts_what_the_one_that_is_kept_says(page: Page) -> None:
    rng = random.Random(5)
    sizes = (0, 0, 0, 0, 1, 7, 1_200, 100_000)

    def some(name: str) -> PlaceProgress:
        counts = {state: rng.choice(sizes) for state in rng.sample(STATES, rng.randint(0, 5))}
        known = sum(counts.values()) + rng.choice((0, 0, 30))
        equal = rng.randint(0, counts.get("cached", 0))
        expected = rng.choice((known, known, None))
        return PlaceProgress(name=name, upstream=(), counts=counts, expected=expected, equal=equal)

    names = tuple(f"process_{k:03}" for k in range(40))
    lines = (Edge(names[0], names[1], 0, ""), Edge(names[1], names[2], 1, ""))
    scene = scene_of(Outline(names, (), lines), range(40))
    run = progress("running", *map(some, names))
    kept = draw(scene, run)
    mount(page, whole(scene, run))
    page.get_by_role("button", name="fit the picture").click()

    said = page.evaluate(_SAID, kept)

    assert len(said) == 40
    assert any("…" in live["phrase"] for live, _ in said)
    for live, static in said:
        assert live == static


_SAID = """(kept) => {
    const shown = new DOMParser().parseFromString(kept, "image/svg+xml");
    const told = (node) => ({
        name: node.dataset.key,
        phrase: node.querySelector(".nb-phrase").textContent,
        title: node.querySelector("title").textContent,
        looks: [...node.classList].filter((each) => each.startsWith("nb-is-")),
        icon: node.querySelector(".nb-icon").getAttribute("d"),
        bars: [...node.querySelectorAll(".nb-part")]
            .map((bar) => [bar.getAttribute("class"), bar.getAttribute("width")])
            .filter(([, width]) => Number(width) > 0),
    });
    const live = [...document.querySelectorAll(".nb-node")];
    return live.map((node) => [
        told(node), told(shown.querySelector(`[data-key="${node.dataset.key}"]`))]);
}"""


def test_the_keyboard_walks_along_the_edges_and_opens_a_process(page: Page) -> None:
    scene = scene_of(PIPELINE)
    mount(page, whole(scene, going(scene, {"completed": 3}, {}, {})), answers=ANSWERS)
    focused = "document.activeElement.getAttribute('aria-label')"

    page.get_by_role("button", name="trim:").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused).startswith("align_the_reads")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(focused).startswith("align_the_reads")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.locator(".nb-tasks tbody tr")).to_have_count(1)
    page.get_by_role("button", name="close").click()
    assert page.evaluate(focused).startswith("trim:")


def test_the_focus_is_not_lost_with_what_a_key_has_pressed(page: Page) -> None:
    scene = scene_of(PIPELINE)
    runs = [
        {"run": name, "name": name, "status": "succeeded", "when": "today", "took": took,
         "tasks": "1 ran", "notebook": "", "parameters": ""}
        for name, took in (("calm-otter", "1 s"), ("dry-heron", "2 s"))
    ]  # fmt: skip
    table = {"rows": runs, "matched": 2, "total": 2, "offset": 0}
    answers = {
        "tasks": task_page(matched=25, total=25),
        "form": {"fields": [{"name": "n", "text": "3", "kind": "int"}], "processes": ["trim"]},
        "plan": [], "runs": table, "diff": {"page": [], "differ": True, "data": False},
    }  # fmt: skip
    mount(page, whole(scene, going(scene, {"completed": 3}, {}, {})), answers=answers)

    def answer(what: str, told: object) -> None:
        page.evaluate("([what, told]) => { window.answers[what] = told; }", [what, told])

    trim = page.get_by_role("button", name="trim:")
    trim.press("Enter")
    answer("tasks", task_page(matched=25, total=25, offset=20))
    on = page.get_by_role("button", name="Next")
    on.press("Enter")
    expect(page.get_by_text("21–25 of 25")).to_be_visible()
    expect(on).to_be_focused()

    page.get_by_role("button", name="Run from here…").press("Enter")
    told = page.locator(".nb-form [aria-live]")  # a screen reader hears the line, not the table
    expect(told).to_have_text("This run: 0 to run, 0 cached")
    page.get_by_label("n", exact=True).fill("4")
    page.get_by_role("button", name="changed").press("Enter")
    expect(page.get_by_label("n", exact=True)).to_be_focused()
    # What was filled in stays where the run is refused, and until it has begun.
    page.get_by_label("n", exact=True).fill("5")
    start = page.get_by_role("button", name="Start the run")
    start.press("Enter")
    page.evaluate(
        """() => { const { id, page } = sent.find(({ ask }) => ask === "relaunch");
            tell({ kind: "answer", id, page, error: "a cell is running" }); }"""
    )
    expect(page.locator(".nb-status")).to_have_text("a cell is running")
    expect(page.get_by_label("n", exact=True)).to_have_value("5")
    answer("relaunch", {"said": "run warm-heron began"})
    start.press("Enter")
    expect(page.get_by_role("group", name="details")).to_be_hidden()
    expect(trim).to_be_focused()
    expect(trim).to_have_attribute("aria-expanded", "false")
    trim.press("Enter")
    expect(trim).to_have_attribute("aria-expanded", "true")
    page.get_by_role("button", name="close").press("Escape")
    expect(trim).to_be_focused()

    runs_button = page.get_by_role("button", name="Runs")
    runs_button.press("Enter")
    expect(runs_button).to_have_attribute("aria-expanded", "true")
    page.get_by_role("checkbox", name="calm-otter").press("Space")
    second = page.get_by_role("checkbox", name="dry-heron")
    second.press("Space")
    answer("runs", {**table, "rows": [runs[0], {**runs[1], "took": "3 s"}]})
    # Since the run goes, the table is drawn anew.
    expect(page.get_by_role("cell", name="3 s", exact=True)).to_be_visible()
    expect(second).to_be_focused()

    page.get_by_role("button", name="Compare").press("Enter")
    answer("diff", {"page": ["compared"], "differ": True, "data": True})
    page.get_by_role("button", name="Compare the results").press("Enter")
    expect(page.get_by_text("compared")).to_be_visible()
    expect(page.get_by_role("group", name="details")).to_be_focused()


def test_five_hundred_processes_move_smoothly(page: Page, record_property: Record) -> None:
    scene = scene_of(big(), range(100))  # all unfolded
    mount(page, whole(scene, run_of(scene, 10)))
    times = page.evaluate(
        """async () => {
            const times = [];
            for (let seq = 1; seq <= 8; seq++) {
                const counts = {};
                for (let k = 0; k < 500; k++) counts[k] = [1, 0, 2, 0, seq, 5, 0, 0, 0, 0, 0, 200];
                const began = performance.now();
                window.tell({ kind: "delta", seq, counts });
                await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
                times.push(performance.now() - began);
            }
            return times;
        }"""
    )
    page.get_by_role("button", name="Table").click()
    expect(page.locator(".nb-panel tbody tr")).to_have_count(20)
    page.get_by_role("searchbox").fill("process_49")
    expect(page.locator(".nb-panel tbody tr")).to_have_count(10)
    page.get_by_role("button", name="fit the picture").click()
    expect(page.locator('[data-key="process_499"]')).to_have_attribute(
        "aria-label", "process_499: 13/200 · 2 running"
    )

    middle = sorted(times)[len(times) // 2]
    record_property("measured", f"500 processes, all moving: {middle:.0f} ms a picture in a page")


def test_a_group_is_unfolded_and_folded_with_the_keyboard(page: Page) -> None:
    outline = samples(100)
    folded, unfolded = scene_of(outline), scene_of(outline, [0])
    mount(page, whole(folded, run_of(folded, 3)))
    trim = page.get_by_role("button", name="trim_*: 100 processes, 300/20,000 · 200 running")
    expect(trim).to_have_attribute("aria-expanded", "false")
    assert axe_violations(page, ".nbcache-view") == []

    trim.focus()
    page.keyboard.press("Enter")
    folded_last = "sent.findLast(({ ask }) => ask === 'fold')"
    asked = page.evaluate(folded_last)
    assert (asked["group"], asked["unfolded"]) == (0, True)
    tell(page, {"kind": "whole", **whole(unfolded, run_of(unfolded, 4), 1)})
    focused = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused) == "trim_000: 4/200 · 2 running"
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused).startswith("trim_0")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert axe_violations(page, ".nbcache-view") == []

    page.get_by_role("button", name="fold trim_* ×100").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(folded_last)["unfolded"] is False
    tell(page, {"kind": "whole", **whole(folded, run_of(folded, 4), 2)})
    assert page.evaluate(focused) == "trim_*: 100 processes, 400/20,000 · 200 running"
    expect(page.get_by_role("button", name="fold trim_*")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark", "forced"])
def test_every_theme_is_readable_and_nothing_sticks_out_of_a_narrow_page(
    browser: Browser, theme: str
) -> None:
    context = browser.new_context(
        viewport={"width": 420, "height": 900},
        color_scheme="dark" if theme == "dark" else "light",
        forced_colors="active" if theme == "forced" else "none",
        reduced_motion="reduce",
    )
    page = context.new_page()
    scene = scene_of(PIPELINE)
    task = "trim_the_adapters_of_every_single_read[plate=P1 well=3]"
    failure = FailureView(task=task, process="trim", error="x" * 200, position="0")
    places = [
        PlaceProgress(name=name, upstream=(), counts=counts, expected=123_456)
        for name, counts in zip(
            PIPELINE.processes,
            ({"completed": 100_000, "failed": 3}, {"running": 8}, {}),
            strict=True,
        )
    ]
    run = progress("running", *places, failures=(failure,))
    mount(page, whole(scene, run), answers=ANSWERS)
    if theme == "dark":  # as JupyterLab's dark theme sets them, with larger letters
        page.add_style_tag(
            content="body{background:#111;color:#fff}:root{--jp-layout-color1:#111;"
            "--jp-ui-font-size1:17px;"
            "--jp-layout-color2:#222;--jp-ui-font-color1:#fff;--jp-ui-font-color2:#bbb;"
            "--jp-border-color0:#777;--jp-border-color2:#444;--jp-error-color1:#ef9a9a;"
            "--jp-mirror-editor-keyword-color:#4caf50;--jp-mirror-editor-string-color:#ff7070;"
            "--jp-mirror-editor-comment-color:#90b0b0;--jp-mirror-editor-number-color:#66bb6a}"
        )
    expect(page.locator(".nb-lines .nb-end")).to_have_text("[plate=P1 well=3]")  # it stays whole
    page.get_by_role("button", name="trim:").click()
    page.locator(".nb-tasks tbody .nb-link").click()
    expect(page.locator(".nb-why-head")).to_be_visible()

    size = "getComputedStyle(document.querySelector('.nb-why-head')).fontSize"
    assert page.evaluate(size) == ("17px" if theme == "dark" else "13px")
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    assert axe_violations(page, ".nbcache-view") == []
    keep_picture(page, f"theme-{theme}")
    context.close()


def test_a_long_label_is_cut_between_letters_and_one_from_right_to_left_only_at_its_end(
    page: Page,
) -> None:
    row = task_page()["rows"][0]  # type: ignore[index]  # as it was written above
    labels = ["who=a penguin: 🐧🐧🐧🐧🐧 n=12", "who=שלום עולם מה שלומך n=1"]
    rows = [{**row, "position": str(k), "label": f"trim[{each}]"} for k, each in enumerate(labels)]
    scene = scene_of(PIPELINE)
    mount(page, whole(scene, going(scene, {}, {}, {})), answers={"tasks": task_page(rows=rows)})

    page.get_by_role("button", name="trim:").click()

    parts = page.locator(".nb-tasks tbody .nb-link span")
    expect(parts).to_have_text(["who=a penguin", ": 🐧🐧🐧🐧🐧 n=12", labels[1]])


def test_no_process_and_no_task_say_so(page: Page) -> None:
    mount(page, whole(scene_of(Outline((), (), ())), progress("succeeded")))
    expect(page.locator(".nb-line")).to_contain_text("0 ran, 0 cached")

    empty = scene_of(Outline(("fit",), (), ()))
    nothing = task_page(rows=[], matched=0, total=0, statuses={})
    run = progress("succeeded", place("fit", 0))
    mount(page, whole(empty, run), answers={"tasks": nothing})
    page.get_by_role("button", name="fit: no tasks").click()
    expect(page.locator(".nb-empty")).to_have_text("It had no tasks in this run.")

    outline = Outline(("check", "gather"), (), (Edge("check", "gather", 0, ""),))
    run = progress("failed", place("check", 1, failed=1), place("gather", 0))
    mount(page, whole(scene_of(outline), run), answers={"tasks": nothing})
    page.get_by_role("button", name="gather: no tasks").click()
    expect(page.locator(".nb-empty")).to_have_text(
        "It had no tasks in this run: tasks of check above it have failed."
    )

    page.get_by_role("button", name="check: 0 ran").click()
    expect(page.locator(".nb-empty")).to_have_text(
        "The cache knows these tasks no more: was its folder deleted?"
    )

    run = progress("cancelled", place("check", 3, completed=1, aborted=2), place("gather", None))
    mount(page, whole(scene_of(outline), run))
    page.get_by_role("button", name="Table").click()
    expect(page.locator(".nb-panel tbody .nb-state")).to_have_text(["aborted", "waiting"])
    page.get_by_label("filter the processes").fill("align")
    expect(page.locator(".nb-empty")).to_have_text("No process fits the filter.")


def test_what_a_run_would_do_now_stays_on_a_card_until_another_has_ended(page: Page) -> None:
    scene = scene_of(Outline(("fit",), (), ()))
    first, resumed = (
        {**whole(scene, progress("failed", place("fit", 18, **counts))), "card": card_record(FIT)}
        for counts in ({"completed": 17, "failed": 1}, {"cached": 17, "failed": 1})
    )
    looked = {**card_record(FIT, again=True), "reason": "limit 8 → 9"}
    answers = {"card": looked, "showing": {"tasks": [], "total": 0}}
    mount(page, first, answers=answers, kind={"name": "card"})
    now = page.locator(".nb-now")
    expect(now).to_have_text("")

    page.locator(".nb-signature").hover()
    expect(now).to_have_text("a run now: 18 tasks: 0 cached, 18 to run: limit 8 → 9")
    tell(page, {"kind": "whole", **first, "seq": 1})  # as a hover over its buttons asks for
    expect(now).to_have_text("a run now: 18 tasks: 0 cached, 18 to run: limit 8 → 9")
    tell(page, {"kind": "delta", "seq": 2, "head": {**resumed["head"], "going": True}})
    expect(now).to_have_text("")
    tell(page, {"kind": "delta", "seq": 3, "head": resumed["head"]})
    expect(page.locator(".nb-card-state")).not_to_contain_text("running")
    expect(now).to_have_text("")


def test_a_last_page_that_becomes_empty_while_a_run_goes_gives_way_to_the_one_before(
    page: Page,
) -> None:
    names = tuple(f"step{k:02d}" for k in range(25))
    scene = scene_of(Outline(names, (), ()))
    counts = [{"running": 1}] * 25
    mount(page, whole(scene, going(scene, *counts)))
    page.get_by_role("button", name="Table").click()
    page.get_by_label("filter the processes").fill("running")
    page.get_by_role("button", name="Next").click()
    rows = page.locator(".nb-panel tbody tr")
    expect(rows).to_have_count(5)

    fewer = going(scene, *counts[:3], *[{"completed": 10}] * 22)
    tell(page, {"kind": "whole", **whole(scene, fewer, seq=1)})

    expect(rows).to_have_count(3)


def test_a_button_is_pressed_while_words_of_the_kernel_arrive(page: Page) -> None:
    scene = scene_of(PIPELINE)
    mount(page, whole(scene, going(scene, {}, {}, {})))
    button = page.get_by_role("button", name="Cancel")
    button.hover()

    page.mouse.down()
    tell(page, {"kind": "delta", "seq": 1, "counts": {}})  # its first: it has a kernel
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))")
    page.mouse.up()

    asked = {each["ask"] for each in page.evaluate("window.sent")}
    assert "cancel" in asked  # where this took long, the page asks how the run stands as well
