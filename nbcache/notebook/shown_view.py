"""What tasks showed, in HTML that needs no kernel and as text.

Of long text the middle is left out, and what is longer than a screen scrolls in its place. A
notebook keeps all of this, so tasks that are shown together share the room.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, TypeVar

from nbcache.engine.work.shown import join_chunks
from nbcache.errors import command
from nbcache.model.view import ShownChunk
from nbcache.notebook import render
from nbcache.notebook.render import Rendered

Shown = tuple[str, str, Sequence[ShownChunk]]
"""What one task showed: its label, its outcome, its chunks in order."""

Told = TypeVar("Told", bound=tuple[Any, ...])
"""A task by its label, its outcome and something more."""

_TEXT_CHUNKS = 4_000  # characters of one task's text in a card's plain twin
_HTML_CHUNKS = 100_000  # of all text in one card
_LINES = 24  # from here on what a task printed scrolls
_WIDE = 120  # characters of a line that wraps


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


def render_shown(tasks: Sequence[Shown], showing: int = 0, *, field: str = "{log}") -> Rendered:
    """Return what tasks showed: of one task all, of many the first, the failed and the last.

    showing: how many there are, where `tasks` is a choice of them. field: as of `render_chunks`.
    """
    speaking = [task for task in tasks if task[2]]
    if max(len(tasks), showing) == 1 and speaking:
        return render_chunks(speaking[0][2], from_end=speaking[0][1] == "failed", field=field)
    chosen = choose_shown(speaking)
    first_failed = next((task for task in chosen if task[1] == "failed"), None)
    parts: list[Rendered] = []
    for place, task in enumerate(chosen):
        label, outcome, chunks = task
        inner = render_chunks(chunks, len(chosen), from_end=outcome == "failed", field=field)
        opened = " open" if place == 0 or task is first_failed else ""
        word = f" · {outcome}" if outcome not in ("completed", "cached", "stored") else ""
        parts.append(
            Rendered(
                f"{label}{word}\n{inner.text}",
                f"<details{opened}><summary>{escape(label + word)}</summary>{inner.html}</details>",
            )
        )
    if hidden := max(len(speaking), showing) - len(chosen):
        note = f"{render.count_of(hidden, 'more task')} showed something"
        html = (
            f'<div class="nbcache-more" style="{render.FAINT}">{note}</div>'  # a live card says it
        )
        parts.append(Rendered(note, html))
    return render.stack(parts)


def render_picked(title: str, outcome: str, chunks: Sequence[ShownChunk]) -> Rendered:
    """Return what one task of a run showed, which folds."""
    if not chunks:
        said = f"{title}: it showed nothing"
        return Rendered(said, render.box(escape(said)))
    inner = render_chunks(chunks, from_end=outcome == "failed")
    summary = f"<summary>{escape(title)}</summary>"
    html = f"<details open>{summary}{inner.html}</details>"
    return Rendered(f"{title}\n{inner.text}", render.box(html))


def render_chunks(
    chunks: Sequence[ShownChunk], tasks: int = 1, *, from_end: bool = False, field: str = "{log}"
) -> Rendered:
    """Return what one task showed.

    tasks: how many are shown together. from_end: of long text its end is in sight, as of what
    failed it tells most. field: of `nbcache log RUN`, where all of it is; empty: nowhere.
    """
    settled = _joined(chunks)
    text = [
        _render_display(chunk.bundle).text if chunk.stream == "display" else chunk.text.rstrip("\n")
        for chunk in _keep_ends(settled, field, _TEXT_CHUNKS, _LINES)
    ]
    html: list[str] = []
    printed: list[ShownChunk] = []
    for chunk in _keep_ends(settled, field, _HTML_CHUNKS // tasks):
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
    chunks: Sequence[ShownChunk], field: str, room: int, lines: int | None = None
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
        where = ": " + command(f"log RUN -t '{field}'") if field else ""
        note = f"… {left_out} left out{where} …\n" if at > start and not is_cut else ""
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
    lines = (each for chunk in printed for each in chunk.text.rstrip("\n").split("\n"))
    if sum(1 + len(each) // _WIDE for each in lines) <= _LINES:
        return html
    style = "max-height:24em;overflow:auto;border-bottom:1px solid rgba(128,128,128,.4)"
    if from_end:  # a page scrolls what is laid out so from there
        style += ";display:flex;flex-direction:column-reverse"
    return [f'<div style="{style}" tabindex="0"><div>{"".join(html)}</div></div>']


def _joined(chunks: Sequence[ShownChunk]) -> list[ShownChunk]:
    """Neighbours of one stream as one chunk, so that a line printed in pieces stays a line; of an
    overwritten line what a terminal would show."""
    return [
        each
        if each.stream == "display"
        else ShownChunk(each.stream, render.settle_carriage_returns(each.text))
        for each in join_chunks(chunks)
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
        return Rendered(plain, render.with_formulas(str(bundle["text/html"])))
    if latex := str(bundle.get("text/latex", "")):
        return Rendered(plain or latex, render.with_formulas(escape(latex)))
    text = plain or str(bundle.get("text/markdown", ""))
    return Rendered(text, f'<pre style="{render.PRE}">{render.ansi_html(text)}</pre>')


def _svg_image(svg: str, alt: str) -> str:
    """An `<img>`: inline SVG is taken out of notebooks that are not trusted, a data URI is not."""
    data = b64encode(svg.encode()).decode("ascii")
    return _image(f"data:image/svg+xml;base64,{data}", alt)


def _image(source: str, alt: str) -> str:
    return f'<img alt="{escape(alt)}" style="max-width:100%" src="{source}">'
