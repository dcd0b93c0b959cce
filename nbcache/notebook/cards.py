"""What stands below a `%%process` cell and a `%channel` line, drawn from snapshots.

Pure functions, view in and `Rendered` out. A card says what the process is and what a run would
do; during and after a run it also says how far its tasks are and shows what they showed.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, TypeVar

from nbcache.model.view import (
    CaptureView,
    CardView,
    ChannelView,
    PlacePlan,
    PlaceProgress,
    ShownChunk,
)
from nbcache.notebook import render
from nbcache.notebook.render import Rendered

Shown = tuple[str, str, Sequence[ShownChunk]]
"""What one task showed: its label, its outcome, its chunks in order."""

Told = TypeVar("Told", bound=tuple[Any, ...])
"""A task by its label, its outcome and something more."""

_FAINT = render.FAINT
_TEXT_CHUNKS = 4_000  # characters of one task's text in a card's plain twin
_HTML_CHUNKS = 200_000
_CAPTURES = 12  # that are named
_LINES = 24  # from here on what a task printed scrolls


def render_card(
    view: CardView,
    progress: PlaceProgress | None = None,
    shown: Sequence[Shown] = (),
    tried: str = "",
    showing: int = 0,
) -> Rendered:
    """Return a card. With `progress`, a run's counts stand in place of the plan.

    tried: how a trial of one item went, in one line; then `shown` is what that showed. showing: of
    how many tasks `shown` is a choice.
    """
    title = " · ".join(filter(None, (view.signature, view.wiring)))
    captures = captures_phrase(view)
    state = plan_phrase(view.plan) if progress is None else place_phrase(progress)
    text = " · ".join(filter(None, (title, captures, state)))
    signature = f"<b>{escape(view.name)}</b>{escape(view.signature.removeprefix(view.name))}"
    pieces = [
        f'<span style="{render.MONO}">{signature}</span>',
        *(escape(part) for part in (view.wiring, captures, state) if part),
    ]
    html = [f"<div>{' · '.join(pieces)}</div>"]
    lines = [text]
    reason = view.plan.reason if progress is None and view.plan else ""
    hindrances = view.hindrances if progress is None else ()  # a run has had it: they are gone
    for detail in [*([reason] if reason else []), *notes_of(view), *hindrances]:
        lines.append(f"  {detail}")
        html.append(f'<div style="{_FAINT}">{_multiline(detail)}</div>')
    colour = "pending"
    if progress is not None:
        html.append(place_bar(progress))
        colour = place_colour(progress)
    parts = [f'<div class="nbcache-head">{"".join(html)}</div>']
    output = render.stack([render_shown(shown, showing), render.line(tried, _FAINT)])
    if output.text:
        lines.append(output.text)
        parts.append(f'<div class="nbcache-shown">{output.html}</div>')
    return Rendered("\n".join(lines), render.box("".join(parts), colour))


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


def plan_phrase(plan: PlacePlan | None) -> str:
    """Return "18 tasks: 0 cached, 18 to run", or why that is not known."""
    if plan is None:
        return "not counted"
    if plan.tasks is None:
        known = [f"{plan.cached:,} cached"] * bool(plan.cached)
        known += [f"{plan.to_run:,} to run"] * bool(plan.to_run)
        known += [f"{plan.equal:,} equal to these"] * bool(plan.equal)
        return ", ".join(["tasks known when the processes above have run", *known])
    if plan.tasks == 0:
        return "no tasks"
    whose = "its" if plan.unknown == 1 else "their"
    if plan.unknown == plan.tasks:
        return f"{render.count_of(plan.tasks, 'task')}, known when {whose} inputs are made"
    parts = [f"{plan.cached:,} cached"]
    if plan.to_run or not plan.unknown:
        parts.append(f"{plan.to_run:,} to run")
    if plan.equal:
        parts.append(f"{plan.equal:,} equal to {'it' if plan.to_run == 1 else 'one of them'}")
    if plan.unknown:
        parts.append(f"{plan.unknown:,} known when {whose} inputs are made")
    if plan.failing:
        parts.append(f"{plan.failing:,} would fail")
    return f"{render.count_of(plan.tasks, 'task')}: {', '.join(parts)}"


_ENDED = {
    "completed": "ran",
    "cached": "cached",
    "stored": "stored",
    "failed": "failed",
    "ignored": "ignored",
    "aborted": "aborted",
    "skipped": "skipped",
}
_AT_WORK = ("running", "committing")


def ended(counts: Mapping[str, int]) -> int:
    """Return how many tasks are done, whatever their outcome."""
    return sum(counts.get(name, 0) for name in _ENDED)


def expected_total(progress: PlaceProgress) -> int:
    """Return how many tasks there are, as far as it is known."""
    return max(progress.expected or 0, sum(progress.counts.values()))


def outcome_phrase(counts: Mapping[str, int], equal: int = 0) -> str:
    """Return "17 ran, 0 cached, 1 failed": ran and cached always, the rest where it happened.

    equal: of those cached, how many got the result of an equal task of the same run: no hits.
    """
    parts = [f"{counts.get('completed', 0):,} ran", f"{counts.get('cached', 0) - equal:,} cached"]
    parts += [f"{equal:,} equal"] * bool(equal)
    parts += [
        f"{counts[name]:,} {word}"
        for name, word in _ENDED.items()
        if name not in ("completed", "cached") and counts.get(name)
    ]
    return ", ".join(parts)


def place_phrase(progress: PlaceProgress) -> str:
    """Return how far one process is: "11/18 · 2 running", then "18 ran, 0 cached"."""
    total, done = expected_total(progress), ended(progress.counts)
    at_work = sum(progress.counts.get(name, 0) for name in _AT_WORK)
    if done == total and progress.expected is not None and not at_work:
        return outcome_phrase(progress.counts, progress.equal) if total else "no tasks"
    is_known = progress.expected is not None or total
    amount = f"{done:,}/{total:,}" if is_known else f"{done:,}/?"
    parts = [amount, *([f"{at_work:,} running"] if at_work else [])]
    if failed := progress.counts.get("failed"):
        parts.append(f"{failed:,} failed")
    return " · ".join(parts)


def place_shares(progress: PlaceProgress) -> list[tuple[str, int]]:
    """Return (colour name, tasks) of a bar, from left to right. Tasks that are equal to one that
    ran count as that: nothing of it comes from a cache."""
    counts, equal = progress.counts, progress.equal
    return [
        ("cached", counts.get("cached", 0) - equal + counts.get("stored", 0)),
        ("done", counts.get("completed", 0) + equal),
        ("failed", counts.get("failed", 0) + counts.get("ignored", 0)),
        ("running", sum(counts.get(name, 0) for name in _AT_WORK)),
        ("pending", counts.get("skipped", 0) + counts.get("aborted", 0)),
    ]


def place_bar(progress: PlaceProgress) -> str:
    """Return the HTML bar of one process."""
    return render.bar(place_shares(progress), expected_total(progress))


def place_colour(progress: PlaceProgress) -> str:
    """Return the colour name that stands for the whole process."""
    counts = progress.counts
    if counts.get("failed"):
        return "failed"
    if any(counts.get(name) for name in _AT_WORK):
        return "running"
    if ended(counts) < expected_total(progress) or counts.get("aborted"):
        return "pending"
    if counts.get("completed") or progress.equal:
        return "done"
    return "cached" if counts.get("cached") or counts.get("stored") else "pending"


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


def choose_shown(tasks: Sequence[Told]) -> list[Told]:
    """Return the tasks whose output a card shows: the only one; or first, failed ones, last.

    Equal tasks are called alike and showed the same: one of them is enough.
    """
    if len(tasks) <= 1:
        return list(tasks)
    first, *between, last = tasks
    failed = {task[0]: task for task in reversed(between) if task[1] == "failed"}
    for end in (first, last):
        failed.pop(end[0], None)
    return [first, *list(failed.values())[:-4:-1], last]


def render_shown(tasks: Sequence[Shown], showing: int = 0) -> Rendered:
    """Return what tasks showed: of one task all, of many the first, the failed and the last.

    showing: how many there are, where `tasks` is a choice of them.
    """
    speaking = [task for task in tasks if task[2]]
    if max(len(tasks), showing) == 1 and speaking:
        return _render_chunks(speaking[0][2], from_end=speaking[0][1] == "failed")
    chosen = choose_shown(speaking)
    first_failed = next((task for task in chosen if task[1] == "failed"), None)
    parts: list[Rendered] = []
    for place, task in enumerate(chosen):
        label, outcome, chunks = task
        inner = _render_chunks(chunks, from_end=outcome == "failed")
        opened = " open" if place == 0 or task is first_failed else ""
        word = f" · {outcome}" if outcome not in ("completed", "cached", "stored") else ""
        parts.append(
            Rendered(
                f"{label}{word}\n{inner.text}",
                f'<details{opened}><summary style="overflow-wrap:anywhere">{escape(label + word)}'
                f"</summary>{inner.html}</details>",
            )
        )
    if hidden := max(len(speaking), showing) - len(chosen):
        note = f"{render.count_of(hidden, 'more task')} showed something"
        html = f'<div class="nbcache-more" style="{_FAINT}">{note}</div>'  # a live card says it
        parts.append(Rendered(note, html))
    return render.stack(parts)


def render_picked(title: str, outcome: str, chunks: Sequence[ShownChunk]) -> Rendered:
    """Return what one task of a run showed, which folds."""
    if not chunks:
        said = f"{title}: it showed nothing"
        return Rendered(said, render.box(escape(said)))
    inner = _render_chunks(chunks, from_end=outcome == "failed")
    summary = f'<summary style="overflow-wrap:anywhere">{escape(title)}</summary>'
    html = f"<details open>{summary}{inner.html}</details>"
    return Rendered(f"{title}\n{inner.text}", render.box(html))


def _render_chunks(chunks: Sequence[ShownChunk], *, from_end: bool = False) -> Rendered:
    """from_end: of long text its end is in sight, as of what failed it tells most."""
    settled = _joined(chunks)
    text = [
        _render_display(chunk.bundle).text
        if chunk.stream == "display"
        else render.strip_ansi(chunk.text).rstrip("\n")
        for chunk in _keep_ends(settled, _TEXT_CHUNKS, _LINES)
    ]
    html: list[str] = []
    printed: list[ShownChunk] = []
    for chunk in _keep_ends(settled, _HTML_CHUNKS):
        if chunk.stream == "display":
            html += [
                *_scrolled(printed, from_end),
                f"<div>{_render_display(chunk.bundle).html}</div>",
            ]
            printed = []
        else:
            printed.append(chunk)
    html += _scrolled(printed, from_end)
    return Rendered("\n".join(each for each in text if each), "".join(html))


def _keep_ends(
    chunks: Sequence[ShownChunk], room: int, lines: int | None = None
) -> list[ShownChunk]:
    """Leave out the middle of a text of more than `room` characters or `lines` lines.

    Its end tells most. What was displayed between stays.
    """
    text = "".join(chunk.text for chunk in chunks)
    start, stop = _middle(text, room, lines)
    if start >= stop:
        return list(chunks)
    rows = text.count("\n", start, stop)
    left_out = render.count_of(rows, "line") if rows else f"{stop - start:,} characters"
    if "characters left out ...]" in text[start:stop]:  # more than was kept
        left_out = f"more than {left_out}"
    kept: list[ShownChunk] = []
    at, is_cut = 0, False
    for chunk in chunks:
        if chunk.stream == "display":
            kept.append(chunk)
            continue
        before = chunk.text[: max(0, start - at)]
        after = chunk.text[max(0, stop - at) :]
        at += len(chunk.text)
        note = f"… {left_out} left out …\n" if at > start and not is_cut else ""
        is_cut = is_cut or bool(note)
        gap = "\n" if note and before and not before.endswith("\n") else ""
        if before or note or after:
            kept.append(ShownChunk(chunk.stream, f"{before}{gap}{note}{after}"))
    return kept


def _middle(text: str, room: int, lines: int | None) -> tuple[int, int]:
    """Return where what is left out begins and ends; nothing is where it begins at its end."""
    start, stop = 0, len(text)
    if lines is not None and text.count("\n") > lines:
        stop -= text.endswith("\n")
        for _ in range(lines // 2):
            start = text.find("\n", start) + 1
            stop = text.rfind("\n", 0, stop)
        start, stop = min(start, room // 2), max(stop + 1, len(text) - room // 2)
    elif len(text) > room:
        start, stop = room // 2, len(text) - room // 2
    else:
        return 0, 0
    return start, stop


def _scrolled(printed: Sequence[ShownChunk], from_end: bool) -> list[str]:
    """Let long text scroll in its place, so that a tool's log does not push the notebook away."""
    html = []
    for chunk in printed:
        colour = "background:rgba(213,94,0,.10);" if chunk.stream == "stderr" else ""
        text = render.ansi_html(chunk.text.rstrip("\n"))
        html.append(f'<div><pre style="{render.PRE};{colour}">{text}</pre></div>')
    if sum(chunk.text.rstrip("\n").count("\n") + 1 for chunk in printed) <= _LINES:
        return html
    style = "max-height:24em;overflow:auto;border-bottom:1px solid rgba(128,128,128,.4)"
    if from_end:  # a page scrolls what is laid out so from there
        style += ";display:flex;flex-direction:column-reverse"
    return [f'<div style="{style}" tabindex="0"><div>{"".join(html)}</div></div>']


