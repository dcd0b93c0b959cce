"""A pipeline in Mermaid's language: for a README, a wiki, or whatever else draws it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from nbcache.model.view import PlaceProgress, RunProgress
from nbcache.notebook import place_progress, render
from nbcache.plan.dataflow.outline import Outline


def pipeline(outline: Outline, progress: RunProgress) -> str:
    """Return a run as a flowchart: processes with their counts, channels with their items."""
    return "\n".join(_lines(outline, progress))


def _lines(outline: Outline, progress: RunProgress) -> Iterator[str]:
    known = {each.name: each for each in progress.places}
    names = {name: f"p{k}" for k, name in enumerate(outline.processes)}
    names.update({each.key: f"c{k}" for k, each in enumerate(outline.origins)})
    yield "flowchart LR"
    colours: dict[str, list[str]] = {}
    for name in outline.processes:
        place = known.get(name) or PlaceProgress(name=name, upstream=(), counts={}, expected=None)
        label = f"{quoted(name)}<br/>{quoted(place_progress.place_phrase(place))}"
        yield f'  {names[name]}["{label}"]'
        colours.setdefault(place_progress.place_colour(place), []).append(names[name])
    for origin in outline.origins:
        yield f'  {names[origin.key]}(["{quoted(origin.name)}"])'
    values = {each.key for each in outline.origins if each.is_value}
    for edge in outline.edges:
        items = None if edge.tail in values else progress.items.get(edge.node)
        words = " ".join(filter(None, (edge.label, "" if items is None else f"{items:,}")))
        arrow = f'-->|"{quoted(words)}"|' if words else "-->"
        yield f"  {names[edge.tail]} {arrow} {names[edge.head]}"
    for colour, nodes in colours.items():
        yield f"  classDef {colour} stroke:{render.COLOURS[colour]},stroke-width:2px"
        yield f"  class {','.join(nodes)} {colour}"


def quoted(text: str) -> str:
    """Text inside of a quoted label: Mermaid reads HTML entities with # for &."""
    for plain, code in (
        ("#", "#35;"),
        ('"', "#quot;"),
        ("<", "#lt;"),
        (">", "#gt;"),
        ("`", "#96;"),
    ):
        text = text.replace(plain, code)
    return " ".join(text.split())
