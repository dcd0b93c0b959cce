"""The building blocks of every display: text and HTML side by side, never one without the other.

Pure: a value in, a `Rendered` out; no kernel, no clock (the time of now is an argument). The HTML
is self-contained: inline styles that take JupyterLab's `--jp-*` variables and fall back to what
the page inherits, so it reads in dark mode, on GitHub (which drops styles) and in nbconvert.
Whatever comes from a user is escaped here and nowhere else: for HTML, and for terminals.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

from nbcache.errors import plain
from nbcache.plan.language.quantities import duration_text

COLOURS: Mapping[
    str, str
] = {  # at least 3:1 on white and on #111, and told apart without red-green
    "pending": "#767676",
    "running": "#0072B2",
    "done": "#009E73",
    "failed": "#D55E00",
    "cached": "#CC79A7",
}

BAR_WIDTH = 24  # characters
FAINT = "opacity:.75"
MONO = (
    "font-family:var(--jp-code-font-family,ui-monospace,SFMono-Regular,Menlo,monospace);"
    "font-size:var(--jp-code-font-size,13px)"
)
PRE = f"margin:0;padding:0;white-space:pre-wrap;background:none;border:0;{MONO};line-height:1.4"
# A page typesets HTML: "it costs $5 or $6" in a name or an error is no formula. As MathJax of
# JupyterLab and that of nbconvert call it.
_NO_FORMULAS = "mathjax_ignore tex2jax_ignore"
_BOX = (
    "font-family:var(--jp-ui-font-family,system-ui,sans-serif);"
    "font-size:var(--jp-ui-font-size1,13px);line-height:1.5;"
    "color:var(--jp-ui-font-color1,inherit);"
    "border-left:3px solid {colour};padding:2px 0 2px 10px;margin:2px 0;"
    "overflow-wrap:break-word"
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """One thing to show, as plain text and as HTML that says the same.

    mermaid: its graph in Mermaid's language, where it has one.
    """

    text: str
    html: str
    mermaid: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", plain(self.text))

    def bundle(self) -> dict[str, object]:
        """Return the MIME bundle that a notebook keeps."""
        graph = {"text/vnd.mermaid": self.mermaid} if self.mermaid else {}
        return {"text/plain": self.text, "text/html": self.html, **graph}


def box(inner: str, colour: str = "pending", kind: str = "nbcache") -> str:
    """Return HTML with the bar at its left that all of nbcache's output has; `kind`: its class."""
    style = _BOX.format(colour=COLOURS[colour])
    return f'<div class="{kind} {_NO_FORMULAS}" style="{style}">{inner}</div>'


def with_formulas(html: str) -> str:
    """Return what a task displayed, in which a page may typeset what stands between "$" and "$"."""
    return f'<div class="mathjax_process tex2jax_process">{html}</div>'


def stack(parts: Iterable[Rendered]) -> Rendered:
    """Return the parts one below the other."""
    kept = [part for part in parts if part.text or part.html]
    return Rendered(
        "\n".join(part.text for part in kept), "".join(f"<div>{part.html}</div>" for part in kept)
    )


def line(text: str, style: str = "") -> Rendered:
    """Return one paragraph of plain words."""
    return Rendered(text, styled(text, style) if style else escape(text))


def styled(text: str, style: str) -> str:
    """Return escaped text in a span with a style."""
    return f'<span style="{style}">{escape(text)}</span>'


def table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Iterable[str] = ()
) -> Rendered:
    """Return a table; the columns named in `numeric` stand flush right."""
    right = [header in set(numeric) for header in headers]
    widths = [
        max([len(headers[k]), *(len(_one_line(row[k])) for row in rows)])
        for k in range(len(headers))
    ]
    lines = [
        "  ".join(
            _one_line(cell).rjust(width) if flush else _one_line(cell).ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in [list(headers), *rows]
    ]

    def cells(tag: str, row: Sequence[str], text: str = "") -> str:
        return "".join(
            f'<{tag} style="text-align:{"right" if flush else f"left{text}"};'
            f'vertical-align:top;padding:1px 10px 1px 0">{escape(cell)}</{tag}>'
            for cell, flush in zip(row, right, strict=True)
        )

    wrapped = ";overflow-wrap:anywhere"  # a long name leaves room for the columns beside it
    body = "".join(f"<tr>{cells('td', row, wrapped)}</tr>" for row in rows)
    html = (
        '<table style="border-collapse:collapse;margin:2px 0">'
        f"<thead><tr>{cells('th', headers)}</tr></thead><tbody>{body}</tbody></table>"
    )
    return Rendered("\n".join(lines), html)


def filled_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    always: Sequence[str] = (),
    numeric: Iterable[str] = (),
) -> Rendered:
    """Return a table without the columns that are empty in all rows, but for those in `always`."""
    filled = [k for k, head in enumerate(headers) if head in always or any(row[k] for row in rows)]
    shown = [[row[k] for k in filled] for row in rows]
    return table([headers[k] for k in filled], shown, numeric=numeric)


