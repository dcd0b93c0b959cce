"""What a live view carries, without a browser: outline, layout, picture, state, deltas."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from itertools import pairwise
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from nbcache.model.view import PlaceProgress, RunProgress
from nbcache.notebook.place_progress import place_colour
from nbcache.notebook.widget.layout import place
from nbcache.notebook.widget.scene import Scene, draw, scene_of
from nbcache.notebook.widget.state import delta, state_of
from nbcache.notebook.widget.twin import render_twin
from nbcache.plan.dataflow.outline import Edge, Origin, Outline, outline_of
from tests.engine.notebooks import Notebook
from tests.notebook.views import place as progress_of
from tests.notebook.views import progress

Record = Callable[[str, object], None]


def big(count: int = 500, edges: int = 712) -> Outline:
    """A random pipeline in which most processes read from one near them."""
    rng = random.Random(3)
    names = tuple(f"process_{k:03}" for k in range(count))
    pairs: set[tuple[int, int]] = set()
    while len(pairs) < edges:
        tail = rng.randrange(count)
        head = min(count - 1, tail + 1 + int(rng.expovariate(1 / 25)))
        if tail < head:
            pairs.add((tail, head))
    return Outline(names, (), tuple(Edge(names[a], names[b], -1, "") for a, b in sorted(pairs)))


def run_of(scene: Scene, done: int) -> RunProgress:
    places = [
        PlaceProgress(
            name=name,
            upstream=(),
            counts={"completed": done, "running": 2, "pending": 198 - done},
            expected=200,
        )
        for name in scene.outline.processes
    ]
    return progress("running", *places)


def test_boxes_of_one_layer_keep_apart_and_every_edge_leads_to_the_right() -> None:
    sizes = [(180.0, 60.0)] * 60
    rng = random.Random(1)
    edges = [(rng.randrange(k), k) for k in range(1, 60)] + [(0, 59)]

    placed = place(sizes, edges)

    for (ax, ay), (bx, by) in pairwise(sorted(placed.corners)):
        assert ax != bx or by - ay >= 60
    for (tail, head), route in zip(edges, placed.routes, strict=True):
        assert placed.corners[tail][0] + 180 < placed.corners[head][0]
        assert route[0][0] == placed.corners[tail][0] + 180
        assert route[-1][0] == placed.corners[head][0]
    assert all(0 <= x <= placed.width and 0 <= y <= placed.height for x, y in placed.corners)


def test_the_same_pipeline_is_laid_out_alike_each_time_and_a_circle_is_refused() -> None:
    assert scene_of(big(80, 110)) == scene_of(big(80, 110))
    with pytest.raises(ValueError, match="circle"):
        place([(1, 1)] * 2, [(0, 1), (1, 0)])


def test_no_process_and_one_process_have_a_picture() -> None:
    nothing = scene_of(Outline((), (), ()))
    assert draw(nothing, progress("succeeded")).startswith("<svg")

    one = scene_of(Outline(("fit",), (), ()))
    assert "no tasks" in draw(one, progress("succeeded", progress_of("fit", expected=0)))


def test_an_edge_stands_for_all_operators_between_and_a_source_keeps_its_name(
    notebook: Notebook,
) -> None:
    notebook.cells(
        [
            "%channel grid = of((1, 0), (2, 0)).fields('depth', 'rep')",
            "%%process fit from grid\nscore = depth * rep",
            "%channel scores = fit.map(lambda score: {'s': score}).collect()",
            "%%process best(s) from scores\ntop = max(s)",
        ]
    )

    run = notebook.run()
    outline = outline_of(run.graph)

    assert set(outline.processes) == {"fit", "best"}
    assert [each.name for each in outline.origins] == ["grid"]
    labels = {(edge.tail, edge.head): edge.label for edge in outline.edges}
    assert labels == {(outline.origins[0].key, "fit"): "", ("fit", "best"): "scores"}
    items = {edge.head: run.progress().items[edge.node] for edge in outline.edges}
    assert items == {"fit": 2, "best": 1}


def test_names_and_errors_that_look_like_markup_stay_text() -> None:
    evil = "<script>alert(1)</script>&\"'"
    scene = scene_of(
        Outline(("fit",), (Origin("#1", evil, 1, False),), (Edge("#1", "fit", 1, evil),))
    )

    markup = draw(scene, progress("running", progress_of("fit", completed=3)))

    assert "<script" not in markup
    root = ElementTree.fromstring(markup)
    assert {each.tag.rpartition("}")[2] for each in root.iter()} <= {
        *("svg", "g", "path", "rect", "text", "title")
    }


def test_a_static_twin_shows_the_picture_from_two_processes_on() -> None:
    one = scene_of(Outline(("fit",), (), ()))
    two = scene_of(Outline(("fit", "best"), (), (Edge("fit", "best", -1, ""),)))
    run = progress("succeeded", progress_of("fit", completed=18), progress_of("best", 1, cached=1))

    assert "<img" not in render_twin(one, run).html
    assert '<img alt="pipeline of fit, best"' in render_twin(two, run).html
    assert "<svg" not in render_twin(two, run).html  # inline SVG is taken out of notebooks


def test_a_picture_that_was_kept_while_its_run_went_says_so() -> None:
    scene = scene_of(Outline(("fit",), (), ()))
    fit = progress_of("fit", running=1)

    kept = render_twin(scene, progress("running", fit))

    said = "so it stood after 9.1 s: %nbcache show calm-otter says how it stands now"
    assert said in kept.text
    assert said in kept.html
    assert "so it stood" not in render_twin(scene, progress("failed", fit)).text


def test_a_process_that_was_stopped_early_does_not_look_done() -> None:
    stopped = progress_of("fit", 18, completed=6, aborted=12)
    passed_over = progress_of("fit", 3, skipped=3)

    assert [place_colour(each) for each in (stopped, passed_over)] == ["pending", "pending"]


def test_an_error_that_holds_no_more_is_hidden_and_where_it_cannot_be_said_to_be_older() -> None:
    scene = scene_of(Outline(("fit",), (), ()))
    run = progress("succeeded", progress_of("fit", completed=18))

    assert "older" not in render_twin(scene, run).html
    rendered = render_twin(scene, run, older_error="twin")

    assert rendered.text.endswith("the error below is older than this")
    assert "#twin .nbcache-older{display:none}" in unquote(rendered.html)
    assert "<style" not in rendered.html  # GitHub shows its text where it takes it out of Markdown


def test_a_delta_says_what_moved_and_nothing_where_only_time_passed() -> None:
    scene = scene_of(Outline(("fit", "best"), (), (Edge("fit", "best", -1, ""),)))
    first = state_of(scene, progress("running", progress_of("fit", completed=1, running=1)))
    later = state_of(
        scene, progress("running", progress_of("fit", completed=1, running=1), elapsed_s=12.0)
    )
    moved = state_of(scene, progress("running", progress_of("fit", completed=2, running=1)))

    assert delta(first, later) == {}
    found = delta(first, moved)
    assert list(found["counts"]) == ["0"]
    assert found["items"] == {"0": 2}
    assert "failures" not in found["head"]


def test_messages_stay_small_at_five_hundred_processes(record_property: Record) -> None:
    started = time.perf_counter()
    scene = scene_of(big())
    laid_out = time.perf_counter() - started
    before, after = (state_of(scene, run_of(scene, done)) for done in (10, 11))

    started = time.perf_counter()
    changed = delta(before, state_of(scene, run_of(scene, 11)))
    took = time.perf_counter() - started

    size = len(json.dumps(changed, separators=(",", ":")))
    whole = len(draw(scene, run_of(scene, 10)))
    twin = len(render_twin(scene, run_of(scene, 10)).html)
    assert len(changed["counts"]) == 500
    assert after == state_of(scene, run_of(scene, 11))
    record_property(
        "measured",
        f"500 processes all moving: {size / 1000:.0f} kB a delta, {took * 1000:.1f} ms; layout "
        f"{laid_out * 1000:.0f} ms, the whole picture {whole / 1000:.0f} kB, static "
        f"{twin / 1000:.0f} kB",
    )
    assert size < 40_000
