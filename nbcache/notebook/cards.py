"""What stands below a `%%process` cell and a `%channel` line, drawn from snapshots.

Pure functions, view in and `Rendered` out. A card says what the process is and what a run would
do; during and after a run it also says how far its tasks are and shows what they showed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from nbcache.model.view import CaptureView, CardView, ChannelView, PlacePlan, RunProgress
from nbcache.notebook import progress as pictures
from nbcache.notebook import render
from nbcache.notebook.place_progress import place_bar, place_colour, place_phrase
from nbcache.notebook.render import Rendered
from nbcache.notebook.shown_view import Shown, render_shown

_FAINT = render.FAINT
_HINDRANCE = f"border-left:2px solid {render.COLOURS['failed']};padding-left:8px;{render.MONO}"
_CAPTURES = 12  # that are named


def render_card(
    view: CardView,
    progress: RunProgress | None = None,
    shown: Sequence[Shown] = (),
    tried: str = "",
    showing: int = 0,
) -> Rendered:
    """Return a card. With `progress`, of a run and this process alone, that stands in place of
    the plan.

    tried: how a trial of one item went, in one line; then `shown` is what that showed. showing: of
    how many tasks `shown` is a choice.
    """
    title = " · ".join(filter(None, (view.signature, view.wiring)))
    captures = captures_phrase(view)
    state = standing(view) if progress is None else _outcome(progress)
    text = " · ".join(filter(None, (title, captures, state)))
    signature = f"<b>{escape(view.name)}</b>{escape(view.signature.removeprefix(view.name))}"
    pieces = [
        f'<span style="{render.MONO}">{signature}</span>',
        *(escape(part) for part in (view.wiring, captures, state) if part),
    ]
    html = [f"<div>{' · '.join(pieces)}</div>"]
    lines = [text]
    if progress is None:
        reasons = [view.plan.reason] if view.plan and view.plan.reason else []
        bad = list(view.hindrances)
    else:  # a run has had the hindrances: they are gone
        reasons = pictures.reason_lines(progress)
        bad = pictures.failure_lines(progress.failures)
    details = [(each, _FAINT) for each in (*reasons, *notes_of(view))]
    for detail, style in [*details, *((each, _HINDRANCE) for each in bad)]:
        lines.append(f"  {detail}")
        html.append(f'<div style="{style}">{_multiline(detail)}</div>')
    colour = "pending"
    if progress is not None:
        html.append(place_bar(progress.places[0]))
        colour = place_colour(progress.places[0])
    parts = [f'<div class="nbcache-head">{"".join(html)}</div>']
    field = "" if tried else "{log}"  # the log knows of no trial
    output = render.stack([render_shown(shown, showing, field=field), render.line(tried, _FAINT)])
    if output.text:
        lines.append(output.text)
        parts.append(f'<div class="nbcache-shown">{output.html}</div>')
    return Rendered("\n".join(lines), render.box("".join(parts), colour))


def _outcome(progress: RunProgress) -> str:
    """How a run went here. Hits alone name none, as in its badge: a notebook that is run again
    then keeps the same text."""
    phrase = place_phrase(progress.places[0])
    counts = progress.places[0].counts
    if set(filter(counts.get, counts)) <= {"cached"}:
        return phrase
    return f"{phrase} · {pictures.name_of(progress)}"


def notes_of(view: CardView) -> list[str]:
    """Return what else there is to know of a process, a line each."""
    notes = [*map(_read_note, view.reads), *view.notes]
    if view.directives:
        notes.append(" · ".join(f"{key} {value}" for key, value in view.directives.items()))
    return notes


def captures_phrase(view: CardView) -> str:
    """Return "captures X 25 kB, y 3 kB"."""
    if not view.captures:
        return ""
    named = ", ".join(_capture(each) for each in view.captures[:_CAPTURES])
    left = len(view.captures) - _CAPTURES
    return f"captures {named}" + (f" and {left:,} more" if left > 0 else "")


_SIZE = re.compile(r"[\d.]+ [kMGT]?B$")


def _capture(view: CaptureView) -> str:
    """A captured name with its size; of a small value what it is, of code nothing more."""
    size = _SIZE.search(view.summary)
    if size is not None:
        return f"{view.name} {size[0]}"
    if view.summary.startswith("module"):
        return f"{view.name} module"
    if view.summary.startswith(("function", "class")):
        return view.name
    return f"{view.name} {view.summary}".strip()


def _read_note(name: str) -> str:
    return name if " " in name else f"reads {name} by name"


def _multiline(text: str) -> str:
    return f'<span style="white-space:pre-wrap">{escape(text)}</span>'


def standing(view: CardView) -> str:
    """Return what a run would do with a process, or that it cannot be run as things are."""
    return "cannot run yet" if view.plan is None and view.hindrances else plan_phrase(view.plan)


def plan_phrase(plan: PlacePlan | None) -> str:
    """Return "18 tasks: 0 cached, 18 to run", or why that is not known."""
    if plan is None:
        return "not counted"
    if plan.tasks is None:
        known = [cached_phrase(plan)] * bool(plan.cached)
        known += [f"{plan.to_run:,} to run"] * bool(plan.to_run)
        known += [f"{plan.equal:,} equal to these"] * bool(plan.equal)
        return ", ".join(["tasks known when the processes above have run", *known])
    if plan.tasks == 0:
        return "no tasks"
    whose = "its" if plan.unknown == 1 else "their"
    if plan.unknown == plan.tasks:
        return f"{render.count_of(plan.tasks, 'task')}, known when {whose} inputs are made"
    parts = [cached_phrase(plan)]
    if plan.to_run or not plan.unknown:
        parts.append(f"{plan.to_run:,} to run")
    if plan.equal:
        parts.append(f"{plan.equal:,} equal to {'it' if plan.to_run == 1 else 'one of them'}")
    if plan.unknown:
        parts.append(f"{plan.unknown:,} known when {whose} inputs are made")
    if plan.failing:
        parts.append(f"{plan.failing:,} would fail")
    return f"{render.count_of(plan.tasks, 'task')}: {', '.join(parts)}"


def cached_phrase(plan: PlacePlan) -> str:
    """Return "3 cached", and how many of these are the results of other code."""
    return f"{plan.cached:,} cached{f' ({plan.trusted:,} trusted)' if plan.trusted else ''}"


def render_channel(view: ChannelView) -> Rendered:
    """Return a channel's line and its first items."""
    if view.is_value:
        amount = "value"
    elif view.items is None:
        amount = "items known when the processes above have run"
    else:
        amount = render.count_of(view.items, "item")
    fields = _fields(view)
    head = " · ".join(filter(None, (view.name, amount, fields)))
    more = ["…"] if view.items is not None and view.items > len(view.first) > 0 else []
    lines = [head, *(f"  {each}" for each in [*view.first, *more])]
    rest = " · ".join(escape(part) for part in (amount, fields) if part)
    html = [f'<div><b style="{render.MONO}">{escape(view.name)}</b> · {rest}</div>']
    if view.first:
        items = escape("\n".join([*view.first, *more]))
        html.append(f'<pre style="{render.PRE};{_FAINT}">{items}</pre>')
    if view.note:
        lines.append(f"  {view.note}")
        html.append(f'<div style="{_FAINT}">{_multiline(view.note)}</div>')
    return Rendered("\n".join(lines), render.box("".join(html)))


def _fields(view: ChannelView) -> str:
    """Name the fields; unnamed ones are only counted, and a single one needs no word."""
    if view.fields is None or not any(view.fields):
        count = len(view.fields or ())
        return f"{count} fields without names" if count > 1 else ""
    return ", ".join(name or "(unnamed)" for name in view.fields)