def _one_line(text: str) -> str:
    return " ".join(text.split()) if "\n" in text else text


def bar(shares: Sequence[tuple[str, int]], total: int) -> str:
    """Return an HTML bar of `total` tasks; each share is (colour name, tasks)."""
    if total <= 0:
        return ""
    pieces = "".join(
        f'<span style="display:inline-block;height:6px;vertical-align:top;'
        f'width:{100 * count / total:.2f}%;background:{COLOURS[colour]}"></span>'
        for colour, count in shares
        if count
    )
    return (
        '<div style="height:6px;max-width:420px;margin:3px 0;line-height:0;font-size:0;'
        f'background:var(--jp-layout-color3,rgba(127,127,127,.25));overflow:hidden">{pieces}</div>'
    )


def text_bar(done: int, total: int) -> str:
    """Return a bar for a terminal."""
    filled = 0 if total <= 0 else min(BAR_WIDTH, done * BAR_WIDTH // total)
    return "█" * filled + "·" * (BAR_WIDTH - filled)


def count_of(number: int, word: str) -> str:
    """Return "1 task", "18 tasks"."""
    return f"{number:,} {word if number == 1 else word + 's'}"


duration = duration_text


def about(seconds: float) -> str:
    """Return an estimate without false precision: "6 s", "4 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: int) -> str:
    """Return bytes as people say them: "900 B", "25 kB", "1.3 GB"."""
    if count < 1000:
        return f"{count} B"
    power = 1
    while power < 5 and count / 1000**power >= 999.5:
        power += 1
    number, unit = count / 1000**power, ("", "kB", "MB", "GB", "TB", "PB")[power]
    return f"{number:.1f} {unit}" if number < 9.95 else f"{number:.0f} {unit}"


def when(at: datetime, now: datetime | None = None) -> str:
    """Return a moment as people say it, in the zone of `now`: "today 10:42", "12 Mar 09:00".

    Without `now`, for whoever reads it some day: "12 Mar 2026 09:00", in the zone of this machine.
    """
    local = at.astimezone(None if now is None else now.tzinfo)
    clock = local.strftime("%H:%M")
    if now is not None and local.date() == now.date():
        return f"today {clock}"
    if now is not None and local.date() == now.date() - timedelta(days=1):
        return f"yesterday {clock}"
    year = "" if now is not None and local.year == now.year else f" {local.year}"
    return f"{local.day} {local.strftime('%b')}{year} {clock}"


def settle_carriage_returns(text: str) -> str:
    """Return what a terminal would show of each line after its carriage returns."""
    return "\n".join(
        next((part for part in reversed(each.split("\r")) if part), "") for each in text.split("\n")
    )


_SGR = re.compile(r"\x1b\[([0-9;]*)m")
_ANSI = ("#3E424D", "#D55E00", "#009E73", "#A87A00", "#0072B2", "#A45C9C", "#258F8F", "#767676")


def ansi_html(text: str) -> str:
    """Return escaped HTML of terminal text: its colours and bold kept, other escapes dropped."""
    out: list[str] = []
    colour, bold, at = "", False, 0

    def add(piece: str) -> None:
        piece = escape(plain(piece))
        style = ";".join(filter(None, (colour and f"color:{colour}", "font-weight:bold" * bold)))
        out.append(f'<span style="{style}">{piece}</span>' if style and piece else piece)

    for match in _SGR.finditer(text):
        add(text[at : match.start()])
        at = match.end()
        for code in (int(code or 0) for code in match[1].split(";")):
            if code == 0:
                colour, bold = "", False
            elif code == 1:
                bold = True
            elif code == 39:
                colour = ""
            elif 30 <= code <= 37 or 90 <= code <= 97:
                colour = _ANSI[code % 10]
    add(text[at:])
    return "".join(out)
