"""Pipelines that are too large for a picture: what is drawn as one, and unfolded again."""

from __future__ import annotations

import random
import re
from itertools import pairwise

from nbcache.notebook.widget.folding import MOST, drawn, groups_of
from nbcache.notebook.widget.scene import Scene, cells, draw, scene_of
from nbcache.notebook.widget.twin import image_of, render_twin
from nbcache.notebook.widget.view import scene_record
from nbcache.plan.dataflow.outline import Edge, Origin, Outline
from tests.notebook.test_widget_scene import big, run_of
from tests.notebook.views import place, progress

STEPS = ("trim", "align", "call")


def samples(count: int) -> Outline:
    """Each sample goes through three processes of its own; one gathers all."""
    names = [f"{step}_{k:03}" for k in range(count) for step in STEPS]
    edges = [Edge(f"#{k}", f"trim_{k:03}", k, "") for k in range(count)]
    for k in range(count):
        edges += [
            Edge(f"{tail}_{k:03}", f"{head}_{k:03}", -1, "") for tail, head in pairwise(STEPS)
        ]
        edges.append(Edge(f"call_{k:03}", "merge", -1, ""))
    origins = tuple(Origin(f"#{k}", f"reads_{k:03}", k, False) for k in range(count))
    return Outline((*names, "merge"), origins, tuple(edges))


def lines_of(scene: Scene) -> set[tuple[str, str]]:
    shown = scene.drawn
    names = [*(box.name for box in shown.boxes), *(pill.name for pill in shown.pills)]
    return {(names[line.tail], names[line.head]) for line in shown.lines}


def test_few_processes_are_drawn_one_by_one() -> None:
    outline = samples(15)
    shown = drawn(outline)
    assert shown.groups == ()
    assert [box.name for box in shown.boxes] == list(outline.processes)
    assert len(shown.lines) == len(outline.edges)


def test_processes_that_are_called_alike_at_one_place_are_one() -> None:
    scene = scene_of(samples(100))
    assert [(each.name, len(each.members)) for each in scene.drawn.groups] == [
        ("trim_*", 100),
        ("align_*", 100),
        ("call_*", 100),
    ]
    assert lines_of(scene) == {
        ("reads_*", "trim_*"),
        ("trim_*", "align_*"),
        ("align_*", "call_*"),
        ("call_*", "merge"),
    }


def test_an_unfolded_group_shows_its_processes_and_its_channels() -> None:
    scene = scene_of(samples(100), [1])
    names = [box.name for box in scene.drawn.boxes]
    assert "align_007" in names
    assert "align_*" not in names
    assert ("trim_*", "align_007") in lines_of(scene)
    assert scene_of(samples(100), [1, 99]) == scene  # there is no group 99


def test_what_a_group_shows_is_the_sum_of_its_processes() -> None:
    outline = samples(100)
    known = [place(name, 2, completed=1, running=1) for name in outline.processes[:-1]]
    run = progress("running", *known, place("merge", None))

    picture = draw(scene_of(outline), run)

    assert "100/200 · 100 running" in picture
    assert ">100</text>" in picture  # items over a line
    assert "×100" in picture


def test_any_pipeline_folds_to_a_picture_in_which_all_lines_lead_to_the_right() -> None:
    rng = random.Random(5)
    deep = Outline(
        tuple(f"step_{k}" for k in range(300)),
        (),
        tuple(Edge(f"step_{k}", f"step_{k + 1}", -1, "") for k in range(299)),
    )
    for outline in (big(), big(60, 90), samples(170), deep):
        groups = groups_of(outline)
        for _ in range(4):
            unfolded = [k for k in range(len(groups)) if rng.random() < 0.3]
            scene = scene_of(outline, unfolded)  # lays out, or says that there is a circle
            shown = scene.drawn
            assert sorted(k for box in shown.boxes for k in box.members) == list(
                range(len(outline.processes))
            )
            corners = scene.placed.corners
            assert all(corners[line.tail][0] < corners[line.head][0] for line in shown.lines)
        assert len(drawn(outline).boxes) <= MOST


def test_names_that_have_nothing_in_common_are_told_by_the_first_and_the_last() -> None:
    words = [a + b for a in "abcdefgh" for b in "abcdefgh"]
    outline = Outline(("start", *words), (), tuple(Edge("start", each, -1, "") for each in words))
    assert [group.name for group in groups_of(outline)] == ["aa … hh"]


def test_a_folded_picture_of_five_hundred_processes_is_small_alive_and_kept() -> None:
    scene = scene_of(big())
    record = scene_record(scene)
    assert len(str(record["svg"])) < 40_000
    assert len(image_of(scene, run_of(scene, 10))) < 60_000


def test_what_a_notebook_keeps_of_a_folded_pipeline_is_folded_too() -> None:
    scene = scene_of(samples(166))

    twin = render_twin(scene, run_of(scene, 3))

    assert len(twin.html) < 15_000
    assert [line.split("  ")[0] for line in twin.text.splitlines()[:3]] == [
        "trim_* ×166",
        "align_* ×166",
        "call_* ×166",
    ]
    assert twin.mermaid.count("-->") == 4  # more than 500 and nothing draws it
    assert 'p0["trim_* ×166<br/>498/33,200 · 332 running"]' in twin.mermaid


def test_names_of_wide_characters_fit_their_box() -> None:
    name = "样本质量控制" * 6
    svg = draw(scene_of(Outline((name,), (), ())), None)

    shown = re.findall(r'class="nb-name"[^>]*>([^<]*)<', svg)[0]

    assert 25 <= cells(shown) <= 31  # of 7.9 pixels, in a box of 288
    start, end = shown.split("…")
    assert name.startswith(start)
    assert name.endswith(end)