def _joined(chunks: Sequence[ShownChunk]) -> list[ShownChunk]:
    """Neighbours of one stream as one chunk, so that a line printed in pieces stays a line; of an
    overwritten line what a terminal would show."""
    out: list[ShownChunk] = []
    for chunk in chunks:
        if out and chunk.stream != "display" and out[-1].stream == chunk.stream:
            out[-1] = ShownChunk(chunk.stream, out[-1].text + chunk.text)
        else:
            out.append(chunk)
    return [
        each
        if each.stream == "display"
        else ShownChunk(each.stream, render.settle_carriage_returns(each.text))
        for each in out
    ]


def _render_display(bundle: Mapping[str, object]) -> Rendered:
    """The richest form that a static page can hold."""
    plain = str(bundle.get("text/plain", ""))
    for kind in ("image/png", "image/jpeg", "image/gif", "image/webp"):
        if kind in bundle:
            data = escape("".join(str(bundle[kind]).split()))
            return Rendered(plain, _image(f"data:{kind};base64,{data}", plain))
    if "image/svg+xml" in bundle:
        return Rendered(plain, _svg_image(str(bundle["image/svg+xml"]), plain))
    if "text/html" in bundle:
        return Rendered(plain, f"<div>{bundle['text/html']}</div>")
    text = plain or str(bundle.get("text/markdown", "") or bundle.get("text/latex", ""))
    return Rendered(text, f'<pre style="{render.PRE}">{render.ansi_html(text)}</pre>')


def _svg_image(svg: str, alt: str) -> str:
    """An `<img>`: inline SVG is taken out of notebooks that are not trusted, a data URI is not."""
    data = b64encode(svg.encode()).decode("ascii")
    return _image(f"data:image/svg+xml;base64,{data}", alt)


def _image(source: str, alt: str) -> str:
    return f'<img alt="{escape(alt)}" style="max-width:100%" src="{source}">'
